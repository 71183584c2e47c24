"""Shows how far a long recording, and a row of them, is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 30.0  # between two lines of a log

Begin = Callable[[int, int, str], Callable[[float, "float | None"], None]]


@contextmanager
def shown_progress() -> Iterator[Begin]:
    """A function for the `begin` of `avser.recordings.files.answer_files`, which shows on stderr how far it is."""
    console = Console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        yield _log_lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[about]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, about="")

        def begin(index: int, total: int, name: str) -> Callable[[float, float | None], None]:
            started = time.monotonic()
            about = f"{index + 1} of {total}" if total > 1 else ""
            bar.reset(task, description=escape(name), total=None, about=about)

            def tell(done_s: float, of_s: float | None) -> None:
                bar.update(task, completed=done_s, total=of_s, about=f"{about}  {_speed(done_s, started)}")

            return tell

        yield begin


def _log_lines(console: Console) -> Begin:
    told = time.monotonic()

    def begin(index: int, total: int, name: str) -> Callable[[float, float | None], None]:
        started = time.monotonic()

        def tell(done_s: float, of_s: float | None) -> None:
            nonlocal told
            if time.monotonic() - told >= LOG_EVERY_S:
                told = time.monotonic()
                of = f" of {of_s:.0f}" if of_s else ""
                line = f"{index + 1} of {total}, {name}: {done_s:.0f}{of} s, {_speed(done_s, started)}"
                console.print(line, markup=False, highlight=False)

        return tell

    return begin


def _speed(done_s: float, started: float) -> str:
    return f"{done_s / max(time.monotonic() - started, 1e-3):.1f} times as fast as it plays"
