"""Chunks of a file as if it came in live; devices that are there, and those that are not."""

import itertools

import numpy as np
import pytest

from avser.errors import ConfigError, MediaError
from avser.media.audio import decode_audio
from avser.media.live_sources import Devices, file_chunks
from avser.media.video import iterate_frames

WANTED = {"sample_rate_hz": 16000, "fps": 10, "voice": True, "face": True}


@pytest.fixture(scope="module")
def clip(tiny_corpus):
    return tiny_corpus / "media" / "s01_fear_01.mp4"


@pytest.mark.parametrize("chunk_s", [0.03, 0.1, 100.0])
def test_chunks_joined_are_the_file(clip, chunk_s) -> None:
    chunks = list(file_chunks(clip, chunk_s, **WANTED))
    samples = np.concatenate([chunk.audio for chunk in chunks if chunk.audio is not None])
    np.testing.assert_array_equal(samples, decode_audio(clip)[0])
    frames = [frame for chunk in chunks for frame in chunk.frames]
    expected = list(iterate_frames(clip, fps=10))
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in expected]
    np.testing.assert_array_equal(frames[-1].image, expected[-1].image)


def test_a_chunk_holds_what_lies_before_its_end(clip) -> None:
    begin_s = 0.0
    for chunk in file_chunks(clip, 0.1, **WANTED):
        assert chunk.end_s == pytest.approx(begin_s + 0.1)
        assert all(begin_s - 1e-9 <= frame.time_s < chunk.end_s for frame in chunk.frames)
        assert chunk.audio is None or len(chunk.audio) <= 1600
        assert chunk.captured_at is None
        begin_s = chunk.end_s


def test_only_what_is_wanted_is_read(clip) -> None:
    assert not any(chunk.frames for chunk in file_chunks(clip, 0.1, **{**WANTED, "face": False}))
    assert all(chunk.audio is None for chunk in file_chunks(clip, 0.1, **{**WANTED, "voice": False}))


def test_a_file_without_what_is_wanted_is_refused(clip, tmp_path) -> None:
    with pytest.raises(MediaError, match="no track that the model reads"):
        next(file_chunks(clip, 0.1, **{**WANTED, "voice": False, "face": False}))
    with pytest.raises(MediaError):
        next(file_chunks(tmp_path / "none.mp4", 0.1, **WANTED))


def devices(**options) -> Devices:
    return Devices(
        **{"camera": None, "microphone": None, "sample_rate_hz": 16000, "fps": 10.0, "chunk_s": 0.1, **options}
    )


def test_a_camera_is_read_by_the_clock(clip) -> None:
    """OpenCV reads a file as it reads a camera, only faster: pictures are thinned to the rate that is wanted."""
    chunks = list(itertools.islice(devices(camera=str(clip)), 4))
    assert [chunk.end_s for chunk in chunks] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    times = [frame.time_s for chunk in chunks for frame in chunk.frames]
    assert times == sorted(set(times))
    assert 1 <= len(times) <= 5
    image = chunks[0].frames[0].image if chunks[0].frames else chunks[1].frames[0].image
    first = next(iterate_frames(clip)).image
    assert np.abs(image.astype(int) - first).mean() < 20  # RGB, not BGR


def test_a_camera_that_is_not_there_is_told_with_advice(capfd) -> None:
    with pytest.raises(MediaError, match=r"camera 63 cannot be opened.*--camera N.*--without video.*--file"):
        next(iter(devices(camera=63)))
    assert not capfd.readouterr().err


def test_a_microphone_that_is_not_there_is_told_with_advice() -> None:
    with pytest.raises((MediaError, ConfigError), match=r"--without audio|libportaudio2|avser\[live\]"):
        next(iter(devices(microphone="no such microphone")))


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        next(iter(devices()))
