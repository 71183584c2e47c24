"""How loud a voice is at each moment: the plainest rival of any salience."""

from __future__ import annotations

import numpy as np

from avser.structures import Clip, Curve

QUIETEST = 1e-8  # power; digital silence counts as -80 dB


def measure_loudness(clip: Clip, *, step_s: float = 0.01) -> Curve | None:
    """Root mean square of the voice in every step, in dB of full scale; None where the clip has no voice."""
    if clip.waveform is None:
        return None
    size = round(step_s * clip.sample_rate_hz)
    num_steps = max(1, len(clip.waveform) // size)
    pieces = np.resize(clip.waveform.astype(float), (num_steps, size))
    power = np.square(pieces).mean(axis=1)
    return Curve((np.arange(num_steps) + 0.5) * step_s, decibels(power))


def decibels(power: np.ndarray) -> np.ndarray:
    """Mean squares of samples in dB of full scale."""
    return 10 * np.log10(power + QUIETEST)
