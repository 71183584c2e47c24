"""A study of faithfulness written down: tables for a terminal or a report, a page of Markdown, and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from avser.experiments.faithfulness.results import (
    BETTER,
    LEAST_TAU,
    LEVEL,
    MAIN,
    FaithfulnessStudy,
    Score,
    control_words,
    source_words,
)
from avser.roi.report.plots import MODALITY_WORDS, save_figure
from avser.roi.report.study_plots import plot_faithfulness
from avser.roi.report.table_markdown import tables_markdown
from avser.roi.report.tables import Cell, ReportTable, format_p
from avser.roi.report.view import FaithfulnessRow
from avser.roi.trust.controls import CONTROLS
from avser.training.checkpoint import versions, write_json, write_text

NO_WHEN = "says nothing about when"
MEASURE_WORDS = {
    MAIN: "comprehensiveness",
    "sufficiency": "sufficiency",
    "deletion_auc": "deletion AUC",
    "insertion_auc": "insertion AUC",
}


def faithfulness_tables(study: FaithfulnessStudy) -> list[ReportTable]:
    """Values of saliences and controls, their differences, their course over shares of the clip, and sanity checks."""
    tables = [
        _value_table(study),
        _contrast_table(study, [MAIN, "sufficiency"]),
        _contrast_table(study, ["deletion_auc", "insertion_auc"]),
        _fraction_table(study, 0, "Comprehensiveness by share of the clip"),
        _fraction_table(study, 1, "Sufficiency by share of the clip"),
    ]
    return [*tables, _sanity_table(study)]


def faithfulness_rows(study: FaithfulnessStudy) -> list[FaithfulnessRow]:
    """The verdicts beside the strongest control of each, for the page of a clip; none where nobody can tell."""
    rows = []
    for source, verdict in study.verdicts.items():
        against = [c for c in study.contrasts if c.source == source and c.measure == MAIN]
        if not against or not (verdict.can_tell or verdict.is_degenerate):
            continue
        worst = max(against, key=lambda contrast: contrast.holm_p)
        if verdict.is_degenerate:
            rows.append(FaithfulnessRow(source, study.modality, math.nan, math.nan, math.nan, False, verdict=NO_WHEN))
            continue
        own = next(s for s in study.scores if (s.name, s.operator) == (source, worst.operator)).measures[MAIN].value
        rows.append(
            FaithfulnessRow(
                source,
                study.modality,
                comprehensiveness=own,
                control=own - worst.difference.value,
                p_value=worst.holm_p,
                is_faithful=verdict.beats_controls,
                control_name=control_words(worst.control, study.modality),
            )
        )
    return rows


def faithfulness_markdown(study: FaithfulnessStudy, command: str = "") -> str:
    """The sentences, then the tables, as a page of Markdown."""
    whose = study.runs[0] if len(study.runs) == 1 else f"{len(study.runs)} runs"
    parts = [f"# Faithfulness: {MODALITY_WORDS[study.modality]} of {whose}", *study.sentences()]
    parts += [f"Made by `{command}`."] if command else []
    parts += ["Runs: " + ", ".join(f"`{run}`" for run in study.runs) + "."] if len(study.runs) > 1 else []
    return "\n\n".join([*parts, tables_markdown(faithfulness_tables(study))])


def faithfulness_figures(study: FaithfulnessStudy) -> dict[str, Figure]:
    """Operator -> the answer's probability while moments go and come, saliences over their controls."""
    found = {}
    for operator in study.operators:
        scores = [score for score in study.scores if score.operator == operator]
        names = {id(score): _line_name(score, study) for score in scores}
        found[operator] = plot_faithfulness(
            {names[id(s)]: (np.array(s.course.shares), np.array(s.course.without)) for s in scores},
            {names[id(s)]: (np.array(s.course.shares), np.array(s.course.alone)) for s in scores},
            controls={names[id(s)] for s in scores if s.is_control},
            modality=study.modality,
            title=f"{MODALITY_WORDS[study.modality]}, moments taken away ({operator})",
        )
    return found


def write_faithfulness(study: FaithfulnessStudy, out: Path, *, command: str = "") -> None:
    """faithfulness.json and faithfulness.md in the folder `out`, and a figure for each way to take moments away."""
    write_json(out / "faithfulness.json", {"command": command, **study.to_dict(), "versions": versions()})
    write_text(out / "faithfulness.md", faithfulness_markdown(study, command))
    for operator, figure in faithfulness_figures(study).items():
        for suffix in (".png", ".svg"):
            save_figure(figure, out / f"faithfulness_{operator}{suffix}")


