"""How long a live answer takes: chunks at real-time pace, the causal model against one that reads its window anew."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from avser.config import Config, load_config
from avser.inference import TrainedModel
from avser.live.follow import Timekeeping, follow
from avser.live.stream import Stream
from avser.media.live_sources import file_chunks
from avser.models.build import build_model
from avser.roi.report.tables import Cell, ReportTable

CHUNK_S = 0.1
NUM_FILES = 8
WINDOW_S = 4.0
AIM_MS = (150, 300)  # median, 95th percentile
# The reference model at its own sizes; what its weights are does not change the time that it takes.
UNTRAINED = ["model.audio.backbone.weights=none", "model.video.backbone.weights=none"]


def bench_live(files: list[Path], _: Path) -> ReportTable:
    """Latency of the answer to chunks of 100 ms, faces looked for on the way."""
    tracker = "mediapipe_past" if os.environ.get("AVSER_MODELS") else "center"
    faces = f"media.faces.tracker={tracker}"
    common, causal = ["av_roi", *UNTRAINED, faces], ["av_roi", "live", *UNTRAINED, faces]
    ways = {
        f"not causal, the last {WINDOW_S:g} s read anew": (common, WINDOW_S),
        "causal: voice": ([*causal, "model.modalities=[audio]"], None),
        "causal: face": ([*causal, "model.modalities=[video]"], None),
        "causal: both": (causal, None),
    }
    rows: list[list[Cell]] = []
    for name, (sources, window_s) in ways.items():
        kept, busy_s = _measure(load_config(sources), files[:NUM_FILES], window_s)
        share = kept.num_dropped / max(kept.num_frames, 1)
        rows.append([name, 1000 * kept.latency_s(50), 1000 * kept.latency_s(95), 100 * share, 1000 * busy_s])
    return ReportTable(
        "Live: from the last sample of a chunk to its answer",
        ["", "median, ms", "95 %, ms", "frames dropped, %", "processor, ms a chunk"],
        rows,
        f"Chunks of {1000 * CHUNK_S:.0f} ms of {min(len(files), NUM_FILES)} files at real-time pace, decoded on the "
        f"way; faces by {tracker}; {torch.get_num_threads()} threads. Aim: median {AIM_MS[0]}, 95 % {AIM_MS[1]} ms.",
    )


def _measure(config: Config, files: list[Path], window_s: float | None) -> tuple[Timekeeping, float]:
    """Latencies of all chunks of the files, and the processor's seconds a chunk."""
    emotions = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
    network = build_model(config.model, emotions, sample_rate_hz=config.media.sample_rate_hz).eval()
    model = TrainedModel(network, config, emotions, Path("untrained"), torch.device("cpu"))
    total, busy_s, num_chunks = Timekeeping(), 0.0, 0
    with Stream(model, window_s=window_s) as stream:
        for file in files:
            stream.reset()
            chunks = file_chunks(
                file,
                CHUNK_S,
                sample_rate_hz=config.media.sample_rate_hz,
                fps=config.media.fps,
                voice="audio" in config.model.modalities,
                face="video" in config.model.modalities,
            )
            begun = time.process_time()
            for answer in follow(stream, chunks):
                total.latencies_s.append(answer.latency_s)
            busy_s += time.process_time() - begun
            num_chunks += answer.kept.num_answers + answer.kept.num_joined
            total.num_frames += answer.kept.num_frames
            total.num_dropped += answer.kept.num_dropped
    return total, busy_s / num_chunks
