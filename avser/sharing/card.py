"""The model card: what a run measured, on whom, what its regions show, and what the model is not to be used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from avser.data.splits import Verdict
from avser.errors import CheckpointError
from avser.evaluation.statistics import Interval
from avser.experiments.cross_validation.measures import CALIBRATION, COUNTED
from avser.experiments.cross_validation.tables import slice_tables, value_cell
from avser.roi.report.plots import MODALITY_WORDS
from avser.roi.report.table_markdown import tables_markdown
from avser.roi.report.tables import ReportTable
from avser.sharing.facts import STUDY_FILE, RunFacts
from avser.sharing.licences import LICENCES, licence_of
from avser.sharing.uses import INTENDED, LIMITS, REFUSED, SOURCES
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO
from avser.training.shared_model import shared_config

UNDECIDED = "no-licence-given"
TASKS = {AUDIO: "audio-classification", VIDEO: "video-classification", FUSED: "video-classification"}


def build_card(facts: RunFacts, name: str, *, licence: str = "") -> ModelCard:
    """The card of a run, as the hub reads it: YAML on top, Markdown below.

    Args:
        name: ORG/NAME, or what else the model is to be called.
        licence: identifier of the hub, e.g. "cc-by-nc-sa-4.0", that whoever shares the weights chooses; empty: none is
            given, and the card says so.
    """
    parts = [
        f"# {name.rpartition('/')[2]}",
        _summary(facts),
        _usage(facts, name),
        _unknown(facts),
        "## Results",
        _results(facts),
        "## By group",
        _groups(facts),
        "## Regions of interest",
        _regions(facts),
        "## Training data, and its terms",
        _training_data(facts, licence),
        "## Intended uses",
        _bullets(INTENDED),
        "## Refused uses",
        _bullets(REFUSED),
        "## Limits",
        _bullets(LIMITS),
        "## What is in this folder, and what is not",
        _contents(facts),
        "## Sources",
        _bullets(SOURCES),
    ]
    front = _front_matter(facts, name, licence).to_yaml()
    return ModelCard(f"---\n{front}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n")


def _front_matter(facts: RunFacts, name: str, licence: str) -> ModelCardData:
    chosen: dict[str, Any] = {"license": licence}
    if not licence:
        chosen = {"license": "other", "license_name": UNDECIDED, "license_link": "README.md"}
    task = TASKS[_given(facts)]
    corpora = " + ".join(facts.corpora) or "unknown"
    common = {
        "task_type": task,
        "dataset_type": corpora,
        "dataset_name": ", ".join(licence_of(corpus).corpus for corpus in facts.corpora) or "unknown",
        "dataset_config": facts.metrics["protocol"],
        "dataset_split": "test",
    }
    results = [
        EvalResult(**common, metric_type=kind, metric_name=title, metric_value=round(value, 2))
        for kind, title, value in (
            ("recall", "unweighted average recall, %", facts.scores.uar.value),
            ("accuracy", "accuracy, %", facts.scores.wa.value),
        )
    ]
    return ModelCardData(
        **chosen,
        library_name="avser",
        pipeline_tag=task,
        tags=["emotion-recognition", *(f"{_word(m)}-emotion" for m in facts.config.model.modalities), _system(facts)],
        model_name=name.rpartition("/")[2],
        eval_results=results,
    )


def _summary(facts: RunFacts) -> str:
    read = " and ".join(_word(modality) for modality in facts.config.model.modalities)
    return (
        f"A model of avser that reads the {read} of a clip and says which of {len(facts.emotions)} emotions it shows: "
        f"{', '.join(facts.emotions)}; with the moments that carried the answer, in seconds. System `{_system(facts)}`."
    )


def _usage(facts: RunFacts, name: str) -> str:
    return (
        f'```python\nimport avser\n\nmodel = avser.load_model("{name}")  # revision="COMMIT" pins it\n'
        'answer = avser.predict(model, "clip.mp4")\nprint(answer.emotion, answer.probabilities, answer.regions)\n```'
    )


def _unknown(facts: RunFacts) -> str:
    return "\n".join(f"> **Not known:** {gap}" for gap in facts.unknown)


# --- results -----------------------------------------------------------------------------------------------------


def _results(facts: RunFacts) -> str:
    scores, metrics = facts.scores, facts.metrics
    verdict = Verdict(**metrics["verdict"]) if metrics.get("verdict") else "what the split keeps apart was not judged"
    kept = "The speakers of the test are new to the model" if facts.is_strict else "**This was no strict test**"
    measured = ReportTable(
        "Scores",
        ["", "test"],
        [[m.name, value_cell(m.value)] for m in facts.measures if m.name in COUNTED],
        f"{scores.num_clips} clips of {scores.num_speakers} speakers. Brackets: 95 % intervals from resampling "
        f"speakers. Guessing reaches a UAR of {100 / scores.num_emotions:.1f} %. UAR: unweighted average recall; WA: "
        f"accuracy. Protocol {metrics['protocol']}, split `{metrics['split_fingerprint']}`, seed {metrics['seed']}; "
        f"{verdict}. {kept}. One training, not the mean of several.",
        "; ".join(facts.notes),
    )
    recalls = ReportTable(
        "Emotions", ["", "recall, %"], [[emotion, value_cell(found)] for emotion, found in facts.recalls.items()]
    )
    others = ReportTable(
        "Calibration, and distance to human votes where there are some",
        ["", "value"],
        [[m.name, value_cell(m.value)] for m in facts.measures if m.name not in COUNTED],
        _calibration_words(facts),
    )
    return tables_markdown([measured, recalls, others], level=3).rstrip()


def _calibration_words(facts: RunFacts) -> str:
    confidence = next(m.value.value for m in facts.measures if m.name == next(iter(CALIBRATION)))
    gap = confidence - facts.scores.wa.value
    words = "more" if gap > 0 else "less"
    return (
        f"On average the model is {abs(gap):.1f} points {words} confident than it is right. Calibration error: mean "
        "distance between confidence and accuracy, of the answer given; few clips make it look larger than it is. On "
        "recordings of another kind no confidence was checked."
    )


def _groups(facts: RunFacts) -> str:
    lowest, highest = facts.speaker_uars[:1], facts.speaker_uars[-1:]
    people = (
        f"Single speakers are not named. Their UAR lies between {lowest[0]:.1f} and {highest[0]:.1f} % "
        f"({len(facts.speaker_uars)} speakers)."
        if lowest
        else "One speaker alone was tested."
    )
    if not facts.slices:
        return f"{people} The manifest tells of no groups among the test clips, so none were compared."
    few = (
        "A group of few speakers says more about these few than about the group; overlapping intervals are no evidence "
        "of a difference, nor of its absence."
    )
    *tables, last = slice_tables(facts.slices)
    tables = [*(replace(table, note="") for table in tables), last]  # the same note stands under each
    return "\n\n".join([people, few, tables_markdown(tables, level=3).rstrip()])


# --- regions -----------------------------------------------------------------------------------------------------


def _regions(facts: RunFacts) -> str:
    sentences = [
        "Regions are where the curve of a modality's attention, or of another salience, is high. They show which "
        "moments this model weighed, not where the emotion is, nor why somebody felt it.",
        "A curve can be plain to see and yet not carry the answer; whether it does has to be tested against controls "
        "(`avser roi RUN --tested N`).",
        "One step of a sequence has heard or seen its neighbours too, so edges are softer than they look.",
    ]
    if _given(facts) == FUSED:
        sentences.append(
            "Voice and face met in this model's training: that their regions agree is no evidence that both carry the "
            "emotion at the same moments. Compare models of one modality each."
        )
    try:
        found = _study_parts(facts.study, _given(facts)) if facts.study is not None else []
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{STUDY_FILE} is not as this version of avser writes it ({error!r}); run `avser roi` again"
        ) from error
    if not found:
        sentences.append("**Neither the place nor the faithfulness of this model's regions was measured.**")
    return "\n\n".join([_bullets(sentences), *found])


def _study_parts(study: dict[str, Any], given: str) -> list[str]:
    """What `avser roi` measured on the test clips: hits where the truth is known, faithfulness where it was tested.

    Args:
        given: the model's modality, or "fused"; curves of an ablation come from its models of one modality each.
    """
    found = []
    if any(source != given for source in study.get("sources", {}).values()):
        found.append(
            "**The curves below are those of the models of voice alone and of face alone that were trained beside this "
            "one**; this model's own were not measured."
        )
    places = study.get("localization") or {}
    if places:
        table = ReportTable(
            "Found regions against true ones, test clips",
            ["", "AUROC of steps", "overlap (IoU)", "at random", "clips"],
            [
                [_word(m), _interval(s["auroc"]), _interval(s["iou"]), s["chance_iou"]["value"], s["num_clips"]]
                for m, s in places.items()
                if m in MODALITIES
            ],
            "AUROC: how often a step inside a true region is more salient than one outside; 0.5 is chance. At random: "
            "overlap of the same regions placed anywhere in the clip.",
        )
        found.append(tables_markdown([table], level=3).rstrip())
    else:
        found.append("Where the true regions lie is not known for these clips, so no hits were counted.")
    tests = study.get("faithfulness") or []
    for test in tests:
        # The first sentences are the verdicts; later ones give clips as examples.
        told = " ".join(test["sentences"][: len(test["verdicts"])])
        found.append(f"{_word(test['modality']).capitalize()}: {told}")
    if not tests:
        found.append("Faithfulness was not tested.")
    return found


# --- data and folder ---------------------------------------------------------------------------------------------


def _training_data(facts: RunFacts, licence: str) -> str:
    found = [licence_of(corpus) for corpus in facts.corpora] or [licence_of("unknown")]
    rows = [[each.corpus, each.terms, each.link or None] for each in found]
    parts = [tables_markdown([ReportTable("Corpora", ["corpus", "terms of its recordings", "from"], rows)], level=3)]
    parts.append(_terms_words(facts, licence))
    parts.append(_first_weights(facts))
    return "\n\n".join(part.rstrip() for part in parts if part)


def _first_weights(facts: RunFacts) -> str:
    """From which weights training began, in the branches that the model has."""
    model = shared_config(facts.config).model
    if model.system != "av_roi":
        return ""
    backbones = {AUDIO: model.audio.backbone, VIDEO: model.video.backbone}
    began = [
        f"the {_word(m)} from `{backbones[m].weights}` ({backbones[m].name})"
        for m in model.modalities
        if backbones[m].weights != "none"
    ]
    return f"Training began from weights with terms of their own: {'; '.join(began)}." if began else ""


def _terms_words(facts: RunFacts, licence: str) -> str:
    sentences = []
    if licence:
        sentences.append(f"Whoever shares these weights gives them under `{licence}`.")
    else:
        sentences.append("Whoever shares these weights has named no licence for them: without one nobody may use them.")
    if any(licence_of(corpus).is_commercial is False for corpus in facts.corpora):
        sentences.append("The terms of the recordings forbid commercial use; take it that the weights may not be sold.")
    if not facts.corpora or any(corpus not in LICENCES for corpus in facts.corpora):
        sentences.append("Of at least one corpus the terms are unknown: ask its owner before you use the model.")
    return " ".join(sentences)


def _contents(facts: RunFacts) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in (facts.metrics.get("versions") or {}).items())
    return (
        "`model.safetensors` (weights, and the configuration that rebuilds the model; nothing is unpickled), "
        "`config.yaml` (the same configuration to read) and this card. Left out are the answers to single clips, the "
        "names of speakers and clips, the split, and every path of the machine that trained it. That a model could "
        "still tell whether somebody's voice or face was in its training data has not been ruled out.\n\n"
        f"Trained with {versions}."
    )


# --- words -------------------------------------------------------------------------------------------------------


def _given(facts: RunFacts) -> str:
    modalities = facts.config.model.modalities
    return modalities[0] if len(modalities) == 1 else FUSED


def _system(facts: RunFacts) -> str:
    return facts.config.model.system


def _word(modality: str) -> str:
    return MODALITY_WORDS.get(modality, modality)


def _interval(stored: dict[str, float | None]) -> Interval:
    return Interval(**{key: float("nan") if value is None else value for key, value in stored.items()})


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
