"""Many statistics of the same answers from one set of resampled speakers, where a bootstrap for each would be slow."""

from __future__ import annotations

import numpy as np

from avser.evaluation.statistics import Interval, expanded_percentiles


def resampled_uars(counts: np.ndarray, *, num_resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """UARs, means of the seeds, of K sets of answers to the same clips, with whole speakers drawn with replacement.

    Args:
        counts: (G, K, S, C, C) confusion matrices of G speakers and S seeds, true emotion before answer.

    Returns:
        (1 + num_resamples, K) in [0, 1]; the first row is what was observed.
    """
    num_speakers = len(counts)
    picked = np.random.default_rng(seed).integers(num_speakers, size=(num_resamples, num_speakers))
    times = np.stack([np.bincount(row, minlength=num_speakers) for row in picked])  # (R, G) how often each was drawn
    times = np.concatenate([np.ones((1, num_speakers)), times])
    num_true = np.tensordot(times, counts.sum(axis=4), axes=1)  # (1 + R, K, S, C)
    hits = np.tensordot(times, counts.diagonal(axis1=3, axis2=4), axes=1)
    recall = np.divide(hits, num_true, out=np.zeros_like(num_true), where=num_true > 0)
    return (recall.sum(axis=3) / (num_true > 0).sum(axis=3)).mean(axis=2)  # over the emotions that were drawn


def resampled_interval(values: np.ndarray, num_speakers: int, *, confidence: float = 0.95) -> Interval:
    """The interval of a function of `resampled_uars`; as `avser.evaluation.statistics.clustered_interval`.

    Args:
        values: (1 + R,) what was observed, then the draws; NaN draws are left out.
    """
    if not np.isfinite(values[0]) or num_speakers < 2:
        return Interval(float(values[0]), float("nan"), float("nan"))
    return Interval(float(values[0]), *expanded_percentiles(values[1:], num_speakers, confidence))
