"""One run from a configuration to a run folder: data, model, training, and the test split touched once, at the end."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import nn
from torch.utils.data import DataLoader

from avser.config import Config, TrainingConfig, config_to_yaml
from avser.data.audit import audit_duplicates, audit_split
from avser.data.cache import ClipCache
from avser.data.dataset import ClipDataset, cached_rows, collate, length_bucketed_batches, parts_of
from avser.data.labels import label_clips
from avser.data.manifest import ClipRow, read_manifest
from avser.data.splits import PARTS, Split, make_split
from avser.errors import CheckpointError, ConfigError
from avser.evaluation.metrics import Scores, score_predictions
from avser.models.build import build_model
from avser.training.checkpoint import (
    MODEL_FILE,
    STATE_FILE,
    Progress,
    check_state,
    load_state,
    load_trained,
    save_model,
    save_state,
    versions,
    write_json,
    write_text,
)
from avser.training.loop import Predictions, evaluate, note_validation, train_epoch
from avser.training.losses import TrainingLoss, balanced_class_weights

CONSOLE = Console(stderr=True)


@dataclass
class RunData:
    """The clips of one run, split and ready to be batched.

    Attributes:
        emotions: label set in order.
        rows: every usable clip by id.
        parts: "train", "val", "test" -> dataset.
        clip_parts: what of a clip the model reads.
    """

    emotions: list[str]
    rows: dict[str, ClipRow]
    split: Split
    parts: dict[str, ClipDataset]
    clip_parts: tuple[str, ...]
    notes: list[str]

    def batches(self, part: str, training: TrainingConfig, *, shuffle_seed: int | None = None) -> DataLoader:
        """Batches of clips of similar length; in the part's order unless a seed is given."""
        dataset = self.parts[part]
        if shuffle_seed is None:
            order = [list(range(i, min(i + 32, len(dataset)))) for i in range(0, len(dataset), 32)]
        else:
            generator = torch.Generator().manual_seed(shuffle_seed)
            order = length_bucketed_batches(dataset.durations_s(), training.batch_size, generator)
        return DataLoader(
            dataset,
            batch_sampler=order,
            collate_fn=partial(collate, parts=self.clip_parts),
            num_workers=training.workers,
        )


