"""How fast exported graphs answer: PyTorch beside onnxruntime, with weights of 32 and of 8 bits, clip by clip."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from avser.config import Config, load_config
from avser.deployment.export import write_graph
from avser.deployment.graph import probe_batch
from avser.deployment.parity import measure_parity
from avser.deployment.quantize import quantize_graph
from avser.deployment.runtime import load_onnx
from avser.models.build import build_model
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import Batch

EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
DURATIONS_S = (2.2, 2.5, 2.9, 3.4)  # as in CREMA-D
REPETITIONS = 5
WEIGHTS = ["model.audio.backbone.weights=none", "model.video.backbone.weights=none"]


def bench_onnx(_: Sequence[Path], scratch: Path) -> ReportTable:
    """Clips a second of `av_roi`, voice and face, from waveform and crops to the answer with its moments."""
    torch.manual_seed(0)
    config = load_config(["av_roi", *WEIGHTS])
    network = build_model(config.model, EMOTIONS, sample_rate_hz=config.media.sample_rate_hz).eval()
    full, small = scratch / "full.onnx", scratch / "small.onnx"
    write_graph(network, config, EMOTIONS, full)
    shutil.copy(full, small)
    quantize_graph(small)
    batches = [probe_batch(config, (duration_s,), seed=i) for i, duration_s in enumerate(DURATIONS_S)]
    networks: dict[str, nn.Module] = {
        "PyTorch": network,
        "onnxruntime": load_onnx(full).network,
        "onnxruntime, 8-bit weights": load_onnx(small).network,
    }
    seconds = best_seconds({name: _asks(one, batches) for name, one in networks.items()})
    sizes = {
        "PyTorch": sum(x.numel() * x.element_size() for x in network.state_dict().values()),
        "onnxruntime": full.stat().st_size,
        "onnxruntime, 8-bit weights": small.stat().st_size,
    }
    rows: list[list[Cell]] = [
        [
            name,
            len(batches) / found,
            sum(DURATIONS_S) / found,
            seconds["PyTorch"] / found,
            sizes[name] / 1e6,
            f"{_difference(network, networks[name], config):.1e}",
        ]
        for name, found in seconds.items()
    ]
    return ReportTable(
        "Exported graphs",
        ["", "clips/s", "times real time", "times PyTorch", "MB", "largest difference"],
        rows,
        f"av_roi, voice and face, random weights, {torch.get_num_threads()} threads, one clip at a time: "
        f"{len(batches)} clips of {min(DURATIONS_S)} to {max(DURATIONS_S)} s at {config.media.fps:g} crops a second, "
        f"best of {REPETITIONS} rounds taken in turn. Decoding and faces are not part of it.",
    )


def best_seconds(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The shortest time of each way; the ways take turns, so that a busy moment of the machine meets them alike."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(REPETITIONS + 1):  # the first round loads libraries; it is never the fastest
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def _asks(network: nn.Module, batches: Sequence[Batch]) -> Callable[[], None]:
    def ask() -> None:
        with torch.no_grad():
            for batch in batches:
                network(batch)

    return ask


def _difference(network: nn.Module, other: nn.Module, config: Config) -> float:
    return measure_parity(network, other, config, ((2.5,),))
