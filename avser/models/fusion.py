"""Fusion: from the attended voice and face of a clip to one verdict, with either of them allowed to be missing.

A fusion receives `Attended` parts by modality. A modality that a clip lacks has a mask without a real step; one that
the whole batch lacks is absent from the dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from avser.models.attention import GatedScore, masked_softmax
from avser.models.parts import Parts, presence, summary
from avser.models.tensor_fusion import LowRankFusion, TensorFusion
from avser.models.transformer_fusion import BottleneckFusion, CrossModalFusion
from avser.structures import Attended


class LateAverage(nn.Module):
    """Mean of the modalities' posteriors."""

    def __init__(self, modalities: Sequence[str], dim: int, num_classes: int, **_: object) -> None:
        super().__init__()

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C) logarithms of the mean probabilities."""
        present = presence(parts)  # (B, M)
        posteriors = torch.stack([part.logits.softmax(dim=1) for part in parts.values()], dim=1)  # (B, M, C)
        share = present / present.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.log(torch.einsum("bm,bmc->bc", share, posteriors) + 1e-8)


class LateProduct(nn.Module):
    """Product of the modalities' posteriors, i.e. the sum of their log-probabilities."""

    def __init__(self, modalities: Sequence[str], dim: int, num_classes: int, **_: object) -> None:
        super().__init__()

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        log_posteriors = torch.stack([part.logits.log_softmax(dim=1) for part in parts.values()], dim=1)
        return torch.einsum("bm,bmc->bc", presence(parts), log_posteriors)


class ConcatFusion(nn.Module):
    """The summaries side by side, with a flag that says which are there, through two layers."""

    def __init__(
        self, modalities: Sequence[str], dim: int, num_classes: int, *, hidden: int, dropout: float, **_: object
    ) -> None:
        super().__init__()
        self.modalities = list(modalities)
        width = len(self.modalities) * (dim + 1)
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
        )

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        return self.head(torch.cat([summary(parts, name) for name in self.modalities], dim=1))


class GatedFusion(nn.Module):
    """A gate that sees both summaries says, for each feature, how much of each modality goes in.

    After the gated multimodal unit of Arevalo et al. 2017 (arXiv 1702.01992), with a softmax over the modalities that a
    clip has in place of the sigmoid, so that a missing one gets no weight.
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, num_classes: int, *, hidden: int, dropout: float, **_: object
    ) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.values = nn.ModuleDict({name: nn.Linear(dim, hidden) for name in self.modalities})
        self.gates = nn.Linear(len(self.modalities) * (dim + 1), len(self.modalities) * hidden)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, num_classes))

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        summaries = [summary(parts, name) for name in self.modalities]
        gates = self.gates(torch.cat(summaries, dim=1)).unflatten(1, (len(self.modalities), -1))  # (B, M, H)
        present = torch.stack([whole[:, -1] for whole in summaries], dim=1).bool()
        gates = gates.masked_fill(~present[..., None], -1e4).softmax(dim=1) * present[..., None]
        values = [
            torch.tanh(self.values[name](whole[:, :-1])) for name, whole in zip(self.modalities, summaries, strict=True)
        ]
        return self.head((gates * torch.stack(values, dim=1)).sum(dim=1))


class FilmFusion(nn.Module):
    """Each modality's summary scales and shifts the features of the other; both are then joined.

    From the paper (Perez et al. 2018, arXiv 1709.07871): gamma * x + beta for each feature, with gamma and beta a
    function of the other input, here linear, and gamma = 1 + what that function says. There one input conditions the
    other (a question the picture); voice and face have no such order, so each does it to the other: our choice. As the
    weights of the pooling sum to 1, this is what scaling and shifting every step before it would give. Where a clip
    lacks one modality, the other stays as it is.
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, num_classes: int, *, hidden: int, dropout: float, **_: object
    ) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.conditions = nn.ModuleDict({name: nn.Linear(dim, 2 * dim) for name in self.modalities})
        self.concat = ConcatFusion(modalities, dim, num_classes, hidden=hidden, dropout=dropout)

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        exchanged = {}
        for name, part in parts.items():
            pooled = part.pooled
            for other, condition in parts.items():
                if other != name:
                    both = (part.present & condition.present)[:, None]
                    gamma, beta = (self.conditions[other](condition.pooled) * both).chunk(2, dim=1)
                    pooled = film(pooled, 1 + gamma, beta)
            exchanged[name] = replace(part, pooled=pooled)
        return self.concat(exchanged)


