from __future__ import annotations

import av
import numpy as np
import pytest

from avser.data.clip_file import read_clip_file, write_clip
from avser.errors import ConfigError, MediaError
from avser.media.clip import read_clip
from avser.media.faces import CenterTracker, build_tracker

RATE = 48000
CENTER = build_tracker("center", crop_px=16)


class NoFace:
    """A tracker that has looked at every frame and found nothing."""

    def track(self, frames, voice=None):
        return None, [f"no face in any of {sum(1 for _ in frames)} frames"]


class BrokenTracker:
    def track(self, frames, voice=None):
        raise ConfigError("no model")


def flashing(count: int, at: int) -> list[np.ndarray]:
    return [np.full((32, 32, 3), 235 if k == at else 20, np.uint8) for k in range(count)]


def click(seconds: float, at_s: float) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.001, round(seconds * RATE))
    samples[round(at_s * RATE) : round(at_s * RATE) + 48] = 0.8
    return samples


@pytest.mark.parametrize("audio_start_s", [0.0, 0.36])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"])
def test_a_flash_and_a_click_of_one_instant_stay_together(write_media, name, audio_start_s):
    """Frame 30 of 25 fps is white from 1.2 s on, and there is a click at 1.2 s."""
    if name == "a.avi" and audio_start_s:
        pytest.skip("AVI has no timestamps: a late start cannot be written")
    sound = click(2 - audio_start_s, 1.2 - audio_start_s)
    path = write_media(name, audio=sound, rate_hz=RATE, audio_starts=[audio_start_s], images=flashing(50, 30))
    clip = read_clip("a", audio=path, video=path, tracker=CENTER)
    flash_s = clip.face.times[clip.face.crops[:].mean(axis=(1, 2, 3)).argmax()]
    click_s = np.abs(clip.waveform).argmax() / clip.sample_rate_hz
    assert flash_s == pytest.approx(1.2, abs=0.002)
    assert click_s == pytest.approx(1.2, abs=0.010)
    assert clip.duration_s == pytest.approx(2, abs=0.05)
    assert clip.warnings == []


def test_flash_and_click_stay_together_in_a_part(write_media):
    path = write_media("a.mp4", audio=click(4, 3.2), rate_hz=RATE, images=flashing(100, 80))
    clip = read_clip("a", audio=path, video=path, tracker=CENTER, start_s=2.9, end_s=3.5, fps=25)
    assert clip.face.times[clip.face.crops[:].mean(axis=(1, 2, 3)).argmax()] == pytest.approx(0.3, abs=0.002)
    assert np.abs(clip.waveform).argmax() / clip.sample_rate_hz == pytest.approx(0.3, abs=0.010)
    assert clip.duration_s == pytest.approx(0.6, abs=1e-6)


def test_prediction_sees_exactly_what_a_cache_holds(write_media, tmp_path):
    rng = np.random.default_rng(0)
    path = write_media("a.mp4", images=[rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(9)])
    direct = read_clip("a", audio=None, video=path, tracker=CENTER)
    write_clip(tmp_path / "a.safetensors", direct)
    cached = read_clip_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(cached.face.crops[:], direct.face.crops[:])
    np.testing.assert_array_equal(cached.face.crops.data, direct.face.crops.data)


class Listening(CenterTracker):
    """Keeps what it hears."""

    def track(self, frames, voice=None):
        object.__setattr__(self, "heard", voice)
        return super().track(frames, voice)


def test_the_tracker_hears_the_voice(write_media):
    path = write_media("a.mp4", audio=click(2.0, 1.2), rate_hz=RATE, images=flashing(50, 3))
    for part, at_s, length_s in (({}, 1.2, 2.0), ({"start_s": 1.0, "end_s": 1.5}, 0.2, 0.5)):
        tracker = Listening(16, 0.9)
        read_clip("a", audio=path, video=path, tracker=tracker, **part)
        assert tracker.heard.times[tracker.heard.values.argmax()] == pytest.approx(at_s, abs=0.02)
        assert len(tracker.heard) == pytest.approx(100 * length_s, abs=3)
    silent = write_media("b.mkv", audio=np.zeros(RATE), rate_hz=RATE)
    for audio in (silent, None):
        tracker = Listening(16, 0.9)
        read_clip("a", audio=audio, video=path, tracker=tracker)
        assert tracker.heard is None


