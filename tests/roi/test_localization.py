"""Scores against truth, by hand and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from avser.errors import AvserError
from avser.roi.localization import (
    chance_iou,
    frame_auroc,
    interval_iou,
    pointing_hit,
    score_lags,
    score_localization,
)
from avser.structures import Curve, Region

TIMES = (np.arange(10) + 0.5) / 10


def regions(*spans: tuple[float, float]) -> list[Region]:
    return [Region("audio", start, end) for start, end in spans]


def test_auroc_by_hand() -> None:
    truth = regions((0.2, 0.4))  # steps 2 and 3
    assert frame_auroc(Curve(TIMES, np.eye(10)[2] + np.eye(10)[3]), truth) == 1
    assert frame_auroc(Curve(TIMES, np.ones(10)), truth) == 0.5
    values = np.array([0, 0, 3, 1, 2, 0, 0, 0, 0, 0.0])  # of 16 pairs only (step 3, step 4) is in the wrong order
    assert frame_auroc(Curve(TIMES, values), truth) == pytest.approx(15 / 16)


def test_auroc_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 5, 10).astype(float)
        inside = (TIMES >= 0.15) & (TIMES <= 0.62)
        assert frame_auroc(Curve(TIMES, values), regions((0.15, 0.62))) == pytest.approx(roc_auc_score(inside, values))


def test_auroc_is_unknown_without_both_classes() -> None:
    curve = Curve(TIMES, np.arange(10.0))
    assert np.isnan(frame_auroc(curve, []))
    assert np.isnan(frame_auroc(curve, regions((0, 1))))
    assert np.isnan(frame_auroc(Curve(TIMES, np.full(10, np.nan)), regions((0, 0.5))))
    assert np.isnan(frame_auroc(Curve(np.zeros(0), np.zeros(0)), regions((0, 0.5))))


def test_iou_by_hand() -> None:
    assert interval_iou(regions((0, 1)), regions((0.5, 1.5))) == pytest.approx(1 / 3)
    assert interval_iou(regions((0, 0.2), (0.4, 0.6)), regions((0.1, 0.5))) == pytest.approx(0.2 / 0.6)
    assert interval_iou(regions((0, 1), (0.5, 1.2)), regions((0, 1.2))) == pytest.approx(1)  # counted once
    assert interval_iou([], regions((0, 1))) == 0
    assert np.isnan(interval_iou([], []))


def test_pointing_is_strict_about_ties() -> None:
    truth = regions((0.2, 0.4))
    assert pointing_hit(Curve(TIMES, np.eye(10)[3]), truth)
    assert pointing_hit(Curve(TIMES, np.eye(10)[2] + np.eye(10)[3]), truth)
    assert not pointing_hit(Curve(TIMES, np.eye(10)[5]), truth)
    assert not pointing_hit(Curve(TIMES, np.ones(10)), truth)
    assert not pointing_hit(Curve(np.zeros(0), np.zeros(0)), truth)


def test_chance_iou_of_one_interval_by_integration() -> None:
    """Found 0.2 s, true 0.4 to 0.7 s, clip 1 s: the start is uniform on 0 to 0.8."""
    start = np.linspace(0, 0.8, 200_001)
    both = np.clip(np.minimum(start + 0.2, 0.7) - np.maximum(start, 0.4), 0, None)
    expected = (both / (0.5 - both)).mean()
    got = chance_iou(1.0, regions((0.4, 0.7)), [0.2], generator=np.random.default_rng(0), num_draws=20_000)
    assert got == pytest.approx(expected, abs=0.004)


def test_chance_iou_at_the_limits() -> None:
    rng = np.random.default_rng(0)
    assert chance_iou(1.0, regions((0.4, 0.7)), [], generator=rng) == 0
    assert chance_iou(1.0, regions((0.4, 0.7)), [1.0], generator=rng) == pytest.approx(0.3)
    assert chance_iou(1.0, regions((0.4, 0.7)), [0.9, 0.9], generator=rng) == pytest.approx(0.3)  # shrunk to fit
    many = chance_iou(1.0, regions((0.0, 0.5)), [0.1] * 5, generator=rng, num_draws=4000)
    assert many == pytest.approx(1 / 3, abs=0.03)  # half of the time against half of the time


def corpus(pull: float, seed: int = 0) -> tuple[dict, dict, dict, dict]:
    """60 clips of 6 speakers; the curve is raised by `pull` inside the truth, the found region is the top fifth."""
    rng = np.random.default_rng(seed)
    times = (np.arange(50) + 0.5) / 25
    curves, found, truths, speakers = {}, {}, {}, {}
    for i in range(60):
        start = rng.uniform(0.1, 1.4)
        truths[f"c{i}"] = regions((start, start + 0.4))
        inside = (times >= start) & (times <= start + 0.4)
        values = rng.normal(size=50) + pull * inside
        curves[f"c{i}"] = Curve(times, values)
        first = int(np.convolve(values, np.ones(10), "valid").argmax())  # the best 0.4 s
        found[f"c{i}"] = regions((first / 25, first / 25 + 0.4))
        speakers[f"c{i}"] = f"s{i % 6}"
    return curves, found, truths, speakers


def test_scores_tell_a_good_curve_from_noise() -> None:
    good, noise = score_localization(*corpus(3.0)), score_localization(*corpus(0.0))
    assert good.auroc.low > 0.9
    assert good.iou_gain.low > 0.3
    assert good.hit_rate.value > 0.8
    assert noise.auroc.low < 0.5 < noise.auroc.high
    assert noise.iou_gain.low < 0 < noise.iou_gain.high
    assert noise.chance_hit_rate.value == pytest.approx(0.2, abs=0.02)
    assert (good.num_clips, good.num_speakers, good.num_silent, good.num_left_out) == (60, 6, 0, 0)
    assert good == score_localization(*corpus(3.0))


def test_silent_and_unusable_clips_are_counted() -> None:
    curves, found, truths, speakers = corpus(3.0)
    found["c0"], truths["c1"] = [], []
    del found["c2"]
    scores = score_localization(curves, found, truths, speakers)
    assert (scores.num_clips, scores.num_silent, scores.num_left_out) == (59, 2, 1)
    with pytest.raises(AvserError, match=r"regions\.csv"):
        score_localization(curves, found, {}, speakers)


def test_lags_by_hand() -> None:
    planted = {"a": 0.1, "b": 0.3, "c": -0.2, "d": 0.5}
    recovered = {"a": 0.2, "b": 0.3, "c": 0.0, "d": float("nan"), "e": 0.1}
    scores = score_lags(planted, recovered, {"a": "s", "b": "s", "c": "t", "d": "t", "e": "t"})
    assert scores.error_s.value == pytest.approx(0.1)
    assert scores.median_error_s.value == pytest.approx(0.1)  # of 0.1, 0 and 0.2
    assert scores.constant_error_s == pytest.approx(0.2)  # true lags 0.1, 0.3, -0.2 around their median 0.1
    assert scores.bias_s.value == pytest.approx(0.1)
    # a against 0.3, -0.2: 0.1, 0.4; b against 0.1, -0.2: 0.2, 0.5; c against 0.1, 0.3: 0.1, 0.3
    assert scores.chance_error_s.value == pytest.approx(1.6 / 6)
    assert scores.correlation.value == pytest.approx(np.corrcoef([0.1, 0.3, -0.2], [0.2, 0.3, 0.0])[0, 1])
    assert (scores.num_clips, scores.num_speakers, scores.num_left_out) == (3, 2, 2)


def test_one_lag_is_not_enough() -> None:
    with pytest.raises(AvserError, match="at least 2"):
        score_lags({"a": 0.1}, {"a": 0.1}, {"a": "s"})


def test_chance_places_regions_where_the_curve_is() -> None:
    """A curve from 1 to 2 s, wholly found, true from 1.5 to 2 s: found at random it overlaps by half as well."""
    curve, speakers = Curve(1 + TIMES, np.arange(10.0)), {"c": "s"}
    scores = score_localization({"c": curve}, {"c": regions((1, 2))}, {"c": regions((1.5, 2))}, speakers)
    assert scores.chance_iou.value == pytest.approx(0.5)
