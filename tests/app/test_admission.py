"""What the page takes in, and how it refuses the rest."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from avser.app.admission import Limits, admit, describe_media, say_length
from avser.errors import ConfigError, MediaError

LIMITS = Limits(max_mb=1, max_s=3)
RECORDINGS = {
    "a.mp4": ("mpeg4", "aac"),
    "a.mov": ("mpeg4", "aac"),
    "a.mkv": ("mpeg4", "pcm_s16le"),
    "a.webm": ("libvpx", "libopus"),
    "a.avi": ("mpeg4", "pcm_s16le"),
    "a.ts": ("mpeg2video", "mp2"),
    "a.mpg": ("mpeg1video", "mp2"),
    "a.flv": ("flv", ""),
    "a.wmv": ("wmv2", ""),
    "a.wav": ("", "pcm_s16le"),
    "a.aiff": ("", "pcm_s16be"),
    "a.flac": ("", "flac"),
    "a.ogg": ("", "libopus"),
    "a.m4a": ("", "aac"),
    "a.mp2": ("", "mp2"),
    "a.aac": ("", "aac"),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_are_taken(write_media, name: str) -> None:
    picture, voice = RECORDINGS[name]
    info = admit(write_media(name, picture=picture, voice=voice), name, LIMITS)
    assert (info.has_video, info.has_audio) == (bool(picture), bool(voice))


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("clip.mp4", b"x" * 100)
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("clip.mp4"))
    return content.getvalue()


OTHERS = {
    "zip": (zipped(), "is an archive"),
    "tar": (tarred(), "is an archive"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(60), "is an archive"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(60), "is a picture"),
    "pdf": (b"%PDF-1.7\n", "is a document"),
    "program": (b"\x7fELF" + bytes(60), "is a program"),
    "script": (b"#!/bin/sh\nrm -rf /\n", "is a program"),
    "page": (b"<!doctype html><script>alert(1)</script>", "no media. Taken are MP4"),
    "text": (b"hello, it is me\n" * 9, "no media. Taken are MP4"),
    "zeros": (bytes(4000), "no media. Taken are MP4"),
    "subtitles": (b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n", "of the format 'srt'"),
    "empty": (b"", "is empty"),
    "broken": (b"\0\0\0\x18ftypisom" + b"\xff" * 600, "not readable as a media file"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_are_refused_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    content, words = OTHERS[kind]
    path = tmp_path / "recording.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as error:
        admit(path, "my clip.mp4", LIMITS)
    assert str(tmp_path) not in str(error.value)
    assert "my clip.mp4" in str(error.value)


@pytest.mark.parametrize(
    "listing",
    ["#EXTM3U\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {name}\n", "\n #EXTM3U\n{path}\n"],
)
def test_a_list_of_other_files_of_the_server_is_never_followed(write_media, listing: str) -> None:
    private = write_media("private.ts", picture="mpeg2video")
    path = private.with_name("recording.mp4")
    path.write_text(listing.format(path=private, name=private.name))
    with pytest.raises(MediaError, match="is a playlist"):
        admit(path, "clip.mp4", LIMITS)


def test_too_long_is_said_with_both_lengths(write_media) -> None:
    path = write_media("a.wav", 4.5, voice="pcm_s16le")
    with pytest.raises(MediaError, match=r"a\.wav lasts 4\.5 s; at most 3 s are taken"):
        admit(path, "a.wav", LIMITS)


def test_too_large_is_said_before_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(1_200_000))
    with pytest.raises(MediaError, match=r"a\.mp4 has 1\.2 MB; at most 1 MB are taken"):
        admit(path, "a.mp4", LIMITS)


def test_a_header_that_does_not_tell_the_length_passes(write_media) -> None:
    """As those of webcams in browsers; how long they are is found out while they are read."""
    path = write_media("a.webm", 4.5, voice="libopus", live="1")
    assert admit(path, "a.webm", LIMITS).duration_s is None


@pytest.mark.parametrize("limits", [{"max_mb": 0}, {"max_s": -1}, {"max_s": float("nan")}, {"max_mb": float("inf")}])
def test_limits_are_numbers_above_zero(limits: dict) -> None:
    with pytest.raises(ConfigError, match="must be a number above 0"):
        Limits(**limits)


def test_lengths_are_said_in_units_that_people_use() -> None:
    assert [say_length(s) for s in (5.25, 120, 200, 7500)] == ["5.2 s", "2 min", "3 min 20 s", "2 h 5 min"]


def test_a_header_is_told_in_a_line(write_media) -> None:
    info = admit(write_media("a.mp4", picture="mpeg4", voice="aac"), "a.mp4", LIMITS)
    assert describe_media(info) == "1 s · 64x64 px · 25 pictures a second · with a voice"