def test_one_side_of_a_split_screen(write_media):
    images = [np.hstack([np.full((32, 32, 3), 40, np.uint8), np.full((32, 31, 3), 200, np.uint8)])] * 5
    path = write_media("a.mkv", images=images)
    tracker = CenterTracker(16, 0.5)
    sides = {
        side: read_clip("a", audio=None, video=path, tracker=tracker, side=side).face for side in ("left", "right", "")
    }
    np.testing.assert_allclose(sides["left"].crops[:], 40, atol=2)
    np.testing.assert_allclose(sides["right"].crops[:], 200, atol=2)
    assert 100 < sides[""].crops[:].mean() < 140
    np.testing.assert_array_equal(sides["left"].boxes[0], [7.75, 8.25, 23.25, 23.75])  # of the 31 x 32 px of a half


def test_a_file_of_both_tracks_is_opened_three_times(write_media, monkeypatch):
    """Once for time 0, once for each track."""
    path = write_media("a.mp4", audio=click(1.0, 0.5), rate_hz=RATE, images=flashing(25, 3))
    opened = []
    real_open = av.open
    monkeypatch.setattr(av, "open", lambda *args, **kwargs: (opened.append(args[0]), real_open(*args, **kwargs))[1])
    read_clip("a", audio=path, video=path, tracker=CENTER)
    assert len(opened) == 3


def test_voice_and_face_from_two_files(write_media):
    voice = write_media("a.wav", audio=click(1.0, 0.5), rate_hz=RATE)
    face = write_media("b.mp4", images=flashing(50, 3))
    clip = read_clip("id", audio=voice, video=face, tracker=CENTER, sample_rate_hz=8000)
    assert (clip.clip_id, clip.sample_rate_hz, len(clip.waveform), len(clip.face)) == ("id", 8000, 8000, 50)
    assert clip.duration_s == pytest.approx(2)


def test_what_is_not_asked_for_is_none(write_media):
    path = write_media("a.mp4", audio=click(1.0, 0.5), rate_hz=RATE, images=flashing(25, 3))
    only_face = read_clip("a", audio=None, video=path, tracker=CENTER)
    assert only_face.waveform is None
    assert len(only_face.face) == 25
    assert only_face.duration_s == pytest.approx(1)
    for only_voice in (
        read_clip("a", audio=path, video=None, tracker=CENTER),
        read_clip("a", audio=path, video=path, tracker=None),
    ):
        assert only_voice.face is None
        assert only_voice.waveform is not None
        assert only_voice.warnings == []


def test_no_face_leaves_the_voice(write_media):
    path = write_media("a.mp4", audio=click(1.0, 0.5), rate_hz=RATE, images=flashing(25, 3))
    clip = read_clip("a", audio=path, video=path, tracker=NoFace())
    assert clip.face is None
    assert clip.waveform is not None
    assert clip.warnings == ["no face in any of 25 frames"]


def test_silence_leaves_the_face(write_media):
    path = write_media("a.mkv", audio=np.zeros(RATE), rate_hz=RATE, images=flashing(20, 3))
    clip = read_clip("a", audio=path, video=path, tracker=CENTER)
    assert clip.waveform is None
    assert len(clip.face) == 20
    assert clip.duration_s == pytest.approx(1)
    [warning] = clip.warnings
    assert "silent throughout" in warning


def test_a_video_without_sound_leaves_the_face(write_media):
    path = write_media("a.mp4", images=flashing(20, 3))
    clip = read_clip("a", audio=path, video=path, tracker=CENTER)
    assert clip.waveform is None
    [warning] = clip.warnings
    assert "no audio track" in warning


