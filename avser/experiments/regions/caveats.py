"""What a reader of regions must know first: whose they are, how fine, and whether they are to be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avser.errors import AvserError
from avser.experiments.faithfulness.results import FaithfulnessStudy
from avser.inference import TrainedModel, collate_clips
from avser.models.timing import SequenceOf, measure_timing
from avser.roi.report.plots import MODALITY_WORDS
from avser.roi.salience.leakage import measure_leakage
from avser.roi.salience.sources import AUTO, SOURCES
from avser.structures import FUSED, MODALITIES, Clip


def describe_source(models: Mapping[str, TrainedModel], salience: str = AUTO) -> list[str]:
    """Which models the curves come from, and how finely those can tell moments apart."""
    names = ", ".join(f"{name}: {model.folder}" for name, model in models.items())
    way = SOURCES[salience]
    sentences = [f"Curves ({way.words}: {way.question}) and regions of interest from {names}."]
    for modality in MODALITIES:
        source = models.get(modality) or models.get(FUSED)
        if source is not None and modality in source.modalities:
            sentences.append(_describe_timing(source, modality))
    return sentences


def _describe_timing(source: TrainedModel, modality: str) -> str:
    media = source.config.media
    timing = measure_timing(
        SequenceOf(source.network.to("cpu"), modality),
        modality,
        sample_rate_hz=media.sample_rate_hz,
        fps=media.fps or 30.0,
        size_px=media.crop_px,
    )
    source.network.to(source.device)
    return (
        f"The {MODALITY_WORDS[modality]} has a step every {1000 * timing.step_s:.0f} ms; one step is changed by a "
        f"stretch of {timing.receptive_field_s:.2f} s, whose middle lies {timing.delay_s:+.3f} s from it (measured)."
    )


def caveats(
    models: Mapping[str, TrainedModel],
    salience: str = AUTO,
    *,
    tests: Sequence[FaithfulnessStudy] = (),
    clips: Sequence[Clip] = (),
) -> list[str]:
    """What a reader must know before believing the curves; first what the salience is worth.

    Args:
        tests: of the salience, modality by modality.
        clips: some, on which it is measured how much the models' steps know of other moments.
    """
    found = [f"{MODALITY_WORDS[test.modality].capitalize()}: {test.sentences()[0]}" for test in tests]
    if not tests:
        found.append(
            f"This {SOURCES[salience].words} shows what the model made use of at best; it has not been tested for "
            "faithfulness here."
        )
    main = models.get(FUSED)
    if main is not None and len(main.modalities) > 1 and not all(m in models for m in MODALITIES):
        found.append(
            "Both curves come from one fused model, in which voice and face met in training: that they agree is no "
            "evidence that the two carry emotion at the same moments. For that compare models of one modality each "
            "(--curves separate, on the folder of an `avser ablate`)."
        )
    for name, model in models.items():
        found += [sentence for m in model.modalities if (sentence := _describe_leakage(model, name, m, clips))]
    return found


def describe_tests(tests: Sequence[FaithfulnessStudy]) -> list[str]:
    """What the tests of a salience found beside the verdict that stands among the caveats."""
    words = {test.modality: MODALITY_WORDS[test.modality].capitalize() for test in tests}
    return [f"{words[test.modality]}: {sentence}" for test in tests for sentence in test.sentences()[1:]]


def _describe_leakage(model: TrainedModel, name: str, modality: str, clips: Sequence[Clip]) -> str:
    """A warning where a step's state knows more of the rest of the clip than of its own moment; else empty."""
    usable = [clip for clip in clips if model.can_read(clip, modality)]
    if not usable:
        return ""
    try:
        leakage = measure_leakage(model.network, collate_clips(model, usable), modality)
    except AvserError as error:
        return f"How much the steps of {name} know of other moments could not be measured: {error}"
    if not leakage.is_state_attention:
        return ""
    words = MODALITY_WORDS[modality]
    return (
        f"Only {100 * leakage.share_near:.0f} % of what changes a step of the {words} of {name} lies within "
        f"{leakage.reach_s:.2f} s of it (measured): a peak need not mean evidence at that moment. Take "
        "regions from occlusion (--salience occlusion)."
    )
