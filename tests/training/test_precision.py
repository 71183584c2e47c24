"""Faster passes learn the same: half precision to its rounding, a compiled forward pass to that of single precision."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from avser.config import config_to_yaml
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


def test_a_cpu_is_told_that_compiling_takes_long(tiny_config, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda model: model)  # which would take the minutes
    train(tiny_config("name=told", *VOICE, "training.epochs=1", "training.compile=true"))
    said = " ".join(capsys.readouterr().err.split())
    assert "takes minutes" in said
    assert "training.compile=false" in said
    train(tiny_config("name=untold", *VOICE, "training.epochs=1"))
    assert "takes minutes" not in " ".join(capsys.readouterr().err.split())


# Few layers, for each is compiled; batches of 7, 7 and 4 clips, for another shape is compiled anew.
COMPILED = [
    *VOICE,
    *"training.epochs=1 training.batch_size=7 model.audio.dropout=0 model.audio.spec_augment=false".split(),
    "model.audio.backbone.max_stride=2",
]


@pytest.mark.slow
def test_a_compiled_model_learns_the_same_and_is_saved_under_the_same_names(tiny_config):
    torch.compiler.reset()
    compiled = train(tiny_config("name=compiled", *COMPILED, "training.compile=true"))
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    eager = train(tiny_config("name=eager", *COMPILED))
    torch.testing.assert_close(losses(compiled), losses(eager), rtol=1e-4, atol=1e-4)
    for file in (MODEL_FILE, STATE_FILE):
        torch.testing.assert_close(load_file(compiled / file), load_file(eager / file), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_without_a_compiler_a_compiled_run_says_what_to_do(tiny_config, tmp_path):
    path = tmp_path / "bare.yaml"
    path.write_text(config_to_yaml(tiny_config("name=bare", *COMPILED, "training.compile=true")))
    code = "import sys; from avser.config import load_config; from avser.training.run import train; "
    done = subprocess.run(
        [sys.executable, "-c", code + "train(load_config([sys.argv[1]]))", path],
        env={**os.environ, "CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr[done.stderr.rindex("avser.errors.TrainingError") :]
    assert "training.compile=true" in last
    assert "install g++" in last
    assert "set training.compile=false" in last
