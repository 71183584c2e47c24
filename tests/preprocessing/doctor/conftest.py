"""Small corpora for the doctor: voices made of harmonics and noise, pictures of a drifting pattern."""

from __future__ import annotations

import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avser.data.manifest import ClipRow, write_manifest

RATE_HZ = 16000
WORDS = ["anger", "sadness"]

Build = Callable[..., Path]


def make_voice(seed: int, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """(N,) syllables over a faint noise, with a pause before and after; no two seeds alike."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = rng.uniform(120, 220)
    tone = sum(np.sin(2 * np.pi * k * pitch * t + rng.uniform(0, 6)) / k for k in range(1, 12))
    syllables, begin = np.zeros(len(t)), 0.3
    while begin < seconds - 0.5:
        length = min(rng.uniform(0.1, 0.5), seconds - 0.3 - begin)
        inside = (t > begin) & (t < begin + length)
        syllables[inside] = rng.uniform(0.3, 1) * np.sin(np.pi * (t[inside] - begin) / length)
        begin += length + rng.choice([0.02, 0.1, 0.2])
    return 0.1 * tone * syllables + rng.normal(0, 3e-4, len(t))


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    """(N,) or (C, N) in [-1, 1] as 16-bit PCM."""
    channels = np.atleast_2d(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.clip(np.round(channels.T * 32767), -32768, 32767).astype("<i2").tobytes())
    return path


def write_mp4(
    path: Path, *, voice: np.ndarray | None, voice_from_s: float = 0.0, images: list[np.ndarray], fps: int = 25
) -> Path:
    """H.264 pictures and AAC sound that starts at its own time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt, video.options = "yuv420p", {"preset": "ultrafast"}
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono") if voice is not None else None
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None and voice is not None:
            for i in range(0, len(voice), 1024):
                block = av.AudioFrame.from_ndarray(voice[None, i : i + 1024].astype(np.float32), "fltp", "mono")
                block.sample_rate, block.time_base = RATE_HZ, Fraction(1, RATE_HZ)
                block.pts = round(voice_from_s * RATE_HZ) + i
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def make_pictures(seed: int, num: int = 50) -> list[np.ndarray]:
    """Sharp random blocks that drift, 64 x 96 px."""
    blocks = np.random.default_rng(seed).integers(60, 200, (16, 24, 3), np.uint8)
    picture = np.kron(blocks, np.ones((4, 4, 1), np.uint8))
    return [np.roll(picture, 4 * (i // 8), axis=1) for i in range(num)]


@pytest.fixture
def clean(tmp_path: Path) -> Build:
    """Writes a manifest: two speakers with two clips of each emotion, nothing wrong; rows given replace or join them.

    `plant(row fields)` is applied to clip "s0_anger_0"; further rows are added as they are.
    """

    def build(*more: ClipRow, **plant: object) -> Path:
        rows = []
        for number in range(8):
            speaker, emotion, take = number // 4, WORDS[number // 2 % 2], number % 2
            name = f"s{speaker}_{emotion}_{take}"
            write_wav(tmp_path / "wav" / f"{name}.wav", make_voice(number))
            sex = "female" if speaker else "male"
            fields = {"audio": f"wav/{name}.wav", "sex": sex, **(plant if number == 0 else {})}
            rows.append(ClipRow(name, "made", f"s{speaker}", emotion, **fields))  # type: ignore[arg-type]
        write_manifest([*rows, *more], tmp_path / "manifest.csv")
        return tmp_path / "manifest.csv"

    return build


@pytest.fixture
def voice() -> Callable[..., np.ndarray]:
    return make_voice


@pytest.fixture
def wav() -> Callable[..., Path]:
    return write_wav


@pytest.fixture
def mp4() -> Callable[..., Path]:
    return write_mp4


@pytest.fixture
def pictures() -> Callable[..., list[np.ndarray]]:
    return make_pictures
