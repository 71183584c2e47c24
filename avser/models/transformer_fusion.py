"""Transformer fusions: the steps of voice and face attend to each other, directly or through a few shared tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.parts import Parts, steps

SHORTEST_S, LONGEST_S = 0.1, 100.0


class CrossModalFusion(nn.Module):
    """Each modality's steps look at the other's, layer by layer, then at themselves (multimodal transformer, MulT).

    From the paper (Tsai et al. 2019, arXiv 1906.00295): a cross-modal transformer for each direction, whose keys and
    values stay the other modality's first, low-level features in every layer; then a transformer of self-attention for
    each modality, and all results side by side. From the authors' code: normalisation before attention and feed-forward
    (with one norm for queries and keys), features scaled by the square root of their width before positions are added.
    Our choice: positions in seconds, for voice and face have steps of different length; every step may look at all of
    the other modality, where their code hides the future; the mean over real steps where they take the last one; a head
    of two layers without their residual; as many layers of self-attention as of the cross-modal kind (their code: at
    least three).

    A modality that a clip lacks gives no keys: nothing is added to the other one, and its own summary is zero.

    Args:
        width: to which each modality is brought (30 to 40 in the paper).
        hidden: of the head.
        layers: of each transformer.
        heads: of each attention; divides `width`, and `width` times the number of other modalities.
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
        layers: int,
        heads: int,
        **_: object,
    ) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.embeddings = nn.ModuleDict({name: nn.Linear(dim, width, bias=False) for name in self.modalities})
        self.crossing = nn.ModuleDict(
            {
                name: nn.ModuleDict(
                    {
                        other: Transformer(width, heads, layers, dropout, nn.ReLU())
                        for other in self.modalities
                        if other != name
                    }
                )
                for name in self.modalities
            }
        )
        joined = width * (len(self.modalities) - 1)
        self.memories = nn.ModuleDict(
            {name: Transformer(joined, heads, layers, dropout, nn.ReLU()) for name in self.modalities}
        )
        self.head = nn.Sequential(
            nn.Linear(len(self.modalities) * joined, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        tokens, masks = {}, {}
        for name in self.modalities:
            sequence, masks[name], times = steps(parts, name)
            tokens[name] = _place(self.embeddings[name](sequence), times)
        found = []
        for name, mask in masks.items():
            crossing: nn.ModuleDict = self.crossing[name]  # type: ignore[assignment]
            looks = [cross(tokens[name], tokens[other], masks[other]) for other, cross in crossing.items()]
            joined = torch.cat(looks, dim=2)
            memory = self.memories[name](joined, None, mask) * mask[..., None]
            found.append(memory.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1))
        return self.head(torch.cat(found, dim=1))


class BottleneckFusion(nn.Module):
    """Each modality attends to itself and to a few shared tokens, through which alone they can tell each other (MBT).

    From the paper (Nagrani et al. 2021, arXiv 2107.00135): in each layer every modality, with weights of its own, runs
    over its steps and the bottleneck tokens; a class token for each modality ends in a shared linear head, and the
    logits are averaged; 4 bottleneck tokens. From the authors' code: the bottleneck goes on as the mean of what the
    modalities made of it (the paper also writes them one after the other); GELU, normalisation before. Our choice: all
    layers fuse, for the branches encode each modality before (the paper fuses in the last 4 of 12); positions in
    seconds in place of learned ones; a smaller width.

    A modality that a clip lacks has no part in the mean, neither of the bottleneck nor of the logits.

    Args:
        width: of the tokens; hidden is not read, for the head is linear.
        layers: at least 2: what one writes to the bottleneck is read in the next layer.
        num_bottlenecks: how many shared tokens.

    Raises:
        ConfigError: a single layer, or heads that do not divide the width.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        num_classes: int,
        *,
        dropout: float,
        width: int,
        layers: int,
        heads: int,
        num_bottlenecks: int,
        **_: object,
    ) -> None:
        super().__init__()
        if layers < 2:
            raise ConfigError(
                f"model.fusion.layers={layers}: mbt needs two layers for anything to cross its bottleneck"
            )
        self.modalities = list(modalities)
        self.embeddings = nn.ModuleDict({name: nn.Linear(dim, width) for name in self.modalities})
        self.verdicts = nn.ParameterDict({name: 0.02 * torch.randn(width) for name in self.modalities})
        self.bottleneck = nn.Parameter(0.02 * torch.randn(num_bottlenecks, width))
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: Layer(width, heads, dropout, nn.GELU()) for name in self.modalities})
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, parts: Parts) -> Tensor:
        """parts -> (B, C)"""
        tokens, masks = {}, {}
        for name in self.modalities:
            sequence, mask, times = steps(parts, name)
            verdict = self.verdicts[name].expand(mask.shape[0], 1, -1)
            tokens[name] = torch.cat([verdict, _place(self.embeddings[name](sequence), times)], dim=1)
            masks[name] = torch.cat([mask.any(dim=1, keepdim=True), mask], dim=1)
        present = torch.stack([mask[:, 0] for mask in masks.values()], dim=1).float()
        share = present / present.sum(dim=1, keepdim=True).clamp(min=1)  # (B, M)
        bottleneck = self.bottleneck.expand(share.shape[0], -1, -1)
        for layer in self.layers:
            tokens, bottleneck = self.exchange(layer, tokens, masks, bottleneck, share)
        logits = torch.stack([self.head(self.norm(tokens[name][:, 0])) for name in self.modalities], dim=1)
        return torch.einsum("bm,bmc->bc", share, logits)

    def exchange(
        self, layer: nn.Module, tokens: dict[str, Tensor], masks: dict[str, Tensor], bottleneck: Tensor, share: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One layer: each modality over its tokens (B, T, W) and the bottleneck (B, N, W), which is then averaged.

        Args:
            share: (B, M) weight of each modality in that mean.
        """
        passed, notes = {}, []
        everywhere = torch.ones(bottleneck.shape[:2], dtype=torch.bool, device=bottleneck.device)
        for name, own in tokens.items():
            both = torch.cat([own, bottleneck], dim=1)
            both = layer[name](both, None, torch.cat([masks[name], everywhere], dim=1))  # type: ignore[index]
            passed[name] = both[:, : own.shape[1]]
            notes.append(both[:, own.shape[1] :])
        return passed, torch.einsum("bm,bmnw->bnw", share, torch.stack(notes, dim=1))


class Transformer(nn.Module):
    """Layers of attention from one sequence to another, or to itself, and a norm at the end."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, dropout, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, sequence: Tensor, source: Tensor | None, source_mask: Tensor) -> Tensor:
        """(B, T, W), source (B, S, W) or None for the sequence itself, source_mask (B, S) -> (B, T, W)."""
        for layer in self.layers:
            sequence = layer(sequence, source, source_mask)
        return self.norm(sequence)


class Layer(nn.Module):
    """Attention, then a feed-forward network of four times the width; each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"model.fusion.heads={heads} must divide model.fusion.width={width}")
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.queries, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), activation, nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: Tensor, source: Tensor | None, source_mask: Tensor) -> Tensor:
        """(B, T, W), source (B, S, W) or None for the sequence itself, source_mask (B, S) -> (B, T, W)."""
        inner = self.norms[0](sequence)
        seen = inner if source is None else self.norms[0](source)
        sequence = sequence + self.dropout(self.attend(inner, seen, source_mask))
        return sequence + self.dropout(self.feed_forward(self.norms[1](sequence)))

    def attend(self, sequence: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
        """(B, T, W): what each step takes from the real steps of the source; zero for a clip whose source has none."""
        query = self._split(self.queries(sequence))
        key, value = (self._split(x) for x in self.keys_values(source).chunk(2, dim=2))
        is_there = source_mask.any(dim=1, keepdim=True)  # (B, 1)
        allowed = (source_mask | ~is_there)[:, None, None, :]  # (B, 1, 1, S); a softmax over nothing is not a number
        taken = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.outer(taken.transpose(1, 2).flatten(2)) * is_there[..., None]

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, heads, T, W / heads)"""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def time_positions(times: Tensor, width: int) -> Tensor:
    """Sines and cosines of the time itself, so that steps of any rate meet where they happen together.

    Args:
        times: (B, T) seconds.

    Returns:
        (B, T, width): waves from 0.1 s to 100 s long in equal ratios (the lengths are our choice).
    """
    half = (width + 1) // 2
    ratio = torch.linspace(0, 1, half, device=times.device)
    lengths_s = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** ratio
    phase = 2 * math.pi * times.float()[..., None] / lengths_s
    return torch.cat([phase.sin(), phase.cos()], dim=2)[..., :width]


def _place(tokens: Tensor, times: Tensor) -> Tensor:
    """Tokens (B, T, W), scaled, with their positions in time (B, T) added."""
    width = tokens.shape[2]
    return math.sqrt(width) * tokens + time_positions(times, width).to(tokens.dtype)
