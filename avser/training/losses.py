"""What training minimises: the verdict's cross-entropy, each modality's own, and the spread of the attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avser.structures import Attended, Batch, Output


class TrainingLoss(nn.Module):
    """Cross-entropy of the fused verdict plus weighted terms for each modality.

    Args:
        class_weights: (C,) or None; a rare emotion's clips count more.
        label_smoothing: share of the target spread evenly over all emotions.
        unimodal: weight of each modality's own cross-entropy, which keeps its curve meaningful inside a fused model.
        attention_entropy: weight of the attention's entropy relative to that of uniform attention, in [0, 1].
    """

    def __init__(
        self,
        *,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        unimodal: float = 0.0,
        attention_entropy: float = 0.0,
    ) -> None:
        super().__init__()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing
        self.unimodal = unimodal
        self.attention_entropy = attention_entropy

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """A scalar; clips that lack a modality do not enter its terms."""
        loss = self.cross_entropy(output.logits, batch)
        for part in output.attended.values():
            if len(output.attended) > 1 and self.unimodal > 0:
                loss = loss + self.unimodal * self.cross_entropy(part.logits, batch, part.present)
            if self.attention_entropy > 0:
                loss = loss + self.attention_entropy * relative_entropy(part).mean()
        return loss

    def cross_entropy(self, logits: Tensor, batch: Batch, clips: Tensor | None = None) -> Tensor:
        """Weighted mean over the clips (all, or those marked in (B,) `clips`); 0 if there is none."""
        target = batch.targets if batch.targets is not None else batch.labels
        if target is None:
            raise ValueError("training needs labels; this batch has none")
        if clips is not None:
            if not clips.any():
                return logits.sum() * 0.0
            logits, target = logits[clips], target[clips]
        return nn.functional.cross_entropy(
            logits.float(), target, weight=self.class_weights, label_smoothing=self.label_smoothing
        )


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
