"""The folder of a cache while a run writes to it: one run at a time, and nothing left over of runs that were killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from avser.errors import CacheError

try:
    import fcntl
except ImportError:  # not on Windows; there two runs at once waste work, but every file still appears whole
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
STALE_S = 600.0  # without a lock: a temporary file this old was left by a run that was killed


def clip_path(folder: Path, clip_id: str) -> Path:
    """Where the cache keeps a clip."""
    return folder / "clips" / f"{clip_id}.safetensors"


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make the folder where it is not there, and keep it for one run; half-written files go before and after.

    The system itself lets go of the lock when the process ends, however that happens.

    Raises:
        CacheError: another run is writing there, or nothing can be written there.
    """
    try:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise CacheError(f"{folder}: cannot be written ({error}); give another folder") from error
    with lock:
        locked = _lock(lock, folder)
        _remove_leftovers(folder, locked)
        try:
            yield
        finally:
            _remove_leftovers(folder, locked)


def _lock(file: IO[str], folder: Path) -> bool:
    """Whether the folder is ours alone; False on a file system without locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CacheError(f"{folder}: another run is writing there; wait for its end, or give another folder") from error
    except OSError:
        return False
    return True


def _remove_leftovers(folder: Path, locked: bool) -> None:
    """A temporary file, ours or that of safetensors, has no reader; its writer may be alive only without a lock."""
    for leftover in [*folder.glob(".*tmp*"), *(folder / "clips").glob(".*tmp*")]:
        with contextlib.suppress(OSError):
            if locked or time.time() - leftover.stat().st_mtime > STALE_S:
                leftover.unlink()
