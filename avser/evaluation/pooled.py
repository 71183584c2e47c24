"""Answers of several runs to the same clips: scores are means of the seeds, intervals resample whole speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from avser.evaluation.statistics import (
    Interval,
    Statistic,
    clustered_interval,
    paired_difference,
    paired_permutation,
)

UNKNOWN = "not known"


@dataclass
class Pool:
    """Answers to the clips of one or more folds, one row for each clip and seed.

    Attributes:
        clip_ids, speakers: N names.
        seeds: (N,) int, of the run that answered.
        labels, answers: (N,) index of the true and of the most probable emotion.
        probabilities: (N, C)
    """

    clip_ids: list[str]
    speakers: list[str]
    seeds: np.ndarray
    labels: np.ndarray
    answers: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def num_clips(self) -> int:
        return len(set(self.clip_ids))

    def only(self, kept: np.ndarray) -> Pool:
        """Some of the rows: (N,) bool."""
        rows = np.flatnonzero(kept)
        names = [self.clip_ids[i] for i in rows], [self.speakers[i] for i in rows]
        return Pool(*names, self.seeds[rows], self.labels[rows], self.answers[rows], self.probabilities[rows])

    def count(self) -> tuple[list[str], np.ndarray]:
        """Confusion matrices of every speaker and seed.

        Returns:
            G speakers, sorted; counts (G, S, C, C), true emotion before answer.
        """
        num_classes = self.probabilities.shape[1]
        speakers, owners = np.unique(np.array(self.speakers, dtype=object), return_inverse=True)
        seeds, places = np.unique(self.seeds, return_inverse=True)
        counts = np.zeros((len(speakers), len(seeds), num_classes, num_classes))
        np.add.at(counts, (owners, places, self.labels, self.answers), 1)
        return speakers.tolist(), counts

    def clip_means(self, values: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The mean of the seeds for every clip: speakers of M clips in order of clip ids, and values (M,) of (N,)."""
        _, first, owners = np.unique(np.array(self.clip_ids), return_index=True, return_inverse=True)
        means = np.bincount(owners, weights=values) / np.bincount(owners)
        return [self.speakers[i] for i in first], means


def join_pools(pools: Sequence[Pool]) -> Pool:
    """One below the other."""
    return Pool(
        [clip_id for pool in pools for clip_id in pool.clip_ids],
        [speaker for pool in pools for speaker in pool.speakers],
        np.concatenate([pool.seeds for pool in pools]),
        np.concatenate([pool.labels for pool in pools]),
        np.concatenate([pool.answers for pool in pools]),
        np.concatenate([pool.probabilities for pool in pools]),
    )


@dataclass
class PooledScores:
    """Scores in percent, each the mean of the seeds; intervals 95 %, clustered by speaker.

    Attributes:
        num_emotions: those that occur among the clips; guessing reaches a UAR of 100 / num_emotions among them at best.
    """

    num_clips: int
    num_speakers: int
    num_emotions: int
    uar: Interval
    wa: Interval


@dataclass
class PairedScores:
    """One pool minus another over the same clips and seeds, in percentage points; p two-sided, by swapping speakers."""

    num_clips: int
    num_speakers: int
    uar: Interval
    uar_p: float
    wa: Interval
    wa_p: float


@dataclass
class Slice:
    """Scores of the clips that share a value of one column of the manifest, e.g. sex: female."""

    column: str
    value: str
    scores: PooledScores


def score_pool(pool: Pool) -> PooledScores:
    """UAR and WA over all rows.

    Raises:
        ValueError: no clips.
    """
    speakers, counts = pool.count()
    return PooledScores(
        pool.num_clips,
        len(speakers),
        len(np.unique(pool.labels)),
        percent_interval(counts, speakers, mean_uar),
        percent_interval(counts, speakers, mean_wa),
    )


def score_slices(pool: Pool, columns: Mapping[str, Mapping[str, str]]) -> list[Slice]:
    """The same for every value of every column that has two or more, in order of columns and values.

    Args:
        columns: column -> clip -> value; clips without a value make one of their own, "not known".
    """
    found = []
    for column, value_of in columns.items():
        values = np.array([value_of.get(clip_id) or UNKNOWN for clip_id in pool.clip_ids], dtype=object)
        kinds = sorted(set(values))
        if len(kinds) > 1:
            found += [Slice(column, value, score_pool(pool.only(values == value))) for value in kinds]
    return found