def _value_table(study: FaithfulnessStudy) -> ReportTable:
    return ReportTable(
        f"Faithfulness: {MODALITY_WORDS[study.modality]}",
        ["", "replaced by", *MEASURE_WORDS.values()],
        [
            [_name(score, study), score.operator, *(score.measures[measure] for measure in MEASURE_WORDS)]
            for score in study.scores
        ],
        "Comprehensiveness: probability that the model's answer loses without the top moments; sufficiency: with "
        f"nothing but them; both are means over {_percent(study.fractions)} of the clip. AUC: area under the "
        "probability while the top moments go, or come. A faithful salience has more comprehensiveness and insertion, "
        "and less sufficiency and deletion, than the controls.",
        f"{study.num_clips} clips, {study.num_speakers} speakers; intervals 95 %, over the means of speakers. Moments "
        f"are cells of {1000 * study.cell_s:.0f} ms.",
    )


def _contrast_table(study: FaithfulnessStudy, measures: Sequence[str]) -> ReportTable:
    found = {(c.source, c.operator, c.control, c.measure): c for c in study.contrasts}
    rows: list[list[Cell]] = []
    for source, operator, control in dict.fromkeys(key[:3] for key in found):
        row: list[Cell] = [source_words(source), operator, control_words(control, study.modality)]
        for measure in measures:
            contrast = found[source, operator, control, measure]
            row += [contrast.difference, format_p(contrast.holm_p)]
        rows.append(row)
    better = {"greater": "above", "less": "below"}
    columns = [c for m in measures for c in (f"{MEASURE_WORDS[m]}, difference", "p")]
    return ReportTable(
        f"Against the controls: {' and '.join(MEASURE_WORDS[m] for m in measures)}",
        ["", "replaced by", "against", *columns],
        rows,
        "Salience minus control, paired by clip; better is "
        + ", ".join(f"{better[BETTER[m]]} 0 for {MEASURE_WORDS[m]}" for m in measures)
        + ". p: that it is no better; one-sided sign flips over speakers, after Holm over the controls.",
        f"With {study.num_speakers} speakers no p before Holm is below {0.5**study.num_speakers:.2g}."
        if 0.5**study.num_speakers > LEVEL / 100
        else "",
    )


def _fraction_table(study: FaithfulnessStudy, which: int, title: str) -> ReportTable:
    return ReportTable(
        title,
        ["", "replaced by", *(f"{100 * share:g} %" for share in study.fractions)],
        [
            [_name(score, study), score.operator, *(score.by_fraction[share][which] for share in study.fractions)]
            for score in study.scores
        ],
    )


def _sanity_table(study: FaithfulnessStudy) -> ReportTable:
    shares = list(dict.fromkeys(check.share for check in study.weight_checks))
    weights = {(check.source, check.share): check for check in study.weight_checks}
    seeds = {check.source: check for check in study.seed_checks}
    rows: list[list[Cell]] = []
    for source in study.verdicts:
        row: list[Cell] = [source_words(source), f"{len(study.degenerate[source])} of {study.num_clips}"]
        for share in shares:
            row += [weights[source, share].spearman, weights[source, share].kendall]
        rows.append([*row, seeds[source].tau if source in seeds else None])
    columns = [c for share in shares for c in (f"rho, {100 * share:g} % anew", "tau")]
    return ReportTable(
        "Does it depend on what was learned?",
        ["", "degenerate", *columns, "tau between seeds"],
        rows,
        "Degenerate: clips whose curve says nothing about when. Anew: Spearman's rho and Kendall's tau with the same "
        "salience once so many of the layers, the last ones first, have random weights (median over clips); near 0 is "
        f"good. Between seeds: Kendall's tau of models trained alike; below {LEAST_TAU} do not interpret.",
    )


def _name(score: Score, study: FaithfulnessStudy) -> str:
    return f"({_line_name(score, study)})" if score.is_control else source_words(score.name)


def _line_name(score: Score, study: FaithfulnessStudy) -> str:
    return control_words(score.name, study.modality) if score.name in CONTROLS else source_words(score.name)


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:g}" for share in shares) + " %"
