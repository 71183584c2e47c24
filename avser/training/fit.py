"""Fitting a model: its stages one after the other, each until the validation UAR stops rising."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial, reduce
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import nn

from avser.config import Config, TrainingConfig, config_differences
from avser.data.splits import Split
from avser.errors import ConfigError, TrainingError
from avser.models.system import System
from avser.structures import Batch
from avser.training.balance import BALANCES, check_balance
from avser.training.checkpoint import (
    MODEL_FILE,
    STATE_FILE,
    Progress,
    load_state,
    load_weights,
    read_progress,
    save_model,
    save_state,
)
from avser.training.loop import evaluate, note_validation, train_epoch
from avser.training.losses import TrainingLoss, balanced_class_weights
from avser.training.run_data import RunData
from avser.training.shares import draw_apart, share_state
from avser.training.trackers import start_trackers

CONSOLE = Console(stderr=True)
COMPILED_ON_A_CPU = (
    "training.compile=true: on a CPU the compiler takes minutes; it is meant for GPUs, and training.compile=false is "
    "likely faster here"
)


# Settings that came after the first states were written; at their defaults, those are states of the same run.
ADDED_SETTINGS = (
    *("training.accumulate", "training.compile"),
    *("training.balance", "training.balance_alpha", "training.balance_epochs", "training.balance_gamma"),
    *(f"model.fusion.{name}" for name in ("width", "rank", "layers", "heads", "num_bottlenecks")),
    *("model.causal", "model.running_s", "model.attention.window_s"),
)


def fit(
    model: System,
    data: RunData,
    config: Config,
    folder: Path,
    accelerator: Accelerator,
    *,
    on_epoch: Callable[[], None] = lambda: None,
) -> Progress:
    """Train every stage of a system; the best model and the last state are on disk at every moment.

    Args:
        on_epoch: called in the main process when an epoch and its state are saved.
    """
    check_loss(model, config.training)
    key, resumed = state_key(config, data.split), (folder / STATE_FILE).is_file()
    model.to(accelerator.device)
    if resumed:
        progress = read_progress(folder / STATE_FILE)
    else:
        with torch.no_grad():
            model.eval().prepare(_on_device(data.batches("train", config.training), accelerator))
        share_state(model, accelerator)
        progress = Progress(notes=model.notes)
    data.notes += progress.notes
    for note in progress.notes:
        CONSOLE.print(note, style="dim", markup=False)
    # "Evaluation" leaves out DistributedDataParallel alone, see `avser.training.shares`.
    prepared = accelerator.prepare_model(model, evaluation_mode=True)
    if config.training.compile:
        if accelerator.device.type == "cpu":
            CONSOLE.print(COMPILED_ON_A_CPU, style="dim", markup=False)
        # Of what trains alone: validation meets other shapes and modes, each to be compiled anew.
        prepared = torch.compile(prepared)
    start_trackers(accelerator, config, folder)
    while True:
        model.enter_stage(progress.stage)
        model.zero_grad(set_to_none=True)  # gradients of parts that are frozen now would count when norms are clipped
        optimizer = accelerator.prepare(build_optimizer(model, config.training))
        if resumed:
            progress = load_state(folder / STATE_FILE, model, optimizer, key, accelerator.scaler)
            resumed = False
        with compile_errors(config.training):
            _fit_stage(prepared, model, data, config, folder, accelerator, optimizer, progress, on_epoch)
        if progress.stage + 1 >= model.num_stages:
            break
        load_weights(folder / MODEL_FILE, model)
        progress = Progress(stage=progress.stage + 1, history=progress.history, notes=progress.notes)
    if model.num_stages > 1:
        load_weights(folder / MODEL_FILE, model)
        model.enter_stage(model.num_stages)
        accelerator.wait_for_everyone()  # all have read what is now replaced
        if accelerator.is_main_process:
            save_model(folder / MODEL_FILE, model, config, data.emotions)
    for tracker in accelerator.trackers:  # not `end_training`: the processes have the test before them, and other runs
        tracker.finish()
    return progress


def _fit_stage(
    prepared: nn.Module,
    model: System,
    data: RunData,
    config: Config,
    folder: Path,
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    on_epoch: Callable[[], None],
) -> None:
    """Train until the validation UAR stops rising; `prepared` is `model`, or a compiled one with its weights."""
    training, train_labels = config.training, data.labels("train")
    criterion = build_criterion(training, train_labels, len(data.emotions)).to(accelerator.device)
    balance = BALANCES[training.balance](model, criterion, training, accelerator, seed=config.seed)
    clips = model.stage_clips(train_labels, progress.stage, config.seed)
    steps_per_epoch = len(data.batches("train", training, shuffle_seed=0, clips=clips))
    stages = f" stage {progress.stage + 1}/{model.num_stages}" if model.num_stages > 1 else ""
    with progress_bar(training.epochs, steps_per_epoch, progress, config.name + stages) as show:
        while progress.epoch < training.epochs and progress.epochs_without_gain < training.patience:
            epoch_seed = 1_000_003 * config.seed + 1009 * progress.stage + progress.epoch
            model.begin_epoch(progress.epoch, training.epochs)
            balance.begin_epoch(progress.history[len(progress.history) - progress.epoch :])
            draw_apart(accelerator, epoch_seed)
            loss = train_epoch(
                prepared,
                data.batches("train", training, shuffle_seed=epoch_seed, clips=clips),
                optimizer,
                balance.loss,
                accelerator,
                training,
                progress,
                num_classes=len(data.emotions),
                steps_per_epoch=steps_per_epoch,
                seed=epoch_seed,
                weight_of=criterion.weight_of,
                on_gradients=balance.adjust_gradients,
                on_step=lambda: show(progress),
            )
            with torch.no_grad():
                model.eval().fit_readout(_on_device(data.batches("train", training, clips=clips), accelerator))
            share_state(model, accelerator)
            validation = evaluate(model, data.batches("val", training), accelerator)
            may_be_best = progress.epoch >= model.warm_up_epochs
            is_best = note_validation(progress, loss, validation, may_be_best=may_be_best)
            progress.history[-1] |= balance.end_epoch(model, data.batches("val", training))
            if accelerator.is_main_process:
                if is_best:
                    save_model(folder / MODEL_FILE, model, config, data.emotions)
                key = state_key(config, data.split)
                save_state(folder / STATE_FILE, model, optimizer, progress, key, accelerator.scaler)
                on_epoch()
            accelerator.wait_for_everyone()
            accelerator.log(progress.history[-1], step=len(progress.history))
            show(progress)
            if not CONSOLE.is_terminal:  # a log file shows no bar
                CONSOLE.print(_epoch_line(progress) + stages, markup=False)


def check_loss(model: System, training: TrainingConfig) -> None:
    """Refuse what training would pass over in silence, or do twice.

    Raises:
        ConfigError: a term of the verdict's loss is asked for that the system does not use, or a balance of modalities
            that it does not have, or rare emotions are made up for twice, or all epochs are spent on warming up.
    """
    check_balance(model, training)
    name = type(model).__name__
    if training.sampling == "balanced" and training.class_weights == "balanced":
        raise ConfigError(
            "training.sampling=balanced draws all emotions alike often, and training.class_weights=balanced would make "
            "up for the rare ones once more; set training.class_weights=none, or training.sampling=all"
        )
    if model.has_own_loss and training.attention_entropy > 0:
        raise ConfigError(f"training.attention_entropy: {name} trains on a loss of its own without it; set it to 0")
    if training.epochs <= model.warm_up_epochs:
        raise ConfigError(
            f"training.epochs={training.epochs}: {name} warms up for {model.warm_up_epochs}, which are never chosen; "
            "train for more"
        )


@contextmanager
def compile_errors(training: TrainingConfig) -> Iterator[None]:
    """Say what to do where the first step cannot be compiled.

    Raises:
        TrainingError: no compiler for this device, or a model that it cannot translate.
    """
    if not training.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # takes seconds, and only a compiled training needs it

    try:
        yield
    except TorchDynamoException as error:
        raise TrainingError(
            f"training.compile=true: {str(error).strip().splitlines()[0]}\n"
            "PyTorch needs a C++ compiler on this machine (install g++, or name one in the environment variable CXX), "
            "for a GPU Triton and a C compiler (CC) as well; or set training.compile=false"
        ) from error


def build_criterion(training: TrainingConfig, labels: Sequence[int], num_classes: int) -> TrainingLoss:
    """The loss of the verdict, with class weights counted on the training clips."""
    known = [label for label in labels if label >= 0]
    return TrainingLoss(
        class_weights=balanced_class_weights(known, num_classes) if training.class_weights == "balanced" else None,
        label_smoothing=training.label_smoothing,
        focal_gamma=training.focal_gamma if training.loss == "focal" else 0.0,
        unimodal=training.unimodal_loss,
        attention_entropy=training.attention_entropy,
    )


def _on_device(batches: Iterable[Batch], accelerator: Accelerator) -> Iterator[Batch]:
    """Batches for what is counted or solved for rather than trained.

    Gradients are switched off by the caller: a generator that did it would leave them off wherever it is not read to
    its end.
    """
    for batch in batches:
        yield batch.to(accelerator.device)


def _epoch_line(progress: Progress) -> str:
    last = progress.history[-1]
    return f"epoch {progress.epoch}: loss {last['train_loss']:.3f}, val UAR {last['val_uar']:.1f}"


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """Pretrained CNNs may learn at a lower rate, and vectors (biases, norms) do not decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((".backbone." in f".{name}", parameter.ndim < 2), []).append(parameter)
    return OPTIMIZERS[training.optimizer](
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


def state_key(config: Config, split: Split) -> str:
    """What a saved state belongs to: everything in the configuration that the weights depend on, and the split."""
    relevant = {k: v for k, v in asdict(config).items() if k not in ("name", "runs", "roi")}
    del relevant["training"]["trackers"]
    for key in set(ADDED_SETTINGS) - config_differences(config, Config()).keys():
        group, _, name = key.rpartition(".")
        del reduce(dict.__getitem__, group.split("."), relevant)[name]
    return hashlib.sha256(json.dumps([relevant, split.fingerprint()], sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def progress_bar(
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
