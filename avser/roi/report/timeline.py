"""Draw one clip as rows over one axis in seconds, described as marks that the template writes out.

Nothing here builds markup: a mark holds a tag, attributes and text, and the template escapes them. Along a row, marks
are placed in thousandths of the clip, so that a page can be as wide as it likes; downwards in pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import imsave

from avser.roi.intervals import step_intervals
from avser.roi.report.plots import (
    APART_COLOUR,
    EMOTION_COLOURS,
    EMOTION_DASHES,
    MODALITY_COLOURS,
    MODALITY_WORDS,
    OTHER_COLOUR,
    spectrogram_image,
)
from avser.roi.report.view import (
    NO_REGION,
    ClipView,
    overlap_segments,
    relative_values,
    salience_layers,
    span_words,
    strip_frames,
    unbroken,
)
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

SPAN = 1000  # units along a row
CROP_PX = 96
MAX_POINTS = 1200  # of a curve; more cannot be seen
LANE_PX = 13


@dataclass
class Mark:
    """One element: of the SVG of a row, or of what lies over it."""

    tag: str
    attributes: dict[str, str | float]
    text: str = ""


@dataclass
class Row:
    """One row of the picture.

    Attributes:
        key: "spectrogram", "salience-audio", "faces", "together", "evidence-video", ...
        label: words beside it; `colour` is theirs.
        height: pixels.
        marks: of its SVG, whose units are thousandths of the clip and pixels.
        overlays: text and pictures over the SVG, placed in percent and pixels.
        ticks: (pixels from the top, text, attributes) beside it.
    """

    key: str
    label: str
    colour: str
    height: float
    marks: list[Mark] = field(default_factory=list)
    overlays: list[Mark] = field(default_factory=list)
    ticks: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)


@dataclass
class Timeline:
    """A clip's picture and the numbers that the cursor reads.

    Attributes:
        duration_s: what every row spans.
        rows: from top to bottom.
        series: one dict a curve, with name, source, kind ("salience", "evidence" or "place"), the number of its `axis`,
            values, and for a salience its layer.
        axes: the times of the series, each written once.
        seconds: (percent of the row, text) of the ticks.
    """

    duration_s: float
    rows: list[Row] = field(default_factory=list)
    series: list[dict] = field(default_factory=list)
    axes: list[list[float]] = field(default_factory=list)
    seconds: list[tuple[float, str]] = field(default_factory=list)

    def row(self, key: str) -> Row:
        return next(row for row in self.rows if row.key == key)


def build_timeline(view: ClipView) -> Timeline:
    """The rows that a clip has data for, on one axis from 0 to its duration."""
    line = Timeline(max(view.duration_s, 1e-3))
    if view.has_spectrogram:
        _add_spectrogram(line, view)
    if view.frequency_map is not None and view.frequency_map.values.size:
        _add_frequencies(line, view)
    if _has_salience(view, AUDIO):
        _add_salience(line, view, AUDIO)
    if view.has_faces:
        _add_faces(line, view)
    if _has_salience(view, VIDEO):
        _add_salience(line, view, VIDEO)
    if view.places:
        _add_places(line, view)
    if all(m in view.regions for m in MODALITIES):
        _add_overlap(line, view)
    for source in (AUDIO, VIDEO, FUSED):
        if source in view.evidence:
            _add_evidence(line, view, source)
    if view.episodes:
        _add_episodes(line, view)
    step = _tick_step(line.duration_s)
    for k in range(int(line.duration_s / step + 1e-9) + 1):
        line.seconds.append((_percent(line, k * step), f"{k * step:.{0 if step >= 1 else 1}f}"))
    return line


def image_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as the data URI of a JPEG."""
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="jpeg", pil_kwargs={"quality": 85})
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a URI that needs no file beside the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# --- rows ---------------------------------------------------------------------------------------------------------


def _add_spectrogram(line: Timeline, view: ClipView) -> None:
    row = _begin(line, "spectrogram", "voice", 84, MODALITY_COLOURS[AUDIO])
    pixels, start, end = spectrogram_image(view)
    row.marks.append(_image(image_uri(pixels), *_span(line, start, end), row.height))
    _add_bars(line, row, view, AUDIO)


def _add_frequencies(line: Timeline, view: ClipView) -> None:
    assert view.frequency_map is not None
    row = _begin(line, "frequencies", "attention by frequency", 48, MODALITY_COLOURS[AUDIO])
    values, steps = view.frequency_map.values, step_intervals(view.frequency_map.times)
    hue = LinearSegmentedColormap.from_list("voice", ["#FFFFFF", MODALITY_COLOURS[AUDIO]])
    shade = hue(values.T[::-1] / max(float(values.max()), 1e-12))[..., :3]
    tall = np.repeat((255 * shade).astype(np.uint8), 4, axis=0)  # JPEG blurs single lines
    row.marks.append(_image(image_uri(tall), *_span(line, steps[0, 0], steps[-1, 1]), row.height))
    row.ticks += [(6, "high", {}), (row.height - 4, "low", {})]


