"""Long recordings as equal segments and back: many published systems judge segments and let the clip be their mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Segments:
    """The segments of a batch, those of clip 0 first.

    Attributes:
        values: (S, ..., L) the segments, zero where a clip ended before the segment did.
        mask: (S, L) bool.
        owner: (S,) int64, the clip that each segment is from.
        start: (S,) int64, the step of that clip at which it begins.
    """

    values: Tensor
    mask: Tensor
    owner: Tensor
    start: Tensor

    def __len__(self) -> int:
        return len(self.owner)


def first_steps(values: Tensor, max_steps: int | None) -> Tensor:
    """The beginning of each clip: (B, T, ...) -> (B, min(T, max_steps), ...), or all of it without a limit.

    A slice would be written into an exported graph as whole, or as cut, by how long the example was.
    """
    if max_steps is None:
        return values
    return values[:, torch.arange(torch.sym_min(values.shape[1], max_steps), device=values.device)]


def cut_segments(values: Tensor, mask: Tensor, length: int, hop: int, *, slide_back: bool = True) -> Segments:
    """Cut each clip into overlapping segments that cover all of it.

    Args:
        values: (B, ..., T), e.g. planes (B, K, F, T) or a waveform (B, N).
        mask: (B, T) bool, real steps first. A clip with no real step gives one segment of zeros.
        length, hop: of a segment and from one to the next, in steps; hop <= length.
        slide_back: a clip's last segment begins earlier, so that it ends with the clip, as far as the clip reaches;
            False: it begins at a multiple of the hop and is filled up with zeros.

    Raises:
        ValueError: a hop longer than the segment, which would leave out what is between.
    """
    if not 0 < hop <= length:
        raise ValueError(f"segments of {length} steps every {hop}: the hop must be between 1 and the length")
    lengths = mask.sum(dim=1)
    owners, starts = [], []
    for clip, num_steps in enumerate(lengths.tolist()):
        count = 1 + max(0, -(-(num_steps - length) // hop))
        begin = [i * hop for i in range(count)]
        if slide_back:
            begin[-1] = max(0, min(begin[-1], num_steps - length))
        owners += [clip] * count
        starts += begin
    owner = torch.tensor(owners, device=values.device)
    start = torch.tensor(starts, device=values.device)
    short = max(0, max(starts) + length - mask.shape[1])
    values = torch.nn.functional.pad(values, (0, short))
    steps = start[:, None] + torch.arange(length, device=values.device)  # (S, L)
    rows = values.movedim(-1, 1)[owner[:, None], steps]  # (S, L, ...)
    real = steps < lengths[owner][:, None]
    rows = rows * real.view(*real.shape, *[1] * (rows.ndim - 2))
    return Segments(rows.movedim(1, -1), real, owner, start)


def mean_of_clips(values: Tensor, owner: Tensor, num_clips: int) -> Tensor:
    """(S, ...) one row a segment -> (B, ...) the mean over each clip's segments."""
    total = values.new_zeros(num_clips, *values.shape[1:]).index_add(0, owner, values)
    count = torch.bincount(owner, minlength=num_clips).clamp(min=1).to(values.dtype)
    return total / count.view(-1, *[1] * (values.ndim - 1))


def max_of_clips(values: Tensor, owner: Tensor, num_clips: int) -> Tensor:
    """(S, D) one row a segment -> (B, D) the maximum over each clip's segments."""
    lowest = values.new_full((num_clips, values.shape[1]), float("-inf"))
    return lowest.scatter_reduce(0, owner[:, None].expand_as(values), values, "amax")


def mean_over_overlaps(
    values: Tensor, mask: Tensor, owner: Tensor, start: Tensor, num_clips: int
) -> tuple[Tensor, Tensor]:
    """What the segments say at each step of their clips, averaged where they overlap.

    Args:
        values: (S, L, D), mask: (S, L), owner: (S,), start: (S,) in steps of L's axis.

    Returns:
        (B, T, D), zero where no real step of a segment lies, and mask (B, T); T reaches to the last real step.
    """
    place = start[:, None] + torch.arange(values.shape[1], device=values.device)  # (S, L)
    num_steps = int((place[mask].max() + 1).item()) if mask.any() else 1
    flat = (owner[:, None] * num_steps + place)[mask]  # (M,)
    total = values.new_zeros(num_clips * num_steps, values.shape[2]).index_add(0, flat, values[mask])
    count = torch.bincount(flat, minlength=num_clips * num_steps)
    mean = total / count.clamp(min=1).to(values.dtype)[:, None]
    return mean.view(num_clips, num_steps, -1), (count > 0).view(num_clips, num_steps)
