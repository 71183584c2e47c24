"""A cache whose run is killed: no half file, nothing done twice, nothing left behind."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from avser.config import load_config
from avser.data.cache import CacheReport, ClipCache, build_cache
from avser.data.clip_file import read_clip_file, write_clip
from avser.data.manifest import ClipRow, read_manifest, write_manifest
from avser.errors import CacheError
from avser.structures import Clip

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = ["media.faces.tracker=center", "media.crop_px=64"]
NUM_CLIPS = 40

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills process groups")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, write_corpus) -> Path:
    """Forty clips of a second, and two rows that fail: a missing file and one that is no media."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), NUM_CLIPS)


@pytest.fixture(scope="module")
def write_corpus(request) -> Callable[[Path, int], Path]:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("media_of_tests", Path(__file__).with_name("conftest.py"))
    media = module_from_spec(spec)
    spec.loader.exec_module(media)

    def write(root: Path, num_clips: int) -> Path:
        rows = []
        for i in range(num_clips):
            media.write_wav(root / f"{i:02d}.wav", 1.0, 200 + i)
            media.write_video(root / f"{i:02d}.mp4", 12)
            rows.append(ClipRow(f"c{i:02d}", "toy", str(i % 4), "fear", f"{i:02d}.wav", f"{i:02d}.mp4"))
        (root / "noise.wav").write_bytes(bytes(range(256)) * 20)
        rows.insert(1, ClipRow("gone", "toy", "0", "fear", "gone.wav"))
        rows.insert(2, ClipRow("noise", "toy", "0", "fear", "noise.wav"))
        write_manifest(rows, root / "manifest.csv")
        return root / "manifest.csv"

    return write


@contextlib.contextmanager
def running(manifest: Path, out: Path, *options: object) -> Iterator[subprocess.Popen]:
    """`avser cache` in a process group of its own, which is gone afterwards."""
    command = [sys.executable, "-m", "avser.cli", "cache", manifest, "--out", out, *SETTINGS, *options]
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """clip file -> what changes when it is written again."""
    clips = (out / "clips").glob("*.safetensors") if (out / "clips").is_dir() else []
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in clips}


def wait_for_clips(process: subprocess.Popen, out: Path, num_clips: int) -> None:
    ends = time.monotonic() + 60
    while len(finished(out)) < num_clips:
        assert process.poll() is None, f"it ended before {num_clips} clips were there: {process.stdout.read()}"
        assert time.monotonic() < ends
        time.sleep(0.002)


def resume(manifest: Path, out: Path) -> CacheReport:
    return build_cache(read_manifest(manifest), out, load_config(SETTINGS).media, progress=False)


def check_whole(manifest: Path, out: Path, report: CacheReport, num_clips: int = NUM_CLIPS) -> None:
    """Every clip is there and whole, both faulty rows are listed, and nothing else lies around."""
    assert (report.num_clips, report.num_cached) == (num_clips + 2, num_clips)
    cache = ClipCache(out, load_config(SETTINGS).media)
    for row in read_manifest(manifest).rows:
        if row.clip_id not in ("gone", "noise"):
            clip = cache.load(row.clip_id)
            assert len(clip.waveform) == 16000
            assert clip.face.crops[:].shape == (12, 64, 64, 3)
    with (out / "failures.csv").open(newline="") as file:
        assert [line[:2] for line in csv.reader(file)][1:] == [["gone", "failed"], ["noise", "failed"]]
    assert sorted(path.name for path in out.iterdir()) == [".lock", "cache.json", "clips", "failures.csv"]
    assert len(list((out / "clips").iterdir())) == num_clips


def kill_and_check(manifest: Path, out: Path, num_clips: int, delay_s: float, *options: object) -> int:
    """Kill a run and all its processes after some clips and a moment; what is there is whole. How many are there."""
    with running(manifest, out, *options) as process:
        wait_for_clips(process, out, num_clips)
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for path in (out / "clips").glob("*.safetensors"):
        assert read_clip_file(path).face.crops[:].shape == (12, 64, 64, 3)
    if (out / "cache.json").exists():
        json.loads((out / "cache.json").read_text())
    return len(finished(out))


