"""A cross-validation written down: tables for a terminal or a page, one CSV row a score, and everything as JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avser.data.splits import yes_or_no
from avser.evaluation.pooled import Slice
from avser.evaluation.statistics import Interval
from avser.experiments.cross_validation.figure import plot_cross_validation
from avser.experiments.cross_validation.study import CrossValidation, FoldResult
from avser.experiments.leaderboard.board import PAPER, STRICT
from avser.experiments.leaderboard.tables import TITLES
from avser.roi.report.plots import save_figure
from avser.roi.report.table_markdown import escape_cell, tables_markdown
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import AUDIO, FUSED, VIDEO
from avser.training.checkpoint import versions, write_json, write_text

GIVEN = {AUDIO: "people, voice alone", VIDEO: "people, face alone", FUSED: "people, voice and face"}
MOST_ROWS = 24  # of a table of slices; of more values only the lowest and the highest are shown
FIELDS = ("part", "value", "num_clips", "num_speakers", "measure", "score", "low", "high", "fold_sd", "seed_sd")


def cross_validation_tables(found: CrossValidation) -> list[ReportTable]:
    """Verdict and measures first, then folds, emotions, slices, and how well people do."""
    tables = [_measure_table(found), _fold_table(found), _emotion_table(found), _confusion_table(found)]
    tables += slice_tables(found.slices)
    tables += [_people_table(found)] if found.people else []
    return tables


def write_cross_validation(found: CrossValidation, out: Path, *, command: str = "") -> None:
    """crossval.md, crossval.csv, crossval.json and crossval.png in the folder `out`.

    Args:
        command: what made it, for the reader who wants it again.
    """
    save_figure(plot_cross_validation(found), out / "crossval.png")
    write_json(out / "crossval.json", describe_cross_validation(found, command))
    write_text(out / "crossval.md", cross_validation_markdown(found, command))
    with (out / "crossval.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat_scores(found))


def cross_validation_markdown(found: CrossValidation, command: str = "") -> str:
    """The tables as a page of Markdown, with the figure."""
    parts = [f"# {found.name}: {found.config.data.protocol}, {len(found.folds)} folds, {len(found.seeds)} seeds"]
    parts += [f"Made by `{command}`."] if command else []
    parts += ["![Confusion matrix, and UAR of each fold](crossval.png)"]
    parts.append(tables_markdown(cross_validation_tables(found)).rstrip())
    if found.failures:
        parts += ["## failed", "\n".join(f"- {run}: {escape_cell(reason)}" for run, reason in found.failures.items())]
    return "\n\n".join(parts) + "\n"


def describe_cross_validation(found: CrossValidation, command: str = "") -> dict[str, Any]:
    """What crossval.json holds: nothing without protocol, verdict, seeds and interval."""
    return {
        "command": command,
        "name": found.name,
        "protocol": found.config.data.protocol,
        "verdict": STRICT if found.is_strict else PAPER,
        "seeds": found.seeds,
        "emotions": found.emotions,
        "scores": asdict(found.scores),
        "measures": [asdict(measure) for measure in found.measures],
        "folds": [_describe_fold(fold) for fold in found.folds],
        "recalls": {emotion: asdict(recall) for emotion, recall in found.recalls.items()},
        "confusion": found.confusion.tolist(),
        "slices": [asdict(each) for each in found.slices],
        "reliability": [asdict(each) for each in found.reliability],
        "people": [asdict(each) for each in found.people],
        "runs": [
            {"fold": fold, "seed": seed, **{part: run.metrics[part] for part in ("val", "test")}, "timing": run.timing}
            for (fold, seed), run in found.runs.items()
        ],
        "config": asdict(found.config),
        "notes": found.notes,
        "failures": found.failures,
        "versions": versions(),
    }


def flat_scores(found: CrossValidation) -> list[dict[str, Any]]:
    """One row a score, under plain names, as a spreadsheet takes them."""
    sizes = found.scores.num_clips, found.scores.num_speakers
    rows = [
        _flat("all", "", sizes, measure.name, measure.value, measure.fold_sd, measure.seed_sd)
        for measure in found.measures
    ]
    for fold in found.folds:
        if fold.scores:
            own = fold.scores.num_clips, fold.scores.num_speakers
            rows.append(_flat("fold", fold.fold, own, "UAR, %", fold.scores.uar, None, fold.seed_sd))
            rows.append(_flat("fold", fold.fold, own, "WA, %", fold.scores.wa))
    for (fold_number, seed), run in found.runs.items():
        own = run.metrics["test"]["num_clips"], run.metrics["test"]["num_speakers"]
        for key in ("uar", "wa"):
            value = Interval(run.metrics["test"][key]["value"], float("nan"), float("nan"))
            rows.append(_flat("run", f"fold{fold_number}-seed{seed}", own, f"{key.upper()}, %", value))
    for number, (emotion, recall) in enumerate(found.recalls.items()):
        own = round(float(found.confusion[number].sum())), found.scores.num_speakers
        rows.append(_flat("emotion", emotion, own, "recall, %", recall))
    for each in found.slices:
        own = each.scores.num_clips, each.scores.num_speakers
        rows.append(_flat(each.column, each.value, own, "UAR, %", each.scores.uar))
        rows.append(_flat(each.column, each.value, own, "WA, %", each.scores.wa))
    return rows


def slice_tables(slices: Sequence[Slice]) -> list[ReportTable]:
    """One for each column."""
    columns = dict.fromkeys(each.column for each in slices)
    return [_slice_table(column, [each for each in slices if each.column == column]) for column in columns]


# --- tables ------------------------------------------------------------------------------------------------------


def _measure_table(found: CrossValidation) -> ReportTable:
    scores = found.scores
    own_verdicts = sum(fold.is_strict for fold in found.folds)
    return ReportTable(
        TITLES[STRICT if found.is_strict else PAPER],
        ["over all test clips", "mean of the seeds", "sd of folds", "sd of seeds"],
        [[m.name, value_cell(m.value), m.fold_sd, m.seed_sd] for m in found.measures],
        f"{found.name}, protocol {found.config.data.protocol}, folds {_listed(f.fold for f in found.folds)}, seeds "
        f"{_listed(found.seeds)}. {scores.num_clips} test clips of {scores.num_speakers} speakers; intervals 95 %, "
        f"from resampling speakers; guessing reaches a UAR of {100 / len(found.emotions):.1f} %. UAR: unweighted "
        "average recall; WA: accuracy. Calibration error: mean distance between confidence and accuracy, of the answer "
        f"given. {own_verdicts} of {len(found.folds)} folds keep everybody in test out of training and validation.",
        "; ".join(found.notes),
    )


def _fold_table(found: CrossValidation) -> ReportTable:
    return ReportTable(
        "Folds",
        [
            *("fold", "clips", "UAR, %", "WA, %", "sd of seeds", "speakers", "new", "val apart", "split"),
        ],
        [
            [
                str(fold.fold),
                len(fold.split.test),
                *((fold.scores.uar, fold.scores.wa) if fold.scores else (None, None)),
                fold.seed_sd,
                ", ".join(str(fold.num_speakers[part]) for part in ("train", "val", "test")),
                yes_or_no(fold.split.verdict.speakers_disjoint if fold.split.verdict else None),
                yes_or_no(fold.val_speakers_apart),
                fold.split.fingerprint(),
            ]
            for fold in found.folds
        ],
        "Test clips; mean of the seeds; sd of the UAR. Speakers: train, val, test. New: nobody in test is in training "
        "or validation. Val apart: no validation speaker is in test. Split: its fingerprint.",
        "; ".join(dict.fromkeys(str(fold.split.verdict) for fold in found.folds)),
    )


def _emotion_table(found: CrossValidation) -> ReportTable:
    totals = found.confusion.sum(axis=1)
    return ReportTable(
        "Emotions",
        ["emotion", "clips", "recall, %"],
        [[emotion, f"{totals[i]:g}", recall] for i, (emotion, recall) in enumerate(found.recalls.items())],
        "Recall: of the clips of an emotion, how many are answered so; mean of the seeds.",
    )


def _confusion_table(found: CrossValidation) -> ReportTable:
    totals = found.confusion.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(found.confusion, totals, out=np.zeros_like(found.confusion), where=totals > 0)
    return ReportTable(
        "Confusions",
        ["true, answered:", *found.emotions],
        [[emotion, *(f"{share:.0f}" for share in row)] for emotion, row in zip(found.emotions, shares, strict=True)],
        "Percent of the clips of the true emotion, mean of the seeds.",
    )


def _slice_table(column: str, slices: Sequence[Slice]) -> ReportTable:
    shown, half = sorted(slices, key=lambda each: each.scores.wa.value), MOST_ROWS // 2
    note = ""
    if len(shown) > MOST_ROWS:
        note = f"{len(shown)} in all; the {half} lowest and the {half} highest are shown, the others in crossval.csv."
        shown = [*shown[:half], *shown[-half:]]
    return ReportTable(
        f"By {column}",
        [column, "clips", "speakers", "emotions", "UAR, %", "WA, %"],
        [
            [
                *(s.value, s.scores.num_clips, s.scores.num_speakers, s.scores.num_emotions),
                *(value_cell(s.scores.uar), value_cell(s.scores.wa)),
            ]
            for s in shown
        ],
        "In order of WA. UAR is the mean recall of the emotions that occur in the slice; where there are fewer it is "
        "easier. One speaker alone has no interval.",
        note,
    )


def _people_table(found: CrossValidation) -> ReportTable:
    scores = found.scores
    rows: list[list[Cell]] = [["this model", scores.uar, scores.wa, len(found.emotions), ""]]
    rows += [
        [GIVEN[each.modality], each.uar, value_cell(each.wa), each.num_emotions, each.source] for each in found.people
    ]
    remarks = dict.fromkeys(f"{each.source}: {each.remark}" for each in found.people if each.remark)
    return ReportTable(
        "Beside people",
        ["", "UAR, %", "WA, %", "emotions", "source"],
        rows,
        f"The model reads {' and '.join(found.config.model.modalities)}. Single people are no upper limit: a model is "
        "trained on what was meant.",
        "; ".join(remarks),
    )


# --- cells -------------------------------------------------------------------------------------------------------


def value_cell(value: Interval) -> Cell:
    """An interval, or the value alone where there can be none."""
    return value if math.isfinite(value.low) else value.value


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))


def _flat(
    part: str,
    value: object,
    sizes: tuple[int, int],
    measure: str,
    score: Interval,
    fold_sd: float | None = None,
    seed_sd: float | None = None,
) -> dict[str, Any]:
    ends = (x if math.isfinite(x) else None for x in (score.value, score.low, score.high))
    return dict(zip(FIELDS, (part, value, *sizes, measure, *ends, fold_sd, seed_sd), strict=True))


def _describe_fold(fold: FoldResult) -> dict[str, Any]:
    return {
        "fold": fold.fold,
        "protocol": fold.split.protocol,
        "split_fingerprint": fold.split.fingerprint(),
        "verdict": asdict(fold.split.verdict) if fold.split.verdict else None,
        "val_speakers_apart": fold.val_speakers_apart,
        "num_clips": {part: len(ids) for part, ids in fold.split.parts().items()},
        "num_speakers": fold.num_speakers,
        "scores": asdict(fold.scores) if fold.scores else None,
        "seed_sd": fold.seed_sd,
    }
