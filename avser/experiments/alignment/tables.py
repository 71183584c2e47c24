"""A study of alignment as tables: voice and face against every null model, apart by emotion and the like, who leads."""

from __future__ import annotations

from collections.abc import Sequence

from avser.experiments.alignment.study import ALL, LEADS, MAIN_NULL, AlignmentStudy, Stratum
from avser.experiments.alignment.words import WORDS
from avser.roi.alignment.nulls import NULLS
from avser.roi.report.tables import Cell, ReportTable, format_p

STRATA = ("r0", "r_max", "js", "iou")  # the measures that are shown apart by emotion and the like; JSON has them all
HINT = {"greater": "higher is more aligned", "less": "lower is more aligned"}


def alignment_tables(study: AlignmentStudy) -> list[ReportTable]:
    """What `avser.experiments.alignment.words` says in sentences, with all its numbers."""
    tables = [_null_table(study, null) for null in study.nulls]
    tables += [_stratum_table(study, kind) for kind in dict.fromkeys(stratum.kind for stratum in study.strata)]
    return [*tables, _lead_table(study)] if study.leads else tables


def _null_table(study: AlignmentStudy, null: str) -> ReportTable:
    test, is_main = study.nulls[null], null == MAIN_NULL
    rows: list[list[Cell]] = [
        [
            f"{WORDS[measure][0]} ({HINT[result.tail]})",
            result.observed,
            result.chance,
            result.difference,
            format_p(result.p_value),
            format_p(result.p_speakers),
            *([format_p(study.holm_p[measure])] if is_main else []),
        ]
        for measure, result in test.results.items()
    ]
    return ReportTable(
        f"Voice and face against {NULLS[null].words}",
        ["measure", "observed", "by chance", "difference", "p", "p, speakers", *(["p, Holm"] if is_main else [])],
        rows,
        f"{len(test.clips)} clips of {test.num_speakers} speakers, {test.num_permutations} permutations. p: share of "
        "permutations at least as aligned; p, speakers: sign flips of the speakers' mean differences"
        + (", which Holm's method corrects for the number of measures" if is_main else "")
        + ". Intervals 95 %, from resampling speakers."
        + ("" if is_main else " This null model does not know that emotions tend to peak mid-clip; re-pairing does."),
        "; ".join(test.notes),
    )


def _stratum_table(study: AlignmentStudy, kind: str) -> ReportTable:
    chosen = [stratum for stratum in study.strata if stratum.kind == kind and stratum.measure in STRATA]
    return ReportTable(
        f"Apart by {kind}, against {NULLS[MAIN_NULL].words}",
        [kind, "clips", *(f"{WORDS[m][0]}, minus chance" for m in _measures(chosen)), "lowest q"],
        [_stratum_row(value, chosen) for value in dict.fromkeys(stratum.value for stratum in chosen)],
        "Observed minus chance, with intervals from resampling speakers. q: p of sign flips over speakers, corrected "
        "(Benjamini and Hochberg) over all rows and measures.",
    )


def _stratum_row(value: str, strata: Sequence[Stratum]) -> list[Cell]:
    own = {stratum.measure: stratum for stratum in strata if stratum.value == value}
    first = next(iter(own.values()))
    differences: list[Cell] = [own[m].difference if m in own else None for m in _measures(strata)]
    return [value, first.num_clips, *differences, format_p(min(stratum.q_value for stratum in own.values()))]


def _measures(strata: Sequence[Stratum]) -> list[str]:
    return [m for m in STRATA if any(stratum.measure == m for stratum in strata)]


def _lead_table(study: AlignmentStudy) -> ReportTable:
    return ReportTable(
        "Who leads",
        ["by", "clips", "voice minus face, s", "face first, %", "p", "clips, number"],
        [
            [LEADS[x.measure], x.emotion, x.seconds, 100 * x.face_first, format_p(x.p_value), x.num_clips]
            for x in study.leads
            if x.emotion == ALL or (x.q_value is not None and x.q_value <= 0.05)
        ],
        "Above 0 the face leads. p: two-sided sign flips over speakers. Single emotions are listed where q, corrected "
        "over emotions and ways to tell, is at most 0.05. Where the curves are no more aligned than re-paired clips, a "
        "lead says when each modality tends to speak, not that one answers the other: strangers would show it too.",
    )
