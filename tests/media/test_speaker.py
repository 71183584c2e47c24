from __future__ import annotations

import numpy as np
import pytest

from avser.media.speaker import find_speaker, measure_loudness, mouth_opening
from avser.structures import Curve


def faces(openings: np.ndarray) -> np.ndarray:
    """(T, 478, 2): eyes 60 px apart, the lips open by that share of it."""
    landmarks = np.random.default_rng(0).uniform(0, 100, (len(openings), 478, 2))
    landmarks[:, 33], landmarks[:, 263] = (20, 40), (80, 40)
    landmarks[:, 13] = (50, 80)
    landmarks[:, 14] = np.stack([np.full(len(openings), 50.0), 80 + 60 * openings], axis=1)
    return landmarks


def test_the_opening_is_a_share_of_the_distance_between_the_eyes():
    np.testing.assert_allclose(mouth_opening(faces(np.array([0.0, 0.1, 0.5]))), [0, 0.1, 0.5])
    np.testing.assert_allclose(mouth_opening(3 * faces(np.array([0.1]))), [0.1])


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_loudness_is_the_level_in_decibels(rate):
    time = np.arange(rate) / rate
    wave = np.sin(2 * np.pi * 400 * time) * np.where(time < 0.5, 1.0, 0.1)
    loudness = measure_loudness(wave.astype(np.float32), rate)
    assert len(loudness) == pytest.approx(100, abs=1)
    np.testing.assert_allclose(loudness.values[loudness.times < 0.48], -3.01, atol=0.1)
    np.testing.assert_allclose(loudness.values[loudness.times > 0.52], -23.01, atol=0.1)
    assert loudness.times[0] == pytest.approx(0.005, abs=1e-4)


def test_silence_and_shortness_do_no_harm():
    assert measure_loudness(np.zeros(1600, np.float32), 16000).values.tolist() == pytest.approx([-60] * 10)
    assert len(measure_loudness(np.full(7, 0.5, np.float32), 16000)) == 1
    assert measure_loudness(np.full(7, 0.5, np.float32), 16000).values[0] == pytest.approx(-6.02, abs=0.01)
    assert measure_loudness(np.zeros(0, np.float32), 16000).values.tolist() == pytest.approx([-60])


TIMES = np.arange(30) / 10
PULSE = np.sin(2 * np.pi * TIMES)
VOICE = Curve(np.arange(300) / 100, -30 + 20 * np.sin(2 * np.pi * np.arange(300) / 100))


def test_a_mouth_in_step_correlates_fully():
    best, scores = find_speaker([(TIMES, faces(0.1 + 0.05 * PULSE)), (TIMES, faces(0.1 - 0.05 * PULSE))], VOICE)
    assert best == 0
    assert scores == pytest.approx([1, -1], abs=0.02)


def test_the_jitter_of_a_closed_mouth_is_no_movement():
    """Its correlation is as if it had moved by 0.01: 0.001 of jitter in perfect step counts for a tenth."""
    best, scores = find_speaker([(TIMES, faces(0.1 + 0.001 * np.sqrt(2) * PULSE))], VOICE)
    assert best is None
    assert scores == pytest.approx([0.1], abs=0.005)


def test_few_looks_and_a_constant_voice_say_nothing():
    assert find_speaker([(TIMES[:5], faces(0.1 + 0.05 * PULSE[:5]))], VOICE) == (None, [0.0])
    constant = Curve(VOICE.times, np.full(300, -20.0))
    assert find_speaker([(TIMES, faces(0.1 + 0.05 * PULSE))], constant) == (None, [0.0])


def test_after_the_voice_has_ended_it_is_silent():
    """A mouth that is open while the voice lasts, and closed for as long after it."""
    voice = Curve(np.arange(150) / 100, np.full(150, -20.0))
    opening = np.where(TIMES < 1.5, 0.2, 0.0)
    best, scores = find_speaker([(TIMES, faces(opening))], voice)
    assert best == 0
    assert scores[0] > 0.75
