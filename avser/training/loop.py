"""The training loop: one epoch, one evaluation, and early stopping between them, all in plain sight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from avser.config import TrainingConfig
from avser.data.augment import augment_batch
from avser.errors import TrainingError
from avser.evaluation.metrics import unweighted_average_recall
from avser.structures import Batch, Output
from avser.training.checkpoint import Progress
from avser.training.shares import own_batches, own_parts, sum_gradients


@dataclass
class Predictions:
    """A model's answers to a set of clips.

    Attributes:
        clip_ids: N names.
        labels: (N,) int, the true emotions.
        logits: (N, C) float.
    """

    clip_ids: list[str]
    labels: np.ndarray
    logits: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """(N,) index of the most probable emotion."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C)"""
        powers = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    @property
    def uar(self) -> float:
        return unweighted_average_recall(self.labels, self.answers)

    @property
    def cross_entropy(self) -> float:
        return float(-np.log(self.probabilities[np.arange(len(self.labels)), self.labels] + 1e-12).mean())


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Output, Batch], torch.Tensor],
    accelerator: Accelerator,
    training: TrainingConfig,
    progress: Progress,
    *,
    num_classes: int,
    steps_per_epoch: int,
    seed: int,
    weight_of: Callable[[Batch], float] = len,
    on_gradients: Callable[[int], None] = lambda step: None,
    on_step: Callable[[], None] = lambda: None,
) -> float:
    """One pass over the training clips; returns the mean loss. `progress.step` counts on.

    Each process is given the whole batches and trains on its part of each (`avser.training.shares`).

    Args:
        weight_of: what the clips of a batch count together in the mean that `loss_of` takes.
        on_gradients: may change the gradients of a step, whose number it is given, before they are clipped.
    """
    model.train()
    generator = torch.Generator(accelerator.device).manual_seed(seed)
    base_rates = [group["base_rate"] for group in optimizer.param_groups]
    total, count = 0.0, 0
    for batch in batches:
        batch = augment_batch(batch.to(accelerator.device), training.augment, num_classes, generator)
        factor = learning_rate_factor(progress.step, steps_per_epoch, training)
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = factor * rate
        optimizer.zero_grad()
        loss = torch.zeros((), device=accelerator.device)
        for part, share in own_parts(batch, accelerator, training.accumulate, weight_of):
            with accelerator.autocast():
                part_loss = share * loss_of(model(part), part)
            if not torch.isfinite(part_loss):
                raise TrainingError(
                    f"the loss became {part_loss.item()} at step {progress.step} (clips "
                    f"{', '.join(part.clip_ids[:4])} ...); lower training.learning_rate or check these clips"
                )
            accelerator.backward(part_loss)
            loss += part_loss.detach()
        loss = sum_gradients(model, loss, accelerator)
        # Not accelerator.clip_grad_norm_: in fp16 that also unscales for the optimizers of earlier stages.
        accelerator.unscale_gradients(optimizer)
        on_gradients(progress.step)
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        progress.step += 1
        total, count = total + loss.item() * len(batch), count + len(batch)
        on_step()
    return total / max(count, 1)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], accelerator: Accelerator) -> Predictions:
    """The model's answers to every clip, once each; of several processes each answers its share of the batches."""
    model.eval()
    found: list[tuple[int, list[tuple[str, int, list[float]]]]] = []
    for number, batch in own_batches(batches, accelerator):
        output = model(batch.to(accelerator.device))
        labels = batch.labels.tolist() if batch.labels is not None else [-1] * len(batch)
        answered = zip(batch.clip_ids, labels, output.logits.float().cpu().tolist(), strict=True)
        found.append((number, list(answered)))
    if accelerator.num_processes > 1:
        found = sorted(gather_object(found))
    answers = [answer for _, batch_answers in found for answer in batch_answers]
    return Predictions(
        [clip_id for clip_id, _, _ in answers],
        np.array([label for _, label, _ in answers]),
        np.array([logits for _, _, logits in answers]),
    )


def learning_rate_factor(step: int, steps_per_epoch: int, training: TrainingConfig) -> float:
    """Linear warm-up from 0, then half a cosine down to 0, a constant rate, or one that decays from epoch to epoch.

    The decay steps at the borders of epochs: the epoch in which the rate first is full keeps it, each later one has
    `decay` times that of the one before. Without warm-up epoch e, from 0 on, learns at decay^e.
    """
    total_steps = training.epochs * steps_per_epoch
    warmup = max(1, round(training.warmup_share * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    if training.schedule == "constant":
        return 1.0
    if training.schedule == "exponential":
        return training.decay ** (step // steps_per_epoch - (warmup - 1) // steps_per_epoch)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def note_validation(
    progress: Progress, train_loss: float, validation: Predictions, *, may_be_best: bool = True
) -> bool:
    """Record an epoch; True when its validation UAR is the best so far, or equals it with a lower cross-entropy.

    Small validation sets give equal UARs often; the cross-entropy then tells the epochs apart.

    Args:
        may_be_best: False for an epoch that only prepares for those to choose from; it uses up no patience.
    """
    uar, loss = validation.uar, validation.cross_entropy
    progress.history.append({"train_loss": train_loss, "val_uar": 100 * uar, "val_loss": loss})
    is_better = uar > progress.best_uar or (uar == progress.best_uar and loss < progress.best_loss)
    is_best = may_be_best and is_better
    if is_best:
        progress.best_uar, progress.best_loss, progress.best_epoch = uar, loss, progress.epoch
    progress.epochs_without_gain = 0 if is_best or not may_be_best else progress.epochs_without_gain + 1
    progress.epoch += 1
    return is_best
