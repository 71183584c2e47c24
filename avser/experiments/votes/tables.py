"""What a study of human votes found, as sentences, tables and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avser.evaluation.statistics import Interval
from avser.experiments.votes.study import PEOPLE, VoteStudy
from avser.roi.report.tables import Cell, ReportTable, format_p
from avser.roi.vote_sides import FACE, NEITHER, VOICE, Sides
from avser.roi.votes import MIXTURE, SCALED_MIXTURE, SCALED_SOFTMAX, SOFTMAX, VoteComparison

LEVEL = 0.05
SIDES = {VOICE: "the voice", FACE: "the face", NEITHER: "neither"}


def vote_sentences(study: VoteStudy) -> list[str]:
    """What was found, for a person who reads nothing else."""
    found = []
    for modality, comparison in study.comparisons.items():
        found.append(f"{PEOPLE[modality]}: {_headline(comparison, study.holm_p.get(modality))}")
        if sentence := _entropy_sentence(comparison):
            found.append(f"{PEOPLE[modality]}: {sentence}")
    if study.sides is not None:
        found.append(_side_sentence(study.sides))
    return [*found, *study.notes]


def vote_tables(study: VoteStudy) -> list[ReportTable]:
    """One table of divergences and tests for each modality, and one of sides where there were conflicts."""
    tables = [_comparison_table(modality, study) for modality in study.comparisons]
    if study.sides is not None and study.sides.num_conflicts:
        tables.append(_side_table(study.sides))
    return tables


def write_vote_tables(study: VoteStudy, folder: Path) -> None:
    """votes.json (the summary), and votes.csv: a row for each clip and modality with its divergences."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        "emotions": study.emotions,
        "sources": study.sources,
        "protocol": study.protocol,
        "sentences": vote_sentences(study),
        "comparisons": {m: _plain(asdict(c), without=("per_clip",)) for m, c in study.comparisons.items()},
        "holm_p": _plain(study.holm_p),
        "sides": None if study.sides is None else _plain(asdict(study.sides)),
    }
    (folder / "votes.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    names = list(dict.fromkeys(name for c in study.comparisons.values() for name in c.per_clip))
    with (folder / "votes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "modality", *names])
        for modality, comparison in study.comparisons.items():
            for i, clip_id in enumerate(study.clip_ids[modality]):
                cells = [f"{comparison.per_clip[n][i]:.5f}" if n in comparison.per_clip else "" for n in names]
                writer.writerow([clip_id, modality, *cells])


# --- sentences ----------------------------------------------------------------------------------------------------


def _headline(comparison: VoteComparison, holm_p: float | None) -> str:
    """Whether the mixture beats the softmax that was given a temperature; where not, that is said."""
    who = _who(comparison)
    told = comparison.difference(MIXTURE, SCALED_SOFTMAX)
    if told is None:
        return f"{_missing(comparison)} ({who})."
    mean = {name: comparison.divergence[name].value for name in (MIXTURE, SCALED_SOFTMAX)}
    numbers = (
        f"Jensen-Shannon divergence from the votes {mean[MIXTURE]:.3f} against {mean[SCALED_SOFTMAX]:.3f}, difference "
        f"{told.value:+.3f}"
    )
    if comparison.num_speakers < 2:
        closer = "is closer to the votes than" if told.value.value < 0 else "does not beat"
        return (
            f"in these clips the attention mixture {closer} the softmax with a temperature, but {who} allow no "
            f"interval and no test, so nothing follows for others: {numbers}."
        )
    p = told.p_value if holm_p is None else holm_p
    numbers += f", p = {p:.3f} after Holm ({who})"
    if told.value.value < 0 and p <= LEVEL:
        return f"the attention mixture is closer to the votes than the softmax with a temperature: {numbers}."
    worse = told.value.value > 0 and p <= LEVEL
    further = "; it is further from the votes" if worse else ""
    sentence = f"the attention mixture does not beat the softmax with a temperature{further}: {numbers}."
    smallest = 2 / 2**comparison.num_speakers
    if smallest > LEVEL:
        sentence += (
            f" With so few speakers no p-value can be below {smallest:.2f}: more speakers are needed, not more clips."
        )
    return sentence + _calibrated_alike(comparison)


def _calibrated_alike(comparison: VoteComparison) -> str:
    """The same with a temperature for both, where the first comparison was lost: calibration alone may have lost it."""
    told = comparison.difference(SCALED_MIXTURE, SCALED_SOFTMAX)
    if told is None:
        return ""
    if told.value.value < 0 and told.p_value <= LEVEL:
        return (
            f" With a temperature for its steps as well it does: difference {told.value:+.3f}, p = {told.p_value:.3f}."
        )
    return (
        f" Nor does it with a temperature for its steps as well: difference {told.value:+.3f}, p = {told.p_value:.3f}."
    )


def _missing(comparison: VoteComparison) -> str:
    if MIXTURE not in comparison.divergence:
        return "the model gives no logits for single steps, so there is no mixture to compare"
    mixture, plain = (comparison.divergence[name].value for name in (MIXTURE, SOFTMAX))
    return (
        "there are no validation clips to fit a temperature on, so whether the mixture beats a calibrated softmax is "
        f"not known; divergence from the votes {mixture:.3f}, of the uncalibrated softmax {plain:.3f}"
    )


def _entropy_sentence(comparison: VoteComparison) -> str:
    found = comparison.entropy_correlation
    if MIXTURE not in found or not np.isfinite(found[MIXTURE].value):
        return ""
    name = SCALED_SOFTMAX if SCALED_SOFTMAX in found else SOFTMAX
    return (
        f"entropy of the mixture and entropy of the votes correlate by rho = {found[MIXTURE]:.2f} (Spearman), that of "
        f"the {name} by {found[name]:.2f}."
    )


def _side_sentence(sides: Sides) -> str:
    start = (
        f"In {sides.num_conflicts} of {sides.num_clips} clips people heard one emotion and saw another"
        f" ({sides.num_tied} more clips have no majority)"
    )
    if not sides.num_conflicts:
        return f"{start}, so it cannot be told with whom the model sides."
    people, model = sides.table.sum(axis=1), sides.table.sum(axis=0)
    return (
        f"{start}. Those who heard and saw sided with the voice in {people[VOICE]}, with the face in {people[FACE]}, "
        f"the model in {model[VOICE]} and {model[FACE]}; of {sides.counts.sum()} clips in which both take a side they "
        f"take the same in {np.trace(sides.counts)}, {_kappa_words(sides.kappa)}."
    )


def _kappa_words(kappa: Interval) -> str:
    return f"kappa = {kappa:.2f}" if np.isfinite(kappa.value) else "too few or too alike for a kappa"


def _who(comparison: VoteComparison) -> str:
    one = comparison.num_speakers == 1
    clips = f"{comparison.num_clips} clip{'s' * (comparison.num_clips != 1)}"
    return f"{clips} of {'one speaker' if one else f'{comparison.num_speakers} speakers'}"


# --- tables -------------------------------------------------------------------------------------------------------


def _comparison_table(modality: str, study: VoteStudy) -> ReportTable:
    comparison = study.comparisons[modality]
    rows: list[list[Cell]] = []
    for name, divergence in comparison.divergence.items():
        cells: list[Cell] = [name, divergence]
        for mixture in (MIXTURE, SCALED_MIXTURE):
            told = comparison.difference(mixture, name)
            cells += [told.value, format_p(told.p_value)] if told else [None, None]
        rows.append([*cells, comparison.entropy_correlation.get(name)])
    calibration = comparison.calibration
    caption = (
        f"{_who(comparison)}; intervals 95 %, clustered by speaker; p from swapping whole speakers. Divergence: "
        "Jensen-Shannon, base 2, mean over clips; 0 is equal. Difference: mixture minus the row, below 0 the mixture "
        f"is closer. As many votes drawn anew from the same shares would lie {comparison.redrawn:.3f} away. "
        f"Fitted on {calibration.source}: " + _temperatures(comparison)
    )
    if comparison.num_speakers < 2:
        caption += " With one speaker there are no intervals and no tests."
    return ReportTable(
        f"{PEOPLE[modality]}: how close to human votes (model: {study.sources[modality]})",
        ["", "divergence", "mixture minus it", "p", "scaled mixture minus it", "p", "entropy, rho"],
        rows,
        caption,
        study.protocol,
    )


def _temperatures(comparison: VoteComparison) -> str:
    found = {"softmax": comparison.calibration.softmax, "steps": comparison.calibration.mixture}
    return ", ".join(f"temperature of the {n} {t:.2f}" for n, t in found.items() if t is not None) or "no temperature."


def _side_table(sides: Sides) -> ReportTable:
    rows: list[list[Cell]] = [
        [f"people side with {SIDES[i]}", *(int(n) for n in sides.table[i])] for i in (VOICE, FACE, NEITHER)
    ]
    return ReportTable(
        "Voice and face voted to differ: who sides with which",
        ["", *(f"model: {SIDES[i]}" for i in (VOICE, FACE, NEITHER))],
        rows,
        f"{sides.num_conflicts} clips whose majorities for voice and face differ, of {sides.num_clips} with votes of "
        f"all three kinds; {sides.num_tied} without a majority are left out. Cohen's kappa over the four cells of "
        f"voice and face: {_kappa_words(sides.kappa)}.",
    )


def _plain(value: Any, without: Sequence[str] = ()) -> Any:
    """JSON's own types; NaN becomes null."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items() if name not in without}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value
