"""What a signal that is still coming in is compared with: the columns before a chunk, and statistics of the past."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MIN_VARIANCE = 1e-5  # as in `avser.features.spectral.standardize`


class Memory(dict[str, Any]):
    """What causal modules keep from one chunk to the next, by name. An empty one is the beginning of a recording.

    A module that is given none begins anew and keeps nothing, so a whole recording and a chunk take the same way.
    """

    def of(self, name: str) -> Memory:
        """The memory of a part."""
        return self.setdefault(name, Memory())


def with_past(x: Tensor, size: int, memory: Memory, name: str, *, first: Tensor | float = 0.0) -> Tensor:
    """A chunk with the columns that came before it in front; its last ones are kept for the next chunk.

    Args:
        x: (..., T).
        size: how many columns.
        first: what was before the beginning: a number, or a column (..., 1) that is repeated.

    Returns:
        (..., size + T).
    """
    past = memory.get(name)
    if past is None:
        column = first if isinstance(first, Tensor) else x.new_full((*x.shape[:-1], 1), first)
        past = column.expand(*x.shape[:-1], size)
    whole = torch.cat([past, x], dim=-1)
    memory[name] = whole[..., whole.shape[-1] - size :]
    return whole


def running_standardize(planes: Tensor, length: int, memory: Memory, *, each_band: bool = False) -> Tensor:
    """Zero mean and unit variance by the last `length` columns, each column's own included; fewer at the beginning.

    The causal form of `avser.features.spectral.standardize`: what comes later changes nothing.

    Args:
        planes: (B, K, F, T).
        length: columns of which the statistics are taken; so many sums are kept.
        each_band: statistics for each band of frequency, not for the plane.
    """
    values = planes.double()  # a difference of long sums is taken below
    sums = torch.stack([torch.ones_like(values), values, values.square()])  # (3, B, K, F, T)
    if not each_band:
        sums = sums.sum(dim=3, keepdim=True)
    whole = with_past(sums, length, memory, "sums").cumsum(dim=-1)
    count, total, squares = whole[..., length:] - whole[..., :-length]
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return ((values - mean) / (variance + MIN_VARIANCE).sqrt()).to(planes.dtype)
