"""How fast a raw recording becomes emotion and regions, and in how much memory; a part of `tools.benchmark`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from avser.config import Config, load_config
from avser.data.cache_jobs import open_tracker
from avser.errors import ConfigError
from avser.inference import TrainedModel, load_model
from avser.media.audio import decode_audio, iterate_audio
from avser.media.faces import MediaPipeTracker
from avser.media.film import write_film
from avser.media.landmarker import find_model
from avser.media.seen_faces import tracks_between
from avser.media.video import Frame, iterate_frames
from avser.models.build import build_model
from avser.recordings.answer import answer_recording
from avser.recordings.speed import WindowAnswers
from avser.recordings.windows import Windowing, cut_windows
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import Clip
from avser.training.checkpoint import MODEL_FILE, save_model

SHORT_S, LONG_S = 60.0, 600.0
FPS, RATE_HZ = 30.0, 48_000
EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
AIM, AIM_GIB = 10.0, 1.5

Item = TypeVar("Item")


def bench_prediction(files: list[Path], scratch: Path) -> ReportTable:
    """A minute of video through the reference model: each stage alone, all in a row, and side by side as in use."""
    folder = write_reference(scratch / "reference")
    recording = loop_recording(files, scratch / "minute.mp4", SHORT_S)
    model = load_model(folder, "cpu")
    with open_tracker(model.config.media) as tracker:
        answer_recording(model, recording, tracker=tracker)  # the first call loads libraries and allocates
        with one_thread():
            only_decoding = _Clock()
            _decode(recording, model.config, only_decoding)
            clocks, whole = _measure_stages(model, recording, tracker)
        pipelined = _Clock()
        with pipelined.running(all_threads=True):
            answer_recording(model, recording, tracker=tracker)
    timed = {"decode only": only_decoding, **clocks, "one after the other": whole, "avser predict": pipelined}
    rows: list[list[Cell]] = [[n, c.wall_s, SHORT_S / c.wall_s, c.cpu_s, SHORT_S / c.cpu_s] for n, c in timed.items()]
    return ReportTable(
        "Raw recording to emotion and regions",
        ["", "s", "times real time", "CPU s", "times real time of one core"],
        rows,
        f"{SHORT_S:.0f} s at 480x360 and 30 frames a second, {model.config.media.fps:g} of them read; windows of 4 s "
        f"every 2 s; the reference model av_roi, {type(tracker).__name__}. Aim: {AIM:g} times real time on two cores.",
        "Stages with one thread of torch, `avser predict` with as many as it takes by itself. CPU seconds are those of "
        "all threads; where other programs run too, wall time says nothing.",
    )


def bench_prediction_memory(files: list[Path], scratch: Path) -> ReportTable:
    """Ten minutes in a process of its own."""
    folder = write_reference(scratch / "reference")
    recording = loop_recording(files, scratch / "ten_minutes.mp4", LONG_S)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(recording)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    gib = told["peak_kib"] / 2**20
    row: list[Cell] = [
        f"{LONG_S:.0f} s",
        told["wall_s"],
        LONG_S / told["wall_s"],
        told["cpu_s"],
        gib,
        told["loaded_kib"] / 2**20,
    ]
    return ReportTable(
        "A long recording in a process of its own",
        ["", "s", "times real time", "CPU s", "peak GiB", "of it before the recording"],
        [row],
        f"Aim: at most {AIM_GIB:g} GiB.",
    )


CHILD = """
import json, sys, time
from pathlib import Path
from avser.inference import load_model
from avser.recordings.answer import answer_recording
model = load_model(sys.argv[1], "cpu")
# Not getrusage: its peak begins with that of the process that started this one.
status = lambda: dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = lambda: int(status()["VmHWM"].split()[0])
loaded, wall, cpu = peak(), time.perf_counter(), time.process_time()
recording = answer_recording(model, sys.argv[2])
assert len(recording.rows) > 100
told = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
print(json.dumps({**told, "peak_kib": peak(), "loaded_kib": loaded}))
"""


@contextmanager
def one_thread() -> Iterator[None]:
    """What a stage takes of one core; afterwards torch takes as many threads as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_reference(folder: Path) -> Path:
    """A run folder of the reference model with random weights: as fast as a trained one."""
    if not (folder / MODEL_FILE).is_file():
        sources = ["av_roi", "model.audio.backbone.weights=none", "model.video.backbone.weights=none"]
        config = load_config([*sources, *([] if _has_landmarker() else ["media.faces.tracker=center"])])
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        network = build_model(config.model, EMOTIONS, sample_rate_hz=config.media.sample_rate_hz, pretrained=False)
        save_model(folder / MODEL_FILE, network.eval(), config, EMOTIONS)
    return folder


