"""Write the report: one HTML file that works offline, with the tables of a study and the timelines of its clips."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from avser.roi.report.plots import EMOTION_COLOURS, EMOTION_DASHES, MODALITY_COLOURS, MODALITY_WORDS, OTHER_COLOUR
from avser.roi.report.sentences import (
    alignment_rows,
    degenerate_warnings,
    describe_clip,
    faithfulness_warnings,
    source_words,
)
from avser.roi.report.tables import Cell, ReportTable, format_cell, format_p
from avser.roi.report.timeline import build_timeline, data_uri
from avser.roi.report.view import ClipView, FaithfulnessRow, overlap_segments, salience_layers
from avser.roi.salience.sources import SOURCES
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

SOURCE_WORDS = {AUDIO: "voice alone", VIDEO: "face alone", FUSED: "both"}


@dataclass
class ReportFigure:
    """A figure of a report, embedded as PNG (`avser.roi.report.plots.figure_png`)."""

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
        strata: tables of parts of the clips, folded up under the others.
        faithfulness: what the saliences are worth; one that does not beat its controls is the first warning.
    """

    paragraphs: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: Sequence[ReportFigure] = ()
    strata: Sequence[ReportTable] = ()
    faithfulness: Sequence[FaithfulnessRow] = ()


def write_report(path: Path, *, title: str, summary: ReportSummary, views: Sequence[ClipView]) -> None:
    """Write one HTML file without any outside resource; names and texts are escaped wherever they come from.

    A single clip is open; of several, each is built when it is opened, so that the page itself opens fast.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(cell=format_cell, p_value=format_p, is_number=_is_number, data_uri=data_uri)
    template = environment.from_string(_part("report.html"))
    page = template.render(
        title=title,
        summary=summary,
        warnings=list(dict.fromkeys([*faithfulness_warnings(summary.faithfulness), *summary.warnings])),
        faithfulness=_faithfulness_rows(summary.faithfulness),
        clips=[_clip(view) for view in views],
        colours=MODALITY_COLOURS,
        words=MODALITY_WORDS,
        style=Markup(_part("report.css")),  # our own files: nothing of them is to be escaped
        script=Markup(_part("report.js")),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page.lstrip(), encoding="utf-8")


def _part(name: str) -> str:
    return resources.files("avser.roi.report").joinpath(name).read_text(encoding="utf-8")


def _is_number(value: Cell) -> bool:
    return value is None or not isinstance(value, str)


# --- one clip -----------------------------------------------------------------------------------------------------


def _clip(view: ClipView) -> dict[str, Any]:
    """What the template needs of one clip."""
    timeline = build_timeline(view)
    layers = [{"source": y.source, "model": y.model, "emotion": y.emotion} for y in salience_layers(view)]
    faithful = faithfulness_warnings(view.faithfulness, view.salience_source)
    return {
        "view": view,
        "warnings": list(dict.fromkeys([*faithful, *view.warnings, *degenerate_warnings(view)])),
        "percent": 100 * view.prediction.probabilities[view.prediction.emotion],
        "right": None if view.true_emotion is None else view.true_emotion == view.prediction.emotion,
        "sentences": describe_clip(view),
        "verdicts": _verdicts(view),
        "verdict_sources": [(s, SOURCE_WORDS[s]) for s in (FUSED, *view.unimodal)],
        "alignment": alignment_rows(view),
        "faithfulness": _faithfulness_rows(view.faithfulness),
        "mixture": _mixture_rows(view),
        "choices": _choices(layers),
        "bands": _bands(view),
        "media": None if view.video is None else base64.b64encode(view.video).decode("ascii"),
        "is_audio": view.video_type.startswith("audio/"),
        "timeline": timeline,
        "salience_words": source_words(view.salience_source),
        "data": {
            "duration": timeline.duration_s,
            "frame": _frame_s(view),
            "axes": timeline.axes,
            "series": timeline.series,
            "layers": layers,
            "words": {"source": {y["source"]: source_words(y["source"]) for y in layers}},
            "mediaType": view.video_type,
            "emotions": [{"name": e, "colour": EMOTION_COLOURS.get(e, OTHER_COLOUR)} for e in view.emotions],
        },
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


def _mixture_rows(view: ClipView) -> list[dict[str, Any]]:
    """One row an emotion: its share in each modality in percent, and how long its bar is."""
    shares = {m: view.mixture[m] for m in MODALITIES if m in view.mixture and view.mixture[m].any()}
    values = [v for m in shares for v in (shares[m], view.evidence[m][1] if m in view.evidence else ())]
    top = max((float(np.max(v)) for v in values if np.size(v)), default=1.0)
    return [
        {
            "emotion": e,
            "parts": [
                {"source": m, "percent": 100 * float(share[i]), "length": 100 * float(share[i]) / top, "top": top}
                for m, share in shares.items()
            ],
        }
        for i, e in enumerate(view.emotions)
        if shares
    ]


def _choices(layers: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The groups of buttons: for each, what there is to choose from; groups without a choice are left out."""
    groups = []
    for key, title in {"source": "salience by", "model": "model", "emotion": "for the emotion"}.items():
        values = [v for v in dict.fromkeys(layer[key] for layer in layers) if v or key == "model"]
        if len(values) < 2:
            continue
        words = {v: source_words(v) if key == "source" else v or "of each alone" for v in values}
        hints = {v: SOURCES[v].question if key == "source" and v in SOURCES else "" for v in values}
        options = [
            {"value": v, "words": words[v], "hint": hints[v], "on": bool(layers) and layers[0][key] == v}
            for v in values
        ]
        groups.append({"key": key, "title": title, "options": options})
    return groups


def _bands(view: ClipView) -> list[dict[str, Any]]:
    """The regions of both as a small strip beside the clip's name."""
    duration = max(view.duration_s, 1e-3)
    return [
        {"left": 100 * start / duration, "width": 100 * (end - start) / duration, "kind": kind}
        for start, end, kind in overlap_segments(view)
    ]


def _faithfulness_rows(rows: Sequence[FaithfulnessRow]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{MODALITY_WORDS.get(r.modality, r.modality)}: {source_words(r.source)}",
            "value": r.comprehensiveness,
            "control": r.control,
            "control_name": r.control_name,
            "p_value": r.p_value,
            "good": r.is_faithful,
            "verdict": r.verdict or ("beats its controls" if r.is_faithful else "no better than its controls"),
        }
        for r in rows
    ]


def _frame_s(view: ClipView) -> float:
    """How far an arrow key goes: one picture."""
    if view.face_times is None or len(view.face_times) < 2:
        return 0.04
    return round(float(np.median(np.diff(view.face_times))), 4)
