"""How well found regions meet regions of known truth, per clip and over a corpus, always beside chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from avser.errors import AvserError
from avser.evaluation.statistics import Interval, clustered_interval
from avser.roi.intervals import step_intervals
from avser.structures import Curve, Region


@dataclass
class LocalizationScores:
    """Localisation of one modality over clips, each value with an interval from resampling speakers.

    Attributes:
        auroc: `frame_auroc`; chance is 0.5.
        iou, chance_iou, iou_gain: `interval_iou`, what the same regions placed at random reach, and the paired
            difference of the two: above 0 where the regions mean something.
        hit_rate, chance_hit_rate: `pointing_hit`, and the share of the steps that are true.
        num_clips, num_speakers: that went into the scores.
        num_silent: clips among them in which no region was found; their IoU is 0.
        num_left_out: clips without a true region, or with nothing outside it; they can show nothing.
    """

    auroc: Interval
    iou: Interval
    chance_iou: Interval
    iou_gain: Interval
    hit_rate: Interval
    chance_hit_rate: Interval
    num_clips: int
    num_speakers: int
    num_silent: int
    num_left_out: int


@dataclass
class LagScores:
    """How well the planted lag between voice and face is recovered.

    Attributes:
        error_s, chance_error_s: mean absolute difference in seconds, with the clip's own planted lag and with those of
            all other clips.
        median_error_s: the median of the same differences, which a few clips with a lost region do not move.
        constant_error_s: median difference when every clip is given the median planted lag, without looking at it: what
            must be beaten before a lag says anything about its clip.
        bias_s: mean of recovered minus planted; positive: the face is placed too early, or the voice too late.
        correlation: Pearson, over clips.
        num_clips, num_speakers: that went into the scores.
        num_left_out: clips in which either lag is unknown.
    """

    error_s: Interval
    chance_error_s: Interval
    median_error_s: Interval
    constant_error_s: float
    bias_s: Interval
    correlation: Interval
    num_clips: int
    num_speakers: int
    num_left_out: int


def score_localization(
    curves: Mapping[str, Curve],
    found: Mapping[str, Sequence[Region]],
    truths: Mapping[str, Sequence[Region]],
    speakers: Mapping[str, str],
    *,
    seed: int = 0,
) -> LocalizationScores:
    """Score the curves and regions of one modality against the truth, clip by clip, then over speakers.

    Args:
        curves: clip -> salience; the time that the curve covers is where random regions are placed.
        found, truths: clip -> regions of the same modality; a clip that is missing has none.
        speakers: clip -> speaker.

    Raises:
        AvserError: no clip has a curve, a true region and something outside it.
    """
    generator = np.random.default_rng(seed)
    rows, used = [], []
    for clip_id, curve in curves.items():
        truth, regions = truths.get(clip_id, []), found.get(clip_id, [])
        auroc = frame_auroc(curve, truth)
        if np.isnan(auroc):
            continue
        start_s, end_s = step_intervals(curve.times)[[0, -1], [0, 1]]
        here = [Region(t.modality, t.start_s - start_s, t.end_s - start_s) for t in truth]
        chance = chance_iou(end_s - start_s, here, [r.duration_s for r in regions], generator=generator)
        hit, chance_hit = pointing_hit(curve, truth), inside(curve.times, truth).mean()
        rows.append([auroc, interval_iou(regions, truth), chance, hit, chance_hit, not regions])
        used.append(clip_id)
    if not rows:
        raise AvserError("no clip has a curve with true regions and time outside them; give a corpus with regions.csv")
    auroc_, iou, chance_, hit_, chance_hit_, silent = np.array(rows, dtype=float).T
    clusters = [speakers[clip_id] for clip_id in used]

    def interval(values: np.ndarray) -> Interval:
        return clustered_interval(values, clusters, seed=seed)

    return LocalizationScores(
        auroc=interval(auroc_),
        iou=interval(iou),
        chance_iou=interval(chance_),
        iou_gain=interval(iou - chance_),
        hit_rate=interval(hit_),
        chance_hit_rate=interval(chance_hit_),
        num_clips=len(used),
        num_speakers=len(set(clusters)),
        num_silent=int(silent.sum()),
        num_left_out=len(curves) - len(used),
    )


def score_lags(
    planted: Mapping[str, float], recovered: Mapping[str, float], speakers: Mapping[str, str], *, seed: int = 0
) -> LagScores:
    """Hold recovered lags (`avser.roi.alignment.compare.region_lag_s`) against planted ones, both clip -> seconds.

    Raises:
        AvserError: fewer than two clips have both lags.
    """
    used = [c for c in recovered if np.isfinite([recovered[c], planted.get(c, np.nan)]).all()]
    if len(used) < 2:
        raise AvserError(f"{len(used)} clips have a planted and a recovered lag; at least 2 are needed")
    true, got = (np.array([lags[c] for c in used]) for lags in (planted, recovered))
    error, clusters = np.abs(got - true), [speakers[c] for c in used]
    others = (np.abs(got[:, None] - true[None, :]).sum(axis=1) - error) / (len(used) - 1)
    return LagScores(
        error_s=clustered_interval(error, clusters, seed=seed),
        chance_error_s=clustered_interval(others, clusters, seed=seed),
        median_error_s=clustered_interval(error, clusters, np.median, seed=seed),
        constant_error_s=float(np.median(np.abs(true - np.median(true)))),
        bias_s=clustered_interval(got - true, clusters, seed=seed),
        correlation=clustered_interval(np.stack([true, got], axis=1), clusters, _correlation, seed=seed),
        num_clips=len(used),
        num_speakers=len(set(clusters)),
        num_left_out=len(recovered) - len(used),
    )


def frame_auroc(curve: Curve, truth: Sequence[Region]) -> float:
    """Chance that a step inside the truth has a higher value than one outside (ties count half).

    A step is inside if its centre is. 0.5 is chance, 1 perfect; NaN if no step is inside, none outside, or a value is
    not finite.
    """
    is_in = inside(curve.times, truth)
    num_in, num_out = int(is_in.sum()), int((~is_in).sum())
    if not num_in or not num_out or not np.isfinite(curve.values).all():
        return float("nan")
    rank_sum = rankdata(curve.values)[is_in].sum()
    return float((rank_sum - num_in * (num_in + 1) / 2) / (num_in * num_out))


def interval_iou(found: Sequence[Region], truth: Sequence[Region]) -> float:
    """Time in both over time in either; overlapping regions of one side count once. NaN if both are empty."""
    a, b = _joined(found), _joined(truth)
    both = shared_s(a, b).sum()
    either = _length(a) + _length(b) - both
    return float(both / either) if either > 0 else float("nan")


def pointing_hit(curve: Curve, truth: Sequence[Region]) -> bool:
    """Whether the curve's highest step lies in the truth; with several equally high ones, all must (the pointing game,
    strict about ties, so that a flat curve does not hit)."""
    values = np.asarray(curve.values)
    if not len(values) or not np.isfinite(values).all():
        return False
    return bool(inside(np.asarray(curve.times)[values == values.max()], truth).all())


def chance_iou(
    duration_s: float,
    truth: Sequence[Region],
    found_lengths_s: Sequence[float],
    *,
    generator: np.random.Generator,
    num_draws: int = 500,
) -> float:
    """`interval_iou` to expect when regions of the found lengths are placed at random in the clip without overlap.

    Every placement without overlap is equally likely; the order is random too. 0 if nothing was found.
    """
    if not len(found_lengths_s):
        return 0.0
    placed = place_at_random(duration_s, np.asarray(found_lengths_s, dtype=float), num_draws, generator)
    length, true = (placed[0, :, 1] - placed[0, :, 0]).sum(), _joined(truth)
    both = shared_s(placed, true).sum(axis=(-2, -1))
    return float((both / (length + _length(true) - both)).mean())


def place_at_random(
    duration_s: float, lengths_s: np.ndarray, num_draws: int, generator: np.random.Generator
) -> np.ndarray:
    """(draws, R, 2) intervals of the lengths (R,) in random order and places, without overlap; shrunk to fit."""
    lengths = lengths_s * min(1.0, duration_s / lengths_s.sum())
    orders = generator.permuted(np.tile(np.arange(len(lengths)), (num_draws, 1)), axis=1)  # (draws, R)
    gaps = np.sort(generator.uniform(0, duration_s - lengths.sum(), orders.shape), axis=1)
    ends = gaps + np.cumsum(lengths[orders], axis=1)
    placed = np.stack([ends - lengths[orders], ends], axis=-1)
    back = np.argsort(orders, axis=1)  # each region in its own place of the list again
    return np.take_along_axis(placed, back[..., None], axis=1)


def inside(times: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """(T,) bool: which centres lie in any region."""
    is_in = np.zeros(len(times), dtype=bool)
    for region in regions:
        is_in |= (times >= region.start_s) & (times <= region.end_s)
    return is_in


def _joined(regions: Sequence[Region]) -> np.ndarray:
    """(R, 2) start and end of the regions' union, as disjoint intervals."""
    joined: list[list[float]] = []
    for start, end in sorted((r.start_s, r.end_s) for r in regions):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.array(joined, dtype=float).reshape(-1, 2)


def shared_s(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., R, S) seconds that each interval of a (..., R, 2) shares with each of b (S, 2)."""
    start = np.maximum(a[..., :, None, 0], b[:, 0])
    return np.clip(np.minimum(a[..., :, None, 1], b[:, 1]) - start, 0, None)


def _length(intervals: np.ndarray) -> float:
    return float((intervals[:, 1] - intervals[:, 0]).sum())


def _correlation(pairs: np.ndarray) -> float:
    true, got = pairs[:, 0] - pairs[:, 0].mean(), pairs[:, 1] - pairs[:, 1].mean()
    scale = np.sqrt((true @ true) * (got @ got))
    return float(true @ got / scale) if scale > 0 else float("nan")
