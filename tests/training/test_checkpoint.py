"""Files of a run: they describe themselves, are written whole, and foreign or damaged ones are refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from avser.config import load_config
from avser.errors import CheckpointError
from avser.models.build import build_model
from avser.training.checkpoint import Progress, load_state, load_trained, save_model, save_state

CONFIG = load_config(
    [
        "model.modalities=[audio]",
        "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
        "model.audio.dim=8",
    ]
)
EMOTIONS = ["anger", "fear", "sadness"]


def build():
    return build_model(CONFIG.model, EMOTIONS, sample_rate_hz=16000)


def test_the_model_file_alone_rebuilds_the_model(tmp_path):
    model = build()
    save_model(tmp_path / "model.safetensors", model, CONFIG, EMOTIONS)
    loaded, config, emotions = load_trained(tmp_path / "model.safetensors")
    assert (config, emotions) == (CONFIG, EMOTIONS)
    assert not loaded.training
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_rebuilding_needs_no_imagenet_weights(tmp_path):
    """A run trained from ImageNet weights names them in its configuration; its own weights replace them."""
    model = build()
    config = load_config(["model.audio.backbone.weights=/no/such/file.safetensors"], base=CONFIG)
    save_model(tmp_path / "model.safetensors", model, config, EMOTIONS)
    load_trained(tmp_path / "model.safetensors")


def test_what_is_not_ours_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_trained(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="not readable as safetensors"):
        load_trained(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a file of this kind"):
        load_trained(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, build(), CONFIG, EMOTIONS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not readable"):
        load_trained(path)


def test_weights_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, build(), CONFIG, [*EMOTIONS, "disgust"])
    with pytest.raises(CheckpointError, match="do not fit"):
        load_trained(path)


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        load_trained(path)
    assert not (tmp_path / "exploded").exists()


def train_steps(model, optimizer, count):
    for _ in range(count):
        noise = torch.randn(4, 3, 16, 64)
        loss = model.branches["audio"].backbone(noise)[0].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_restored_state_goes_on_exactly(tmp_path):
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train_steps(model, optimizer, 2)
    save_state(tmp_path / "state.safetensors", model, optimizer, Progress(epoch=1, step=2, best_uar=0.5), "key")
    train_steps(model, optimizer, 2)

    torch.manual_seed(99)
    again = build()
    optimizer_again = torch.optim.AdamW(again.parameters(), lr=1e-2)
    progress = load_state(tmp_path / "state.safetensors", again, optimizer_again, "key")
    train_steps(again, optimizer_again, 2)
    assert (progress.epoch, progress.step, progress.best_uar) == (1, 2, 0.5)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_the_scale_of_the_loss_in_fp16_goes_on_too(tmp_path):
    model, path = build(), tmp_path / "state.safetensors"
    optimizer = torch.optim.AdamW(model.parameters())
    scaler, again = torch.amp.GradScaler("cpu", init_scale=8.0), torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    scaler.update(2.0)
    save_state(path, model, optimizer, Progress(), "key", scaler)
    load_state(path, model, optimizer, "key", again)
    assert again.state_dict() == scaler.state_dict()
    assert again.scale(torch.ones(())) == 2.0
    save_state(path, model, optimizer, Progress(), "key")  # as states were written before
    load_state(path, model, optimizer, "key", again)
    assert again.get_scale() == 2.0


def test_a_state_of_another_configuration_is_refused(tmp_path):
    model = build()
    optimizer = torch.optim.AdamW(model.parameters())
    save_state(tmp_path / "state.safetensors", model, optimizer, Progress(), "one")
    with pytest.raises(CheckpointError, match="another configuration"):
        load_state(tmp_path / "state.safetensors", model, optimizer, "two")
