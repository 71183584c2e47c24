"""Measures between two curves, against numbers worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avser.errors import AvserError
from avser.roi.alignment.compare import (
    align_curves,
    centre_prior,
    chance_coverage_iou,
    common_grid,
    measure_alignment,
    measure_pair,
    region_lag_s,
    resample,
    top_cells,
)
from avser.structures import Curve, Region


def gaussian(centre_s: float, rate_hz: float, duration_s: float = 3.0, sd_s: float = 0.15) -> Curve:
    times = (np.arange(round(duration_s * rate_hz)) + 0.5) / rate_hz
    values = np.exp(-0.5 * ((times - centre_s) / sd_s) ** 2)
    return Curve(times, values / values.sum())


def box(start_s: float, end_s: float, rate_hz: float = 100, duration_s: float = 3.0) -> Curve:
    times = (np.arange(round(duration_s * rate_hz)) + 0.5) / rate_hz
    values = ((times > start_s) & (times < end_s)).astype(float)
    return Curve(times, values / values.sum())


@pytest.mark.parametrize("shift_s", [-0.3, -0.05, 0.0, 0.2, 0.45])
def test_shifted_gaussians_at_different_rates(shift_s: float) -> None:
    """The voice at 25 steps a second, the face at 30: positive lags mean that the face leads."""
    a = measure_alignment(gaussian(1.5 + shift_s, 25), gaussian(1.5, 30))
    assert a.lag_s == pytest.approx(shift_s, abs=0.0101)
    assert a.w1_s == pytest.approx(abs(shift_s), abs=0.005)
    assert a.centroid_difference_s == pytest.approx(shift_s, abs=0.005)
    assert a.onset_difference_s == pytest.approx(shift_s, abs=0.03)
    assert a.peak_difference_s == pytest.approx(shift_s, abs=0.03)
    assert a.r_max > 0.99


def test_identical_curves() -> None:
    a = measure_alignment(gaussian(1.2, 50), gaussian(1.2, 50))
    assert (a.js, a.w1_s, a.lag_s, a.iou) == pytest.approx((0, 0, 0, 1), abs=1e-9)
    assert (a.r0, a.rho0, a.r_max) == pytest.approx((1, 1, 1))
    assert a.audio_effective == pytest.approx(a.video_effective)


def test_disjoint_boxes() -> None:
    a = measure_alignment(box(0.5, 1.0), box(2.0, 2.5), smooth_s=0)
    assert a.js == pytest.approx(1)
    assert a.w1_s == pytest.approx(1.5, abs=1e-6)
    assert a.r0 == pytest.approx(-0.2)  # -k/(N-k) for boxes of k of N cells: -0.5/2.5
    assert a.audio_effective == pytest.approx(0.5 / 3)


def test_half_overlapping_boxes() -> None:
    """Half of the mass is shared: JS is 1/2, and IoU of the top sixth is a third."""
    a = measure_alignment(box(1.0, 1.5), box(1.25, 1.75), smooth_s=0, coverage=1 / 6)
    assert a.js == pytest.approx(0.5)
    assert a.iou == pytest.approx(1 / 3)
    assert a.onset_difference_s == pytest.approx(-0.25)
    assert a.lag_s == pytest.approx(-0.25)


def test_a_uniform_curve_fills_the_time_and_has_no_correlation() -> None:
    a = measure_alignment(Curve(gaussian(1, 50).times, np.full(150, 1 / 150)), gaussian(1, 50))
    assert a.audio_effective == pytest.approx(1)
    assert np.isnan([a.r0, a.r_max, a.lag_s]).all()


def test_independent_top_cells_meet_as_often_as_chance_says() -> None:
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(400):
        a, b = (top_cells(rng.normal(size=300), 0.2) for _ in range(2))
        overlaps.append((a & b).sum() / (a | b).sum())
    assert np.mean(overlaps) == pytest.approx(chance_coverage_iou(0.2), abs=0.004)
    assert chance_coverage_iou(0.2) == pytest.approx(1 / 9)


def test_resampling_preserves_area_and_leaves_holes_empty() -> None:
    curve = Curve(np.array([0.05, 0.15, 0.25, 1.05, 1.15]), np.array([0.1, 0.2, 0.3, 0.3, 0.1]))
    grid = (np.arange(150) + 0.5) / 100
    values = resample(curve, grid)
    assert values.sum() == pytest.approx(1)
    np.testing.assert_allclose(values[:10], 0.01)  # 0.1 spread over ten cells
    assert values[40:94].sum() == 0  # steps reach one median step into the hole, not further


@given(num_a=st.integers(4, 80), num_b=st.integers(4, 80), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_measures_keep_their_ranges_and_change_sign_when_swapped(num_a: int, num_b: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = [Curve((np.arange(n) + 0.5) * 2 / n, rng.dirichlet(np.ones(n))) for n in (num_a, num_b)]
    one, other = measure_alignment(*curves), measure_alignment(*curves[::-1])
    assert 0 <= one.js <= 1
    assert 0 <= one.iou <= 1
    assert 0 <= one.w1_s <= 2
    assert one.r0 <= one.r_max + 1e-9 <= 1 + 2e-9
    assert abs(one.lag_s) <= 0.5
    assert (one.js, one.w1_s, one.r_max) == pytest.approx((other.js, other.w1_s, other.r_max), abs=1e-6)
    assert one.centroid_difference_s == pytest.approx(-other.centroid_difference_s)


def test_best_lag_agrees_with_correlating_every_overlap() -> None:
    rng = np.random.default_rng(3)
    curves = [Curve((np.arange(200) + 0.5) / 100, rng.dirichlet(np.full(200, 0.3))) for _ in range(2)]
    pair = align_curves(*curves)
    direct = {}
    for lag in range(-50, 51):
        a, v = pair.audio[max(lag, 0) : 200 + min(lag, 0)], pair.video[max(-lag, 0) : 200 - max(lag, 0)]
        direct[lag] = np.corrcoef(a, v)[0, 1]
    best = max(direct, key=lambda k: direct[k])
    measured = measure_pair(pair)
    assert measured.lag_s == pytest.approx(best / 100)
    assert measured.r_max == pytest.approx(direct[best])


def test_a_null_model_can_shift_a_pair() -> None:
    """What the null models will do: change a gridded curve and measure with the same code."""
    pair = align_curves(gaussian(1.5, 50), gaussian(1.5, 50))
    shifted = dataclasses.replace(pair, video=np.roll(pair.video, 30))
    assert measure_pair(shifted).lag_s == pytest.approx(-0.3, abs=0.011)


def test_only_the_common_time_counts() -> None:
    long, short = gaussian(1.0, 50, duration_s=4.0), gaussian(1.0, 50, duration_s=2.0)
    grid = common_grid(long, short)
    assert (grid[0], grid[-1], len(grid)) == pytest.approx((0.005, 1.995, 200))
    assert measure_alignment(long, short).js == pytest.approx(0, abs=1e-6)


def test_curves_that_cannot_be_compared_are_refused() -> None:
    empty = Curve(np.zeros(0), np.zeros(0))
    for a, b in ((gaussian(1, 50), empty), (empty, empty), (gaussian(1, 50), Curve(np.array([9.0, 9.1]), np.ones(2)))):
        with pytest.raises(AvserError, match="in common"):
            measure_alignment(a, b)
    with pytest.raises(AvserError, match="video curve is zero or not finite"):
        measure_alignment(gaussian(1, 50), Curve(gaussian(1, 50).times, np.zeros(150)))
    with pytest.raises(AvserError, match="audio curve is zero or not finite"):
        measure_alignment(Curve(gaussian(1, 50).times, np.full(150, np.nan)), gaussian(1, 50))


def test_region_lag_takes_the_strongest_regions() -> None:
    audio = [Region("audio", 0.0, 0.2, mass=0.1), Region("audio", 1.0, 1.4, mass=0.6)]
    video = [Region("video", 0.8, 1.2, mass=0.5), Region("video", 2.0, 2.2, mass=0.3)]
    assert region_lag_s(audio, video) == pytest.approx(0.2)
    assert np.isnan(region_lag_s([], video))
    assert np.isnan(region_lag_s(audio, []))


def test_values_below_zero_count_as_zero() -> None:
    signed = gaussian(1.0, 50)
    signed.values[100:] = -0.01
    clipped = Curve(signed.times, np.clip(signed.values, 0, None))
    assert measure_alignment(signed, gaussian(1.2, 50)) == measure_alignment(clipped, gaussian(1.2, 50))


def test_distances_in_shares_of_the_time() -> None:
    a = measure_alignment(box(0.5, 1.0), box(2.0, 2.5), smooth_s=0)
    assert a.w1_share == pytest.approx(0.5)
    assert measure_alignment(box(1.0, 1.5), box(1.25, 1.75), smooth_s=0).js_distance == pytest.approx(np.sqrt(0.5))


def test_warping_forgives_what_its_band_allows() -> None:
    """Half of 0.3 s apart is inside the band, 0.8 s is not."""
    near = measure_alignment(gaussian(1.5, 100), gaussian(1.65, 100))
    far = measure_alignment(gaussian(1.1, 100), gaussian(1.9, 100))
    same = measure_alignment(gaussian(1.5, 100), gaussian(1.5, 100))
    assert same.dtw_cost == pytest.approx(0, abs=1e-6)
    assert same.dtw_warp_s == pytest.approx(0, abs=1e-6)
    assert near.dtw_cost < 0.01
    assert 0.02 < near.dtw_warp_s <= 0.15
    assert far.dtw_cost > 0.3
    narrow = measure_alignment(gaussian(1.5, 100), gaussian(1.65, 100), max_warp_s=0.05)
    assert narrow.dtw_cost > 10 * near.dtw_cost


def test_a_common_cause_is_taken_out() -> None:
    """Both curves follow the loudness, and each something of its own: without the loudness nothing is left."""
    rng = np.random.default_rng(5)
    times = (np.arange(3000) + 0.5) / 100
    loudness, own_a, own_v = (rng.uniform(size=3000) for _ in range(3))
    audio, video = (Curve(times, 3 * loudness + own) for own in (own_a, own_v))
    level = Curve(times, 20 * loudness - 60)  # decibels: below zero
    found = measure_alignment(audio, video, controls=[level], smooth_s=0)
    assert found.r0 > 0.85
    assert found.partial_r0 == pytest.approx(0, abs=0.05)
    assert abs(found.partial_rho0 or 1) < 0.2
    # By the formula for one control: (r_av - r_al r_vl) / sqrt((1 - r_al^2)(1 - r_vl^2))
    r = np.corrcoef([audio.values, video.values, level.values])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert found.partial_r0 == pytest.approx(expected, abs=1e-6)


def test_controls_that_say_nothing_change_nothing_and_those_that_say_all_leave_nothing() -> None:
    audio, video = gaussian(1.4, 100), gaussian(1.5, 100, sd_s=0.3)
    constant = Curve(audio.times, np.full(300, -30.0))
    found = measure_alignment(audio, video, controls=[constant])
    assert (found.partial_r0, found.partial_rho0) == pytest.approx((found.r0, found.rho0))
    assert measure_alignment(audio, video).partial_r0 is None
    assert np.isnan(measure_alignment(audio, video, controls=[audio], smooth_s=0).partial_r0 or 0)


def test_the_centre_prior_stands_in_the_middle_of_the_common_time() -> None:
    prior = centre_prior(gaussian(1, 50, duration_s=4.0), gaussian(1, 50, duration_s=2.0))
    assert prior.times @ prior.values / prior.values.sum() == pytest.approx(1)
    assert prior.values[0] == pytest.approx(np.exp(-0.5 * (0.995 / 0.5) ** 2))
