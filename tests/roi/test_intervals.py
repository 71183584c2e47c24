"""Regions from hand-made curves."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from itertools import pairwise
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.config import RoiConfig
from avser.errors import ConfigError
from avser.roi.intervals import RULES, describe_degenerate, find_regions, smooth_curve, smooth_steps, step_intervals
from avser.structures import Curve

RAW = {"smooth_s": 0.0, "merge_gap_s": 0.0, "min_duration_s": 0.0}


def make_curve(values: list[float], step_s: float = 0.1) -> Curve:
    """Steps of `step_s` from 0 on, normalised."""
    array = np.array(values, dtype=float)
    return Curve((np.arange(len(array)) + 0.5) * step_s, array / array.sum())


def spans(regions: list) -> list[tuple[float, float]]:
    return [(round(r.start_s, 6), round(r.end_s, 6)) for r in regions]


def test_kappa_takes_steps_above_a_multiple_of_the_mean() -> None:
    # mean 2: above 3 lie the steps of 4 and 6, but not that of 3
    regions = find_regions(make_curve([1, 1, 4, 6, 1, 1, 3, 1, 1, 1]), "audio", kappa=1.5, **RAW)
    assert spans(regions) == [(0.2, 0.4)]
    assert regions[0].mass == pytest.approx(0.5)
    assert regions[0].peak_s == pytest.approx(0.35)
    assert regions[0].modality == "audio"


def test_mass_takes_the_fewest_steps_that_hold_the_share() -> None:
    curve = make_curve([1, 2, 5, 1, 4, 1, 6])  # sum 20: 6 + 5 = 11 is the first to reach half
    assert spans(find_regions(curve, "video", rule="mass", mass=0.5, **RAW)) == [(0.2, 0.3), (0.6, 0.7)]
    assert spans(find_regions(curve, "video", rule="mass", mass=0.55, **RAW)) == [(0.2, 0.3), (0.6, 0.7)]
    assert len(find_regions(curve, "video", rule="mass", mass=0.56, **RAW)) == 3


def test_coverage_fills_a_share_of_the_time() -> None:
    curve = make_curve([1, 2, 5, 1, 4, 1, 6, 1, 1, 1])
    assert spans(find_regions(curve, "video", rule="coverage", coverage=0.3, **RAW)) == [
        (0.2, 0.3),
        (0.4, 0.5),
        (0.6, 0.7),
    ]


def test_close_regions_are_merged_and_short_ones_dropped() -> None:
    curve = make_curve([1, 8, 1, 8, 1, 1, 1, 1, 6, 1], step_s=0.05)
    merged = find_regions(curve, "audio", smooth_s=0, merge_gap_s=0.06, min_duration_s=0.08)
    assert spans(merged) == [(0.05, 0.2)]  # the island at 0.4 s lasts 0.05 s
    apart = find_regions(curve, "audio", smooth_s=0, merge_gap_s=0.05, min_duration_s=0.0)
    assert spans(apart) == [(0.05, 0.1), (0.15, 0.2), (0.4, 0.45)]


def test_if_all_are_short_the_strongest_stays() -> None:
    curve = make_curve([1, 8, 1, 1, 1, 1, 9, 1, 1, 1], step_s=0.02)
    regions = find_regions(curve, "video", smooth_s=0, merge_gap_s=0, min_duration_s=0.08)
    assert spans(regions) == [(0.12, 0.14)]


@pytest.mark.parametrize("rule", RULES)
def test_curves_without_shape_have_no_regions(rule: str) -> None:
    times = np.arange(5) / 10
    for values in (np.full(5, 0.2), np.full(5, np.nan), np.zeros(5), np.array([0.2, 0.2001, 0.2, 0.2, 0.1999])):
        assert find_regions(Curve(times, values), "audio", rule=rule) == []
    assert find_regions(Curve(np.zeros(0), np.zeros(0)), "audio", rule=rule) == []


def test_negative_contributions_are_not_regions() -> None:
    curve = Curve((np.arange(6) + 0.5) / 10, np.array([-9.0, -9.0, 1.0, 3.0, -1.0, 0.0]))
    # as zeros they leave a mean of 2/3; counted as they are, the mean would be negative and zero would stand out
    assert spans(find_regions(curve, "audio", **RAW)) == [(0.3, 0.4)]


def test_unknown_rule_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'top'.*coverage, kappa, mass"):
        find_regions(make_curve([1, 2, 3]), "audio", rule="top")


def test_frames_without_a_face_leave_a_hole() -> None:
    times = np.r_[np.arange(5), np.arange(20, 25)] / 10 + 0.05
    steps = step_intervals(times)
    assert steps[4, 1] == pytest.approx(0.45 + 0.1)  # not halfway to 2.05
    assert steps[5, 0] == pytest.approx(2.05 - 0.1)
    values = np.full(10, 1.0)
    values[4:6] = 9
    regions = find_regions(Curve(times, values / values.sum()), "video", smooth_s=0)
    assert len(regions) == 2


def test_a_region_does_not_begin_before_the_clip() -> None:
    curve = Curve(np.arange(10) / 10, np.r_[5, 5, np.ones(8)] / 18)
    assert find_regions(curve, "video", smooth_s=0)[0].start_s == 0


def test_smoothing_keeps_a_constant_and_has_the_width_asked_for() -> None:
    times = np.sort(np.random.default_rng(0).uniform(0, 5, 200))
    np.testing.assert_allclose(smooth_steps(np.full(200, 3.0), times, 0.1), 3)
    even = np.arange(1001) / 100
    impulse = (np.arange(1001) == 500).astype(float)
    smooth = smooth_steps(impulse, even, 0.1)
    assert smooth.sum() == pytest.approx(1)
    assert np.sqrt((smooth * (even - 5) ** 2).sum()) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no steps"),
        ([0.5, 0.5], "only 2 steps"),
        ([0.2, np.nan, 0.8], "not finite"),
        ([0.25] * 4, "same value"),
        ([0.0, 0.0, 1.0, 0.0], "single step at 0.25 s"),
    ],
)
def test_degenerate_curves_are_described(values: list[float], reason: str) -> None:
    description = describe_degenerate(Curve((np.arange(len(values)) + 0.5) / 10, np.array(values)))
    assert description is not None
    assert reason in description


def test_a_curve_with_shape_is_not_degenerate() -> None:
    assert describe_degenerate(make_curve([1, 2, 4, 2, 1])) is None


@given(
    values=st.lists(st.floats(0, 10), min_size=3, max_size=60),
    rule=st.sampled_from(sorted(RULES)),
    step_s=st.floats(0.01, 0.3),
)
def test_regions_are_ordered_apart_inside_the_clip_and_hold_their_mass(
    values: list[float], rule: str, step_s: float
) -> None:
    curve = Curve((np.arange(len(values)) + 0.5) * step_s, np.array(values))
    regions = find_regions(curve, "audio", rule=rule)
    assert all(0 <= r.start_s < r.end_s <= len(values) * step_s + 1e-9 for r in regions)
    assert all(b.start_s - a.end_s > 0 for a, b in pairwise(regions))
    assert sum(r.mass for r in regions) <= 1 + 1e-9
    assert all(r.peak_s is not None and r.start_s <= r.peak_s <= r.end_s for r in regions)


def test_defaults_are_those_of_the_configuration() -> None:
    parameters = inspect.signature(find_regions).parameters.values()
    assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} == asdict(RoiConfig())
    assert sorted(RULES) == sorted(get_args(get_type_hints(RoiConfig)["rule"]))


def test_a_flat_curve_stays_as_it_is_when_smoothed() -> None:
    """So that rounding does not rank its steps."""
    flat = Curve((np.arange(40) + 0.5) * 0.07, np.full(40, 1 / 40))
    np.testing.assert_array_equal(smooth_curve(flat, 0.2).values, flat.values)
    assert np.ptp(smooth_steps(flat.values, flat.times, 0.2)) > 0
    assert len(smooth_curve(Curve(np.zeros(0), np.zeros(0)), 0.2)) == 0
