"""How fast regions of interest are: saliences beside the passes they need, null models beside their goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avser.config import load_config
from avser.data.dataset import Example, collate
from avser.media.audio import read_audio
from avser.models.build import build_model
from avser.models.system import System
from avser.roi.alignment.null_calibration import unrelated_curves
from avser.roi.alignment.nulls import NULLS, compare_with_null
from avser.roi.intervals import find_regions
from avser.roi.report.tables import Cell, ReportTable
from avser.roi.salience.perturbation import random_blocks
from avser.roi.salience.replacement import DEFAULT_OPERATORS, replace_moments
from avser.roi.salience.sources import find_salience
from avser.structures import AUDIO, Batch, Clip

NUM_CLIPS, NUM_PAIRS, NUM_PERMUTATIONS = 4, 1000, 10_000
WINDOW_S, STRIDE_S = 0.15, 0.05  # `occlusion`'s and `rise`'s own
NUM_MASKS, BLOCK_S = 64, 0.2
ROUNDS = 3
FORWARD, ONE = "forward pass alone", "one at a time"


def bench_saliences(files: Sequence[Path], _: Path) -> ReportTable:
    """Clips a second of each salience for `av_roi`'s voice, beside forward passes and the one-by-one loop."""
    model, batch = _model(), _batch(files)
    emotions = [0] * len(batch)
    ways: dict[str, Callable[[], object]] = {
        FORWARD: lambda: _forward(model, batch),
        "regions from attention": lambda: _regions(model, batch),
        "gradient times input": lambda: find_salience(model, batch, AUDIO, emotions, "grad_input"),
        f"occlusion, {ONE}": lambda: _one_by_one(model, batch, _windows),
        "occlusion, batched": lambda: find_salience(model, batch, AUDIO, emotions, "occlusion"),
        f"RISE, {ONE}": lambda: _one_by_one(model, batch, _random_masks),
        "RISE, batched": lambda: find_salience(model, batch, AUDIO, emotions, "rise", num_masks=NUM_MASKS),
    }
    seconds = _best(ways)
    rows: list[list[Cell]] = []
    for name, s in seconds.items():
        loop = seconds.get(f"{name.partition(',')[0]}, {ONE}")
        rows.append([name, len(batch) / s, s / seconds[FORWARD], loop / s if loop else None])
    return ReportTable(
        "Saliences of a voice",
        ["way", "clips/s", "time / forward", "x one by one"],
        rows,
        f"{len(batch)} clips, av_roi with SqueezeNet and random weights, {torch.get_num_threads()} threads, processor "
        f"time, best of {ROUNDS} rounds in turn; occlusion: windows of {WINDOW_S} s every {STRIDE_S} s; RISE: "
        f"{NUM_MASKS} masks.",
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
def _one_by_one(model: System, batch: Batch, drops_of: Callable[[int], Iterator[Tensor]]) -> None:
    """As one would write it first: for each clip and variant one replacement and one forward pass.

    Args:
        drops_of: from a clip's number of cells to what its variants lack, (K,) bool each.
    """
    assert batch.waveform is not None
    assert batch.waveform_mask is not None
    for i in range(len(batch)):
        num_samples = int(batch.waveform_mask[i].sum())
        voice, mask = batch.waveform[i : i + 1, :num_samples], batch.waveform_mask[i : i + 1, :num_samples]
        clip = Batch([batch.clip_ids[i]], voice, mask, batch.sample_rate_hz)
        for drop in drops_of(int(np.ceil(num_samples / batch.sample_rate_hz / STRIDE_S))):
            model(replace_moments(clip, AUDIO, drop[None], cell_s=STRIDE_S, operator=DEFAULT_OPERATORS[AUDIO][0]))


def _windows(num_cells: int) -> Iterator[Tensor]:
    width = round(WINDOW_S / STRIDE_S)
    for start in range(num_cells - width + 1):
        drop = torch.zeros(num_cells, dtype=torch.bool)
        drop[start : start + width] = True
        yield drop


def _random_masks(num_cells: int) -> Iterator[Tensor]:
    kept = random_blocks(NUM_MASKS, num_cells, round(BLOCK_S / STRIDE_S), 0.5, np.random.default_rng(0))
    yield from torch.from_numpy(~kept)


def _best(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Fewest seconds of processor time of each way; in turn, so that what else the machine does meets all alike."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - begun)
    return best
