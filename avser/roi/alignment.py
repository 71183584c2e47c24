"""Compare the curve of the voice with the curve of the face: same moments, same shape, and who leads?

Both curves are brought onto one grid in seconds first (`align_curves`), because their steps differ in number and
length; `measure_pair` then takes all measures from the two gridded curves. Null models shift or re-pair the curves of a
`CurvePair` and call `measure_pair` again, so chance is measured with the very code that measures the value.

Sign, everywhere: audio time minus video time, so positive means that the face leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import rankdata

from avser.errors import AvserError
from avser.roi.intervals import is_flat, step_intervals
from avser.structures import Curve, Region

MAX_LAG_S = 0.5
COVERAGE = 0.2


@dataclass
class CurvePair:
    """Two curves on one grid.

    Attributes:
        times: (N,) centre of each cell in seconds, evenly spaced.
        audio, video: (N,) share of the curve in each cell; each sums to 1.
        rate_hz: cells a second.
    """

    times: np.ndarray
    audio: np.ndarray
    video: np.ndarray
    rate_hz: float


@dataclass
class Alignment:
    """How the curve of the voice and that of the face lie to each other, over the time that both cover.

    Attributes:
        r0, rho0: Pearson and Spearman correlation at lag 0; NaN where a curve is flat.
        r_max: highest Pearson correlation over lags of up to half a second, taken on the overlap.
        lag_s: the lag of `r_max`; positive: the face leads.
        js: Jensen-Shannon divergence, base 2, in [0, 1]; 0 for equal curves, 1 for disjoint ones.
        w1_s: Wasserstein distance: by how many seconds mass must move, on average.
        iou: overlap over union of the top 20 % of the time of each; `chance_coverage_iou` for unrelated curves.
        onset_difference_s, peak_difference_s, centroid_difference_s: start of the first region at that coverage,
            highest point, centre of mass; audio minus video.
        audio_effective, video_effective: exp(entropy) as a share of the time, in (0, 1]; small = focal.
    """

    r0: float
    rho0: float
    r_max: float
    lag_s: float
    js: float
    w1_s: float
    iou: float
    onset_difference_s: float
    peak_difference_s: float
    centroid_difference_s: float
    audio_effective: float
    video_effective: float


def measure_alignment(
    audio: Curve,
    video: Curve,
    *,
    rate_hz: float = 100,
    smooth_s: float = 0.05,
    max_lag_s: float = MAX_LAG_S,
    coverage: float = COVERAGE,
) -> Alignment:
    """All measures between two salience curves (non-negative; values below zero count as zero).

    Raises:
        AvserError: the curves cover less than three grid cells in common, or a curve is empty, zero or not finite.
    """
    pair = align_curves(audio, video, rate_hz=rate_hz, smooth_s=smooth_s)
    return measure_pair(pair, max_lag_s=max_lag_s, coverage=coverage)


def align_curves(audio: Curve, video: Curve, *, rate_hz: float = 100, smooth_s: float = 0.05) -> CurvePair:
    """Both curves on the grid of the time that both cover, smoothed with a Gaussian, each summing to 1."""
    grid = common_grid(audio, video, rate_hz)
    shares = []
    for name, curve in (("audio", audio), ("video", video)):
        values = resample(Curve(curve.times, np.clip(curve.values, 0, None)), grid)
        if not np.isfinite(values).all() or values.sum() <= 0:
            raise AvserError(f"the {name} curve is zero or not finite from {grid[0]:.2f} to {grid[-1]:.2f} s")
        if smooth_s > 0:
            values = gaussian_filter1d(values, smooth_s * rate_hz, mode="reflect")  # reflect: no mass is lost
        shares.append(values / values.sum())
    return CurvePair(grid, shares[0], shares[1], rate_hz)


def measure_pair(pair: CurvePair, *, max_lag_s: float = MAX_LAG_S, coverage: float = COVERAGE) -> Alignment:
    """All measures between two gridded curves."""
    a, v, times = pair.audio, pair.video, pair.times
    r_max, lag_s = _best_lag(a, v, pair.rate_hz, max_lag_s)
    top_a, top_v = top_cells(a, coverage), top_cells(v, coverage)
    return Alignment(
        r0=_pearson(a, v),
        rho0=_pearson(rankdata(a), rankdata(v)),
        r_max=r_max,
        lag_s=lag_s,
        js=jensen_shannon(a, v),
        w1_s=float(np.abs(np.cumsum(a - v)).sum() / pair.rate_hz),
        iou=float((top_a & top_v).sum() / (top_a | top_v).sum()),
        onset_difference_s=float(times[top_a.argmax()] - times[top_v.argmax()]),
        peak_difference_s=float(times[a.argmax()] - times[v.argmax()]),
        centroid_difference_s=float(times @ (a - v)),
        audio_effective=_effective_share(a),
        video_effective=_effective_share(v),
    )


def region_lag_s(audio_regions: Sequence[Region], video_regions: Sequence[Region]) -> float:
    """Centre of the strongest audio region minus that of the strongest video region, in seconds.

    Strongest means most mass. This is the lag to hold against a planted one. NaN where a modality has no region.
    """
    if not audio_regions or not video_regions:
        return float("nan")
    audio, video = (max(regions, key=lambda r: r.mass) for regions in (audio_regions, video_regions))
    return audio.centre_s - video.centre_s


def common_grid(a: Curve, b: Curve, rate_hz: float = 100) -> np.ndarray:
    """Centres (N,) of the cells of 1 / `rate_hz` seconds that fit into the time which both curves cover.

    Raises:
        AvserError: fewer than three cells fit.
    """
    spans = [step_intervals(c.times) for c in (a, b)]
    start = max((s[0, 0] for s in spans if len(s)), default=0.0)
    end = min((s[-1, 1] for s in spans if len(s)), default=0.0)
    num_cells = int(np.floor((end - start) * rate_hz + 1e-6))
    if not len(a) or not len(b) or num_cells < 3:
        raise AvserError(
            f"curves of {len(a)} and {len(b)} steps have {max(0.0, end - start) if len(a) and len(b) else 0:.2f} s in "
            f"common, but alignment needs at least {3 / rate_hz:.2f} s; compare clips that have a voice and a face"
        )
    return start + (np.arange(num_cells) + 0.5) / rate_hz


def resample(curve: Curve, grid: np.ndarray) -> np.ndarray:
    """Spread each step's value evenly over its duration and collect it in the cells around `grid` (N,), in seconds.

    Area is preserved: the result sums to what the curve holds between the first and the last edge of the grid. Holes
    between steps (frames without a face) hold nothing.
    """
    half = (grid[1] - grid[0]) / 2
    edges = np.r_[grid - half, grid[-1] + half]
    collected = np.cumsum(curve.values)
    sums = np.stack([np.r_[0, collected[:-1]], collected], axis=-1)  # (T, 2), before and after each step
    return np.diff(np.interp(edges, step_intervals(curve.times).ravel(), sums.ravel()))


def top_cells(values: np.ndarray, coverage: float) -> np.ndarray:
    """(N,) bool: the highest cells that fill the share `coverage`, at least one; earlier cells win ties."""
    num_cells = max(1, round(coverage * len(values)))
    top = np.zeros(len(values), dtype=bool)
    top[np.argsort(-values, kind="stable")[:num_cells]] = True
    return top


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions (N,), base 2, in [0, 1]; its square root is a metric."""
    middle = (p + q) / 2
    return float(np.clip((_divergence(p, middle) + _divergence(q, middle)) / 2, 0, 1))


