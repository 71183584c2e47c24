"""Media files for the tests, written with PyAV, and the folder of real recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

VIDEO_CODECS = {
    ".mp4": "libx264",
    ".ts": "libx264",
    ".mov": "libx264",
    ".mkv": "ffv1",
    ".avi": "mpeg4",
    ".webm": "libvpx-vp9",
}
AUDIO_CODECS = {
    ".mp4": "aac",
    ".ts": "aac",
    ".mov": "aac",
    ".m4a": "aac",
    ".mkv": "pcm_s16le",
    ".avi": "pcm_s16le",
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".webm": "libopus",
    ".opus": "libopus",
}
SAMPLE_FORMATS = {"aac": "fltp", "flac": "s16", "libmp3lame": "fltp", "libopus": "flt"}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}

Write = Callable[..., Path]


@pytest.fixture
def write_media(tmp_path: Path) -> Write:
    """A function that writes a media file below tmp_path; see `_write` for what it takes."""

    def write(name: str, **tracks: object) -> Path:
        return _write(tmp_path / name, **tracks)  # type: ignore[arg-type]

    return write


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("AVSER_REAL_DATA")
    if not folder:
        pytest.skip("AVSER_REAL_DATA is not set")
    return Path(folder)


def _write(
    path: Path,
    *,
    audio: np.ndarray | None = None,
    rate_hz: int = 16000,
    audio_starts: Sequence[float] = (0.0,),
    audio_codec: str | None = None,
    images: Sequence[np.ndarray] | None = None,
    times_s: Sequence[float] | None = None,
    fps: float = 25,
    rotation: int = 0,
    key_every: int = 250,
    cover: np.ndarray | None = None,
) -> Path:
    """Write a file.

    Args:
        audio: (C, N) or (N,) in [-1, 1].
        audio_starts: the samples are split into as many equal parts, each starting at its own time.
        images: (H, W, 3) uint8 RGB, at `times_s` or else at `fps`.
        rotation: degrees, counterclockwise, by which a player has to turn the picture.
        key_every: frames from one key frame to the next.
        cover: a picture attached to the file.
    """
    packets = []
    with av.open(str(path), "w") as container:
        if images is not None:
            times_s = times_s if times_s is not None else [k / fps for k in range(len(images))]
            packets += _video_packets(container, path, images, times_s, fps, rotation, key_every)
        if audio is not None:
            packets += _audio_packets(container, path, np.atleast_2d(audio), rate_hz, audio_starts, audio_codec)
        if cover is not None:
            packets += _cover_packets(container, cover)
        container.start_encoding()
        for encoded in sorted((p() for p in packets), key=lambda part: part[0]):
            for packet in encoded[1]:
                container.mux(packet)
    return path


def _video_packets(container, path, images, times_s, fps, rotation, key_every):
    stream = container.add_stream(VIDEO_CODECS[path.suffix], rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = images[0].shape[:2]
    stream.pix_fmt = "bgr0" if stream.codec_context.name == "ffv1" else "yuv420p"
    if path.suffix != ".avi":
        stream.codec_context.time_base = Fraction(1, 1000)
    if stream.codec_context.name == "libx264":
        stream.options = {"preset": "ultrafast", "crf": "5"}
    stream.codec_context.gop_size = key_every
    if rotation:
        stream.set_display_rotation(rotation)

    def encode():
        packets = []
        for time_s, image in zip(times_s, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time_s / frame.time_base)
            packets += stream.encode(frame)
        return 0, packets + stream.encode()

    return [encode]


def _audio_packets(container, path, audio, rate_hz, starts, codec):
    codec = codec or AUDIO_CODECS[path.suffix]
    layout = LAYOUTS[len(audio)]
    stream = container.add_stream(codec, rate=rate_hz, layout=layout)
    stream.codec_context.time_base = Fraction(1, rate_hz)
    sample_format = SAMPLE_FORMATS.get(codec) or stream.codec_context.format.name
    stream.codec_context.format = sample_format

    def encode():
        packets = []
        for start_s, part in zip(starts, np.array_split(audio, len(starts), axis=1), strict=True):
            for i in range(0, part.shape[1], 1024):
                frame = _audio_frame(part[:, i : i + 1024], sample_format, layout, rate_hz)
                frame.pts = round(start_s * rate_hz) + i
                packets += stream.encode(frame)
        return 1, packets + stream.encode()

    return [encode]


def _audio_frame(samples, sample_format, layout, rate_hz):
    base = sample_format.removesuffix("p")
    scale, offset, dtype = {
        "u8": (128, 128, np.uint8),
        "s16": (2**15, 0, np.int16),
        "s32": (2**31, 0, np.int32),
        "flt": (1, 0, np.float32),
        "dbl": (1, 0, np.float64),
    }[base]
    if np.dtype(dtype).kind != "f":
        samples = np.clip(np.round(samples * scale + offset), np.iinfo(dtype).min, np.iinfo(dtype).max)
    samples = samples.astype(dtype)
    if not sample_format.endswith("p"):
        samples = samples.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=sample_format, layout=layout)
    frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
    return frame


def _cover_packets(container, image):
    stream = container.add_stream("mjpeg", rate=1)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic

    def encode():
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        return 2, stream.encode(frame) + stream.encode()

    return [encode]
