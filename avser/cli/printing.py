"""What the subcommands print: tables and answers on stdout, progress and warnings on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from avser.evaluation.statistics import Interval
    from avser.roi.report.tables import ReportTable

FILE_WIDTH = 120  # of tables where stdout is no terminal that knows its own
LOG = Console(stderr=True, soft_wrap=True)


def print_table(table: ReportTable) -> None:
    """A table of results on stdout."""
    from avser.roi.report.tables import format_cell

    rows = [[format_cell(cell) for cell in row] for row in table.rows]
    shown = Table(title=escape(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(table.columns):
        widest = max((len(row[i]) for row in rows), default=0)
        shown.add_column(escape(column), justify="right" if i else "left", min_width=widest if i else None)
    for row in rows:
        shown.add_row(*map(escape, row))
    out = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    out.print(shown)
    for remark in filter(None, (table.caption, table.note)):
        out.print(remark, style="dim", markup=False, highlight=False)


def print_scores(metrics: dict[str, Any], split: str, folder: Path) -> None:
    from avser.roi.report.tables import ReportTable

    scores = metrics[split]
    print_table(
        ReportTable(
            f"{folder}, {split}",
            ["", "%"],
            [["UAR", _read_interval(scores["uar"])], ["WA", _read_interval(scores["wa"])]],
            f"{scores['num_clips']} clips of {scores['num_speakers']} speakers; intervals 95 %, clustered by speaker. "
            f"Protocol {metrics['protocol']}, split {metrics['split_fingerprint']}, seed {metrics['seed']}; "
            f"{_verdict_line(metrics)}.",
            "; ".join(metrics["notes"]),
        )
    )


def warn(sentence: str) -> None:
    LOG.print(f"warning: {sentence}", markup=False)


def _verdict_line(metrics: dict[str, Any]) -> str:
    from avser.data.splits import Verdict

    stored = metrics.get("verdict")
    return str(Verdict(**stored)) if stored else "written before splits were judged"


def _read_interval(stored: dict[str, float | None]) -> Interval:
    """An interval out of metrics.json, where a bound that does not exist is null."""
    from avser.evaluation.statistics import Interval

    return Interval(**{name: float("nan") if value is None else value for name, value in stored.items()})
