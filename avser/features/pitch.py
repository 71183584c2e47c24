"""Pitch of a batch of voices: F0, how periodic each frame is, and its harmonics-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

REACH = 5  # neighbours on each side from which the autocorrelation between two lags is interpolated
FINENESS = 16  # points per lag of that interpolation
MAX_PERIODICITY = 0.9999  # 40 dB of harmonics over noise; what is beyond is rounding
MIN_PERIODICITY = 0.01  # -20 dB; also stands for frames without any sound
IMPOSSIBLE = 1e4  # a cost that no path of frames pays


class PitchTrack(NamedTuple):
    """What `Pitch` finds; every tensor is (B, T), zero where padded.

    f0_hz: fundamental frequency, 0 where unvoiced. voicing: periodicity in 0..1, the height of the peak of the
    autocorrelation (of the frame's strongest candidate where it is unvoiced); the same below 2 kHz as a full-band
    signal without noise, so that breath does not hide the voice. hnr_db: harmonics-to-noise ratio of the whole band.
    """

    f0_hz: Tensor
    voicing: Tensor
    hnr_db: Tensor
    frame_mask: Tensor


class Pitch(nn.Module):
    """F0 by window-corrected autocorrelation and the cheapest path through each frame's candidates.

    After Boersma 1993 (Proc. Institute of Phonetic Sciences 17, 97-110): the autocorrelation of the windowed frame is
    divided by that of the window, a candidate's strength is the height of its peak with a small bonus for short
    periods, the unvoiced candidate's grows with silence, and jumps of an octave and changes of voicing cost something.
    The costs and thresholds are those of that paper, the range of F0 is given. Our choices: loudness is relative to
    the loudest frame (the paper takes peaks); peaks are searched in the autocorrelation of the signal below about
    2 kHz, whose peaks are wide enough for a parabola; slow drift is removed as a running mean.

    Args:
        sample_rate_hz, hop_s: of the waveform, in Hz; of the frames, in seconds. Frame t is centred on t * hop_s.
        min_hz, max_hz: range of F0. Frames are three periods of `min_hz` long.
        num_candidates: peaks followed per frame, beside the unvoiced one.
        voicing_threshold: periodicity that a voiced frame needs.
        silence_threshold: frames quieter than this share of the loudest one tend to be unvoiced.
        octave_cost: bonus of a candidate per octave above `min_hz`.
        octave_jump_cost, voicing_change_cost: from one frame to the next, for hops of 10 ms.

    Raises:
        ValueError: when the range of F0 is empty, or its shortest period too short for the kernels laid around a lag:
            a sixth of the sampling rate is the highest F0, and less above 27 kHz.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        hop_s: float = 0.010,
        min_hz: float = 65.0,
        max_hz: float = 600.0,
        num_candidates: int = 3,
        voicing_threshold: float = 0.45,
        silence_threshold: float = 0.03,
        octave_cost: float = 0.01,
        octave_jump_cost: float = 0.35,
        voicing_change_cost: float = 0.14,
    ) -> None:
        super().__init__()
        half = max(1, round(0.0002 * sample_rate_hz))  # of a Hann kernel that halves 2 kHz
        reach = max(REACH, half)  # how far around a lag the two kernels look
        highest_hz = sample_rate_hz / (1 + reach)
        if not 0 < min_hz < max_hz <= highest_hz:
            raise ValueError(
                f"F0 from {min_hz:g} to {max_hz:g} Hz at {sample_rate_hz} Hz: take 0 < min_hz < max_hz, "
                f"and max_hz at most {highest_hz:.0f}"
            )
        self.sample_rate_hz = sample_rate_hz
        self.hop_length = round(hop_s * sample_rate_hz)
        self.hop_s = self.hop_length / sample_rate_hz
        self.min_hz, self.num_candidates = min_hz, num_candidates
        self.voicing_threshold, self.silence_threshold = voicing_threshold, silence_threshold
        self.octave_cost = octave_cost
        self.octave_jump_cost = octave_jump_cost * 0.010 / self.hop_s
        self.voicing_change_cost = voicing_change_cost * 0.010 / self.hop_s
        self.window_length = round(3 / min_hz * sample_rate_hz)
        self.min_lag = math.floor(sample_rate_hz / max_hz)
        self.max_lag = math.ceil(sample_rate_hz / min_hz)
        self.num_lags = self.max_lag + 2 + reach
        self.fft_length = 2 ** (self.window_length + self.num_lags - 1).bit_length()
        self.window: Tensor
        self.window_correlation: Tensor
        self.low_pass: Tensor
        self.interpolation: Tensor
        window = torch.hann_window(self.window_length)
        correlation = torch.fft.irfft(torch.fft.rfft(window.double(), self.fft_length).abs().square())[: self.num_lags]
        low_pass = torch.hann_window(2 * half + 2)[1:]
        padded = nn.functional.pad(window, (0, self.fft_length - self.window_length))
        self.register_buffer("window", padded, persistent=False)
        self.register_buffer("window_correlation", (correlation / correlation[0]).float(), persistent=False)
        self.register_buffer("low_pass", low_pass / low_pass.sum(), persistent=False)
        self.register_buffer("interpolation", _sinc_kernels(), persistent=False)

    def forward(self, waveform: Tensor, mask: Tensor) -> PitchTrack:
        """
        Args:
            waveform: (B, N) samples.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            A track of ceil(N / hop) frames, of which clip b has ceil(N_b / hop).
        """
        num_frames = -(-waveform.shape[1] // self.hop_length)
        steps = torch.arange(num_frames, device=waveform.device)
        frame_mask = steps < -(-mask.sum(dim=1) // self.hop_length)[:, None]
        blocks = split_batch(waveform, mask)
        parts = zip(*(self._analyse(samples, real, num_frames) for samples, real in blocks), strict=True)
        lags, heights, hnr_db, loudness = (torch.cat(part) for part in parts)  # (B, T, K) three times, (B, T)
        loudness = loudness / (loudness * frame_mask).amax(dim=1, keepdim=True).clamp(min=1e-6)
        choice = self._follow(lags, heights, loudness, frame_mask)  # (B, T), 0 is unvoiced
        picked = (choice - 1).clamp(min=0)[..., None]
        lag, height, ratio_db = (x.gather(2, picked)[..., 0] for x in (lags, heights, hnr_db))
        f0_hz = self.sample_rate_hz / lag * (choice > 0)
        return PitchTrack(f0_hz * frame_mask, height.clamp(0, 1) * frame_mask, ratio_db * frame_mask, frame_mask)

    def _analyse(self, waveform: Tensor, mask: Tensor, num_frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lags, heights and harmonics-to-noise ratios of each frame's candidates (B, T, K), and its loudness (B, T)."""
        level = without_drift(waveform.float(), mask, self.window_length)
        correlation, energy = self._correlate(level, num_frames)
        lags, heights = self._candidates(correlation)
        return lags, heights, self._hnr_db(correlation, lags), energy.sqrt()

    def _correlate(self, level: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Autocorrelation of each frame (B, T, L), 1 at lag 0 except in frames of zeros, and its energy (B, T)."""
        padded = nn.functional.pad(level, (self.window_length // 2, self.fft_length))
        frames = padded.unfold(1, self.fft_length, self.hop_length)[:, :num_frames] * self.window
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        correlation = torch.fft.irfft(power, self.fft_length)[..., : self.num_lags]
        energy = correlation[..., 0].clamp(min=0)
        return correlation / energy.clamp(min=1e-12)[..., None], energy

    def _candidates(self, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """Lags in samples and window-corrected heights of the highest peaks, both (B, T, K), best first."""
        half = len(self.low_pass) // 2
        weights = self.low_pass[half:].tolist()
        at_zero = weights[0] * correlation[..., 0]
        first, last = self.min_lag - 1, self.max_lag + 2  # one beyond the range on each side, to see the flanks
        smooth = weights[0] * correlation[..., first:last]
        for shift, weight in enumerate(weights[1:], start=1):
            at_zero = at_zero + 2 * weight * correlation[..., shift]
            smooth += weight * correlation[..., first - shift : last - shift]
            smooth += weight * correlation[..., first + shift : last + shift]
        smooth /= at_zero.clamp(min=1e-6)[..., None] * self.window_correlation[first:last]
        below, here, above = smooth[..., :-2], smooth[..., 1:-1], smooth[..., 2:]
        lags = torch.arange(self.min_lag, self.max_lag + 1, device=smooth.device)
        is_peak = (here > below) & (here >= above)
        strength = torch.where(is_peak, here + self._bonus(lags), -1.0)
        best, index = strength.topk(self.num_candidates, dim=2)
        a, b, c = (side.gather(2, index) for side in (below, here, above))
        offset = 0.5 * (a - c) / (a - 2 * b + c).clamp(max=-1e-9)
        found = best > -1
        heights = torch.where(found, b - 0.25 * (a - c) * offset, 0.0)
        return lags[index] + torch.where(found, offset, 0.0).clamp(-0.5, 0.5), heights

    def _bonus(self, lags: Tensor) -> Tensor:
        return -self.octave_cost * torch.log2(self.min_hz / self.sample_rate_hz * lags)

    def _follow(self, lags: Tensor, heights: Tensor, loudness: Tensor, frame_mask: Tensor) -> Tensor:
        """(B, T) index of the candidate on the strongest path, from 1; 0 where the path is unvoiced."""
        silence = 2 - loudness * (1 + self.voicing_threshold) / self.silence_threshold
        unvoiced = self.voicing_threshold + silence.clamp(min=0)
        voiced = torch.where(heights > 0, heights + self._bonus(lags), -IMPOSSIBLE)
        gain = torch.cat([unvoiced[..., None], voiced], dim=2) * frame_mask[..., None]  # (B, T, 1 + K)
        octaves = torch.log2(lags)
        jump = (octaves[:, 1:, None, :] - octaves[:, :-1, :, None]).abs()  # (B, T - 1, from, to)
        cost = torch.full((*jump.shape[:2], *(gain.shape[2],) * 2), self.voicing_change_cost, device=lags.device)
        cost[..., 1:, 1:] = self.octave_jump_cost * jump
        cost[..., 0, 0] = 0
        stay = IMPOSSIBLE * (1 - torch.eye(gain.shape[2], device=lags.device))  # padding must not bend the path
        return best_path(gain, torch.where(frame_mask[:, 1:, None, None], cost, stay))

    def _hnr_db(self, correlation: Tensor, lags: Tensor) -> Tensor:
        """(B, T, K) from the height of the whole band's peak within one sample of each lag, window-corrected."""
        nearest = lags.round().long()
        around = nearest[..., None] + torch.arange(-REACH, REACH + 1, device=lags.device)
        values = correlation.gather(2, around.flatten(2)).view(around.shape)
        with torch.autocast(values.device.type, enabled=False):  # half precision would cost 10 dB near the top
            height = (values @ self.interpolation).amax(dim=3) / self.window_correlation[nearest]
        height = height.clamp(MIN_PERIODICITY, MAX_PERIODICITY)
        return 10 * torch.log10(height / (1 - height))


def split_batch(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The batch in parts: clip by clip on a CPU, whose cache then holds the frames (twice as fast), whole elsewhere."""
    size = 1 if tensors[0].is_cpu else max(1, len(tensors[0]))
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def without_drift(waveform: Tensor, mask: Tensor, window_length: int) -> Tensor:
    """(B, N) samples less the mean of the real samples around each, so that rumble does not pass for a long period."""
    real = mask.to(waveform.dtype)
    count = real.sum(dim=1, keepdim=True).clamp(min=1)
    level = waveform * real
    level = (level - level.sum(dim=1, keepdim=True) / count) * real  # keeps the running sum small, hence exact
    half = window_length // 2
    sums, counts = (nn.functional.pad(x.cumsum(dim=1), (half + 1, half), mode="replicate") for x in (level, real))
    sums[:, : half + 1], counts[:, : half + 1] = 0, 0
    width = 2 * half + 1
    mean = (sums[:, width:] - sums[:, :-width]) / (counts[:, width:] - counts[:, :-width]).clamp(min=1)
    return (level - mean) * real


def best_path(gain: Tensor, cost: Tensor) -> Tensor:
    """The path of highest gain less cost (Viterbi), for all clips at once.

    Args:
        gain: (B, T, S) of being in each state at each step.
        cost: (B, T - 1, S, S) of going from one state (third axis) to the next step's (fourth axis).

    Returns:
        (B, T) long, the state of each step.
    """
    score = gain[:, 0]
    scores = [score]
    for here, between in zip(gain.unbind(dim=1)[1:], cost.unbind(dim=1), strict=True):
        score = (score[:, :, None] - between).amax(dim=1) + here
        scores.append(score)
    path = [score.argmax(dim=1, keepdim=True)]
    reached = torch.stack(scores[:-1], dim=1)[..., None] - cost if len(scores) > 1 else cost
    for source in reversed(reached.argmax(dim=2).unbind(dim=1)):  # where each state came from: one call for all steps
        path.append(source.gather(1, path[-1]))
    return torch.cat(path[::-1], dim=1)


def _sinc_kernels() -> Tensor:
    """(2 * REACH + 1, P) weights of the lags around one that give P values between its two neighbours."""
    points = torch.arange(-FINENESS, FINENESS + 1) / FINENESS
    distance = torch.arange(-REACH, REACH + 1)[:, None] - points
    return torch.sinc(distance) * torch.cos(math.pi * distance / (2 * REACH)).square() * (distance.abs() < REACH)
