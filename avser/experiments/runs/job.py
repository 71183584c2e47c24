"""One job of a grid of runs: where it works, with how many threads, and the log file of what it printed."""

from __future__ import annotations

import faulthandler
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import torch

from avser.errors import AvserError

LOG_FILE = "log.txt"
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def job_threads(num_threads: int | None) -> Iterator[None]:
    """Torch with so many threads, and as before afterwards; None: as many as there are.

    Sums are added up in another order by another number of threads, so runs are the same to the last bit only where
    this number is the same.
    """
    before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def enter_folder(folder: Path) -> None:
    """Work where the grid was started, so that relative paths mean what they mean there.

    Raises:
        AvserError: this machine has no such folder.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise AvserError(
            f"{platform.node()} has no folder {folder} ({error.strerror}): every machine of the cluster needs the "
            "folder in which the command was started, at the same path"
        ) from error


@contextmanager
def job_log(path: Path, title: str, *, echo: bool) -> Iterator[None]:
    """What is printed goes to the end of a file, below a line with title, time, machine and process; errors too.

    Args:
        echo: to the terminal too. Without it, a crash of the process leaves its traceback in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        now, begun = time.strftime("%Y-%m-%d %H:%M:%S%z"), time.perf_counter()
        file.write(f"--- {title}, {now}, {platform.node()}, process {os.getpid()}\n")
        to_out, to_err = (_Tee(file, stream if echo else None) for stream in (sys.stdout, sys.stderr))
        if not echo:
            faulthandler.enable(file)
        try:
            with redirect_stdout(to_out), redirect_stderr(to_err):
                yield
            file.write(f"done in {time.perf_counter() - begun:.1f} s\n")
        except Exception:
            traceback.print_exc(file=file)
            raise
        finally:
            if not echo:
                faulthandler.disable()


class _Tee:
    """A stream into a file, without a terminal's codes, and to a terminal where one is given."""

    def __init__(self, file: TextIO, terminal: TextIO | None) -> None:
        self.file, self.terminal = file, terminal

    def write(self, text: str) -> int:
        self.file.write(TERMINAL_CODES.sub("", text))
        if self.terminal is not None:
            self.terminal.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in filter(None, (self.file, self.terminal)):
            stream.flush()

    def isatty(self) -> bool:
        """False, so that progress comes as lines, which a file can hold."""
        return False
