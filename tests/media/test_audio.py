from __future__ import annotations

import logging
import socket
import struct
import subprocess
import sys
import tempfile
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avser.errors import MediaError
from avser.media.audio import decode_audio, is_silent, read_audio

RATE = 16000


def noise(seconds: float, rate_hz: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(C, N), quantised to 16 bits so that PCM files hold it exactly."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, round(seconds * rate_hz)))
    return np.round(samples * 2**15) / 2**15


def click(seconds: float, at_s: float, rate_hz: int = RATE) -> np.ndarray:
    samples = np.zeros(round(seconds * rate_hz))
    samples[round(at_s * rate_hz)] = 0.9
    return samples


def grey(count: int, side: int = 32) -> list[np.ndarray]:
    return [np.full((side, side, 3), 40 + k % 100, np.uint8) for k in range(count)]


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((np.asarray(samples).ravel() * 2**15).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mkv"])
def test_lossless_files_give_back_every_sample(write_media, name):
    samples = noise(0.5)
    found = read_audio(write_media(name, audio=samples))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, samples[0].astype(np.float32))


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_is_scaled_to_one(write_media, codec):
    samples = noise(0.1)
    found = read_audio(write_media("a.wav", audio=samples, audio_codec=codec))
    np.testing.assert_allclose(found, samples[0], atol=1 / 127 if codec == "pcm_u8" else 1e-7)


def test_six_channels_become_their_mean(write_media):
    samples = noise(0.2, channels=6)
    found = read_audio(write_media("a.flac", audio=samples))
    np.testing.assert_allclose(found, samples.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100, 48000])
