"""A leaderboard: systems and variants of them on one corpus under one protocol, scored on all test clips, compared.

plan.py says what is to be trained, tables.py writes down what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avser.config import load_config
from avser.errors import AvserError, CheckpointError
from avser.evaluation.pooled import compare_pools, score_pool
from avser.evaluation.statistics import Interval
from avser.experiments.leaderboard.plan import Entry, Join, count_folds, find_pair, read_entries, read_joins, run_config
from avser.experiments.runs.grid import run_folder, run_grid
from avser.experiments.runs.result import Cell, RunResult, join_runs, pool_answers, read_run, shared_answers

STRICT, PAPER = "strict", "paper"


@dataclass(frozen=True)
class Published:
    """A number that a paper reports, in percent; None where it is not known."""

    paper: str
    corpus: str
    protocol: str
    metric: str
    value: float | None
    remark: str = ""


@dataclass
class BoardRow:
    """One system or variant.

    Attributes:
        kind: "strict" or "paper"; None without a finished run.
        runs: (fold, seed) -> what was found.
        num_asked: runs that were to be made.
        uar, wa: over all test clips of all folds, the mean of the seeds, in percent; resampled by speaker.
    """

    entry: Entry
    runs: dict[Cell, RunResult]
    num_asked: int
    published: Sequence[Published] = ()
    kind: str | None = None
    num_clips: int = 0
    num_speakers: int = 0
    uar: Interval | None = None
    wa: Interval | None = None

    @property
    def name(self) -> str:
        return self.entry.name

    def each(self, part: str, metric: str) -> list[float]:
        """A metric of every run by itself, in percent."""
        return [run.metrics[part][metric]["value"] for run in self.runs.values()]

    def timings(self, key: str) -> list[float]:
        return [run.timing[key] for run in self.runs.values() if run.timing.get(key) is not None]


@dataclass
class Comparison:
    """First row minus second over the same test clips of the same folds and seeds, in percentage points."""

    first: str
    second: str
    cells: list[Cell]
    num_clips: int
    num_speakers: int
    uar: Interval
    uar_p: float
    wa: Interval
    wa_p: float


@dataclass
class Leaderboard:
    """Everything that was found; `failures`: run -> reason, `notes`: what limits how rows may be compared."""

    corpus: str
    protocol: str
    folds: list[int]
    seeds: list[int]
    rows: list[BoardRow]
    comparisons: list[Comparison] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build_leaderboard(
    systems: Sequence[str],
    *,
    corpus: str,
    protocol: str,
    out: Path,
    folds: Sequence[int] | None = (0,),
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
    variants: Path | None = None,
    joins: Iterable[Sequence[str]] = (),
    comparisons: Iterable[Sequence[str]] = (),
    jobs: int = 1,
    published: Mapping[str, Sequence[Published]] | None = None,
) -> Leaderboard:
    """Train what is not trained yet, below `out`/runs, and score it.

    Args:
        systems: names of configurations, each with `:variant` where a variant of it is meant.
        corpus: name or path of a corpus's configuration.
        folds: of the protocol; None for all of them.
        overrides: `key=value` for every row; a variant's own win over them.
        variants: YAML file, system -> variant -> list of `key=value`.
        joins: a name and its rows, "A+B": one more row that answers with the product of their posteriors.
        comparisons: pairs of rows.
        published: system -> what papers report.

    Raises:
        ConfigError: before anything is trained: an unknown system, variant, key, protocol or row.
        AvserError: the manifest cannot be read, where it is needed to count the folds.
    """
    entries = read_entries(systems, variants)
    joined = read_joins(joins, entries)
    pairs = [find_pair(pair, [*entries, *(join.entry for join in joined)]) for pair in comparisons]
    sources = [corpus, *overrides]
    configs = [load_config([e.system, *sources, *e.overrides, f"data.protocol={protocol}"]) for e in entries]
    folds = list(range(count_folds(configs[0]))) if folds is None else list(folds)
    cells = [(fold, seed) for fold in folds for seed in seeds]
    plan = {
        (entry.name, cell): run_config(config, entry.name, cell, out)
        for cell in cells
        for entry, config in zip(entries, configs, strict=True)
    }
    board = Leaderboard(Path(corpus).stem, protocol, folds, list(seeds), [])
    rows = {
        entry.name: BoardRow(entry, {}, len(cells), (published or {}).get(Path(entry.system).stem, ()))
        for entry in entries
    }
    for ((name, cell), config), outcome in zip(plan.items(), run_grid(list(plan.values()), jobs=jobs), strict=True):
        try:
            if outcome.reason:
                raise CheckpointError(outcome.reason)
            rows[name].runs[cell] = read_run(run_folder(config))
        except AvserError as error:
            board.failures[config.name] = str(error)
    for join in joined:
        rows[join.entry.name] = join_rows(board, join, rows)
    for row in rows.values():
        score_row(row)
    board.rows = sorted(rows.values(), key=lambda row: -row.uar.value if row.uar else np.inf)
    for first, second in pairs:
        compare_rows(board, rows[first], rows[second])
    if empty := [row.name for row in board.rows if not row.runs]:
        board.notes.append(f"without a finished run, and so not in the tables: {', '.join(empty)}")
    board.notes += _split_notes(board, folds)
    return board


def join_rows(board: Leaderboard, join: Join, rows: Mapping[str, BoardRow]) -> BoardRow:
    """The row of several that answer together, in every fold and with every seed that all of them have."""
    parts = [rows[name] for name in join.parts]
    row = BoardRow(join.entry, {}, parts[0].num_asked)
    for cell in parts[0].runs:
        if all(cell in part.runs for part in parts):
            try:
                row.runs[cell] = join_runs({part.name: part.runs[cell] for part in parts})
            except AvserError as error:
                board.failures[f"{row.name}/fold{cell[0]}-seed{cell[1]}"] = str(error)
    board.notes.append(f"{row.name} is no system: the product of the posteriors of {' and '.join(join.parts)}")
    return row


# --- scores ------------------------------------------------------------------------------------------------------


def score_row(row: BoardRow) -> None:
    """Pool the test clips of all folds, seed by seed, and resample speakers."""
    if not row.runs:
        return
    runs = list(row.runs.values())
    row.kind = STRICT if all(run.is_strict for run in runs) else PAPER
    scores = score_pool(pool_answers({cell: run.test for cell, run in row.runs.items()}))
    row.num_clips, row.num_speakers, row.uar, row.wa = scores.num_clips, scores.num_speakers, scores.uar, scores.wa


def compare_rows(board: Leaderboard, first: BoardRow, second: BoardRow) -> None:
    """Add the paired difference of two rows to the board, or a note where they share no run."""
    names = f"{first.name} against {second.name}"
    cells = [cell for cell in first.runs if cell in second.runs]
    if any(first.runs[cell].metrics["emotions"] != second.runs[cell].metrics["emotions"] for cell in cells):
        board.notes.append(f"{names}: not compared, their emotions differ")
        return
    tests = [{cell: row.runs[cell].test for cell in cells} for row in (first, second)]
    try:
        shared = shared_answers(tests)
    except CheckpointError as error:
        board.notes.append(f"{names}: not compared, {error}")
        return
    if not shared:
        board.notes.append(f"{names}: not compared, no fold and seed has test clips that both answered")
        return
    a, b = shared
    if num_left_out := sum(len(set(tests[0][cell].clip_ids) ^ set(tests[1][cell].clip_ids)) for cell in cells):
        board.notes.append(f"{names}: {num_left_out} test clips that only one of them answered are left out")
    found = compare_pools(pool_answers(a), pool_answers(b))
    sizes = found.num_clips, found.num_speakers
    board.comparisons.append(
        Comparison(first.name, second.name, list(a), *sizes, found.uar, found.uar_p, found.wa, found.wa_p)
    )


def _split_notes(board: Leaderboard, folds: Sequence[int]) -> list[str]:
    """A warning for every fold in which not all rows were trained and tested on the same clips."""
    notes = []
    for fold in folds:
        splits: dict[str, list[str]] = {}
        for row in board.rows:
            for (its_fold, _), run in row.runs.items():
                names = splits.setdefault(run.metrics["split_fingerprint"], [])
                if its_fold == fold and row.name not in names:
                    names.append(row.name)
        groups = [names for names in splits.values() if names]
        if len(groups) > 1:
            words = "; ".join(", ".join(names) for names in groups)
            notes.append(f"fold {fold}: rows differ in their clips, so their scores are not quite comparable: {words}")
    return notes
