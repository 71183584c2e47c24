"""How fast voices become frames of descriptors with F0, beside openSMILE; a part of `tools.benchmark`."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avser.features.descriptors import InterspeechDescriptors
from avser.media.audio import read_audio
from avser.roi.report.tables import Cell, ReportTable

NUM_VOICES, BATCH_SIZE = 48, 16
REPETITIONS = 4  # of every way, in turn with the others; the best one counts
RATE_HZ = 16000


def bench_descriptors(files: list[Path], _: Path) -> ReportTable:
    """The 32 descriptors of `lld32` in batches of clips of like length, against openSMILE clip by clip.

    Args:
        files: what is read where AVSER_REAL_DATA has no RAVDESS recordings.
    """
    voices = sorted((read_audio(file, sample_rate_hz=RATE_HZ) for file in _recordings() or files), key=len)
    front_end = InterspeechDescriptors(sample_rate_hz=RATE_HZ).eval()

    def in_batches() -> None:
        with torch.inference_mode():
            for start in range(0, len(voices), BATCH_SIZE):
                front_end(*_batch(voices[start : start + BATCH_SIZE]))

    ways = {**_opensmile_ways(voices), f"avser lld32, batches of {BATCH_SIZE}": in_batches}
    costs = _measure(ways)
    wall, cpu = next(iter(costs.values()))
    rows: list[list[Cell]] = [
        [way, len(voices) / cost[0], wall / cost[0], 1000 * cost[1] / len(voices), cpu / cost[1]]
        for way, cost in costs.items()
    ]
    columns = ["", "clips/s", "times the first", "CPU ms a clip", "times the first, CPU"]
    seconds = sum(map(len, voices)) / RATE_HZ
    note = (
        f"{len(voices)} clips, {seconds:.0f} s in all, decoded before; best of {REPETITIONS} runs in turn, "
        f"{torch.get_num_threads()} threads."
    )
    if len(ways) == 1:
        note += " openSMILE is not installed (pip install opensmile): no baseline."
    return ReportTable("32 descriptors with F0", columns, rows, note=note)


def _recordings() -> list[Path]:
    """Real voices of all actors and emotions, if there are any."""
    real = os.environ.get("AVSER_REAL_DATA")
    found = sorted(Path(real).glob("ravdess_speech/Actor_*/*.flac")) if real else []
    return found[:: max(1, len(found) // NUM_VOICES)][:NUM_VOICES]


def _batch(voices: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded waveforms and their mask, both (B, N)."""
    waveform = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(voice) for voice in voices], batch_first=True)
    lengths = torch.tensor([len(voice) for voice in voices])
    return waveform, torch.arange(waveform.shape[1]) < lengths[:, None]


def _opensmile_ways(voices: list[np.ndarray]) -> dict[str, Callable[[], None]]:
    """openSMILE's low-level descriptors of every voice, clip by clip; none where it is not installed."""
    if importlib.util.find_spec("opensmile") is None:
        return {}
    import opensmile

    sets = {
        "openSMILE emobase": opensmile.FeatureSet.emobase,
        "openSMILE INTERSPEECH 2009": str(
            Path(opensmile.__file__).parent / "core" / "config" / "is09-13" / "IS09_emotion.conf"
        ),
        "openSMILE eGeMAPS": opensmile.FeatureSet.eGeMAPSv02,
    }

    def way(feature_set: object) -> Callable[[], None]:
        level = "lld" if isinstance(feature_set, str) else opensmile.FeatureLevel.LowLevelDescriptors
        smile = opensmile.Smile(feature_set=feature_set, feature_level=level)

        def clip_by_clip() -> None:
            for voice in voices:
                smile.process_signal(voice, RATE_HZ)

        return clip_by_clip

    return {f"{name}, clip by clip": way(feature_set) for name, feature_set in sets.items()}


def _measure(ways: dict[str, Callable[[], None]]) -> dict[str, tuple[float, float]]:
    """The least wall and processor seconds of each way."""
    for way in ways.values():
        way()  # the first call loads libraries and fills caches
    costs = dict.fromkeys(ways, (float("inf"), float("inf")))
    for _ in range(REPETITIONS):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            costs[name] = min(costs[name][0], wall), min(costs[name][1], cpu)
    return costs
