"""A recording that is longer than the clips that the models were trained on."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from avser.inference import TrainedModel, load_models
from avser.media.audio import decode_audio
from avser.media.film import write_film
from avser.media.video import Frame, iterate_frames

FPS = 25


@pytest.fixture(scope="session")
def models(tiny_ablation) -> dict[str, TrainedModel]:
    return load_models(tiny_ablation, "cpu")


@pytest.fixture(scope="session")
def long_recording(tiny_corpus, tmp_path_factory) -> Path:
    """13 s: rendered clips one after the other, picture and voice."""
    return write_long(
        tmp_path_factory.mktemp("long") / "talk.mp4", sorted((tiny_corpus / "media").glob("s01_*.mp4")), 13.0
    )


def write_long(path: Path, files: list[Path], seconds: float) -> Path:
    images, voices = list[np.ndarray](), list[np.ndarray]()
    while len(images) < seconds * FPS:
        for file in files:
            own = [frame.image for frame in iterate_frames(file, fps=FPS)]
            images += own
            voices.append(np.resize(decode_audio(file, sample_rate_hz=48000)[0], len(own) * 48000 // FPS))
    voice = np.concatenate(voices)[: round(seconds * 48000)]
    sound = write_wav(path.with_suffix(".sound.wav"), voice, 48000)
    write_film(path, (Frame(i / FPS, image) for i, image in enumerate(images[: round(seconds * FPS)])), sound)
    sound.unlink()
    return path


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path
