"""The sound of one take and what decides where it may be cut: its speech, its background noise, its quiet moments."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.fft import next_fast_len
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter1d
from scipy.signal import butter, find_peaks, sosfilt

WINDOW_S, HOP_S = 0.020, 0.005  # of the short-time spectra
NUM_BANDS = 24
PITCH_WINDOW_S, PITCH_HZ = 0.040, (60, 450)
VOICED = 0.5  # the peak of the autocorrelation where there is a pitch, as a share of its value at lag 0
ACTIVE_DB = 25  # frames at most so far below the loud ones (95th percentile) are speech
QUIETEST_DB = -90  # nothing below is speech
RUMBLE_HZ = 80  # nothing below is voice
GAP_S, SPEECH_S = 0.1, 0.15  # longest gap that is bridged, and shortest speech
NOISE_SHARE = 0.1  # of the frames, the quietest, are taken for background noise
DIP_DB, MIN_APART_S = 3, 0.05  # a quiet moment lies so far below both sides of it, and from the next one
FLOOR = 1e-11  # -110 dB of full scale, below the rounding of 16 bits: keeps logarithms finite in digital silence


class Voice:
    """One take.

    Attributes:
        waveform: (N,) float64 in [-1, 1].
        sample_rate_hz: of the waveform.
    """

    def __init__(self, waveform: np.ndarray, sample_rate_hz: int) -> None:
        self.waveform = np.asarray(waveform, np.float64)
        self.sample_rate_hz = sample_rate_hz

    def altered(self, waveform: np.ndarray) -> Voice:
        """The take with another gain or more noise: it sounds anew, but its pitch stays."""
        voice = Voice(waveform, self.sample_rate_hz)
        voice.pitch_octaves = self.pitch_octaves
        return voice

    @cached_property
    def power(self) -> np.ndarray:
        """(T, F) mean square by frequency; frame t is centred at t * HOP_S, the mean over F is that of the frame."""
        frames, window = self._framed(self.waveform, WINDOW_S)
        return np.abs(np.fft.rfft(frames * window)) ** 2 / np.sum(window**2)

    @cached_property
    def level_db(self) -> np.ndarray:
        """(T,) dB of full scale, without the rumble below any voice."""
        heard = sosfilt(butter(4, RUMBLE_HZ, "highpass", fs=self.sample_rate_hz, output="sos"), self.waveform)
        frames, window = self._framed(heard, WINDOW_S)
        return 10 * np.log10(frames**2 @ window**2 / np.sum(window**2) + FLOOR)

    @cached_property
    def bands_db(self) -> np.ndarray:
        """(T, NUM_BANDS) mel bands in dB."""
        return 10 * np.log10(self.power @ _mel_filters(self.power.shape[1], self.sample_rate_hz) + FLOOR)

    @cached_property
    def active(self) -> np.ndarray:
        """(T,) bool: speech. Gaps up to GAP_S are bridged; what is shorter than SPEECH_S, such as a click, is none."""
        loud = self.level_db > max(np.percentile(self.level_db, 95) - ACTIVE_DB, QUIETEST_DB)
        gap, least = round(GAP_S / HOP_S), round(SPEECH_S / HOP_S)
        bridged = binary_closing(np.pad(loud, gap), np.ones(gap + 1))[gap:-gap]
        return loud & binary_opening(bridged, np.ones(least))

    @property
    def speech_s(self) -> tuple[float, float]:
        """When the first speech begins and the last ends; empty (0, 0) where there is none."""
        where = np.flatnonzero(self.active)
        return (where[0] * HOP_S, where[-1] * HOP_S) if len(where) else (0.0, 0.0)

    @cached_property
    def loudness_db(self) -> float:
        """Root mean square of the speech alone, in dB of full scale."""
        return float(10 * np.log10(np.mean(10 ** (self.level_db[self.active] / 10))))

    @cached_property
    def noise(self) -> np.ndarray:
        """(F,) power of the background: the mean of the quietest frames, digital silence left aside."""
        level = self.power.mean(axis=1)
        heard = np.flatnonzero(level > FLOOR)
        quiet = heard[np.argsort(level[heard])[: max(int(NOISE_SHARE * len(heard)), 1)]]
        return self.power[quiet].mean(axis=0) if len(quiet) else np.zeros(self.power.shape[1])

    @cached_property
    def pitch_octaves(self) -> np.ndarray:
        """(T,) log2 of the pitch in Hz by autocorrelation; straight lines where the voice has none."""
        frames, window = self._framed(self.waveform, PITCH_WINDOW_S)
        spectrum = np.abs(np.fft.rfft(frames * window, 2 * len(window))) ** 2
        shortest, longest = (round(self.sample_rate_hz / hz) for hz in PITCH_HZ[::-1])
        correlation = np.fft.irfft(spectrum)
        lags = shortest + np.argmax(correlation[:, shortest : longest + 1], axis=1)
        strength = np.take_along_axis(correlation, lags[:, None], axis=1)[:, 0] / (correlation[:, 0] + FLOOR)
        voiced = np.flatnonzero((strength > VOICED) & self.active)
        if not len(voiced):
            return np.zeros(len(self.active))
        return np.interp(np.arange(len(self.active)), voiced, np.log2(self.sample_rate_hz / lags[voiced]))

    @cached_property
    def quiet_moments(self) -> np.ndarray:
        """Samples within the speech at which a smoothed envelope has a local minimum: pauses, closures of stops."""
        envelope = gaussian_filter1d(self.level_db, 1.0)
        dips, _ = find_peaks(-envelope, prominence=DIP_DB, distance=round(MIN_APART_S / HOP_S))
        begin, end = self.speech_s
        times = dips * HOP_S
        inside = (times > begin) & (times < end)
        return np.round(times[inside] * self.sample_rate_hz).astype(int)

    def _framed(self, waveform: np.ndarray, window_s: float) -> tuple[np.ndarray, np.ndarray]:
        """(T, S) frames centred at t * HOP_S, and their window (S,)."""
        size, hop = round(window_s * self.sample_rate_hz), round(HOP_S * self.sample_rate_hz)
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, size // 2), size)[::hop]
        return frames, np.hanning(size + 2)[1:-1]


def make_noise(rng: np.random.Generator, power: np.ndarray, num_samples: int) -> np.ndarray:
    """(N,) Gaussian noise with the given mean square by frequency, `power` (F,) as in `Voice.power`."""
    size = next_fast_len(num_samples, real=True)
    spectrum = np.fft.rfft(rng.normal(size=size))
    places = np.linspace(0, len(power) - 1, len(spectrum))
    return np.fft.irfft(spectrum * np.sqrt(np.interp(places, np.arange(len(power)), power)), size)[:num_samples]


def _mel_filters(num_bins: int, sample_rate_hz: int) -> np.ndarray:
    """(F, NUM_BANDS) triangles evenly spaced on the mel scale from 50 Hz up, each summing to 1."""
    top_mel = 2595 * np.log10(1 + min(sample_rate_hz / 2, 8000) / 700)
    mels = np.linspace(2595 * np.log10(1 + 50 / 700), top_mel, NUM_BANDS + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    hz = np.linspace(0, sample_rate_hz / 2, num_bins)[:, None]
    rising = (hz - corners[:-2]) / np.maximum(np.diff(corners)[:-1], hz[1])
    falling = (corners[2:] - hz) / np.maximum(np.diff(corners)[1:], hz[1])
    filters = np.maximum(0, np.minimum(rising, falling))
    return filters / np.maximum(filters.sum(axis=0), 1e-9)
