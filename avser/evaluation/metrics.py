"""How good predictions are: UAR, WA, recall of each emotion, F1, confusion matrix, with speaker-clustered intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score

from avser.evaluation.statistics import Interval, clustered_interval


@dataclass
class Scores:
    """Classification scores in percent; intervals are 95 %, clustered by speaker."""

    num_clips: int
    num_speakers: int
    uar: Interval
    wa: Interval
    weighted_f1: float
    recall: dict[str, float]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def unweighted_average_recall(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean recall over the emotions that occur among the labels, in [0, 1]; NaN without clips."""
    recalls = [np.mean(predictions[labels == k] == k) for k in np.unique(labels)]
    return float(np.mean(recalls)) if recalls else float("nan")


def weighted_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of clips answered right, in [0, 1]."""
    return float(np.mean(labels == predictions)) if len(labels) else float("nan")


def score_predictions(
    labels: np.ndarray, predictions: np.ndarray, speakers: Sequence[str], emotions: Sequence[str]
) -> Scores:
    """All scores of a set of predictions.

    Args:
        labels, predictions: (N,) index into `emotions`.
        speakers: N names; intervals resample whole speakers.

    Raises:
        ValueError: no clips.
    """
    pairs = np.stack([labels, predictions], axis=1)
    classes = range(len(emotions))
    confusion = confusion_matrix(labels, predictions, labels=classes)
    with np.errstate(invalid="ignore"):
        recall = 100 * np.diag(confusion) / confusion.sum(axis=1)
    return Scores(
        num_clips=len(labels),
        num_speakers=len(set(speakers)),
        uar=_percent(clustered_interval(pairs, speakers, lambda p: unweighted_average_recall(p[:, 0], p[:, 1]))),
        wa=_percent(clustered_interval(pairs, speakers, lambda p: weighted_accuracy(p[:, 0], p[:, 1]))),
        weighted_f1=100 * float(f1_score(labels, predictions, labels=classes, average="weighted", zero_division=0)),
        recall=dict(zip(emotions, recall.tolist(), strict=True)),
        confusion=confusion.tolist(),
    )


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)
