"""Draw one clip as an interactive SVG: rows over one axis in seconds, described as marks that the template writes out.

Nothing here builds markup: a mark holds a tag, attributes and text, and the template escapes them.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np
from matplotlib.image import imsave

from avser.roi.plots import (
    EMOTION_COLOURS,
    EMOTION_DASHES,
    MODALITY_COLOURS,
    MODALITY_WORDS,
    OTHER_COLOUR,
    spectrogram_image,
)
from avser.roi.view import ClipView, overlap_segments, relative_values, strip_frames, unbroken
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

WIDTH, LEFT, RIGHT = 1000, 112, 12  # user units of the SVG
PLOT_WIDTH = WIDTH - LEFT - RIGHT
GAP, CROP_PX = 9, 112


@dataclass
class Mark:
    """One SVG element."""

    tag: str
    attributes: dict[str, str | float]
    text: str = ""


@dataclass
class Timeline:
    """A clip's picture and the numbers that the cursor reads.

    Attributes:
        height: of the SVG in user units; its width is `WIDTH`.
        marks: in drawing order.
        series: one dict a curve, with name, source, kind ("salience" or "evidence"), times and values.
        duration_s: what the plotting area spans.
    """

    duration_s: float
    height: float = 0.0
    marks: list[Mark] = field(default_factory=list)
    series: list[dict] = field(default_factory=list)


def build_timeline(view: ClipView) -> Timeline:
    """The rows that a clip has data for, on one axis from 0 to its duration."""
    line = Timeline(max(view.duration_s, 1e-3))
    if view.has_spectrogram:
        _add_spectrogram(line, view)
    if AUDIO in view.salience:
        _add_salience(line, view, AUDIO)
    if view.has_faces:
        _add_faces(line, view)
    if VIDEO in view.salience:
        _add_salience(line, view, VIDEO)
    if all(m in view.regions for m in MODALITIES):
        _add_overlap(line, view)
    for source in (AUDIO, VIDEO, FUSED):
        if source in view.evidence:
            _add_evidence(line, view, source)
    _add_axis(line)
    return line


def image_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as the data URI of a JPEG."""
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="jpeg", pil_kwargs={"quality": 88})
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a URI that needs no file beside the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# --- rows ---------------------------------------------------------------------------------------------------------


def _add_spectrogram(line: Timeline, view: ClipView) -> None:
    top, height = _begin_row(line, "voice", 84, MODALITY_COLOURS[AUDIO])
    pixels, start, end = spectrogram_image(view)
    line.marks.append(_image(image_uri(pixels), _x(line, start), top, _x(line, end) - _x(line, start), height))
    _add_bars(line, view, AUDIO, top + height)


