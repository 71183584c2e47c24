"""The record of a run: from which commit it was trained, on what machine, and what time and memory that took."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from avser.training.checkpoint import write_json

RECORD_FILE = "record.json"
GIT_TIMEOUT_S = 10
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class RunRecord:
    """What `record.json` holds; times and peaks cover every start of the run, without epochs that were cut short.

    Attributes:
        seconds: wall time, reading, validation and the test included; None: not measured.
        num_epochs: trained within them, over every stage.
        num_starts: 1, and one more each time that the run went on.
        peak_memory_bytes: resident in the main process, the workers of its loader excluded.
        peak_device_memory_bytes: allocated on the GPU; None without one.
        device: "cpu", or the GPU's name.
        num_threads: of torch, in one process.
        machine: the processor and how many cores of it there are.
        git: commit that avser's code was checked out from, and whether files were changed since; None: no checkout.
    """

    seconds: float | None
    num_epochs: int
    num_starts: int
    peak_memory_bytes: int
    peak_device_memory_bytes: int | None
    device: str
    num_processes: int
    num_threads: int
    machine: str
    memory_bytes: int | None
    git: dict[str, Any] | None


@dataclass
class Stopwatch:
    """Measures a run from here on, and adds to what an earlier start has measured.

    Args:
        earlier: of the same run, see `read_record`; None where it begins.
    """

    device: torch.device
    num_processes: int = 1
    earlier: RunRecord | None = None
    num_epochs: int = 0
    git: dict[str, Any] | None = field(default_factory=lambda: find_commit())
    begun: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        forget_peak()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def note_epoch(self, folder: Path) -> None:
        """Write the record after an epoch, so that a kill loses no more than the one after it."""
        self.num_epochs += 1
        self.write(folder)

    def write(self, folder: Path) -> None:
        write_json(folder / RECORD_FILE, vars(self.record()))

    def record(self) -> RunRecord:
        """The run so far."""
        is_cuda, before = self.device.type == "cuda", self.earlier
        seconds, peak = time.perf_counter() - self.begun, peak_memory_bytes()
        device_peak = torch.cuda.max_memory_allocated(self.device) if is_cuda else None
        if before is not None:
            seconds, peak = seconds + (before.seconds or 0), max(peak, before.peak_memory_bytes)
            device_peak = max(device_peak or 0, before.peak_device_memory_bytes or 0) or None
        return RunRecord(
            seconds=seconds,
            num_epochs=self.num_epochs + (before.num_epochs if before else 0),
            num_starts=1 + (before.num_starts if before else 0),
            peak_memory_bytes=peak,
            peak_device_memory_bytes=device_peak,
            device=torch.cuda.get_device_name(self.device) if is_cuda else self.device.type,
            num_processes=self.num_processes,
            num_threads=torch.get_num_threads(),
            machine=describe_processor(),
            memory_bytes=_memory_bytes(),
            git=self.git,
        )


def read_record(folder: Path) -> RunRecord | None:
    """The record of a run; None where there is none, or one of another version."""
    try:
        return RunRecord(**json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def note_machine(folder: Path, device: torch.device) -> RunRecord:
    """Record the machine beside a run that was trained before records were kept: what it took is not known."""
    record = replace(Stopwatch(device).record(), seconds=None, num_starts=0, git=None)
    write_json(folder / RECORD_FILE, vars(record))
    return record


def find_commit(folder: Path = CHECKOUT) -> dict[str, Any] | None:
    """{"commit": 40 digits, "dirty": bool} of the checkout whose root `folder` is; None if it is no such root."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "HEAD")
    if not top or not commit or Path(top).resolve() != folder.resolve():
        return None
    return {"commit": commit, "dirty": _git(folder, "status", "--porcelain", "--untracked-files=no") != ""}


def describe_processor() -> str:
    """The processor and how many cores of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def peak_memory_bytes() -> int:
    """The most memory that this process held at once, since `Stopwatch` began where the system can tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Several runs may follow each other in one process; Linux lets each have a peak of its own."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it is not installed or refuses."""
    # Variables that point git elsewhere, as hooks set them, are not for this folder.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