def test_a_sound_without_video_leaves_the_voice(write_media):
    path = write_media("a.wav", audio=click(1.0, 0.5), rate_hz=RATE)
    clip = read_clip("a", audio=path, video=path, tracker=CENTER)
    assert clip.face is None
    [warning] = clip.warnings
    assert "no video track" in warning


def test_a_damaged_video_leaves_the_voice(write_media, tmp_path):
    voice = write_media("a.wav", audio=click(1.0, 0.5), rate_hz=RATE)
    (tmp_path / "b.mp4").write_bytes(b"\0" * 3000)
    clip = read_clip("a", audio=voice, video=tmp_path / "b.mp4", tracker=CENTER)
    assert clip.face is None
    assert any("no face" in w and "b.mp4" in w for w in clip.warnings)


def test_what_was_lost_is_said(write_media):
    path = write_media("a.mkv", audio=click(2.0, 0.5), rate_hz=RATE, images=flashing(50, 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_clip("a", audio=path, video=path, tracker=CENTER)
    assert 0.5 < clip.duration_s < 1.5
    assert len([w for w in clip.warnings if "truncated" in w]) == 1


def test_nothing_left_is_an_error_that_says_why(write_media):
    silent = write_media("a.wav", audio=np.zeros(RATE), rate_hz=RATE)
    mute = write_media("b.mp4", images=flashing(20, 3))
    with pytest.raises(MediaError, match=r"clip x: neither a voice nor a face.*silent throughout"):
        read_clip("x", audio=silent, video=None, tracker=CENTER)
    with pytest.raises(MediaError, match=r"silent throughout.*no face in any of 20 frames"):
        read_clip("x", audio=silent, video=mute, tracker=NoFace())
    with pytest.raises(MediaError, match=r"no audio track.*switched off"):
        read_clip("x", audio=mute, video=mute, tracker=None)
    with pytest.raises(MediaError, match="neither an audio nor a video file is given"):
        read_clip("x", audio=None, video=None, tracker=CENTER)


def test_a_missing_file_is_an_error_even_when_the_other_one_is_there(write_media, tmp_path):
    path = write_media("a.mp4", audio=click(1.0, 0.5), rate_hz=RATE, images=flashing(25, 3))
    with pytest.raises(MediaError, match="no such file"):
        read_clip("a", audio=tmp_path / "missing.wav", video=path, tracker=CENTER)
    (tmp_path / "b.mp4").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(MediaError, match="git lfs pull"):
        read_clip("a", audio=path, video=tmp_path / "b.mp4", tracker=CENTER)


def test_a_tracker_that_cannot_work_is_not_passed_over(write_media):
    path = write_media("a.mp4", audio=click(1.0, 0.5), rate_hz=RATE, images=flashing(25, 3))
    with pytest.raises(ConfigError, match="no model"):
        read_clip("a", audio=path, video=path, tracker=BrokenTracker())


@pytest.mark.real_data
def test_real_clips(real_data):
    tracker = build_tracker("mediapipe", crop_px=112, model=str(real_data / "models"))
    for path in sorted((real_data / "cremad" / "VideoFlash").glob("*.flv")):
        clip = read_clip(path.stem, audio=path, video=path, tracker=tracker, fps=15)
        assert clip.warnings == []
        assert clip.face.found.all()
        assert len(clip.waveform) / 16000 == pytest.approx(clip.duration_s, abs=0.05)
    no_face = real_data / "clips" / "no_face.mp4"
    clip = read_clip("no_face", audio=no_face, video=no_face, tracker=tracker)
    assert clip.face is None
    assert clip.warnings == ["no face in any of 95 frames"]
    leaves = real_data / "clips" / "face_noface.mov"
    clip = read_clip("leaves", audio=leaves, video=leaves, tracker=tracker)
    assert 40 < clip.face.found.sum() < 100
    assert np.all(clip.waveform[: round(2.4 * 16000)] == 0)  # its sound begins after 2.43 s
    assert clip.warnings == [f"no face in {169 - clip.face.found.sum()} of 169 frames"]
