"""Loudness in dB, step by step."""

import numpy as np
import pytest

from avser.roi.trust.loudness import measure_loudness
from avser.structures import Clip


def test_a_tone_that_gets_ten_times_louder_gains_20_db():
    seconds = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 200 * seconds) * np.where(seconds < 0.5, 0.05, 0.5)
    found = measure_loudness(Clip("x", 1.0, tone.astype(np.float32)))
    assert len(found) == 100
    assert found.times[0] == pytest.approx(0.005)
    assert found.values[75] - found.values[25] == pytest.approx(20, abs=0.1)
    assert found.values[75] == pytest.approx(10 * np.log10(0.125), abs=0.1)


def test_silence_is_finite_and_no_voice_is_none():
    assert measure_loudness(Clip("x", 1.0, np.zeros(1600, np.float32))).values == pytest.approx(-80)
    assert measure_loudness(Clip("x", 1.0)) is None
