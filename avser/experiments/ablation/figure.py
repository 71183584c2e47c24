"""The figure of an ablation: every cell with its interval, its difference to the reference, what a modality adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avser.evaluation.statistics import Interval
from avser.experiments.ablation.grid import AblationGrid
from avser.experiments.ablation.scores import APART, TAKEN_AWAY, CellResult, ModalityShares
from avser.roi.report.plots import INK, MODALITY_COLOURS, MODALITY_WORDS, plain
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

SIGNIFICANT = 0.05
ROW_IN, EDGES_IN = 0.3, 0.95  # height of a row, and of what stands above and below the rows, in inches
MARKS = {AUDIO: "o", VIDEO: "s", FUSED: "D"}


def plot_grid(grid: AblationGrid) -> Figure:
    """UAR of each cell beside its difference to the reference; below, Shapley values where there are any.

    Colour and mark both tell the modality. A filled mark on the right is a difference that Holm's method keeps at 5 %.
    """
    rows = grid.scored
    heights = [ROW_IN * len(rows) + EDGES_IN, *([ROW_IN * len(grid.shares) + EDGES_IN] if grid.shares else [])]
    figure = Figure(figsize=(9.2, sum(heights) + 0.35), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    left, right = parts[0].subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    _draw_scores(left, rows)
    _draw_differences(right, rows, grid)
    kinds = list(dict.fromkeys([*map(_kind, rows), *(MODALITIES if grid.shares else ())]))
    handles = [
        left.plot([], [], MARKS[kind], color=MODALITY_COLOURS[kind], label=MODALITY_WORDS[kind])[0] for kind in kinds
    ]
    parts[0].legend(handles=handles, loc="outside upper right", ncols=len(kinds), frameon=False, fontsize=9)
    if grid.shares:
        _draw_shares(parts[1].subplots(), grid.shares)
    return figure


def _draw_scores(ax: Axes, rows: Sequence[CellResult]) -> None:
    for place, result in enumerate(rows):
        assert result.scores
        _bar(ax, place, result.scores.uar, _kind(result), filled=True)
        own = result.each("uar")
        if len(own) > 1:
            ax.plot(own, [place + 0.24] * len(own), "|", color=INK, ms=4, mew=0.8, alpha=0.6)
    scores = rows[0].scores
    assert scores
    chance = 100 / scores.num_emotions
    ax.axvline(chance, color=INK, lw=1, ls=":")
    ax.annotate(
        "chance",
        (chance, 1),
        (3, -1),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    ax.set_yticks(range(len(rows)), [result.cell.label for result in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("UAR, % (ticks: single runs)")
    plain(ax)


def _draw_differences(ax: Axes, rows: Sequence[CellResult], grid: AblationGrid) -> None:
    ax.axvline(0, color=INK, lw=1, ls=":")
    for place, result in enumerate(rows):
        if result is grid.reference:
            ax.annotate("reference", (0, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
        elif result.difference:
            is_kept = result.adjusted_p is not None and result.adjusted_p < SIGNIFICANT
            _bar(ax, place, result.difference.uar, _kind(result), filled=is_kept)
    ax.set_xlabel("difference to the reference, points\n(filled: p < 0.05 after Holm)")
    ax.tick_params(labelleft=False)
    plain(ax)


def _draw_shares(ax: Axes, shares: Sequence[ModalityShares]) -> None:
    ax.axvline(0, color=INK, lw=1, ls=":")
    for place, found in enumerate(shares):
        for shift, name in zip((-0.13, 0.13), MODALITIES, strict=True):
            _bar(ax, place + shift, found.shares[name], name, filled=True)
    kinds = {APART: "models that never had the other", TAKEN_AWAY: "the other taken away in the test"}
    ax.set_yticks(range(len(shares)), [f"{found.label}\n{kinds[found.kind]}" for found in shares], fontsize=8)
    ax.set_ylim(len(shares) - 0.4, -0.6)
    ax.set_xlabel("what a modality adds to the UAR: Shapley value, points")
    plain(ax)


def _bar(ax: Axes, place: float, found: Interval, kind: str, *, filled: bool) -> None:
    """A mark with its interval; without one where there was a single speaker."""
    colour = MODALITY_COLOURS[kind]
    spread = np.nan_to_num([[found.value - found.low], [found.high - found.value]]).clip(min=0)
    face = colour if filled else "white"
    ax.errorbar(*(found.value, place), xerr=spread, fmt=MARKS[kind], color=colour, mfc=face, ms=6, lw=1.5, capsize=3)


def _kind(result: CellResult) -> str:
    modalities = result.cell.modalities
    return modalities[0] if len(modalities) == 1 else FUSED
