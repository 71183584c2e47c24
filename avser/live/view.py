"""The live answer on a terminal: emotions as bars, salience of the last seconds, and how well it keeps up."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from avser.live.follow import LiveAnswer
from avser.roi.report.plots import EMOTION_COLOURS, MODALITY_COLOURS, MODALITY_WORDS, OTHER_COLOUR
from avser.structures import Curve

BAR_COLUMNS, CURVE_COLUMNS = 56, 62
WIDTH = 80
HEIGHTS = " ▁▂▃▄▅▆▇█"
LINE_COLOURS = {**MODALITY_COLOURS, "audio": "#56B4E9"}  # the voice's blue is too dark on black
DIM = "grey58"


def show_answer(
    answer: LiveAnswer, emotions: list[str], modalities: tuple[str, ...], window_s: float
) -> RenderableType:
    """One picture of the terminal.

    Args:
        emotions: in the order of the bars.
        modalities: of the model, a line each.
        window_s: seconds that the lines show.
    """
    prediction = answer.prediction
    title = "waiting for a voice or a face" if prediction is None else prediction.emotion
    bars = Table.grid(padding=(0, 1))
    for emotion in emotions:
        share = 0.0 if prediction is None else prediction.probabilities[emotion]
        colour = EMOTION_COLOURS.get(emotion, OTHER_COLOUR)
        full = round(share * BAR_COLUMNS)
        bar = Text("█" * full, style=colour) + Text("·" * (BAR_COLUMNS - full), style=DIM)
        name = Text(emotion, style="bold" if prediction is not None and emotion == prediction.emotion else "")
        bars.add_row(name, bar, Text(f"{100 * share:3.0f} %"))
    curves = Table.grid(padding=(0, 1))
    for modality in modalities:
        curve = None if prediction is None else prediction.salience.get(modality)
        line = sparkline(curve, answer.time_s - window_s, answer.time_s, CURVE_COLUMNS)
        shown = Text("nothing to go by", style=DIM) if line is None else Text(line, style=LINE_COLOURS[modality])
        curves.add_row(Text(MODALITY_WORDS[modality]), shown)
    axis = f"-{window_s:g} s".ljust(CURVE_COLUMNS - 3) + "now"
    curves.add_row(Text(""), Text(axis, style=DIM))
    return Panel(
        Group(bars, Text(), Text("salience", style=DIM), curves, Text(), Text(timekeeping(answer), style=DIM)),
        title=Text(title, style="bold"),
        title_align="left",
        subtitle="Ctrl-C ends",
        subtitle_align="right",
        width=WIDTH,
    )


def timekeeping(answer: LiveAnswer) -> str:
    """Time, latency and what was dropped, as one line."""
    kept = answer.kept
    return (
        f"{answer.time_s:.1f} s   latency {1000 * answer.latency_s:.0f} ms "
        f"(median {1000 * kept.latency_s(50):.0f}, 95 % {1000 * kept.latency_s(95):.0f})"
        + (f"   {kept.num_dropped} of {kept.num_frames} frames dropped" if kept.num_frames else "")
        + (f"   {kept.num_joined} chunks answered late" if kept.num_joined else "")
    )


def sparkline(curve: Curve | None, start_s: float, end_s: float, columns: int) -> str | None:
    """A curve over a stretch of time in so many letters, each as high as the highest step in it; None without steps."""
    if curve is None or not len(curve):
        return None
    places = ((curve.times - start_s) / (end_s - start_s) * columns).astype(int).clip(0, columns - 1)
    highest = np.full(columns, np.nan)
    np.fmax.at(highest, places, curve.values)
    seen = np.flatnonzero(~np.isnan(highest))
    # Steps may be wider than a letter: between two of them the earlier one goes on.
    filled = np.where(
        np.arange(columns) < seen[0], 0.0, highest[seen[np.searchsorted(seen, np.arange(columns), "right") - 1]]
    )
    top = filled.max()
    heights = np.zeros(columns, int) if top <= 0 else np.ceil(filled / top * (len(HEIGHTS) - 1)).astype(int)
    return "".join(HEIGHTS[height] for height in heights)
