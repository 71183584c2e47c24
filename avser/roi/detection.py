"""Found regions as detections: the average precision of temporal action localisation, beside chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avser.errors import AvserError
from avser.evaluation.statistics import Interval, clustered_interval
from avser.roi.intervals import step_intervals
from avser.roi.localization import inside, place_at_random, shared_s
from avser.structures import Curve, Region


@dataclass
class DetectionScores:
    """Average precision of the regions of all clips together, with intervals from resampling speakers.

    Attributes:
        min_iou: overlap over union from which a found region counts as a true one.
        precision: `average_precision`, the mean over emotions where regions carry one.
        chance: the same when every clip's regions keep their lengths and scores and lie anywhere in it.
        gain: the paired difference of the two.
        num_found, num_true: regions.
        num_clips, num_speakers: that went into the scores, clips without a true region included: what is found there
            is a false alarm.
    """

    min_iou: float
    precision: Interval
    chance: Interval
    gain: Interval
    num_found: int
    num_true: int
    num_clips: int
    num_speakers: int


def score_detection(
    curves: Mapping[str, Curve],
    found: Mapping[str, Sequence[Region]],
    truths: Mapping[str, Sequence[Region]],
    speakers: Mapping[str, str],
    *,
    min_iou: float,
    scores: Mapping[str, Sequence[float]] | None = None,
    emotions: Mapping[str, tuple[str, str]] | None = None,
    num_draws: int = 50,
    seed: int = 0,
) -> DetectionScores:
    """Rank the regions of all clips of one modality, and see how many of the true ones stand how high.

    This is the (mean) average precision of temporal action localisation. A found region is right if it overlaps a true
    one of its clip by `min_iou` that no better found one has taken.

    Args:
        curves: clip -> salience; all clips count, and random regions are placed in the time that the curve covers.
        found, truths: clip -> regions of the same modality; a clip that is missing has none.
        speakers: clip -> speaker.
        scores: clip -> a number for each found region, by which they are ranked; None takes their mass. See
            `region_peaks`.
        emotions: clip -> the emotion that its found regions are said to carry, and the true one. Then precision is
            averaged over the emotions that have true regions, and what carries a wrong name is a false alarm. None: a
            region is a region.
        num_draws: random placements behind the chance.

    Raises:
        AvserError: there is no true region.
    """
    clips = list(curves)
    if not any(truths.get(c) for c in clips):
        raise AvserError("no clip has a true region; give a corpus with regions.csv")
    generator = np.random.default_rng(seed)
    ious = [_clip_ious(curves[c], found.get(c, []), truths.get(c, []), num_draws, generator) for c in clips]
    ranked_by = [[r.mass for r in found.get(c, [])] if scores is None else list(scores.get(c, [])) for c in clips]
    names = [("", "") if emotions is None else emotions[c] for c in clips]
    ranks = _rank(ious, ranked_by, [len(truths.get(c, [])) for c in clips], names, min_iou)
    clusters, indices = [speakers[c] for c in clips], np.arange(len(clips))

    def interval(rows: slice, gain: bool = False) -> Interval:
        def statistic(chosen: np.ndarray) -> float:
            values = _mean_precision(ranks, np.bincount(chosen, minlength=len(clips)), rows)
            return float(values[0] - values[1:].mean() if gain else values.mean())

        return clustered_interval(indices, clusters, statistic, seed=seed)

    return DetectionScores(
        min_iou=min_iou,
        precision=interval(slice(1)),
        chance=interval(slice(1, None)),
        gain=interval(slice(None), gain=True),
        num_found=sum(len(found.get(c, [])) for c in clips),
        num_true=sum(len(truths.get(c, [])) for c in clips),
        num_clips=len(clips),
        num_speakers=len(set(clusters)),
    )


def average_precision(is_right: np.ndarray, num_true: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under precision over recall, by all points (as PASCAL VOC has it since 2010, and ActivityNet).

    The precision at a recall is the highest that is reached at that recall or beyond.

    Args:
        is_right: (..., R) bool, regions from the highest score to the lowest.
        num_true: true regions, found or not; NaN comes back where there are none.
        weights: (R,) how often each region counts; None: once.

    Returns:
        (...) in [0, 1].
    """
    if not num_true or not is_right.shape[-1]:
        return np.full(is_right.shape[:-1], 0.0 if num_true else np.nan)
    weights = np.ones(is_right.shape[-1]) if weights is None else weights
    right = np.cumsum(is_right * weights, axis=-1)
    precision = right / np.maximum(np.cumsum(weights), 1e-12)
    reached = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return (reached * is_right * weights).sum(axis=-1) / num_true


