"""The loop's small parts: the learning rate's course and the choice of the best epoch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from avser.config import AugmentConfig, TrainingConfig
from avser.structures import Batch
from avser.training.checkpoint import Progress
from avser.training.loop import Predictions, learning_rate_factor, note_validation, train_epoch


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


def test_an_epoch_that_only_prepares_is_never_the_best():
    progress = Progress()
    assert not note_validation(progress, 1.0, answers(3, 0.1), may_be_best=False)
    assert (progress.epoch, progress.epochs_without_gain, len(progress.history)) == (1, 0, 1)
    assert note_validation(progress, 1.0, answers(1, 2.0))
    assert progress.best_epoch == 1


def test_predictions_know_their_probabilities():
    found = answers(3, 2.0)
    assert found.uar == 0.75
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert found.cross_entropy == pytest.approx(-(3 * np.log(1 / (1 + np.exp(-2))) + np.log(1 / (1 + np.exp(2)))) / 4)


def test_other_schedules_hold_or_decay_from_epoch_to_epoch():
    constant = TrainingConfig(epochs=10, warmup_share=0.0, schedule="constant")
    assert [learning_rate_factor(step, 10, constant) for step in (5, 50, 99)] == [1, 1, 1]
    decaying = TrainingConfig(epochs=3, warmup_share=0.0, schedule="exponential", decay=0.5)
    assert [learning_rate_factor(step, 4, decaying) for step in range(12)] == [1] * 4 + [0.5] * 4 + [0.25] * 4
    one_step_epochs = [learning_rate_factor(step, 1, decaying) for step in range(3)]
    assert one_step_epochs == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.25, [1 / 3, 2 / 3, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]),  # three steps, within the first epoch
        (1 / 3, [0.25, 0.5, 0.75, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]),  # the whole of it
        (0.5, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),  # half of the second too
    ],
)
def test_the_decay_begins_with_the_epoch_after_the_warm_up(share, expected):
    training = TrainingConfig(epochs=3, warmup_share=share, schedule="exponential", decay=0.5)
    assert [learning_rate_factor(step, 4, training) for step in range(12)] == pytest.approx(expected)


def test_half_precision_unscales_the_gradients_of_each_stage_once():
    accelerator, model = Accelerator(), torch.nn.Linear(3, 1)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True  # as on a GPU
    still = {"mixup": 0, "flip": 0, "brightness": 0, "contrast": 0, "shift": 0, "gain_db": 0, "noise_snr_db": None}
    training = TrainingConfig(epochs=1, warmup_share=0.0, clip_norm=1e9, augment=AugmentConfig(**still))
    batch = Batch(["a", "b"], waveform=torch.ones(2, 3), labels=torch.tensor([0, 0]))
    try:
        for _ in range(2):
            before = model.weight.detach().clone()
            optimizer = torch.optim.SGD([{"params": model.parameters(), "base_rate": 1.0}], lr=1.0)
            train_epoch(
                _OnWaveform(model), [batch], accelerator.prepare(optimizer), lambda output, _: output.sum(),
                accelerator, training, Progress(), num_classes=2, steps_per_epoch=1, seed=0,
            )  # fmt: skip
            torch.testing.assert_close(before - model.weight.detach(), torch.full((1, 3), 2.0))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


class _OnWaveform(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, batch):
        return self.layer(batch.waveform)