def _add_faces(line: Timeline, view: ClipView) -> None:
    row = _begin(line, "faces", "face", 58, MODALITY_COLOURS[VIDEO])
    for start, end, crop in strip_frames(view, 14):
        style = f"--x: {_percent(line, start)}%; --w: {_percent(line, end) - _percent(line, start):.3f}%"
        if crop is None:
            row.overlays.append(Mark("span", {"class": "tile empty", "style": style}, "no face"))
        else:
            step = max(1, len(crop) // CROP_PX)
            uri = image_uri(np.ascontiguousarray(crop[::step, ::step]))
            row.overlays.append(Mark("img", {"class": "tile", "style": style, "src": uri, "alt": ""}))
    _add_bars(line, row, view, VIDEO)


def _has_salience(view: ClipView, modality: str) -> bool:
    return any(modality in layer.curves for layer in salience_layers(view))


def _add_salience(line: Timeline, view: ClipView, modality: str) -> None:
    colour = MODALITY_COLOURS[modality]
    row = _begin(line, f"salience-{modality}", f"{MODALITY_WORDS[modality]} salience", 66, colour)
    for region in view.regions.get(modality, []):
        x, width = _span(line, region.start_s, region.end_s)
        row.marks.append(_rect(x, 0, width, row.height, fill=colour, **{"fill-opacity": 0.2}))
    for index, layer in enumerate(salience_layers(view)):
        curve = layer.curves.get(modality)
        if curve is None:
            continue
        own = {"data-layer": str(index), **({"class": "off"} if index else {})}
        values = relative_values(curve)
        low, high = min(0.0, float(values.min(initial=0)) * 1.05), max(2.0, float(values.max(initial=0)) * 1.08)
        average = row.height * (high - 1) / (high - low)
        row.marks.append(_line(0, average, SPAN, average, "#999", **{"stroke-dasharray": "2 3"}, **own))
        row.ticks.append((average, "mean", own))
        if low < 0:
            zero = row.height * high / (high - low)
            row.marks.append(_line(0, zero, SPAN, zero, "#666", **own))
            if zero - average > 11:
                row.ticks.append((zero, "0", own))
        stroke: dict = {"stroke": colour, "stroke-width": 2, **own}
        row.marks += _paths(line, curve.times, values, (low, high), row.height, **stroke)
        _add_series(line, "salience", modality, MODALITY_WORDS[modality], curve.times, values, layer=index)
    for true in view.truth.get(modality, []):
        x, width = _span(line, true.start_s, true.end_s)
        outline: dict = {"stroke": "#222", "stroke-width": 1.4, "stroke-dasharray": "5 3"}
        row.marks.append(_rect(x, 1, width, row.height - 2, fill="none", **outline))


def _add_places(line: Timeline, view: ClipView) -> None:
    row = _begin(line, "places", "where in the face", LANE_PX * len(view.places), MODALITY_COLOURS[VIDEO])
    top = max(1e-9, *(float(np.nanmax(share, initial=0)) for _, share in view.places.values()))
    for lane, (place, (times, share)) in enumerate(view.places.items()):
        row.ticks.append((LANE_PX * (lane + 0.5), place, {}))
        for (start, end), value in zip(step_intervals(np.asarray(times)), share, strict=True):
            if np.isfinite(value):
                style: dict = {"fill-opacity": round(float(value) / top, 3), "shape-rendering": "crispEdges"}
                x, width = _span(line, start, end)
                row.marks.append(_rect(x, LANE_PX * lane + 1, width, LANE_PX - 2, fill=row.colour, **style))
        _add_series(line, "place", VIDEO, place, np.asarray(times), np.asarray(share))


def _add_overlap(line: Timeline, view: ClipView) -> None:
    row = _begin(line, "together", "together", 20, "#222")
    words = {AUDIO: "voice only", VIDEO: "face only", FUSED: "both"}
    if not any(view.regions[m] for m in MODALITIES):
        row.overlays.append(Mark("span", {"class": "nothing"}, NO_REGION))
    for start, end, kind in overlap_segments(view):
        x, width = _span(line, start, end)
        row.marks.append(_rect(x, 0, width, row.height, fill=MODALITY_COLOURS[kind]))
        row.overlays.append(_band_text(line, start, end, words[kind]))


def _add_episodes(line: Timeline, view: ClipView) -> None:
    row = _begin(line, "apart", "disagree", 20, APART_COLOUR)
    for episode in view.episodes:
        x, width = _span(line, episode.start_s, episode.end_s)
        row.marks.append(_rect(x, 0, width, row.height, fill=APART_COLOUR))
        says = f"voice {view.emotions[episode.voice_emotion]}, face {view.emotions[episode.face_emotion]}"
        row.overlays.append(_band_text(line, episode.start_s, episode.end_s, says))


def _add_evidence(line: Timeline, view: ClipView, source: str) -> None:
    label = {AUDIO: "voice says", VIDEO: "face says", FUSED: "both say"}[source]
    row = _begin(line, f"evidence-{source}", label, 66, MODALITY_COLOURS[source])
    times, values = view.evidence[source]
    peak = max(1e-9, float(np.max(values, initial=0)))
    high = 1.04 * peak
    for tick in (0.0, _round_down(peak)):
        y = row.height * (high - tick) / high
        row.marks.append(_line(0, y, SPAN, y, "#DDD"))
        row.ticks.append((min(max(y, 6), row.height - 5), f"{100 * tick:.3g} %", {}))
    for emotion, column in zip(view.emotions, values.T, strict=True):
        style: dict = {"stroke": EMOTION_COLOURS.get(emotion, OTHER_COLOUR), "stroke-width": 1.7}
        if dashes := EMOTION_DASHES.get(emotion):
            style["stroke-dasharray"] = " ".join(map(str, dashes))
        row.marks += _paths(line, times, column, (0, high), row.height, **{"data-emotion": emotion}, **style)
        _add_series(line, "evidence", source, emotion, times, column)
    if np.isfinite(settled := view.decision.get(source, np.nan)):
        x = _span(line, settled, settled)[0]
        row.marks.append(_line(x, 0, x, row.height, "#222", **{"stroke-width": 1.5}))
        side: dict = {"class": "settled" if x < 0.8 * SPAN else "settled left", "style": f"left: {x / SPAN * 100:.3f}%"}
        row.overlays.append(Mark("span", side, "answer settled"))


def _add_bars(line: Timeline, row: Row, view: ClipView, modality: str) -> None:
    """Regions again as bars under the recording itself; over it, as it may be made of pictures."""
    for region in view.regions.get(modality, []):
        left, right = _percent(line, region.start_s), _percent(line, region.end_s)
        style = f"left: {left}%; width: {right - left:.3f}%; background: {row.colour}"
        row.overlays.append(Mark("span", {"class": "bar-under", "style": style}))


# --- marks --------------------------------------------------------------------------------------------------------


def _begin(line: Timeline, key: str, label: str, height: float, colour: str) -> Row:
    line.rows.append(Row(key, label, colour, height))
    return line.rows[-1]


def _percent(line: Timeline, seconds: float) -> float:
    return round(100 * float(np.clip(seconds / line.duration_s, 0, 1)), 3)


def _span(line: Timeline, start_s: float, end_s: float) -> tuple[float, float]:
    """Left edge and width in units of the row."""
    left, right = (SPAN * float(np.clip(t / line.duration_s, 0, 1)) for t in (start_s, end_s))
    return round(left, 2), round(right - left, 2)


def _paths(
    line: Timeline,
    times: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float],
    height: float,
    **style: str | float,
) -> list[Mark]:
    """The curve as one line for each run of steps without a hole."""
    low, high = limits
    y = height * (high - np.nan_to_num(np.asarray(values, dtype=float))) / (high - low)
    shape: dict[str, str | float] = {"fill": "none", "stroke-linejoin": "round", **style}
    x = SPAN * np.clip(np.asarray(times, dtype=float) / line.duration_s, 0, 1)
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    every = -(-len(points) // MAX_POINTS)
    runs = [points[run][:: max(1, every)] for run in unbroken(times)]
    return [Mark("polyline", {"points": " ".join(run), **shape}) for run in runs]


def _rect(x: float, y: float, width: float, height: float, **style: str | float) -> Mark:
    return Mark("rect", {"x": x, "y": round(y, 2), "width": width, "height": round(height, 2), **style})


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, **style: str | float) -> Mark:
    return Mark("line", {"x1": x1, "y1": round(y1, 2), "x2": x2, "y2": round(y2, 2), "stroke": stroke, **style})


