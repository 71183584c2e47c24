"""Tensor fusions: the verdict is read off the outer product of the modalities' summaries, in full or of low rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avser.models.parts import Parts, summary


class TensorFusion(nn.Module):
    """The outer product of all summaries, each with a 1 appended, through two hidden layers (tensor fusion network).

    From the paper (Zadeh et al. 2017, arXiv 1707.07250): the appended 1, by which the tensor also holds the summaries
    themselves; the two hidden ReLU layers on it. The paper embeds voice and face by three ReLU layers of 32 units;
    ours is one, for the branches before it have layers enough. A modality that a clip lacks is a zero vector with its
    1, so that the tensor holds what the other one says, and no more: our choice, as is the dropout.

    Args:
        width: of the embedding of each modality; the tensor has (width + 1)^M entries.
        hidden: of both hidden layers.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        num_classes: int,
        *,
        hidden: int,
        dropout: float,
        width: int,
        **_: object,
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(modalities, dim, width, dropout)
        self.head = nn.Sequential(
            nn.Linear((width + 1) ** len(modalities), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        return self.head(outer_product(self.embeddings(parts)).flatten(1))


class LowRankFusion(nn.Module):
    """The tensor fusion with one linear map from tensor to verdict, whose weights are of low rank (LMF).

    From the paper (Liu et al. 2018, arXiv 1806.00064): with weights W = sum_r outer_m w_r^m, the map of the outer
    product needs no tensor, but is sum_r prod_m (w_r^m . [z_m; 1]). The authors' code weighs the ranks by another
    parameter, which the factors can take over; here they are added as in the paper. As in their code, the map ends in
    the verdict. Our choice: one ReLU layer before it where they have three and a batch normalisation; factors that
    begin with 1 at the appended 1, so that a modality speaks at full strength where the other is missing.

    Args:
        width: of the embedding of each modality.
        rank: number of terms in the sum.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        num_classes: int,
        *,
        dropout: float,
        width: int,
        rank: int,
        **_: object,
    ) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.embeddings = Embeddings(modalities, dim, width, dropout)
        self.factors = nn.ParameterDict(
            {name: torch.empty(rank, width + 1, num_classes).normal_(std=width**-0.5) for name in modalities}
        )
        self.bias = nn.Parameter(torch.zeros(num_classes))
        with torch.no_grad():
            for factor in self.factors.values():
                factor[:, -1] = 1.0

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        terms = [
            torch.einsum("bw,rwc->brc", embedding, self.factors[name])
            for name, embedding in zip(self.modalities, self.embeddings(parts), strict=True)
        ]
        return torch.stack(terms).prod(dim=0).sum(dim=1) + self.bias


class Embeddings(nn.Module):
    """Each modality's summary brought to one width, with a 1 appended; zeros and the 1 where a clip lacks it."""

    def __init__(self, modalities: Sequence[str], dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(dim, width) for name in modalities})
        self.dropout = nn.Dropout(dropout)

    def forward(self, parts: Parts) -> list[Tensor]:
        """parts -> (B, width + 1) for each modality, in the order in which they were named."""
        found = []
        for name, layer in self.layers.items():
            whole = summary(parts, name)  # (B, D + 1)
            embedding = self.dropout(torch.relu(layer(whole[:, :-1]))) * whole[:, -1:]
            found.append(torch.cat([embedding, torch.ones_like(whole[:, -1:])], dim=1))
        return found


def outer_product(vectors: Sequence[Tensor]) -> Tensor:
    """(B, W1), (B, W2), ... -> (B, W1, W2, ...)"""
    tensor = vectors[0]
    for vector in vectors[1:]:
        tensor = tensor[..., None] * vector.reshape(vector.shape[0], *[1] * (tensor.ndim - 1), -1)
    return tensor
