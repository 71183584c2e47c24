"""An ablation over a grid written down: Markdown, CSV, LaTeX and HTML, with its figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from avser.evaluation.statistics import Interval
from avser.experiments.ablation.figure import plot_grid
from avser.experiments.ablation.grid import AblationGrid
from avser.experiments.ablation.scores import APART, TAKEN_AWAY, CellResult
from avser.roi.report.plots import save_figure
from avser.roi.report.table_html import tables_html
from avser.roi.report.table_latex import tables_latex
from avser.roi.report.table_markdown import escape_cell, tables_markdown
from avser.roi.report.tables import Cell, ReportTable, format_p
from avser.structures import AUDIO, VIDEO
from avser.training.checkpoint import versions, write_json, write_text

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
ANY = "any"


def grid_tables(grid: AblationGrid) -> list[ReportTable]:
    """The cells, and where there are fused ones what each modality adds."""
    if not grid.scored:
        return []
    return [_cell_table(grid), *([_share_table(grid)] if grid.shares else [])]


def write_grid(grid: AblationGrid, out: Path, *, command: str = "") -> list[Path]:
    """ablation.{json,csv,md,tex,html,png,svg} in the folder `out`; without a finished run only json and md.

    Args:
        command: what made it, for the reader who wants it again.
    """
    tables, title = grid_tables(grid), f"Ablation over {' and '.join(axis.name for axis in grid.axes)}"
    failures = [f"{run}: {reason}" for run, reason in grid.failures.items()]
    paths = {kind: out / f"ablation.{kind}" for kind in ("json", "md", "csv", "tex", "html", "png", "svg")}
    write_json(paths["json"], describe_grid(grid, command))
    write_text(paths["md"], _markdown(title, tables, command, failures))
    if not tables:
        return [paths["json"], paths["md"]]
    _write_csv(paths["csv"], [_flat(result, grid) for result in grid.cells])
    write_text(paths["tex"], tables_latex(tables))
    figure = plot_grid(grid)
    for kind in ("png", "svg"):
        save_figure(figure, paths[kind])
    words = "UAR of every cell with its interval, and its difference to the reference; the numbers are in the tables"
    page = tables_html(title, tables, figures=[(words, figure)], command=command, failures=failures)
    write_text(paths["html"], page)
    return list(paths.values())


def describe_grid(grid: AblationGrid, command: str = "") -> dict[str, Any]:
    """What ablation.json holds: nothing without protocol, seeds and interval."""
    return {
        "command": command,
        "axes": {axis.name: list(axis.values) for axis in grid.axes},
        "protocol": ", ".join(grid.protocols),
        **{key: getattr(grid, key) for key in ("folds", "seeds", "notes", "failures")},
        "reference": grid.reference.name,
        "cells": [
            {
                **_flat(result, grid),
                "settings": dict(result.cell.settings),
                "members": [list(member) for member in result.cell.members],
                "runs": [
                    {
                        "fold": fold,
                        "seed": seed,
                        "folder": f"{result.cell.folder}/fold{fold}-seed{seed}",
                        "split_fingerprint": run.metrics["split_fingerprint"],
                        "test": run.metrics["test"],
                    }
                    for (fold, seed), run in result.runs.items()
                ],
            }
            for result in grid.cells
        ],
        "shapley": [asdict(shares) for shares in grid.shares],
        "versions": versions(),
    }


# --- tables ------------------------------------------------------------------------------------------------------


def _cell_table(grid: AblationGrid) -> ReportTable:
    scores = grid.scored[0].scores
    assert scores
    numbers = ["UAR, %", "UAR of a run", "WA, %", "minus reference", "p", "p, Holm", "n"]
    return ReportTable(
        "Cells",
        [*(axis.name for axis in grid.axes), *numbers],
        [_cell_row(result, grid) for result in grid.scored],
        "UAR (unweighted average recall) and WA (accuracy) over the test clips of all folds together, the mean of the "
        f"seeds; intervals 95 %, from resampling speakers. Of a run: mean {PLUS_MINUS} sd over folds and seeds. Minus "
        f"reference: difference in UAR to {grid.reference.cell.label}, in points, over the same clips and runs; p "
        "two-sided, from letting both change places for whole speakers, and adjusted by Holm's method for "
        f"{sum(result.difference is not None for result in grid.cells)} comparisons. With G speakers p is never below "
        "2 / 2^G. All of it holds for these trainings; how others would differ, the sd shows. Guessing reaches a UAR "
        f"of {100 / scores.num_emotions:.1f} %. n: runs finished of those asked for, clips, speakers.",
        f"{_conditions(grid)}. {'; '.join(grid.notes)}".rstrip(". ") + ".",
    )


def _cell_row(result: CellResult, grid: AblationGrid) -> list[Cell]:
    scores, difference = result.scores, result.difference
    assert scores
    return [
        *(result.cell.settings[axis.name] or ANY for axis in grid.axes),
        scores.uar,
        _spread(result.each("uar")),
        f"{scores.wa.value:.1f}",
        "reference" if result is grid.reference else _points(difference.uar) if difference else None,
        format_p(difference.uar_p if difference else None),
        format_p(result.adjusted_p),
        f"{len(result.runs)}/{result.num_asked}, {scores.num_clips}, {scores.num_speakers}",
    ]


def _share_table(grid: AblationGrid) -> ReportTable:
    return ReportTable(
        "What each modality adds",
        ["cell", "the other was", "voice alone", "face alone", "both", "voice adds", "face adds", "runs"],
        [
            [
                shares.label,
                shares.kind,
                *(shares.uar[name] for name in (AUDIO, VIDEO, "both")),
                *(_points(shares.shares[name]) for name in (AUDIO, VIDEO)),
                shares.num_runs,
            ]
            for shares in grid.shares
        ],
        "UAR in % with voice alone, with face alone and with both; adds: Shapley value in points, the mean of what a "
        "modality adds to guessing and what it adds to the other modality. Both values sum to the UAR of both minus "
        "that of guessing. Intervals 95 %, from resampling speakers. "
        f"Alone, where the other was {APART}: models trained for one modality. Where it was {TAKEN_AWAY}: the fused "
        "model itself, tested with one modality; how well it copes with that counts too.",
        f"{_conditions(grid)}; {grid.shares[0].num_clips} clips of {grid.shares[0].num_speakers} speakers.",
    )


def _conditions(grid: AblationGrid) -> str:
    folds, seeds = (", ".join(map(str, numbers)) for numbers in (grid.folds, grid.seeds))
    return f"Protocol {', '.join(grid.protocols)}, folds {folds}, seeds {seeds}"


def _points(found: Interval) -> str:
    return f"{found:z.1f}"


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" + (f" {PLUS_MINUS} {stdev(values):.1f}" if len(values) > 1 else "")


# --- files -------------------------------------------------------------------------------------------------------


def _markdown(title: str, tables: Sequence[ReportTable], command: str, failures: Sequence[str]) -> str:
    parts = [f"# {title}", f"Made by `{command}`." if command else "", tables_markdown(tables).rstrip()]
    parts += ["![UAR of every cell](ablation.svg)"] if tables else ["No run is finished."]
    parts += ["## failed\n\n" + "\n".join(f"- {escape_cell(line)}" for line in failures)] if failures else []
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _flat(result: CellResult, grid: AblationGrid) -> dict[str, Any]:
    """Plain numbers under plain names, as a spreadsheet takes them."""
    scores, difference = result.scores, result.difference
    uar = result.each("uar")
    row: dict[str, Any] = {"cell": result.name}
    row |= {axis.name: result.cell.settings[axis.name] or ANY for axis in grid.axes}
    row |= {"is_reference": result is grid.reference, "num_runs": len(result.runs), "num_asked": result.num_asked}
    row |= {key: getattr(scores, key, None) for key in ("num_clips", "num_speakers")}
    row |= _ends("uar", scores.uar if scores else None) | _ends("wa", scores.wa if scores else None)
    row |= {"uar_run_mean": fmean(uar) if uar else None, "uar_run_sd": stdev(uar) if len(uar) > 1 else None}
    row |= _ends("uar_difference", difference.uar if difference else None)
    row |= {"uar_p": difference and difference.uar_p, "uar_p_holm": result.adjusted_p}
    row |= _ends("wa_difference", difference.wa if difference else None) | {"wa_p": difference and difference.wa_p}
    for kind, prefix in _KINDS.items():
        shares = next((s for s in grid.shares if s.cell == result.name and s.kind == kind), None)
        for name in (AUDIO, VIDEO):
            row |= _ends(f"shapley_{prefix}_{name}", shares.shares[name] if shares else None)
    return row


_KINDS = {APART: "apart", TAKEN_AWAY: "taken_away"}


def _ends(name: str, found: Interval | None) -> dict[str, float | None]:
    ends = (found.value, found.low, found.high) if found else (None, None, None)
    finite = [None if end is None or not math.isfinite(end) else end for end in ends]
    return dict(zip((name, f"{name}_low", f"{name}_high"), finite, strict=True))
