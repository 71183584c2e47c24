"""A leaderboard written down: tables for a terminal or a page, one CSV row a system, and everything as JSON."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from avser.errors import ConfigError
from avser.evaluation.statistics import Interval
from avser.experiments.leaderboard.board import PAPER, STRICT, BoardRow, Leaderboard
from avser.roi.report.table_markdown import escape_cell, tables_markdown
from avser.roi.report.tables import ReportTable, format_p
from avser.training.checkpoint import versions, write_json, write_text

TITLES = {
    STRICT: "strict: nobody in test is in training or validation, and the test chose nothing",
    PAPER: "paper: speakers of test are in training too, or the test chose the epoch; not comparable with strict rows",
}
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def leaderboard_tables(board: Leaderboard) -> list[ReportTable]:
    """Scores of strict and of paper rows apart, what they cost, paired comparisons, and what papers report."""
    kinds = [(kind, [row for row in board.rows if row.kind == kind]) for kind in (STRICT, PAPER)]
    tables = [_score_table(board, kind, rows) for kind, rows in kinds if rows]
    scored = [row for row in board.rows if row.runs]
    tables += [_cost_table(scored)] if scored else []
    tables += [_comparison_table(board)] if board.comparisons else []
    tables += [_published_table(board, scored)] if any(row.published for row in scored) else []
    return tables


def write_leaderboard(board: Leaderboard, out: Path, *, command: str = "") -> None:
    """leaderboard.json, leaderboard.csv and leaderboard.md in the folder `out`.

    Args:
        command: what made the board, for the reader who wants it again.
    """
    write_json(out / "leaderboard.json", describe_leaderboard(board, command))
    write_text(out / "leaderboard.md", leaderboard_markdown(board, command))
    rows = [_flat(row, board) for row in board.rows]
    with (out / "leaderboard.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def describe_leaderboard(board: Leaderboard, command: str = "") -> dict[str, Any]:
    """What leaderboard.json holds: nothing without protocol, seeds and interval."""
    return {
        "command": command,
        **{key: getattr(board, key) for key in ("corpus", "protocol", "folds", "seeds", "notes", "failures")},
        "rows": [_describe_row(row, board) for row in board.rows],
        "comparisons": [asdict(comparison) for comparison in board.comparisons],
        "versions": versions(),
    }


def leaderboard_markdown(board: Leaderboard, command: str = "") -> str:
    """The tables as a page of Markdown."""
    parts = [f"# {board.corpus}, {board.protocol}"]
    parts += [f"Made by `{command}`."] if command else []
    parts.append(tables_markdown(leaderboard_tables(board)).rstrip())
    if board.failures:
        parts += ["## failed", "\n".join(f"- {run}: {escape_cell(reason)}" for run, reason in board.failures.items())]
    return "\n\n".join(filter(None, parts)) + "\n"


def insert_board(page: Path, name: str, markdown: str) -> None:
    """Put a board where a page of Markdown has room for it, see `find_place`.

    Headings go one level down, below those of the page.

    Raises:
        ConfigError: the page cannot be written, or has no such place.
    """
    before, after = find_place(page, name)
    deeper = re.sub(r"^#", "##", markdown.strip(), flags=re.MULTILINE)
    write_text(page, f"{before}\n\n{deeper}\n\n{after}")


def find_place(page: Path, name: str) -> tuple[str, str]:
    """What a page has up to <!-- board:NAME --> and from <!-- end:NAME --> on, both included.

    Raises:
        ConfigError: there is no such page, it cannot be read or written, or the two marks are not there once each, in
            this order, with no other board's between them.
    """
    begin, end = f"<!-- board:{name} -->", f"<!-- end:{name} -->"
    wanted = f"write {begin} and {end} once each, in this order, where the board should stand"
    if not page.is_file():
        raise ConfigError(f"{page}: there is no such page; make it, and {wanted}")
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{page}: not readable as text in UTF-8 ({error})") from error
    if not (os.access(page, os.W_OK) and os.access(page.parent, os.W_OK)):
        raise ConfigError(f"{page}: may not be written; change its permissions or those of its folder")
    before, _, rest = text.partition(begin)
    between, _, after = rest.partition(end)
    if (text.count(begin), text.count(end)) != (1, 1) or end in before or re.search("<!-- (board|end):", between):
        raise ConfigError(f"{page}: has no place for the board; {wanted}")
    return before + begin, end + after


# --- tables ------------------------------------------------------------------------------------------------------


def _score_table(board: Leaderboard, kind: str, rows: Sequence[BoardRow]) -> ReportTable:
    sizes = sorted({(row.num_clips, row.num_speakers) for row in rows})
    clips = " or ".join(f"{num_clips} test clips of {num_speakers} speakers" for num_clips, num_speakers in sizes)
    num_classes = len(next(iter(rows[0].runs.values())).metrics["emotions"])
    return ReportTable(
        TITLES[kind],
        ["system", "runs", "UAR, %", "WA, %", "UAR of a run", "WA of a run", "val UAR"],
        [
            [
                row.name,
                f"{len(row.runs)}/{row.num_asked}",
                row.uar,
                row.wa,
                _spread(row.each("test", "uar")),
                _spread(row.each("test", "wa")),
                fmean(row.each("val", "uar")),
            ]
            for row in rows
        ],
        f"{_conditions(board)}. {clips}. UAR (unweighted average recall) and WA (accuracy) over the test clips of all "
        "folds together, the mean of the seeds; intervals 95 %, from resampling speakers. "
        f"Of a run: mean {PLUS_MINUS} sd over folds and seeds. runs: finished of those asked for. "
        f"Guessing reaches a UAR of {100 / num_classes:.1f} %.",
        "; ".join(board.notes),
    )


def _cost_table(rows: Sequence[BoardRow]) -> ReportTable:
    timings = [run.timing for row in rows for run in row.runs.values()]
    machines = sorted({f"{timing['device']} of {timing['machine']}" for timing in timings})
    threads = sorted({f"{timing['num_threads']} threads, {timing['num_jobs']} side by side" for timing in timings})
    return ReportTable(
        "What they cost",
        ["system", "parameters", "epochs", "min a run", "clips/s, training", "clips/s, inference"],
        [
            [
                row.name,
                _num_parameters(row),
                _middle(row, "num_epochs"),
                _middle(row, "seconds", 1 / 60),
                _middle(row, "training_clips_per_s"),
                _middle(row, "inference_clips_per_s"),
            ]
            for row in rows
        ],
        "Medians over runs. Training: wall time of the whole run, reading and validation included. Inference: forward "
        f"passes alone, 32 clips a batch. Measured on {'; '.join(machines)}; {'; '.join(threads)}.",
    )


def _comparison_table(board: Leaderboard) -> ReportTable:
    return ReportTable(
        "Paired comparisons",
        ["first minus second, points", "runs", "clips", "speakers", "UAR", "p", "WA", "p"],
        [
            [
                f"{c.first} minus {c.second}",
                *(len(c.cells), c.num_clips, c.num_speakers),
                *(c.uar, format_p(c.uar_p), c.wa, format_p(c.wa_p)),
            ]
            for c in board.comparisons
        ],
        f"{_conditions(board)}. The same test clips of the same folds and seeds; intervals 95 %, from resampling "
        "speakers; p two-sided, from letting both rows change places for whole speakers. With G speakers p is never "
        "below 2 / 2^G.",
    )


def _published_table(board: Leaderboard, rows: Sequence[BoardRow]) -> ReportTable:
    cells = [
        [
            f"{row.name}: {'; '.join(filter(None, (p.paper, p.corpus, p.protocol, p.remark)))}",
            p.metric,
            "unknown" if p.value is None else f"{p.value:g}",
            *(f"{found.value:.1f}" if found else None for found in (row.uar, row.wa)),
            row.kind,
        ]
        for row in rows
        for p in row.published
    ]
    return ReportTable(
        "What papers report",
        ["system: paper; data; protocol; remark", "metric", "value, %", "here: UAR", "here: WA", "rows here"],
        cells,
        f"Here: {_conditions(board)}. Numbers of other data or another protocol are no yardstick for those here.",
    )


def _conditions(board: Leaderboard) -> str:
    folds, seeds = (", ".join(map(str, numbers)) for numbers in (board.folds, board.seeds))
    return f"Corpus {board.corpus}, protocol {board.protocol}, folds {folds}, seeds {seeds}"


# --- cells and rows ----------------------------------------------------------------------------------------------


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" + (f" {PLUS_MINUS} {stdev(values):.1f}" if len(values) > 1 else "")


def _middle(row: BoardRow, key: str, factor: float = 1.0) -> float | None:
    found = row.timings(key)
    return factor * median(found) if found else None


def _num_parameters(row: BoardRow) -> int | None:
    found = row.timings("num_parameters")
    return int(found[0]) if found else None


def _interval(name: str, found: Interval | None) -> dict[str, float | None]:
    ends = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _flat(row: BoardRow, board: Leaderboard) -> dict[str, Any]:
    """Plain numbers under plain names, as a spreadsheet takes them."""
    uar, wa = row.each("test", "uar"), row.each("test", "wa")
    return {
        "system": row.name,
        "kind": row.kind,
        "corpus": board.corpus,
        "protocol": board.protocol,
        "folds": " ".join(map(str, board.folds)),
        "seeds": " ".join(map(str, board.seeds)),
        "num_runs": len(row.runs),
        "num_asked": row.num_asked,
        "num_clips": row.num_clips,
        "num_speakers": row.num_speakers,
        "num_parameters": _num_parameters(row),
        **_interval("uar", row.uar),
        **_interval("wa", row.wa),
        "uar_run_mean": fmean(uar) if uar else None,
        "uar_run_sd": stdev(uar) if len(uar) > 1 else None,
        "wa_run_mean": fmean(wa) if wa else None,
        "wa_run_sd": stdev(wa) if len(wa) > 1 else None,
        "val_uar_mean": fmean(row.each("val", "uar")) if uar else None,
        **{key: _middle(row, key) for key in ("training_clips_per_s", "inference_clips_per_s", "seconds")},
    }


def _describe_row(row: BoardRow, board: Leaderboard) -> dict[str, Any]:
    return {
        **_flat(row, board),
        "overrides": list(row.entry.overrides),
        "published": [asdict(number) for number in row.published],
        "runs": [
            {
                "fold": fold,
                "seed": seed,
                **{key: run.metrics[key] for key in ("protocol", "split_fingerprint", "verdict", "notes")},
                "test": run.metrics["test"],
                "val": run.metrics["val"],
                "timing": run.timing,
            }
            for (fold, seed), run in row.runs.items()
        ],
    }
