"""PCRN: what its two branches give, and that the joined verdict splits into the steps of the CNN."""

import pytest
import torch

from avser.models.systems.pcrn import Pcrn

TINY = {"num_cells": 8, "num_maps": (4, 4, 4, 6), "num_hidden": 5}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Pcrn(3, **TINY).eval()


def test_sizes():
    maps = [(3, 64, 5), (64, 128, 5), (128, 256, 3), (256, 256, 3)]
    convolutions = sum(k * n * size**2 + 3 * n for k, n, size in maps)
    lstm = 4 * 128 * (32 + 128) + 4 * 128 * 256 + 4 * 4 * 128
    dense = (256 * 5 * 256 + 256) + 2 * 384 + (384 * 7 + 7)
    assert sum(p.numel() for p in Pcrn(7).parameters()) == convolutions + lstm + dense


def test_both_inputs_are_standardised_with_the_training_clips(model, make_batch):
    batch = make_batch()
    model.prepare([batch])
    x, mask = model._features(batch)
    assert x.shape[2] == 32 + 120
    real = model.statistics(x, mask)[mask]
    torch.testing.assert_close(real.mean(dim=0), torch.zeros(152), atol=1e-3, rtol=0)


def test_the_state_is_that_of_the_last_real_frame(model, make_batch):
    batch = make_batch((16000, 9000))
    model.prepare([batch])
    x, mask = model._features(batch)
    described = model.statistics(x, mask)[..., :32]
    alone, _ = model.lstm.rnn(described[1:, :57])
    pooled = model(batch).attended["audio"].pooled
    torch.testing.assert_close(pooled[1, :8], alone[0, -1])


def test_columns_are_averaged_over_the_clip_alone(model, make_batch):
    attended = model(make_batch((16000, 9000))).attended["audio"]
    assert attended.mask.sum(dim=1).tolist() == [13, 8]
    torch.testing.assert_close(attended.pooled[1, 8:], attended.sequence[1, :8, 8:].mean(dim=0))
    torch.testing.assert_close(attended.times[0, :2], torch.tensor([0.035, 0.115]))


def test_in_use_the_verdict_is_the_weighted_sum_of_the_steps(model, make_batch):
    for seed in range(2):  # batch normalisation that is not the identity
        model.train()(make_batch((6000, 9000), seed=seed))
    attended = model.eval()(make_batch()).attended["audio"]
    torch.testing.assert_close((attended.weights[..., None] * attended.step_logits).sum(dim=1), attended.logits)
    assert attended.step_logits[0, 0].sub(attended.step_logits[0, 5]).abs().max() > 1e-4


def test_steps_do_not_enter_the_batch_normalisation(model, make_batch):
    assert model.train()(make_batch()).attended["audio"].step_logits is None
    assert model.norm.num_batches_tracked == 1
