"""The loop's small parts: the learning rate's course and the choice of the best epoch."""

from itertools import pairwise

import numpy as np
import pytest

from avser.config import TrainingConfig
from avser.training.checkpoint import Progress
from avser.training.loop import Predictions, learning_rate_factor, note_validation


def test_the_rate_warms_up_and_falls_to_zero():
    training = TrainingConfig(epochs=10, warmup_share=0.1)
    factors = [learning_rate_factor(step, 10, training) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(factors[10:]))


def answers(right, sure):
    """Predictions for 4 clips, the first `right` of them right, with logit `sure`."""
    labels = np.zeros(4, dtype=int)
    logits = np.array([[sure, 0.0] if i < right else [0.0, sure] for i in range(4)])
    return Predictions([str(i) for i in range(4)], labels, logits)


def test_the_best_epoch_has_the_highest_uar_then_the_lowest_loss():
    progress = Progress()
    assert note_validation(progress, 1.0, answers(2, 1.0))
    assert not note_validation(progress, 1.0, answers(1, 1.0))
    assert note_validation(progress, 1.0, answers(2, 0.5))  # as many right, less sure of the wrong ones
    assert not note_validation(progress, 1.0, answers(2, 2.0))
    assert note_validation(progress, 1.0, answers(3, 3.0))
    assert (progress.best_epoch, progress.epoch, progress.epochs_without_gain) == (4, 5, 0)
    assert [round(h["val_uar"]) for h in progress.history] == [50, 25, 50, 50, 75]


def test_predictions_know_their_probabilities():
    found = answers(3, 2.0)
    assert found.uar == 0.75
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert found.cross_entropy == pytest.approx(-(3 * np.log(1 / (1 + np.exp(-2))) + np.log(1 / (1 + np.exp(2)))) / 4)


def test_other_schedules_hold_or_decay_from_epoch_to_epoch():
    constant = TrainingConfig(epochs=10, warmup_share=0.0, schedule="constant")
    assert [learning_rate_factor(step, 10, constant) for step in (5, 50, 99)] == [1, 1, 1]
    decaying = TrainingConfig(epochs=10, warmup_share=0.0, schedule="exponential", decay=0.5)
    assert [learning_rate_factor(step, 10, decaying) for step in (5, 11, 25)] == [1, 0.5, 0.25]
