"""Where in the face a model saw an emotion, frame by frame: Grad-CAM on its frame CNN, summed over places of the face.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) weighs each channel of the last convolutional feature map by the mean
of its gradient over the plane and keeps what is positive. Here the gradient comes from the clip's logit through the
whole sequence model, so that a frame that the clip's answer does not rest on has a small map: maps are in units of the
logit and are not scaled frame by frame.

A map cannot be finer than the feature map that it is made of, nor than the stretch of the picture that one of its cells
sees; `FaceMap.grid` tells the former.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avser.errors import AvserError
from avser.roi.salience.face_places import PLACES, crop_squares, into_crop, place_masks, usual_masks
from avser.roi.salience.gradients import differentiable, unreachable
from avser.structures import VIDEO, Batch, Output

ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # what they give is a summary, no feature map
WITHOUT_LANDMARKS = (
    "there are no landmarks: the places are those of a usual face in an aligned crop with a margin of 0.25, not those "
    "of this one; read clips with their landmarks (media.faces.tracker=mediapipe)"
)


@dataclass
class FaceMap:
    """Where the face of one clip spoke for an emotion.

    Attributes:
        times: (T,) seconds, of the frames that the model saw.
        maps: (T, H, W) float32, 0 or more, in the crop's pixels and in units of the logit.
        places: place of the face -> (T,) share of the frame's map that lies inside; NaN where the map is 0 throughout.
        areas: place -> (T,) share of the crop that it fills: what a map that is even all over would have inside.
        grid: rows and columns of the feature map behind it: its true resolution.
        note: a sentence for the person, or empty.
    """

    times: np.ndarray
    maps: np.ndarray
    places: dict[str, np.ndarray]
    areas: dict[str, np.ndarray]
    grid: tuple[int, int]
    note: str = ""

    def __len__(self) -> int:
        return len(self.times)


def face_maps(
    model: nn.Module,
    batch: Batch,
    emotions: Sequence[int],
    *,
    margin: float = 0.25,
    smooth_s: float = 0.2,
    align: bool = True,
    past: bool = False,
) -> list[FaceMap]:
    """Grad-CAM of each clip's logit for its emotion, over the crops of its face; one backward pass for the batch.

    The feature map is the last one with height and width that the model computes from the crops on the way to its
    logits (adaptive poolings left out): of a network whose branches read several levels of a CNN that of the last
    level. Each of its planes belongs to one step of the face, in order; a step's crop is that of the frame nearest to
    its time.

    Args:
        model: in eval mode; it is left as it was.
        batch: with crops, and with landmarks where places shall be those of this face.
        emotions: for each clip the index of the emotion whose logit is asked about.
        margin, smooth_s, align, past: how the crops were made, to find landmarks in them, see `crop_squares`.

    Returns:
        One map a clip; of length 0 for a clip without a face.

    Raises:
        AvserError: the model does not look at crops through a convolutional network, or not step by step.
        ValueError: not one emotion a clip.
    """
    if len(emotions) != len(batch):
        raise ValueError(f"{len(emotions)} emotions for {len(batch)} clips; give one for each")
    if batch.frames is None or batch.frame_mask is None or not batch.frame_mask.any():
        return [_empty(batch) for _ in emotions]
    frames = batch.frames.detach().float().requires_grad_()
    with differentiable(model), _watch_planes(model) as planes:
        output = model(replace(batch, frames=frames))
        logits = output.logits[torch.arange(len(batch)), list(emotions)].sum()
        features = _last_feature_map(planes, logits, frames)
        gradient = torch.autograd.grad(logits, features)[0]
    heat = torch.einsum("mk,mkhw->mhw", gradient.mean(dim=(2, 3)), features.detach()).relu()
    size = (frames.shape[-2], frames.shape[-1])
    maps = nn.functional.interpolate(heat[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    mask, times = _steps(output, len(maps))
    grid = (heat.shape[1], heat.shape[2])
    crop_settings = {"margin": margin, "smooth_s": smooth_s, "align": align, "past": past}
    found, first = [], 0
    for clip in range(len(batch)):
        own = maps[first : first + int(mask[clip].sum())].float().cpu().numpy()
        first += len(own)
        when = times[clip][mask[clip]]
        masks, note = _places(batch, clip, when, size, crop_settings)
        found.append(_sum_up(when, own, masks, grid, note))
    return found


# --- the feature map ---------------------------------------------------------------------------------------------


@contextmanager
def _watch_planes(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the planes (M, K, h, w) that modules compute while the context is open, in order."""
    collected: list[Tensor] = []
    summaries: list[Tensor] = []

    def after(module: nn.Module, _: Any, answer: Any) -> None:
        if not (isinstance(answer, Tensor) and answer.ndim == 4 and answer.requires_grad):
            return
        if isinstance(module, ADAPTIVE):
            summaries.append(answer)
        elif answer.shape[-2] * answer.shape[-1] > 1 and not any(answer is summary for summary in summaries):
            collected.append(answer)

    hooks = [module.register_forward_hook(after) for module in model.modules()]
    try:
        yield collected
    finally:
        for hook in hooks:
            hook.remove()


