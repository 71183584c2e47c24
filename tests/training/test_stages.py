"""The hooks of a system are called in the order that it promises, each stage starts from the best of the one before."""

import json
from dataclasses import replace

import pytest
import torch

from avser.config import ModelConfig
from avser.errors import ConfigError
from avser.models import build as build_module
from avser.models.attention import AttentionPooling
from avser.models.system import System
from avser.structures import Output
from avser.training import fit as fit_module
from avser.training.checkpoint import load_trained
from avser.training.run import train


class TwoStages(System):
    """Energy of 0.1 s; the first stage trains the encoder on half of the clips, the second the pooling on all."""

    num_stages = 2
    calls: list[tuple] = []  # noqa: RUF012

    def __init__(self, num_classes, *, width=4):
        super().__init__()
        self.inner = torch.nn.Linear(1, width)
        self.pool = AttentionPooling(width, num_classes, kind="linear")
        self.register_buffer("stage", torch.tensor(0))
        self.register_buffer("level", torch.tensor(0.0))

    def prepare(self, batches):
        self.level.fill_(torch.cat([batch.waveform.square().mean(dim=1) for batch in batches]).mean())
        self.notes.append("counted the level")
        self.calls.append(("prepare",))

    def enter_stage(self, stage):
        self.stage.fill_(stage)
        self.inner.requires_grad_(stage == 0)
        self.calls.append(("enter_stage", stage, float(self.inner.weight.detach().sum())))

    def stage_clips(self, labels, stage, seed):
        return [i for i in range(len(labels)) if i % 2 == 0] if stage == 0 else None

    def begin_epoch(self, epoch, num_epochs):
        self.calls.append(("begin_epoch", epoch, num_epochs))

    def fit_readout(self, batches):
        self.calls.append(("fit_readout", sum(len(batch) for batch in batches), self.training))

    def forward(self, batch):
        energy = batch.waveform.unfold(1, 1600, 1600).square().mean(dim=2, keepdim=True)
        mask = batch.waveform_mask.unfold(1, 1600, 1600).all(dim=2)
        times = (0.1 * torch.arange(mask.shape[1]) + 0.05).expand(mask.shape)
        part = self.pool(self.inner(energy / self.level.clamp(min=1e-9)), mask, times)
        return Output(part.logits, {"audio": part})


@pytest.fixture
def two_stages(monkeypatch):
    monkeypatch.setitem(build_module.SYSTEMS, "two_stages", TwoStages)
    monkeypatch.setattr(TwoStages, "calls", [])
    return TwoStages.calls


@pytest.fixture
def config(tiny_config):
    def build(*overrides):
        model = ModelConfig(system="two_stages", modalities=["audio"])
        return replace(tiny_config(*overrides), model=model)

    return build


def test_stages_follow_one_another(two_stages, config):
    folder = train(config())
    names = [call[0] for call in two_stages]
    epochs = ["begin_epoch", "fit_readout"] * 2
    assert names[:11] == ["prepare", "enter_stage", *epochs, "enter_stage", *epochs]
    assert [call[1] for call in two_stages if call[0] == "enter_stage"][:3] == [0, 1, 2]
    clips = [call[1] for call in two_stages if call[0] == "fit_readout"]
    num_train = len(json.loads((folder / "split.json").read_text())["train"])
    assert clips == [(num_train + 1) // 2] * 2 + [num_train] * 2
    assert not any(call[2] for call in two_stages if call[0] == "fit_readout")  # in eval mode
    model, _, _ = load_trained(folder / "model.safetensors")
    assert int(model.stage) == 2
    assert float(model.level) > 0
    assert "counted the level" in json.loads((folder / "metrics.json").read_text())["notes"]


def test_an_interrupted_stage_is_resumed_in_its_place(two_stages, config, monkeypatch):
    whole = train(config("name=whole"))
    real, seen = fit_module.save_state, []

    def stop_in_the_second_stage(*arguments):
        real(*arguments)
        seen.append(arguments)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "save_state", stop_in_the_second_stage)
    with pytest.raises(KeyboardInterrupt):
        train(config("name=broken"))
    two_stages.clear()
    broken = train(config("name=broken"), resume=True)
    assert ("prepare",) not in two_stages
    assert "counted the level" in json.loads((broken / "metrics.json").read_text())["notes"]
    assert [call[:3] for call in two_stages if call[0] == "begin_epoch"] == [("begin_epoch", 1, 2)]
    one, other = (load_trained(folder / "model.safetensors")[0].state_dict() for folder in (whole, broken))
    for name in one:
        torch.testing.assert_close(one[name], other[name])


@pytest.mark.parametrize(
    ("attribute", "value", "override", "words"),
    [
        ("has_own_loss", True, "training.attention_entropy=0.1", "loss of its own"),
        ("warm_up_epochs", 2, "training.epochs=2", "warms up for 2"),
    ],
)
def test_what_a_system_would_pass_over_is_refused(two_stages, config, monkeypatch, attribute, value, override, words):
    monkeypatch.setattr(TwoStages, attribute, value)
    with pytest.raises(ConfigError, match=words):
        train(config(override))
    assert not two_stages


def test_rare_emotions_are_not_made_up_for_twice(two_stages, config):
    with pytest.raises(ConfigError, match=r"set training\.class_weights=none, or training\.sampling=all"):
        train(config("training.sampling=balanced", "training.class_weights=balanced"))
    assert not two_stages


def test_batches_that_are_not_read_to_their_end_leave_gradients_on(two_stages, config, monkeypatch):
    def prepare(self, batches):
        self.calls.append(batches)
        self.level.fill_(next(batches).waveform.square().mean())  # and keeps the rest for itself

    monkeypatch.setattr(TwoStages, "prepare", prepare)
    train(config("training.epochs=1"))
    assert torch.is_grad_enabled()
