"""Whether a model is right as often as it says: calibration of its most probable answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """Clips of like confidence; all in [0, 1].

    Attributes:
        low, high: ends of the bin: above `low`, up to and including `high`.
        confidence, accuracy: means over its clips; NaN where it has none.
    """

    low: float
    high: float
    num_clips: int
    confidence: float
    accuracy: float


def reliability_bins(
    confidences: np.ndarray, correct: np.ndarray, *, num_bins: int = NUM_BINS, equal_mass: bool = False
) -> list[ReliabilityBin]:
    """Clips by confidence, as a reliability diagram shows them.

    Bins of equal width over [0, 1] are those of Guo et al. 2017 (arXiv 1706.04599), as is their number. Bins that hold
    equally many clips, in order of confidence, follow Nixon et al. 2019 (arXiv 1904.01685), who apply
    them to every class; to apply them to the answer alone is our choice.

    Args:
        confidences: (N,) probability of the most probable emotion.
        correct: (N,) bool, whether that one is true.
        equal_mass: equally many clips in each bin, to one; fewer bins where there are fewer clips.

    Raises:
        ValueError: no clips, lengths that differ, or a confidence outside [0, 1].
    """
    confidences, correct = np.asarray(confidences, float), np.asarray(correct, bool)
    if not len(confidences) or len(confidences) != len(correct):
        raise ValueError(f"{len(confidences)} confidences and {len(correct)} answers; as many of both are needed")
    if not ((confidences >= 0) & (confidences <= 1 + 1e-4)).all():  # as far as five digits may miss a sum of 1
        raise ValueError("confidences must lie between 0 and 1; give probabilities, not logits")
    if equal_mass:
        order = np.argsort(confidences, kind="stable")
        groups = np.array_split(order, min(num_bins, len(order)))
        highs = [float(confidences[rows[-1]]) for rows in groups]
        edges = [0.0, *highs]
    else:
        edges = np.linspace(0, 1, num_bins + 1).tolist()
        owners = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
        groups = [np.flatnonzero(owners == m) for m in range(num_bins)]
    return [
        ReliabilityBin(low, high, len(rows), _mean(confidences[rows]), _mean(correct[rows]))
        for low, high, rows in zip(edges[:-1], edges[1:], groups, strict=True)
    ]


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, *, num_bins: int = NUM_BINS, equal_mass: bool = False
) -> float:
    """Mean distance of accuracy from confidence over the bins, weighted by their clips, in [0, 1] (Guo et al. 2017).

    It is never below 0, so few clips make a calibrated model look worse than it is: with 15 clips a bin of an accuracy
    of one half, by chance alone, about 0.1. Compare models on the same clips.

    Args, Raises: as `reliability_bins`.
    """
    bins = reliability_bins(confidences, correct, num_bins=num_bins, equal_mass=equal_mass)
    filled = [b for b in bins if b.num_clips]
    return sum(b.num_clips * abs(b.accuracy - b.confidence) for b in filled) / len(confidences)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
