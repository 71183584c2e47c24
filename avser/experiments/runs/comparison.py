"""Finished runs beside each other: what differs in their configurations, and paired tests on the clips that all tested.

A run folder may come from anywhere: it is read as text and numbers, nothing in it is executed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from avser.config import Config, config_differences, load_config
from avser.errors import CheckpointError, ConfigError
from avser.evaluation.multiple_tests import holm
from avser.evaluation.pooled import PairedScores, Pool, PooledScores, compare_pools, score_pool
from avser.experiments.runs.result import Answers, RunResult, pool_answers, read_run
from avser.experiments.unseen import read_split
from avser.training.checkpoint import MODEL_FILE
from avser.training.record import read_record

PLACES = ("name", "runs")  # where a run lies is no setting of it


@dataclass
class ComparedRun:
    """One run.

    Attributes:
        differences: setting -> its value here and in the reference, of those that differ.
        pool: answers to the compared clips.
        num_tested: clips of its test split, compared or not.
        num_parameters: None where only `num_stored` is known, which counts buffers too.
        difference: this run minus the reference; None for the reference itself.
        uar_p, wa_p: of `difference`, after Holm over all runs.
    """

    folder: Path
    config: Config
    result: RunResult
    fingerprint: str
    pool: Pool
    num_tested: int
    scores: PooledScores
    differences: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    num_parameters: int | None = None
    num_stored: int | None = None
    seconds: float | None = None
    peak_memory_bytes: float | None = None
    difference: PairedScores | None = None
    uar_p: float | None = None
    wa_p: float | None = None


@dataclass
class RunComparison:
    """Runs in the order given; `notes` say what limits the comparison."""

    runs: list[ComparedRun]
    reference: ComparedRun
    emotions: list[str]
    num_clips: int
    notes: list[str] = field(default_factory=list)


def compare_runs(folders: Sequence[Path], *, reference: Path | None = None, common: bool = False) -> RunComparison:
    """Score runs on the same test clips, and test each against the reference.

    Args:
        reference: one of `folders`; by default the first.
        common: compare on the clips that all have tested, where the runs differ in their test clips.

    Raises:
        ConfigError: a run is given twice, the reference is none of them, or the test clips differ and `common` is not
            asked for.
        CheckpointError: a run is not finished or damaged, or emotions or labels do not fit those of the reference.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise ConfigError("a run is given twice; name each once")
    if reference is not None and reference.resolve() not in places:
        raise ConfigError(f"--reference {reference}: is none of the runs; give it among them too")
    results = [read_run(folder, needs_timing=False) for folder in folders]
    origin = 0 if reference is None else places.index(reference.resolve())
    emotions = results[origin].metrics["emotions"]
    answers = [_in_order(run, emotions, folder) for run, folder in zip(results, folders, strict=True)]
    shared = _shared_clips(answers, origin, folders, common)
    _check_labels(answers, origin, folders, shared)
    runs = [
        _read_rest(folder, run, found, shared) for folder, run, found in zip(folders, results, answers, strict=True)
    ]
    comparison = RunComparison(runs, runs[origin], emotions, len(shared))
    for run in runs:
        found = config_differences(comparison.reference.config, run.config)
        run.differences = {key: (here, theirs) for key, (theirs, here) in found.items() if key not in PLACES}
    _test(comparison)
    comparison.notes = _notes(comparison)
    return comparison


# --- what is compared --------------------------------------------------------------------------------------------


def _in_order(run: RunResult, emotions: Sequence[str], folder: Path) -> Answers:
    """A run's answers to its test clips, with labels numbered in the order of `emotions`."""
    own = run.metrics["emotions"]
    if sorted(own) != sorted(emotions):
        raise CheckpointError(
            f"{folder}: knows {', '.join(own)}; the reference {', '.join(emotions)}. Only runs of one label set can be "
            "compared"
        )
    place = np.array([list(emotions).index(emotion) for emotion in own])
    found = run.test
    probabilities = np.empty_like(found.probabilities)
    probabilities[:, place] = found.probabilities
    return Answers(found.clip_ids, found.speakers, place[found.labels], place[found.answers], probabilities)


