"""Waveform to log-mel planes: batched, on the model's device, and blind to padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

LOG_FLOOR = 1e-6  # added before the logarithm: about -60 dB below a full-scale sine in one mel band


class LogMel(nn.Module):
    """Log-mel spectrogram with its first and second differences as three channels.

    The regression differences are those of the HTK book, d_t = sum_n n (x[t+n] - x[t-n]) / (2 sum n^2) with n = 1, 2,
    as used for speech emotion by Chen et al. 2018 (3-D log-mels). Frames are centred: frame t is at t * hop_s seconds.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        num_mels: int = 64,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        min_hz: float = 50.0,
        max_hz: float = 8000.0,
        deltas: bool = True,
        normalize: str = "clip",
    ) -> None:
        super().__init__()
        self.window_length = round(window_s * sample_rate_hz)
        self.hop_length = round(hop_s * sample_rate_hz)
        self.hop_s = self.hop_length / sample_rate_hz
        self.fft_length = 2 ** (self.window_length - 1).bit_length()
        self.num_mels = num_mels
        self.deltas = deltas
        self.normalize = normalize
        filters = melscale_fbanks(self.fft_length // 2 + 1, min_hz, max_hz, num_mels, sample_rate_hz, norm="slaney")
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            planes: (B, 3, F, T) float32, zero where padded; static, delta, delta-delta.
            frame_mask: (B, T) bool; clip b has ceil(N_b / hop) frames.
        """
        log_mel = self.log_mel(waveform, mask)  # (B, F, T)
        num_frames = -(-mask.sum(dim=1) // self.hop_length)  # (B,)
        steps = torch.arange(log_mel.shape[-1], device=waveform.device)
        frame_mask = steps < num_frames[:, None]
        if self.deltas:
            delta = regression_delta(hold_last(log_mel, num_frames))
            planes = torch.stack([log_mel, delta, regression_delta(hold_last(delta, num_frames))], dim=1)
        else:
            planes = log_mel[:, None].repeat(1, 3, 1, 1)
        if self.normalize != "none":
            planes = standardize(planes, frame_mask, each_band=self.normalize == "band")
        return planes * frame_mask[:, None, None, :], frame_mask

    def log_mel(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """(B, N) samples -> (B, F, ceil(N / hop)) natural logarithm of mel power."""
        half = self.fft_length // 2
        padded = nn.functional.pad(waveform * mask, (half, half))
        spectrum = torch.stft(
            padded.float(),
            self.fft_length,
            self.hop_length,
            self.window_length,
            self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()  # (B, fft / 2 + 1, T)
        num_frames = -(-waveform.shape[1] // self.hop_length)
        mel = torch.matmul(self.filters.T, power[..., :num_frames])
        return torch.log(mel + LOG_FLOOR)


def hold_last(x: Tensor, num_frames: Tensor) -> Tensor:
    """x (B, F, T) with each clip's last real frame repeated into its padding, so that differences do not see it."""
    steps = torch.arange(x.shape[-1], device=x.device).expand(len(x), -1)
    source = torch.minimum(steps, (num_frames - 1).clamp(min=0)[:, None])
    return x.gather(2, source[:, None, :].expand_as(x))


def regression_delta(x: Tensor) -> Tensor:
    """First difference along the last axis by regression over two neighbours on each side; edges repeat."""
    kernel = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], device=x.device, dtype=x.dtype) / 10
    flat = nn.functional.pad(x.reshape(-1, 1, x.shape[-1]), (2, 2), mode="replicate")
    return nn.functional.conv1d(flat, kernel.view(1, 1, 5)).view_as(x)


def standardize(planes: Tensor, frame_mask: Tensor, *, each_band: bool = False) -> Tensor:
    """Zero mean and unit variance per clip and channel over real frames, or per band of frequency too.

    planes: (B, K, F, T), frame_mask: (B, T). The clip's gain drops out; with `each_band` the colour of voice and
    microphone does as well (cepstral mean and variance normalisation, in the spectrum).
    """
    real = frame_mask[:, None, None, :].to(planes.dtype).expand(-1, -1, planes.shape[2], -1)
    over = (3,) if each_band else (2, 3)
    count = real.sum(dim=over, keepdim=True).clamp(min=1)
    mean = (planes * real).sum(dim=over, keepdim=True) / count
    variance = ((planes - mean).square() * real).sum(dim=over, keepdim=True) / count
    return (planes - mean) / (variance + 1e-5).sqrt()


class FrequencyWarp(nn.Module):
    """Scales the frequency axis of each training clip by a random factor, as if another vocal tract had spoken.

    Vocal tract length perturbation (Jaitly & Hinton 2013), here on the mel bands of all planes by interpolation: pitch
    and formants move together, durations stay.

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
