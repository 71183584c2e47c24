"""Put a recording into a small file that browsers play: picture and voice at their true times, within hard limits.

H.264 and AAC in MP4 are what Chromium, Firefox and Safari all play; where the installed FFmpeg cannot write them, VP8
and Opus in WebM are taken. Time 0 of the file is time 0 of the clip, and each picture keeps its own time, so that a
cursor can follow to the frame: there are no B-frames, which would delay the first picture, and where the picture starts
after the voice a black one stands in front of it, as players differ in what they show before the first picture.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.video.frame import VideoFrame

from avser.errors import MediaError
from avser.media.audio import decode_audio, is_silent
from avser.media.container import time_zero_s
from avser.media.video import Frame, iterate_frames, probe
from avser.structures import Clip

TICKS_HZ = 90_000  # of picture times in MP4: finer than any camera
MAX_FPS = 30.0
MAX_BYTES = 3_000_000
VIDEO_BITS_S, VOICE_BITS_S, VOICE_HZ = 400_000, 64_000, 48_000  # 48 kHz: the rate that every player and codec takes
VOICE_BLOCK = 1024


@dataclass(frozen=True)
class Preview:
    """A small file for a page.

    Attributes:
        content: the file.
        media_type: "video/mp4", "video/webm", or "audio/..." where there is a voice alone.
    """

    content: bytes
    media_type: str


@dataclass(frozen=True)
class _Format:
    suffix: str
    video: str
    audio: str
    options: dict[str, str]


MP4 = _Format("mp4", "libx264", "aac", {"crf": "26", "preset": "fast", "bf": "0", "maxrate": "400k", "bufsize": "400k"})
WEBM = _Format("webm", "libvpx", "libopus", {"crf": "24", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"})


def encode_preview(
    source: str | Path | Clip,
    *,
    max_px: int = 360,
    max_s: float = 30.0,
    start_s: float | None = None,
    end_s: float | None = None,
    container: str = "",
) -> Preview:
    """A recording, or a decoded clip (its face crops and its voice), as a small file.

    Args:
        max_px: longest side of the picture; smaller ones are not enlarged.
        max_s: what comes later is left out.
        start_s, end_s: the part of a file that is the clip; time 0 is then `start_s`.
        container: "mp4" or "webm"; by default the first that can be written.

    Raises:
        MediaError: the file cannot be read, or there is neither a picture nor a voice; or the result is beyond 3 MB.
    """
    form = _choose(container)
    if isinstance(source, Clip):
        name, frames = source.clip_id, _crops(source)
        voice, rate_hz = source.waveform, source.sample_rate_hz
    else:
        name, rate_hz = str(source), VOICE_HZ
        frames, voice = _read(Path(source), start_s, end_s, max_s)
    frames = (f for f in frames if f.time_s < max_s)
    first = next(frames, None)
    if first is None and voice is None:
        raise MediaError(f"{name}: neither a picture nor a voice, so there is nothing to play")
    with tempfile.TemporaryDirectory() as folder:  # MP4 is written twice, for its index to stand in front
        path = Path(folder) / f"preview.{form.suffix}"
        options = {"movflags": "+faststart"} if form is MP4 else {}
        with av.open(str(path), "w", options=options) as out:
            _write(out, form, chain([first], frames) if first else iter(()), first, voice, rate_hz, max_px, max_s)
        content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise MediaError(f"{name}: {len(content)} bytes are too many for a page; take a smaller max_px or max_s")
    return Preview(content, f"{'video' if first else 'audio'}/{form.suffix}")


def _choose(container: str) -> _Format:
    forms = [f for f in (MP4, WEBM) if container in ("", f.suffix)]
    if not forms:
        raise ValueError(f"container={container!r}: take mp4 or webm")
    for form in forms:
        if _can_write(form.video) and _can_write(form.audio):
            return form
    raise MediaError("the installed FFmpeg can write neither H.264 and AAC nor VP8 and Opus; install PyAV from PyPI")


def _can_write(codec: str) -> bool:
    try:
        return av.Codec(codec, "w").name == codec
    except UnknownCodecError:
        return False


# --- what goes in -------------------------------------------------------------------------------------------------


def _read(
    path: Path, start_s: float | None, end_s: float | None, max_s: float
) -> tuple[Iterator[Frame], np.ndarray | None]:
    """The pictures of a file, at most 30 a second, and its voice; both from the same time 0."""
    info = probe(path)
    begin = start_s or 0.0
    until = min(begin + max_s, float("inf") if end_s is None else end_s)
    part: dict = {"start_s": begin, "end_s": until, "zero_s": time_zero_s(path)}
    frames: Iterator[Frame] = iter(())
    if info.has_video:
        frames = iterate_frames(path, fps=MAX_FPS if (info.fps or 0) > MAX_FPS * 1.01 else None, **part)
    if not info.has_audio:
        return frames, None
    voice = decode_audio(path, sample_rate_hz=VOICE_HZ, **part)[0]
    return frames, voice if len(voice) and not is_silent(voice) else None


def _crops(clip: Clip) -> Iterator[Frame]:
    if clip.face is None:
        return
    for time_s, image in zip(clip.face.times, clip.face.crops[:], strict=True):
        yield Frame(float(time_s), np.asarray(image))


# --- what comes out -----------------------------------------------------------------------------------------------


def _write(
    out: OutputContainer,
    form: _Format,
    frames: Iterator[Frame],
    first: Frame | None,
    voice: np.ndarray | None,
    rate_hz: int,
    max_px: int,
    max_s: float,
) -> None:
    picture: Any = None
    sound: Any = None
    if first is not None:
        height, width = first.image.shape[:2]
        scale = min(1.0, max_px / max(height, width))
        size = tuple(max(2, 2 * round(side * scale / 2)) for side in (width, height))  # 4:2:0 needs even sides
        picture = _add_picture(out, form, size)
    if voice is not None:
        voice = voice[: round(max_s * rate_hz)]
        sound = out.add_stream(form.audio, rate=VOICE_HZ, layout="mono", bit_rate=VOICE_BITS_S)
    if picture is not None:
        for packet in _encode_picture(picture, frames, size):
            out.mux(packet)
    if sound is not None and voice is not None:
        for packet in _encode_voice(sound, voice, rate_hz):
            out.mux(packet)


def _add_picture(out: OutputContainer, form: _Format, size: tuple[int, ...]) -> Any:
    stream: Any = out.add_stream(form.video, rate=Fraction(30), options=form.options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.bit_rate = 0 if form is MP4 else VIDEO_BITS_S  # 0: x264 goes by quality, below its maxrate
    stream.gop_size = 15  # a player that jumps decodes from the last key frame
    stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_HZ)
    return stream


def _encode_picture(stream: Any, frames: Iterator[Frame], size: tuple[int, ...]) -> Iterator[Any]:
    """Packets of all frames; each one lasts until the next, the last one as long as the one before it."""
    first = next(frames)
    if first.time_s > 0.5 / TICKS_HZ:
        frames = chain([Frame(0.0, np.zeros_like(first.image)), first], frames)
    else:
        frames = chain([first], frames)
    lasts = round(TICKS_HZ / MAX_FPS)
    for frame, following in _with_next(frames):
        ticks = round(frame.time_s * TICKS_HZ)
        if following is not None:
            lasts = max(1, round(following.time_s * TICKS_HZ) - ticks)
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame.image), format="rgb24")
        picture = picture.reformat(width=size[0], height=size[1], format="yuv420p")
        picture.pts, picture.time_base, picture.duration = ticks, Fraction(1, TICKS_HZ), lasts
        yield from stream.encode(picture)
    yield from stream.encode(None)


def _with_next(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    ending: list[Any] = [None]
    return pairwise(chain(frames, ending))


def _encode_voice(stream: Any, voice: np.ndarray, rate_hz: int) -> Iterator[Any]:
    resampler = av.AudioResampler(format=stream.format, layout="mono", rate=VOICE_HZ, frame_size=0)
    samples = np.ascontiguousarray(np.clip(voice, -1, 1), dtype=np.float32)
    for begin in range(0, len(samples), VOICE_BLOCK):
        frame = AudioFrame.from_ndarray(samples[None, begin : begin + VOICE_BLOCK], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, begin, Fraction(1, rate_hz)
        for ready in resampler.resample(frame):
            yield from stream.encode(ready)
    for ready in resampler.resample(None):
        yield from stream.encode(ready)
    yield from stream.encode(None)