def _shared_clips(answers: Sequence[Answers], origin: int, folders: Sequence[Path], common: bool) -> list[str]:
    tested = [set(found.clip_ids) for found in answers]
    shared = set.intersection(*tested)
    others = [i for i, clips in enumerate(tested) if clips != tested[origin]]
    if others and not common:
        first = others[0]
        raise ConfigError(
            f"{folders[first]} tested {len(tested[first])} clips, {folders[origin]} {len(tested[origin])}, and "
            f"{len(tested[first] & tested[origin])} of them are the same: scores on different clips cannot be "
            "compared. Give runs of one fold, or ask for --common to compare on the clips that all have tested"
        )
    if not shared:
        raise ConfigError("no clip was tested by all of these runs; give runs of one fold")
    return sorted(shared)


def _check_labels(answers: Sequence[Answers], origin: int, folders: Sequence[Path], shared: Sequence[str]) -> None:
    wanted = answers[origin].of(shared)
    for folder, found in zip(folders, answers, strict=True):
        own = found.of(shared)
        wrong = (own.labels != wanted.labels) | (np.array(own.speakers) != np.array(wanted.speakers))
        if wrong.any():
            raise CheckpointError(
                f"{folder}: has another label or speaker than {folders[origin]} for {wrong.sum()} clips, e.g. "
                f"{shared[int(np.argmax(wrong))]}; runs of different targets or manifests cannot be compared"
            )


def _read_rest(folder: Path, result: RunResult, answers: Answers, shared: Sequence[str]) -> ComparedRun:
    pool = pool_answers({(0, 0): answers.of(shared)})
    record, timing = read_record(folder), result.timing
    seconds = _number(record.seconds) if record else None
    return ComparedRun(
        folder,
        load_config([folder / "config.yaml"]),
        result,
        read_split(folder).fingerprint(),
        pool,
        len(answers.clip_ids),
        score_pool(pool),
        num_parameters=_count(timing.get("num_parameters")),
        num_stored=_count_stored(folder / MODEL_FILE),
        seconds=_number(timing.get("seconds")) if seconds is None else seconds,
        peak_memory_bytes=_number(record.peak_memory_bytes) if record else None,
    )


def _test(comparison: RunComparison) -> None:
    others = [run for run in comparison.runs if run is not comparison.reference]
    for run in others:
        run.difference = compare_pools(run.pool, comparison.reference.pool)
    found = [run.difference for run in others if run.difference]
    adjusted = holm([each.uar_p for each in found]), holm([each.wa_p for each in found])
    for run, uar_p, wa_p in zip(others, *adjusted, strict=True):
        run.uar_p, run.wa_p = float(uar_p), float(wa_p)


def _notes(comparison: RunComparison) -> list[str]:
    notes, reference = [], comparison.reference
    if partial := [run for run in comparison.runs if run.num_tested > comparison.num_clips]:
        most = max(run.num_tested for run in partial)
        notes.append(
            f"compared on the {comparison.num_clips} clips that all runs tested, of up to {most} that a run tested"
        )
    if other := [run.folder for run in comparison.runs if run.fingerprint != reference.fingerprint]:
        notes.append(
            f"not trained on the same clips as the reference: {', '.join(map(str, other))}; what they differ by may be "
            "the clips"
        )
    if loose := [run.folder for run in comparison.runs if not run.result.is_strict]:
        notes.append(f"speakers of test are in training too, or the test chose the epoch: {', '.join(map(str, loose))}")
    return notes


def _number(value: object) -> float | None:
    """A finite number out of a file from elsewhere, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _count_stored(path: Path) -> int | None:
    """Numbers in a file of weights, from its header alone; None where it cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def _count(value: object) -> int | None:
    found = _number(value)
    return None if found is None else int(found)
