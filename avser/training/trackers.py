"""Where a run's course is logged: TensorBoard, Weights & Biases or MLflow, through Accelerate's trackers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker

from avser.config import Config, dotted_keys
from avser.errors import ConfigError

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "avser"  # under which Weights & Biases and MLflow list the runs


def check_trackers(names: Sequence[str]) -> None:
    """Refuse what nobody would find out about before the run is over: Accelerate passes over a missing package.

    Raises:
        ConfigError: an unknown tracker, or one whose package is not installed.
    """
    for name in names:
        if name not in PACKAGES:
            raise ConfigError(f"training.trackers: {name!r} is not known; take some of {', '.join(PACKAGES)}, or []")
        if find_spec(PACKAGES[name]) is None:
            raise ConfigError(
                f"training.trackers: {name} is not installed; `pip install {PACKAGES[name]}`, or take it from the list"
            )


def start_trackers(accelerator: Accelerator, config: Config, folder: Path) -> None:
    """Begin logging: TensorBoard in `log/` of the run folder; the others list the run by its name, with its settings.

    Where those keep what they are told is up to their own environment variables.

    Raises:
        ConfigError: one that does not start, for want of an account, a connection or a place to write to.
    """
    names = config.training.trackers
    accelerator.log_with = [TensorBoardTracker("log", folder) if name == "tensorboard" else name for name in names]
    named = {"wandb": {"name": config.name, "dir": str(folder)}, "mlflow": {"run_name": config.name}}
    try:
        accelerator.init_trackers(PROJECT, init_kwargs=named)
    except Exception as error:  # each has its own kinds
        raise ConfigError(
            f"training.trackers: {', '.join(names)} cannot be started: {error}\nMend it as that says (Weights & Biases "
            "without an account: WANDB_MODE=offline; MLflow without a server: MLFLOW_TRACKING_URI=sqlite:///PATH), or "
            "take it from the list"
        ) from error
    settings = {key: _plain(value) for key, value in dotted_keys(config) if not is_dataclass(value)}
    for tracker in accelerator.trackers:
        if tracker.name != "tensorboard":  # which would show them as a run of its own; config.yaml lies beside it
            tracker.store_init_configuration(settings)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
