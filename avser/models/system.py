"""What every model is: one forward, and the few places where a published recipe may differ from plain training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn

from avser.structures import Batch, Output


class Criterion(Protocol):
    """The loss that training is configured with: class weights, smoothing, focal or soft labels are its business.

    Attributes:
        is_plain: nothing of that is asked for, so that a system with a loss of its own passes over nothing.
    """

    @property
    def is_plain(self) -> bool: ...

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """The usual loss of a verdict, with the terms for each modality that training adds."""

    def cross_entropy(self, logits: Tensor, batch: Batch, owner: Tensor | None = None) -> Tensor:
        """Mean loss of logits (M, C), where row m belongs to clip `owner[m]` of the batch; (B, C) when None."""


class System(nn.Module):
    """A model with `forward(batch: Batch) -> Output`.

    Training calls the methods below in this order: `prepare` once; then for each stage `enter_stage`, and in it for
    each epoch `begin_epoch`, `training_loss` for every batch, `fit_readout` before validation. A stage begins with the
    weights of the best epoch of the one before. After the last one comes `enter_stage(num_stages)`.

    The keyword arguments of a subclass are its options in a configuration (`model.options`). `num_classes`, `emotions`,
    `sample_rate_hz`, `modalities`, `face_input` and `pretrained` are filled in where a signature has them.

    Attributes:
        reads: the modalities that it can read; a configuration may choose among them where it takes `modalities`.
        face_inputs: the forms of the face that it can read, see `model.face_input` in the configuration.
        num_stages: how many trainings follow one another.
        warm_up_epochs: so many first epochs of a stage prepare for its training proper; validation never chooses them.
        has_own_loss: `training_loss` is not the loss of the verdict that training is configured with, but at most its
            cross-entropy; terms that belong to the whole verdict cannot be asked for.
        notes: sentences that a run has to tell, such as features that were chosen, or a part that stands in for one.
    """

    reads: ClassVar[tuple[str, ...]] = ("audio",)
    face_inputs: ClassVar[tuple[str, ...]] = ("crops",)
    num_stages: int = 1
    warm_up_epochs: int = 0
    has_own_loss: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Count what is fixed before training, such as feature means, on the training clips in eval mode."""

    def enter_stage(self, stage: int) -> None:
        """Make ready for that stage; with `num_stages`, for being used."""

    def stage_clips(self, labels: Sequence[int], stage: int, seed: int) -> list[int] | None:
        """Which training clips a stage learns from, by index and perhaps repeatedly; None for all."""
        return None

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        """Change what changes from epoch to epoch; `epoch` counts from 0 in each stage."""

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """What training minimises: a scalar."""
        return criterion(output, batch)

    def fit_readout(self, batches: Iterable[Batch]) -> None:
        """Solve for closed-form parts on the training clips in eval mode."""
