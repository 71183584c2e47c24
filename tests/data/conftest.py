"""A corpus of a few tiny real media files."""

from __future__ import annotations

import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avser.config import FacesConfig, MediaConfig
from avser.data.manifest import ClipRow, Manifest

SAMPLE_RATE_HZ = 16000


def write_wav(path: Path, duration_s: float = 0.5, hz: float = 220.0) -> np.ndarray:
    """A tone; returns its int16 samples."""
    t = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples = np.round(8000 * np.sin(2 * np.pi * hz * t)).astype("<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())
    return samples


def write_video(path: Path, num_frames: int = 6, fps: int = 12, size_px: int = 64) -> None:
    """Frames that grow brighter from left to right and with time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width = stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        ramp = np.broadcast_to(np.linspace(0, 150, size_px)[None, :, None], (size_px, size_px, 3))
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray((ramp + 15 * i).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def media() -> MediaConfig:
    return MediaConfig(fps=None, crop_px=32, faces=FacesConfig(tracker="center"))


@pytest.fixture
def corpus(tmp_path: Path) -> Manifest:
    """Four clips: both modalities twice, voice alone, face alone."""
    root = tmp_path / "corpus"
    for name, duration_s in (("a", 0.5), ("b", 0.8), ("c", 0.3)):
        write_wav(root / f"{name}.wav", duration_s)
    for name, num_frames in (("a", 6), ("b", 9), ("d", 4)):
        write_video(root / f"{name}.mp4", num_frames)
    rows = [
        ClipRow("a", "toy", "1", "anger", "a.wav", "a.mp4"),
        ClipRow("b", "toy", "2", "fear", "b.wav", "b.mp4"),
        ClipRow("c", "toy", "3", "anger", "c.wav"),
        ClipRow("d", "toy", "4", "fear", "", "d.mp4"),
    ]
    return Manifest(rows, root)


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    return write_wav
