"""Training voices that nobody recorded: played faster or slower, with noise, or from another vocal tract."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NUM_SHARES = 256  # kernels between one sample and the next; between these it is linear, an error of some -90 dB
NUM_CROSSINGS = 8  # zero crossings of the sinc on each side: a transition band of about a tenth of the sampling rate


def speed_perturb(waveform: Tensor, mask: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Plays each clip `factor` times as fast: it gets shorter, and all its frequencies rise, as on a tape.

    Speed perturbation after Ko et al. 2015 (audio augmentation for speech recognition), there with 0.9, 1 and 1.1. The
    resampling is by a sinc under a Hann window (our choice), which cuts off what would fold back at factors above 1.

    Args:
        waveform: (B, N) samples, of any sampling rate, which stays.
        mask: (B, N) True where real; each clip's real samples come first.
        factor: (B,) positive.

    Returns:
        waveform: (B, N') with N' the longest result; zero where padded.
        mask: (B, N'); clip b has round(N_b / factor_b) samples, at least one if it had one.

    Raises:
        ValueError: a factor that is not positive.
    """
    _check_positive(factor)
    num_samples = mask.sum(dim=1)
    num_out = (num_samples / factor.double()).round().long().clamp(min=1) * (num_samples > 0)
    longest = int(num_out.max())
    clips = zip(waveform * mask, factor.tolist(), num_out.tolist(), strict=True)
    # Clip by clip, because every sample's neighbours are laid out, which for a batch would be too much memory.
    faster = [nn.functional.pad(_resample(clip, speed, num), (0, longest - num)) for clip, speed, num in clips]
    return torch.stack(faster), torch.arange(longest, device=mask.device) < num_out[:, None]


def _resample(clip: Tensor, speed: float, num_out: int) -> Tensor:
    """(N,) samples, zero where padded -> (num_out,), sample n read at n * speed."""
    cutoff = min(1 / speed, 1.0)  # of half the sampling rate
    reach = math.ceil(NUM_CROSSINGS / cutoff)
    taps = torch.arange(1 - reach, reach + 1, device=clip.device)
    shares = torch.arange(NUM_SHARES + 1, device=clip.device, dtype=torch.float64) / NUM_SHARES
    distance = (taps - shares[:, None]) * cutoff  # (NUM_SHARES + 1, 2 * reach)
    taper = torch.cos(torch.pi / 2 * (distance / NUM_CROSSINGS).clamp(-1, 1)).square()
    kernels = (cutoff * torch.sinc(distance) * taper).to(clip.dtype)
    position = torch.arange(num_out, device=clip.device, dtype=torch.float64) * speed  # float32 would blur long clips
    below = position.long()
    share = (position - below) * NUM_SHARES
    index = share.long()
    kernel = torch.lerp(kernels[index], kernels[index + 1], (share - index)[:, None].to(clip.dtype))
    around = nn.functional.pad(clip, (reach - 1, reach + 1)).unfold(0, 2 * reach, 1)
    return (around[below.clamp(max=len(around) - 1)] * kernel).sum(dim=1)


def add_noise(waveform: Tensor, mask: Tensor, snr_db: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """White noise at a ratio of signal to noise, both as mean powers over the clip's real samples.

    Args:
        waveform: (B, N) samples; a clip of silence gets none.
        mask: (B, N) True where real.
        snr_db: (B,) decibels.
        generator: of the noise, on any device; PyTorch's own if None.

    Returns:
        (B, N), zero where padded.
    """
    device = waveform.device if generator is None else generator.device
    noise = torch.randn(waveform.shape, generator=generator, device=device, dtype=waveform.dtype).to(waveform.device)
    power = (waveform * mask).square().sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (waveform + noise * power.sqrt() * 10 ** (-snr_db[:, None] / 20)) * mask


def vtlp_warp(
    spectrum: Tensor,
    factor: Tensor,
    *,
    sample_rate_hz: int,
    f_hi_hz: float = 4800.0,
    top_hz: float | None = None,
) -> Tensor:
    """Vocal tract length perturbation of spectra whose bins are linear in Hz (Jaitly & Hinton 2013).

    Frequencies are scaled by the factor up to a knee at f_hi * min(factor, 1) / factor, and from there along a straight
    line to half the sampling rate, which stays where it is: the formula and the 4800 Hz as in nlpaug's code, which
    states them as the paper's (not verified here). Reading between bins is linear (our choice). Mel planes are warped
    by `avser.features.masking.FrequencyWarp`, which scales the whole axis.

    Args:
        spectrum: (B, F, T), bins from 0 Hz to `top_hz`, powers, magnitudes or their logarithms.
        factor: (B,) positive; what was at f below the knee is then at factor * f.
        top_hz: of the last bin; half the sampling rate if None. Beyond it the last bin is repeated.

    Returns:
        (B, F, T).

    Raises:
        ValueError: a factor that is not positive, or a knee at or above half the sampling rate.
    """
    _check_positive(factor)
    half = sample_rate_hz / 2
    if f_hi_hz >= half:
        raise ValueError(f"f_hi_hz={f_hi_hz:g} must be below half the sampling rate, {half:g} Hz")
    top = half if top_hz is None else top_hz
    num_bins = spectrum.shape[1]
    target = torch.linspace(0, top, num_bins, device=spectrum.device)  # (F,)
    factor = factor.to(target.dtype)[:, None]
    knee = f_hi_hz * factor.clamp(max=1)  # after the warp; before it knee / factor
    above = half - (half - knee / factor) / (half - knee) * (half - target)
    source = torch.where(target <= knee, target / factor, above) * (num_bins - 1) / top  # (B, F) bin to read from
    source = source.clamp(0, num_bins - 1)
    below = source.floor().long().clamp(max=max(num_bins - 2, 0))
    share = (source - below).to(spectrum.dtype)[..., None]
    index = below[..., None].expand_as(spectrum)
    return torch.lerp(spectrum.gather(1, index), spectrum.gather(1, (index + 1).clamp(max=num_bins - 1)), share)


def _check_positive(factor: Tensor) -> None:
    if not bool((factor > 0).all()):
        raise ValueError(f"factors {factor.tolist()}: all must be positive; 1 changes nothing")
