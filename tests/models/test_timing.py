"""Measured timing against branches whose reach is known."""

import pytest
import torch

from avser.config import load_config
from avser.models.build import build_model
from avser.models.timing import SequenceOf, measure_timing
from avser.structures import Attended, Output


class Delayed(torch.nn.Module):
    """Steps of 0.1 s; each is the sum of the 0.3 s of samples that end where it begins."""

    def forward(self, batch):
        energy = batch.waveform.unfold(1, 1600, 1600).square().sum(dim=2)  # (B, T)
        past = torch.nn.functional.pad(energy, (3, 0)).unfold(1, 3, 1).sum(dim=2)[:, :-1]
        times = (0.1 * torch.arange(past.shape[1]) + 0.05).expand(len(past), -1)
        return past[..., None], torch.ones_like(past, dtype=torch.bool), times


def test_a_known_delay_and_reach_are_found():
    timing = measure_timing(Delayed(), "audio")
    assert timing.step_s == pytest.approx(0.1)
    assert timing.receptive_field_s == pytest.approx(0.3, abs=0.001)
    assert timing.delay_s == pytest.approx(-0.2, abs=0.011)  # middle of the stretch 0.3 s to 0 s before the step begins


def branches(temporal):
    torch.manual_seed(0)
    cnn = "{name: 'torchvision:mobilenet_v2', weights: none, max_stride: 4}"
    config = load_config(
        [
            f"model.audio.backbone={cnn}",
            f"model.video.backbone={cnn}",
            f"model.audio.temporal={temporal}",
            f"model.video.temporal={temporal}",
            "model.audio.layers=1",
        ]
    )
    return build_model(config.model, list("abc"), sample_rate_hz=16000).branches


@pytest.mark.parametrize(("modality", "step_s"), [("audio", 0.04), ("video", 1 / 15)])
def test_a_convolution_is_local_and_centred(modality, step_s):
    timing = measure_timing(branches("tcn")[modality], modality)
    assert timing.step_s == pytest.approx(step_s, abs=1e-3)
    assert timing.receptive_field_s <= 0.45
    assert abs(timing.delay_s) <= step_s / 2 + 0.01


def test_a_recurrent_branch_sees_farther_than_a_convolution():
    recurrent, local = (measure_timing(branches(kind)["video"], "video") for kind in ("gru", "tcn"))
    assert recurrent.receptive_field_s > 1.5 * local.receptive_field_s


class Listener(torch.nn.Module):
    """A model of the voice with a part that is to stay frozen while the rest is trained."""

    def __init__(self):
        super().__init__()
        self.branch, self.frozen = Delayed(), torch.nn.BatchNorm1d(1)

    def forward(self, batch):
        sequence, mask, times = self.branch(batch)
        weights = mask.float() / mask.sum()
        part = Attended(sequence, weights, None, times, mask, sequence.mean(dim=1), sequence.mean(dim=1))
        return Output(part.logits, {"audio": part})


class Refusing(torch.nn.Module):
    def forward(self, batch):
        raise RuntimeError("too short")


@pytest.mark.parametrize("is_training", [False, True])
def test_a_measured_model_is_left_in_its_mode(is_training):
    """The wrapper is new, and so in training mode, whatever the model in it is in."""
    model = Listener().train(is_training)
    model.frozen.eval()
    measure_timing(SequenceOf(model, "audio"), "audio")
    assert (model.training, model.branch.training, model.frozen.training) == (is_training, is_training, False)


def test_a_model_that_fails_is_left_in_its_mode():
    model = Refusing().eval()
    with pytest.raises(RuntimeError, match="too short"):
        measure_timing(SequenceOf(model, "audio"), "audio")
    assert not model.training
