"""Speed, always beside a baseline measured in the same run: `python -m tools.benchmark [features] [media] [train] ...`.

Real recordings are used where AVSER_REAL_DATA names them, rendered ones otherwise. Machines are noisy: read the ratios,
not the rates. Each rate is the best of several repetitions.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avser.cli.printing import print_table
from avser.data.dataset import Example, collate
from avser.features.spectral import LogMel
from avser.media.audio import read_audio
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import Clip
from preprocessing.synthetic.corpus import Settings, write_corpus
from tools.benchmark_features import bench_descriptors
from tools.benchmark_live import bench_live
from tools.benchmark_media import bench_caching, bench_loading
from tools.benchmark_onnx import bench_onnx
from tools.benchmark_predict import bench_prediction, bench_prediction_memory
from tools.benchmark_roi import bench_nulls, bench_saliences
from tools.benchmark_train import bench_training

NUM_CLIPS = 12
LIBROSA_STFT: dict[str, Any] = {"n_fft": 512, "win_length": 400, "hop_length": 160}
LIBROSA_MEL: dict[str, Any] = {"sr": 16000, "n_fft": 512, "n_mels": 64, "fmin": 50, "htk": True}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="|".join(BENCHMARKS), help="default: all")
    chosen = parser.parse_args(arguments).what or list(BENCHMARKS)
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; take {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory() as scratch:
        files = find_media(Path(scratch))
        for name in chosen:
            for bench in BENCHMARKS[name]:
                print_table(bench(files, Path(scratch)))
    return 0


def bench_log_mel(files: list[Path], _: Path) -> ReportTable:
    """Log-mel alone: clip by clip with librosa and torchaudio, and in avser's batches of like length."""
    import librosa
    from torchaudio.transforms import MelSpectrogram

    voices, batches = _voices(files)
    front_end = LogMel()
    by_clip = MelSpectrogram(
        16000, n_fft=512, win_length=400, hop_length=160, n_mels=64, f_min=50, norm="slaney", pad_mode="constant"
    )
    filters = librosa.filters.mel(**LIBROSA_MEL)

    def by_librosa() -> None:
        for voice in voices:
            np.log(librosa.feature.melspectrogram(y=voice, **(LIBROSA_STFT | LIBROSA_MEL)) + 1e-6)

    def with_filters_made_once() -> None:
        for voice in voices:
            np.log(filters @ np.abs(librosa.stft(voice, **LIBROSA_STFT)) ** 2 + 1e-6)

    def by_torchaudio() -> None:
        for voice in voices:
            torch.log(by_clip(torch.from_numpy(voice)) + 1e-6)

    ways = {
        "librosa": by_librosa,
        "librosa, filters made once": with_filters_made_once,
        "torchaudio, clip by clip": by_torchaudio,
        "avser": lambda: [front_end.log_mel(waveform, mask) for waveform, mask in batches],
    }
    return _compare("Log-mel alone", len(voices), ways)


def bench_features(files: list[Path], _: Path) -> ReportTable:
    """Log-mel planes with differences, in batches of like length, against librosa clip by clip."""
    import librosa

    voices, batches = _voices(files)
    front_end = LogMel()

    def by_librosa() -> None:
        for voice in voices:
            log_mel = np.log(librosa.feature.melspectrogram(y=voice, **(LIBROSA_STFT | LIBROSA_MEL)) + 1e-6)
            librosa.feature.delta(log_mel, width=5)
            librosa.feature.delta(log_mel, width=5, order=2)

    ways = {"librosa": by_librosa, "avser": lambda: [front_end(waveform, mask) for waveform, mask in batches]}
    return _compare("Log-mel with differences", len(voices), ways)


BENCHMARKS: dict[str, list[Callable[[list[Path], Path], ReportTable]]] = {
    "features": [bench_log_mel, bench_features, bench_descriptors],
    "media": [bench_caching, bench_loading],
    "train": [bench_training],
    "roi": [bench_saliences, bench_nulls],
    "onnx": [bench_onnx],
    "predict": [bench_prediction, bench_prediction_memory],
    "live": [bench_live],
}


def find_media(scratch: Path) -> list[Path]:
    """Audio-visual files: the real CREMA-D clips, or freshly rendered ones."""
    real = os.environ.get("AVSER_REAL_DATA")
    if real and (files := sorted(Path(real).glob("cremad/VideoFlash/*.flv"))):
        return files
    write_corpus(scratch / "corpus", Settings(speakers=2, clips_per_emotion=1, seed=0))
    return sorted((scratch / "corpus" / "media").glob("*.mp4"))[:NUM_CLIPS]


def _voices(files: list[Path], batch_size: int = 16) -> tuple[list[np.ndarray], list[tuple[Tensor, Tensor]]]:
    """Waveforms of an actor of RAVDESS, or else of `files`; and as batches (waveform, mask) of clips of like length."""
    real = os.environ.get("AVSER_REAL_DATA")
    speech = sorted(Path(real).glob("ravdess_speech/Actor_01/*.flac")) if real else []
    voices = [read_audio(file) for file in speech or files]
    by_length = sorted(voices, key=len)
    batches = []
    for start in range(0, len(voices), batch_size):
        part = by_length[start : start + batch_size]
        batch = collate([Example(str(i), Clip(str(i), 1.0, voice), None) for i, voice in enumerate(part)])
        assert batch.waveform is not None
        assert batch.waveform_mask is not None
        batches.append((batch.waveform, batch.waveform_mask))
    return voices, batches


def _compare(title: str, num_clips: int, ways: Mapping[str, Callable[[], object]], repetitions: int = 5) -> ReportTable:
    """Clips per second of each way, and its ratio to the first, the baseline."""
    rates = {}
    for name, way in ways.items():
        way()  # the first call loads libraries and fills caches
        seconds = []
        for _ in range(repetitions):
            begun = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - begun)
        rates[name] = num_clips / min(seconds)
    baseline = next(iter(rates.values()))
    rows: list[list[Cell]] = [[name, rate, rate / baseline] for name, rate in rates.items()]
    return ReportTable(
        title, ["", "clips/s", "times the first"], rows, f"{num_clips} clips, best of {repetitions} runs."
    )


if __name__ == "__main__":
    sys.exit(main())
