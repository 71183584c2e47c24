"""Writes media files: sound as FLAC, picture and sound as MP4; each appears under its name only when it is complete."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np


def write_flac(path: Path, waveform: np.ndarray, sample_rate_hz: int) -> None:
    """Mono samples (N,) in [-1, 1], rounded to 16 bits."""
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=sample_rate_hz, layout="mono", format="s16")
        container.mux(stream.encode(_sound(to_16_bits(waveform), "s16", sample_rate_hz)))
        container.mux(stream.encode(None))
    part.replace(path)


def write_mp4(
    path: Path,
    waveform: np.ndarray,
    frames: Iterable[np.ndarray],
    *,
    sample_rate_hz: int,
    fps: Fraction | int,
    lossless: bool = False,
) -> None:
    """H.264 (yuv420p) and mono sound in one file, both from time 0.

    Args:
        waveform: (N,) float32 in [-1, 1].
        frames: (H, W, 3) uint8 RGB each; an odd last row or column is left out. At least one.
        lossless: the sound as FLAC of 16 bits, which keeps every sample in its place, instead of AAC.
    """
    part = path.with_suffix(".part")
    images = iter(frames)
    first = next(images)
    with av.open(str(part), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "20"})
        video.width, video.height, video.pix_fmt = first.shape[1] // 2 * 2, first.shape[0] // 2 * 2, "yuv420p"
        video.codec_context.thread_count = 1
        if lossless:
            audio = container.add_stream("flac", rate=sample_rate_hz, layout="mono", format="s16")
            sound = _sound(to_16_bits(waveform), "s16", sample_rate_hz)
        else:
            audio = container.add_stream("aac", rate=sample_rate_hz, layout="mono", bit_rate=64000)
            sound = _sound(waveform, "fltp", sample_rate_hz)
        for t, frame in enumerate(_all(first, images)):
            even = np.ascontiguousarray(frame[: video.height, : video.width])
            planes: Any = cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420)
            image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            image.pts, image.time_base = t, 1 / Fraction(fps)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    part.replace(path)


def to_16_bits(waveform: np.ndarray) -> np.ndarray:
    """(N,) int16 of samples in [-1, 1]."""
    return np.clip(np.round(np.asarray(waveform) * 32768.0), -32768, 32767).astype(np.int16)


def _sound(samples: np.ndarray, format_: str, sample_rate_hz: int) -> av.AudioFrame:
    sound = av.AudioFrame.from_ndarray(samples[None], format=format_, layout="mono")
    sound.sample_rate, sound.pts, sound.time_base = sample_rate_hz, 0, Fraction(1, sample_rate_hz)
    return sound


def _all(first: np.ndarray, rest: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    yield first
    yield from rest
