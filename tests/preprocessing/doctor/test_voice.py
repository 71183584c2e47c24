from __future__ import annotations

import numpy as np
import pytest

from avser.errors import MediaError
from preprocessing.doctor.voice import FLOOR_DBFS, block_levels, examine_voice, measure_voice, sound_lag

RATE_HZ = 16000


def test_levels_of_a_sine():
    t = np.arange(RATE_HZ) / RATE_HZ
    facts = measure_voice((0.5 * np.sin(2 * np.pi * 200 * t)).astype(np.float32), RATE_HZ)
    assert facts.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert facts.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert facts.voice_dbfs == pytest.approx(-9.03, abs=0.01)
    assert facts.first_db == pytest.approx(0, abs=0.01)
    assert (facts.num_full_scale, facts.num_flat) == (0, 0)
    assert facts.plateau_s < 0.0005
    assert abs(facts.dc_offset) < 1e-6


def test_levels_of_blocks():
    tone = np.tile([0.1, -0.1], 160)
    wave = np.concatenate([tone, tone + 0.5, np.full(320, 0.3), tone[:100]]).astype(np.float32)
    assert block_levels(wave, RATE_HZ) == pytest.approx([-20, -20, FLOOR_DBFS], abs=1e-3)  # an offset is no sound
    assert block_levels(wave[:100], RATE_HZ) == pytest.approx([-20], abs=1e-3)  # shorter than a block


def test_pauses_before_and_after_the_voice(voice):
    padded = np.concatenate([1e-4 * voice(1, 1.0), voice(2), 1e-4 * voice(3, 0.5)]).astype(np.float32)
    alone, within = measure_voice(voice(2).astype(np.float32), RATE_HZ), measure_voice(padded, RATE_HZ)
    assert within.lead_s == pytest.approx(alone.lead_s + 1.0, abs=0.03)
    assert within.trail_s == pytest.approx(alone.trail_s + 0.5, abs=0.03)
    assert alone.lead_s > 0.25
    assert alone.first_db < -30


def test_clipping_at_full_scale_and_below(voice):
    loud = np.clip(8 * voice(1), -1, 1).astype(np.float32)
    assert measure_voice(loud, RATE_HZ).num_full_scale > 50
    lowered = measure_voice(0.4 * loud, RATE_HZ)
    assert lowered.num_full_scale == 0
    assert lowered.num_flat > 50
    rng = np.random.default_rng(0)  # clipped, turned down and resampled: no two samples are equal
    plateau = (0.1 * voice(1)).astype(np.float32)
    plateau[8000:8040] = 0.12 + rng.uniform(0, 0.001, 40)
    facts = measure_voice(plateau, RATE_HZ)
    assert facts.num_flat == 0
    assert facts.plateau_s == pytest.approx(40 / RATE_HZ)


def test_offset_and_a_gap(voice):
    shifted = (voice(1) + 0.05).astype(np.float32)
    facts = measure_voice(shifted, RATE_HZ)
    assert facts.dc_offset == pytest.approx(0.05, abs=0.001)
    assert facts.floor_dbfs < -60  # the offset is no noise
    gap = voice(1).astype(np.float32)
    gap[15000:20000] = 0
    assert measure_voice(gap, RATE_HZ).dropout_s == pytest.approx(5000 / RATE_HZ, abs=0.001)


def test_silence_has_no_levels():
    facts = measure_voice(np.zeros(1000, np.float32), RATE_HZ)
    assert facts.silent
    assert facts.peak_dbfs == FLOOR_DBFS


def test_every_channel_is_looked_at(tmp_path, wav, voice):
    one = voice(1)
    path = wav(tmp_path / "a.wav", np.stack([np.clip(30 * one, -1, 1), 1e-4 * one]))
    facts, waveform = examine_voice(path, RATE_HZ, 2, None, None)
    assert facts.channel_peaks_dbfs[0] == pytest.approx(0, abs=0.01)
    assert facts.channel_peaks_dbfs[1] < -80
    assert facts.num_full_scale > 100  # the mean of the channels reaches half of it
    assert np.abs(waveform).max() == pytest.approx(0.5, abs=0.01)


def test_only_the_interval_counts(tmp_path, wav, voice):
    path = wav(tmp_path / "a.wav", np.concatenate([voice(1), np.zeros(RATE_HZ)]))
    facts, _ = examine_voice(path, RATE_HZ, 1, 2.2, 2.7)
    assert facts.silent
    assert facts.duration_s == pytest.approx(0.5, abs=0.001)
    with pytest.raises(MediaError, match="no audio between"):
        examine_voice(path, RATE_HZ, 1, 4.0, 5.0)


@pytest.mark.parametrize("late_s", [-0.3, 0.0, 0.1, 0.5])
def test_lag_between_two_recordings_of_one_voice(voice, late_s):
    rng = np.random.default_rng(5)
    one = voice(1, 3.0)
    other = 0.3 * one + rng.normal(0, 1e-3, len(one))  # another level, more noise
    lag_s, alike = sound_lag(np.roll(one, round(late_s * RATE_HZ)), other, RATE_HZ)
    assert lag_s == pytest.approx(late_s)
    assert alike > 0.95


def test_two_voices_are_not_alike(voice):
    assert max(sound_lag(voice(1, 3.0), voice(seed, 3.0), RATE_HZ)[1] for seed in range(2, 12)) < 0.85
