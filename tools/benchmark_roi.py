"""How fast regions of interest are: saliences beside the passes they need, null models beside their goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from avser.config import load_config
from avser.data.dataset import Example, collate
from avser.media.audio import read_audio
from avser.models.build import build_model
from avser.models.system import System
from avser.roi.alignment.null_calibration import unrelated_curves
from avser.roi.alignment.nulls import NULLS, compare_with_null
from avser.roi.intervals import find_regions
from avser.roi.report.tables import Cell, ReportTable
from avser.roi.salience.replacement import DEFAULT_OPERATORS, replace_moments
from avser.roi.salience.sources import find_salience
from avser.structures import AUDIO, Batch, Clip

NUM_CLIPS, NUM_PAIRS, NUM_PERMUTATIONS = 4, 1000, 10_000
WINDOW_S, STRIDE_S = 0.15, 0.05


def bench_saliences(files: Sequence[Path], _: Path) -> ReportTable:
    """Clips a second of each salience for `av_roi`'s voice, beside forward passes and the one-by-one loop."""
    model, batch = _model(), _batch(files)
    emotions = [0] * len(batch)
    ways: dict[str, Callable[[], object]] = {
        "forward pass alone": lambda: _forward(model, batch),
        "regions from attention": lambda: _regions(model, batch),
        "gradient times input": lambda: find_salience(model, batch, AUDIO, emotions, "grad_input"),
        "occlusion, a window at a time": lambda: _occlude_one_by_one(model, batch),
        "occlusion, batched": lambda: find_salience(model, batch, AUDIO, emotions, "occlusion"),
        "RISE, 64 masks, batched": lambda: find_salience(model, batch, AUDIO, emotions, "rise", num_masks=64),
    }
    seconds = {name: _best(way) for name, way in ways.items()}
    first, loop = seconds["forward pass alone"], seconds["occlusion, a window at a time"]
    rows: list[list[Cell]] = [
        [name, len(batch) / s, s / first, loop / s if name.startswith("occlusion") else None]
        for name, s in seconds.items()
    ]
    return ReportTable(
        "Saliences of a voice",
        ["way", "clips/s", "time / forward", "x one by one"],
        rows,
        f"{len(batch)} clips, av_roi with SqueezeNet and random weights, {torch.get_num_threads()} threads; windows of "
        f"{WINDOW_S} s every {STRIDE_S} s.",
    )


def bench_nulls(_: Sequence[Path], __: Path) -> ReportTable:
    """Seconds of every null model for all its measures: 10,000 permutations over 1,000 pairs of curves."""
    stack = unrelated_curves(np.random.default_rng(0), 25, NUM_PAIRS // 25, num_cells=100)
    seconds = {}
    for null in NULLS:
        begun = time.perf_counter()
        compare_with_null(stack, null, num_permutations=NUM_PERMUTATIONS)
        seconds[null] = time.perf_counter() - begun
    rows: list[list[Cell]] = [[null, found] for null, found in seconds.items()]
    return ReportTable(
        "Null models of alignment",
        ["null model", "seconds"],
        [*rows, ["all", sum(seconds.values())]],
        f"{NUM_PERMUTATIONS} permutations, {NUM_PAIRS} pairs of curves on 100 cells, every measure that the null model "
        "is made for, intervals and tests over speakers included.",
    )


def _model() -> System:
    torch.manual_seed(0)
    config = load_config(["av_roi", "model.modalities=[audio]", "model.audio.backbone.weights=none"])
    return build_model(config.model, list("abcdefgh"), sample_rate_hz=16000).eval()


def _batch(files: Sequence[Path]) -> Batch:
    voices = [read_audio(file) for file in list(files)[:NUM_CLIPS]]
    return collate([Example(str(i), Clip(str(i), len(v) / 16000, v), None) for i, v in enumerate(voices)])


@torch.no_grad()
def _forward(model: System, batch: Batch) -> None:
    model(batch)


def _regions(model: System, batch: Batch) -> None:
    for curve in find_salience(model, batch, AUDIO, [0] * len(batch), "attention"):
        find_regions(curve, AUDIO)


@torch.no_grad()
def _occlude_one_by_one(model: System, batch: Batch) -> None:
    """As one would write it first: for each clip and window one replacement and one forward pass."""
    assert batch.waveform is not None
    assert batch.waveform_mask is not None
    for i in range(len(batch)):
        num_samples = int(batch.waveform_mask[i].sum())
        voice, mask = batch.waveform[i : i + 1, :num_samples], batch.waveform_mask[i : i + 1, :num_samples]
        clip = Batch([batch.clip_ids[i]], voice, mask, batch.sample_rate_hz)
        num_cells = int(np.ceil(num_samples / batch.sample_rate_hz / STRIDE_S))
        width = round(WINDOW_S / STRIDE_S)
        for start in range(num_cells - width + 1):
            drop = torch.zeros(1, num_cells, dtype=torch.bool)
            drop[0, start : start + width] = True
            model(replace_moments(clip, AUDIO, drop, cell_s=STRIDE_S, operator=DEFAULT_OPERATORS[AUDIO][0]))


def _best(way: Callable[[], object], repetitions: int = 3) -> float:
    found = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        way()
        found.append(time.perf_counter() - begun)
    return min(found)
