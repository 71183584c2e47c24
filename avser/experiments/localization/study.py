"""Which model and which salience finds the emotional moments that a corpus is known to have, beside chance.

The models are asked about the test clips of their own split, or about clips of any other manifest whose speakers they
have never heard or seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from avser.errors import AvserError, ConfigError
from avser.experiments.faithfulness.clips import choose_rows
from avser.experiments.held_out import Truth
from avser.experiments.localization.clips import PARTS, AskedClips, KnownClips, clips_of_split, clips_of_strangers
from avser.experiments.regions.study import BEST_CORRELATION, BOXES, STRONGEST_REGIONS
from avser.experiments.unseen_speakers import person
from avser.inference import TrainedModel, load_models
from avser.roi.alignment.box_lag import box_lag_s
from avser.roi.alignment.compare import measure_alignment, region_lag_s
from avser.roi.detection import DetectionScores, region_peaks, score_detection
from avser.roi.intervals import find_regions, smooth_curve
from avser.roi.localization import LagScores, LocalizationScores, score_lags, score_localization
from avser.roi.salience.sources import SOURCES, SalienceFunction, find_salience
from avser.roi.trust.controls import CONTROL_CURVES, CONTROLS, control_curves
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Batch, Curve, Region

MIN_IOUS = (0.3, 0.5)
TARGETS = ("predicted", "true")
RANKINGS = ("mass", "peak")
COSTLY = ("integrated_gradients", "occlusion", "rise")  # many passes through a model for each clip
CONTROL_WORDS = ", ".join(dict.fromkeys(CONTROLS[c].words[m] for c in CONTROL_CURVES for m in MODALITIES))


@dataclass
class SourceScores:
    """How well one salience of one modality of one run finds the true regions.

    Attributes:
        run: its name in tables.
        source: a key of `avser.roi.salience.sources.SOURCES`, or the words of a control of `CONTROL_CURVES`.
        num_asked: clips with a curve, those without a true region included.
        named_right: share of the clips with a true region whose target was the true emotion.
        localization: over the clips with a true region.
        detection: over all clips, for each of `MIN_IOUS`.
    """

    run: str
    modality: str
    source: str
    num_asked: int
    named_right: float
    localization: LocalizationScores
    detection: list[DetectionScores]


@dataclass
class SourceLags:
    """How well the lag between voice and face comes out of one salience of one run.

    Attributes:
        way: how the lag is told, a key of `RegionStudy.lags`.
    """

    run: str
    source: str
    way: str
    lags: LagScores


@dataclass
class LocalizationStudy:
    """Runs and saliences against one corpus with known regions.

    Attributes:
        part: of the runs' own split; "" where all clips of the manifest are asked about.
        num_costly: clips that the saliences of `COSTLY` are asked about, None for all.
        folders: run -> its folder.
        failures: what could not be asked of a run, as sentences.
    """

    manifest: str
    cache: str
    target: str
    ranking: str
    seed: int
    part: str = ""
    num_costly: int | None = None
    folders: dict[str, str] = field(default_factory=dict)
    scores: list[SourceScores] = field(default_factory=list)
    lags: list[SourceLags] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Found:
    """Curves, regions and target emotions of one modality, by clip."""

    curves: dict[str, Curve] = field(default_factory=dict)
    regions: dict[str, list[Region]] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)


def study_localization(
    runs: Sequence[Path],
    manifest: Path | None = None,
    cache: Path | None = None,
    *,
    sources: Sequence[str] = ("attention",),
    num_costly: int | None = None,
    target: str = "predicted",
    part: str = "",
    ranking: str = "mass",
    smooth_s: float | None = None,
    controls: bool = False,
    batch_size: int = 16,
    seed: int = 0,
    device: str | None = None,
) -> LocalizationStudy:
    """Ask every run by every salience where the emotion of every clip was, and hold it against the truth.

    Curves are smoothed and regions are read off them as the run's configuration says (`roi`). Of a signed salience the
    part above zero counts. Clips without a true region (controls) count in the detection scores, as chances for a
    false alarm.

    Args:
        runs: run folders, or folders of runs "audio", "video" and "fused": then each modality is asked of its own.
        manifest: of a corpus with regions.csv; None: the runs' own, of whose split `part` is taken.
        cache: of its clips, made with the media settings of the runs; given with a manifest, and only then.
        sources: keys of `SOURCES`.
        num_costly: ask the saliences of `COSTLY` about no more clips, spread over speakers and emotions; None: all.
        target: "predicted" asks about the emotion that the model names, "true" about the clip's own.
        part: "test", or "val" to choose on what is not reported, of the runs' own split: of its clips, and with a
            manifest of the people there. Empty: the test clips, or everybody in the manifest.
        ranking: by what regions are ranked for the detection scores: their "mass", or the "peak" of the curve in them.
        smooth_s: smooth curves by a Gaussian of this standard deviation, instead of the runs' own `roi.smooth_s`.
        controls: score the curves of `CONTROL_CURVES` too, on the steps of each model and by the same code.
        seed: of everything random.

    Raises:
        ConfigError: an unknown source, target, part or ranking; a manifest without a cache, or the other way round.
        ManifestError: there are no true regions.
        CheckpointError: a run has seen one of the speakers in training or validation, or does not tell; runs of
            different splits.
        CacheError: the cache does not fit.
    """
    for name, got, allowed in (
        ("target", target, TARGETS),
        ("part", part, ("", *PARTS)),
        ("ranking", ranking, RANKINGS),
    ):
        if got not in allowed:
            raise ConfigError(f"{name}={got!r}: allowed are {' and '.join(filter(None, allowed))}")
    if smooth_s is not None and smooth_s < 0:
        raise ConfigError(f"smooth_s={smooth_s:g}: seconds, 0 for none")
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ConfigError(f"salience {unknown[0]!r}: take some of {', '.join(SOURCES)}")
    if (manifest is None) != (cache is None):
        raise ConfigError("manifest and cache belong together: give both, or neither for the runs' own clips")
    names = run_names(runs)
    models = {name: load_models(run, device) for name, run in zip(names, runs, strict=True)}
    asked = [model for by_part in models.values() for model in by_part.values()]  # checked before anything is computed
    if manifest is None or cache is None:
        known = clips_of_split(asked, part or "test")
    else:
        known = clips_of_strangers(asked, manifest, cache, part)
    study = LocalizationStudy(
        str(known.manifest), str(known.cache or ""), target, ranking, seed, known.part, num_costly
    )
    study.folders = {name: str(run) for name, run in zip(names, runs, strict=True)}
    if smooth_s is not None:
        for model in asked:
            model.config.roi.smooth_s = smooth_s
        study.notes.append(f"curves smoothed by {smooth_s:g} s, whatever the runs' own roi.smooth_s")
    if known.part == "val":
        study.notes.append("these speakers chose the epoch of every run: figures to choose by, not results")
    if controls:
        study.notes.append(f"{CONTROL_WORDS} are read off the clips alone: what a salience has to beat")
    for name, by_part in models.items():
        _study_run(study, name, by_part, known, list(dict.fromkeys(sources)), controls, batch_size)
    rules = {json.dumps(asdict(_main(by_part).config.roi)) for by_part in models.values()}
    if len(rules) > 1:
        study.notes.append(
            "the runs read regions off their curves by different rules (`roi`); only AUROC compares them"
        )
    if not study.scores:
        raise AvserError("nothing could be asked: " + "; ".join(study.failures or ["no run reads what the clips have"]))
    return study


def run_names(runs: Sequence[Path]) -> list[str]:
    """Short names for run folders: as many of their last folders as tell them apart.

    Raises:
        ConfigError: none is given, or one twice.
    """
    paths = [Path(run).resolve() for run in runs]
    if not paths or len(set(paths)) < len(paths):
        raise ConfigError("give the folders of one or more runs, each once")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


# --- asking ------------------------------------------------------------------------------------------------------


def _study_run(
    study: LocalizationStudy,
    name: str,
    models: Mapping[str, TrainedModel],
    known: KnownClips,
    sources: Sequence[str],
    controls: bool,
    batch_size: int,
) -> None:
    main, found = _main(models), dict[tuple[str, str], _Found]()
    some = known
    if study.num_costly is not None:
        some = replace(known, rows=choose_rows(known.rows, study.num_costly, seed=study.seed))
    for modality in MODALITIES:
        model = models.get(modality, main)
        if modality not in model.modalities:
            continue
        batches = AskedClips(model, modality, known, study.target, batch_size)
        fewer = AskedClips(model, modality, some, study.target, batch_size)
        for source in sources:
            try:
                found[source, modality] = _ask(
                    fewer if source in COSTLY else batches, partial(find_salience, source=source)
                )
            except AvserError as error:
                study.failures.append(f"{name}, {modality}, {source}: {error}")
        for control in CONTROL_CURVES if controls else ():
            found[CONTROLS[control].words[modality], modality] = _ask(batches, partial(_control, control=control))
        study.notes += [f"{name}, {modality}: {note}" for note in batches.notes]
    speakers = {row.clip_id: person(row) for row in known.rows}
    emotions = {row.clip_id: main.config.data.merge.get(row.emotion, row.emotion) for row in known.rows}
    for (source, modality), asked in found.items():
        try:
            scores = _score(study, asked, modality, known.truth, speakers, emotions, main.config.roi.smooth_s)
        except AvserError as error:
            study.failures.append(f"{name}, {modality}, {source}: {error}")
        else:
            study.scores.append(SourceScores(name, modality, source, len(asked.curves), *scores))
    for source in sources:
        if all((source, modality) in found for modality in MODALITIES):
            parts = {modality: found[source, modality] for modality in MODALITIES}
            lags = _score_lags(parts, known.truth, speakers, main.config.roi.smooth_s, study.seed)
            study.lags += [SourceLags(name, source, way, scores) for way, scores in lags.items()]


def _main(models: Mapping[str, TrainedModel]) -> TrainedModel:
    return models.get(FUSED) or next(iter(models.values()))


def _ask(batches: AskedClips, salience: SalienceFunction) -> _Found:
    """Curves (the part above zero), the regions in them, and the emotions asked about."""
    found, model = _Found(), batches.model
    for batch, targets in batches:
        curves = salience(model.network, batch, batches.modality, targets)
        for clip_id, curve, emotion in zip(batch.clip_ids, curves, targets, strict=True):
            if not len(curve):
                continue
            positive = Curve(curve.times, np.clip(np.asarray(curve.values, dtype=float), 0, None))
            found.curves[clip_id] = positive
            found.regions[clip_id] = find_regions(positive, batches.modality, **asdict(model.config.roi))
            found.targets[clip_id] = model.emotions[emotion]
    return found


def _control(network: nn.Module, batch: Batch, modality: str, emotions: Sequence[int], *, control: str) -> list[Curve]:
    """A control in the place of a salience; the model is asked for nothing but its steps."""
    steps = [curve.times for curve in find_salience(network, batch, modality, emotions, "attention")]
    return control_curves(batch, modality, control, steps)


# --- scoring -----------------------------------------------------------------------------------------------------


def _score(
    study: LocalizationStudy,
    asked: _Found,
    modality: str,
    truth: Truth,
    speakers: Mapping[str, str],
    emotions: Mapping[str, str],
    smooth_s: float,
) -> tuple[float, LocalizationScores, list[DetectionScores]]:
    """Share of rightly named clips, and the scores; curves are scored as regions are read off them: smoothed."""
    true = {c: truth.get(c, {}).get(modality, []) for c in asked.curves}
    smooth = {c: smooth_curve(x, smooth_s) for c, x in asked.curves.items()}
    known = [c for c in smooth if true[c]]
    localization = score_localization({c: smooth[c] for c in known}, asked.regions, true, speakers, seed=study.seed)
    peaks = None
    if study.ranking == "peak":
        peaks = {c: region_peaks(smooth[c], regions) for c, regions in asked.regions.items()}
    detection = [
        score_detection(smooth, asked.regions, true, speakers, min_iou=min_iou, scores=peaks, seed=study.seed)
        for min_iou in MIN_IOUS
    ]
    return float(np.mean([asked.targets[c] == emotions[c] for c in known])), localization, detection


def _score_lags(
    parts: Mapping[str, _Found], truth: Truth, speakers: Mapping[str, str], smooth_s: float, seed: int
) -> dict[str, LagScores]:
    """Way to tell the lag -> its scores, over the clips with a true region and a curve in both modalities."""
    voice, face = parts[AUDIO], parts[VIDEO]
    planted = {
        c: region_lag_s(truth[c][AUDIO], truth[c][VIDEO])
        for c in voice.curves
        if c in face.curves and all(truth.get(c, {}).get(m) for m in MODALITIES)
    }
    recovered = {
        STRONGEST_REGIONS: {c: region_lag_s(voice.regions[c], face.regions[c]) for c in planted},
        BEST_CORRELATION: {c: _best_lag(voice.curves[c], face.curves[c]) for c in planted},
        BOXES: {c: box_lag_s(voice.curves[c], face.curves[c], smooth_s=smooth_s) for c in planted},
    }
    return {
        way: score_lags(planted, lags, speakers, seed=seed)
        for way, lags in recovered.items()
        if np.isfinite(list(lags.values())).sum() >= 2
    }


def _best_lag(voice: Curve, face: Curve) -> float:
    try:
        return measure_alignment(voice, face).lag_s
    except AvserError:
        return float("nan")
