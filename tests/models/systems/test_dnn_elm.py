"""DNN over stacks of frames: which segments it takes, what they hold, and its loss."""

import pytest
import torch

from avser.config import load_config
from avser.models.build import build_model
from avser.models.systems.dnn_elm import DnnElm, loudest, neighbourhood
from avser.training.losses import TrainingLoss


def small(**options):
    torch.manual_seed(0)
    return DnnElm(num_classes=3, hidden=8, readout_options={"num_units": 10}, **options).eval()


def test_the_configuration_builds_the_network():
    model = build_model(load_config(["dnn_elm"]).model, ["a", "b", "c", "d"], sample_rate_hz=16000)
    expected = (25 * 32 * 256 + 256) + 2 * (256 * 256 + 256) + (256 * 4 + 4)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_neighbourhood_by_hand():
    x = torch.arange(10.0).view(1, 5, 2)
    found = neighbourhood(x, torch.tensor([[True, True, True, False, False]]), 3)
    assert found[0, 0].tolist() == [0, 1, 0, 1, 2, 3]  # the first frame repeats
    assert found[0, 1].tolist() == [0, 1, 2, 3, 4, 5]
    assert found[0, 2].tolist() == [2, 3, 4, 5, 4, 5]  # the last real frame repeats, padding is not seen


def test_loudest_by_hand():
    energy = torch.tensor([[1.0, 5.0, 3.0, 9.0, 2.0], [4.0, 4.0, 4.0, 4.0, 99.0]])
    mask = torch.tensor([[True] * 5, [True] * 4 + [False]])
    assert loudest(energy, mask, 0.4).tolist() == [[False, True, False, True, False], [True, True] + [False] * 3]
    assert loudest(energy, torch.zeros(2, 5, dtype=torch.bool), 0.4).sum() == 0
    assert loudest(energy, mask, 0.01).sum(dim=1).tolist() == [1, 1]


def test_the_loudest_tenth_is_judged_and_counts_alike(make_batch):
    batch = make_batch()
    batch.waveform[0, 6400:8000] *= 8  # 0.4 s to 0.5 s
    audio = small()(batch).attended["audio"]
    assert audio.mask.sum(dim=1).tolist() == [10, 6]  # of 100 and 57 frames
    centre = (audio.times * audio.weights).sum(dim=1)[0]
    assert centre == pytest.approx(0.45, abs=0.03)
    assert audio.weights[0][audio.mask[0]].tolist() == pytest.approx([0.1] * 10)


def test_loss_is_the_cross_entropy_of_the_segments(make_batch):
    model, batch = small(), make_batch()
    output = model(batch)
    mask = output.attended["audio"].mask
    logits = output.extra["step_logits"][mask]
    labels = torch.tensor([0] * 10 + [1] * 6)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(model.training_loss(output, batch, TrainingLoss()), expected)


def test_padding_changes_nothing_and_short_clips_are_judged(make_batch):
    model = small()
    model.prepare([make_batch()])
    model.fit_readout([make_batch((16000, 9000, 4800), (2,) * 3)])
    alone, padded = (model(make_batch((9000, 4800, 100), (2,) * 3, extra_samples=extra)).logits for extra in (0, 5000))
    torch.testing.assert_close(alone, padded, atol=1e-4, rtol=0)
    assert torch.isfinite(alone).all()


def test_every_weight_learns(make_batch):
    model, batch = small().train(), make_batch()
    model.training_loss(model(batch), batch, TrainingLoss()).backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_wrong_options_are_refused():
    for options in ({"stack_frames": 24}, {"loudest_share": 0.0}):
        with pytest.raises(ValueError, match="must be odd"):
            small(**options)
