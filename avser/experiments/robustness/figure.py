"""The figure of robustness: a panel for each corruption, UAR against level; then what is missing or swapped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avser.data.corruptions import CORRUPTIONS
from avser.evaluation.statistics import Interval
from avser.experiments.robustness.scores import CurveScores
from avser.experiments.robustness.study import Robustness, RunRobustness
from avser.roi.report.plots import INK, MODALITY_COLOURS, plain
from avser.structures import FUSED

# Okabe and Ito's colours, for runs that read the same; marks and dashes tell them apart without colour too.
OTHER_COLOURS = ("#4B2E73", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#999999")
MARKS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", "--", "-.", ":")
PANEL_IN, ROW_IN = (3.3, 2.7), 0.26
COLUMNS = 3
SIGNIFICANT = 0.05


def plot_robustness(found: Robustness) -> Figure:
    """Curves with bands (95 %, clustered by speaker), then switches as marks with intervals.

    A filled mark differs from clean clips at 5 % after Holm. Dotted: guessing. A run that does not read what is spoiled
    is a flat thin line at its clean UAR.
    """
    names = found.curve_names
    num_rows = math.ceil(len(names) / COLUMNS)
    num_switches = sum(len(run.switches) + 1 for run in found.runs if run.switches)
    heights = [PANEL_IN[1] * num_rows] * bool(names) + [ROW_IN * num_switches + 0.9] * bool(num_switches)
    figure = Figure(figsize=(PANEL_IN[0] * COLUMNS, sum(heights) + 0.4), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    colours = run_colours(found.runs)
    if names:
        panels = parts[0].subplots(num_rows, min(COLUMNS, len(names)), sharey=True, squeeze=False).ravel()
        for name, ax in zip(names, panels, strict=False):
            _draw_panel(ax, name, found.runs, colours)
        for ax in panels[len(names) :]:
            ax.set_axis_off()
        for ax in panels[:: min(COLUMNS, len(names))]:
            ax.set_ylabel("UAR, %")
    if num_switches:
        _draw_switches(parts[-1].subplots(), found.runs, colours)
    handles = [
        figure.axes[0].plot([], [], MARKS[i % len(MARKS)] + DASHES[i % len(DASHES)], color=colours[i], label=run.name)[
            0
        ]
        for i, run in enumerate(found.runs)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(3, len(handles)), frameon=False, fontsize=9)
    return figure


def run_colours(runs: Sequence[RunRobustness]) -> list[str]:
    """The colours of voice, face and both, where each run reads something else; others otherwise."""
    kinds = [run.modalities[0] if len(run.modalities) == 1 else FUSED for run in runs]
    if len(set(kinds)) == len(kinds):
        return [MODALITY_COLOURS[kind] for kind in kinds]
    return [OTHER_COLOURS[i % len(OTHER_COLOURS)] for i in range(len(runs))]


def _draw_panel(ax: Axes, name: str, runs: Sequence[RunRobustness], colours: Sequence[str]) -> None:
    kind = CORRUPTIONS[name]
    for i, run in enumerate(runs):
        style: dict[str, Any] = {"color": colours[i], "ls": DASHES[i % len(DASHES)]}
        if name in run.curves:
            _draw_curve(ax, run, run.curves[name], MARKS[i % len(MARKS)], style)
        else:
            ax.axhline(run.clean_scores.uar.value, lw=0.8, alpha=0.8, **style)
    _draw_chance(ax.axhline, runs)
    ax.set_title(kind.label, loc="left", fontsize=10)
    ax.set_xlabel(kind.unit, fontsize=9)
    ax.locator_params(axis="x", nbins=5)
    if kind.clean is None:  # from easy to hard, the clean clips before all
        levels = sorted({at for run in runs if name in run.curves for at in run.curves[name].places})
        ax.set_xticks([_before(levels), *levels], ["clean", *(f"{level:g}" for level in levels)])
        ax.invert_xaxis()
    ax.set_ylim(0, 100)
    plain(ax)


def _draw_curve(ax: Axes, run: RunRobustness, curve: CurveScores, mark: str, style: dict) -> None:
    levels = curve.places
    clean_at = CORRUPTIONS[curve.name].clean
    place = _before(levels) if clean_at is None else clean_at
    points = [(place, run.clean_scores.uar, False)]
    points += [
        (at, level.uar, level.adjusted_p is not None and level.adjusted_p < SIGNIFICANT)
        for at, level in zip(levels, curve.levels, strict=True)
    ]
    points.sort(key=lambda point: point[0])
    places = [at for at, _, _ in points]
    ax.plot(places, [uar.value for _, uar, _ in points], lw=1.5, **style)
    low, high = ([_end(uar, end) for _, uar, _ in points] for end in ("low", "high"))
    ax.fill_between(places, low, high, color=style["color"], alpha=0.14, lw=0)
    for at, uar, is_kept in points:
        ax.plot(at, uar.value, mark, color=style["color"], mfc=style["color"] if is_kept else "white", ms=5)


def _draw_switches(ax: Axes, runs: Sequence[RunRobustness], colours: Sequence[str]) -> None:
    labels: list[str] = []
    for i, run in enumerate(runs):
        if not run.switches:
            continue
        rows = [("as it is", run.clean_scores), *((CORRUPTIONS[name].label, s) for name, s in run.switches.items())]
        for label, scores in rows:
            spread = [[scores.uar.value - _end(scores.uar, "low")], [_end(scores.uar, "high") - scores.uar.value]]
            is_kept = scores.adjusted_p is not None and scores.adjusted_p < SIGNIFICANT
            face = colours[i] if is_kept else "white"
            mark = MARKS[i % len(MARKS)]
            look: dict[str, Any] = {"color": colours[i], "mfc": face, "ms": 6, "lw": 1.5, "capsize": 3}
            ax.errorbar(scores.uar.value, len(labels), xerr=np.clip(spread, 0, None), fmt=mark, **look)
            labels.append(label)
    _draw_chance(ax.axvline, runs)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(0, 100)
    ax.set_xlabel("UAR, % (filled: differs from clean, p < 0.05 after Holm; dotted: guessing)")
    plain(ax)


def _draw_chance(line: Callable[..., object], runs: Sequence[RunRobustness]) -> None:
    line(100 / len(set(runs[0].clean.labels.tolist())), color=INK, lw=1, ls=":")


def _before(levels: Sequence[float]) -> float:
    """A place for clean clips on an axis where more is easier."""
    step = (levels[-1] - levels[0]) / max(1, len(levels) - 1) or 1.0
    return levels[-1] + step


def _end(found: Interval, end: str) -> float:
    """An end of an interval; its value where there is no interval."""
    number = getattr(found, end)
    return number if math.isfinite(number) else found.value
