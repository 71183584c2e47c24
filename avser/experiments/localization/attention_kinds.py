"""The same models with every kind of attention, trained alike, one modality each: what a comparison of kinds asks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from avser.config import Config
from avser.errors import ConfigError, TrainingError
from avser.experiments.ablation.modalities import single_modality
from avser.experiments.runs.grid import run_folder, run_grid
from avser.models.attention import SCORES


def train_kinds(config: Config, kinds: Sequence[str], *, jobs: int = 1) -> list[Path]:
    """Train a model of each modality with each kind of attention; finished runs are kept.

    Args:
        config: of `av_roi`; but for `model.attention.kind` all runs are trained by it, and for as long.
        kinds: keys of `avser.models.attention.SCORES`.
        jobs: runs that are trained side by side.

    Returns:
        for each kind the folder <runs>/<name>/<kind> with a run for each modality in it.

    Raises:
        ConfigError: an unknown kind, or a system that has none.
        TrainingError: a run failed.
    """
    if config.model.system != "av_roi":
        raise ConfigError(f"model.system={config.model.system}: kinds of attention are a setting of av_roi alone")
    if unknown := [kind for kind in kinds if kind not in SCORES]:
        raise ConfigError(f"attention {unknown[0]!r}: take some of {', '.join(SCORES)}")
    configs = [_of_kind(config, kind, modality) for kind in kinds for modality in config.model.modalities]
    outcomes = run_grid(configs, jobs=jobs)
    if failed := [outcome for outcome in outcomes if outcome.reason]:
        raise TrainingError("; ".join(f"{configs[o.number].name}: {o.reason}" for o in failed))
    return list(dict.fromkeys(run_folder(part).parent for part in configs))


def _of_kind(config: Config, kind: str, modality: str) -> Config:
    part = copy.deepcopy(config)
    part.name = f"{config.name}/{kind}"
    part.model.attention.kind = kind  # type: ignore[assignment]
    return single_modality(part, modality)
