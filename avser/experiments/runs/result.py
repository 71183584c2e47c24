"""What a finished run found, read from its folder; and several runs that answer together, by late fusion."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avser.errors import CheckpointError
from avser.evaluation.metrics import score_predictions
from avser.evaluation.pooled import Pool, join_pools
from avser.experiments.runs.grid import METRICS_FILE, TIMING_FILE
from avser.training.record import read_record

Cell = tuple[int, int]  # fold, seed
FEWEST = 1e-5  # posteriors are written with five digits; none may count as impossible


@dataclass
class Answers:
    """A run's answers to the clips of one part of its split.

    Attributes:
        labels, answers: (N,) index of the true and of the most probable emotion.
        probabilities: (N, C)
    """

    clip_ids: list[str]
    speakers: list[str]
    labels: np.ndarray
    answers: np.ndarray
    probabilities: np.ndarray

    def only(self, kept: Sequence[int]) -> Answers:
        names = [self.clip_ids[i] for i in kept], [self.speakers[i] for i in kept]
        rows = list(kept)
        return Answers(*names, self.labels[rows], self.answers[rows], self.probabilities[rows])

    def of(self, clip_ids: Sequence[str]) -> Answers:
        """The answers to these clips, in this order."""
        place = {clip_id: i for i, clip_id in enumerate(self.clip_ids)}
        return self.only([place[clip_id] for clip_id in clip_ids])


Runs = Mapping[Cell, Answers]


@dataclass
class RunResult:
    """A finished run.

    Attributes:
        metrics: what metrics.json holds.
        timing: what record.json and timing.json hold.
        parts: "val" and "test" -> its answers there.
    """

    metrics: dict[str, Any]
    timing: dict[str, Any]
    parts: dict[str, Answers]

    @property
    def test(self) -> Answers:
        return self.parts["test"]

    @property
    def is_strict(self) -> bool:
        """Nobody in test was trained or chosen on, and the test chose nothing."""
        verdict = self.metrics.get("verdict") or {}
        return verdict.get("speakers_disjoint") is True and verdict.get("val_apart_from_test") is True


def read_run(folder: Path, *, needs_timing: bool = True) -> RunResult:
    """A finished run's scores, timing and answers; nothing in the folder is taken on trust.

    Args:
        needs_timing: False takes a run without timing.json too, as `avser train` leaves it.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    try:
        metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
        has_timing = needs_timing or (folder / TIMING_FILE).is_file()
        timing = json.loads((folder / TIMING_FILE).read_text(encoding="utf-8")) if has_timing else {}
        _check_words(metrics, timing)
        if record := read_record(folder):  # older runs have it all in the one file
            timing = asdict(record) | timing
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        parts = {part: read_answers([row for row in rows if row["split"] == part], metrics) for part in ("val", "test")}
        for part, found in parts.items():
            _check_answers(found, part)
            if len(found.clip_ids) != metrics[part]["num_clips"]:
                raise ValueError(
                    f"{len(found.clip_ids)} {part} clips in predictions.csv, {metrics[part]['num_clips']} were scored"
                )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise CheckpointError(
            f"{folder}: not a complete run ({type(error).__name__}: {error}); copy it anew from where it was "
            "made, or remove it and train it again"
        ) from error
    return RunResult(metrics, timing, parts)


def shared_answers(several: Sequence[Runs]) -> list[dict[Cell, Answers]]:
    """The folds and seeds that all have, with the clips that all answered, in one order; empty if there are none.

    Raises:
        CheckpointError: they differ in the label or the speaker of a clip.
    """
    shared: list[dict[Cell, Answers]] = [{} for _ in several]
    for place in several[0]:
        if not all(place in runs for runs in several):
            continue
        clip_ids = sorted(set.intersection(*(set(runs[place].clip_ids) for runs in several)))
        found = [runs[place].of(clip_ids) for runs in several]
        if any((other.labels != found[0].labels).any() or other.speakers != found[0].speakers for other in found):
            raise CheckpointError(f"labels or speakers of the test clips differ in fold {place[0]}, seed {place[1]}")
        if clip_ids:
            for own, answers in zip(shared, found, strict=True):
                own[place] = answers
    return shared if shared[0] else []


def pool_answers(answers: Mapping[Cell, Answers]) -> Pool:
    """The answers of all folds and seeds, one below the other."""
    return join_pools(
        [
            Pool(
                its.clip_ids,
                its.speakers,
                np.full(len(its.clip_ids), seed),
                its.labels,
                its.answers,
                its.probabilities,
            )
            for (_, seed), its in answers.items()
        ]
    )


