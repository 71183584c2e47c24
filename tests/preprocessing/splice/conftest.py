"""A speaker who needs no recording: voiced syllables with closures between them, over a noisy background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from avser.data.manifest import ClipRow, write_manifest
from preprocessing.encoding import write_flac, write_mp4
from preprocessing.splice.voice import Voice

RATE = 16000


def build_take(seed: int, *, level: float = 0.1, noise: float = 1e-3, pitch_hz: float = 120.0) -> np.ndarray:
    """(N,) 0.4 s of background, eight syllables of 0.2 s with closures of 60 ms between them, 0.4 s of background."""
    rng = np.random.default_rng(seed)
    sound = []
    for _ in range(8):
        times = np.arange(round(rng.uniform(0.17, 0.23) * RATE)) / RATE
        pulses = np.diff(np.floor(times * pitch_hz * rng.uniform(0.95, 1.05)), prepend=0)
        vowel = lfilter([1], [1, -1.7 * np.cos(rng.uniform(0.2, 0.8)), 0.8], pulses)
        sound += [vowel * np.hanning(len(vowel)), np.zeros(round(0.06 * RATE))]
    speech = np.concatenate(sound)
    speech *= level / np.sqrt(np.mean(speech**2))
    return np.pad(speech, round(0.4 * RATE)) + noise * rng.normal(size=len(speech) + 2 * round(0.4 * RATE))


@pytest.fixture(scope="session")
def voice() -> Callable[..., Voice]:
    return lambda seed, **kind: Voice(build_take(seed, **kind), RATE)


def write_corpus(folder: Path, takes: dict[str, str], *, picture: bool = False) -> Path:
    """A corpus of clip id "speaker_emotion_n" -> sentence; the grey level of the picture's frame k is 5 k."""
    rows = []
    for seed, (clip_id, sentence) in enumerate(takes.items()):
        speaker, emotion, _ = clip_id.split("_")
        sound = build_take(seed, level=0.1 if emotion == "neutral" else 0.3)
        name = f"{clip_id}.{'mp4' if picture else 'flac'}"
        if picture:
            num = round(len(sound) / RATE * 25)
            frames = (np.full((32, 48, 3), min(5 * k, 255), np.uint8) for k in range(num))
            write_mp4(folder / name, sound, frames, sample_rate_hz=RATE, fps=25, lossless=True)
        else:
            write_flac(folder / name, sound, RATE)
        rows.append(
            ClipRow(clip_id, "toy", speaker, emotion, name, name if picture else "", sex="female", sentence=sentence)
        )
    write_manifest(rows, folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus of takes into a folder of its own; returns its manifest."""

    def write(*clip_ids: str, picture: bool = False) -> Path:
        folder = tmp_path / "toy"
        folder.mkdir()
        return write_corpus(folder, dict.fromkeys(clip_ids, "one"), picture=picture)

    return write
