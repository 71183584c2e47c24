"""Average precision of regions: by hand, against a plain reckoning, and against chance."""

from __future__ import annotations

import numpy as np
import pytest

from avser.errors import AvserError
from avser.roi.detection import average_precision, match_regions, region_peaks, score_detection
from avser.structures import Curve, Region

TIMES = (np.arange(20) + 0.5) / 10  # 0 to 2 s
FLAT = Curve(TIMES, np.ones(20))


def region(start: float, end: float, mass: float = 1.0) -> Region:
    return Region("audio", start, end, mass)


def test_average_precision_by_hand() -> None:
    # Precision 1, 1/2, 2/3, 2/4, 3/5 at the five ranks; recall rises at ranks 1, 3 and 5, of four true regions.
    right = np.array([True, False, True, False, True])
    assert average_precision(right, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # The precision of rank 1 is 0, of rank 2 1/2, of rank 3 2/3: at both recalls the best that follows is 2/3.
    assert average_precision(np.array([False, True, True]), 2) == pytest.approx(2 / 3)
    assert average_precision(np.zeros(0, bool), 3) == 0
    assert np.isnan(average_precision(right, 0))


def test_a_weight_counts_a_region_as_often() -> None:
    right, weights = np.array([True, False, True, True, False]), np.array([2, 1, 0, 3, 1])
    repeated = np.repeat(right, weights)
    assert average_precision(right, 7, weights) == pytest.approx(float(average_precision(repeated, 7)))


def test_each_true_region_is_taken_once_by_the_best_ranked() -> None:
    ious = np.array([[0.6, 0.0], [0.9, 0.4], [0.2, 0.5]])  # the second comes too late for its better one
    assert match_regions(ious, 0.5).tolist() == [True, False, True]
    assert match_regions(ious, 0.3).tolist() == [True, True, False]
    assert match_regions(np.stack([ious, ious[::-1]]), 0.5).tolist() == [[True, False, True], [True, True, False]]
    assert match_regions(np.zeros((3, 0)), 0.5).tolist() == [False] * 3


def example() -> tuple[dict, dict, dict, dict]:
    """Ranked: b's (right), a's first (IoU 0.4), c's (a false alarm), a's second (right, if not taken)."""
    curves = dict.fromkeys("abc", FLAT)
    found = {
        "a": [region(0.0, 0.7, 0.6), region(0.5, 1.0, 0.3)],  # IoU with 0.3 to 1: 0.4 and 5/7
        "b": [region(1.0, 2.0, 0.9)],
        "c": [region(0.5, 1.5, 0.5)],
    }
    truths = {"a": [region(0.3, 1.0)], "b": [region(1.0, 2.0)]}
    return curves, found, truths, {"a": "s", "b": "t", "c": "t"}


def test_scores_by_hand() -> None:
    at_3, at_5 = (score_detection(*example(), min_iou=min_iou) for min_iou in (0.3, 0.5))
    assert at_3.precision.value == pytest.approx(1.0)  # the first two ranks are right
    assert at_5.precision.value == pytest.approx((1 + 2 / 4) / 2)  # ranks 1 and 4 are
    assert (at_3.num_found, at_3.num_true, at_3.num_clips, at_3.num_speakers) == (4, 2, 3, 2)
    assert at_5.gain.value == pytest.approx(at_5.precision.value - at_5.chance.value)


def test_other_scores_rank_otherwise() -> None:
    scores = {"a": [0.0, 1.0], "b": [0.2], "c": [0.5]}  # a's second right, c's wrong, b's right, a's first taken
    got = score_detection(*example(), min_iou=0.3, scores=scores)
    assert got.precision.value == pytest.approx((1 + 2 / 3) / 2)


def test_a_wrong_name_is_a_false_alarm() -> None:
    names = {"a": ("fear", "fear"), "b": ("anger", "fear"), "c": ("fear", "neutral")}
    got = score_detection(*example(), min_iou=0.5, emotions=names)
    # Two true regions of fear. Said to be fear: a's (wrong, mass 0.6; right, 0.3) and c's (0.5): rank 3 of 3 is right.
    assert got.precision.value == pytest.approx(1 / 3 / 2)
    names["b"] = ("anger", "anger")
    got = score_detection(*example(), min_iou=0.5, emotions=names)
    assert got.precision.value == pytest.approx((1 / 3 + 1) / 2)  # the mean of fear and anger


def test_chance_is_that_of_the_same_region_anywhere() -> None:
    """One clip, found and true 0.5 s of 2 s: IoU >= 1/3 if shifted by 0.25 s at most, 1 s starting somewhere in 1.5."""
    curves, found, truths = {"a": FLAT}, {"a": [region(0.7, 1.2)]}, {"a": [region(0.7, 1.2)]}
    got = score_detection(curves, found, truths, {"a": "s"}, min_iou=1 / 3, num_draws=4000)
    assert got.precision.value == 1
    assert got.chance.value == pytest.approx(0.5 / 1.5, abs=0.03)
    assert np.isnan(got.precision.low)  # one speaker


def test_a_placed_region_keeps_its_rank_and_length() -> None:
    """The long region comes first and cannot miss; the short one can."""
    truth = {"a": [region(0.0, 2.0)]}
    found = {"a": [region(0.0, 0.2, 0.1), region(0.3, 2.0, 0.9)]}
    got = score_detection({"a": FLAT}, found, truth, {"a": "s"}, min_iou=0.5)
    assert got.precision.value == got.chance.value == 1
    found = {"a": [region(0.0, 0.2, 0.9), region(0.3, 2.0, 0.1)]}
    got = score_detection({"a": FLAT}, found, truth, {"a": "s"}, min_iou=0.5)
    assert got.precision.value == got.chance.value == 0.5


def test_interval_resamples_speakers_and_chance_matches_noise() -> None:
    rng = np.random.default_rng(0)
    curves, found, truths, speakers = {}, {}, {}, {}
    for i in range(40):
        starts = rng.uniform(0, 1.5, 2)
        curves[f"c{i}"], speakers[f"c{i}"] = FLAT, f"s{i % 5}"
        truths[f"c{i}"] = [region(starts[0], starts[0] + 0.5)]
        found[f"c{i}"] = [region(starts[1], starts[1] + 0.5, rng.uniform())]
    noise = score_detection(curves, found, truths, speakers, min_iou=0.3)
    assert noise.gain.low < 0 < noise.gain.high
    good = score_detection(curves, truths, truths, speakers, min_iou=0.3)
    assert good.precision.low == good.precision.high == 1
    assert good.gain.low > 0.3
    assert good == score_detection(curves, truths, truths, speakers, min_iou=0.3)


def test_nothing_found_and_nothing_true() -> None:
    curves, _, truths, speakers = example()
    assert score_detection(curves, {}, truths, speakers, min_iou=0.3).precision.value == 0
    with pytest.raises(AvserError, match=r"regions\.csv"):
        score_detection(curves, {}, {}, speakers, min_iou=0.3)


def test_peaks_of_regions() -> None:
    curve = Curve(np.array([0.1, 0.2, 0.3]), np.array([1.0, 5.0, 2.0]))
    assert region_peaks(curve, [region(0.05, 0.15), region(0.15, 0.4), region(0.5, 0.6)]) == [1.0, 5.0, 1.0]
