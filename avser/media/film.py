"""Writes pictures and the sound of a recording as an MP4 that players and browsers take, while they are made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from avser.errors import MediaError
from avser.media.audio import iterate_audio
from avser.media.container import FAULTS, time_zero_s
from avser.media.video import Frame, probe

TICKS_HZ = 90_000  # of picture times
SOUND_HZ = 48_000
LAYOUTS = {1: "mono", 2: "stereo"}  # other sound is mixed down to mono
LOOK = {"crf": "20", "preset": "veryfast"}


def write_film(path: Path, frames: Iterable[Frame], sound: Path | None) -> None:
    """Write pictures as they come, with the sound of a file beside them; memory does not grow with the length.

    Args:
        path: an .mp4; it is there only once it is whole.
        frames: in order of time, all of one size with even sides.
        sound: a file; its time 0 is that of the frames. None, or one without sound, for a silent film.

    Raises:
        MediaError: it cannot be written, or the installed FFmpeg lacks H.264 or AAC; or there are no frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
    try:
        with av.open(str(partial), "w", options={"movflags": "+faststart"}) as out:
            _write(out, frames, sound)
        partial.replace(path)
    except FAULTS as error:
        raise MediaError(f"{path}: the video cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(out: Any, frames: Iterable[Frame], sound: Path | None) -> None:
    ahead = iter(frames)
    first = next(ahead, None)
    if first is None:
        raise MediaError("no pictures, so there is no video to write")
    height, width = first.image.shape[:2]
    picture: Any = out.add_stream("libx264", rate=Fraction(30), options=LOOK)
    picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
    picture.time_base = picture.codec_context.time_base = Fraction(1, TICKS_HZ)
    packets: Iterator[Any] = iter(())
    if sound is not None and (info := probe(sound)).has_audio:
        channels: list[int | None] = [0, 1] if info.num_channels == 2 else [None]
        voice: Any = out.add_stream("aac", rate=SOUND_HZ, layout=LAYOUTS[len(channels)], bit_rate=128_000)
        packets = _sound_packets(voice, sound, channels)
    heard_s = 0.0
    while first is not None:
        frame = VideoFrame.from_ndarray(first.image, format="rgb24")
        frame.pts, frame.time_base = round(first.time_s * TICKS_HZ), Fraction(1, TICKS_HZ)
        out.mux(picture.encode(frame))
        while heard_s <= first.time_s and (packet := next(packets, None)) is not None:
            heard_s = float((packet.pts or 0) * packet.time_base)
            out.mux(packet)
        first = next(ahead, None)
    out.mux(picture.encode(None))
    for packet in packets:
        out.mux(packet)


def _sound_packets(stream: Any, path: Path, channels: list[int | None]) -> Iterator[Any]:
    begin, zero_s = 0, time_zero_s(path)
    read = [iterate_audio(path, sample_rate_hz=SOUND_HZ, zero_s=zero_s, channel=channel) for channel in channels]
    for pieces in zip(*read, strict=True):
        piece = pieces[0]
        frame = AudioFrame.from_ndarray(np.stack(pieces), format="fltp", layout=LAYOUTS[len(channels)])
        frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, begin, Fraction(1, SOUND_HZ)
        begin += len(piece)
        yield from stream.encode(frame)
    yield from stream.encode(None)