def compare_pools(first: Pool, second: Pool) -> PairedScores:
    """First minus second.

    Raises:
        ValueError: they do not answer the same clips, of the same labels and speakers, with the same seeds.
    """
    asked = [sorted(zip(p.clip_ids, p.seeds, p.labels, p.speakers, strict=True)) for p in (first, second)]
    if asked[0] != asked[1]:
        raise ValueError(
            "answers can only be paired where both are to the same clips, labels and speakers, with the same seeds"
        )
    (speakers, counts), (_, others) = first.count(), second.count()
    found = []
    for metric in (mean_uar, mean_wa):
        difference = paired_difference(counts, others, speakers, metric)
        interval = Interval(100 * difference.value, 100 * difference.low, 100 * difference.high)
        found.append((interval, paired_permutation(counts, others, speakers, metric)))
    return PairedScores(first.num_clips, len(speakers), *found[0], *found[1])


def percent_interval(counts: np.ndarray, speakers: Sequence[str], statistic: Statistic) -> Interval:
    """A statistic of counts (G, S, C, C) in percent; with one speaker there is no interval, and its ends are NaN."""
    if len(speakers) < 2:  # nothing to resample
        return Interval(100 * float(statistic(counts)), float("nan"), float("nan"))
    found = clustered_interval(counts, speakers, statistic)
    return Interval(100 * found.value, 100 * found.low, 100 * found.high)


def recall_intervals(pool: Pool) -> list[Interval]:
    """Of each emotion, in percent; NaN for one that does not occur."""
    speakers, counts = pool.count()
    found = []
    for emotion in range(counts.shape[-1]):
        recall = partial(mean_recall, emotion=emotion)
        occurs = np.isfinite(recall(counts))
        nowhere = Interval(float("nan"), float("nan"), float("nan"))
        found.append(percent_interval(counts, speakers, recall) if occurs else nowhere)
    return found


# --- statistics of confusion matrices (G, S, C, C): G speakers, S seeds, true emotion before answer -----------------


def mean_uar(counts: np.ndarray) -> float:
    """Mean over seeds of the mean recall of the emotions that occur; NaN where a seed has no clips.

    Args:
        counts: (G, S, C, C) of some speakers.
    """
    confusion = counts.sum(axis=0)
    num_true = confusion.sum(axis=2)  # (S, C)
    hits = confusion.diagonal(axis1=1, axis2=2)
    recall = np.divide(hits, num_true, out=np.zeros_like(num_true), where=num_true > 0)
    num_occurring = (num_true > 0).sum(axis=1)
    return float(np.mean(recall.sum(axis=1) / num_occurring)) if num_occurring.all() else float("nan")


def mean_wa(counts: np.ndarray) -> float:
    """Mean over seeds of the share of clips answered right; as `mean_uar`."""
    confusion = counts.sum(axis=0)
    num_clips = confusion.sum(axis=(1, 2))
    hits = confusion.diagonal(axis1=1, axis2=2).sum(axis=1)
    return float(np.mean(hits / num_clips)) if num_clips.all() else float("nan")


def mean_weighted_f1(counts: np.ndarray) -> float:
    """Mean over seeds of the F1 scores of the emotions, each weighted by its clips; as `mean_uar`."""
    confusion = counts.sum(axis=0)
    num_true, num_answered = confusion.sum(axis=2), confusion.sum(axis=1)
    hits = confusion.diagonal(axis1=1, axis2=2)
    f1 = np.divide(2 * hits, num_true + num_answered, out=np.zeros_like(num_true), where=num_true + num_answered > 0)
    num_clips = num_true.sum(axis=1)
    return float(np.mean((f1 * num_true).sum(axis=1) / num_clips)) if num_clips.all() else float("nan")


def mean_recall(counts: np.ndarray, emotion: int) -> float:
    """Mean over seeds of the recall of one emotion; NaN where a seed has no clip of it."""
    confusion = counts.sum(axis=0)
    num_true = confusion[:, emotion].sum(axis=1)
    return float(np.mean(confusion[:, emotion, emotion] / num_true)) if num_true.all() else float("nan")