def chance_coverage_iou(coverage: float = COVERAGE) -> float:
    """Overlap over union expected of two unrelated sets that each fill `coverage` of the time: q / (2 - q)."""
    return coverage / (2 - coverage)


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())


def _effective_share(p: np.ndarray) -> float:
    some = p[p > 0]
    return float(np.exp(-(some * np.log(some)).sum()) / len(p))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    if is_flat(a) or is_flat(b):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _best_lag(audio: np.ndarray, video: np.ndarray, rate_hz: float, max_lag_s: float) -> tuple[float, float]:
    """(r_max, lag in seconds): the highest Pearson correlation of audio(t + lag) with video(t) on their overlap.

    Lags that leave less than half of the time as overlap are not tried: a short overlap correlates by chance. Of equal
    correlations the one with the smallest lag is taken. Sums over every overlap come from cumulative sums.
    """
    num = len(audio)
    if is_flat(audio) or is_flat(video):
        return float("nan"), float("nan")
    a, v = audio - audio.mean(), video - video.mean()
    reach = min(int(round(max_lag_s * rate_hz)), num // 2)
    lags = np.arange(-reach, reach + 1)
    start_a, start_v, size = np.maximum(lags, 0), np.maximum(-lags, 0), num - np.abs(lags)

    def overlap_sums(x: np.ndarray, start: np.ndarray) -> np.ndarray:
        total = np.r_[0, np.cumsum(x)]
        return total[start + size] - total[start]

    sum_a, sum_v = overlap_sums(a, start_a), overlap_sums(v, start_v)
    products = np.correlate(a, v, mode="full")[num - 1 + lags]
    var_a = overlap_sums(a * a, start_a) - sum_a**2 / size
    var_v = overlap_sums(v * v, start_v) - sum_v**2 / size
    shaped = (var_a > 1e-6 * (a @ a)) & (var_v > 1e-6 * (v @ v))
    scale = np.sqrt(np.where(shaped, var_a * var_v, 1))
    r = np.where(shaped, (products - sum_a * sum_v / size) / scale, -1)
    best = np.lexsort((np.abs(lags), -np.round(r, 9)))[0]
    return float(min(r[best], 1)), float(lags[best] / rate_hz)
