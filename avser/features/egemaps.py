"""The low-level descriptors of eGeMAPS, measured by openSMILE itself, which is an extra to install."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avser.errors import ConfigError

NAMES = (
    "loudness",
    "alpha_ratio_db",
    "hammarberg_index_db",
    "slope_0_500",
    "slope_500_1500",
    "spectral_flux",
    *(f"mfcc_{order}" for order in range(1, 5)),
    "f0_semitones",
    "jitter",
    "shimmer_db",
    "hnr_db",
    "h1_h2_db",
    "h1_a3_db",
    *(f"f{formant}_{what}" for formant in (1, 2, 3) for what in ("hz", "bandwidth_hz", "level_db")),
)
SHORTEST_S = 0.060  # openSMILE's longest frame


class EgemapsDescriptors(nn.Module):
    """The 25 low-level descriptors of eGeMAPS (Eyben et al. 2016), version 02, every 10 ms.

    All is the authors' code, the configuration eGeMAPSv02 of openSMILE: energy and spectrum of frames of 20 ms, pitch,
    voice quality and formants of frames of 60 ms that begin with them, each smoothed over three frames. Our choices: a
    clip shorter than 60 ms is filled up with silence and has one frame; the names, in openSMILE's order.

    It runs on the CPU, clip by clip, at about a tenth of a clip's duration, in every epoch anew, and no gradient passes
    it. openSMILE is free for research and teaching; other uses need a licence of audEERING.

    Attributes:
        names: of the columns. Levels of harmonics and formants are relative to F0; F0 counts from 27.5 Hz.

    Raises:
        ConfigError: openSMILE is not installed.
    """

    names = NAMES
    num_features = len(NAMES)
    hop_s, offset_s = 0.010, 0.010  # the centre of the short frames

    def __init__(self, *, sample_rate_hz: int = 16000) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        _smile()

    @torch.no_grad()
    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples, full scale is 1.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            x: (B, T, 25) float32, zero where padded; frame_mask: (B, T) bool.
        """
        voices = waveform.detach().float().cpu().numpy()
        lengths = mask.sum(dim=1).tolist()
        clips = [torch.from_numpy(self._measure(v[:n])) for v, n in zip(voices, lengths, strict=True)]
        count = torch.tensor([len(clip) for clip in clips], device=mask.device)
        frame_mask = torch.arange(max(1, int(count.max())), device=mask.device) < count[:, None]
        x = waveform.new_zeros(*frame_mask.shape, self.num_features, dtype=torch.float32)
        x[frame_mask] = torch.cat(clips).to(x.device)
        return x, frame_mask

    def _measure(self, voice: np.ndarray) -> np.ndarray:
        """(N,) samples -> (T, 25); none of no samples."""
        if not len(voice):
            return np.zeros((0, self.num_features), np.float32)
        short = round(SHORTEST_S * self.sample_rate_hz) - len(voice)
        rows = _smile()(np.pad(voice, (0, max(0, short))), self.sample_rate_hz)[0].T
        return np.ascontiguousarray(rows[:1] if short > 0 else rows, dtype=np.float32)


@cache
def _smile() -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise ConfigError("the descriptors of eGeMAPS need openSMILE: pip install 'avser[opensmile]'") from error
    level = opensmile.FeatureLevel.LowLevelDescriptors
    return opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=level)
