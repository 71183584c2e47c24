"""Runs a function over many items, in processes or on a Ray cluster, and survives an item that kills its process.

A process dies where a decoder meets a file that it cannot stand, or where memory runs out. The item during which that
happens is named; the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from avser.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = Callable[[list[Item]], list[Result]]
OnCrash = Callable[[Item], Result]

BACKENDS = ("local", "ray")
RAY_CLIENT = "ray://"


def map_chunks(
    function: Function[Item, Result],
    items: Sequence[Item],
    *,
    workers: int,
    chunk_size: int,
    on_crash: OnCrash[Item, Result],
    backend: str = "local",
    num_cpus: int = 1,
    use_gpus: bool = False,
) -> Iterator[Result]:
    """Yield one result an item, as they come.

    Args:
        function: takes a chunk of items and returns as many results; what is dear to set up is set up once a chunk.
        workers: processes at work at once. With "local", 1 runs everything in this process (easy to debug, but a
            native crash then ends it).
        on_crash: the result of an item during which a worker died, e.g. by a decoder's segmentation fault.
        backend: "local": processes of this machine. "ray": tasks on the cluster that $RAY_ADDRESS names, or on a local
            one, started for the purpose, where it is unset; every node needs avser and the same paths.
            "ray://HOST:PORT": tasks on the cluster there.
        num_cpus: that Ray keeps for each chunk.
        use_gpus: Ray gives each chunk a GPU of the cluster, or a share of one where there are fewer than workers.

    Raises:
        ConfigError: unknown backend; Ray is not installed, or its cluster cannot be reached.
    """
    chunks = [list(items[i : i + chunk_size]) for i in range(0, len(items), chunk_size)]
    if backend not in BACKENDS and not backend.startswith(RAY_CLIENT):
        raise ConfigError(f"backend={backend!r}: allowed are {', '.join(BACKENDS)} and {RAY_CLIENT}HOST:PORT")
    if backend != "local":
        address = backend if backend.startswith(RAY_CLIENT) else ""
        return _on_ray(_import_ray(), function, chunks, workers, on_crash, address, num_cpus, use_gpus)
    return _in_this_process(function, chunks) if workers == 1 else _in_processes(function, chunks, workers, on_crash)


# --- this machine ------------------------------------------------------------------------------------------------


def _in_this_process(function: Function[Item, Result], chunks: list[list[Item]]) -> Iterator[Result]:
    for chunk in chunks:
        yield from function(chunk)


def _in_processes(
    function: Function[Item, Result], chunks: list[list[Item]], workers: int, on_crash: OnCrash[Item, Result]
) -> Iterator[Result]:
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
    tasks = (delayed(_numbered)(function, number, chunk, os.getpid()) for number, chunk in list(chunks.items()))
    return pool(tasks)  # type: ignore[return-value]


def _numbered(
    function: Function[Item, Result], number: int, chunk: list[Item], parent: int
) -> tuple[int, list[Result]]:
    if os.getppid() != parent:  # it was killed: nobody waits for the result any more
        os._exit(1)
    return number, function(chunk)


def _alone(function: Function[Item, Result], item: Item, on_crash: OnCrash[Item, Result]) -> Result:
    try:
        # Two workers for one item: joblib would run a single worker inside this process.
        [(_, [result])] = list(_parallel(function, {0: [item]}, 2))
        return result
    except TerminatedWorkerError:
        return on_crash(item)


# --- Ray ---------------------------------------------------------------------------------------------------------


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"backend=ray needs Ray ({error}); install it with: pip install 'avser[cluster]', or take backend=local"
        ) from error
    return ray


def _on_ray(
    ray: Any,
    function: Function[Item, Result],
    chunks: list[list[Item]],
    workers: int,
    on_crash: OnCrash[Item, Result],
    address: str,
    num_cpus: int,
    use_gpus: bool,
) -> Iterator[Result]:
    """Plain tasks rather than joblib's Ray backend: that one gives no result before the last, and loses all of them
    to one crash; here each result comes when it is ready, and a crash names its own chunk."""
    started = _connect(ray, address or _address())
    try:
        num_gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / max(1, min(workers, len(chunks))))
        task = ray.remote(max_retries=0, num_cpus=num_cpus, num_gpus=num_gpus if use_gpus else 0)(_apply)
        waiting, running = chunks[::-1], dict[Any, list[Item]]()
        while waiting or running:
            while waiting and len(running) < workers:
                chunk = waiting.pop()
                running[task.remote(function, chunk)] = chunk
            (ready,), _ = ray.wait(list(running), num_returns=1)
            chunk = running.pop(ready)
            try:
                yield from ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # what the function itself raised
            except ray.exceptions.RayError:  # its worker or its node died, or memory ran out there
                if len(chunk) == 1:
                    yield on_crash(chunk[0])
                else:
                    waiting += [[item] for item in reversed(chunk)]
    finally:
        if started:
            ray.shutdown()


def _apply(function: Function[Item, Result], chunk: list[Item]) -> list[Result]:
    """Ray takes functions alone; this one calls whatever can be called."""
    return function(chunk)


def _connect(ray: Any, address: str) -> bool:
    """Whether Ray was started or joined here; without an address a local one is started."""
    if ray.is_initialized():
        return False
    settings: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        named = f"RAY_ADDRESS={address}" if address == _address() else address
        where = f"the cluster at {named}" if address else "a local cluster"
        # Newer clusters ask for a token by themselves; clients send theirs only if told to, and time out without one.
        token = ", give its token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, as `ray get-auth-token` prints it there)"
        raise ConfigError(
            f"backend=ray: {where} cannot be used ({error}); start it{token if address else ''}, or take backend=local"
        ) from error
    return True


def _address() -> str:
    return os.environ.get("RAY_ADDRESS", "")
