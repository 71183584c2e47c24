"""The small file for a page: every picture at its own time, the voice where it was, and no more bytes than allowed."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avser.errors import MediaError
from avser.media import preview as preview_module
from avser.media.audio import decode_audio
from avser.media.container import time_zero_s
from avser.media.preview import encode_preview
from avser.media.video import iterate_frames, probe
from avser.structures import Clip, FaceTrack

RATE_HZ = 16000


def click(at_s: float, duration_s: float) -> np.ndarray:
    """Quiet noise with 20 ms of loud tone."""
    wave = 0.001 * np.random.default_rng(0).standard_normal(round(duration_s * RATE_HZ)).astype(np.float32)
    place = slice(round(at_s * RATE_HZ), round((at_s + 0.02) * RATE_HZ))
    wave[place] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(place.stop - place.start) / RATE_HZ)
    return wave


def onset_s(path: Path) -> float:
    return float(np.abs(decode_audio(path)[0]).__gt__(0.2).argmax() / RATE_HZ)


def face(times: np.ndarray, levels: np.ndarray, size: tuple[int, int] = (48, 64)) -> FaceTrack:
    crops = np.tile(levels.astype(np.uint8)[:, None, None, None], (1, *size, 3))
    return FaceTrack(times, crops, np.ones(len(times), bool), np.zeros((len(times), 4), np.float32))


def decoded(content: bytes, tmp_path: Path) -> tuple[np.ndarray, np.ndarray, Path]:
    """Times and mean levels of the pictures of a file."""
    path = tmp_path / "small"
    path.write_bytes(content)
    frames = list(iterate_frames(path))
    return np.array([f.time_s for f in frames]), np.array([f.image.mean() for f in frames]), path


@pytest.mark.parametrize(("container", "off_s"), [("mp4", 1e-4), ("webm", 6e-4)])
def test_uneven_times_of_a_cached_face_are_kept(tmp_path: Path, container: str, off_s: float) -> None:
    times = np.array([0.0, 0.04, 0.08, 0.2, 0.25, 0.4, 0.41, 0.6])
    levels = np.array([40, 200, 60, 180, 80, 160, 100, 140])
    clip = Clip("c", 0.64, click(0.3, 0.64), RATE_HZ, face(times, levels))
    preview = encode_preview(clip, container=container)
    assert preview.media_type == f"video/{container}"
    found, means, path = decoded(preview.content, tmp_path)
    np.testing.assert_allclose(found, times, atol=off_s)
    np.testing.assert_allclose(means, levels, atol=12)
    assert onset_s(path) == pytest.approx(0.3, abs=0.003)
    assert time_zero_s(path) == 0


def test_a_picture_that_starts_late_stays_late(tmp_path: Path) -> None:
    """Players differ in what they do before the first picture, so that there has to be one."""
    clip = Clip("c", 1.0, click(0.1, 1.0), RATE_HZ, face(np.array([0.5, 0.6, 0.7]), np.array([200, 100, 200])))
    times, means, path = decoded(encode_preview(clip).content, tmp_path)
    np.testing.assert_allclose(times, [0, 0.5, 0.6, 0.7], atol=1e-4)
    assert means[0] < 20
    assert onset_s(path) == pytest.approx(0.1, abs=0.003)


def write_late(path: Path, begin_s: float) -> None:
    """A recording whose clock does not start at 0, both tracks: 20 pictures a second, each of a level of its own."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=20, options={"bf": "2", "crf": "10"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("aac", rate=RATE_HZ, layout="mono")
        for k in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((360, 640, 3), 20 + 10 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (begin_s + k / 20)), Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        wave = click(0.5, 1.0)
        for k in range(0, len(wave), 1024):
            sound = av.AudioFrame.from_ndarray(wave[None, k : k + 1024], format="fltp", layout="mono")
            sound.sample_rate, sound.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            sound.pts = round(begin_s * RATE_HZ) + k
            out.mux(audio.encode(sound))
        out.mux(audio.encode(None))


def test_a_recording_whose_clock_starts_late_starts_at_zero(tmp_path: Path) -> None:
    source = tmp_path / "late.mkv"
    write_late(source, begin_s=7.0)
    assert time_zero_s(source) == pytest.approx(7.0, abs=0.1)
    before = [f.time_s for f in iterate_frames(source)]
    preview = encode_preview(source)
    times, means, path = decoded(preview.content, tmp_path)
    extra = len(times) - len(before)  # a black picture, where encoder priming let the voice begin first
    np.testing.assert_allclose(times[extra:], before, atol=1e-3)
    np.testing.assert_allclose(means[extra:], 20 + 10 * np.arange(20), atol=8)
    assert onset_s(path) == pytest.approx(onset_s(source), abs=0.003)
    info = probe(path)
    assert (info.width_px, info.height_px) == (360, 202)


def test_a_part_of_a_recording_starts_at_its_own_zero(tmp_path: Path) -> None:
    source = tmp_path / "late.mkv"
    write_late(source, begin_s=0.0)
    times, means, _ = decoded(encode_preview(source, start_s=0.4, end_s=0.8).content, tmp_path)
    assert times[-1] < 0.4
    assert means[-1] == pytest.approx(20 + 10 * 15, abs=8)


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 120, 3), dtype=np.uint8)
    clip = Clip("c", 6.0, click(1, 6.0), RATE_HZ, face(np.arange(60) / 10, np.zeros(60)))
    assert clip.face is not None
    clip.face.crops = noise
    preview = encode_preview(clip, max_px=61, max_s=2.0)
    times, _, path = decoded(preview.content, tmp_path)
    assert times[-1] < 2.0
    assert len(decode_audio(path)[0]) == pytest.approx(2 * RATE_HZ, abs=1100)
    info = probe(path)
    assert (info.width_px, info.height_px) == (60, 46)
    monkeypatch.setattr(preview_module, "MAX_BYTES", 1000)
    with pytest.raises(MediaError, match=re.escape("too many for a page")):
        encode_preview(clip)


def test_a_voice_alone_makes_a_file_of_sound(tmp_path: Path) -> None:
    preview = encode_preview(Clip("c", 1.0, click(0.25, 1.0), RATE_HZ))
    path = tmp_path / "small"
    path.write_bytes(preview.content)
    assert preview.media_type == "audio/mp4"
    assert not probe(path).has_video
    assert onset_s(path) == pytest.approx(0.25, abs=0.003)


def test_a_face_alone_makes_a_silent_film(tmp_path: Path) -> None:
    preview = encode_preview(Clip("c", 1.0, None, RATE_HZ, face(np.arange(5) / 5, np.full(5, 90))))
    path = tmp_path / "small"
    path.write_bytes(preview.content)
    assert preview.media_type == "video/mp4"
    assert not probe(path).has_audio


def test_the_index_stands_in_front() -> None:
    content = encode_preview(Clip("c", 1.0, click(0.25, 1.0), RATE_HZ)).content
    assert content.index(b"moov") < content.index(b"mdat")


def test_nothing_to_play_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="c: neither a picture nor a voice"):
        encode_preview(Clip("c", 1.0))
    with pytest.raises(MediaError, match="no such file"):
        encode_preview(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="mp4 or webm"):
        encode_preview(Clip("c", 1.0), container="avi")
