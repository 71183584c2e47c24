"""What a run leaves on disk: a model that describes itself, and the state to go on from. Nothing is ever unpickled."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avser.config import Config, config_from_dict
from avser.errors import CheckpointError, ConfigError
from avser.models.build import build_model
from avser.models.system import System
from avser.version import __version__

FORMAT = "avser-model-1"
STATE_FORMAT = "avser-training-state-1"
MODEL_FILE = "model.safetensors"
STATE_FILE = "last/state.safetensors"


@dataclass
class Progress:
    """How far training has come; saved with the state, so that a resumed run is the same run.

    All but history and notes count within a stage.

    Attributes:
        notes: what the model had to tell when it was made ready (`System.notes`).
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    best_uar: float = -1.0
    best_loss: float = 0.0
    best_epoch: int = -1
    epochs_without_gain: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def save_model(path: Path, model: nn.Module, config: Config, emotions: list[str]) -> None:
    """Write the weights with everything needed to rebuild the model from this file alone."""
    description = {
        "format": FORMAT,
        "config": json.dumps(asdict(config)),
        "emotions": json.dumps(emotions),
        "versions": json.dumps(versions()),
    }
    _write(path, {k: v.contiguous() for k, v in model.state_dict().items()}, description)


def load_trained(path: Path) -> tuple[System, Config, list[str]]:
    """Rebuild a model from `model.safetensors`.

    Returns:
        the model in eval mode on the CPU, its configuration, and its label order.

    Raises:
        CheckpointError: missing, damaged, or not written by avser.
    """
    tensors, description = _read(path, FORMAT)
    try:
        config = config_from_dict(json.loads(description["config"]))
        emotions = json.loads(description["emotions"])
        model = build_model(config.model, emotions, sample_rate_hz=config.media.sample_rate_hz, pretrained=False)
        model.load_state_dict(tensors)
        model.enter_stage(model.num_stages)
    except (KeyError, ValueError, TypeError, ConfigError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: its description and its weights do not fit this version of avser ({__version__}): "
            f"{str(error)[:300]}"
        ) from error
    return model.eval(), config, emotions


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a `model.safetensors` into the model that wrote it.

    Raises:
        CheckpointError: missing, damaged, or of another model.
    """
    tensors, _ = _read(path, FORMAT)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: holds the weights of another model: {str(error)[:300]}") from error


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    key: str,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write all that the next epoch depends on; `key` names the configuration that it belongs to.

    Args:
        scaler: of the loss, in fp16.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    description = {
        "format": STATE_FORMAT,
        "key": key,
        "progress": json.dumps(asdict(progress)),
        "scalars": json.dumps(scalars),
    }
    if scaler is not None:
        description["scaler"] = json.dumps(scaler.state_dict())
    _write(path, {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, description)


def check_state(path: Path, key: str) -> None:
    """Make sure that a saved state belongs to this configuration and split.

    Raises:
        CheckpointError: missing, damaged, or of another configuration.
    """
    _, description = _read(path, STATE_FORMAT)
    if description.get("key") != key:
        raise CheckpointError(
            f"{path}: was written under another configuration or split; resume with the same one, or give the run "
            "another name"
        )


def read_progress(path: Path) -> Progress:
    """How far training was when a state was saved.

    Raises:
        CheckpointError: missing or damaged.
    """
    _, description = _read(path, STATE_FORMAT)
    return Progress(**json.loads(description["progress"]))


def load_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    key: str,
    scaler: torch.amp.GradScaler | None = None,
) -> Progress:
    """Put model, optimizer, scaler and random numbers back to where `save_state` left them.

    Raises:
        CheckpointError: missing, damaged, or of another configuration.
    """
    check_state(path, key)
    tensors, description = _read(path, STATE_FORMAT)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "rng": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    values: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in json.loads(description["scalars"]).items()}
    for name, value in parts["optimizer"].items():
        index, _, key_name = name.partition(".")
        values.setdefault(int(index), {})[key_name] = value
    if scaler is not None and "scaler" in description:
        scaler.load_state_dict(json.loads(description["scaler"]))
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(parts["rng"]["cpu"])
    if "cuda" in parts["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["rng"]["cuda"])
    return Progress(**json.loads(description["progress"]))


def versions() -> dict[str, str]:
    """What this run was made with."""
    found = {"avser": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "torchaudio", "timm", "mediapipe", "opencv-python", "av", "accelerate"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Write JSON that every reader takes: numbers that are not finite become null."""
    write_text(path, json.dumps(_finite(values), indent=1, allow_nan=False))


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _write(path: Path, tensors: dict[str, Tensor], description: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata=description)
    partial.replace(path)


def _read(path: Path, expected_format: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; is this the folder of a finished run?")
    try:
        with safe_open(path, framework="pt") as file:
            description = file.metadata() or {}
            if description.get("format") != expected_format:
                raise CheckpointError(
                    f"{path}: not a file of this kind written by avser (format {description.get('format')!r}, "
                    f"expected {expected_format!r})"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from error
