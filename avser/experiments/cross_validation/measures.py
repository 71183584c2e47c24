"""What a cross-validation measures over all test clips, and how much that differs between folds and between seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import stdev

import numpy as np

from avser.config import Config
from avser.data.manifest import ClipRow
from avser.evaluation.calibration import expected_calibration_error
from avser.evaluation.pooled import Pool, join_pools, mean_uar, mean_wa, mean_weighted_f1, percent_interval
from avser.evaluation.soft_labels import cross_entropy_bits, entropy_bits, jensen_shannon
from avser.evaluation.statistics import Interval, Statistic, clustered_interval
from avser.experiments.runs.result import Cell
from avser.experiments.votes.study import count_votes
from avser.structures import FUSED

COUNTED: dict[str, Statistic] = {"UAR, %": mean_uar, "WA, %": mean_wa, "weighted F1, %": mean_weighted_f1}
CALIBRATION: dict[str, Callable[[Pool], float]] = {
    "mean confidence, %": lambda pool: 100 * float(pool.probabilities.max(axis=1).mean()),
    "calibration error, 15 even bins, points": lambda pool: calibration_error(pool),
    "calibration error, 15 equally full bins, points": lambda pool: calibration_error(pool, equal_mass=True),
}
DIVERGENCE, CROSS_ENTROPY = "Jensen-Shannon divergence to votes, 0 to 1", "cross-entropy of votes, bits"
VOTE_ENTROPY = "of it the votes' own entropy, bits"


@dataclass
class Measure:
    """One measure over all test clips, the mean of the seeds.

    Attributes:
        value: its interval is clustered by speaker; without ends where there is none.
        fold_sd: standard deviation of the folds, each the mean of its seeds; None with one fold.
        seed_sd: standard deviation of the seeds, each over all folds; None with one seed.
    """

    name: str
    value: Interval
    fold_sd: float | None
    seed_sd: float | None


def measure_pools(pools: Mapping[Cell, Pool], shares: Mapping[str, np.ndarray]) -> list[Measure]:
    """Scores, calibration and, where people voted, the distance to their votes.

    Args:
        pools: (fold, seed) -> answers to the test clips, one at least.
        shares: clip -> (C,) shares of the votes.
    """
    pool = join_pools(list(pools.values()))
    speakers, counts = pool.count()
    found = []
    for name, statistic in COUNTED.items():
        value = percent_interval(counts, speakers, statistic)
        spread = _spread(pools, partial(_percent, statistic=statistic))
        found.append(Measure(name, value, *spread))
    # Resampling would only widen what few clips add to a calibration error, so it has no interval.
    for name, measure in CALIBRATION.items():
        found.append(Measure(name, Interval(measure(pool), float("nan"), float("nan")), *_spread(pools, measure)))
    voted = {cell: _voted(each, shares) for cell, each in pools.items()}
    voted = {cell: each for cell, each in voted.items() if len(each)}
    if voted:
        everything = join_pools(list(voted.values()))
        for name, values in soft_measures(everything, shares).items():
            own, means = everything.clip_means(values)
            spread = _spread(voted, partial(_mean_soft, shares=shares, name=name))
            found.append(Measure(name, clustered_interval(means, own), *spread))
    return found


def calibration_error(pool: Pool, *, equal_mass: bool = False) -> float:
    """Expected calibration error in percentage points, the mean of the seeds."""
    each = [pool.only(pool.seeds == seed) for seed in np.unique(pool.seeds)]
    errors = [
        expected_calibration_error(p.probabilities.max(axis=1), p.labels == p.answers, equal_mass=equal_mass)
        for p in each
    ]
    return 100 * float(np.mean(errors))


def soft_measures(pool: Pool, shares: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(N,) of every row: how far its posterior is from the votes on its clip.

    Args:
        shares: clip -> (C,) shares of the votes, of every clip of the pool.
    """
    votes = np.stack([shares[clip_id] for clip_id in pool.clip_ids])
    posteriors = pool.probabilities / pool.probabilities.sum(axis=1, keepdims=True)  # stored with five digits
    return {
        DIVERGENCE: jensen_shannon(posteriors, votes),
        CROSS_ENTROPY: cross_entropy_bits(votes, posteriors),
        VOTE_ENTROPY: entropy_bits(votes),
    }


def vote_shares(rows: Iterable[ClipRow], emotions: Sequence[str], config: Config) -> dict[str, np.ndarray]:
    """Clip -> (C,) shares of the votes of people who were given what the model is given; clips without are left out."""
    modalities = config.model.modalities
    given = modalities[0] if len(modalities) == 1 else FUSED
    counts = {row.clip_id: count_votes(row, given, emotions, config.data.merge)[0] for row in rows}
    return {clip_id: votes / votes.sum() for clip_id, votes in counts.items() if votes.sum() > 0}


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation (of a sample); None for fewer than two."""
    return stdev(values) if len(values) > 1 else None


def _spread(pools: Mapping[Cell, Pool], measure: Callable[[Pool], float]) -> tuple[float | None, float | None]:
    """Deviation between folds, and between seeds."""
    groups = [
        [join_pools([pool for cell, pool in pools.items() if cell[axis] == number]) for number in numbers]
        for axis in (0, 1)
        if (numbers := sorted({cell[axis] for cell in pools}))
    ]
    fold_sd, seed_sd = (deviation([measure(group) for group in found]) for found in groups)
    return fold_sd, seed_sd


def _percent(pool: Pool, statistic: Statistic) -> float:
    return 100 * statistic(pool.count()[1])


def _mean_soft(pool: Pool, shares: Mapping[str, np.ndarray], name: str) -> float:
    return float(soft_measures(pool, shares)[name].mean())


def _voted(pool: Pool, shares: Mapping[str, np.ndarray]) -> Pool:
    return pool.only(np.array([clip_id in shares for clip_id in pool.clip_ids], dtype=bool))
