"""One run from a configuration to a run folder: data, model, training, and the test split touched once, at the end."""

from __future__ import annotations

import atexit
import csv
import json
import random
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from avser.config import Config, config_to_yaml
from avser.data.splits import PARTS
from avser.errors import CheckpointError, ConfigError
from avser.evaluation.metrics import Scores, score_predictions
from avser.models.build import build_model
from avser.training.checkpoint import (
    MODEL_FILE,
    STATE_FILE,
    check_state,
    load_trained,
    versions,
    write_json,
    write_text,
)
from avser.training.fit import CONSOLE, fit, state_key
from avser.training.loop import Predictions, evaluate
from avser.training.record import Stopwatch, read_record
from avser.training.run_data import RunData, load_data
from avser.training.trackers import check_trackers


def train(config: Config, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train, choose the epoch on the validation set, test once, and leave a run folder.

    Args:
        resume: go on from `last/` of an interrupted run.
        overwrite: remove an earlier run of that name first.

    On several processes (`accelerate launch`, `torchrun`) each trains on its part of every batch, and the main one
    alone writes.

    Returns:
        the run folder: config.yaml, model.safetensors, metrics.json, predictions.csv, split.json, record.json, last/,
        log/.

    Raises:
        AvserError: of the kind that says what is wrong with configuration, manifest, cache, split or checkpoint.
    """
    folder = Path(config.runs) / config.name
    _check_free(folder, resume=resume, overwrite=overwrite)
    seed_everything(config.seed)
    accelerator = build_accelerator(config)
    resumed = not overwrite and (folder / STATE_FILE).is_file()
    watch = Stopwatch(accelerator.device, accelerator.num_processes, read_record(folder) if resumed else None)
    data = load_data(config)
    model = build_model(config.model, data.emotions, sample_rate_hz=config.media.sample_rate_hz)
    for note in data.notes:
        CONSOLE.print(note, style="dim", markup=False)
    # Only now, when nothing in configuration or data stands against it, does the run touch its folder.
    if resumed:
        check_state(folder / STATE_FILE, state_key(config, data.split))
    accelerator.wait_for_everyone()  # all have seen the folder as it was
    if accelerator.is_main_process:
        if overwrite and folder.exists():
            shutil.rmtree(folder)
        write_text(folder / "config.yaml", config_to_yaml(config))
        write_json(folder / "split.json", data.split.to_json())
    accelerator.wait_for_everyone()

    fit(model, data, config, folder, accelerator, on_epoch=partial(watch.note_epoch, folder))
    best, _, _ = load_trained(folder / MODEL_FILE)
    best.to(accelerator.device)
    predictions = {part: evaluate(best, data.batches(part, config.training), accelerator) for part in ("val", "test")}
    if accelerator.is_main_process:
        watch.write(folder)
        write_results(folder, config, data, predictions)
    accelerator.wait_for_everyone()
    return folder


def build_accelerator(config: Config) -> Accelerator:
    """Device, precision and processes of a run: a GPU where there is one, and several where it was launched so.

    Raises:
        ConfigError: a tracker is asked for that is not there.
    """
    check_trackers(config.training.trackers)
    # Accelerate keeps one state a process and refuses another precision; runs of one ablation may differ in it.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=config.training.mixed_precision)
    if not accelerator.is_main_process:
        CONSOLE.quiet = True
    if accelerator.num_processes > 1:
        atexit.register(accelerator.state.destroy_process_group)
    return accelerator


def write_results(folder: Path, config: Config, data: RunData, predictions: dict[str, Predictions]) -> dict[str, Any]:
    """predictions.csv, then metrics.json: nothing without protocol, fingerprint, seed and interval."""
    metrics = _describe(config, data, {part: score_part(found, data) for part, found in predictions.items()})
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "split", "speaker", "emotion", "predicted", *data.emotions])
        for part, found in predictions.items():
            for clip_id, label, answer, shares in zip(
                found.clip_ids, found.labels, found.answers, found.probabilities, strict=True
            ):
                names = data.emotions[label], data.emotions[answer]
                writer.writerow([clip_id, part, data.speaker(clip_id), *names, *(f"{p:.5f}" for p in shares)])
    write_json(folder / "metrics.json", metrics)  # last, for it marks a run as finished
    return metrics


def evaluate_run(folder: Path, part: str) -> dict[str, Any]:
    """Score a finished run's model on train, val or test again, from its cache; same layout as metrics.json.

    Raises:
        AvserError: as `answer_part`.
    """
    config, data, found = answer_part(folder, part)
    return describe_part(config, data, part, found)


def describe_part(config: Config, data: RunData, part: str, found: Predictions) -> dict[str, Any]:
    """Scores of answers to one part, in the layout of metrics.json."""
    return _describe(config, data, {part: score_part(found, data)})


def answer_part(folder: Path, part: str) -> tuple[Config, RunData, Predictions]:
    """What a finished run's model answers to train, val or test, from its cache; with its configuration and data.

    Training clips with tied votes have no emotion to be scored by and are left out, like those of val and test.

    Raises:
        AvserError: the part is unknown, the run is not one, or its data have changed since.
    """
    if part not in PARTS:
        raise ConfigError(f"split {part!r}: take one of {', '.join(PARTS)}")
    model, config, _ = load_trained(folder / MODEL_FILE)
    data = load_data(config)
    stored = json.loads((folder / "split.json").read_text(encoding="utf-8"))["fingerprint"]
    if stored != data.split.fingerprint():
        raise CheckpointError(
            f"{folder}: its split {stored} is not the one that the data give now ({data.split.fingerprint()}); "
            "restore the manifest and cache that it was trained with"
        )
    accelerator = Accelerator()
    scored = [clip for clip, label in enumerate(data.labels(part)) if label >= 0]
    batches = data.batches(part, config.training, clips=scored)
    return config, data, evaluate(model.to(accelerator.device), batches, accelerator)


def score_part(found: Predictions, data: RunData) -> Scores:
    speakers = [data.speaker(clip_id) for clip_id in found.clip_ids]
    return score_predictions(found.labels, found.answers, speakers, data.emotions)


def seed_everything(seed: int) -> None:
    """One seed for all sources of chance; the only place that touches global random state."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def _describe(config: Config, data: RunData, scores: dict[str, Scores]) -> dict[str, Any]:
    return {
        "protocol": data.split.protocol,
        "split_fingerprint": data.split.fingerprint(),
        "verdict": asdict(data.split.verdict) if data.split.verdict else None,
        "seed": config.seed,
        "emotions": data.emotions,
        "notes": data.notes,
        **{part: found.to_dict() for part, found in scores.items()},
        "versions": versions(),
    }


def _check_free(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that no earlier run is lost by accident."""
    if overwrite:
        return
    if (folder / "metrics.json").is_file():
        raise CheckpointError(f"{folder}: a finished run is there; give another name (name=...) or --overwrite it")
    if (folder / STATE_FILE).is_file() and not resume:
        raise CheckpointError(f"{folder}: an unfinished run is there; go on with --resume, or --overwrite it")
