"""The modality ablation: voice alone, face alone, both fused, and the fused model with one of them taken away."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from avser.config import Config
from avser.data.groups import speaker_key
from avser.errors import ConfigError
from avser.evaluation.metrics import Scores
from avser.evaluation.pooled import mean_uar
from avser.evaluation.statistics import Interval, paired_difference, paired_permutation
from avser.experiments.runs.grid import check_same_settings
from avser.experiments.unseen import check_unseen
from avser.roi.report.tables import ReportTable, format_p
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Batch
from avser.training.checkpoint import MODEL_FILE, load_trained
from avser.training.loop import Predictions, evaluate
from avser.training.run import score_part, train
from avser.training.run_data import RunData, load_data

LABELS = {
    AUDIO: "voice alone",
    VIDEO: "face alone",
    FUSED: "voice and face, fused",
    "fused_audio": "fused model given the voice only",
    "fused_video": "fused model given the face only",
}


@dataclass
class ModalityResult:
    """One row of the ablation.

    Attributes:
        difference: UAR of the fused model minus this one's, over the same clips, in percentage points, with a
            speaker-clustered interval; None for the fused model itself.
        p_value: two-sided, of that difference, from letting both change places for whole speakers.
    """

    name: str
    label: str
    scores: Scores
    difference: Interval | None = None
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class ModalityAblation:
    """The rows, and under which protocol they were measured; `notes` are those on data and split."""

    rows: list[ModalityResult]
    runs: dict[str, Path]
    protocol: str
    split_fingerprint: str
    seed: int
    notes: list[str]

    def __getitem__(self, name: str) -> ModalityResult:
        return next(row for row in self.rows if row.name == name)


def ablate_modalities(config: Config, *, resume: bool = False, overwrite: bool = False) -> ModalityAblation:
    """Train a model for the voice, one for the face and a fused one, on the same split; test each once.

    The runs are `<name>/audio`, `<name>/video` and `<name>/fused`. With `resume`, finished ones are kept and an
    unfinished one goes on.

    Raises:
        ConfigError: the configuration is not one of both modalities.
        CheckpointError: a finished run is there and neither `resume` nor `overwrite` is asked for, or it was trained
            with other settings.
    """
    if set(config.model.modalities) != set(MODALITIES):
        raise ConfigError(f"model.modalities={config.model.modalities}: a modality ablation needs audio and video")
    runs = {}
    for name in (AUDIO, VIDEO, FUSED):
        part = single_modality(config, name)
        folder = Path(part.runs) / part.name
        if resume and not overwrite and (folder / "metrics.json").is_file():
            check_same_settings(folder, part)
            runs[name] = folder
        else:
            runs[name] = train(part, resume=resume, overwrite=overwrite)
    return compare_modalities(config, runs)


def single_modality(config: Config, name: str) -> Config:
    """The configuration of one cell: one modality's model, or both for "fused"."""
    part = copy.deepcopy(config)
    part.name = f"{config.name}/{name}"
    part.model.modalities = list(MODALITIES) if name == FUSED else [name]
    if name != FUSED:
        part.training.balance = "none"  # there is nothing to balance, and training would refuse
    return part


def compare_modalities(config: Config, runs: dict[str, Path]) -> ModalityAblation:
    """Predictions of all cells on the test split, and each cell's paired difference to the fused model.

    Raises:
        CheckpointError: a run has seen some of the test clips in training.
    """
    data = load_data(config)
    for run in runs.values():
        check_unseen(run, data.split.test)
    predictions = {name: _predict(runs[name], data, name) for name in (AUDIO, VIDEO, FUSED)}
    predictions |= {f"fused_{only}": _predict(runs[FUSED], data, only) for only in MODALITIES}
    fused = predictions[FUSED]
    speakers = [speaker_key(data.rows[clip_id]) for clip_id in fused.clip_ids]
    counts = {name: _count_answers(found, speakers, len(data.emotions)) for name, found in predictions.items()}
    rows = []
    for name, found in predictions.items():
        row = ModalityResult(name, LABELS[name], score_part(found, data))
        if name != FUSED:
            pair = counts[FUSED], counts[name], sorted(set(speakers))
            difference = paired_difference(*pair, mean_uar)
            row.difference = Interval(*(100 * x for x in (difference.value, difference.low, difference.high)))
            row.p_value = paired_permutation(*pair, mean_uar)
        rows.append(row)
    notes = [str(data.split.verdict), *data.notes]
    return ModalityAblation(rows, runs, data.split.protocol, data.split.fingerprint(), config.seed, notes)


def ablation_table(ablation: ModalityAblation) -> ReportTable:
    """The rows for a terminal or a page, with the protocol that they were measured under."""
    scores = ablation.rows[0].scores
    return ReportTable(
        "Voice, face, both",
        ["model", "UAR, %", "WA, %", "fused minus this, points", "p"],
        [[row.label, row.scores.uar, row.scores.wa, row.difference, format_p(row.p_value)] for row in ablation.rows],
        f"{scores.num_clips} test clips of {scores.num_speakers} speakers. UAR: unweighted average recall; "
        "WA: accuracy. Intervals are 95 %, from resampling speakers; p is two-sided, of the difference in UAR, from "
        "letting both models change places for whole speakers. With G speakers p is never below 2 / 2^G.",
        f"Guessing reaches a UAR of {100 / len(scores.recall):.1f} %. Protocol {ablation.protocol}, split "
        f"{ablation.split_fingerprint}, seed {ablation.seed}; {'; '.join(ablation.notes)}.",
    )


def _predict(run: Path, data: RunData, given: str) -> Predictions:
    """Answers of a run's model to the test split when it is given one modality, or both."""
    model, config, _ = load_trained(run / MODEL_FILE)
    accelerator = Accelerator()
    batches = data.batches("test", config.training)
    return evaluate(model.to(accelerator.device), keep_modality(batches, given), accelerator)


def keep_modality(batches: Iterable[Batch], given: str) -> Iterator[Batch]:
    """The batches with all but the given modality taken away; unchanged for "fused"."""
    for batch in batches:
        others = () if given == FUSED else (m for m in MODALITIES if m != given)
        for modality in others:
            batch = batch.without(modality)
        yield batch


def _count_answers(found: Predictions, speakers: list[str], num_classes: int) -> np.ndarray:
    """(G, 1, C, C) confusion matrices of the speakers in sorted order, true emotion before answer."""
    names, owners = np.unique(speakers, return_inverse=True)
    counts = np.zeros((len(names), 1, num_classes, num_classes))
    np.add.at(counts[:, 0], (owners, found.labels, found.answers), 1)
    return counts
