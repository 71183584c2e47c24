from __future__ import annotations

import hashlib

import pytest

from preprocessing.doctor.container import FileFacts, examine_file


def test_tracks_and_their_times(tmp_path, mp4, voice, pictures):
    mp4(tmp_path / "a.mp4", voice=voice(1, 1.5), voice_from_s=0.5, images=pictures(0))
    facts = examine_file(tmp_path, "a.mp4", with_digest=True)
    assert not facts.problem
    assert facts.num_bytes == (tmp_path / "a.mp4").stat().st_size
    assert facts.sha256 == hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest()
    audio, video = facts.audio, facts.video
    assert (audio.codec, audio.sample_rate_hz, audio.num_channels) == ("aac", 16000, 1)
    assert (video.codec, video.width_px, video.height_px, video.num_frames) == ("h264", 96, 64, 50)
    assert video.fps == pytest.approx(25)
    assert (video.start_s, video.end_s) == pytest.approx((0, 2), abs=0.001)
    assert audio.start_s == pytest.approx(0.5, abs=0.07)  # the encoder's priming
    assert audio.end_s == pytest.approx(2.0, abs=0.07)
    assert video.longest_gap_s == pytest.approx(0.04, abs=0.001)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "pointer.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "annexed.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.wav").mkdir()
    names = ("gone.wav", "annexed.wav", "folder.wav", "empty.wav", "pointer.wav", "noise.mp4")
    problems = [examine_file(tmp_path, name, with_digest=True).problem for name in names]
    assert problems == ["missing", "missing", "missing", "empty", "pointer", "unreadable"]
    assert "link" in examine_file(tmp_path, "annexed.wav", with_digest=False).reason


def test_a_table_has_no_tracks(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert examine_file(tmp_path, "a.csv", with_digest=False, media=False) == FileFacts("a.csv", num_bytes=4)
