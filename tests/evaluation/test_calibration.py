"""Calibration against numbers worked out by hand."""

import numpy as np
import pytest

from avser.evaluation.calibration import expected_calibration_error, reliability_bins


def test_the_error_is_the_mean_distance_weighted_by_clips():
    confidences = np.array([0.95, 0.85, 0.35, 0.25, 0.25])
    correct = np.array([True, False, True, False, True])
    # Two bins: above one half 1/2 right at 0.9, below 2/3 right at 0.85 / 3.
    expected = (2 * abs(0.5 - 0.9) + 3 * abs(2 / 3 - 0.85 / 3)) / 5
    assert expected_calibration_error(confidences, correct, num_bins=2) == pytest.approx(expected)
    low, high = reliability_bins(confidences, correct, num_bins=2)
    assert (low.low, low.high, low.num_clips) == (0, 0.5, 3)
    assert (high.num_clips, high.confidence, high.accuracy) == (2, pytest.approx(0.9), 0.5)


def test_fifteen_even_bins_of_which_each_ends_with_its_upper_edge():
    bins = reliability_bins(np.array([1 / 15, 2 / 15, 2 / 15 + 1e-9, 0.0, 1.0]), np.ones(5, bool))
    assert len(bins) == 15
    assert [b.num_clips for b in bins] == [2, 1, 1, *11 * [0], 1]
    assert np.isnan(bins[5].accuracy)


def test_who_is_right_as_often_as_told_has_no_error_and_who_is_sure_and_wrong_has_all_of_it():
    assert expected_calibration_error(np.full(4, 0.75), np.array([1, 1, 1, 0], bool)) == pytest.approx(0)
    assert expected_calibration_error(np.ones(3), np.zeros(3, bool)) == 1


def test_equally_full_bins_part_what_an_even_bin_hides():
    confidences, correct = np.array([0.91, 0.92, 0.98, 0.99]), np.array([0, 0, 1, 1], bool)
    even = expected_calibration_error(confidences, correct, num_bins=2)
    full = expected_calibration_error(confidences, correct, num_bins=2, equal_mass=True)
    assert even == pytest.approx(abs(0.5 - 0.95))
    assert full == pytest.approx((0.915 + 0.015) / 2)
    bins = reliability_bins(confidences, correct, num_bins=9, equal_mass=True)
    assert [b.num_clips for b in bins] == [1, 1, 1, 1]
    assert [b.high for b in bins] == confidences.tolist()


@pytest.mark.parametrize("confidences", [[], [0.5, 0.5], [1.5], [float("nan")]])
def test_what_is_no_confidence_is_refused(confidences):
    with pytest.raises(ValueError, match=r"clips|confidences"):
        reliability_bins(np.array(confidences), np.array([True]) if confidences else np.array([], bool))