def match_regions(ious: np.ndarray, min_iou: float) -> np.ndarray:
    """Which found regions are right: each in turn takes the free true region that it overlaps most, if by enough.

    Args:
        ious: (..., R, S) overlap over union of found regions, from the highest score to the lowest, and true ones.

    Returns:
        (..., R) bool; each true region is taken once at most.
    """
    is_right = np.zeros(ious.shape[:-1], dtype=bool)
    if not ious.size:
        return is_right
    left = ious.copy()
    for r in range(ious.shape[-2]):
        best = left[..., r, :].argmax(axis=-1)
        is_right[..., r] = np.take_along_axis(left[..., r, :], best[..., None], axis=-1)[..., 0] >= min_iou
        taken = is_right[..., r, None] & (np.arange(ious.shape[-1]) == best[..., None])
        left = np.where(taken[..., None, :], -1.0, left)
    return is_right


def region_peaks(curve: Curve, regions: Sequence[Region]) -> list[float]:
    """The highest value of a curve in each region, to rank them by; the lowest of all where no step lies inside."""
    values = np.asarray(curve.values, dtype=float)
    parts = [values[inside(curve.times, [region])] for region in regions]
    return [float(part.max() if len(part) else values.min()) for part in parts]


@dataclass
class _Ranks:
    """The regions of all clips that are said to carry one emotion, from the highest score to the lowest.

    Attributes:
        is_right: (1 + draws, R) bool; row 0 as found, the others placed at random.
        clip: (R,) index of each region's clip.
        num_true: (N,) true regions of that emotion in each clip.
    """

    is_right: np.ndarray
    clip: np.ndarray
    num_true: np.ndarray


def _clip_ious(
    curve: Curve, found: Sequence[Region], truth: Sequence[Region], num_draws: int, generator: np.random.Generator
) -> np.ndarray:
    """(1 + draws, R, S) overlap over union of a clip's found regions, as they are and at random, with its true ones."""
    true = np.array([(t.start_s, t.end_s) for t in truth], dtype=float).reshape(-1, 2)
    if not found:
        return np.zeros((1 + num_draws, 0, len(true)))
    spans = np.array([(r.start_s, r.end_s) for r in found], dtype=float)
    begin_s, end_s = step_intervals(curve.times)[[0, -1], [0, 1]]
    placed = begin_s + place_at_random(end_s - begin_s, spans[:, 1] - spans[:, 0], num_draws, generator)
    intervals = np.concatenate([spans[None], placed])
    both = shared_s(intervals, true)
    lengths = (intervals[..., 1] - intervals[..., 0])[..., None]
    return both / (lengths + (true[:, 1] - true[:, 0]) - both)


def _rank(
    ious: Sequence[np.ndarray],
    scores: Sequence[Sequence[float]],
    num_true: Sequence[int],
    names: Sequence[tuple[str, str]],
    min_iou: float,
) -> list[_Ranks]:
    """For each emotion that has true regions, all that was found of it; equal scores stay in the order of clips."""
    ranks = []
    for emotion in sorted({true for (_, true), num in zip(names, num_true, strict=True) if num}):
        rows, clip, score = [], list[int](), list[float]()
        for i, (named, true) in enumerate(names):
            if named != emotion:
                continue
            order = np.argsort(-np.asarray(scores[i], dtype=float), kind="stable")
            here = ious[i][:, order] if true == emotion else ious[i][:, order, :0]
            rows.append(match_regions(here, min_iou))
            clip += [i] * len(order)
            score += [scores[i][j] for j in order]
        is_right = np.concatenate(rows, axis=1) if rows else np.zeros((len(ious[0]), 0), dtype=bool)
        best_first = np.argsort(-np.asarray(score), kind="stable")
        own = np.array([num if true == emotion else 0 for (_, true), num in zip(names, num_true, strict=True)])
        ranks.append(_Ranks(is_right[:, best_first], np.array(clip, dtype=int)[best_first], own))
    return ranks


def _mean_precision(ranks: Sequence[_Ranks], counts: np.ndarray, rows: slice) -> np.ndarray:
    """(1 + draws,)[rows] where clip i counts `counts[i]` times; emotions that are not left have no say."""
    values = [
        average_precision(rank.is_right[rows], int(rank.num_true @ counts), counts[rank.clip].astype(float))
        for rank in ranks
    ]
    known = [value for value in values if not np.isnan(value).any()]
    return np.mean(known, axis=0) if known else np.full(values[0].shape, np.nan)
