from __future__ import annotations

import numpy as np

from preprocessing.splice.voice import HOP_S, Voice, make_noise

RATE = 16000


def test_speech_is_found_between_the_pauses(voice):
    begin, end = voice(0).speech_s
    assert 0.38 <= begin <= 0.46
    assert 1.8 <= end <= 2.5


def test_rumble_and_clicks_are_no_speech(voice):
    sound = voice(0).waveform.copy()
    times = np.arange(len(sound)) / RATE
    sound += 0.1 * np.sin(2 * np.pi * 30 * times)
    sound[round(0.1 * RATE) : round(0.1 * RATE) + 200] += 0.5
    assert 0.38 <= Voice(sound, RATE).speech_s[0] <= 0.46


def test_level_is_the_mean_square_in_db():
    tone = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert abs(np.median(Voice(tone, RATE).level_db) - 10 * np.log10(0.1**2 / 2)) < 0.1


def test_pitch_of_a_tone_with_overtones():
    phase = 2 * np.pi * 200 * np.arange(RATE) / RATE
    sound = 0.1 * sum(np.sin(n * phase) for n in range(1, 6))
    assert np.allclose(2 ** Voice(sound, RATE).pitch_octaves[20:-20], 200, rtol=0.03)


def test_quiet_moments_are_the_closures(voice):
    take = voice(3)
    level = take.level_db[np.round(take.quiet_moments / RATE / HOP_S).astype(int)]
    assert len(level) >= 6
    assert (level < take.loudness_db - 15).all()


def test_digital_silence_is_not_taken_for_the_background(voice):
    take = voice(1, noise=2e-3)
    padded = Voice(np.concatenate([np.zeros(RATE), take.waveform, np.zeros(RATE)]), RATE)
    assert abs(10 * np.log10(padded.noise.mean() / take.noise.mean())) < 1
    assert abs(10 * np.log10(take.noise.mean() / 4e-6)) < 2


def test_noise_has_the_spectrum_asked_for():
    power = np.linspace(4e-6, 0, 161)
    noise = Voice(make_noise(np.random.default_rng(0), power, 10 * RATE), RATE)
    assert np.allclose(noise.power.mean(axis=0)[5:-10], power[5:-10], rtol=0.2)
