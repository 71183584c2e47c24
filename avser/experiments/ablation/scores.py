"""What the cells of an ablation are worth: scores, paired differences, and what each modality adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from avser.errors import CheckpointError
from avser.evaluation.multiple_tests import holm
from avser.evaluation.pooled import PairedScores, PooledScores, compare_pools, mean_uar, percent_interval, score_pool
from avser.evaluation.shapley import shapley_values
from avser.evaluation.statistics import Interval
from avser.experiments.ablation.plan import GridCell
from avser.experiments.runs.result import Answers, Cell, RunResult, Runs, pool_answers, shared_answers
from avser.structures import MODALITIES

APART = "never there"
TAKEN_AWAY = "taken away"


@dataclass
class CellResult:
    """A cell of the grid.

    Attributes:
        runs: (fold, seed) -> what was found.
        parts: modality -> (fold, seed) -> a fused model's answers to that modality alone.
        scores: over all test clips of all folds, the mean of the seeds; None without a finished run.
        difference: this cell minus the reference, over the folds and seeds that both have.
        adjusted_p: of the difference in UAR, by Holm's method over all cells that were compared.
    """

    cell: GridCell
    num_asked: int
    runs: dict[Cell, RunResult] = field(default_factory=dict)
    parts: dict[str, dict[Cell, Answers]] = field(default_factory=dict)
    scores: PooledScores | None = None
    difference: PairedScores | None = None
    adjusted_p: float | None = None

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def answers(self) -> dict[Cell, Answers]:
        return {place: run.test for place, run in self.runs.items()}

    @property
    def emotions(self) -> list[str]:
        """Those that its finished runs tell apart."""
        return next(iter(self.runs.values())).metrics["emotions"]

    def each(self, metric: str) -> list[float]:
        """A metric of every run by itself, in percent."""
        return [run.metrics["test"][metric]["value"] for run in self.runs.values()]


@dataclass
class ModalityShares:
    """What each modality adds to the UAR of a fused cell beyond guessing: its Shapley value, in percentage points.

    Attributes:
        kind: how a modality was absent: in models trained without it, or taken away from the fused one in the test.
        uar: modality, or "both" -> UAR in percent.
        shares: modality -> its value; they sum to the UAR of both minus that of guessing.
    """

    cell: str
    label: str
    kind: str
    num_runs: int
    num_clips: int
    num_speakers: int
    uar: dict[str, Interval]
    shares: dict[str, Interval]


def score_cells(cells: Sequence[CellResult], reference: CellResult) -> list[str]:
    """Fill in scores, differences to the reference and their p-values; returns why cells could not be compared."""
    notes = []
    for result in cells:
        if result.runs:
            result.scores = score_pool(pool_answers(result.answers))
    for result in cells:
        if result is reference or not (result.runs and reference.runs):
            continue
        try:
            if result.emotions != reference.emotions:
                raise CheckpointError("their emotions differ")
            if shared := shared_answers([result.answers, reference.answers]):
                result.difference = compare_pools(*map(pool_answers, shared))
        except CheckpointError as error:
            notes.append(f"{result.cell.label} against {reference.cell.label}: not compared, {error}")
    compared = [result for result in cells if result.difference]
    for result, p in zip(compared, holm([r.difference.uar_p for r in compared if r.difference]), strict=True):
        result.adjusted_p = float(p)
    return notes


def modality_shares(cell: GridCell, kind: str, alone: Mapping[str, Runs], both: Runs) -> ModalityShares | None:
    """Shapley values of a game in which the UAR is what modalities are worth, and guessing what none is worth.

    Args:
        alone: modality -> answers to it alone.

    Returns:
        None where there is no fold and seed with answers of all three kinds.
    """
    shared = shared_answers([*(alone[name] for name in MODALITIES), both])
    if not shared:
        return None
    pools = [pool_answers(answers) for answers in shared]
    speakers = pools[0].count()[0]
    counts = np.stack([pool.count()[1] for pool in pools], axis=1)  # (G, 3, S, C, C)
    chance = 1 / len(np.unique(pools[0].labels))
    names = [*MODALITIES, "both"]
    return ModalityShares(
        cell.name,
        cell.label,
        kind,
        len(shared[0]),
        pools[0].num_clips,
        len(speakers),
        {name: percent_interval(counts[:, i], speakers, mean_uar) for i, name in enumerate(names)},
        {
            name: percent_interval(counts, speakers, partial(_share, modality=name, chance=chance))
            for name in MODALITIES
        },
    )


def _share(counts: np.ndarray, modality: str, chance: float) -> float:
    """The Shapley value of a modality, in [-1, 1], from counts (G, 3, S, C, C) of audio, of video and of both."""
    audio, video, both = (mean_uar(counts[:, i]) for i in range(3))
    sets = [frozenset[str](), *(frozenset([name]) for name in MODALITIES), frozenset(MODALITIES)]
    return shapley_values(dict(zip(sets, (chance, audio, video, both), strict=True)))[modality]
