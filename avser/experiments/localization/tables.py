"""The study of localisation written down: tables for a terminal or a page, and everything as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avser.evaluation.statistics import Interval
from avser.experiments.localization.study import LocalizationStudy, SourceScores
from avser.roi.report.plots import MODALITY_WORDS, save_figure
from avser.roi.report.study_plots import plot_localization
from avser.roi.report.table_markdown import tables_markdown
from avser.roi.report.tables import Cell, ReportTable
from avser.training.checkpoint import versions, write_json, write_text

RANKED = {"mass": "the share of the curve that they hold", "peak": "the highest value of the curve in them"}
WHICH = {"": "", "test": "test ", "val": "validation "}
ASKED = {"predicted": "the emotion that the model named", "true": "the true emotion"}


def localization_tables(study: LocalizationStudy) -> list[ReportTable]:
    """Moments and regions against the truth, and lags where a run has voice and face."""
    tables = [_moment_table(study), _detection_table(study)] if study.scores else []
    return tables + ([_lag_table(study)] if study.lags else [])


def write_localization(study: LocalizationStudy, out: Path, *, command: str = "") -> None:
    """localization.json, localization.md and a figure of the AUROC as PNG and SVG in the folder `out`.

    Args:
        command: what made them, for the reader who wants them again.
    """
    write_json(out / "localization.json", {"command": command, **study.to_dict(), "versions": versions()})
    write_text(out / "localization.md", localization_markdown(study, command))
    scores: dict[str, dict[str, Interval]] = {}
    for row in study.scores:
        scores.setdefault(f"{row.run}: {row.source}", {})[row.modality] = row.localization.auroc
    if scores:
        for suffix in (".png", ".svg"):
            save_figure(plot_localization(scores), out / f"auroc{suffix}")


def localization_markdown(study: LocalizationStudy, command: str = "") -> str:
    """The tables as a page of Markdown."""
    parts = ["# Found regions against true ones"]
    parts += [f"Made by `{command}`."] if command else []
    parts.append("\n".join(f"- {name}: {folder}" for name, folder in study.folders.items()))
    parts.append(tables_markdown(localization_tables(study)).rstrip())
    for title, sentences in (("Notes", study.notes), ("Not asked", study.failures)):
        if sentences:
            parts += [f"## {title}", "\n".join(f"- {sentence}" for sentence in sentences)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _moment_table(study: LocalizationStudy) -> ReportTable:
    rows: list[list[Cell]] = []
    for row in study.scores:
        s = row.localization
        rows.append([_name(row), s.num_clips, s.auroc, s.hit_rate, s.chance_hit_rate.value, s.iou, s.chance_iou.value])
    clips = _range([row.localization.num_clips for row in study.scores])
    speakers = _range([row.localization.num_speakers for row in study.scores])
    silent = {_name(row): row.localization.num_silent for row in study.scores}
    named = [round(100 * row.named_right) for row in study.scores]
    return ReportTable(
        "Moments and regions",
        ["", "clips", "AUROC", "peak inside", "at random", "IoU", "at random"],
        rows,
        f"{clips} {WHICH[study.part]}clips with a true region, of {speakers} speakers; "
        f"intervals 95 %, from resampling speakers. Asked about {ASKED[study.target]}, which is the true one in "
        f"{_range(named)} % of the clips. AUROC: how often a step inside a true region is more salient than one "
        "outside, 0.5 by chance. Peak inside: how often the most salient step lies in a true region. IoU: overlap over "
        "union of found and true regions; at random: the same regions placed anywhere in the clip.",
        "; ".join(
            f"{name}: no region in {num} clips, whose overlap counts as 0" for name, num in silent.items() if num
        ),
    )


def _detection_table(study: LocalizationStudy) -> ReportTable:
    columns = [""]
    for scores in study.scores[0].detection:
        columns += [f"mAP at IoU {scores.min_iou:g}", "at random"]
    rows: list[list[Cell]] = []
    for row in study.scores:
        cells: list[Cell] = [_name(row)]
        for scores in row.detection:
            cells += [scores.precision, scores.chance.value]
        rows.append(cells)
    num_true = _range([row.detection[0].num_true for row in study.scores])
    return ReportTable(
        "Regions as detections",
        columns,
        rows,
        f"The regions of all clips ranked by {RANKED[study.ranking]}; average precision of the one class "
        f'"emotional". {_range([row.num_asked for row in study.scores])} clips with {num_true} true regions: in clips '
        "without one, whatever is found is a false alarm. At random: the same regions, with their ranks, placed "
        "anywhere in their clips.",
    )


def _lag_table(study: LocalizationStudy) -> ReportTable:
    return ReportTable(
        "Who leads, and by how much",
        ["", "lag from", "median error, s", "mean error, s", "by chance, s", "correlation"],
        [
            [
                f"{row.run}, {row.source}",
                row.way,
                row.lags.median_error_s,
                row.lags.error_s,
                row.lags.chance_error_s.value,
                row.lags.correlation,
            ]
            for row in study.lags
        ],
        "The recovered lag against the true one. By chance: mean error against the true lags of all other clips.",
        f"Giving every clip the median true lag, without looking at it, has a median error of "
        f"{study.lags[0].lags.constant_error_s:.3f} s.",
    )


def _name(row: SourceScores) -> str:
    return f"{row.run}, {MODALITY_WORDS[row.modality]}, {row.source}"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
