"""What is left, by hand: areas, shares above guessing, and one model against another."""

import math

import numpy as np
import pytest

from avser.evaluation.pooled import Pool
from avser.experiments.robustness.scores import (
    area_weights,
    compare_curves,
    score_clean,
    score_curve,
    score_switches,
)

CLIPS_EACH, SPEAKERS = 10, 6


def answers(num_right: int) -> Pool:
    """Two emotions, ten clips of each by every speaker, of which so many are answered right: guessing reaches 50 %."""
    labels = np.tile(np.repeat([0, 1], CLIPS_EACH), SPEAKERS)
    is_right = np.tile(np.arange(CLIPS_EACH) < num_right, 2 * SPEAKERS)
    found = np.where(is_right, labels, 1 - labels)
    speakers = [f"s{i}" for i in range(SPEAKERS) for _ in range(2 * CLIPS_EACH)]
    names = [f"clip{i}" for i in range(len(labels))]
    return Pool(names, speakers, np.zeros(len(labels), int), labels, found, np.eye(2)[found])


def test_the_area_is_the_mean_height_by_trapezoids():
    assert area_weights([-5, 0, 10], None).tolist() == pytest.approx([0, 5 / 30, 15 / 30, 10 / 30])
    assert area_weights([0.5, 1.0], 0.0).tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert area_weights([-1, 1], 0.0).tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert area_weights([3], None).tolist() == [0, 1]


def test_a_curve_by_hand():
    curve = score_curve("drop", answers(9), {1.0: answers(5), 0.5: answers(7)}, clean_level=0.0)
    assert [level.level for level in curve.levels] == [0.5, 1.0]
    assert [level.uar.value for level in curve.levels] == pytest.approx([70, 50])
    assert [level.difference.value for level in curve.levels] == pytest.approx([-20, -40])
    assert [level.relative.value for level in curve.levels] == pytest.approx([50, 0])  # of 40 points above guessing
    assert curve.area.value == pytest.approx(0.25 * 90 + 0.5 * 70 + 0.25 * 50)
    assert curve.relative.value == pytest.approx(50)
    assert [level.p_value for level in curve.levels] == pytest.approx([2 / 2**6] * 2)  # all speakers alike: the least
    assert [level.adjusted_p for level in curve.levels] == pytest.approx([2 * 2 / 2**6] * 2)


def test_switches_are_adjusted_together():
    found = score_switches(answers(9), {"one": answers(5), "two": answers(9), "three": answers(6)})
    assert found["two"].difference.value == 0
    assert found["two"].p_value == found["two"].adjusted_p == 1
    assert found["one"].adjusted_p == pytest.approx(3 * 2 / 2**6)
    assert score_clean(answers(8)).uar.value == pytest.approx(80)


def test_effective_robustness_is_what_is_left_beyond_the_baseline():
    """The baseline keeps 10 of its 20 points above guessing; of its 40 the model should keep 20, and keeps 30."""
    own = score_curve("snr", answers(9), {0.0: answers(8)}, clean_level=None)
    theirs = score_curve("snr", answers(7), {0.0: answers(6)}, clean_level=None)
    found = compare_curves(own, theirs, baseline="voice")
    assert found.value.value == pytest.approx(80 - (50 + 40 * 10 / 20))
    assert found.value.low <= found.value.value <= found.value.high
    assert compare_curves(own, own, baseline="itself").value.value == pytest.approx(0)
    assert (found.name, found.baseline) == ("snr", "voice")


def test_who_only_guesses_has_nothing_to_keep():
    curve = score_curve("snr", answers(5), {0.0: answers(5)}, clean_level=None)
    assert math.isnan(curve.relative.value)
    assert math.isnan(curve.levels[0].relative.value)
    better = score_curve("snr", answers(9), {0.0: answers(8)}, clean_level=None)
    assert math.isnan(compare_curves(better, curve, baseline="guess").value.value)


def test_other_levels_cannot_be_compared():
    one = score_curve("snr", answers(9), {0.0: answers(8)}, clean_level=None)
    two = score_curve("snr", answers(9), {0.0: answers(8), 5.0: answers(8)}, clean_level=None)
    with pytest.raises(ValueError, match="same speakers and levels"):
        compare_curves(one, two, baseline="x")
