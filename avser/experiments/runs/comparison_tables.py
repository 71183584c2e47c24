"""A comparison of runs written down: tables for a terminal or a page, CSV and JSON."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avser.data.splits import Verdict
from avser.evaluation.statistics import Interval
from avser.experiments.runs.comparison import ComparedRun, RunComparison
from avser.roi.report.table_markdown import tables_markdown
from avser.roi.report.tables import Cell, ReportTable, format_p
from avser.training.checkpoint import write_json, write_text

MOST_DIFFERENCES = 12  # of one run that are listed; all are in runs.json
MOST_LETTERS = 32  # of a value
MIB = 2**20


def comparison_tables(found: RunComparison) -> list[ReportTable]:
    """Scores, tests, what differs between the runs, and what they cost."""
    tests = [_difference_table(found)] if len(found.runs) > 1 else []
    return [_score_table(found), *tests, _settings_table(found), _cost_table(found)]


def write_comparison(found: RunComparison, out: Path, *, command: str = "") -> None:
    """runs.md, runs.csv and runs.json in the folder `out`.

    Args:
        command: what made it, for the reader who wants it again.
    """
    rows = [describe_run(run, found) for run in found.runs]
    write_json(out / "runs.json", {"command": command, "notes": found.notes, "runs": rows})
    page = tables_markdown(comparison_tables(found))
    write_text(out / "runs.md", f"# Runs compared\n\nMade by `{command}`.\n\n{page}" if command else page)
    flat = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in rows]
    with (out / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)


def describe_run(run: ComparedRun, found: RunComparison) -> dict[str, Any]:
    """Plain values under plain names; `differences` and `verdict` are mappings of their own."""
    difference = run.difference
    return {
        "run": str(run.folder),
        "is_reference": run is found.reference,
        "system": run.config.model.system,
        "protocol": run.config.data.protocol,
        "fold": run.config.data.fold,
        "seed": run.config.seed,
        "split_fingerprint": run.fingerprint,
        "num_clips": run.scores.num_clips,
        "num_speakers": run.scores.num_speakers,
        **_ends("uar", run.scores.uar),
        **_ends("wa", run.scores.wa),
        **_ends("uar_difference", difference.uar if difference else None),
        "uar_p_holm": run.uar_p,
        **_ends("wa_difference", difference.wa if difference else None),
        "wa_p_holm": run.wa_p,
        "num_parameters": run.num_parameters,
        "num_stored": run.num_stored,
        "seconds": run.seconds,
        "peak_memory_bytes": run.peak_memory_bytes,
        "verdict": run.result.metrics.get("verdict") or {},
        "differences": {key: [_plain(value) for value in pair] for key, pair in run.differences.items()},
    }


# --- tables ------------------------------------------------------------------------------------------------------


def _score_table(found: RunComparison) -> ReportTable:
    names = short_names([run.folder for run in found.runs])
    scores = found.reference.scores
    return ReportTable(
        "Runs on the same test clips",
        ["run", "system", "protocol, fold, seed", "split", "UAR, %", "WA, %"],
        [
            [
                f"{number}. {_printable(name)}",
                _printable(run.config.model.system),
                _printable(f"{run.config.data.protocol}, {run.config.data.fold}, {run.config.seed}"),
                run.fingerprint[:8],
                run.scores.uar,
                run.scores.wa,
            ]
            for number, (name, run) in enumerate(zip(names, found.runs, strict=True), 1)
        ],
        f"{found.num_clips} clips of {scores.num_speakers} speakers; intervals 95 %, from resampling speakers. "
        f"Guessing reaches a UAR of {100 / len(found.emotions):.1f} %. Split: the beginning of the fingerprint of all "
        f"its clips. A run is one seed: the intervals do not tell what another would give. {_verdicts(found)}",
        "; ".join(map(_printable, found.notes)),
    )


def _difference_table(found: RunComparison) -> ReportTable:
    return ReportTable(
        f"Minus the reference, run {found.runs.index(found.reference) + 1}",
        ["run", "UAR, points", "p", "WA, points", "p"],
        [
            [str(number), told.uar, format_p(run.uar_p), told.wa, format_p(run.wa_p)]
            for number, run in enumerate(found.runs, 1)
            if (told := run.difference)
        ],
        "The same clips; intervals 95 %, from resampling speakers; p two-sided, from letting run and reference change "
        "places for whole speakers, and after Holm over the runs. With G speakers no single p is below 2 / 2^G.",
    )


def _settings_table(found: RunComparison) -> ReportTable:
    rows: list[list[Cell]] = []
    for number, run in enumerate(found.runs, 1):
        shown = list(run.differences.items())[:MOST_DIFFERENCES]
        rows += [[str(number), _printable(key), _short(here), _short(theirs)] for key, (here, theirs) in shown]
        if more := len(run.differences) - len(shown):
            rows.append([str(number), f"and {more} more", None, None])
    return ReportTable(
        "What differs in their configurations",
        ["run", "setting", "here", "in the reference"],
        rows,
        "" if rows else "Nothing but their names.",
    )


def _cost_table(found: RunComparison) -> ReportTable:
    return ReportTable(
        "What they cost",
        ["run", "parameters", "minutes", "peak memory, MiB"],
        [
            [
                str(number),
                _parameters(run),
                None if run.seconds is None else run.seconds / 60,
                None if run.peak_memory_bytes is None else run.peak_memory_bytes / MIB,
            ]
            for number, run in enumerate(found.runs, 1)
        ],
        "As the run folders say; machines may differ. At most: with the buffers of the model, where its parameters "
        "were not counted. Peak memory: resident, of the training process.",
    )


# --- cells -------------------------------------------------------------------------------------------------------


def short_names(folders: Sequence[Path]) -> list[str]:
    """The folders without the beginning that they share."""
    parts = [folder.resolve().parts for folder in folders]
    shared = 0
    while len(folders) > 1 and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return ["/".join(p[shared:] if len(folders) > 1 else p[-1:]) for p in parts]


def _plain(value: Any) -> Any:
    """What JSON can hold of a setting."""
    return value if isinstance(value, str | int | float | None) else str(value)


def _short(value: object) -> str:
    text = _printable(value)
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."


def _parameters(run: ComparedRun) -> Cell:
    if run.num_parameters is not None:
        return run.num_parameters
    return None if run.num_stored is None else f"at most {run.num_stored}"


def _verdicts(found: RunComparison) -> str:
    """What the splits keep apart, each verdict once."""
    numbers: dict[str, list[str]] = {}
    for number, run in enumerate(found.runs, 1):
        numbers.setdefault(_verdict(run), []).append(str(number))
    return " ".join(f"Runs {', '.join(those)}: {verdict}." for verdict, those in numbers.items())


def _verdict(run: ComparedRun) -> str:
    stored = run.result.metrics.get("verdict")
    try:
        return _printable(Verdict(**stored)) if stored else "not judged"
    except TypeError:
        return "not judged"


def _ends(name: str, found: Interval | None) -> dict[str, float | None]:
    ends = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _printable(text: object) -> str:
    """A text out of a folder from elsewhere, without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))
