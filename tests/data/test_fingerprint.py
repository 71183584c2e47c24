"""Copies are found whatever was done to them; takes of one sentence, silences and hums are not taken for copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avser.data import fingerprint
from avser.data.fingerprint import (
    BAND_EDGES_HZ,
    FRAME,
    HOP,
    HOP_S,
    MAX_BIT_ERRORS,
    RATE_HZ,
    Duplicate,
    find_duplicates,
    fingerprint_audio,
)
from avser.data.manifest import ClipRow, Manifest
from avser.media.audio import decode_audio
from preprocessing.synthetic import voice
from tools.measure_duplicates import CHANGES, add_noise, encode, measure, resample

HZ = 16000
REQUIRED = [name for name in CHANGES if name != "noise at 10 dB"]  # more noise than a copy must bear


def speak(seed: int, *, take: int = 0, duration_s: float = 3.0) -> np.ndarray:
    """A synthetic voice; another take is the same speaker and sentence, spoken a little higher and a little slower."""
    rng = np.random.default_rng(seed)
    traits = voice.draw_voice(rng, "female")
    said = voice.articulate(rng, traits, round(duration_s * voice.CONTROL_HZ))
    said.accent_st[:] += 0.7 * take
    wave = voice.synthesize(np.random.default_rng([seed, take]), traits, said, {}, np.zeros(len(said.amplitude)))
    wave = np.interp(np.arange(0, len(wave) - 1, 1 - 0.02 * take), np.arange(len(wave)), wave)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def hiss(seed: int, seconds: float = 2.0, level: float = 0.001) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * HZ))).astype(np.float32)


def compare(*waveforms: np.ndarray) -> list[Duplicate]:
    return find_duplicates({str(i): fingerprint_audio(w, HZ) for i, w in enumerate(waveforms)})


@pytest.fixture(scope="module")
def voices() -> list[np.ndarray]:
    return [speak(seed) for seed in range(6)]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_changed_copy_is_found_among_other_voices(voices, name):
    rng = np.random.default_rng(1)
    copies = [CHANGES[name](wave, rng) for wave in voices]
    assert {(p.first, p.second) for p in compare(*voices, *copies)} == {(str(i), str(i + 6)) for i in range(6)}


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000])
def test_the_rate_of_the_samples_does_not_matter(voices, rate_hz):
    other = fingerprint_audio(resample(voices[0], HZ, rate_hz), rate_hz)
    (pair,) = find_duplicates({"a": fingerprint_audio(voices[0], HZ), "b": other})
    assert pair.bit_error_rate < 0.02


def test_what_flac_and_sixteen_bits_keep_is_kept(voices):
    (pair,) = compare(voices[0], encode(voices[0], "flac", "flac", HZ, 0))
    assert pair.bit_error_rate < 0.01
    assert pair.offset_s == 0


@settings(deadline=None, max_examples=20)
@given(gain=st.sampled_from([-1.0, 0.01, 0.3, 1.9]), lead_s=st.floats(0, 2), cut_s=st.floats(0, 1))
def test_level_polarity_and_place_do_not_matter(voices, gain, lead_s, cut_s):
    moved = np.concatenate([np.zeros(round(lead_s * HZ), np.float32), gain * voices[1][round(cut_s * HZ) :]])
    (pair,) = compare(voices[1], moved)
    assert pair.offset_s == pytest.approx(cut_s - lead_s, abs=1.5 * HOP_S)


def test_a_part_is_found_in_a_longer_recording(voices):
    longer = np.concatenate([hiss(1), *voices[:4], hiss(2)])
    (pair,) = compare(voices[2][HZ // 2 : 2 * HZ], longer)
    assert -pair.offset_s == pytest.approx(2.0 + 2 * 3.0 + 0.5, abs=HOP_S)  # hiss, two voices, half a second


def test_other_takes_of_a_sentence_are_no_copies():
    assert compare(*(speak(seed, take=take) for seed in range(6) for take in range(3))) == []


def test_silence_says_nothing():
    silent = np.zeros(2 * HZ, np.float32)
    assert not fingerprint_audio(silent, HZ).any()
    assert not fingerprint_audio(np.full(2 * HZ, 0.1, np.float32), HZ)[20:-20].any()  # nor does an offset
    assert compare(silent, silent) == []
    assert compare(hiss(1), hiss(2)) == []


def test_the_same_silence_around_other_speech_is_no_copy(voices):
    room = hiss(1)
    assert compare(*(np.concatenate([room, wave, room]) for wave in voices[:3])) == []


def test_the_same_hum_is_no_copy():
    t = np.arange(3 * HZ) / HZ
    hum = sum(0.05 / k * np.sin(2 * np.pi * 50 * k * t) for k in range(1, 20))
    assert compare(*(np.float32(hum) + hiss(seed, 3.0) for seed in range(4))) == []


def test_pauses_are_quiet_and_speech_is_not(voices):
    codes = fingerprint_audio(np.concatenate([np.zeros(HZ, np.float32), voices[0], hiss(0, 1.0)]), HZ)
    assert not codes[: round(0.6 / HOP_S)].any()  # a frame is 0.32 s long
    assert not codes[round(4.05 / HOP_S) :].any()
    assert np.mean(codes[round(1.1 / HOP_S) : round(3.5 / HOP_S)] != 0) > 0.8


@pytest.mark.parametrize("band", [0, 5, 31])
def test_bits_are_the_signs_of_rising_slopes(band):
    """A rising tone in band m: the slope from m to m + 1 rises (bit m is 1), the one from m - 1 to m falls (0)."""
    tone_hz = np.sqrt(BAND_EDGES_HZ[band] * BAND_EDGES_HZ[band + 1])
    t = np.arange(RATE_HZ) / RATE_HZ
    codes = fingerprint_audio(np.sin(2 * np.pi * tone_hz * t) * (1 + t), RATE_HZ)
    bits = (codes[:, None] >> np.arange(31, -1, -1, dtype=np.uint32)) & 1  # bit 0 is the highest
    assert bits[:, band].all()
    assert band == 0 or not bits[:, band - 1].any()


def test_lengths(monkeypatch):
    assert len(fingerprint_audio(np.zeros(0, np.float32), HZ)) == 0
    shortest = (FRAME + HOP) * HZ // RATE_HZ  # samples
    assert len(fingerprint_audio(np.ones(shortest - 1), HZ)) == 0
    assert len(fingerprint_audio(np.ones(shortest), HZ)) == 1
    long = np.concatenate([speak(3), speak(4)])
    whole = fingerprint_audio(long, HZ)
    assert whole.dtype == np.uint32
    assert len(whole) == pytest.approx((len(long) / HZ - FRAME / RATE_HZ) / HOP_S, abs=1)
    monkeypatch.setattr(fingerprint, "BLOCK", 7)
    np.testing.assert_array_equal(fingerprint_audio(long, HZ), whole)


# --- the search, on codes made by hand -------------------------------------------------------------------------------


def some_codes(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**32, num, dtype=np.uint32)


def with_errors(codes: np.ndarray, num_bits: int) -> np.ndarray:
    """Every second frame loses `num_bits` bits; the others stay, so that they can be looked up."""
    changed = codes.copy()
    changed[::2] ^= np.uint32(2**num_bits - 1)
    return changed


def test_errors_seconds_and_offset_are_counted():
    codes = some_codes(50)
    other = np.concatenate([np.zeros(7, np.uint32), with_errors(codes, 4)[10:]])
    (pair,) = find_duplicates({"a": codes, "b": other})
    assert pair == Duplicate("a", "b", pytest.approx(40 * HOP_S), 4 / 64, pytest.approx(3 * HOP_S))


def test_quiet_frames_are_not_compared():
    codes = some_codes(60)
    one, other = codes.copy(), codes.copy()
    one[:10], other[50:] = 0, 0
    (pair,) = find_duplicates({"a": one, "b": other})
    assert (pair.shared_s, pair.bit_error_rate) == (pytest.approx(40 * HOP_S), 0)
    assert find_duplicates({"a": np.zeros(50, np.uint32), "b": np.zeros(50, np.uint32)}) == []


def test_limits():
    codes = some_codes(50)
    assert MAX_BIT_ERRORS == 0.18
    assert find_duplicates({"a": codes, "b": with_errors(codes, 11)})  # 11 / 64 = 0.172
    assert not find_duplicates({"a": codes, "b": with_errors(codes, 12)})  # 0.188
    assert find_duplicates({"a": codes, "b": with_errors(codes, 12)}, max_bit_errors=0.19)
    # Of 20 frames, half of `SURE_S`, half as many bits may differ: 0.09.
    assert find_duplicates({"a": codes[:20], "b": with_errors(codes, 5)})  # 5 / 64 = 0.078
    assert not find_duplicates({"a": codes[:20], "b": with_errors(codes, 6)})  # 0.094
    # 12 frames are too short for anything but a copy, 11 for that too.
    assert find_duplicates({"a": codes[:12], "b": codes})
    assert not find_duplicates({"a": codes[:11], "b": codes})
    # Half of the shorter clip must be found again.
    later = np.concatenate([codes[25:], some_codes(25, seed=1)])
    assert find_duplicates({"a": codes, "b": later})
    assert not find_duplicates({"a": codes, "b": later[1:]}, min_share=0.5)
    assert find_duplicates({"a": codes, "b": later[1:]}, min_share=0.4)


def test_nothing_to_search():
    assert find_duplicates({}) == []
    assert find_duplicates({"a": some_codes(50)}) == []
    assert find_duplicates({"a": some_codes(50), "b": np.zeros(0, np.uint32)}) == []


def test_every_one_of_many_copies_is_in_a_pair():
    codes = some_codes(40)
    prints = {f"copy{i}": codes for i in range(100)} | {f"other{i}": some_codes(40, seed=i + 1) for i in range(100)}
    found = find_duplicates(prints)
    assert {name for pair in found for name in (pair.first, pair.second)} == {f"copy{i}" for i in range(100)}


def test_the_surest_pair_comes_first():
    codes = some_codes(50)
    found = find_duplicates({"a": codes, "b": with_errors(codes, 6), "c": with_errors(codes, 1)})
    assert [(pair.first, pair.second) for pair in found] == [("a", "c"), ("b", "c"), ("a", "b")]


# --- real recordings -------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_sound_of_the_crema_d_videos_is_that_of_the_audio_files(real_data):
    folder = real_data / "cremad"
    files = [*folder.glob("AudioWAV/*.wav"), *folder.glob("AudioMP3/*.mp3"), *folder.glob("VideoFlash/*.flv")]
    found = find_duplicates({file.name: fingerprint_audio(decode_audio(file)[0], HZ) for file in sorted(files)})
    assert all(pair.first.split(".")[0] == pair.second.split(".")[0] for pair in found)  # not two emotions or actors
    names = {frozenset((pair.first, pair.second)) for pair in found}
    videos = [file.stem for file in folder.glob("VideoFlash/*.flv")]
    assert len(videos) == 6
    assert all(frozenset((f"{clip}.wav", f"{clip}.flv")) in names for clip in videos)


@pytest.mark.real_data
def test_ravdess_holds_one_recording_twice_and_no_take_is_mistaken_for_another(real_data):
    files = sorted((real_data / "ravdess_speech").rglob("*.flac"))
    assert len(files) == 1440
    (pair,) = find_duplicates({file.stem: fingerprint_audio(decode_audio(file)[0], HZ) for file in files})
    assert (pair.first, pair.second, pair.bit_error_rate) == ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07", 0.0)


@pytest.mark.slow
@pytest.mark.real_data
def test_rates_on_speakers_that_set_no_threshold(real_data):
    root = real_data / "ravdess_speech"
    files = [file for actor in range(13, 25) for file in sorted(root.glob(f"Actor_{actor:02}/*.flac"))]
    rows = [ClipRow(f.stem, "ravdess", f.stem[-2:], "", str(f.relative_to(root))) for f in files]
    table = measure(Manifest(rows, root), 120)
    print(*table.rows, table.caption, table.note, sep="\n")
    for name, found, _, false_alarms, _ in table.rows:
        assert false_alarms == 0, name
        assert found >= 0.95, name


def test_noise_is_as_loud_as_it_says(voices):
    noise = add_noise(voices[0], 20, np.random.default_rng(0)) - voices[0]
    assert 10 * np.log10(np.mean(voices[0] ** 2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)
