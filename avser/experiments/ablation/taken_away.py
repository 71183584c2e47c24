"""A fused run's answers to its test clips when one modality is taken away, kept beside those with both."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from accelerate import Accelerator

from avser.config import Config
from avser.errors import CheckpointError
from avser.experiments.ablation.modalities import keep_modality
from avser.experiments.runs.grid import METRICS_FILE, finish_run, run_folder
from avser.experiments.runs.result import Answers, read_answers
from avser.structures import MODALITIES
from avser.training.checkpoint import MODEL_FILE, load_trained
from avser.training.fit import CONSOLE
from avser.training.loop import Predictions, evaluate
from avser.training.run_data import RunData, load_data

ONLY_FILE = "predictions_{}_only.csv"


def finish_with_parts(config: Config, *, num_jobs: int = 1) -> bool:
    """Have a run finished, and a fused one's answers to each modality alone on disk; was there anything to train?

    Raises:
        AvserError: whatever stands against training, or a test split that has changed since.
    """
    trained = finish_run(config, num_jobs=num_jobs)
    if set(config.model.modalities) == set(MODALITIES):
        answer_parts(config)
    return trained


def answer_parts(config: Config) -> None:
    """Write what a finished fused run answers to the voice alone and to the face alone, unless it is there already.

    Raises:
        CheckpointError: the data give another split now.
    """
    folder = run_folder(config)
    missing = [only for only in MODALITIES if not (folder / ONLY_FILE.format(only)).is_file()]
    if not missing:
        return
    data, accelerator = load_data(config), Accelerator()
    stored = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))["split_fingerprint"]
    if stored != data.split.fingerprint():
        raise CheckpointError(
            f"{folder}: its split {stored} is not the one that the data give now ({data.split.fingerprint()}); "
            "restore the manifest and cache that it was trained with, or remove it to train it anew"
        )
    model, _, _ = load_trained(folder / MODEL_FILE)
    model.to(accelerator.device)
    for only in missing:
        try:
            found = evaluate(model, keep_modality(data.batches("test", config.training), only), accelerator)
        except ValueError as error:  # a system that needs both says so; an empty file keeps us from asking again
            CONSOLE.print(f"{config.name}, {only} alone: {error}", markup=False)
            found = None
        _write(folder / ONLY_FILE.format(only), data, found)


def read_parts(folder: Path) -> dict[str, Answers]:
    """The modality that was left -> answers to the test clips; empty for a run that has none.

    Raises:
        CheckpointError: a file is damaged.
    """
    found = {}
    for only in MODALITIES:
        path = folder / ONLY_FILE.format(only)
        if not path.is_file():
            continue
        try:
            metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            if rows:
                found[only] = read_answers(rows, metrics)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: not readable ({type(error).__name__}: {error}); remove it") from error
    return found


def _write(path: Path, data: RunData, found: Predictions | None) -> None:
    """As predictions.csv; whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "split", "speaker", "emotion", "predicted", *data.emotions])
        answers = zip(found.clip_ids, found.labels, found.answers, found.probabilities, strict=True) if found else ()
        for clip_id, label, answer, shares in answers:
            names = data.emotions[label], data.emotions[answer]
            writer.writerow([clip_id, "test", data.speaker(clip_id), *names, *(f"{p:.5f}" for p in shares)])
    partial.replace(path)
