"""Reads an iterator ahead in a thread of its own, so that decoding, faces and the model work side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")

POLL_S = 0.1  # how soon a producer notices that nobody reads any more
END = object()


def read_ahead(items: Iterable[Item], depth: int) -> Generator[Item]:
    """The same items in the same order, made at most `depth` ahead of what is taken.

    What the iterator raises is raised here, after the items before it. Decoders, detectors and networks let other
    threads run while they work, so a chain of these keeps several cores busy. Closing it (or an error of the reader)
    ends the thread and closes `items` in it.
    """
    queue: Queue[Any] = Queue(depth)
    stopped = Event()

    def put(entry: Any) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=POLL_S)
                return True
            except Full:
                continue
        return False

    def produce() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put((item, None)):
                    return
            put((END, None))
        except BaseException as error:  # handed over, whatever it is: the reader decides
            put((END, error))
        finally:
            if stopped.is_set() and hasattr(source, "close"):
                source.close()

    thread = Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stopped.set()
        with suppress(Empty):
            queue.get_nowait()
        thread.join()
