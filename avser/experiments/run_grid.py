"""Many runs, each trained once: finished ones are kept, unfinished ones go on, and one that fails stops no other."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from avser.config import Config, config_differences, load_config
from avser.data.parallel import map_chunks
from avser.errors import AvserError, CheckpointError
from avser.training.checkpoint import MODEL_FILE, STATE_FILE, load_trained, read_progress, write_json
from avser.training.fit import CONSOLE
from avser.training.run import train
from avser.training.run_data import load_data

TIMING_FILE = "timing.json"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class RunTiming:
    """How long a run took and how fast its model answers; None: not measured.

    Attributes:
        seconds: wall time of the training call: reading, validation and the test included.
        num_epochs: trained in all, over every stage.
        num_timed_epochs: those within `seconds`; fewer where the run was interrupted and went on.
        training_clips_per_s: training clips times timed epochs, over `seconds`.
        inference_clips_per_s: forward passes alone over the test split, in batches of 32 that are loaded already.
        num_threads: of torch, in this process.
        num_jobs: runs that were trained side by side, and slowed each other down.
    """

    seconds: float | None
    num_epochs: int
    num_timed_epochs: int
    training_clips_per_s: float | None
    inference_clips_per_s: float | None
    num_parameters: int
    num_threads: int
    num_jobs: int
    device: str
    machine: str


@dataclass(frozen=True)
class Outcome:
    """What became of one run: `reason` says why it failed, and is empty where it did not."""

    number: int
    trained: bool
    reason: str = ""


def run_grid(configs: Sequence[Config], *, jobs: int = 1) -> list[Outcome]:
    """Have every run finished, `jobs` processes side by side; a line on stderr as each is done.

    Each process gets its share of the cores as threads, unless OMP_NUM_THREADS says otherwise.

    Returns:
        one outcome a configuration, in their order.
    """
    outcomes: dict[int, Outcome] = {}
    work = map_chunks(
        partial(_finish_runs, num_jobs=jobs),
        list(enumerate(configs)),
        workers=jobs,
        chunk_size=1,
        on_crash=lambda item: Outcome(item[0], False, "its process died; was there enough memory?"),
    )
    for outcome in work:
        outcomes[outcome.number] = outcome
        words = f"FAILED: {outcome.reason}" if outcome.reason else "trained" if outcome.trained else "was finished"
        name = configs[outcome.number].name
        CONSOLE.print(
            f"[{len(outcomes)}/{len(configs)}] {name}: {words}", markup=False, highlight=False, soft_wrap=True
        )
    return [outcomes[number] for number in range(len(configs))]


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
            write_json(folder / TIMING_FILE, asdict(_time_run(config, num_jobs, None, 0)))
        return False
    num_epochs_before, begun = count_epochs(folder), time.perf_counter()
    train(config, resume=True)
    seconds = time.perf_counter() - begun
    write_json(folder / TIMING_FILE, asdict(_time_run(config, num_jobs, seconds, num_epochs_before)))
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
    others = {key: pair for key, pair in found.items() if key not in ("name", "runs") and not key.startswith("roi.")}
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


def _finish_runs(items: list[tuple[int, Config]], *, num_jobs: int) -> list[Outcome]:
    if num_jobs > 1:
        CONSOLE.quiet = True  # progress bars of several processes would write over each other
    return list(_outcomes(items, num_jobs))


def _outcomes(items: list[tuple[int, Config]], num_jobs: int) -> Iterator[Outcome]:
    for number, config in items:
        try:
            yield Outcome(number, finish_run(config, num_jobs=num_jobs))
        except AvserError as error:
            yield Outcome(number, False, str(error))
        except Exception as error:  # a fault in one system is no reason to lose the others
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
            yield Outcome(number, False, words)


def _time_run(config: Config, num_jobs: int, seconds: float | None, num_epochs_before: int) -> RunTiming:
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
    num_epochs = count_epochs(folder)
    num_timed = num_epochs - num_epochs_before if seconds else 0
    return RunTiming(
        seconds=seconds,
        num_epochs=num_epochs,
        num_timed_epochs=num_timed,
        training_clips_per_s=len(data.parts["train"]) * num_timed / seconds if seconds and num_timed else None,
        inference_clips_per_s=num_clips / total_s,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_threads=torch.get_num_threads(),
        num_jobs=num_jobs,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        machine=_machine(),
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


def _machine() -> str:
    """The processor and how many cores of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
