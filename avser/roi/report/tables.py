"""Tables of a report: what they hold, how a cell is written, and the tables of regions and lags."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avser.evaluation.statistics import Interval
from avser.roi.localization import LagScores, LocalizationScores
from avser.roi.report.plots import MODALITY_WORDS

Cell = str | int | float | Interval | None


@dataclass
class ReportTable:
    """A table of a report.

    Attributes:
        title: what it is.
        columns: headings.
        rows: one list of cells a row; numbers are rounded, intervals written as value [low, high], None as a dash.
        caption: how to read it.
        note: a remark under the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""


def format_cell(value: Cell) -> str:
    """A cell as text: three decimals, fewer from 1 and from 10 upwards; a dash where there is no value."""
    if isinstance(value, Interval):
        return f"{value:{_digits(value.value)}}" if math.isfinite(value.value) else DASH
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    return f"{value:{_digits(value)}}" if isinstance(value, float) else str(value)


def format_p(p_value: float | None) -> str:
    """A p-value as text: three decimals, and never 0, which no test gives; a dash where there is none."""
    if p_value is not None and p_value < 0.0005:
        return "< 0.001"
    return format_cell(None if p_value is None else float(p_value))


def region_table(scores: Mapping[str, LocalizationScores]) -> ReportTable:
    """How well found regions meet true ones, per modality, beside chance."""
    return ReportTable(
        "Found regions against true ones",
        ["", "AUROC of steps", "overlap (IoU)", "at random", "peak inside", "at random"],
        [
            [
                MODALITY_WORDS.get(name, name),
                s.auroc,
                s.iou,
                s.chance_iou.value,
                s.hit_rate,
                s.chance_hit_rate.value,
            ]
            for name, s in scores.items()
        ],
        "Curves are smoothed as they are to find regions. AUROC: how often a step inside a true region is more salient "
        "than one outside; 0.5 is chance. IoU: overlap "
        "over union of found and true regions; at random: the same regions placed anywhere in the clip. Peak inside: "
        "how often the most salient step lies in a true region.",
        _left_out_note(scores),
    )


def lag_table(scores: Mapping[str, LagScores]) -> ReportTable:
    """How well the planted lag between voice and face is recovered, by each way to estimate it, beside chance."""
    left_out = max(s.num_left_out for s in scores.values())
    return ReportTable(
        "Who leads, and by how much",
        ["lag from", "median error, s", "mean error, s", "by chance, s", "correlation"],
        [[name, s.median_error_s, s.error_s, s.chance_error_s.value, s.correlation] for name, s in scores.items()],
        "The recovered lag against the true one. By chance: mean error against the true lags of all other clips.",
        f"Giving every clip the median true lag, without looking at it, has a median error of "
        f"{next(iter(scores.values())).constant_error_s:.3f} s."
        + (f" {left_out} clips were left out, for want of a region." if left_out else ""),
    )


DASH = "\N{EN DASH}"


def _digits(value: float) -> str:
    return "z.1f" if abs(value) >= 10 else "z.2f" if abs(value) >= 1 else "z.3f"  # z: no minus before a zero


def _left_out_note(scores: Mapping[str, LocalizationScores]) -> str:
    parts = [f"{next(iter(scores.values())).num_clips} clips"] if scores else []
    for name, s in scores.items():
        if s.num_silent or s.num_left_out:
            parts.append(
                f"{MODALITY_WORDS.get(name, name)}: no region found in {s.num_silent} clips (their overlap counts as "
                f"0), {s.num_left_out} clips left out for want of a true region or of time outside it"
            )
    return "; ".join(parts) + "." if parts else ""
