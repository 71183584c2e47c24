"""Ways to spoil the faces of a batch: blocks, blur, noise, missing frames, wrong time, nothing to see.

Each takes (batch, level, one generator a clip, pool) and returns a changed copy; frames without a face and padding stay
as they are, and what happens to a clip does not depend on the others of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avser.data.clip_pool import ClipPool
from avser.errors import ConfigError
from avser.structures import Batch

GREY = 128
FRAME_VALUES = ("frames", "landmarks", "blendshapes")
FACE_VALUES = (*FRAME_VALUES, "face_features")


@dataclass
class _Track:
    """Names of the fields of a batch that share one axis of steps."""

    times: str
    mask: str
    values: tuple[str, ...]


TRACKS = (
    _Track("frame_times", "frame_mask", FRAME_VALUES),
    _Track("feature_times", "feature_mask", ("face_features",)),
)


def occlude(batch: Batch, share: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """A grey block over this share of the crop, of its shape, in one place throughout the clip.

    Where it lies is drawn for each clip; a larger share covers what a smaller one does, and more around it.
    """

    def change(i: int, faces: Tensor) -> Tensor:
        height, width = faces.shape[-2:]
        high, wide = round(math.sqrt(share) * height), round(math.sqrt(share) * width)
        down, right = torch.rand(2, generator=generators[i]).tolist()
        top, left = round(down * (height - high)), round(right * (width - wide))
        faces = faces.clone()
        faces[..., top : top + high, left : left + wide] = GREY
        return faces

    return _change_crops(batch, change)


def blur(batch: Batch, sigma_px: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Gaussian blur with this deviation in pixels of the crop; beyond the border its last pixels go on."""
    reach = max(1, math.ceil(3 * sigma_px))
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / sigma_px) ** 2)
    weights /= weights.sum()

    def change(i: int, faces: Tensor) -> Tensor:
        num, height, width = faces.shape[0] * faces.shape[1], *faces.shape[-2:]
        kernel = weights.to(faces.device)
        planes = faces.reshape(num, 1, height, width).float()  # one plane a frame and colour
        planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
        planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
        return planes.reshape(faces.shape).round_().clamp_(0, 255).to(torch.uint8)

    return _change_crops(batch, change)


def add_face_noise(batch: Batch, deviations: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Gaussian noise in units of the input's own deviation, drawn anew for every step.

    The deviation is that of a face feature over the clips of the pool, of the clip's pixels for crops, and of each
    coordinate over the clip for landmarks and blendshapes (all our choice). Crops stay uint8.
    """

    def change(i: int, name: str, values: Tensor) -> Tensor:
        numbers = values.float()
        if name == "face_features":
            unit = pool.feature_deviation.to(values.device)
        else:
            unit = numbers.std(correction=0) if name == "frames" else numbers.std(dim=0, correction=0)
        draws = torch.randn(values.shape, generator=generators[i], device=generators[i].device)
        numbers = numbers + deviations * unit * draws.to(values.device)
        return numbers.round_().clamp_(0, 255).to(torch.uint8) if values.dtype == torch.uint8 else numbers

    return _change_values(batch, change)


def zero_face(batch: Batch, level: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Zeros that count as a face: black crops, features of 0; the mask stays."""
    return _change_values(batch, lambda i, name, values: torch.zeros_like(values))


def drop_steps(batch: Batch, share: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Frames that are missing, as if no face had been found: masked, and zero.

    Of T steps of a clip share * T are gone on average, never more than one off; with a single step a clip it is missing
    in that share of the clips. What is missing at a share is also missing at every larger one.
    """
    changed: dict[str, Any] = {}
    for track, mask in _tracks(batch):
        gone = torch.zeros_like(mask)
        for i, real in enumerate(mask):
            steps = real.nonzero()[:, 0]
            order = torch.randperm(len(steps), generator=generators[i]).to(steps.device)
            extra = float(torch.rand((), generator=generators[i], dtype=torch.float64))
            gone[i, steps[order[: math.floor(share * len(steps) + extra)]]] = True
        changed |= _without_steps(batch, track, mask, gone)
    return replace(batch, **changed)


def shift_face(batch: Batch, shift_s: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Every step of the face comes later, or with a negative shift earlier; what leaves the clip is missing.

    Only models that look at times notice more than the missing steps.

    Raises:
        ConfigError: the face has a single step in every clip, and no time.
    """
    if all(mask.shape[1] < 2 for _, mask in _tracks(batch)):
        raise ConfigError("the face has one step a clip, which stands for the whole clip and cannot come late")
    changed: dict[str, Any] = {}
    for track, mask in _tracks(batch):
        before = getattr(batch, track.times)
        times, end = before + shift_s, _ends_s(batch, before)[:, None]
        changed |= {track.times: times, **_without_steps(batch, track, mask, mask & ((times < 0) | (times > end)))}
    return replace(batch, **changed)


def remove_face(batch: Batch, level: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """No face at all, as in a telephone call."""
    return batch.without("video")


def _ends_s(batch: Batch, times: Tensor) -> Tensor:
    """(B,) where each clip ends: the last step of the face or the last sample of the voice, whichever is later."""
    ends = times.amax(dim=1)  # padding repeats the last time
    if batch.waveform_mask is None:
        return ends
    return torch.maximum(ends, batch.waveform_mask.sum(dim=1).to(ends) / batch.sample_rate_hz)


def _tracks(batch: Batch) -> Iterator[tuple[_Track, Tensor]]:
    """The tracks that the batch has, with their masks (B, T)."""
    for track in TRACKS:
        if (mask := getattr(batch, track.mask)) is not None:
            yield track, mask


def _without_steps(batch: Batch, track: _Track, mask: Tensor, gone: Tensor) -> dict[str, Tensor]:
    """Mask and values of a track without the steps (B, T) that are gone."""
    changed = {track.mask: mask & ~gone}
    for name in track.values:
        if (values := getattr(batch, name)) is not None:
            changed[name] = values.masked_fill(gone.view(*gone.shape, *[1] * (values.dim() - 2)), 0)
    return changed


def _change_values(batch: Batch, change: Callable[[int, str, Tensor], Tensor]) -> Batch:
    """`change` gets the number of a clip, a field and its values at real steps (K, ...), and returns as many."""
    changed: dict[str, Any] = {}
    for track, mask in _tracks(batch):
        for name in track.values:
            if (values := getattr(batch, name)) is None:
                continue
            changed[name] = values.clone()
            for i, real in enumerate(mask):
                if real.any():
                    changed[name][i, real] = change(i, name, values[i, real])
    return replace(batch, **changed)


def _change_crops(batch: Batch, change: Callable[[int, Tensor], Tensor]) -> Batch:
    """`change` is given the number of a clip and its crops with a face (K, 3, H, W) uint8, and returns as many."""
    if batch.frames is None:
        return batch
    return _change_values(batch, lambda i, name, values: change(i, values) if name == "frames" else values)
