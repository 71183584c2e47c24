"""Many tests at once, and few speakers: adjusted p-values, and a sign-flip test over the means of speakers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

TAILS = ("two-sided", "greater", "less")
ROUNDING = 1e-12  # relative; what the order of a sum may change


def benjamini_hochberg(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p-values: calling all below q a finding keeps the expected share of false findings below q.

    Benjamini & Hochberg 1995, "Controlling the false discovery rate". It holds for independent tests and for those
    that depend positively, as measures of the same clips do (Benjamini & Yekutieli 2001).

    Args:
        p_values: (N,); NaN stands for a test that could not be made: it stays NaN and is not counted.
    """
    p, known, order = _sorted(p_values)
    adjusted = p[known][order] * len(order) / np.arange(1, len(order) + 1)
    adjusted = np.minimum.accumulate(adjusted[::-1])[::-1]  # no p-value may overtake a larger one
    return _put_back(p, known, order, adjusted)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p-values: calling all below q findings keeps the chance of any false one below q (Holm 1979).

    Args:
        p_values: (N,); NaN stands for a test that could not be made: it stays NaN and is not counted.
    """
    p, known, order = _sorted(p_values)
    adjusted = p[known][order] * np.arange(len(order), 0, -1)
    return _put_back(p, known, order, np.maximum.accumulate(adjusted))


def sign_flip(
    values: np.ndarray,
    clusters: Sequence[str],
    *,
    tail: str = "two-sided",
    num_flips: int = 10_000,
    seed: int = 0,
) -> float:
    """p-value of a mean of zero, with whole clusters (speakers) as the units: their means change sign.

    Every way to choose signs is tried where there are at most `num_flips`, random ones otherwise. It holds if the means
    of clusters are independent and each is as likely to lie as far above zero as below. With G clusters a one-sided
    p-value is never below 1 / 2**G, a two-sided one never below twice that.

    Args:
        values: (N,) one a clip, e.g. what was observed minus what chance would give; every cluster counts the same.
        clusters: N cluster names.
        tail: "greater": is the mean above zero? "less": below? "two-sided": either?

    Raises:
        ValueError: no values, lengths that differ, values that are not finite, or an unknown tail.
    """
    values = np.asarray(values, dtype=float)
    if tail not in TAILS:
        raise ValueError(f"tail {tail!r}: take one of {', '.join(TAILS)}")
    if not len(values) or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} cluster names; as many of both are needed")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {len(values)} values are not finite; leave them out")
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    means = np.bincount(owner, weights=values) / np.bincount(owner)
    is_exact = 2 ** len(means) <= num_flips
    if is_exact:
        signs = np.array(list(product([1.0, -1.0], repeat=len(means))))
    else:
        signs = np.random.default_rng(seed).choice([1.0, -1.0], size=(num_flips, len(means)))
    flipped, observed = signs @ means, float(means.sum())
    if tail == "less":
        flipped, observed = -flipped, -observed
    elif tail == "two-sided":
        flipped, observed = np.abs(flipped), abs(observed)
    num_as_large = int((flipped >= observed - ROUNDING * np.abs(means).sum()).sum())
    # What was observed is one of the exact ways already; among random ones it is counted in.
    return num_as_large / len(signs) if is_exact else (num_as_large + 1) / (len(signs) + 1)


def _sorted(p_values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The p-values (N,), which of them are known (N,), and the order of the known ones, smallest first."""
    p = np.asarray(p_values, dtype=float)
    known = ~np.isnan(p)
    return p, known, np.argsort(p[known], kind="stable")


def _put_back(p: np.ndarray, known: np.ndarray, order: np.ndarray, adjusted: np.ndarray) -> np.ndarray:
    unsorted = np.empty(len(order))
    unsorted[order] = np.minimum(adjusted, 1)
    result = np.full(len(p), np.nan)
    result[known] = unsorted
    return result