def train(config: Config, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train, choose the epoch on the validation set, test once, and leave a run folder.

    Args:
        resume: go on from `last/` of an interrupted run.
        overwrite: remove an earlier run of that name first.

    Returns:
        the run folder: config.yaml, model.safetensors, metrics.json, predictions.csv, split.json, last/, log/.

    Raises:
        AvserError: of the kind that says what is wrong with configuration, manifest, cache, split or checkpoint.
    """
    folder = Path(config.runs) / config.name
    _check_free(folder, resume=resume, overwrite=overwrite)
    seed_everything(config.seed)
    accelerator = build_accelerator(config, folder)
    data = load_data(config)
    model = build_model(config.model, len(data.emotions), sample_rate_hz=config.media.sample_rate_hz)
    for note in data.notes:
        CONSOLE.print(note, style="dim", markup=False)
    # Only now, when nothing in configuration or data stands against it, does the run touch its folder.
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    elif (folder / STATE_FILE).is_file():
        check_state(folder / STATE_FILE, _state_key(config, data.split))
    write_text(folder / "config.yaml", config_to_yaml(config))
    write_json(folder / "split.json", data.split.to_json())

    fit(model, data, config, folder, accelerator)
    best, _, _ = load_trained(folder / MODEL_FILE)
    best.to(accelerator.device)
    predictions = {part: evaluate(best, data.batches(part, config.training), accelerator) for part in ("val", "test")}
    write_results(folder, config, data, predictions)
    return folder


def build_accelerator(config: Config, folder: Path) -> Accelerator:
    """Device, precision and log of a run.

    Raises:
        ConfigError: started on several processes, which would train on the same clips each.
    """
    # Accelerate keeps one state a process and refuses another precision; runs of one ablation may differ in it.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=config.training.mixed_precision, log_with="tensorboard", project_dir=folder
    )
    if accelerator.num_processes > 1:
        raise ConfigError(
            f"training on {accelerator.num_processes} processes is not supported yet: start it without `accelerate "
            "launch`; one process uses one GPU"
        )
    return accelerator


def load_data(config: Config) -> RunData:
    """Manifest, labels, split, audit and cache of a configuration, checked in this order before any clip is read."""
    if not config.data.manifest or not config.data.cache:
        raise ConfigError("data.manifest and data.cache must be set: name a corpus (e.g. `ravdess`) or give both paths")
    manifest = read_manifest(config.data.manifest)
    labels = label_clips(manifest.rows, config.data)
    cache = ClipCache(Path(config.data.cache), config.media)
    clip_parts = parts_of(config.model)
    cached, notes = cached_rows(labels.rows, cache, parts=clip_parts)
    split = score_labelled(make_split(cached, config.data), cached)
    notes = [*labels.notes, *notes, *split.notes]
    notes += audit_split(cached, split, allow_shared_speakers=config.data.allow_shared_speakers)
    notes += audit_duplicates(cached, split, cache)
    by_id = {row.clip_id: row for row in cached}
    parts = {
        part: ClipDataset(
            [by_id[clip_id] for clip_id in clip_ids],
            cache,
            labels.emotions,
            targets=labels.targets if part == "train" else {},
            keep_in_memory=config.training.keep_in_memory,
            max_duration_s=config.data.max_duration_s,
            num_frames=config.data.num_frames,
            parts=clip_parts,
        )
        for part, clip_ids in split.parts().items()
    }
    return RunData(labels.emotions, by_id, split, parts, clip_parts, notes)


def score_labelled(split: Split, rows: list[ClipRow]) -> Split:
    """The split without validation and test clips that have no single emotion (tied votes): they cannot be scored."""
    unlabelled = {row.clip_id for row in rows if not row.emotion}
    if not unlabelled:
        return split
    val, test = ([clip_id for clip_id in ids if clip_id not in unlabelled] for ids in (split.val, split.test))
    num_left_out = len(split.val) + len(split.test) - len(val) - len(test)
    note = f"{num_left_out} clips with tied votes are not scored"
    return replace(split, val=val, test=test, notes=[*split.notes, note])


def fit(model: nn.Module, data: RunData, config: Config, folder: Path, accelerator: Accelerator) -> Progress:
    """Train until the validation UAR stops rising; the best model and the last state are on disk at every moment."""
    training = config.training
    labels = [label for label in data.parts["train"].labels if label is not None]
    balanced = training.class_weights == "balanced"
    loss_of = TrainingLoss(
        class_weights=balanced_class_weights(labels, len(data.emotions)) if balanced else None,
        label_smoothing=training.label_smoothing,
        unimodal=training.unimodal_loss,
        attention_entropy=training.attention_entropy,
    ).to(accelerator.device)
    optimizer = build_optimizer(model, training)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    progress, state_key = Progress(), _state_key(config, data.split)
    if (folder / STATE_FILE).is_file():
        progress = load_state(folder / STATE_FILE, model, optimizer, state_key)
    accelerator.init_trackers("log")
    steps_per_epoch = len(data.batches("train", training, shuffle_seed=0))

    with _progress_bar(training.epochs, steps_per_epoch, progress, config.name) as show:
        while progress.epoch < training.epochs and progress.epochs_without_gain < training.patience:
            epoch_seed = 1_000_003 * config.seed + progress.epoch
            loss = train_epoch(
                prepared,
                data.batches("train", training, shuffle_seed=epoch_seed),
                optimizer,
                loss_of,
                accelerator,
                training,
                progress,
                num_classes=len(data.emotions),
                total_steps=training.epochs * steps_per_epoch,
                seed=epoch_seed,
                on_step=lambda: show(progress),
            )
            validation = evaluate(prepared, data.batches("val", training), accelerator)
            if note_validation(progress, loss, validation):
                save_model(folder / MODEL_FILE, model, config, data.emotions)
            save_state(folder / STATE_FILE, model, optimizer, progress, state_key)
            accelerator.log(progress.history[-1], step=progress.epoch)
            show(progress)
            if not CONSOLE.is_terminal:  # a log file shows no bar
                CONSOLE.print(_epoch_line(progress), markup=False)
    accelerator.end_training()
    return progress


def _epoch_line(progress: Progress) -> str:
    last = progress.history[-1]
    return f"epoch {progress.epoch}: loss {last['train_loss']:.3f}, val UAR {last['val_uar']:.1f}"


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; the CNNs may learn at a lower rate, and vectors (biases, norms) do not decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((".backbone." in f".{name}", parameter.ndim < 2), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "base_rate": training.learning_rate * (training.backbone_rate if is_backbone else 1.0),
                "weight_decay": 0.0 if is_vector else training.weight_decay,
            }
            for (is_backbone, is_vector), parameters in groups.items()
        ],
        lr=training.learning_rate,
    )


def write_results(folder: Path, config: Config, data: RunData, predictions: dict[str, Predictions]) -> dict[str, Any]:
    """metrics.json and predictions.csv: nothing without protocol, fingerprint, seed and interval."""
    metrics = _describe(config, data, {part: score_part(found, data) for part, found in predictions.items()})
    write_json(folder / "metrics.json", metrics)
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "split", "speaker", "emotion", "predicted", *data.emotions])
        for part, found in predictions.items():
            for clip_id, label, answer, shares in zip(
                found.clip_ids, found.labels, found.answers, found.probabilities, strict=True
            ):
                names = data.emotions[label], data.emotions[answer]
                writer.writerow([clip_id, part, data.rows[clip_id].speaker, *names, *(f"{p:.5f}" for p in shares)])
    return metrics


def evaluate_run(folder: Path, part: str) -> dict[str, Any]:
    """Score a finished run's model on train, val or test again, from its cache; same layout as metrics.json.

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
    found = evaluate(model.to(accelerator.device), data.batches(part, config.training), accelerator)
    return _describe(config, data, {part: score_part(found, data)})


def score_part(found: Predictions, data: RunData) -> Scores:
    speakers = [data.rows[clip_id].speaker for clip_id in found.clip_ids]
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


def _state_key(config: Config, split: Split) -> str:
    """What a saved state belongs to: everything in the configuration that the weights depend on, and the split."""
    relevant = {k: v for k, v in asdict(config).items() if k not in ("name", "runs", "roi")}
    return hashlib.sha256(json.dumps([relevant, split.fingerprint()], sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _progress_bar(
    epochs: int, steps_per_epoch: int, progress: Progress, name: str
) -> Iterator[Callable[[Progress], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=CONSOLE) as bar:
        task = bar.add_task(name, total=epochs * steps_per_epoch, completed=progress.step)

        def show(now: Progress) -> None:
            epoch = min(now.step // steps_per_epoch + 1, epochs)
            best = f"  best val UAR {100 * now.best_uar:.1f} (epoch {now.best_epoch + 1})" if now.epoch else ""
            bar.update(task, completed=now.step, description=f"{name}  epoch {epoch}/{epochs}{best}")

        yield show
