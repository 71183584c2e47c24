"""Run a function over many items in several processes, and survive an item that takes its process down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = Callable[[list[Item]], list[Result]]


def map_chunks(
    function: Function[Item, Result],
    items: Sequence[Item],
    *,
    workers: int,
    chunk_size: int,
    on_crash: Callable[[Item], Result],
) -> Iterator[Result]:
    """Yield one result an item, as they come.

    Args:
        function: takes a chunk of items and returns as many results; what is dear to set up is set up once a chunk.
        workers: processes; 1 runs everything in this one (easy to debug, but a native crash then ends it).
        on_crash: the result of an item during which a worker died, e.g. by a decoder's segmentation fault.
    """
    chunks = [list(items[i : i + chunk_size]) for i in range(0, len(items), chunk_size)]
    if workers == 1:
        for chunk in chunks:
            yield from function(chunk)
        return
    pending = dict(enumerate(chunks))
    while pending:
        try:
            for number, results in _parallel(function, pending, workers):
                del pending[number]
                yield from results
        except TerminatedWorkerError:
            # It says that a worker died, not over which chunk; those under way are the first of the unfinished ones.
            for number in list(pending)[: 2 * workers]:
                for item in pending.pop(number):
                    yield _alone(function, item, on_crash)


def _parallel(
    function: Function[Item, Result], chunks: dict[int, list[Item]], workers: int
) -> Iterator[tuple[int, list[Result]]]:
    pool = Parallel(workers, return_as="generator_unordered", pre_dispatch=2 * workers, batch_size=1, max_nbytes=None)
    return pool(delayed(_numbered)(function, number, chunk) for number, chunk in list(chunks.items()))  # type: ignore


def _numbered(function: Function[Item, Result], number: int, chunk: list[Item]) -> tuple[int, list[Result]]:
    return number, function(chunk)


def _alone(function: Function[Item, Result], item: Item, on_crash: Callable[[Item], Result]) -> Result:
    try:
        # Two workers for one item: joblib would run a single worker inside this process.
        (_, (result,)) = next(_parallel(function, {0: [item]}, 2))
        return result
    except TerminatedWorkerError:
        return on_crash(item)
