"""What is said about one recording: an answer for every window and face, and one timeline of them; as JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avser.errors import MediaError
from avser.structures import Curve, Prediction, Region

FORMAT = "avser recording 1"


@dataclass
class Row:
    """One face in one window.

    Attributes:
        start_s, end_s: the window, in seconds of the recording.
        face: its number, counted from 1 as faces come; None where the window shows none.
        speaks: True for the face whose mouth moves with the voice; None where that cannot be told, or it is the only
            face.
        leads: whether this row stands for its window in the timeline: the one who speaks, else the face that is there
            longest, else the voice alone. Only this row hears the voice.
        prediction: with times in seconds of the recording; None where there is nothing to answer from.
        remark: why there is no answer, or what it lacks.
    """

    start_s: float
    end_s: float
    face: int | None
    speaks: bool | None
    leads: bool
    prediction: Prediction | None
    remark: str = ""


@dataclass
class Stretch:
    """A stretch of the timeline with one answer.

    Attributes:
        face: who answered; None for the voice alone, or for several faces in turn.
        speaks: as in `Row`, of the windows that cover the stretch.
        emotion: None where nothing could be said.
        probabilities: emotion -> mean over the stretch; empty without an answer.
        remark: why nothing could be said.
    """

    start_s: float
    end_s: float
    face: int | None
    speaks: bool | None
    emotion: str | None
    probabilities: dict[str, float] = field(default_factory=dict)
    remark: str = ""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass
class FaceBoxes:
    """Where one face was: times (T,) in seconds and boxes (T, 4), x0, y0, x1, y1 in pixels of the upright frame."""

    times: np.ndarray
    boxes: np.ndarray


@dataclass
class Recording:
    """Everything that a model says about one recording.

    Attributes:
        name: file name without suffix, or what the caller named it.
        path: None for arrays and file objects.
        emotions: label order.
        rows: in order of windows, the leading face first.
        timeline: stretches in order of time; posteriors are the mean over the windows that cover a moment.
        faces: number -> timeline of that face alone, where there are several.
        boxes: number -> where it was.
        summary: the recording as one prediction: the mean over time of the timeline, curves and regions of all of it.
    """

    name: str
    path: Path | None
    duration_s: float
    emotions: list[str]
    rows: list[Row]
    timeline: list[Stretch]
    faces: dict[int, list[Stretch]]
    boxes: dict[int, FaceBoxes]
    summary: Prediction

    @property
    def warnings(self) -> list[str]:
        return self.summary.warnings


def describe_prediction(prediction: Prediction) -> dict[str, Any]:
    """A prediction as plain values, rounded further than any table shows."""
    return {
        "clip": prediction.clip_id,
        "emotion": prediction.emotion or None,
        "probabilities": {k: round(v, 8) for k, v in prediction.probabilities.items()},
        "regions": {
            m: [
                {
                    "start_s": round(r.start_s, 6),
                    "end_s": round(r.end_s, 6),
                    "mass": round(r.mass, 6),
                    "peak_s": None if r.peak_s is None else round(r.peak_s, 6),
                }
                for r in found
            ]
            for m, found in prediction.regions.items()
        },
        "salience": {
            m: {"times": curve.times.round(4).tolist(), "values": curve.values.round(8).tolist()}
            for m, curve in prediction.salience.items()
        },
        "warnings": prediction.warnings,
    }


def describe_recording(recording: Recording, *, boxes: bool = False) -> dict[str, Any]:
    """A recording as plain values; the keys of `describe_prediction` speak for the whole of it."""
    described = {
        **describe_prediction(recording.summary),
        "format": FORMAT,
        "path": None if recording.path is None else str(recording.path),
        "duration_s": round(recording.duration_s, 3),
        "timeline": [_describe_stretch(s) for s in recording.timeline],
        "faces": {str(n): [_describe_stretch(s) for s in found] for n, found in recording.faces.items()},
        "windows": [_describe_row(row) for row in recording.rows],
    }
    if boxes:
        described["boxes"] = {
            str(n): {"times": b.times.round(4).tolist(), "boxes": b.boxes.round(1).tolist()}
            for n, b in recording.boxes.items()
        }
    return described


def read_recording(path: Path) -> Recording:
    """Read what `describe_recording` wrote as JSON.

    Raises:
        MediaError: no such file, or not one of avser's.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is {stored['format']!r}, not {FORMAT!r}")
        return _read(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MediaError(f"{path}: not an answer of `avser predict` ({error}); delete it and ask again") from error


def _describe_stretch(s: Stretch) -> dict[str, Any]:
    return {
        "start_s": round(s.start_s, 3),
        "end_s": round(s.end_s, 3),
        "face": s.face,
        "speaks": s.speaks,
        "emotion": s.emotion,
        "probabilities": {k: round(v, 8) for k, v in s.probabilities.items()},
        "remark": s.remark,
    }


def _describe_row(row: Row) -> dict[str, Any]:
    described: dict[str, Any] = {
        "start_s": round(row.start_s, 3),
        "end_s": round(row.end_s, 3),
        "face": row.face,
        "speaks": row.speaks,
        "leads": row.leads,
        "remark": row.remark,
        "prediction": None,
    }
    if row.prediction is not None:
        kept = describe_prediction(row.prediction)
        described["prediction"] = {key: kept[key] for key in ("emotion", "probabilities", "regions", "warnings")}
    return described


def _read(stored: dict[str, Any]) -> Recording:
    return Recording(
        stored["clip"],
        None if stored["path"] is None else Path(stored["path"]),
        float(stored["duration_s"]),
        list(stored["probabilities"]),
        [_read_row(stored["clip"], row) for row in stored["windows"]],
        [Stretch(**stretch) for stretch in stored["timeline"]],
        {int(n): [Stretch(**stretch) for stretch in found] for n, found in stored["faces"].items()},
        {
            int(n): FaceBoxes(np.array(b["times"], np.float64), np.array(b["boxes"], np.float32).reshape(-1, 4))
            for n, b in stored.get("boxes", {}).items()
        },
        _read_prediction(stored["clip"], stored),
    )


def _read_row(name: str, stored: dict[str, Any]) -> Row:
    answer = stored["prediction"]
    return Row(**{**stored, "prediction": None if answer is None else _read_prediction(name, answer)})


def _read_prediction(name: str, stored: dict[str, Any]) -> Prediction:
    return Prediction(
        name,
        stored["emotion"] or "",
        dict(stored["probabilities"]),
        salience={
            m: Curve(np.array(c["times"], np.float64), np.array(c["values"], np.float64))
            for m, c in stored.get("salience", {}).items()
        },
        regions={
            m: [Region(m, r["start_s"], r["end_s"], r["mass"], r["peak_s"]) for r in found]
            for m, found in stored["regions"].items()
        },
        warnings=list(stored["warnings"]),
    )
