"""What training minimises: the verdict's cross-entropy, each modality's own, and the spread of the attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avser.structures import FUSED, Attended, Batch, Output


class TrainingLoss(nn.Module):
    """Cross-entropy of the fused verdict plus weighted terms for each modality.

    Args:
        class_weights: (C,) or None; a rare emotion's clips count more.
        label_smoothing: share of the target spread evenly over all emotions.
        focal_gamma: weighs a clip by (1 - p)^gamma, p the share given to its emotion (Lin et al. 2017); 0: alike.
        unimodal: weight of each modality's own cross-entropy, which keeps its curve meaningful inside a fused model.
        attention_entropy: weight of the attention's entropy relative to that of uniform attention, in [0, 1].
    """

    def __init__(
        self,
        *,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        unimodal: float = 0.0,
        attention_entropy: float = 0.0,
    ) -> None:
        super().__init__()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.unimodal = unimodal
        self.attention_entropy = attention_entropy

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """A scalar; clips that lack a modality do not enter its terms."""
        loss = self.cross_entropy(output.logits, batch)
        for part in output.attended.values():
            if len(output.attended) > 1 and self.unimodal > 0:
                present = part.present.nonzero().squeeze(1)
                loss = loss + self.unimodal * self.cross_entropy(part.logits[present], batch, present)
            if self.attention_entropy > 0 and part.present.any():
                loss = loss + self.attention_entropy * relative_entropy(part)[part.present].mean()
        return loss

    def verdict_losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The cross-entropies that `forward` weighs and adds: "fused" and, if there are several, each modality's."""
        losses = {FUSED: self.cross_entropy(output.logits, batch)}
        if len(output.attended) > 1:
            for name, part in output.attended.items():
                present = part.present.nonzero().squeeze(1)
                losses[name] = self.cross_entropy(part.logits[present], batch, present)
        return losses

    @property
    def is_plain(self) -> bool:
        """Whether the verdict's loss is the cross-entropy and no more."""
        return self.class_weights is None and not self.label_smoothing and not self.focal_gamma

    def weight_of(self, batch: Batch, clips: Tensor | None = None) -> float:
        """What the clips of a batch, or of a part of one, count together in the mean of `cross_entropy`.

        Args:
            clips: which of them, by index; None: all.
        """
        if self.class_weights is None or batch.targets is not None or batch.labels is None:
            return float(len(batch) if clips is None else len(clips))
        return float(self.class_weights[batch.labels if clips is None else batch.labels[clips]].sum())

    def cross_entropy(self, logits: Tensor, batch: Batch, owner: Tensor | None = None) -> Tensor:
        """Weighted mean over the rows of logits (M, C); 0 if there is none.

        Args:
            owner: (M,) the clip of the batch that each row speaks for; None: row m speaks for clip m.
        """
        target = batch.targets if batch.targets is not None else batch.labels
        if target is None:
            raise ValueError("training needs labels; this batch has none")
        if owner is not None:
            target = target[owner]
        if not len(logits):
            return logits.sum() * 0.0
        logits = logits.float()
        if self.focal_gamma > 0:
            return focal_loss(logits, target, self.focal_gamma, self.class_weights, self.label_smoothing)
        return nn.functional.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing
        )


def focal_loss(
    logits: Tensor, target: Tensor, gamma: float, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy in which each clip counts (1 - p)^gamma, p being the share given to its target (Lin et al. 2017).

    Args:
        logits: (M, C).
        target: (M,) labels, or (M, C) soft labels, whose p is the share expected under them.
        class_weights: (C,); as in PyTorch's cross-entropy, the mean over labels is weighted by them.

    Returns:
        a scalar; with gamma 0 the cross-entropy.
    """
    cross_entropy = nn.functional.cross_entropy(
        logits, target, weight=class_weights, label_smoothing=label_smoothing, reduction="none"
    )
    soft = target if target.ndim == 2 else nn.functional.one_hot(target, logits.shape[1]).to(logits.dtype)
    missing = 1 - (logits.softmax(dim=1) * soft).sum(dim=1)
    if class_weights is None or target.ndim == 2:
        total: Tensor | int = len(logits)
    else:
        total = class_weights[target].sum()
    return (missing.clamp(min=0) ** gamma * cross_entropy).sum() / total


def relative_entropy(part: Attended) -> Tensor:
    """(B,) entropy of the attention divided by that of uniform attention: 1 uniform, 0 a single step."""
    weights = part.weights.float()
    entropy = -(weights * torch.log(weights.clamp(min=1e-12))).sum(dim=1)
    uniform = torch.log(part.mask.sum(dim=1).clamp(min=2).float())
    return entropy / uniform


def balanced_class_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """(C,) N / (C * N_k), the weights under which every emotion counts alike; 0 for one without clips."""
    counts = torch.bincount(torch.tensor(labels), minlength=num_classes).float()
    return torch.where(counts > 0, len(labels) / (num_classes * counts.clamp(min=1)), 0.0)
