"""Metrics against numbers worked out by hand."""

import numpy as np
import pytest

from avser.evaluation.metrics import score_predictions, unweighted_average_recall, weighted_accuracy

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
ANSWERS = np.array([0, 0, 0, 1, 1, 0, 2, 2])
SPEAKERS = list("aabbaabb")


def test_uar_is_the_mean_of_the_recalls():
    assert unweighted_average_recall(LABELS, ANSWERS) == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)


def test_uar_leaves_out_emotions_without_clips():
    assert unweighted_average_recall(np.array([0, 0]), np.array([0, 1])) == 0.5


def test_wa_is_the_share_of_right_answers():
    assert weighted_accuracy(LABELS, ANSWERS) == 6 / 8


def test_scores_hold_everything_in_percent():
    scores = score_predictions(LABELS, ANSWERS, SPEAKERS, ["anger", "fear", "sadness"])
    assert scores.uar.value == pytest.approx(75)
    assert scores.uar.low <= scores.uar.value <= scores.uar.high
    assert scores.recall == {"anger": 75.0, "fear": 50.0, "sadness": 100.0}
    assert scores.confusion == [[3, 1, 0], [1, 1, 0], [0, 0, 2]]
    assert scores.num_speakers == 2
    # F1: anger 2*3/(4+4) = .75, fear 2*1/(2+2) = .5, sadness 1; weights 4, 2, 2 of 8
    assert scores.weighted_f1 == pytest.approx(100 * (0.75 * 4 + 0.5 * 2 + 1 * 2) / 8)
