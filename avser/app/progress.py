"""Runs work in a thread of its own and tells, step by step, how far it is; someone who leaves ends it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

STEPS = {
    "read": "Decode voice and picture",
    "faces": "Find the face",
    "ask": "Ask the models",
    "report": "Draw the report",
}


class GoneAwayError(Exception):
    """Nobody waits for the answer any more, or it has taken too long."""


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        step: a key of `STEPS`.
        share: of this step, 0 to 1; None where that is not known.
        note: a few words.
    """

    step: str
    share: float | None = None
    note: str = ""


Tell = Callable[[Progress], None]


def follow(work: Callable[[Tell], Any]) -> Iterator[Progress | Any]:
    """Yield what `work` tells, the newest where it tells more than is asked for, and last what it returns.

    Whoever stops asking makes the next `tell` raise GoneAwayError inside `work`, which so comes to an end. Errors of
    `work` are raised here.
    """
    told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    left = threading.Event()

    def tell(progress: Progress) -> None:
        if left.is_set():
            raise GoneAwayError
        told.put(("progress", progress))

    def run() -> None:
        try:
            told.put(("result", work(tell)))
        except BaseException as error:  # handed over to whoever asks
            told.put(("error", error))

    threading.Thread(target=run, daemon=True, name="avser-answer").start()
    try:
        while True:
            kind, value = told.get()
            while kind == "progress" and not told.empty():
                kind, value = told.get()
            if kind == "error":
                raise value
            yield value
            if kind == "result":
                return
    finally:
        left.set()
