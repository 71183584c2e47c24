"""To what the logit of an emotion would react, moment by moment: gradient x input and integrated gradients.

Both compare a clip with its own average: in the baseline every feature has its mean over the clip's real steps. So a
curve tells what of the logit came from the change of the input along time, and an offset that all steps share carries
nothing. That is the baseline to take for these models, since most front ends take away the clip's mean or divide by its
deviation anyway; silence, zeros or black frames would be clips that no front end gives.

What is attributed to are the frames of the model's front ends, and a waveform only as far as the model reads it past
all of them (a learned encoder); for the face what the model reads of the batch. What does not belong to the clip stays
as it is in the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from avser.errors import AvserError
from avser.roi.salience.front_ends import CELL_S, InputPart, input_parts, run_on
from avser.structures import Batch, Curve, Output

Track = tuple[np.ndarray, np.ndarray]  # times and values of one part of one clip's input


def grad_input(model: nn.Module, batch: Batch, modality: str, emotions: Sequence[int]) -> list[Curve]:
    """(x - average) * d logit / d x, summed over the features (and pixels) of each step.

    The first-order term of what the moments of a modality do to the logit (gradient x input: Shrikumar et al. 2016,
    arXiv 1605.01713, here against the clip's average). It is exact for a model that is linear in its frames.

    Args:
        model: in eval mode, with or without recurrent layers; it is left as it was.
        batch: on the model's device.
        modality: "audio" or "video".
        emotions: for each clip the index of the emotion whose logit is asked about.

    Returns:
        One signed curve a clip, on the times of the frames that the model reads; of length 0 for a clip without the
        modality. Where a model reads parts with different times (several front ends, a front end and a waveform), they
        are summed on cells of 10 ms. A waveform alone is told in cells of 10 ms too.

    Raises:
        AvserError: no gradient reaches the modality.
        ValueError: not one emotion a clip.
    """
    parts, gradients = _gradients_at_input(model, batch, modality, _target_sum(batch, emotions))
    totals = [part.sum_of_steps((part.values - part.average()) * g) for part, g in zip(parts, gradients, strict=True)]
    return _curves(parts, totals, len(batch))


def integrated_gradients(
    model: nn.Module,
    batch: Batch,
    modality: str,
    emotions: Sequence[int],
    num_steps: int = 32,
    *,
    max_rows: int = 64,
) -> list[Curve]:
    """(x - average) * the mean of d logit / d x on the straight line from the average to x, summed over features.

    Sundararajan, Taly & Yan 2017 (arXiv 1703.01365). Complete: a curve sums to logit(x) - logit(average), up to the
    error of `num_steps` points of Gauss-Legendre quadrature. Where a system scales a waveform to variance 1 before a
    learned encoder, the logit jumps right beside the average, and the waveform's share of it cannot be caught.

    Args:
        num_steps: points on the line.
        max_rows: rows that are computed at once; never less than one for each clip.

    Returns, raises and further arguments: as `grad_input`.
    """
    from captum.attr import IntegratedGradients

    parts, _ = _gradients_at_input(model, batch, modality, _target_sum(batch, emotions))
    if not parts:
        return _curves(parts, [], len(batch))
    device = parts[0].values.device

    def logits(*values_and_rows: Tensor) -> Tensor:
        *values, rows = values_and_rows
        return run_on(model, batch, parts, values, rows).logits

    with differentiable(model):
        attributions = IntegratedGradients(logits).attribute(
            tuple(part.values for part in parts),
            tuple(part.average() for part in parts),
            target=torch.tensor(list(emotions), device=device),
            additional_forward_args=(torch.arange(len(batch), device=device),),
            n_steps=num_steps,
            internal_batch_size=max(max_rows, len(batch)),
        )
    totals = [part.sum_of_steps(x.detach()) for part, x in zip(parts, attributions, strict=True)]
    return _curves(parts, totals, len(batch))


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Gradients with respect to an input, on any device, of a model in eval mode.

    cuDNN cannot go backwards through recurrent layers in eval mode, so it is set aside while there are any.
    """
    was_enabled = torch.backends.cudnn.enabled
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    torch.backends.cudnn.enabled = was_enabled and not is_recurrent
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.backends.cudnn.enabled = was_enabled


def unreachable(modality: str) -> AvserError:
    """What to say where no gradient reaches a modality."""
    return AvserError(
        f"no gradient reaches the {'voice' if modality == 'audio' else 'face'}: this model does not read it, or has a "
        "part that computes without gradients; ask by another modality, or by occlusion, which needs none"
    )


def _gradients_at_input(
    model: nn.Module, batch: Batch, modality: str, score: Callable[[Output], Tensor]
) -> tuple[list[InputPart], list[Tensor]]:
    """The parts of the input that the score depends on, and its gradient at each; none where the batch has none."""
    parts = input_parts(model, batch, modality)
    if not any(part.mask.any() for part in parts):
        return [], []
    values = [part.values.detach().requires_grad_() for part in parts]
    with differentiable(model):
        total = score(run_on(model, batch, parts, values))
        if not total.requires_grad:
            raise unreachable(modality)
        gradients = torch.autograd.grad(total, values, allow_unused=True)
    reached = [(part, gradient) for part, gradient in zip(parts, gradients, strict=True) if gradient is not None]
    if not reached:
        raise unreachable(modality)
    return [part for part, _ in reached], [gradient for _, gradient in reached]


def _target_sum(batch: Batch, emotions: Sequence[int]) -> Callable[[Output], Tensor]:
    """The sum of each clip's logit for its emotion; clips do not see each other, so its gradient is that of each."""
    if len(emotions) != len(batch):
        raise ValueError(f"{len(emotions)} emotions for {len(batch)} clips; give one for each")
    return lambda output: output.logits[torch.arange(len(batch)), list(emotions)].sum()


def _curves(parts: Sequence[InputPart], totals: Sequence[Tensor], num_clips: int) -> list[Curve]:
    """What each step of each part (B, T) adds, as one curve a clip."""
    columns = []
    for part, total in zip(parts, totals, strict=True):
        arrays = [x.detach().cpu().numpy() for x in (part.times, total.double(), part.mask)]
        columns.append([(t[m], v[m]) for t, v, m in zip(*arrays, strict=True)])
    return [_add([column[clip] for column in columns if len(column[clip][0])]) for clip in range(num_clips)]


def _add(tracks: Sequence[Track]) -> Curve:
    """The sum of tracks: as they are where their times agree, else on cells of 10 ms."""
    if not tracks:
        return Curve(np.zeros(0), np.zeros(0))
    times = tracks[0][0]
    if all(np.array_equal(other, times) for other, _ in tracks):
        return Curve(times, np.sum([values for _, values in tracks], axis=0))
    last_s = max(times[-1] for times, _ in tracks)
    edges = CELL_S * np.arange(int(last_s / CELL_S + 1e-6) + 2)
    return Curve(edges[:-1] + CELL_S / 2, np.sum([spread(*track, edges) for track in tracks], axis=0))


def spread(times: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Values of steps at `times` (T,), told in the cells between `edges` (K + 1,): (K,) with the same sum.

    A step reaches half way to its neighbours, and as far outwards at the ends; its value is spread evenly over that.
    What lies outside of all cells goes to the first or the last one.
    """
    middles = (times[1:] + times[:-1]) / 2
    reach = (times[1] - times[0], times[-1] - times[-2]) if len(times) > 1 else (CELL_S, CELL_S)
    bounds = np.concatenate([[times[0] - reach[0] / 2], middles, [times[-1] + reach[1] / 2]])
    until = np.interp(edges, bounds, np.concatenate([[0.0], np.cumsum(values)]))
    until[0], until[-1] = 0.0, values.sum()
    return np.diff(until)
