"""Frames of named acoustic descriptors: energy, zero crossings, pitch, harmonicity, cepstrum, and how they move."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avser.features.pitch import Pitch, PitchTrack, split_batch
from avser.features.spectral import LogMel, hold_last, regression_delta

NUM_MFCC = 12
NUM_MELS = 26
MFCC_NAMES = tuple(f"mfcc_{order}" for order in range(1, NUM_MFCC + 1))
PRE_EMPHASIS = 0.97
MEL_FLOOR = 1 / 32768  # HTK's: one, for 16-bit samples
ENERGY_FLOOR = 1e-10  # -100 dB of full scale


class Descriptors(nn.Module):
    """What the sets share: 25 ms frames every 10 ms, each set's static descriptors, then their regression deltas.

    A set states the names of its static descriptors and computes them; `names` are those and `delta_` of each.
    Frame t is centred on t * hop_s. Values are raw (Hz, dB, shares): standardise them with the training clips.
    """

    STATIC_NAMES: tuple[str, ...] = ()
    SMOOTHED = False

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        min_f0_hz: float = 65.0,
        max_f0_hz: float = 600.0,
    ) -> None:
        super().__init__()
        self.pitch = Pitch(sample_rate_hz=sample_rate_hz, hop_s=hop_s, min_hz=min_f0_hz, max_hz=max_f0_hz)
        self.spectrum = LogMel(
            sample_rate_hz=sample_rate_hz,
            num_mels=NUM_MELS,
            window_s=window_s,
            hop_s=hop_s,
            min_hz=0.0,
            max_hz=sample_rate_hz / 2,
            normalize="none",
            preemphasis=PRE_EMPHASIS,
            window="hamming",  # with Hann, MFCC 7 correlates with openSMILE's by 0.92 instead of 0.99
            filter_norm=None,
            power=1.0,
            log_floor=MEL_FLOOR,
            num_channels=1,
        )
        self.window_length = self.spectrum.window_length
        self.hop_length = self.pitch.hop_length
        self.hop_s, self.offset_s = self.pitch.hop_s, 0.0
        self.names = (*self.STATIC_NAMES, *(f"delta_{name}" for name in self.STATIC_NAMES))
        self.num_features = len(self.names)

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples, full scale is 1.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            x: (B, T, F) float32, zero where padded; columns as in `names`.
            frame_mask: (B, T) bool; clip b has ceil(N_b / hop) frames.
        """
        waveform = waveform.float()
        track = self.pitch(waveform, mask)
        blocks = split_batch(waveform, mask, *track)
        static = torch.cat([self.static(samples, real, PitchTrack(*rows)) for samples, real, *rows in blocks])
        if self.SMOOTHED:
            static = smooth(static, track.frame_mask)
        delta = regression_delta(hold_last(static, track.frame_mask.sum(dim=1)))
        x = torch.cat([static, delta], dim=1) * track.frame_mask[:, None, :]
        return x.transpose(1, 2), track.frame_mask

    def static(self, waveform: Tensor, mask: Tensor, track: PitchTrack) -> Tensor:
        """(B, N) samples, their mask, their pitch -> descriptors (B, F / 2, T) in the order of STATIC_NAMES."""
        raise NotImplementedError

    def mfcc(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """(B, N) samples -> (B, 12, T) cepstral coefficients."""
        with torch.autocast(waveform.device.type, enabled=False):  # liftering multiplies what half precision loses
            return cepstrum(self.spectrum.log_mel(waveform, mask), num_coefficients=NUM_MFCC)

    def frame_means(self, values: list[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
        """Several (B, N) -> as many (B, T): means over the real samples of each frame."""
        stacked = torch.stack(values, dim=1)
        return frame_means(stacked, mask, window_length=self.window_length, hop_length=self.hop_length).unbind(dim=1)


class InterspeechDescriptors(Descriptors):
    """`lld32`: the 16 low-level descriptors of the INTERSPEECH 2009 emotion challenge and their deltas.

    From the paper (Schuller, Steidl & Batliner 2009): zero-crossing rate, RMS energy, F0, harmonics-to-noise ratio by
    autocorrelation, MFCC 1-12, and deltas. From the authors' code (the configuration IS09_emotion of openSMILE): 25 ms
    frames every 10 ms, pre-emphasis of 0.97 before energy and MFCC, 26 mel bands of magnitude from 0 to 8 kHz,
    liftering by 22, a mean over three frames of everything (zeros of unvoiced frames included), deltas over two
    frames on each side. Our choices: F0 and the ratio by `Pitch`, the ratio in dB (openSMILE's column is the height
    of the autocorrelation's peak); no window on the energy; the order of columns, see `names`.
    """

    STATIC_NAMES = ("zcr", "rms", "f0_hz", "hnr_db", *MFCC_NAMES)
    SMOOTHED = True

    def static(self, waveform: Tensor, mask: Tensor, track: PitchTrack) -> Tensor:
        """(B, 16, T) before smoothing."""
        energy = pre_emphasize(waveform).square()
        zcr, power = self.frame_means([zero_crossings(waveform), energy], mask)
        rows = torch.stack([zcr, power.sqrt(), track.f0_hz, track.hnr_db], dim=1)
        return torch.cat([rows, self.mfcc(waveform, mask)], dim=1)


class LeeTashevDescriptors(Descriptors):
    """`lld32_lt`: F0, voicing probability, zero-crossing rate, log energy, MFCC 1-12, and deltas.

    The list is that of Lee & Tashev 2015 (High-level feature representation using recurrent neural network for speech
    emotion recognition) as remembered, not verified. Our choices: 25 ms frames every 10 ms, no smoothing, `Pitch` for
    F0 and voicing, the natural logarithm of the mean square for energy, the order of columns, see `names`. Column
    `VOICING` is the periodicity of the frame itself (0..1), so that callers can drop unvoiced frames by it.
    """

    STATIC_NAMES = ("f0_hz", "voicing", "zcr", "log_energy", *MFCC_NAMES)
    VOICING = STATIC_NAMES.index("voicing")

    def static(self, waveform: Tensor, mask: Tensor, track: PitchTrack) -> Tensor:
        """(B, 16, T)."""
        zcr, power = self.frame_means([zero_crossings(waveform), waveform.square()], mask)
        rows = torch.stack([track.f0_hz, track.voicing, zcr, torch.log(power + ENERGY_FLOOR)], dim=1)
        return torch.cat([rows, self.mfcc(waveform, mask)], dim=1)


DESCRIPTORS: dict[str, type[Descriptors]] = {"lld32": InterspeechDescriptors, "lld32_lt": LeeTashevDescriptors}


def pre_emphasize(waveform: Tensor) -> Tensor:
    """(B, N) samples less 0.97 of the one before each."""
    return waveform - PRE_EMPHASIS * nn.functional.pad(waveform, (1, 0))[:, :-1]


def zero_crossings(waveform: Tensor) -> Tensor:
    """(B, N) samples -> 1.0 where the sign differs from that of the sample before; zeros count as positive."""
    positive = waveform >= 0
    return nn.functional.pad((positive[:, 1:] != positive[:, :-1]).to(waveform.dtype), (1, 0))


def frame_means(values: Tensor, mask: Tensor, *, window_length: int, hop_length: int) -> Tensor:
    """(B, K, N) -> (B, K, ceil(N / hop)): means over the real samples of frames centred on t * hop."""
    real = mask[:, None].to(values.dtype)
    both = nn.functional.pad(torch.cat([values * real, real], dim=1), (window_length // 2, window_length))
    means = nn.functional.avg_pool1d(both, window_length, hop_length)[..., : -(-values.shape[2] // hop_length)]
    return means[:, :-1] / means[:, -1:].clamp(min=0.5 / window_length)


def cepstrum(log_mel: Tensor, *, num_coefficients: int, lifter: float = 22.0) -> Tensor:
    """(B, M, T) log-mel -> (B, C, T): MFCC 1 to C by the DCT-II of HTK, liftered."""
    num_mels = log_mel.shape[1]
    order = torch.arange(1, num_coefficients + 1, device=log_mel.device, dtype=log_mel.dtype)[:, None]
    band = torch.arange(num_mels, device=log_mel.device, dtype=log_mel.dtype) + 0.5
    basis = math.sqrt(2 / num_mels) * torch.cos(math.pi / num_mels * order * band)  # (C, M)
    return (1 + lifter / 2 * torch.sin(math.pi * order / lifter)) * torch.matmul(basis, log_mel)


def smooth(x: Tensor, frame_mask: Tensor) -> Tensor:
    """(B, F, T) -> the mean of each frame and its two neighbours, of those that are real."""
    real = frame_mask[:, None, :].to(x.dtype)
    both = torch.cat([x * real, real], dim=1)
    sums = nn.functional.avg_pool1d(both, 3, stride=1, padding=1)
    return sums[:, :-1] / sums[:, -1:].clamp(min=1 / 3)
