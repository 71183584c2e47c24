"""What the machine has left: memory, disk and cores, as far as a container grants them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from avser.doctor.finding import OK, WARNING, Finding

GIB = 2**30
LEAST_MEMORY_BYTES, LEAST_DISK_BYTES = 4 * GIB, 5 * GIB  # our choice: training the smallest corpus, and its cache
# Of the second version of control groups, and of the first: what may be used, and what is.
CGROUP_MEMORY = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def check_memory() -> list[Finding]:
    free = _free_memory_bytes()
    if free is None:
        return [Finding("memory", OK, "this system does not tell how much is free")]
    found = f"{free / GIB:.1f} GiB free"
    if free < LEAST_MEMORY_BYTES:
        mend = "training may need more: training.keep_in_memory=false, a smaller training.batch_size, fewer --workers"
        return [Finding("memory", WARNING, found, mend)]
    return [Finding("memory", OK, found)]


def check_disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    if free < LEAST_DISK_BYTES:
        return [Finding("disk", WARNING, found, "a cache of a corpus takes some GiB: work on another disk")]
    return [Finding("disk", OK, found)]


def describe_threads(num_threads: int) -> Finding:
    cores = _num_cores()
    found = f"{cores:g} cores to use, {num_threads} threads of torch"
    if num_threads > max(1, cores):
        most = max(1, int(cores))
        mend = f"threads that wait for each other are slow: export OMP_NUM_THREADS={most}"
        return Finding("threads", WARNING, found, mend)
    return Finding("threads", OK, found)


def _free_memory_bytes() -> int | None:
    """What the system, and the group of processes that this one is in, have left."""
    limits = []
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(1024 * int(line.split()[1]))
    for limit, used in CGROUP_MEMORY:
        most, now = _read(f"/sys/fs/cgroup/{limit}").strip(), _read(f"/sys/fs/cgroup/{used}").strip()
        if most.isdecimal() and now.isdecimal():
            limits.append(int(most) - int(now))
    return max(0, min(limits)) if limits else None


def _num_cores() -> float:
    """Cores that this process may use; containers may grant a share of their time alone."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if not quota:
        quota = [_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(quota) == 2 and all(number.isdecimal() for number in quota):
        cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
