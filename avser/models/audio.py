"""The voice branch: waveform -> log-mel planes -> image CNN -> a sequence of steps in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.features.masking import FrequencyWarp, SpecAugment
from avser.features.spectral import LogMel
from avser.models.backbones import Backbone
from avser.structures import Batch


class AudioBranch(nn.Module):
    """Log-mel spectrogram through a CNN with ImageNet weights, its frequency rows folded into features.

    Transfer from ImageNet to emotional spectrograms follows Zhang et al. 2019 (attention FCN, arXiv 1806.01506); the
    cut at a small stride, which keeps steps short enough to speak of moments, is our choice.
    """

    modality = "audio"

    def __init__(
        self,
        spectrogram: LogMel,
        backbone: Backbone,
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
        self.min_frames = backbone.min_columns()
        width = backbone.num_channels * backbone.num_rows(spectrogram.num_mels)
        self.project = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Dropout(dropout))
        self.temporal = temporal
        self.dim = dim
        self.step_s = backbone.stride * spectrogram.hop_s

    def can_read(self, batch: Batch) -> bool:
        return batch.waveform is not None

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """
        Returns:
            sequence (B, T, D), mask (B, T) and times (B, T) in seconds.
        """
        assert batch.waveform is not None
        assert batch.waveform_mask is not None
        planes, frame_mask = self.spectrogram(batch.waveform, batch.waveform_mask)
        if self.warp is not None:
            planes = self.warp(planes)
        if self.augment is not None:
            planes = self.augment(planes, frame_mask)
        planes, frame_mask = self._long_enough(planes, frame_mask)
        features, mask = self.backbone(planes, frame_mask)
        assert mask is not None
        sequence = features.permute(0, 3, 1, 2).flatten(2)  # (B, T, C * F')
        sequence = self.temporal(self.project(sequence) * mask[..., None], mask)
        times = (self.backbone.offset + self.backbone.stride * _steps(mask)) * self.spectrogram.hop_s
        return sequence, mask, times

    def _long_enough(self, planes: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """A clip shorter than the CNN's reach is followed by silence that counts as real, so that it gives one step."""
        short = self.min_frames - planes.shape[-1]
        if short > 0:
            planes = nn.functional.pad(planes, (0, short))
            frame_mask = nn.functional.pad(frame_mask, (0, short))
        lead = _steps(frame_mask) < self.min_frames
        return planes, frame_mask | (lead & frame_mask.any(dim=1, keepdim=True))


def _steps(mask: Tensor) -> Tensor:
    """(B, T) step numbers 0, 1, ... as float32."""
    return torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32).expand(mask.shape)
