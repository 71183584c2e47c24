"""How much of a step's state comes from its own moment: without that, attention to a step says little of when.

A recurrent or attending encoder may write the whole clip into every state. Attention over such states is about states,
not about moments, however well the model predicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avser.errors import AvserError
from avser.roi.salience.front_ends import InputPart, input_parts, run_on
from avser.roi.salience.gradients import differentiable, unreachable
from avser.structures import Attended, Batch

LEAST_NEAR = 0.5  # share below which curves over states are not taken for curves over moments


@dataclass(frozen=True)
class Leakage:
    """Where the states of one modality come from.

    Attributes:
        share_near: share of the influence on a state that comes from within `reach_s` of it, in [0, 1]: the mean over
            clips of the mean over steps.
        reach_s: seconds to each side.
        num_clips: how many clips it was measured on.
        is_state_attention: less than half is near; take regions from occlusion instead of from attention.
    """

    share_near: float
    reach_s: float
    num_clips: int
    is_state_attention: bool


def measure_leakage(
    model: nn.Module,
    batch: Batch,
    modality: str,
    *,
    num_steps: int = 16,
    num_projections: int = 4,
    seed: int = 0,
    reach_s: float = 0.15,
) -> Leakage:
    """The share of J_ts = || d h_t / d x_s || (Frobenius) with |t - s| <= reach_s, over steps t of each clip.

    h are the states that are attended to (`Attended.sequence`). x are the frames of the front ends, a waveform as far
    as it is read past them in cells of 10 ms, or the face's input; each feature counts in its own unit. What a front
    end does to the clip as a whole, such as scaling it to variance 1, lies before x and is not counted; nor is the
    length of its windows.

    The norm is estimated by projections: with `num_projections` rows v of a random orthonormal basis of the D features
    of h, the mean of D || v J_ts ||^2 is unbiased for || J_ts ||^2, and exact when there are D of them. Its root errs
    low by a few percent, alike for all s as far as the J_ts of a step are alike, so that the share hardly does. A pass
    backwards is made for each step and projection.

    Args:
        model: in eval mode; it is left as it was.
        batch: on the model's device; clips without the modality do not count.
        modality: "audio" or "video".
        num_steps: steps t of each clip, spread evenly from its first to its last; all where a clip has fewer.
        seed: of the projections.

    Raises:
        AvserError: no clip has the modality, or no gradient reaches it.
    """
    parts = input_parts(model, batch, modality)
    if not any(part.mask.any() for part in parts):
        raise AvserError(f"no clip of the batch has {modality}, so there is no influence to measure")
    values = [part.values.detach().requires_grad_() for part in parts]
    with differentiable(model):
        output = run_on(model, batch, parts, values)
        if modality not in output.attended:
            raise unreachable(modality)
        shares = _near_shares(
            output.attended[modality],
            parts,
            values,
            num_steps=num_steps,
            projections=_projections(output.attended[modality].sequence, num_projections, seed),
            reach_s=reach_s,
        )
    if shares is None:
        raise unreachable(modality)
    by_clip = shares.nanmean(dim=0)  # steps that nothing influences are no number
    by_clip = by_clip[by_clip.isfinite()]
    if not len(by_clip):
        raise AvserError("no state of this model depends on its input, so there is no influence to measure")
    share_near = float(by_clip.mean())
    return Leakage(share_near, reach_s, len(by_clip), share_near < LEAST_NEAR)


def _near_shares(
    attended: Attended,
    parts: list[InputPart],
    values: list[Tensor],
    *,
    num_steps: int,
    projections: Tensor,
    reach_s: float,
) -> Tensor | None:
    """(steps, B) share of each chosen step's influences that is near, NaN where there is none; None: no gradient."""
    sequence = attended.sequence
    if not sequence.requires_grad:
        return None
    chosen = spread_steps(attended.mask, num_steps)  # (K, B)
    rows = torch.arange(len(sequence), device=sequence.device)
    shares, is_reached = [], False
    for step in chosen:
        exists = step >= 0
        state = sequence[rows, step.clamp(min=0)] * exists[:, None]  # (B, D)
        squares = [torch.zeros(part.mask.shape, dtype=torch.float64, device=sequence.device) for part in parts]
        for projection in projections:
            total = (state * projection).sum()
            gradients = torch.autograd.grad(total, values, retain_graph=True, allow_unused=True)
            for part, square, gradient in zip(parts, squares, gradients, strict=True):
                if gradient is not None:
                    is_reached = True
                    square += part.sum_of_steps(gradient.square())
        at_s = attended.times.detach().double()[rows, step.clamp(min=0)]
        near, everywhere = _sums(parts, squares, at_s, reach_s)
        shares.append(torch.where(exists & (everywhere > 0), near / everywhere, torch.nan))
    return torch.stack(shares) if is_reached else None


def _sums(parts: list[InputPart], squares: list[Tensor], at_s: Tensor, reach_s: float) -> tuple[Tensor, Tensor]:
    """(B,) influences on the steps at `at_s` (B,) from what is near, and from everywhere in the clip."""
    near = everywhere = torch.zeros_like(at_s)
    for part, square in zip(parts, squares, strict=True):
        influence = square.sqrt() * part.mask
        is_near = (part.times - at_s[:, None]).abs() <= reach_s + 1e-6  # steps' times are float32
        near = near + (influence * is_near).sum(dim=1)
        everywhere = everywhere + influence.sum(dim=1)
    return near, everywhere


def spread_steps(mask: Tensor, num_steps: int) -> Tensor:
    """(K, B) indices of real steps of each clip, spread evenly from the first to the last; -1 where there are fewer."""
    counts = mask.sum(dim=1)
    chosen = torch.full((num_steps, len(mask)), -1, dtype=torch.long, device=mask.device)
    for clip, count in enumerate(counts.tolist()):
        take = min(count, num_steps)
        if take:
            place = torch.linspace(0, count - 1, take, dtype=torch.float64, device=mask.device).round().long()
            chosen[:take, clip] = mask[clip].nonzero()[place, 0]
    return chosen


def _projections(sequence: Tensor, num_projections: int, seed: int) -> Tensor:
    """(P, D) rows of a random orthonormal basis, long enough that the squares of P projections sum to the norm's."""
    dim = sequence.shape[2]
    count = min(num_projections, dim)
    drawn = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis, triangle = torch.linalg.qr(drawn)
    rows = (basis * triangle.diagonal().sign()).T[:count] * math.sqrt(dim / count)
    return rows.to(sequence)
