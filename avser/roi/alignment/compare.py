"""Compare the curve of the voice with the curve of the face: same moments, same shape, and who leads?

Both curves are brought onto one grid in seconds first (`align_curves`), because their steps differ in number and
length; `measure_pair` then takes all measures from the two gridded curves. The measures themselves are those of
`avser.roi.alignment.pair_measures`, which the null models (`avser.roi.alignment.nulls`) call too, so chance is measured
with the very code that measures the value.

Sign, everywhere: audio time minus video time, so positive means that the face leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import rankdata

from avser.errors import AvserError
from avser.evaluation.soft_labels import jensen_shannon
from avser.roi.alignment.pair_measures import (
    best_lags,
    flat_rows,
    overlaps,
    residuals,
    standardise,
    top_cells,
    warp,
    wasserstein_cells,
)
from avser.roi.intervals import step_intervals
from avser.structures import Curve, Region

MAX_LAG_S = 0.5
MAX_WARP_S = 0.3
COVERAGE = 0.2
CENTRE_SD = 0.25  # of the time: standard deviation of the centre prior (our choice)


@dataclass
class CurvePair:
    """Two curves on one grid.

    Attributes:
        times: (N,) centre of each cell in seconds, evenly spaced.
        audio, video: (N,) share of the curve in each cell; each sums to 1.
        rate_hz: cells a second.
        controls: (K, N) levels that may drive both curves, e.g. the loudness, or None.
    """

    times: np.ndarray
    audio: np.ndarray
    video: np.ndarray
    rate_hz: float
    controls: np.ndarray | None = None


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
        js_distance: square root of `js`, a metric.
        w1_share: `w1_s` as a share of the time, so that long and short clips compare.
        dtw_cost: mean distance along the best warping of up to 0.3 s, of curves in standard deviations
            (`pair_measures.warp`); 0 for curves that are equal but for that warping, NaN where a curve is flat.
        dtw_warp_s: by how many seconds that warping displaces, on average along its path.
        partial_r0, partial_rho0: `r0`, `rho0` once what the controls explain is taken out of both curves (of their
            ranks, for `partial_rho0`); None without controls, NaN where they explain a whole curve.
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
    js_distance: float
    w1_share: float
    dtw_cost: float
    dtw_warp_s: float
    partial_r0: float | None = None
    partial_rho0: float | None = None


def measure_alignment(
    audio: Curve,
    video: Curve,
    *,
    controls: Sequence[Curve] = (),
    rate_hz: float = 100,
    smooth_s: float = 0.05,
    max_lag_s: float = MAX_LAG_S,
    max_warp_s: float = MAX_WARP_S,
    coverage: float = COVERAGE,
) -> Alignment:
    """All measures between two salience curves (non-negative; values below zero count as zero).

    Args:
        controls: levels along the clip to take out of both curves in the partial correlations, e.g. loudness, voicing
            and the `centre_prior`.

    Raises:
        AvserError: the curves cover less than three grid cells in common, or a curve is empty, zero or not finite.
    """
    pair = align_curves(audio, video, controls=controls, rate_hz=rate_hz, smooth_s=smooth_s)
    return measure_pair(pair, max_lag_s=max_lag_s, max_warp_s=max_warp_s, coverage=coverage)


def align_curves(
    audio: Curve, video: Curve, *, controls: Sequence[Curve] = (), rate_hz: float = 100, smooth_s: float = 0.05
) -> CurvePair:
    """Both curves on the grid of the time that both cover, smoothed with a Gaussian, each summing to 1.

    Controls are levels, not shares of anything: they are interpolated, smoothed alike, and may be negative.
    """
    grid = common_grid(audio, video, rate_hz)
    shares = []
    for name, curve in (("audio", audio), ("video", video)):
        values = resample(Curve(curve.times, np.clip(curve.values, 0, None)), grid)
        if not np.isfinite(values).all() or values.sum() <= 0:
            raise AvserError(f"the {name} curve is zero or not finite from {grid[0]:.2f} to {grid[-1]:.2f} s")
        values = _smooth(values, smooth_s * rate_hz)
        shares.append(values / values.sum())
    levels = None
    if controls:
        levels = np.stack([_smooth(np.interp(grid, c.times, c.values), smooth_s * rate_hz) for c in controls])
        if not np.isfinite(levels).all():
            raise AvserError("a control curve holds values that are not finite")
    return CurvePair(grid, shares[0], shares[1], rate_hz, levels)


def centre_prior(audio: Curve, video: Curve, *, rate_hz: float = 100, sd_share: float = CENTRE_SD) -> Curve:
    """A Gaussian in the middle of the time that both curves cover: what "emotion peaks mid-clip" alone predicts.

    Args:
        sd_share: its standard deviation as a share of that time.
    """
    grid = common_grid(audio, video, rate_hz)
    sd_s = sd_share * len(grid) / rate_hz
    return Curve(grid, np.exp(-0.5 * ((grid - grid.mean()) / sd_s) ** 2))


def measure_pair(
    pair: CurvePair, *, max_lag_s: float = MAX_LAG_S, max_warp_s: float = MAX_WARP_S, coverage: float = COVERAGE
) -> Alignment:
    """All measures between two gridded curves."""
    a, v, times = pair.audio, pair.video, pair.times
    shapes = standardise(np.stack([a, v]))
    ranks = standardise(rankdata([a, v], axis=-1))
    ranks[np.isnan(shapes)] = np.nan  # the ranks of a flat curve are noise
    r_max, lag = best_lags(shapes[:1], shapes[1:], np.array([round(max_lag_s * pair.rate_hz)]))
    scored = shapes * np.sqrt(len(times))  # in standard deviations
    band = np.array([round(max_warp_s * pair.rate_hz)])
    cost, displaced = warp(scored[:1], scored[1:], band)
    top_a, top_v = top_cells(a, coverage), top_cells(v, coverage)
    js, w1_cells = float(jensen_shannon(a, v)), float(wasserstein_cells(a, v))
    partial_r0, partial_rho0 = _partial(pair)
    return Alignment(
        r0=_product(shapes),
        rho0=_product(ranks),
        r_max=float(r_max[0]),
        lag_s=float(lag[0] / pair.rate_hz),
        js=js,
        w1_s=w1_cells / pair.rate_hz,
        iou=float(overlaps(top_a, top_v)),
        onset_difference_s=float(times[top_a.argmax()] - times[top_v.argmax()]),
        peak_difference_s=float(times[a.argmax()] - times[v.argmax()]),
        centroid_difference_s=float(times @ (a - v)),
        audio_effective=_effective_share(a),
        video_effective=_effective_share(v),
        js_distance=float(np.sqrt(js)),
        w1_share=w1_cells / len(times),
        dtw_cost=float(cost[0]),
        dtw_warp_s=float(displaced[0] / pair.rate_hz),
        partial_r0=partial_r0,
        partial_rho0=partial_rho0,
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


def chance_coverage_iou(coverage: float = COVERAGE) -> float:
    """Overlap over union expected of two unrelated sets that each fill `coverage` of the time: q / (2 - q)."""
    return coverage / (2 - coverage)


def _smooth(values: np.ndarray, sd_cells: float) -> np.ndarray:
    return gaussian_filter1d(values, sd_cells, mode="reflect") if sd_cells > 0 else values  # reflect: no mass is lost


def _effective_share(p: np.ndarray) -> float:
    some = p[p > 0]
    return float(np.exp(-(some * np.log(some)).sum()) / len(p))


def _product(standardised: np.ndarray) -> float:
    """Correlation of two standardised rows (2, N)."""
    return float(np.clip(standardised[0] @ standardised[1], -1, 1))


def _partial(pair: CurvePair) -> tuple[float | None, float | None]:
    """Pearson and Spearman correlation of what the controls leave; (None, None) without controls."""
    if pair.controls is None:
        return None, None
    curves = np.stack([pair.audio, pair.video])
    controls = pair.controls[~flat_rows(pair.controls)]
    left = residuals(curves, standardise(controls))
    left_ranks = residuals(rankdata(curves, axis=-1), standardise(rankdata(controls, axis=-1)))
    left_ranks[flat_rows(curves)] = np.nan
    return _product(left), _product(left_ranks)