def test_a_killed_run_goes_on_where_it_was(manifest, tmp_path):
    delays = random.Random(0)
    before: dict[str, tuple[int, int]] = {}
    for num_clips in (1, 9, 20):
        there = kill_and_check(manifest, tmp_path, num_clips, delays.uniform(0, 0.02), "--workers", 1)
        assert before.items() <= finished(tmp_path).items()  # nothing was done twice
        before = finished(tmp_path)
        assert num_clips <= there < NUM_CLIPS
    report = resume(manifest, tmp_path)
    assert report.num_reused == len(before)
    assert before.items() <= finished(tmp_path).items()
    check_whole(manifest, tmp_path, report)


def test_a_run_of_several_processes_that_loses_one_misses_no_clip(manifest, tmp_path):
    with running(manifest, tmp_path, "--workers", 2) as process:
        wait_for_clips(process, tmp_path, 3)
        worker = next(pid for pid in children(process.pid) if "LokyProcess" in command_of(pid))
        os.kill(worker, signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1  # for the two faulty rows
    assert f"{NUM_CLIPS} of {NUM_CLIPS + 2} clips cached" in said
    check_whole(manifest, tmp_path, resume(manifest, tmp_path))


@pytest.mark.slow
def test_a_killed_parent_leaves_the_folder_free_and_its_workers_end(manifest, tmp_path):
    with running(manifest, tmp_path, "--workers", 2) as process:
        wait_for_clips(process, tmp_path, 3)
        workers = [pid for pid in children(process.pid) if "LokyProcess" in command_of(pid)]
        process.kill()
        process.wait()
        check_whole(manifest, tmp_path, resume(manifest, tmp_path))
        inodes = finished(tmp_path)
        assert resume(manifest, tmp_path).num_reused == NUM_CLIPS
        assert finished(tmp_path) == inodes
        assert len(workers) == 2


@pytest.mark.slow
def test_two_runs_at_once_into_one_folder_are_refused(manifest, tmp_path):
    with running(manifest, tmp_path, "--workers", 1) as process:
        wait_for_clips(process, tmp_path, 1)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(CacheError, match="another run is writing there; wait for its end, or give another folder"):
            resume(manifest, tmp_path)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == 1
    check_whole(manifest, tmp_path, resume(manifest, tmp_path))


def test_a_write_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path):
    """Hundreds of writes of one clip, killed at random moments."""
    delays, path = random.Random(0), tmp_path / "clips" / "x"
    path.parent.mkdir()
    seen, num_halves = set(), 0
    for attempt in range(40):
        child = os.fork()
        if not child:
            for i in range(1000):
                write_clip(path, Clip("x", 1.0, np.full(200_000, (1000 * attempt + i) / 32768, np.float32)))
            os._exit(0)
        time.sleep(delays.uniform(0.01, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        num_halves += len(list(path.parent.glob(".*tmp*")))
        if path.exists():
            waveform = read_clip_file(path).waveform
            assert len(waveform) == 200_000
            assert len(set(waveform)) == 1
            seen.add(waveform[0])
        for leftover in path.parent.glob(".*tmp*"):
            leftover.unlink()
    assert len(seen) > 5
    assert num_halves > 0  # some were hit while they wrote


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kills_at_many_moments(manifest, tmp_path, workers):
    delays = random.Random(workers)
    for num_clips in (0, 1, 2, 5, 11, 17, 26, 33):
        before = finished(tmp_path)
        kill_and_check(manifest, tmp_path, num_clips, delays.uniform(0, 0.05), "--workers", workers)
        assert before.items() <= finished(tmp_path).items()
    before = finished(tmp_path)
    report = resume(manifest, tmp_path)
    assert report.num_reused == len(before)
    check_whole(manifest, tmp_path, report)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process in /proc")
    return [int(child) for child in listed.read_text().split()]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
