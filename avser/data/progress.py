"""Shows how far a long loop over clips is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Result = TypeVar("Result")

LOG_EVERY_S = 30.0  # between two lines of a log


def with_progress(
    results: Iterable[Result],
    total: int,
    *,
    verb: str,
    shown: bool = True,
    has_failed: Callable[[Result], bool] = lambda result: False,
) -> Iterator[Result]:
    """Pass results on as they come, and show on stderr how many there are, how fast they come and what time is left.

    Args:
        total: results to come; the rate and the time left are of these alone.
        verb: what is done, e.g. "caching".
        has_failed: whether a result is counted as failed.
    """
    console = Console(stderr=True, soft_wrap=True)
    if not shown or not total:
        yield from results
    elif console.is_terminal:
        yield from _with_bar(results, total, verb, has_failed, console)
    else:
        yield from _with_lines(results, total, verb, has_failed, console)


def _with_bar(
    results: Iterable[Result], total: int, verb: str, has_failed: Callable[[Result], bool], console: Console
) -> Iterator[Result]:
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[about]}"))
    started, num_failed = time.monotonic(), 0
    with Progress(*columns, TimeRemainingColumn(), TextColumn("left"), console=console) as bar:
        task = bar.add_task(verb, total=total, about="")
        for num_done, result in enumerate(results, 1):
            num_failed += has_failed(result)
            bar.update(task, completed=num_done, about=_about(num_done, num_failed, time.monotonic() - started))
            yield result


def _with_lines(
    results: Iterable[Result], total: int, verb: str, has_failed: Callable[[Result], bool], console: Console
) -> Iterator[Result]:
    started, num_failed = time.monotonic(), 0
    told = started
    for num_done, result in enumerate(results, 1):
        num_failed += has_failed(result)
        now = time.monotonic()
        if now - told >= LOG_EVERY_S or num_done == total:
            told = now
            left_s = (now - started) * (total - num_done) / num_done
            line = f"{verb} {num_done}/{total}, {_about(num_done, num_failed, now - started)}, {_duration(left_s)} left"
            console.print(line, markup=False, highlight=False)
        yield result


def _about(num_done: int, num_failed: int, elapsed_s: float) -> str:
    failed = f"{num_failed} failed, " if num_failed else ""
    rate = num_done / max(elapsed_s, 1e-3)
    return f"{failed}{rate:.1f} clips/s" if rate >= 1 else f"{failed}{1 / rate:.1f} s/clip"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, as the bar writes them."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