def _last_feature_map(planes: Sequence[Tensor], logits: Tensor, frames: Tensor) -> Tensor:
    """The last planes that the logits depend on, and that depend on the frames."""
    on_the_way = {id(node): node for node in _behind(logits.grad_fn)}
    for plane in reversed(planes):
        if id(plane.grad_fn) in on_the_way and any(
            getattr(node, "variable", None) is frames for node in _behind(plane.grad_fn)
        ):
            return plane
    raise AvserError(
        f"{unreachable(VIDEO)}; a map of the face needs a model that reads crops through a convolutional network"
    )


def _behind(node: Any) -> Iterator[Any]:
    """Everything that a result was computed from, itself included, as nodes of the graph of gradients."""
    waiting, seen = [node], {}
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen[id(node)] = node  # held, so that no other node gets its id
        yield node
        waiting += [before for before, _ in node.next_functions]


def _steps(output: Output, num_maps: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and times (B, T) of the face's steps, of which there must be one for each map."""
    part = output.attended.get(VIDEO)
    num_steps = 0 if part is None else int(part.mask.sum())
    if part is None or num_steps != num_maps:
        raise AvserError(
            f"the network computed {num_maps} feature maps for {num_steps} steps of the face, so nobody can tell which "
            "frame each is of; ask where in the face of a model with one step a frame"
        )
    return part.mask.cpu().numpy(), part.times.detach().cpu().double().numpy()


# --- places ------------------------------------------------------------------------------------------------------


def _places(
    batch: Batch, clip: int, times: np.ndarray, size: tuple[int, int], crop_settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], str]:
    """Place -> (T, H, W) bool at the wanted times, and a note."""
    assert batch.frame_mask is not None
    assert batch.frame_times is not None
    if batch.landmarks is None:
        return {
            place: np.broadcast_to(mask, (len(times), *size)) for place, mask in usual_masks(*size).items()
        }, WITHOUT_LANDMARKS
    real = batch.frame_mask[clip].cpu().numpy()
    frame_s = batch.frame_times[clip].cpu().double().numpy()[real]
    landmarks = batch.landmarks[clip].cpu().double().numpy()[real]
    if not len(times):
        return {place: np.zeros((0, *size), dtype=bool) for place in PLACES}, ""
    squares = crop_squares(frame_s, landmarks, **crop_settings)
    nearest = np.abs(times[:, None] - frame_s).argmin(axis=1)
    masks = [place_masks(into_crop(landmarks[i], squares[i], size[1]), *size) for i in nearest]
    return {place: np.stack([mask[place] for mask in masks]) for place in PLACES}, ""


def _sum_up(
    times: np.ndarray, maps: np.ndarray, masks: dict[str, np.ndarray], grid: tuple[int, int], note: str
) -> FaceMap:
    mass = maps.sum(axis=(1, 2), dtype=float)
    whole = np.where(mass > 0, mass, np.nan)
    return FaceMap(
        times=times,
        maps=maps,
        places={place: np.einsum("thw,thw->t", maps, mask, dtype=float) / whole for place, mask in masks.items()},
        areas={place: mask.mean(axis=(1, 2), dtype=float) for place, mask in masks.items()},
        grid=grid,
        note=note,
    )


def _empty(batch: Batch) -> FaceMap:
    size = (0, 0) if batch.frames is None else (int(batch.frames.shape[-2]), int(batch.frames.shape[-1]))
    none = {place: np.zeros(0) for place in PLACES}
    return FaceMap(np.zeros(0), np.zeros((0, *size), np.float32), none, dict(none), (0, 0))
