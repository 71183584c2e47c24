"""What training hides from a spectrogram or bends in it, so that a model learns voices and not one recording."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FrequencyWarp(nn.Module):
    """Scales the frequency axis of each training clip by a random factor, as if another vocal tract had spoken.

    Vocal tract length perturbation (Jaitly & Hinton 2013), here on the mel bands of all planes by interpolation: pitch
    and formants move together, durations stay. The whole axis is scaled; `avser.features.perturb.vtlp_warp` is the
    published warp with its knee, for spectra whose bins are linear in Hz.

    Args:
        limit: largest relative change, e.g. 0.1 for factors from 0.9 to 1.1.
    """

    def __init__(self, *, num_mels: int, min_hz: float, max_hz: float, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.lowest, highest = _mel(torch.tensor(min_hz)), _mel(torch.tensor(max_hz))
        self.spacing = (highest - self.lowest) / (num_mels + 1)
        mels = self.lowest + self.spacing * torch.arange(1, num_mels + 1)
        self.centres_hz: Tensor
        self.register_buffer("centres_hz", 700 * (10 ** (mels / 2595) - 1), persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        """planes (B, K, F, T) -> the same shape; unchanged when not training."""
        if not self.training:
            return planes
        factor = 1 + self.limit * (2 * torch.rand(len(planes), 1, device=planes.device) - 1)
        return self.warp(planes, factor)

    def warp(self, planes: Tensor, factor: Tensor) -> Tensor:
        """What was at frequency f is then at factor * f; factor (B, 1)."""
        num_bands = planes.shape[2]
        source = (_mel(self.centres_hz / factor) - self.lowest) / self.spacing - 1  # (B, F) band to read from
        source = source.clamp(0, num_bands - 1)
        below = source.floor().long().clamp(max=num_bands - 2)
        share = (source - below)[:, None, :, None]
        index = below[:, None, :, None].expand(-1, planes.shape[1], -1, planes.shape[3])
        return torch.lerp(planes.gather(2, index), planes.gather(2, index + 1), share)


def _mel(hz: Tensor) -> Tensor:
    """Hz on the mel scale of O'Shaughnessy, as in HTK."""
    return 2595 * torch.log10(1 + hz / 700)


class SpecAugment(nn.Module):
    """Masks random bands of frequency and stretches of time while training (Park et al. 2019, arXiv 1904.08779).

    Stretches are at most a fifth of the clip, so that no emotional region can vanish whole from every epoch.
    """

    def __init__(self, *, num_bands: int = 2, max_band: int = 10, num_stretches: int = 2, max_steps: int = 20) -> None:
        super().__init__()
        self.num_bands, self.max_band = num_bands, max_band
        self.num_stretches, self.max_steps = num_stretches, max_steps

    def forward(self, planes: Tensor, frame_mask: Tensor) -> Tensor:
        """planes (B, K, F, T) with frame_mask (B, T) -> the same shape, masked cells set to 0 (the mean)."""
        if not self.training:
            return planes
        num_frames = frame_mask.sum(dim=1)
        for _ in range(self.num_bands):
            full = torch.full_like(num_frames, planes.shape[2])
            planes = planes * ~_random_spans(full, planes.shape[2], self.max_band)[:, None, :, None]
        for _ in range(self.num_stretches):
            limit = torch.clamp(num_frames // 5, max=self.max_steps)
            planes = planes * ~_random_spans(num_frames, planes.shape[3], limit)[:, None, None, :]
        return planes


def _random_spans(lengths: Tensor, size: int, limit: Tensor | int) -> Tensor:
    """(B, size) bool, True in one random span of at most `limit` steps within the first `lengths` steps of each row."""
    draw = torch.rand(2, len(lengths), device=lengths.device)
    width = (draw[0] * (limit + 1)).floor()
    start = (draw[1] * (lengths - width).clamp(min=0)).floor()
    steps = torch.arange(size, device=lengths.device)
    return (steps >= start[:, None]) & (steps < (start + width)[:, None])
