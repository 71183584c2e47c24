"""A server of the page in a process of its own, with two tiny models, whose every file lies under one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
MAX_MB, MAX_S = 2, 6


@dataclass
class Served:
    """A running server.

    Attributes:
        address: of the page.
        scratch: the only folder in which it can write temporary files.
        log: what it printed.
    """

    process: subprocess.Popen
    address: str
    scratch: Path
    log: Path

    def files(self) -> list[Path]:
        return [path for path in self.scratch.rglob("*") if path.is_file()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()  # one that does not end must not outlive the tests


@pytest.fixture(scope="session")
def start_server(tmp_path_factory) -> Iterator[Callable[..., Served]]:
    """Starts `avser serve RUN...` on a free port; all of them are stopped in the end."""
    running: list[Served] = []

    def start(*runs: Path, options: tuple[str, ...] = ()) -> Served:
        folder = tmp_path_factory.mktemp("served")
        scratch, log = folder / "scratch", folder / "log"
        scratch.mkdir()
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "avser.cli", "serve", *map(str, runs), "--port", "0", *options],
                cwd=PROJECT,
                env={**os.environ, "TMPDIR": str(scratch)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + 240
        while "http://" not in (printed := log.read_text()):
            assert process.poll() is None, printed
            assert time.monotonic() < until, printed
            time.sleep(0.1)
        address = next(word for word in printed.split() if word.startswith("http://"))
        running.append(Served(process, address, scratch, log))
        return running[-1]

    yield start
    for served in running:
        if served.process.poll() is None:
            served.stop()


@pytest.fixture(scope="session")
def served(start_server, tiny_ablation) -> Served:
    """Two models side by side: voice and face with a model of each alone, and one that only hears."""
    options = ("--max-mb", str(MAX_MB), "--max-s", str(MAX_S))
    return start_server(tiny_ablation, tiny_ablation / "audio", options=options)


@pytest.fixture(scope="session")
def recording(tiny_corpus) -> Path:
    """A short clip of a drawn face that speaks."""
    return sorted((tiny_corpus / "media").glob("*.mp4"))[0]


@pytest.fixture
def write_media(tmp_path) -> Callable[..., Path]:
    """Writes noise for ears and eyes under a name whose ending chooses the container."""

    def write(name: str, duration_s: float = 1.0, *, picture: str = "", voice: str = "", **options: str) -> Path:
        path, rng = tmp_path / name, np.random.default_rng(0)
        with av.open(str(path), "w", options=options) as out:
            if picture:
                shown = out.add_stream(picture, rate=25)
                shown.width, shown.height, shown.pix_fmt = 64, 64, "yuv420p"
            if voice:
                heard = out.add_stream(voice, rate=48000)
                heard.layout = "mono"
            for _ in range(round(25 * duration_s) if picture else 0):
                frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), np.uint8), format="rgb24")
                out.mux(shown.encode(frame))
            for i in range(round(48000 * duration_s / 960) if voice else 0):
                sound = av.AudioFrame.from_ndarray(rng.integers(-9000, 9000, (1, 960), np.int16), "s16", "mono")
                sound.sample_rate, sound.pts = 48000, 960 * i
                out.mux(heard.encode(sound))
            for stream in out.streams:
                out.mux(stream.encode(None))
        return path

    return write
