"""The microphone and the room: echo, channel, noise and level of a clip, none of which knows its emotion."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.signal import fftconvolve

from preprocessing.synthetic.voice import SAMPLE_RATE_HZ


def record(rng: np.random.Generator, voice: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The voice as a microphone in a room gives it, and the random facts of that room.

    Echo, channel slope, noise, level (root mean square) and crest factor are drawn without regard to the emotion, so
    none of them says which one it is.

    Returns:
        (N,) float32 in [-1, 1], and the settings drawn.
    """
    facts = {
        "echo_s": rng.uniform(0.05, 0.2),
        "echo_db": rng.uniform(-26, -12),
        "slope_db": rng.uniform(-1.5, 1.5),
        "snr_db": rng.uniform(20, 38),
        "rms_db": rng.uniform(-28, -20),
        "crest_db": rng.uniform(11.5, 13.5),
    }
    decay_s = np.arange(int(0.4 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.normal(0, 1, len(decay_s)) * np.exp(-3 * decay_s / facts["echo_s"])
    echo = fftconvolve(voice, tail / np.linalg.norm(tail))[: len(voice)]
    wet = voice + echo * 10 ** (facts["echo_db"] / 20)
    wet = _color(wet, facts["slope_db"])
    noise = _color(rng.normal(0, 1, len(voice)), rng.uniform(-6, -2))
    wet = wet / _rms(wet) + noise / _rms(noise) * 10 ** (-facts["snr_db"] / 20)
    wet = _set_crest(wet, facts["crest_db"])
    return (wet / _rms(wet) * 10 ** (facts["rms_db"] / 20)).astype(np.float32), facts


def _color(signal: np.ndarray, slope_db: float) -> np.ndarray:
    """The signal with `slope_db` a octave added between 100 Hz and 8 kHz, and nothing below 40 Hz."""
    spectrum = np.fft.rfft(signal)
    hz = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE_HZ)
    gain = 10 ** (slope_db * np.log2(np.maximum(hz, 100) / 1000) / 20) * (hz > 40)
    return np.fft.irfft(spectrum * gain, len(signal))


def _set_crest(signal: np.ndarray, crest_db: float) -> np.ndarray:
    """Limit until peak over root mean square is `crest_db`: a loud stretch must not show in the clip's peak.

    The gain follows a smooth envelope; shaping the samples themselves would add treble that the audio codec cuts off
    again, and with it the peaks would no longer be where they were set.
    """
    envelope = gaussian_filter1d(maximum_filter1d(np.abs(signal), SAMPLE_RATE_HZ // 50), SAMPLE_RATE_HZ // 200)
    envelope = envelope / envelope.max() + 1e-6
    low, high = 1e-3, 100.0
    for _ in range(16):
        drive = np.sqrt(low * high)
        limited = signal * np.tanh(drive * envelope) / envelope
        above = 20 * np.log10(np.abs(limited).max() / _rms(limited)) > crest_db
        low, high = (drive, high) if above else (low, drive)
    return signal * np.tanh(low * envelope) / envelope


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(signal**2)) + 1e-12)
