"""A file of any format that is read opens; one that points at other files never leads there."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.codecs import FORMATS
from avser.media.container import open_media
from avser.media.video import probe

LISTINGS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {name}\n",
}
ENCODERS = {
    "mp4": ("mpeg4", "aac"),
    "mov": ("mpeg4", "aac"),
    "3gp": ("mpeg4", "aac"),
    "mkv": ("mpeg4", "aac"),
    "webm": ("libvpx", "libopus"),
    "avi": ("mpeg4", "pcm_s16le"),
    "flv": ("flv", ""),
    "wmv": ("wmv2", ""),
    "mpg": ("mpeg1video", "mp2"),
    "ts": ("mpeg2video", "mp2"),
    "wav": ("", "pcm_s16le"),
    "w64": ("", "pcm_s16le"),
    "aiff": ("", "pcm_s16be"),
    "au": ("", "pcm_s16be"),
    "caf": ("", "pcm_s16le"),
    "flac": ("", "flac"),
    "ogg": ("", "libopus"),
    "oga": ("", "flac"),
    "mp3": ("", "libmp3lame"),
    "mp2": ("", "mp2"),
    "m4a": ("", "aac"),
    "aac": ("", "aac"),
    "ac3": ("", "ac3"),
    "eac3": ("", "eac3"),
}


def write(path: Path, picture: str, voice: str) -> Path:
    """A second of noise."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        shown = out.add_stream(picture, rate=25) if picture else None
        heard = out.add_stream(voice, rate=48000, layout="mono") if voice else None
        if shown is not None:
            shown.width, shown.height, shown.pix_fmt = 64, 64, "yuv420p"
            for _ in range(25):
                frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), np.uint8), format="rgb24")
                out.mux(shown.encode(frame))
        for i in range(50 if heard is not None else 0):
            sound = av.AudioFrame.from_ndarray(rng.integers(-9000, 9000, (1, 960), np.int16), "s16", "mono")
            sound.sample_rate, sound.pts = 48000, 960 * i
            out.mux(heard.encode(sound))
        for stream in out.streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ENCODERS)
def test_recordings_of_every_format_open(tmp_path: Path, suffix: str) -> None:
    picture, voice = ENCODERS[suffix]
    info = probe(write(tmp_path / f"a.{suffix}", picture, voice))
    assert (info.has_video, info.has_audio) == (bool(picture), bool(voice))


def test_every_format_is_one_that_ffmpeg_knows() -> None:
    known = {name for listed in av.formats_available for name in listed.split(",")}
    assert set(FORMATS) <= known
    assert not set(FORMATS) & {"hls", "concat", "dash", "sdp", "rtsp", "image2", "imf", "vobsub", "lavfi"}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_list_of_files_is_not_followed(tmp_path: Path, kind: str) -> None:
    """Three times, for FFmpeg does not log the same words twice in a row."""
    private = write(tmp_path / "private.ts", "", "mp2")
    path = tmp_path / "a.m3u8"
    path.write_text(LISTINGS[kind].format(name=private.name))
    level = av.logging.get_level()
    for _ in range(3):
        with pytest.raises(MediaError, match=f"of the format '{kind}', which is not read here; convert it"):
            probe(path)
    assert av.logging.get_level() == level


def test_pictures_numbered_by_a_pattern_are_not_collected(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
    path = tmp_path / "%d.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
    with pytest.raises(MediaError, match="is a file of the format 'image2'"):
        probe(path)


def test_other_faults_keep_their_words(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"hello\n" * 99)
    with pytest.raises(MediaError, match="not readable as a media file"), open_media(path):
        pass
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    with open_media(path) as media:
        assert media.audio is not None