def join_runs(runs: Mapping[str, RunResult]) -> RunResult:
    """Several runs as one: its posterior is the product of theirs, scaled to sum to 1, with equal weights.

    The product rule of late fusion (Kittler et al. 1998, "On combining classifiers"): right where the runs err
    independently, given the emotion. Nothing is fitted, so no clip is chosen on.

    Args:
        runs: name -> run, of one fold and seed.

    Raises:
        CheckpointError: they differ in their emotions, their clips or the labels of these.
    """
    first_name, first = next(iter(runs.items()))
    parts = {}
    for part, own in first.parts.items():
        logs = np.zeros_like(own.probabilities)
        for name, run in runs.items():
            theirs = run.parts[part]
            if run.metrics["emotions"] != first.metrics["emotions"] or set(theirs.clip_ids) != set(own.clip_ids):
                raise CheckpointError(
                    f"{name} and {first_name} differ in emotions or {part} clips; they cannot be joined"
                )
            theirs = theirs.of(own.clip_ids)
            if (theirs.labels != own.labels).any():
                raise CheckpointError(f"{name} and {first_name} cannot be joined: their labels differ")
            logs += np.log(theirs.probabilities.clip(FEWEST))
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        parts[part] = Answers(own.clip_ids, own.speakers, own.labels, shares.argmax(axis=1), shares)
    scores = {
        part: score_predictions(found.labels, found.answers, found.speakers, first.metrics["emotions"]).to_dict()
        for part, found in parts.items()
    }
    notes = list(dict.fromkeys(note for run in runs.values() for note in run.metrics["notes"]))
    kept = {key: first.metrics[key] for key in ("protocol", "split_fingerprint", "seed", "emotions", "versions")}
    verdict = next((run.metrics["verdict"] for run in runs.values() if not run.is_strict), first.metrics["verdict"])
    return RunResult({**kept, "verdict": verdict, "notes": notes, **scores}, _join_timings(list(runs.values())), parts)


def _check_words(metrics: Any, timing: Any) -> None:
    if not isinstance(metrics, dict) or not isinstance(timing, dict):
        raise ValueError(f"{METRICS_FILE} and {TIMING_FILE} must hold keys and values")
    emotions = metrics["emotions"]
    if not isinstance(emotions, list) or not all(isinstance(e, str) for e in emotions) or len(set(emotions)) < 2:
        raise ValueError(f"{METRICS_FILE}: emotions must be a list of two words or more")
    if len(set(emotions)) < len(emotions):
        raise ValueError(f"{METRICS_FILE}: an emotion is named twice")


def _check_answers(found: Answers, part: str) -> None:
    if len(set(found.clip_ids)) < len(found.clip_ids):
        raise ValueError(f"a {part} clip stands twice in predictions.csv")
    if not ((found.probabilities >= 0) & (found.probabilities <= 1)).all():  # NaN is neither
        raise ValueError("a probability in predictions.csv is not between 0 and 1")


def read_answers(rows: Sequence[Mapping[str, str]], metrics: Mapping[str, Any]) -> Answers:
    """Rows of a predictions.csv, of a run with these metrics."""
    emotions = metrics["emotions"]
    index = {emotion: i for i, emotion in enumerate(emotions)}
    labels, answers = (np.array([index[row[key]] for row in rows], dtype=int) for key in ("emotion", "predicted"))
    shares = np.array([[float(row[emotion]) for emotion in emotions] for row in rows])
    names = [row["clip_id"] for row in rows], [row["speaker"] for row in rows]
    return Answers(*names, labels, answers, shares.reshape(len(rows), len(emotions)))


def _join_timings(runs: Sequence[RunResult]) -> dict[str, Any]:
    """One after the other: times and parameters add up."""
    timings = [run.timing for run in runs]

    def combine(key: str, total: Callable[[list[float]], float]) -> float | None:
        known = [timing[key] for timing in timings if timing.get(key)]
        return total(known) if len(known) == len(timings) else None

    joined = {key: combine(key, sum) for key in ("seconds", "num_epochs", "num_parameters")}
    rates = {key: combine(key, _in_turn) for key in ("training_clips_per_s", "inference_clips_per_s")}
    return {**timings[0], **joined, **rates}


def _in_turn(rates: list[float]) -> float:
    """Clips a second where each clip goes through all, one after the other."""
    return 1 / sum(1 / rate for rate in rates)
