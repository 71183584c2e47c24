"""Faster passes learn the same: half precision to its rounding, a compiled forward pass to that of single precision."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from avser.training.checkpoint import MODEL_FILE, STATE_FILE
from avser.training.run import train

VOICE = ("model.modalities=[audio]", "training.epochs=2", "data.max_duration_s=1.0", "model.audio.dropout=0.1")


def losses(folder):
    progress = json.loads(safe_open(folder / STATE_FILE, "pt").metadata()["progress"])
    return torch.tensor([epoch[key] for epoch in progress["history"] for key in ("train_loss", "val_loss")])


@pytest.fixture
def plain(tiny_config):
    return train(tiny_config("name=plain", *VOICE))


def test_half_precision_rounds_the_passes_and_keeps_the_weights_whole(tiny_config, plain):
    halved = train(tiny_config("name=halved", *VOICE, "training.mixed_precision=bf16"))
    assert not torch.equal(losses(halved), losses(plain))  # something was rounded
    torch.testing.assert_close(losses(halved), losses(plain), rtol=0.05, atol=0.02)
    assert {value.dtype for value in load_file(halved / MODEL_FILE).values()} <= {torch.float32, torch.int64}


@pytest.mark.slow
def test_a_compiled_model_learns_the_same_and_is_saved_under_the_same_names(tiny_config):
    torch.compiler.reset()
    compiled = train(tiny_config("name=compiled", *VOICE, "training.compile=true", "model.audio.dropout=0.0"))
    eager = train(tiny_config("name=eager", *VOICE, "model.audio.dropout=0.0"))
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    torch.testing.assert_close(losses(compiled), losses(eager), rtol=0.01, atol=0.01)
    assert load_file(compiled / MODEL_FILE).keys() == load_file(eager / MODEL_FILE).keys()