def film(features: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Feature-wise linear modulation of (B, D) by (B, D) and (B, D)."""
    return gamma * features + beta


class CrossAttentionFusion(nn.Module):
    """Each step of one modality looks at the other's steps within a window in seconds; both are then pooled and joined.

    The window keeps the exchange local, so that a region stays a place in time. The modalities' own curves are those of
    their branches, from before this exchange.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        num_classes: int,
        *,
        hidden: int,
        dropout: float,
        window_s: float,
        **_: object,
    ) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.window_s = window_s
        self.queries, self.keys, self.values = (
            nn.ModuleDict({name: nn.Linear(dim, dim) for name in self.modalities}) for _ in range(3)
        )
        self.scores = nn.ModuleDict({name: GatedScore(dim, hidden, num_classes) for name in self.modalities})
        self.concat = ConcatFusion(modalities, dim, num_classes, hidden=hidden, dropout=dropout)

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        exchanged: Parts = {}
        for name, part in parts.items():
            sequence = part.sequence
            for other, source in parts.items():
                if other != name:
                    sequence = sequence + self._look(name, part, other, source)
            weights = masked_softmax(self.scores[name](sequence), part.mask)  # (B, T, 1)
            exchanged[name] = replace(part, pooled=(weights * sequence).sum(dim=1))
        return self.concat(exchanged)

    def _look(self, name: str, part: Attended, other: str, source: Attended) -> Tensor:
        """(B, T, D): what each step of `name` takes from the steps of `other` near it."""
        near = (part.times[:, :, None] - source.times[:, None, :]).abs() <= self.window_s  # (B, T, S)
        allowed = near & source.mask[:, None, :]
        query, key = self.queries[name](part.sequence), self.keys[other](source.sequence)
        scores = torch.einsum("btd,bsd->bts", query, key) / query.shape[-1] ** 0.5
        # A step with nothing in its window takes nothing: the weights of its row are set to zero.
        weights = scores.masked_fill(~allowed, -1e4).softmax(dim=2) * allowed
        return torch.einsum("bts,bsd->btd", weights, self.values[other](source.sequence))


FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "late_average": LateAverage,
    "late_product": LateProduct,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "film": FilmFusion,
    "lmf": LowRankFusion,
    "tfn": TensorFusion,
    "cross_attention": CrossAttentionFusion,
    "mult": CrossModalFusion,
    "mbt": BottleneckFusion,
}


def drop_modalities(parts: Parts, rate: float) -> Parts:
    """Take one modality away from a random share of the clips that have several (modality dropout, while training)."""
    present = presence(parts).bool()  # (B, M)
    names = list(parts)
    draw = torch.rand(len(present), device=present.device)
    victim = torch.randint(len(names), (len(present),), device=present.device)
    hit = (draw < rate) & (present.sum(dim=1) > 1)
    return {name: without(part, hit & (victim == i)) for i, (name, part) in enumerate(parts.items())}


def without(part: Attended, clips: Tensor) -> Attended:
    """The same part with the modality missing in the given clips (B,) bool."""
    keep = ~clips
    return replace(
        part,
        sequence=part.sequence * keep[:, None, None],
        weights=part.weights * keep[:, None],
        step_logits=None if part.step_logits is None else part.step_logits * keep[:, None, None],
        mask=part.mask & keep[:, None],
        pooled=part.pooled * keep[:, None],
        logits=part.logits * keep[:, None],
        class_weights=None if part.class_weights is None else part.class_weights * keep[:, None, None],
    )
