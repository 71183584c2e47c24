"""Robustness written down: tables for a terminal or a page, one CSV row a level, and everything as JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avser.data.corruptions import CORRUPTIONS
from avser.evaluation.statistics import Interval
from avser.experiments.robustness.figure import plot_robustness
from avser.experiments.robustness.scores import LevelScores
from avser.experiments.robustness.study import Robustness, RunRobustness
from avser.roi.report.plots import save_figure
from avser.roi.report.table_html import tables_html
from avser.roi.report.table_latex import tables_latex
from avser.roi.report.table_markdown import tables_markdown
from avser.roi.report.tables import Cell, ReportTable, format_p
from avser.training.checkpoint import versions, write_json, write_text

SCORES = ("uar", "difference", "relative")
ENDS = ("", "_low", "_high")
FIELDS = (
    *("run", "corruption", "level", "unit", "num_clips", "num_speakers"),
    *(f"{score}{end}" for score in SCORES for end in ENDS),
    *("p", "p_holm"),
)
READ = "UAR in %; minus clean: in points, over the same clips; p two-sided, from swapping whole speakers"


def robustness_tables(found: Robustness) -> list[ReportTable]:
    """What is left over whole curves, then the switches, then every curve level by level."""
    tables = [_summary(found)] if found.curve_names else []
    tables += [_switch_table(found)] if any(run.switches for run in found.runs) else []
    return tables + [_curve_table(found, name) for name in found.curve_names]


def write_robustness(found: Robustness, out: Path, *, command: str = "") -> list[Path]:
    """robustness.{md,csv,tex,html,json,png,svg} in the folder `out`.

    Args:
        command: what made it, for the reader who wants it again.
    """
    paths = {kind: out / f"robustness.{kind}" for kind in ("md", "csv", "tex", "html", "json", "png", "svg")}
    out.mkdir(parents=True, exist_ok=True)
    figure, tables = plot_robustness(found), robustness_tables(found)
    title = f"Robustness of {', '.join(run.name for run in found.runs)}"
    words = "UAR of every corruption at every level"
    for kind in ("png", "svg"):
        save_figure(figure, paths[kind])
    parts = [f"# {title}"]
    parts += [f"Made by `{command}`."] if command else []
    parts += [f"![{words}](robustness.png)", tables_markdown(tables).rstrip()]
    write_text(paths["md"], "\n\n".join(parts) + "\n")
    write_text(paths["tex"], tables_latex(tables))
    write_text(paths["html"], tables_html(title, tables, figures=[(words, figure)], command=command))
    write_json(paths["json"], describe_robustness(found, command))
    with paths["csv"].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat_levels(found))
    return list(paths.values())


def describe_robustness(found: Robustness, command: str = "") -> dict[str, Any]:
    """What robustness.json holds: nothing without protocol, split, seed and interval."""
    return {
        "command": command,
        "seed": found.seed,
        "runs": [_describe_run(run) for run in found.runs],
        "effective": [asdict(each) for each in found.effective],
        "notes": found.notes,
        "versions": versions(),
    }


def flat_levels(found: Robustness) -> Iterator[dict[str, Any]]:
    """One row for the clean clips and for every level of every corruption, under plain names."""
    for run in found.runs:
        yield _flat(run, "", run.clean_scores)
        for name, curve in run.curves.items():
            yield from (_flat(run, name, level) for level in curve.levels)
        yield from (_flat(run, name, level) for name, level in run.switches.items())


# --- tables ------------------------------------------------------------------------------------------------------


def _summary(found: Robustness) -> ReportTable:
    first = found.runs[0]
    baselines = list(dict.fromkeys(each.baseline for each in found.effective))
    effective = {(each.name, each.baseline): each.value for each in found.effective}
    rows: list[list[Cell]] = [
        [
            *(CORRUPTIONS[name].label, run.name, f"{run.clean_scores.uar.value:.1f}"),
            *(run.curves[name].area, run.curves[name].relative),
            *(effective.get((name, other)) if run is first else None for other in baselines),
        ]
        for name in found.curve_names
        for run in found.runs
        if name in run.curves
    ]
    against = ""
    if baselines:
        against = (
            f" Effective robustness of {first.name} against a baseline: area minus what its clean UAR lets expect, if "
            "it kept the share above guessing that the baseline keeps (after Taori et al. 2020, with a line through "
            "guessing and one baseline), in points; above 0, more is left than that."
        )
    return ReportTable(
        "What is left",
        [
            "corruption",
            "run",
            "clean UAR",
            "area, %",
            "share left, %",
            *(f"effective, vs {name}" for name in baselines),
        ],
        rows,
        "Area: mean UAR over the range of levels. Share left: of the clean UAR above guessing, "
        f"{_chance(first):.1f} %.{against} Intervals 95 %, from resampling speakers. {_conditions(found)}",
        "; ".join(found.notes),
    )


def _switch_table(found: Robustness) -> ReportTable:
    rows: list[list[Cell]] = []
    for run in found.runs:
        if run.switches:
            rows.append(["nothing", run.name, run.clean_scores.uar, None, None, None, None])
            rows += [_row(CORRUPTIONS[name].label, run, scores) for name, scores in run.switches.items()]
    return ReportTable(
        "Missing, silent and swapped",
        ["what is done", *_HEADINGS],
        rows,
        f"{READ}, and adjusted by Holm's method over these rows of a run. Silent and black are zeros that count as a "
        "voice or a face; missing is told to the model. Swapped with clips of other speakers where there are any. "
        f"{_conditions(found)}",
        "" if found.curve_names else "; ".join(found.notes),
    )


def _curve_table(found: Robustness, name: str) -> ReportTable:
    kind = CORRUPTIONS[name]
    rows = [
        _row(f"{level.level:g}", run, level)
        for run in found.runs
        if name in run.curves
        for level in run.curves[name].levels
    ]
    return ReportTable(
        f"{kind.label[0].upper()}{kind.label[1:]}",
        [kind.unit, *_HEADINGS],
        rows,
        f"{READ}, and adjusted by Holm's method over the levels of a run.",
    )


_HEADINGS = ("run", "UAR, %", "minus clean", "p", "p, Holm", "share left, %")


def _row(first: str, run: RunRobustness, scores: LevelScores) -> list[Cell]:
    p_values = format_p(scores.p_value), format_p(scores.adjusted_p)
    return [first, run.name, scores.uar, scores.difference, *p_values, scores.relative]


def _conditions(found: Robustness) -> str:
    first = found.runs[0]
    speakers = len(set(first.clean.speakers))
    return (
        f"{first.clean.num_clips} test clips of {speakers} speakers, protocol {first.protocol}, split "
        f"{first.split_fingerprint}; with {speakers} speakers p is never below {2 / 2**speakers:.2g}. All that is "
        f"drawn: seed {found.seed}."
    )


def _chance(run: RunRobustness) -> float:
    return 100 / len(set(run.clean.labels.tolist()))


# --- files -------------------------------------------------------------------------------------------------------


def _describe_run(run: RunRobustness) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "modalities": run.modalities,
        "protocol": run.protocol,
        "split_fingerprint": run.split_fingerprint,
        "seed": int(run.clean.seeds[0]),
        "emotions": run.emotions,
        "num_clips": run.clean.num_clips,
        "num_speakers": len(set(run.clean.speakers)),
        "chance": _chance(run),
        "clean": asdict(run.clean_scores.uar),
        "curves": {
            name: {
                "unit": CORRUPTIONS[name].unit,
                "levels": [asdict(level) for level in curve.levels],
                "area": asdict(curve.area),
                "relative": asdict(curve.relative),
                "weights": curve.weights.tolist(),
            }
            for name, curve in run.curves.items()
        },
        "switches": {name: asdict(scores) for name, scores in run.switches.items()},
    }


def _flat(run: RunRobustness, name: str, scores: LevelScores) -> dict[str, Any]:
    unit = CORRUPTIONS[name].unit if name else ""
    sizes = run.clean.num_clips, len(set(run.clean.speakers))
    row = dict(zip(FIELDS, (run.name, name or "clean", scores.level, unit, *sizes), strict=False))
    for key in SCORES:
        value: Interval | None = getattr(scores, key)
        numbers = (value.value, value.low, value.high) if value else (None, None, None)
        for end, number in zip(ENDS, numbers, strict=True):
            row[f"{key}{end}"] = None if number is None or not math.isfinite(number) else number
    return row | {"p": scores.p_value, "p_holm": scores.adjusted_p}
