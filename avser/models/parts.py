"""What every fusion receives: the attended modalities of a batch, some of which a clip or all clips may lack."""

from __future__ import annotations

import torch
from torch import Tensor

from avser.structures import Attended

Parts = dict[str, Attended]


def presence(parts: Parts) -> Tensor:
    """(B, M) float, 1 where a clip has the modality."""
    return torch.stack([part.present for part in parts.values()], dim=1).float()


def summary(parts: Parts, name: str) -> Tensor:
    """(B, D + 1): the pooled features and the flag that they are real; zeros for a modality that is absent."""
    if name in parts:
        return torch.cat([parts[name].pooled, parts[name].present[:, None].float()], dim=1)
    other = next(iter(parts.values())).pooled
    return other.new_zeros(other.shape[0], other.shape[1] + 1)


def steps(parts: Parts, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Sequence (B, T, D), mask (B, T) and times (B, T) in seconds; one step that is not real where it is absent."""
    if name in parts:
        return parts[name].sequence, parts[name].mask, parts[name].times
    other = next(iter(parts.values())).sequence
    nothing = other.new_zeros(other.shape[0], 1, other.shape[2])
    return nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool), nothing[..., 0]