def _add_faces(line: Timeline, view: ClipView) -> None:
    num_tiles = 14
    top, height = _begin_row(line, "face", PLOT_WIDTH / num_tiles, MODALITY_COLOURS[VIDEO])
    for start, end, crop in strip_frames(view, num_tiles):
        x, width = _x(line, start), _x(line, end) - _x(line, start)
        if crop is None:
            line.marks.append(_rect(x + 1, top, width - 2, height, fill="#F1F1F1"))
            line.marks.append(_text(x + width / 2, top + height / 2 + 4, "no face", "middle", 11, "#888"))
        else:
            step = max(1, len(crop) // CROP_PX)
            line.marks.append(_image(image_uri(np.ascontiguousarray(crop[::step, ::step])), x, top, width, height))
    _add_bars(line, view, VIDEO, top + height)


def _add_salience(line: Timeline, view: ClipView, modality: str) -> None:
    colour, curve = MODALITY_COLOURS[modality], view.salience[modality]
    top, height = _begin_row(line, f"{MODALITY_WORDS[modality]} salience", 70, colour)
    values = relative_values(curve)
    low, high = min(0.0, float(values.min(initial=0))), max(2.0, float(values.max(initial=0)) * 1.08)
    for region in view.regions.get(modality, []):
        x, width = _span(line, region.start_s, region.end_s)
        line.marks.append(_rect(x, top, width, height, fill=colour, **{"fill-opacity": 0.2}))
    average = top + height * (high - 1) / (high - low)
    line.marks.append(_line(LEFT, average, WIDTH - RIGHT, average, "#999", **{"stroke-dasharray": "2 3"}))
    line.marks.append(_text(LEFT - 6, average + 4, "mean", "end", 11, "#777"))
    stroke: dict = {"stroke": colour, "stroke-width": 2}
    line.marks += _paths(line, curve.times, values, (low, high), (top, height), **stroke)
    for true in view.truth.get(modality, []):
        x, width = _span(line, true.start_s, true.end_s)
        outline: dict = {"stroke": "#222", "stroke-width": 1.4, "stroke-dasharray": "5 3"}
        line.marks.append(_rect(x, top + 1, width, height - 2, fill="none", **outline))
    line.series.append(_series("salience", modality, MODALITY_WORDS[modality], curve.times, values))


def _add_overlap(line: Timeline, view: ClipView) -> None:
    top, height = _begin_row(line, "together", 20, "#222")
    words = {AUDIO: "voice only", VIDEO: "face only", FUSED: "both"}
    for start, end, kind in overlap_segments(view):
        x, width = _span(line, start, end)
        line.marks.append(_rect(x, top, width, height, fill=MODALITY_COLOURS[kind]))
        if width > 6.3 * len(words[kind]):
            line.marks.append(_text(x + width / 2, top + 14, words[kind], "middle", 11, "#fff"))


def _add_evidence(line: Timeline, view: ClipView, source: str) -> None:
    label = {AUDIO: "voice says", VIDEO: "face says", FUSED: "both say"}[source]
    top, height = _begin_row(line, label, 66, MODALITY_COLOURS[source])
    times, values = view.evidence[source]
    peak = max(1e-9, float(np.max(values, initial=0)))
    high, top_tick = 1.04 * peak, _round_down(peak)
    for tick in (0.0, top_tick):
        y = top + height * (high - tick) / high
        line.marks.append(_line(LEFT, y, WIDTH - RIGHT, y, "#E4E4E4"))
        line.marks.append(_text(LEFT - 6, y + 4, f"{100 * tick:.3g} %", "end", 11, "#777"))
    for emotion, column in zip(view.emotions, values.T, strict=True):
        style: dict = {"stroke": EMOTION_COLOURS.get(emotion, OTHER_COLOUR), "stroke-width": 1.7}
        if dashes := EMOTION_DASHES.get(emotion):
            style["stroke-dasharray"] = " ".join(map(str, dashes))
        line.marks += _paths(line, times, column, (0, high), (top, height), **{"data-emotion": emotion}, **style)
        line.series.append(_series("evidence", source, emotion, times, column))


def _add_axis(line: Timeline) -> None:
    bottom = line.height
    step = _tick_step(line.duration_s)
    behind = []
    for k in range(int(line.duration_s / step + 1e-9) + 1):
        x = _x(line, k * step)
        behind.append(_line(x, 0, x, bottom, "#E4E4E4"))
        line.marks.append(_text(x, bottom + 10, f"{k * step:.{0 if step >= 1 else 1}f}", "middle", 12, "#444"))
    line.marks[:0] = behind
    line.marks.append(_text(LEFT - 40, bottom + 10, "seconds", "end", 12, "#444"))
    line.height = bottom + 18


def _add_bars(line: Timeline, view: ClipView, modality: str, bottom: float) -> None:
    for region in view.regions.get(modality, []):
        x, width = _span(line, region.start_s, region.end_s)
        line.marks.append(_rect(x, bottom - 5, width, 5, fill=MODALITY_COLOURS[modality]))


# --- marks --------------------------------------------------------------------------------------------------------


def _begin_row(line: Timeline, label: str, height: float, colour: str) -> tuple[float, float]:
    top = line.height
    words = label.split(" ", 1)
    for i, word in enumerate(words):
        y = top + height / 2 + 5 + 14 * (i - (len(words) - 1) / 2)
        line.marks.append(_text(LEFT - 40, y, word, "end", 13, colour, "600"))
    line.height = top + height + GAP
    return top, height


def _x(line: Timeline, seconds: float) -> float:
    return round(LEFT + PLOT_WIDTH * float(np.clip(seconds / line.duration_s, 0, 1)), 2)


def _span(line: Timeline, start_s: float, end_s: float) -> tuple[float, float]:
    x = _x(line, start_s)
    return x, round(_x(line, end_s) - x, 2)


def _paths(
    line: Timeline,
    times: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float],
    place: tuple[float, float],
    **style: str | float,
) -> list[Mark]:
    """The curve as one line for each run of steps without a hole."""
    (low, high), (top, height) = limits, place
    y = top + height * (high - np.nan_to_num(np.asarray(values, dtype=float))) / (high - low)
    shape: dict[str, str | float] = {"fill": "none", "stroke-linejoin": "round", **style}
    points = [f"{_x(line, t):.1f},{v:.1f}" for t, v in zip(times, y, strict=True)]
    return [Mark("polyline", {"points": " ".join(points[run]), **shape}) for run in unbroken(times)]


def _rect(x: float, y: float, width: float, height: float, **style: str | float) -> Mark:
    return Mark("rect", {"x": x, "y": round(y, 2), "width": width, "height": round(height, 2), **style})


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, **style: str | float) -> Mark:
    return Mark("line", {"x1": x1, "y1": round(y1, 2), "x2": x2, "y2": round(y2, 2), "stroke": stroke, **style})


def _image(uri: str, x: float, y: float, width: float, height: float) -> Mark:
    place = {"x": x, "y": round(y, 2), "width": round(width, 2), "height": round(height, 2)}
    return Mark("image", {"href": uri, "preserveAspectRatio": "none", **place})


def _text(x: float, y: float, text: str, anchor: str, size: int, colour: str, weight: str = "400") -> Mark:
    style: dict[str, str | float] = {"text-anchor": anchor, "font-size": size, "fill": colour, "font-weight": weight}
    return Mark("text", {"x": round(x, 2), "y": round(y, 2), **style}, text)


def _series(kind: str, source: str, name: str, times: np.ndarray, values: np.ndarray) -> dict:
    return {
        "kind": kind,
        "source": source,
        "name": name,
        "times": [round(float(t), 3) for t in times],
        "values": [float(f"{v:.3g}") if np.isfinite(v) else 0.0 for v in values],
    }


def _round_down(value: float) -> float:
    """The largest number with one significant digit that is not above `value`."""
    unit = 10.0 ** np.floor(np.log10(value))
    return float(np.floor(value / unit + 1e-9) * unit)


def _tick_step(duration_s: float) -> float:
    """The smallest round step that leaves at most twelve ticks."""
    steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]
    return next((s for s in steps if duration_s / s <= 12), duration_s / 12)
