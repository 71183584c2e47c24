"""The branches of the reference model that see the past alone: voice and face, chunk by chunk or a clip at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.features.causal_spectral import CausalLogMel
from avser.features.masking import FrequencyWarp, SpecAugment
from avser.features.running import Memory
from avser.models.causal_backbone import CausalBackbone
from avser.models.video import VideoBranch, encode_real
from avser.structures import Batch


class CausalAudioBranch(nn.Module):
    """`AudioBranch` that sees the past alone. A step's time is its end: the newest sample that it has heard."""

    modality = "audio"

    def __init__(
        self,
        spectrogram: CausalLogMel,
        backbone: CausalBackbone,
        temporal: nn.Module,
        *,
        dim: int,
        dropout: float,
        warp: FrequencyWarp | None = None,
        augment: SpecAugment | None = None,
    ) -> None:
        super().__init__()
        self.spectrogram = spectrogram
        self.warp = warp
        self.augment = augment
        self.backbone = backbone
        width = backbone.num_channels * backbone.num_rows(spectrogram.num_mels)
        self.project = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Dropout(dropout))
        self.temporal = temporal
        self.dim = dim
        self.step_s = backbone.stride * spectrogram.hop_s

    def can_read(self, batch: Batch) -> bool:
        return batch.waveform is not None

    def forward(self, batch: Batch, memory: Memory | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The steps of a clip; with `memory`, those that a chunk completes, which may be none.

        Returns:
            sequence (B, T, D), mask (B, T) and times (B, T) in seconds; padding has the time of the last real step.
        """
        assert batch.waveform is not None
        assert batch.waveform_mask is not None
        waveform, mask = batch.waveform, batch.waveform_mask
        if memory is None:  # a clip too short for a step gives one that is not real
            short = max(round(self.step_s * batch.sample_rate_hz) - waveform.shape[1], 0)
            waveform, mask = nn.functional.pad(waveform, (0, short)), nn.functional.pad(mask, (0, short))
            memory = Memory()
        planes, frame_mask = self.spectrogram(waveform, mask, memory.of("spectrogram"))
        if self.warp is not None:
            planes = self.warp(planes)
        if self.augment is not None:
            planes = self.augment(planes, frame_mask)
        features, mask = self.backbone(planes, frame_mask, memory.of("backbone"))
        sequence = features.permute(0, 3, 1, 2).flatten(2)  # (B, T, C * F')
        sequence = self.temporal(self.project(sequence) * mask[..., None], mask, memory.of("temporal"))
        begun = memory.get("num_steps", 0)
        memory["num_steps"] = begun + mask.shape[1]
        ends = torch.minimum(torch.arange(1, mask.shape[1] + 1, device=mask.device), mask.sum(dim=1, keepdim=True))
        return sequence, mask, (begun + ends).float() * self.step_s


class CausalVideoBranch(VideoBranch):
    """`VideoBranch` that sees the past alone.

    With `baseline="clip"` the usual face is the median of the last `running_s` seconds, the newest frame included.
    """

    def __init__(self, *args: object, running_s: float = 10.0, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.running_s = running_s

    def forward(self, batch: Batch, memory: Memory | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As `VideoBranch`; with `memory`, the steps of the frames that are new."""
        assert batch.frames is not None
        assert batch.frame_mask is not None
        assert batch.frame_times is not None
        memory = Memory() if memory is None else memory
        mask, times = batch.frame_mask, batch.frame_times
        sequence = encode_real(self.encode_frames, batch.frames, mask, self.dim)
        if self.baseline == "clip":
            usual = running_median(sequence, mask, times, self.running_s, memory.of("baseline"))
            sequence = (sequence - usual) * mask[..., None]
        sequence = self.dropout(torch.relu(sequence))
        return self.temporal(sequence, mask, memory.of("temporal")), mask, times


def running_median(sequence: Tensor, mask: Tensor, times: Tensor, length_s: float, memory: Memory) -> Tensor:
    """Each feature's median over the real steps of the last `length_s` seconds, the step's own included.

    Args:
        sequence: (B, T, D), mask (B, T), times (B, T) in seconds, increasing; they follow those that `memory` knows.

    Returns:
        (B, T, D); 0 where no step was real.
    """
    if "sequence" in memory:
        sequence = torch.cat([memory["sequence"], sequence], dim=1)
        mask, times = torch.cat([memory["mask"], mask], dim=1), torch.cat([memory["times"], times], dim=1)
    num_past = memory["mask"].shape[1] if "mask" in memory else 0
    known = sequence.masked_fill(~mask[..., None], float("nan"))
    medians = []
    for step in range(num_past, times.shape[1]):
        near = times[:, : step + 1] > times[:, step, None] - length_s  # (B, step + 1)
        first = int(near.any(dim=0).float().argmax())
        window = known[:, first : step + 1].masked_fill(~near[:, first:, None], float("nan"))
        medians.append(window.nanmedian(dim=1).values.nan_to_num())
    kept = (times > times[:, -1:] - length_s).any(dim=0)
    memory["sequence"], memory["mask"], memory["times"] = sequence[:, kept], mask[:, kept], times[:, kept]
    return torch.stack(medians, dim=1)
