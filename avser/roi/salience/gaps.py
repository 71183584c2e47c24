"""Put a replacement into the gaps of a stream, or close the gaps.

Kept samples and frames stay as they are, bit by bit, and a replaced voice is blended in and out over `FADE_S` at the
edges of a gap, inside the gap, with powers that add up to 1, so that no click is heard; the outer ends of the clip have
no edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avser.roi.salience.moments import Stream, cell_of

FADE_S = 0.005


@dataclass
class Gaps:
    """What is to go from some rows of a batch.

    Attributes:
        rows: (R,) the clip of each row.
        drop: (R, K) bool, the cells to go.
        occupied: (R, K) bool, the cells in which the row has real steps.
        cell_s: length of a cell.
    """

    rows: Tensor
    drop: Tensor
    occupied: Tensor
    cell_s: float

    def steps(self, stream: Stream) -> Tensor:
        """(R, T) bool: the steps to go, padding among them."""
        cells = cell_of(stream.times, self.cell_s).clamp(max=self.drop.shape[1] - 1)
        if len(cells) == 1:
            return self.drop[:, cells[0]]
        return self.drop.gather(1, cells)


Edit = Callable[[Stream, Gaps], Stream]  # the rows of a stream -> the same without their gaps


def blend(part: Stream, material: Tensor, gaps: Gaps, rows: Tensor) -> Stream:
    """Rows of a stream with material in their gaps.

    Args:
        material: (M, T or more, ...).
        rows: (R,) which row of the material belongs to each row of the stream.
    """
    values = part.values.clone()
    if part.is_voice:
        row, at, way, fade = _voice_gaps(part, gaps)
        angle = torch.arange(fade + 2, device=values.device, dtype=torch.float64) * (math.pi / 2 / (fade + 1))
        old, new = angle.cos(), angle.sin()
        old[-1] = 0.0  # exactly, where rounding would leave a trace of the original
        before, after = old.to(values.dtype)[way], new.to(values.dtype)[way]
        values[row, at] = values[row, at] * before + material[rows[row], at] * after
    else:
        row, at = torch.nonzero(gaps.steps(part) & part.mask, as_tuple=True)
        values[row, at] = material[rows[row], at]
    return replace(part, values=values)


def sample_edges(part: Stream, gaps: Gaps) -> Tensor:
    """(K + 1,) the first sample of each cell, and the end of the last."""
    num_cells = gaps.drop.shape[1]
    cells = cell_of(part.times[0], gaps.cell_s).clamp(max=num_cells - 1)
    return torch.searchsorted(cells, torch.arange(num_cells + 1, device=cells.device))


def _voice_gaps(part: Stream, gaps: Gaps) -> tuple[Tensor, Tensor, Tensor, int]:
    """Every sample that is to go: rows (Q, 1), samples (Q, W) and how far each lies in its gap, (Q, W); Q cells.

    The way is 1 at the first sample of a gap and at its last, and one more than the length of the fade, which comes
    last, where nothing of the original is left. Cells shorter than W name their last sample several times.
    """
    edges, fade = sample_edges(part, gaps), _fade_length(part, gaps)
    kept = gaps.occupied & ~gaps.drop
    row, cell = torch.nonzero(gaps.occupied & gaps.drop, as_tuple=True)
    start = edges[cell][:, None]
    stop = torch.minimum(edges[cell + 1], part.mask.sum(dim=1)[row])[:, None]
    at = torch.minimum(start + torch.arange(int(edges.diff().max()), device=edges.device), stop - 1)
    after_kept = nn.functional.pad(kept, (1, 0))[row, cell][:, None]  # whether the cell before is kept
    before_kept = nn.functional.pad(kept, (0, 1))[row, cell + 1][:, None]
    way = torch.full_like(at, fade + 1)
    way = torch.where(after_kept, torch.minimum(way, at - start + 1), way)
    way = torch.where(before_kept, torch.minimum(way, stop - at), way)
    return row[:, None], at, way, fade


def _fade_length(part: Stream, gaps: Gaps) -> int:
    """In samples; a quarter of a cell at most, so that the shortest gap still has a middle."""
    return round(min(FADE_S, gaps.cell_s / 4) * part.sample_rate_hz)


def cut_out(part: Stream, gaps: Gaps) -> Stream:
    """Rows of a stream with their gaps closed; it ends with the longest row."""
    kept = ~gaps.steps(part)
    num_rows, length = len(part.mask), part.mask.shape[1]
    kept = kept.expand(num_rows, length)
    counts = kept.sum(dim=1, keepdim=True)
    width = max(int(counts.max()), 1)
    steps = torch.arange(length, device=kept.device).expand(num_rows, length)
    place = torch.where(kept, kept.cumsum(dim=1) - 1, length)
    source = steps.new_zeros(num_rows, length + 1).scatter_(1, place, steps)[:, :width]
    there = torch.arange(width, device=kept.device) < counts
    mask = part.mask.gather(1, source) & there
    if part.is_voice:
        values = part.values.gather(1, source) * mask
        _smooth_joints(values, part, source, mask.sum(dim=1), _fade_length(part, gaps))
        return replace(part, values=values, times=part.times[:, :width], mask=mask)
    each = torch.arange(num_rows, device=kept.device)[:, None]
    values = torch.where(along(there, part.values), part.values[each, source], torch.zeros_like(part.values[:1, :1]))
    times = part.times.gather(1, source)
    last = times.gather(1, (counts - 1).clamp(min=0))
    return replace(part, values=values, times=torch.where(there, times, last), mask=mask)


def _smooth_joints(values: Tensor, part: Stream, source: Tensor, counts: Tensor, fade: int) -> None:
    """Let the start of each gap fade out under what follows it, in `values` (R, N') itself."""
    row, joint = torch.nonzero(source[:, 1:] - source[:, :-1] > 1, as_tuple=True)  # the last sample before each gap
    way = torch.arange(1, fade + 1, device=values.device)
    at, tail = joint[:, None] + way, source[row, joint][:, None] + way  # (Q, fade)
    inside = at < counts[row][:, None]
    at, tail = at[inside], tail[inside]
    row, way = row[:, None].expand_as(inside)[inside], way.expand_as(inside)[inside]
    angle = way.to(values.dtype) * (math.pi / 2 / (fade + 1))
    values[row, at] = values[row, at] * angle.sin() + part.values[row, tail] * angle.cos()


def along(mask: Tensor, values: Tensor) -> Tensor:
    """(B, T) -> (B, T, 1, ...), to be used with `values` (B, T, ...)."""
    return mask.view(*mask.shape, *[1] * (values.ndim - 2))