def test_resampling_keeps_pitch_level_and_place(write_media, rate_hz):
    t = np.arange(rate_hz) / rate_hz
    found = read_audio(write_media("a.wav", audio=0.5 * np.sin(2 * np.pi * 440 * t), rate_hz=rate_hz))
    assert abs(len(found) - RATE) <= 1
    middle = slice(RATE // 4, 3 * RATE // 4)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(found[middle], expected[middle], atol=2e-3)


def test_other_sample_rates_can_be_asked_for(write_media):
    found = read_audio(write_media("a.wav", audio=click(1.0, 0.25)), sample_rate_hz=8000)
    assert len(found) == 8000
    assert np.argmax(np.abs(found)) == 2000


def test_audio_that_starts_late_has_zeros_in_front(write_media):
    samples = noise(0.5)
    found = read_audio(write_media("a.mkv", audio=samples, audio_starts=[0.4], images=grey(25)))
    np.testing.assert_array_equal(found[:6400], 0)
    np.testing.assert_array_equal(found[6400:], samples[0].astype(np.float32))


def test_a_part_that_begins_before_its_audio_does(write_media):
    samples = noise(1.0)
    path = write_media("a.mkv", audio=samples, audio_starts=[3.0], images=grey(100))
    found = read_audio(path, start_s=2.5, end_s=3.5)
    np.testing.assert_array_equal(found[:8000], 0)
    np.testing.assert_array_equal(found[8000:], samples[0, :8000].astype(np.float32))


def test_time_zero_is_the_earliest_track_even_when_no_track_starts_at_zero(write_media):
    path = write_media("a.mkv", audio=click(0.5, 0.1), audio_starts=[2.0], images=grey(10), times_s=np.arange(10) + 1.5)
    assert np.argmax(read_audio(path)) == round(0.6 * RATE)


def test_a_gap_is_filled_with_silence_and_said(write_media):
    samples = noise(0.512)
    waveform, warnings = decode_audio(write_media("a.mkv", audio=samples, audio_starts=[0.0, 0.6]))
    assert len(waveform) == 0.6 * RATE + 4096
    np.testing.assert_array_equal(waveform[:4096], samples[0, :4096].astype(np.float32))
    np.testing.assert_array_equal(waveform[4096:9600], 0)
    np.testing.assert_array_equal(waveform[9600:], samples[0, 4096:].astype(np.float32))
    assert any("0.34 s of gaps" in w for w in warnings)


def test_rounded_timestamps_are_no_gaps(write_media):
    samples = noise(2.0, rate_hz=44100)
    waveform, warnings = decode_audio(write_media("a.mkv", audio=samples, rate_hz=44100))
    assert warnings == []
    assert abs(len(waveform) - 2 * RATE) <= 1


def test_audio_that_repeats_earlier_times_is_left_out_and_said(write_media):
    samples = noise(0.512)
    waveform, warnings = decode_audio(write_media("a.mkv", audio=samples, audio_starts=[0.0, 0.2]))
    assert len(waveform) == 0.2 * RATE + 4096
    np.testing.assert_array_equal(waveform[:4096], samples[0, :4096].astype(np.float32))
    np.testing.assert_array_equal(waveform[4096:], samples[0, 4992:].astype(np.float32))
    assert any("0.06 s of audio left out" in w for w in warnings)


@settings(max_examples=25, deadline=None)
@given(cut=st.lists(st.integers(0, 4 * RATE), min_size=2, max_size=2, unique=True).map(sorted))
def test_a_part_is_a_slice_of_the_whole(cut):
    start, end = cut
    samples = noise(4.0)[0].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = write_wav(Path(folder) / "a.wav", samples)
        part = read_audio(path, start_s=start / RATE, end_s=end / RATE)
    np.testing.assert_array_equal(part, samples[start:end])


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.webm", "a.flac", "a.mp4"])
def test_a_late_part_of_a_compressed_file_is_found_by_seeking(write_media, name):
    rate_hz = 48000
    t = np.arange(20 * rate_hz) / rate_hz
    chirp = 0.5 * np.sin(2 * np.pi * (100 * t + 20 * t**2))
    images = {"images": grey(500), "fps": 25} if name.endswith("mp4") else {}
    path = write_media(name, audio=chirp, rate_hz=rate_hz, **images)
    whole = read_audio(path)
    part = read_audio(path, start_s=12.0, end_s=13.5)
    assert len(part) == 1.5 * RATE
    # Timestamps may be rounded to a millisecond (webm), and a cut need not fall on a sample of the file.
    errors = [np.sqrt(np.mean((part - whole[i : i + len(part)]) ** 2)) for i in range(12 * RATE - 16, 12 * RATE + 17)]
    assert min(errors) < 0.05


def test_a_part_that_runs_beyond_the_end_is_as_long_as_the_sound(write_media):
    path = write_media("a.wav", audio=noise(1.0))
    assert len(read_audio(path, start_s=0.75, end_s=9.0)) == RATE // 4


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mkv"])
def test_a_truncated_file_gives_what_is_left_and_says_so(write_media, name):
    samples = noise(2.0)
    path = write_media(name, audio=samples)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    waveform, warnings = decode_audio(path)
    assert 1.0 * RATE < len(waveform) < 1.3 * RATE
    np.testing.assert_array_equal(waveform[:RATE], samples[0, :RATE].astype(np.float32))
    assert any("truncated" in w for w in warnings)


def test_a_whole_file_has_no_warnings(write_media):
    for name in ("a.wav", "a.flac", "a.mkv", "a.mp3", "a.m4a", "a.webm"):
        rate_hz = 48000
        assert decode_audio(write_media(name, audio=noise(1.3, rate_hz), rate_hz=rate_hz))[1] == []


def test_read_audio_logs_what_decode_audio_returns(write_media, caplog):
    path = write_media("a.wav", audio=noise(2.0))
    path.write_bytes(path.read_bytes()[:30000])
    with caplog.at_level(logging.WARNING):
        read_audio(path)
    assert "truncated" in caplog.text


def test_samples_beyond_full_scale_are_clipped_and_said(write_media):
    samples = np.linspace(-2, 2, RATE)
    waveform, warnings = decode_audio(write_media("a.wav", audio=samples, audio_codec="pcm_f32le"))
    assert waveform.min() == -1
    assert waveform.max() == 1
    assert any("up to 2" in w for w in warnings)


def test_names_with_colons_and_accents_are_opened(write_media):
    assert len(read_audio(write_media("café: 2. Aufnahme.wav", audio=noise(0.1)))) == 1600


def test_silence_is_an_error_only_for_read_audio(write_media):
    path = write_media("a.wav", audio=np.full(RATE, 5e-5))
    assert is_silent(decode_audio(path)[0])
    with pytest.raises(MediaError, match="silent throughout"):
        read_audio(path)
    assert not is_silent(np.array([0.0, -2e-4], np.float32))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(MediaError, match="no such file"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(MediaError, match="not a file"):
        read_audio(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(MediaError, match="the file is empty"):
        read_audio(tmp_path / "a.wav")


def test_git_lfs_pointer(tmp_path):
    (tmp_path / "a.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(MediaError, match="git lfs pull"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["wav", "mp3", "mp4", "flac", "mkv", "flv", "txt", ""])
def test_random_bytes(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(np.random.default_rng(3).bytes(20000))
    with pytest.raises(MediaError, match="a\\."):
        read_audio(path)


def test_no_audio_track(write_media):
    with pytest.raises(MediaError, match="no audio track"):
        read_audio(write_media("a.mp4", images=grey(5)))


def test_a_header_without_samples(tmp_path):
    with pytest.raises(MediaError, match=r"a\.wav"):
        read_audio(write_wav(tmp_path / "a.wav", np.zeros(0)))


def test_not_a_number(write_media):
    samples = noise(0.5)
    samples[0, 4000] = np.nan
    with pytest.raises(MediaError, match="NaN"):
        read_audio(write_media("a.wav", audio=samples, audio_codec="pcm_f32le"))


def test_an_mp4_cut_before_its_index_is_unreadable(write_media):
    path = write_media("a.m4a", audio=noise(1.0))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(MediaError, match="damaged"):
        read_audio(path)


@pytest.mark.parametrize(("start_s", "end_s"), [(0.5, 0.5), (0.6, 0.5), (-1.0, None), (float("nan"), None)])
def test_an_interval_without_length(write_media, start_s, end_s):
    with pytest.raises(MediaError, match="start_s must lie before end_s"):
        read_audio(write_media("a.wav", audio=noise(1.0)), start_s=start_s, end_s=end_s)


def test_a_part_behind_the_end(write_media):
    with pytest.raises(MediaError, match="between 5 s and 6 s"):
        read_audio(write_media("a.wav", audio=noise(1.0)), start_s=5.0, end_s=6.0)


@pytest.mark.parametrize("rate_hz", [1, 2**31 - 1])
def test_a_forged_sampling_rate_does_no_harm(tmp_path, rate_hz):
    path = write_wav(tmp_path / "a.wav", noise(8.0))
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", rate_hz)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=f"{rate_hz} Hz"):
        read_audio(path)


def test_a_forged_timestamp_allocates_nothing(write_media):
    with pytest.raises(MediaError, match="timestamps are damaged"):
        read_audio(write_media("a.mkv", audio=noise(0.2), audio_starts=[0.0, 5 * 3600.0]))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a", "a.mkv", "a.webm"])
def test_damaged_bytes_never_crash(write_media, name):
    path = write_media(name, audio=noise(0.5, 48000), rate_hz=48000)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        damaged = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, len(damaged), rng.integers(1, 40))
        damaged[where] = rng.integers(0, 256, len(where))
        path.write_bytes(damaged[: rng.integers(len(damaged) // 2, len(damaged) + 1)].tobytes())
        try:
            waveform, _ = decode_audio(path)
        except MediaError:
            continue
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= 1


def test_a_playlist_fetches_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        path = tmp_path / "a.m3u8"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(MediaError):
            read_audio(path)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.real_data
def test_real_recordings_are_read_whole(real_data):
    for path in sorted((real_data / "ravdess_speech").glob("Actor_0[1-4]/*-01-01-0?.flac"))[:20]:
        waveform, warnings = decode_audio(path)
        assert warnings == []
        assert 2.5 < len(waveform) / RATE < 6
        assert not is_silent(waveform)


@pytest.mark.parametrize(("codec", "suffix"), [("aac", "m4a"), ("flac", "flac")])
def test_eight_channels(tmp_path, codec, suffix):
    """In a process of its own: PyAV by itself crashes on eight planes of samples, as AAC has them."""
    path = tmp_path / f"a.{suffix}"
    tone = np.tile(0.2 * np.sin(np.arange(48000) / 20), (8, 1)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout="7.1")
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="7.1")
        for i in range(0, 48000, 1000):
            packed = np.ascontiguousarray(tone[:, i : i + 1000].T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="7.1")
            frame.sample_rate, frame.pts, frame.time_base = 48000, i, Fraction(1, 48000)
            for converted in resampler.resample(frame):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    code = f"from avser.media.audio import decode_audio as d; w, _ = d({str(path)!r}); print(len(w), abs(w).max())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    num_samples, peak = done.stdout.split()
    assert int(num_samples) == pytest.approx(16000, abs=1100)
    assert float(peak) == pytest.approx(0.2, abs=0.02)
