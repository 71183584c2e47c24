"""Mel-frequency cepstral coefficients: the log-mel bands of each frame, decorrelated by a cosine transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from avser.features.spectral import LogMel


class Mfcc(nn.Module):
    """The first coefficients of the orthonormal DCT-II over log-mel bands.

    Args:
        log_mel: the bands; its window, hop, FFT, mel scale, logarithm and centring are those of the coefficients.
        num_coefficients: how many, from c0 on.
        top_range: in the unit of the logarithm; bands further below the clip's highest value are raised to there
            (librosa: 80 dB). None leaves them.
        c0_gain: factor on c0; 1 is orthonormal.
        limit: coefficients are clipped to [-limit, limit]; None leaves them.

    Raises:
        ValueError: more coefficients than bands.
    """

    def __init__(
        self,
        log_mel: LogMel,
        *,
        num_coefficients: int = 40,
        top_range: float | None = None,
        c0_gain: float = 1.0,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        if num_coefficients > log_mel.num_mels:
            raise ValueError(f"{num_coefficients} coefficients of {log_mel.num_mels} bands; take at most as many")
        self.spectrogram = log_mel
        self.hop_s, self.offset_s = log_mel.hop_s, log_mel.offset_s
        self.num_features = num_coefficients
        self.top_range, self.limit = top_range, limit
        cosines = create_dct(num_coefficients, log_mel.num_mels, norm="ortho")
        cosines[:, 0] *= c0_gain
        self.cosines: Tensor
        self.register_buffer("cosines", cosines, persistent=False)

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            x: (B, T, F) float32, zero where padded.
            frame_mask: (B, T) bool; frame t is centred offset_s + t * hop_s seconds into the clip.
        """
        bands = self.spectrogram.log_mel(waveform, mask).transpose(1, 2)  # (B, T, M)
        frame_mask = self.spectrogram.frames.mask(mask)
        if self.top_range is not None and bands.shape[1]:
            highest = bands.masked_fill(~frame_mask[..., None], -math.inf).amax(dim=(1, 2), keepdim=True)
            bands = torch.maximum(bands, highest - self.top_range)
        with torch.autocast(bands.device.type, enabled=False):  # half precision has 3 digits for decibels of some -1000
            x = bands @ self.cosines
        if self.limit is not None:
            x = x.clamp(-self.limit, self.limit)
        return x * frame_mask[..., None], frame_mask


def mfcc_tf40(sample_rate_hz: int = 16000) -> Mfcc:
    """The front end of LIGHT-SERNET (Aftab et al. 2022), from the authors' code.

    64 ms periodic Hann windows every 16 ms (at 16 kHz an FFT of 1024 samples), frames only where the clip fills them,
    128 bands of magnitude from 80 to 7600 Hz with TensorFlow's triangles, ln(band + 1e-6), and TensorFlow's DCT, whose
    c0 is sqrt(2) times the orthonormal one; 40 coefficients clipped to [-10, 10]. 3 s are 184 frames, 7 s are 434.
    """
    log_mel = LogMel(
        sample_rate_hz=sample_rate_hz,
        num_mels=128,
        window_s=0.064,
        hop_s=0.016,
        min_hz=80.0,
        max_hz=min(7600.0, sample_rate_hz / 2),
        filter_norm=None,
        triangles="mel",
        power=1.0,
        log_floor=1e-6,
        fft_length=round(0.064 * sample_rate_hz),
        centered=False,
    )
    return Mfcc(log_mel, num_coefficients=40, c0_gain=math.sqrt(2), limit=10.0)


def mfcc40_htk(sample_rate_hz: int = 16000, *, preemphasis: float = 0.0) -> Mfcc:
    """The coefficients that Zou et al. 2022 (co-attention for multi-level acoustic information) take from librosa.

    From the authors' code: `librosa.feature.mfcc(n_mfcc=40, htk=True, hop_length=160)`, whose further values are
    librosa's: 128 ms Hann windows (2048 samples at 16 kHz), 128 bands of power from 0 Hz to half the sampling rate,
    decibels within 80 dB of the clip's highest band, orthonormal DCT. They apply a pre-emphasis of 0.97 first; here it
    is off unless asked for. Clips have ceil(N / hop) frames, one less than in librosa where the hop divides N.
    """
    log_mel = LogMel(
        sample_rate_hz=sample_rate_hz,
        num_mels=128,
        window_s=0.128,
        hop_s=0.010,
        min_hz=0.0,
        max_hz=sample_rate_hz / 2,
        preemphasis=preemphasis,
        log="db",
        log_floor=1e-10,
        fft_length=round(0.128 * sample_rate_hz),
    )
    return Mfcc(log_mel, num_coefficients=40, top_range=80.0)
