"""Attention pooling: which steps of a sequence matter, and what each of them says.

Every kind answers with an `Attended`: weights that sum to one over real steps, the evidence of each step, and a verdict
that is exactly the weighted sum of that evidence, so that a step's contribution to the answer can be read off.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from avser.structures import Attended


class AdditiveScore(nn.Module):
    """e_t = u . tanh(W h_t + b) (Bahdanau et al. 2015; for emotion with a temperature: Zhang et al. 2019)."""

    def __init__(self, dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, 1, bias=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1)"""
        return self.outer(torch.tanh(self.inner(sequence)))


class LinearScore(nn.Module):
    """e_t = w . h_t (Mirsamadi et al. 2017; Chen et al. 2018, eq. 4)."""

    def __init__(self, dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.outer = nn.Linear(dim, 1, bias=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1)"""
        return self.outer(sequence)


class GatedScore(nn.Module):
    """e_t = w . (tanh(V h_t) * sigmoid(U h_t)) (Ilse, Tomczak, Welling 2018)."""

    def __init__(self, dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.outer = nn.Linear(hidden, 1, bias=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1)"""
        return self.outer(torch.tanh(self.content(sequence)) * torch.sigmoid(self.gate(sequence)))


class PerClassScore(nn.Module):
    """A learned query for each emotion, e_t^k = u_k . tanh(W h_t + b) (after the embeddings of Chao et al. 2016)."""

    def __init__(self, dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, num_classes, bias=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, C)"""
        return self.outer(torch.tanh(self.inner(sequence)))


class MeanScore(nn.Module):
    """Every step counts alike: the control that attention has to beat."""

    def __init__(self, dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1)"""
        return sequence.new_zeros((*sequence.shape[:2], 1))


class LastScore(MeanScore):
    """Only the last real step counts, as in a plain RNN classifier."""


SCORES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "additive": AdditiveScore,
    "linear": LinearScore,
    "gated": GatedScore,
    "per_class": PerClassScore,
    "additive_mil": GatedScore,
    "mean": MeanScore,
    "last": LastScore,
}


class AttentionPooling(nn.Module):
    """Weights over a sequence, its summary and its verdict.

    `additive_mil` lets every step speak through its own small network before the weighted sum (additive multiple
    instance learning, Javed et al. 2022); in all other kinds the evidence is linear in the step. Both are exact:
    logits = sum_t weights_t * step_logits_t.
    """

    def __init__(self, dim: int, num_classes: int, *, kind: str, hidden: int = 64, temperature: float = 1.0) -> None:
        super().__init__()
        self.kind = kind
        self.temperature = temperature
        self.score = SCORES[kind](dim, hidden, num_classes)
        if kind == "additive_mil":
            self.evidence: nn.Module = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
        else:
            self.evidence = nn.Linear(dim, num_classes)

    def forward(self, sequence: Tensor, mask: Tensor, times: Tensor) -> Attended:
        """sequence (B, T, D), mask (B, T), times (B, T) -> Attended; a clip without a real step gets zeros."""
        if self.kind == "last":
            is_last = mask & (mask.flip(1).cumsum(dim=1).flip(1) == 1)
            weights = is_last[..., None].to(sequence.dtype)
        else:
            weights = masked_softmax(self.temperature * self.score(sequence), mask)  # (B, T, 1 or C)
        step_logits = self.evidence(sequence) * mask[..., None]  # (B, T, C)
        mean_weights = weights.mean(dim=2)
        return Attended(
            sequence=sequence,
            weights=mean_weights,
            step_logits=step_logits,
            times=times,
            mask=mask,
            pooled=torch.einsum("bt,btd->bd", mean_weights, sequence),
            logits=(weights * step_logits).sum(dim=1),
            class_weights=weights if weights.shape[2] > 1 else None,
        )


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax of (B, T, K) over the real steps of each clip; zero elsewhere, and everywhere if no step is real."""
    scores = scores.float().masked_fill(~mask[..., None], float("-inf"))
    highest = scores.amax(dim=1, keepdim=True)
    powers = torch.exp(scores - highest.masked_fill(highest.isinf(), 0.0))
    return powers / powers.sum(dim=1, keepdim=True).clamp(min=1e-12)
