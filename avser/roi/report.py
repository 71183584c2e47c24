"""Write the report: one HTML file that works offline, with the tables of a study and the timelines of its clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from avser.roi.alignment import COVERAGE, Alignment, chance_coverage_iou, region_lag_s
from avser.roi.intervals import describe_degenerate
from avser.roi.localization import interval_iou
from avser.roi.plots import EMOTION_COLOURS, EMOTION_DASHES, MODALITY_COLOURS, MODALITY_WORDS, OTHER_COLOUR
from avser.roi.tables import Cell, ReportTable, format_cell
from avser.roi.timeline import LEFT, PLOT_WIDTH, WIDTH, build_timeline, data_uri
from avser.roi.view import ClipView
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

TOGETHER_S = 0.02  # lags below this are within the resolution of the curves
WEAK_R = 0.3  # below this best correlation, a lag means nothing

# field of Alignment -> name in the table, unit, the question it answers
MEASURES = {
    "r0": ("correlation", "", "the same shape at the same time?"),
    "rho0": ("rank correlation", "", "the same order of moments?"),
    "r_max": ("best correlation, shifted", "", "the same shape, earlier or later?"),
    "lag_s": ("lag of the best correlation", "s", "who leads? above 0: the face"),
    "js": ("Jensen-Shannon divergence", "", "how far apart? 0 the same, 1 nothing shared"),
    "w1_s": ("Wasserstein distance", "s", "how far must attention move?"),
    "iou": (f"overlap of the top {100 * COVERAGE:.0f} % of the time", "", "the same moments?"),
    "onset_difference_s": ("onset, voice minus face", "s", "who starts first? above 0: the face"),
    "peak_difference_s": ("peak, voice minus face", "s", "who peaks first? above 0: the face"),
    "centroid_difference_s": (
        "centre of mass, voice minus face",
        "s",
        "who is earlier on the whole? above 0: the face",
    ),
    "audio_effective": ("effective share of the time, voice", "", "how focal? 1 = spread evenly"),
    "video_effective": ("effective share of the time, face", "", "how focal? 1 = spread evenly"),
}


@dataclass
class ReportFigure:
    """A figure of a report, embedded as PNG (`avser.roi.plots.figure_png`)."""

    title: str
    png: bytes
    caption: str = ""


@dataclass
class ReportSummary:
    """What stands above the clips.

    Attributes:
        warnings: sentences that must be read before anything else.
        paragraphs: what this is: model, data, protocol.
        tables, figures: in the order in which they are shown.
    """

    paragraphs: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: Sequence[ReportFigure] = ()


def write_report(path: Path, *, title: str, summary: ReportSummary, views: Sequence[ClipView]) -> None:
    """Write one HTML file without any outside resource; names and texts are escaped wherever they come from."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(cell=format_cell, is_number=_is_number, data_uri=data_uri)
    template = environment.from_string(resources.files("avser.roi").joinpath("report.html").read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        summary=summary,
        clips=[_clip(view) for view in views],
        colours=MODALITY_COLOURS,
        layout={"width": WIDTH, "left": LEFT, "plot": PLOT_WIDTH},
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page, encoding="utf-8")


def describe_clip(view: ClipView) -> list[str]:
    """Plain sentences about one clip: how voice and face lie to each other, and what each is a mixture of."""
    sentences = []
    if view.alignment is not None:
        sentences.append(_lag_sentence(view.alignment) + _p_value(view, "r_max"))
    audio, video = (view.regions.get(m, []) for m in MODALITIES)
    if audio and video:
        sentences.append(f"Their regions overlap by {100 * interval_iou(audio, video):.0f} % of their union.")
    planted = region_lag_s(view.truth.get(AUDIO, []), view.truth.get(VIDEO, []))
    if not math.isnan(planted):
        found = region_lag_s(audio, video)
        got = "none found" if math.isnan(found) else f"found {found:+.2f} s between the strongest regions"
        sentences.append(f"True lag {planted:+.2f} s, {got} (above 0: the face leads).")
    sentences += [_mixture_sentence(view, m) for m in MODALITIES if m in view.mixture and view.mixture[m].any()]
    return sentences


def _is_number(value: Cell) -> bool:
    return value is None or not isinstance(value, str)


# --- one clip -----------------------------------------------------------------------------------------------------


def _clip(view: ClipView) -> dict[str, Any]:
    """What the template needs of one clip."""
    timeline = build_timeline(view)
    return {
        "view": view,
        "warnings": [*view.warnings, *_curve_warnings(view)],
        "percent": 100 * view.prediction.probabilities[view.prediction.emotion],
        "right": None if view.true_emotion is None else view.true_emotion == view.prediction.emotion,
        "sentences": describe_clip(view),
        "verdicts": _verdicts(view),
        "alignment": _alignment_rows(view),
        "timeline": timeline,
        "data": {"duration": timeline.duration_s, "series": timeline.series},
        "emotions": [
            {
                "name": e,
                "colour": EMOTION_COLOURS.get(e, OTHER_COLOUR),
                "dashes": " ".join(map(str, EMOTION_DASHES.get(e, ()))),
            }
            for e in view.emotions
        ],
    }


def _verdicts(view: ClipView) -> list[dict[str, Any]]:
    """One row an emotion, with the probability that each source gives it, in percent."""
    sources = {FUSED: view.prediction, **view.unimodal}
    return [
        {"emotion": e, "percents": {s: 100 * p.probabilities.get(e, 0.0) for s, p in sources.items()}}
        for e in view.emotions
    ]


def _alignment_rows(view: ClipView) -> list[dict[str, Any]]:
    if view.alignment is None:
        return []
    chance = {"iou": chance_coverage_iou(), **view.chance}
    return [
        {
            "name": name,
            "unit": unit,
            "question": question,
            "value": getattr(view.alignment, key),
            "chance": chance.get(key),
            "p_value": view.p_values.get(key),
        }
        for key, (name, unit, question) in MEASURES.items()
    ]


def _lag_sentence(alignment: Alignment) -> str:
    if not alignment.r_max >= WEAK_R:
        return "No shift of up to half a second brings the two curves together"
    if abs(alignment.lag_s) < TOGETHER_S:
        return "Voice and face move together"
    first, second = ("face", "voice") if alignment.lag_s > 0 else ("voice", "face")
    return f"The {first} leads the {second} by {abs(alignment.lag_s):.2f} s"


def _mixture_sentence(view: ClipView, modality: str) -> str:
    shares = view.mixture[modality]
    first, *others = (-shares).argsort(kind="stable")[:3]
    strongest = [first, *(i for i in others if shares[i] >= 0.1)]
    parts = ", ".join(f"{100 * shares[i]:.0f} % {view.emotions[i]}" for i in strongest)
    return f"As a mixture, the {MODALITY_WORDS[modality]} is {parts}."


def _curve_warnings(view: ClipView) -> list[str]:
    """A curve without shape must not be read, whoever made the view."""
    reasons = {m: describe_degenerate(curve) for m, curve in view.salience.items()}
    return [
        f"The {MODALITY_WORDS.get(m, m)} salience says nothing about when: {reason}."
        for m, reason in reasons.items()
        if reason
    ]


def _p_value(view: ClipView, key: str) -> str:
    return f" (p = {view.p_values[key]:.3g})." if key in view.p_values else "."
