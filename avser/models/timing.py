"""When a step of a branch is and how much of the clip it has seen: measured by changing the input, not declared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from avser.structures import Batch

FACE = ("frames", "landmarks", "blendshapes", "face_features")
PROBE_S = 4.0  # length of the probe clip
WINDOW_S = 0.02
THRESHOLD = 0.02  # changes below this share of the largest do not count: normalising by the clip reaches everywhere


@dataclass(frozen=True)
class Timing:
    """What a branch does to time.

    Attributes:
        step_s: from one step to the next.
        receptive_field_s: length of the stretch that can change one step noticeably; about the whole clip for an RNN.
        delay_s: middle of that stretch minus the time that the step claims; about 0 for a branch that is centred.
    """

    step_s: float
    receptive_field_s: float
    delay_s: float


def measure_timing(
    branch: nn.Module,
    modality: str,
    *,
    sample_rate_hz: int = 16000,
    fps: float = 15.0,
    size_px: int = 48,
    window_s: float = WINDOW_S,
) -> Timing:
    """Change one moment of a probe clip at a time, and see which moments change the branch's middle step.

    Args:
        branch: maps a Batch to (sequence (B, T, D), mask (B, T), times (B, T)); left in the mode in which it was.
        fps, size_px: of the frames that a face branch is probed with.
        window_s: length of a changed stretch of a voice, and so the resolution of what is measured of reach and delay.
    """
    probe = probe_clip(modality, sample_rate_hz=sample_rate_hz, fps=fps, size_px=size_px)
    with _evaluated(branch), torch.no_grad():
        sequence, mask, times = branch(probe)
        real = mask[0].nonzero().squeeze(1)
        middle = int(real[len(real) // 2])
        reference = sequence[0, middle]
        moments, changes = [], []
        for moment_s, changed in _variants(probe, window_s):
            moments.append(moment_s)
            changes.append((branch(changed)[0][0, middle] - reference).abs().max())
    change, moment = torch.stack(changes), torch.tensor(moments)
    if not change.max() > 0:
        raise ValueError(f"the {modality} branch does not change with its input")
    felt = moment[change > THRESHOLD * change.max()]
    spacing = moments[1] - moments[0]
    return Timing(
        step_s=round(times[0, real].diff().median().item(), 4),
        receptive_field_s=round((felt.max() - felt.min()).item() + spacing, 4),
        delay_s=round(((felt.max() + felt.min()) / 2 - times[0, middle]).item(), 4),
    )


def probe_clip(modality: str, *, sample_rate_hz: int = 16000, fps: float = 15.0, size_px: int = 48) -> Batch:
    """The clip that is changed: noise, or a face that does not move."""
    return _voice(sample_rate_hz) if modality == "audio" else _faces(fps, size_px)


class SequenceOf(nn.Module):
    """A whole model as the branch of one modality, to be measured."""

    def __init__(self, model: nn.Module, modality: str) -> None:
        super().__init__()
        self.model = model
        self.modality = modality

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Sequence (B, T, D), mask (B, T) and times (B, T) of the modality."""
        part = self.model(batch).attended[self.modality]
        return part.sequence, part.mask, part.times


@contextmanager
def _evaluated(branch: nn.Module) -> Iterator[None]:
    """In eval mode, then every module as before: a wrapper that is new need not be in the mode of what it wraps."""
    before = {module: module.training for module in branch.modules()}
    branch.eval()
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training


def _variants(probe: Batch, window_s: float) -> Iterator[tuple[float, Batch]]:
    """The probe with one moment replaced, and the middle of that moment in seconds."""
    if probe.waveform is not None:
        width = round(window_s * probe.sample_rate_hz)
        for start in range(0, probe.waveform.shape[1] - width + 1, width):
            waveform = probe.waveform.clone()
            waveform[0, start : start + width] = _noise(width, seed=start + 1)
            yield (start + width / 2) / probe.sample_rate_hz, replace(probe, waveform=waveform)
    elif probe.frame_times is not None:
        for i, time_s in enumerate(probe.frame_times[0].tolist()):
            changed: dict[str, Any] = {name: _changed_at(getattr(probe, name), i) for name in FACE}
            yield time_s, replace(probe, **changed)


def _changed_at(face: Tensor, step: int) -> Tensor:
    """The face with one step made its negative."""
    face = face.clone()
    face[0, step] = (255 if face.dtype == torch.uint8 else 1) - face[0, step]
    return face


def _voice(sample_rate_hz: int) -> Batch:
    waveform = _noise(round(PROBE_S * sample_rate_hz), seed=0)[None]
    return Batch(["probe"], waveform, torch.ones_like(waveform, dtype=torch.bool), sample_rate_hz)


def _faces(fps: float, size_px: int) -> Batch:
    """A face that does not move, in every form that a model may read it in."""
    num_frames = round(PROBE_S * fps)
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 256, (3, size_px, size_px), generator=generator, dtype=torch.uint8)
    points, shapes, units = (torch.rand(shape, generator=generator) for shape in ((478, 2), (52,), (35,)))
    times = torch.arange(num_frames)[None] / fps
    real = torch.ones(1, num_frames, dtype=torch.bool)
    return Batch(
        ["probe"],
        frames=one.repeat(1, num_frames, 1, 1, 1),
        frame_times=times,
        frame_mask=real,
        landmarks=points.repeat(1, num_frames, 1, 1),
        blendshapes=shapes.repeat(1, num_frames, 1),
        face_features=units.repeat(1, num_frames, 1),
        feature_times=times,
        feature_mask=real,
    )


def _noise(num_samples: int, seed: int) -> Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