def _image(uri: str, x: float, width: float, height: float) -> Mark:
    place = {"x": x, "y": 0, "width": width, "height": height}
    return Mark("image", {"href": uri, "preserveAspectRatio": "none", **place})


def _band_text(line: Timeline, start_s: float, end_s: float, text: str) -> Mark:
    """Words inside a band; what does not fit is cut off, and told when the pointer rests there."""
    left, right = _percent(line, start_s), _percent(line, end_s)
    style = f"left: {left}%; width: {right - left:.3f}%"
    title = f"{text}: {span_words(start_s, end_s, line.duration_s)}"
    return Mark("span", {"class": "band", "style": style, "title": title}, text)


def _add_series(
    line: Timeline, kind: str, source: str, name: str, times: np.ndarray, values: Sequence | np.ndarray, **more: int
) -> None:
    axis = [round(float(t), 3) for t in times]
    if axis not in line.axes:
        line.axes.append(axis)
    numbers = [float(f"{v:.3g}") if np.isfinite(v) else None for v in values]
    line.series.append(
        {"kind": kind, "source": source, "name": name, "axis": line.axes.index(axis), "values": numbers, **more}
    )


def _round_down(value: float) -> float:
    """The largest number with one significant digit that is not above `value`."""
    unit = 10.0 ** np.floor(np.log10(value))
    return float(np.floor(value / unit + 1e-9) * unit)


def _tick_step(duration_s: float) -> float:
    """The smallest round step that leaves at most twelve ticks."""
    steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]
    return next((s for s in steps if duration_s / s <= 12), duration_s / 12)