def loop_recording(files: list[Path], path: Path, seconds: float) -> Path:
    """The clips again and again, picture and voice, at 30 frames a second."""
    clips = [
        ([frame.image for frame in iterate_frames(file)], decode_audio(file, sample_rate_hz=RATE_HZ)[0])
        for file in files
    ]
    num_frames, voices = 0, list[np.ndarray]()
    order = list[list[np.ndarray]]()
    for images, voice in cycle(clips):
        order.append(images)
        num_frames += len(images)
        voices.append(np.resize(voice, round(len(images) / FPS * RATE_HZ)))
        if num_frames >= seconds * FPS:
            break
    sound = path.with_suffix(".wav")
    with wave.open(str(sound), "wb") as out:
        out.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        out.writeframes(np.round(np.concatenate(voices)[: round(seconds * RATE_HZ)] * 32767).astype("<i2").tobytes())
    pictures = (image for images in order for image in images)
    write_film(path, (Frame(i / FPS, im) for i, im in zip(range(round(seconds * FPS)), pictures, strict=False)), sound)
    return path


@dataclass
class _Clock:
    """Seconds of a stage, by the clock on the wall and of the processor."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    holds: list[_Clock] = field(default_factory=list)

    @contextmanager
    def running(self, *, all_threads: bool = True) -> Iterator[None]:
        """Time spent in clocks that `holds` names meanwhile is not counted here."""
        cpu = time.process_time if all_threads else time.thread_time
        before, wall, used = [(c.wall_s, c.cpu_s) for c in self.holds], time.perf_counter(), cpu()
        yield
        self.wall_s += (
            time.perf_counter() - wall - sum(c.wall_s - b[0] for c, b in zip(self.holds, before, strict=True))
        )
        self.cpu_s += cpu() - used - sum(c.cpu_s - b[1] for c, b in zip(self.holds, before, strict=True))

    def each(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items, with the time that they take counted."""
        while True:
            with self.running():
                item = next(items, None)
            if item is None:
                return
            yield item


def _decode(recording: Path, config: Config, clock: _Clock) -> None:
    with clock.running():
        for _ in iterate_frames(recording, fps=config.media.fps):
            pass
        for _ in iterate_audio(recording, sample_rate_hz=config.media.sample_rate_hz):
            pass


def _measure_stages(model: TrainedModel, recording: Path, tracker: Any) -> tuple[dict[str, _Clock], _Clock]:
    """Every stage in one thread, each with its own clock, and the whole."""
    decode, faces, network = _Clock(), _Clock(), _Clock()
    crops, whole = _Clock(holds=[decode, faces]), _Clock()
    answers = WindowAnswers(model)
    media = model.config.media
    with whole.running(), _timed(tracker, faces):
        frames = decode.each(iterate_frames(recording, fps=media.fps))
        voice = decode.each(iterate_audio(recording, sample_rate_hz=media.sample_rate_hz))
        for window in cut_windows(voice, crops.each(tracker.stream(frames)), media.sample_rate_hz, Windowing()):
            tracks = tracks_between(window.frames, window.start_s, media.crop_px)
            clip = Clip(
                "",
                window.end_s - window.start_s,
                window.waveform,
                media.sample_rate_hz,
                next(iter(tracks.values()), None),
            )
            with network.running():
                answers.ask([clip], [(1, window.start_s)])
    return {"decode": decode, "faces": faces, "crops": crops, "model": network}, whole


@contextmanager
def _timed(tracker: Any, clock: _Clock) -> Iterator[None]:
    """Counts what the detector takes."""
    if not isinstance(tracker, MediaPipeTracker):
        yield
        return
    find: Callable[..., Any] = tracker._faces

    def timed(*arguments: Any) -> Any:
        with clock.running():
            return find(*arguments)

    tracker._faces = timed  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        tracker._faces = find  # type: ignore[method-assign]


def _has_landmarker() -> bool:
    try:
        find_model()
    except ConfigError:
        return False
    return bool(os.environ.get("AVSER_REAL_DATA"))  # nobody's face is in rendered clips
