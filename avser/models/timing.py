"""When a step of a branch is and how much of the clip it has seen: measured by changing the input, not declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avser.structures import Batch

PROBE_S = 4.0  # length of the probe clip
WINDOW_S = 0.02  # resolution of the probing of a voice branch
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
    branch: nn.Module, modality: str, *, sample_rate_hz: int = 16000, fps: float = 15.0, size_px: int = 48
) -> Timing:
    """Change one moment of a probe clip at a time, and see which moments change the branch's middle step.

    Args:
        branch: maps a Batch to (sequence (B, T, D), mask (B, T), times (B, T)).
        fps, size_px: of the frames that a face branch is probed with.
    """
    probe = _voice(sample_rate_hz) if modality == "audio" else _faces(fps, size_px)
    was_training = branch.training
    branch.eval()
    with torch.no_grad():
        sequence, _, times = branch(probe)
        middle = sequence.shape[1] // 2
        reference = sequence[0, middle]
        moments, changes = [], []
        for moment_s, changed in _variants(probe):
            moments.append(moment_s)
            changes.append((branch(changed)[0][0, middle] - reference).abs().max())
    branch.train(was_training)
    change, moment = torch.stack(changes), torch.tensor(moments)
    felt = moment[change > THRESHOLD * change.max()]
    spacing = moments[1] - moments[0]
    return Timing(
        step_s=round((times[0, 1] - times[0, 0]).item(), 4),
        receptive_field_s=round((felt.max() - felt.min()).item() + spacing, 4),
        delay_s=round(((felt.max() + felt.min()) / 2 - times[0, middle]).item(), 4),
    )


def _variants(probe: Batch) -> Iterator[tuple[float, Batch]]:
    """The probe with one moment replaced, and the middle of that moment in seconds."""
    if probe.waveform is not None:
        width = round(WINDOW_S * probe.sample_rate_hz)
        for start in range(0, probe.waveform.shape[1] - width + 1, width):
            waveform = probe.waveform.clone()
            waveform[0, start : start + width] = _noise(width, seed=start + 1)
            yield (start + width / 2) / probe.sample_rate_hz, replace(probe, waveform=waveform)
    elif probe.frames is not None and probe.frame_times is not None:
        for i, time_s in enumerate(probe.frame_times[0].tolist()):
            frames = probe.frames.clone()
            frames[0, i] = 255 - frames[0, i]
            yield time_s, replace(probe, frames=frames)


def _voice(sample_rate_hz: int) -> Batch:
    waveform = _noise(round(PROBE_S * sample_rate_hz), seed=0)[None]
    return Batch(["probe"], waveform, torch.ones_like(waveform, dtype=torch.bool), sample_rate_hz)


def _faces(fps: float, size_px: int) -> Batch:
    num_frames = round(PROBE_S * fps)
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 256, (3, size_px, size_px), generator=generator, dtype=torch.uint8)
    return Batch(
        ["probe"],
        frames=one.repeat(1, num_frames, 1, 1, 1),
        frame_times=torch.arange(num_frames)[None] / fps,
        frame_mask=torch.ones(1, num_frames, dtype=torch.bool),
    )


def _noise(num_samples: int, seed: int) -> Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
