"""Uncertainty that respects speakers: clips of one speaker are not independent, so whole speakers are resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import norm, t

Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; the ends are NaN where there is none."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".1f"
        if not (np.isfinite(self.low) and np.isfinite(self.high)):
            return f"{self.value:{spec}} [no interval]"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def clustered_interval(
    values: np.ndarray,
    clusters: Sequence[str],
    statistic: Statistic = np.mean,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a statistic, resampling whole clusters (speakers) with replacement.

    The percentiles are widened for few clusters as for a t interval (the expanded percentile interval of Hesterberg
    2015, "What teachers should know about the bootstrap"): the plain ones would be too narrow below some 20 speakers.
    With a single cluster there is no interval, and its ends are NaN.

    Args:
        values: (N, ...) one row a clip, e.g. correctness, or pairs of label and prediction.
        clusters: N cluster names.
        statistic: of a resampled (M, ...) array; NaN results (a class that was not drawn) are left out.

    Raises:
        ValueError: no clips, or lengths that differ.
    """
    groups = _group(values, clusters)
    draws = _resample(values, groups, statistic, num_resamples, seed)
    return Interval(float(statistic(values)), *expanded_percentiles(draws, len(groups), confidence))


def paired_difference(
    values_a: np.ndarray,
    values_b: np.ndarray,
    clusters: Sequence[str],
    statistic: Statistic = np.mean,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """statistic(a) - statistic(b) over the same clips; `paired_permutation` tests it.

    Both are resampled with the same clusters, so what the speakers have in common cancels.

    Raises:
        ValueError: no clips, or lengths that differ.
    """
    if len(values_a) != len(values_b):
        raise ValueError(f"a pair for every clip is needed, got {len(values_a)} and {len(values_b)}")
    both = np.stack([values_a, values_b], axis=1)

    def difference(rows: np.ndarray) -> float:
        return float(statistic(rows[:, 0])) - float(statistic(rows[:, 1]))

    groups = _group(both, clusters)
    draws = _resample(both, groups, difference, num_resamples, seed)
    return Interval(difference(both), *expanded_percentiles(draws, len(groups), confidence))


def paired_permutation(
    values_a: np.ndarray,
    values_b: np.ndarray,
    clusters: Sequence[str],
    statistic: Statistic = np.mean,
    *,
    num_permutations: int = 5000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of statistic(a) - statistic(b): a and b change places for whole clusters (speakers).

    Every way to swap is tried where there are at most `num_permutations`, random ones otherwise. Unlike the p-value of
    a bootstrap this one also holds for few speakers: with G of them it is never below 2 / 2**G, so four speakers cannot
    show a difference at the 5 % level, however large it is. A statistic that is NaN shows none: p is 1, and a swap that
    leads to one counts against the difference.

    Args:
        values_a, values_b: (N, ...) of the same clips.
        clusters: N cluster names.

    Raises:
        ValueError: no clips, or lengths that differ.
    """
    if len(values_a) != len(values_b):
        raise ValueError(f"a pair for every clip is needed, got {len(values_a)} and {len(values_b)}")
    groups = _group(values_a, clusters)
    owner = np.empty(len(values_a), dtype=int)
    for number, rows in enumerate(groups):
        owner[rows] = number
    is_exact = 2 ** len(groups) <= num_permutations
    if is_exact:
        patterns = np.array(list(product([False, True], repeat=len(groups))))
    else:
        patterns = np.random.default_rng(seed).random((num_permutations, len(groups))) < 0.5
    observed = abs(float(statistic(values_a)) - float(statistic(values_b)))
    num_as_large = 0
    for pattern in patterns:
        swapped = pattern[owner].reshape(-1, *[1] * (values_a.ndim - 1))
        one, other = np.where(swapped, values_b, values_a), np.where(swapped, values_a, values_b)
        num_as_large += not abs(float(statistic(one)) - float(statistic(other))) < observed - 1e-9  # true of NaN
    # What was observed is one of the exact ways already; among random ones it is counted in.
    return num_as_large / len(patterns) if is_exact else (num_as_large + 1) / (len(patterns) + 1)


def _group(values: np.ndarray, clusters: Sequence[str]) -> list[np.ndarray]:
    """Row indices of each cluster."""
    if len(values) == 0:
        raise ValueError("no clips to compute an interval from")
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names")
    names = np.asarray(clusters)
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def expanded_percentiles(draws: np.ndarray, num_clusters: int, confidence: float) -> tuple[float, float]:
    """Ends of an interval from what resampling clusters gave; NaN draws are left out, a single cluster has none."""
    if num_clusters < 2:
        return float("nan"), float("nan")
    degrees = num_clusters - 1
    reach = np.sqrt(num_clusters / degrees) * t.ppf(0.5 + confidence / 2, degrees)
    tail = 100 * norm.cdf(-reach)
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def _resample(
    values: np.ndarray, groups: list[np.ndarray], statistic: Statistic, num_resamples: int, seed: int
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    draws = np.empty(num_resamples)
    for i in range(num_resamples):
        picked = rng.integers(len(groups), size=len(groups))
        draws[i] = statistic(values[np.concatenate([groups[g] for g in picked])])
    return draws
