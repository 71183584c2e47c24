"""Many runs, each trained once: finished ones are kept, unfinished ones go on, and one that fails stops no other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from avser.config import Config, config_differences, load_config
from avser.data.parallel import map_chunks
from avser.errors import AvserError, CheckpointError
from avser.experiments.runs.job import LOG_FILE, enter_folder, job_log, job_threads
from avser.training.checkpoint import MODEL_FILE, STATE_FILE, load_trained, read_progress, write_json
from avser.training.fit import CONSOLE
from avser.training.record import note_machine, read_record
from avser.training.run import train
from avser.training.run_data import load_data

TIMING_FILE = "timing.json"
METRICS_FILE = "metrics.json"

Finish = Callable[..., bool]  # (config, *, num_jobs) -> was there anything to do?


@dataclass(frozen=True)
class RunTiming:
    """How fast a run learned and its model answers; None: not measured. On what machine tells `record.json`.

    Attributes:
        num_epochs: trained in all, over every stage.
        training_clips_per_s: training clips times epochs over the wall time, reading, validation and the test included.
        inference_clips_per_s: forward passes alone over the test split, in batches of 32 that are loaded already.
        num_jobs: runs that were trained side by side, and slowed each other down.
    """

    num_epochs: int
    training_clips_per_s: float | None
    inference_clips_per_s: float | None
    num_parameters: int
    num_jobs: int


@dataclass(frozen=True)
class Outcome:
    """What became of one run: `reason` says why it failed, and is empty where it did not.

    Attributes:
        trained: there was something to do.
        died: its process came to an end before the run did.
    """

    number: int
    trained: bool
    reason: str = ""
    died: bool = False


@dataclass(frozen=True)
class Work:
    """How a process is to finish runs: see `run_grid`."""

    finish: Finish
    num_jobs: int
    threads: int | None
    folder: Path | None  # where to work; None: in the process that runs the grid


def run_grid(
    configs: Sequence[Config],
    *,
    jobs: int | None = 1,
    cluster: str = "local",
    retries: int = 1,
    threads: int | None = None,
    finish: Finish | None = None,
) -> list[Outcome]:
    """Have every run finished, `jobs` side by side; a line on stderr as each is done.

    What a run prints goes to log.txt in its folder. Where a process dies (memory, a fault in a library, a machine that
    goes), its run is tried again, and goes on from its last epoch; an error that avser raises would only come again.

    Args:
        jobs: with "local" 1 trains in this process. None: 1 locally; on a cluster all at once, as many as have room.
        cluster: "local", "ray" or "ray://HOST:PORT", see `avser.data.parallel.map_chunks`.
        retries: how often a run is tried again whose process died. Locally nobody can tell which of several runs
            brought their processes down, so each of them is tried alone once more in any case.
        threads: of torch in each run; None: its share of the cores, unless OMP_NUM_THREADS says otherwise. With the
            same number, runs are the same to the last bit wherever and beside how many others they are trained.
        finish: what is to be done for a configuration; by default `finish_run`.

    Returns:
        one outcome a configuration, in their order.
    """
    is_local = cluster == "local"
    num_jobs = jobs or (1 if is_local else max(1, len(configs)))
    here = is_local and num_jobs == 1
    work = Work(finish or finish_run, num_jobs, threads, None if here else Path.cwd())
    outcomes: dict[int, Outcome] = {}
    waiting, rounds = list(enumerate(configs)), max(1, retries if is_local else retries + 1)
    for again in reversed(range(rounds)):
        results = map_chunks(
            partial(_finish_runs, work=work),
            waiting,
            workers=num_jobs,
            chunk_size=1,
            on_crash=_died,
            backend=cluster,
            num_cpus=threads or 1,
            use_gpus=True,
        )
        waiting = []
        for outcome in results:
            if outcome.died and again:
                waiting.append((outcome.number, configs[outcome.number]))
                words = "its process died; it is tried again"
            else:
                outcomes[outcome.number] = outcome
                words = "trained" if outcome.trained else "was finished"
            _tell(len(outcomes), configs, outcome, words)
    return [outcomes[number] for number in range(len(configs))]


def _tell(num_done: int, configs: Sequence[Config], outcome: Outcome, words: str) -> None:
    if outcome.reason and not words.endswith("again"):
        words = f"FAILED: {outcome.reason}"
    line = f"[{num_done}/{len(configs)}] {configs[outcome.number].name}: {words}"
    CONSOLE.print(line, markup=False, highlight=False, soft_wrap=True)


def _died(item: tuple[int, Config]) -> Outcome:
    log = run_folder(item[1]) / LOG_FILE
    return Outcome(
        item[0], False, f"its process died; was there enough memory? ({log} says how far it came)", died=True
    )


def finish_run(config: Config, *, num_jobs: int = 1) -> bool:
    """Train a run, or go on with it, unless it is finished; whether there was anything to train.

    Raises:
        CheckpointError: a run of other settings is there.
        AvserError: whatever stands against training.
    """
    folder = run_folder(config)
    check_same_settings(folder, config)
    if is_finished(folder):
        if not (folder / TIMING_FILE).is_file():
            write_json(folder / TIMING_FILE, asdict(_time_run(config, num_jobs)))
        return False
    train(config, resume=True)
    write_json(folder / TIMING_FILE, asdict(_time_run(config, num_jobs)))
    return True


def run_folder(config: Config) -> Path:
    return Path(config.runs) / config.name


def is_finished(folder: Path) -> bool:
    return (folder / METRICS_FILE).is_file()


def check_same_settings(folder: Path, config: Config) -> None:
    """Refuse a folder that holds a run of another configuration; its name and how regions are read may differ.

    Raises:
        CheckpointError: names every setting that differs.
    """
    if not (folder / "config.yaml").is_file():
        return
    found = config_differences(load_config([folder / "config.yaml"]), config)
    free = ("name", "runs", "training.trackers")
    others = {key: pair for key, pair in found.items() if key not in free and not key.startswith("roi.")}
    if others:
        words = "; ".join(f"{key} is {theirs} there, {wanted} asked for" for key, (theirs, wanted) in others.items())
        raise CheckpointError(
            f"{folder}: was trained with other settings: {words}. Ask for the same ones, name the new one otherwise "
            "(name=..., or a variant), or remove this one (--overwrite)"
        )


def count_epochs(folder: Path) -> int:
    """Epochs that a run has behind it, over every stage; 0 where it has no state."""
    if not (folder / STATE_FILE).is_file():
        return 0
    return len(read_progress(folder / STATE_FILE).history)


# --- one process -------------------------------------------------------------------------------------------------


def _finish_runs(items: list[tuple[int, Config]], *, work: Work) -> list[Outcome]:
    with job_threads(work.threads):
        return list(_outcomes(items, work))


def _outcomes(items: list[tuple[int, Config]], work: Work) -> Iterator[Outcome]:
    for number, config in items:
        try:
            if work.folder:
                enter_folder(work.folder)
            yield Outcome(number, _finish_logged(config, work))
        except AvserError as error:
            yield Outcome(number, False, str(error))
        except Exception as error:  # a fault in one system is no reason to lose the others
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
            yield Outcome(number, False, words)


def _finish_logged(config: Config, work: Work) -> bool:
    folder = run_folder(config)
    if is_finished(folder):
        return work.finish(config, num_jobs=work.num_jobs)  # next to nothing, and nothing to be told of it
    with job_log(folder / LOG_FILE, config.name, echo=work.folder is None):
        return work.finish(config, num_jobs=work.num_jobs)


def _time_run(config: Config, num_jobs: int) -> RunTiming:
    folder = run_folder(config)
    model, _, _ = load_trained(folder / MODEL_FILE)
    data, device = load_data(config), Accelerator().device
    model.to(device)
    total_s, num_clips = 0.0, 0
    for number, batch in enumerate(data.batches("test", config.training)):
        batch = batch.to(device)
        if number == 0:
            _forward_s(model, batch, device)  # the first pass also pays for what libraries set up
        total_s, num_clips = total_s + _forward_s(model, batch, device), num_clips + len(batch)
    record = read_record(folder) or note_machine(folder, device)
    return RunTiming(
        num_epochs=count_epochs(folder),
        training_clips_per_s=len(data.parts["train"]) * record.num_epochs / record.seconds if record.seconds else None,
        inference_clips_per_s=num_clips / total_s,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_jobs=num_jobs,
    )


@torch.no_grad()
def _forward_s(model: torch.nn.Module, batch: object, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    model(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun
