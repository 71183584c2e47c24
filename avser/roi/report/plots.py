"""Figures as matplotlib objects: one clip along time, ablations, lags, confusions.

One hue for the voice, one for the face and a dark mix for both, in every figure and in the report; an emotion keeps its
colour and dash everywhere. Figures are built without pyplot, so drawing touches no global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avser.errors import AvserError
from avser.evaluation.statistics import Interval
from avser.roi.intervals import step_intervals
from avser.roi.report.view import NO_REGION, ClipView, overlap_segments, relative_values, strip_frames, unbroken
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

# Blue and orange are told apart by all kinds of colour vision; the mix differs from both in lightness too.
MODALITY_COLOURS = {AUDIO: "#0072B2", VIDEO: "#E07B00", FUSED: "#4B2E73"}
MODALITY_WORDS = {AUDIO: "voice", VIDEO: "face", FUSED: "both"}
EMOTION_COLOURS = {
    "neutral": "#8C8C8C",
    "calm": "#44AA99",
    "happiness": "#D9A400",
    "sadness": "#4FA3E0",
    "anger": "#B2182B",
    "fear": "#8E44AD",
    "disgust": "#117733",
    "surprise": "#EE7799",
    "boredom": "#997755",
    "contempt": "#333333",
    "excitement": "#9AAB1F",
    "frustration": "#663333",
}
# Lengths of dash and gap in points; () is solid. Neighbours in hue differ in dash.
EMOTION_DASHES: dict[str, tuple[float, ...]] = {
    "calm": (6, 2),
    "fear": (6, 2),
    "disgust": (2, 1.5),
    "surprise": (2, 1.5),
    "boredom": (6, 2, 1.5, 2),
    "contempt": (1.5, 2),
    "excitement": (6, 2, 1.5, 2),
    "frustration": (6, 2),
}
OTHER_COLOUR = "#555555"
APART_COLOUR = "#9A2A5A"  # of moments at which voice and face disagree
# Letters as outlines in SVG, so that a figure looks the same everywhere, and as TrueType in PDF, as journals demand;
# the salt keeps the names inside an SVG from changing with each run.
FOR_PAPERS: dict = {"svg.fonttype": "path", "svg.hashsalt": "avser", "pdf.fonttype": 42}
INK, FAINT = "#222222", "#C9C9C9"


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure; the suffix (.png, .svg, .pdf) says as what."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with rc_context(FOR_PAPERS):
        undated = {"Date": None} if Path(path).suffix == ".svg" else None
        figure.savefig(path, dpi=200, facecolor="white", metadata=undated)


def figure_png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the bytes of a PNG file, to be put into a report."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def plot_clip(view: ClipView) -> Figure:
    """One clip on one axis in seconds: what was heard and seen, what counted, what it said.

    Filled bands are found regions, dashed outlines true ones. Salience is in multiples of its mean. Rows without data
    are left out.

    Raises:
        AvserError: the view has no data for any row.
    """
    rows = [name for name in ROWS if ROWS[name][1](view)]
    if not rows:
        raise AvserError(f"{view.clip_id}: nothing to draw; give the view a spectrogram, faces, salience or evidence")
    heights = [ROWS[name][0] for name in rows]
    figure = Figure(figsize=(10, 1.3 + sum(heights)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(rows), 1, sharex=True, height_ratios=heights, squeeze=True))
    for name, ax in zip(rows, axes, strict=True):
        ROWS[name][2](ax, view)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
        plain(ax)
    axes[-1].set_xlim(0, view.duration_s)
    axes[-1].set_xlabel("seconds")
    acted = f"   (acted: {view.true_emotion})" if view.true_emotion else ""
    share = view.prediction.probabilities[view.prediction.emotion]
    axes[0].set_title(
        f"{view.prediction.emotion} {100 * share:.0f} %{acted}   {view.clip_id}", loc="left", parse_math=False
    )
    if view.evidence:
        handles = [axes[-1].plot([], [], **_emotion_line(e), label=e)[0] for e in view.emotions]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    return figure


def plot_ablation(table: Mapping[str, Interval], chance: float | None = None, measure: str = "UAR, %") -> Figure:
    """Bars with intervals, one for each variant.

    Args:
        table: variant -> value in percent; variants named "audio", "video" and "fused" get the colours of the voice,
            the face and both.
        chance: drawn as a line.
    """
    figure = Figure(figsize=(1.3 + 1.0 * len(table), 3.8), layout="constrained")
    ax = figure.subplots()
    for place, (name, interval) in enumerate(table.items()):
        ax.bar(place, interval.value, 0.62, color=MODALITY_COLOURS.get(name, OTHER_COLOUR))
        spread = [[max(0.0, interval.value - interval.low)], [max(0.0, interval.high - interval.value)]]
        ax.errorbar(place, interval.value, spread, color=INK, capsize=4, lw=1.2)
        ax.annotate(f"{interval.value:.1f}", (place, interval.high), (0, 4), textcoords="offset points", ha="center")
    if chance is not None:
        ax.axhline(chance, color=INK, lw=1, ls=":")
        beside: dict = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        ax.annotate("chance", (1, chance), (4, 0), **beside)
    ax.set_xticks(range(len(table)), [MODALITY_WORDS.get(name, name) for name in table])
    ax.set_ylabel(measure)
    ax.margins(y=0.12)
    plain(ax)
    return figure


def plot_lags(planted: Sequence[float], recovered: Sequence[float], emotions: Sequence[str]) -> Figure:
    """Recovered against planted lags in seconds, one point a clip in the colour of its emotion.

    Positive: the face leads. Points on the diagonal are recovered exactly.
    """
    true, got, words = np.asarray(planted, float), np.asarray(recovered, float), np.asarray(emotions)
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    ax = figure.subplots()
    both = np.r_[true, got]
    reach = 1.1 * float(np.abs(both[np.isfinite(both)]).max(initial=0.1))
    ax.plot([-reach, reach], [-reach, reach], color=INK, lw=1, ls=":")
    ax.axhline(0, color=FAINT, lw=0.8, zorder=0)
    ax.axvline(0, color=FAINT, lw=0.8, zorder=0)
    for emotion in dict.fromkeys(words):
        own = words == emotion
        ax.scatter(true[own], got[own], 18, EMOTION_COLOURS.get(emotion, OTHER_COLOUR), alpha=0.75, lw=0, label=emotion)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set(xlabel="planted lag, s  (positive: the face leads)", ylabel="recovered lag, s")
    ax.legend(frameon=False, fontsize=8)
    plain(ax)
    return figure


def draw_confusion(ax: Axes, matrix: np.ndarray, emotions: Sequence[str]) -> None:
    """Confusions (C, C) of counts, true emotions as rows; shaded and written in percent of the row, with counts."""
    counts = np.asarray(matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    percent = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(percent):
        ax.text(column, row, f"{share:.0f}", ha="center", va="bottom", color="white" if share > 55 else INK)
        count = f"{counts[row, column]:.0f}"
        ax.text(
            column, row + 0.08, count, ha="center", va="top", fontsize=7, color="white" if share > 55 else "#666666"
        )
    ax.set_xticks(range(len(emotions)), list(emotions), rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(emotions)), list(emotions))
    ax.set(xlabel="answered", ylabel="true")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def spectrogram_image(view: ClipView) -> tuple[np.ndarray, float, float]:
    """The log-mel spectrogram as an RGB image (F, T, 3) in the hue of the voice, high frequencies on top, with the
    seconds at its left and right edge."""
    assert view.log_mel is not None
    assert view.log_mel_times is not None
    low, high = np.percentile(view.log_mel, [5, 99.8])
    shade = np.clip((view.log_mel.T[::-1] - low) / max(high - low, 1e-9), 0, 1)
    steps = step_intervals(view.log_mel_times)
    return (255 * colormaps["Blues"](shade)[..., :3]).astype(np.uint8), float(steps[0, 0]), float(steps[-1, 1])


# --- the rows of a clip -------------------------------------------------------------------------------------------


def _draw_spectrogram(ax: Axes, view: ClipView) -> None:
    image, start_s, end_s = spectrogram_image(view)
    ax.imshow(image, extent=(start_s, end_s, 0, 1), aspect="auto", rasterized=True)
    ax.set(ylim=(0, 1), yticks=[])
    _draw_bars(ax, view, AUDIO)


def _draw_faces(ax: Axes, view: ClipView) -> None:
    for start, end, crop in strip_frames(view, max(4, round(10.2 / ROWS["face"][0]))):
        if crop is None:
            ax.text((start + end) / 2, 0.5, "no face", ha="center", va="center", fontsize=7, color="#888888")
        else:
            ax.imshow(crop, extent=(start, end, 0, 1), aspect="auto", rasterized=True)
    ax.set(ylim=(0, 1), yticks=[])
    _draw_bars(ax, view, VIDEO)


def _draw_bars(ax: Axes, view: ClipView, modality: str) -> None:
    for region in view.regions.get(modality, []):
        ax.axvspan(region.start_s, region.end_s, 0, 0.06, color=MODALITY_COLOURS[modality], lw=0, zorder=3)


def _draw_salience(ax: Axes, view: ClipView, modality: str) -> None:
    colour, curve = MODALITY_COLOURS[modality], view.salience[modality]
    for region in view.regions.get(modality, []):
        ax.axvspan(region.start_s, region.end_s, color=colour, alpha=0.22, lw=0)
    values = relative_values(curve)
    for run in unbroken(curve.times):
        ax.plot(curve.times[run], values[run], color=colour, lw=1.6)
    ax.axhline(1, color=INK, lw=0.7, ls=":")
    ax.set_ylim(min(0.0, float(values.min(initial=0)) * 1.1), max(2.0, float(values.max(initial=0)) * 1.12))
    for true in view.truth.get(modality, []):
        ax.axvspan(true.start_s, true.end_s, 0.03, 0.97, fill=False, edgecolor=INK, lw=1.2, ls="--", zorder=3)


def _draw_overlap(ax: Axes, view: ClipView) -> None:
    for start, end, kind in overlap_segments(view):
        ax.axvspan(start, end, color=MODALITY_COLOURS[kind], lw=0)
        word = {AUDIO: "voice only", VIDEO: "face only", FUSED: "both"}[kind]
        if end - start > 0.012 * len(word) * view.duration_s:
            ax.text((start + end) / 2, 0.5, word, ha="center", va="center", color="white", fontsize=8)
    if not any(view.regions[m] for m in MODALITIES):  # an empty row would look like a fault of the figure
        ax.text(0.01 * view.duration_s, 0.5, NO_REGION, ha="left", va="center", color="#666666", fontsize=8)
    ax.set(ylim=(0, 1), yticks=[])


def _draw_episodes(ax: Axes, view: ClipView) -> None:
    for episode in view.episodes:
        ax.axvspan(episode.start_s, episode.end_s, color=APART_COLOUR, lw=0)
        words = f"{view.emotions[episode.voice_emotion]} | {view.emotions[episode.face_emotion]}"
        if episode.duration_s > 0.011 * len(words) * view.duration_s:
            middle = (episode.start_s + episode.end_s) / 2
            ax.text(middle, 0.5, words, ha="center", va="center", color="white", fontsize=8, parse_math=False)
    ax.set(ylim=(0, 1), yticks=[])


def _draw_evidence(ax: Axes, view: ClipView, source: str) -> None:
    times, values = view.evidence[source]
    for emotion, line in zip(view.emotions, values.T, strict=True):
        for run in unbroken(times):
            ax.plot(times[run], line[run], **_emotion_line(emotion), lw=1.3)
    ax.set_ylim(0, max(1e-9, 1.05 * float(np.max(values, initial=0))))


def _emotion_line(emotion: str) -> dict:
    dashes = EMOTION_DASHES.get(emotion, ())
    return {"color": EMOTION_COLOURS.get(emotion, OTHER_COLOUR), "linestyle": (0, dashes) if dashes else "-"}


def plain(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#999999")
    ax.tick_params(color="#999999", labelsize=8)


def _has_both(view: ClipView) -> bool:
    return all(m in view.regions for m in MODALITIES)


# label -> height in inches, whether the clip has it, how it is drawn
ROWS: dict = {
    "voice": (1.1, lambda v: v.has_spectrogram, _draw_spectrogram),
    "voice\nsalience": (0.8, lambda v: AUDIO in v.salience, lambda ax, v: _draw_salience(ax, v, AUDIO)),
    "face": (0.8, lambda v: v.has_faces, _draw_faces),
    "face\nsalience": (0.8, lambda v: VIDEO in v.salience, lambda ax, v: _draw_salience(ax, v, VIDEO)),
    "together": (0.3, _has_both, _draw_overlap),
    "voice\nsays": (0.8, lambda v: AUDIO in v.evidence, lambda ax, v: _draw_evidence(ax, v, AUDIO)),
    "face\nsays": (0.8, lambda v: VIDEO in v.evidence, lambda ax, v: _draw_evidence(ax, v, VIDEO)),
    "both\nsay": (0.8, lambda v: FUSED in v.evidence, lambda ax, v: _draw_evidence(ax, v, FUSED)),
    "voice |\nface": (0.3, lambda v: bool(v.episodes), _draw_episodes),
}
