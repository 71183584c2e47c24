"""A cross-validation as a figure: what is taken for what, and how much its folds and seeds differ."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avser.experiments.cross_validation.study import CrossValidation
from avser.roi.report.plots import FAINT, INK, MODALITY_COLOURS, draw_confusion, plain
from avser.structures import FUSED


def plot_cross_validation(found: CrossValidation) -> Figure:
    """Confusion matrix in percent of the true emotion, and the UAR of every fold: interval, and a dot for each seed."""
    side = 1.6 + 0.6 * len(found.emotions)
    figure = Figure(figsize=(side + max(3.0, 1.2 + 0.5 * len(found.folds)), side - 0.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[side, max(3.0, 1.2 + 0.5 * len(found.folds))])
    draw_confusion(left, found.confusion, found.emotions)
    _draw_folds(right, found)
    return figure


def _draw_folds(ax: Axes, found: CrossValidation) -> None:
    colour = MODALITY_COLOURS[found.config.model.modalities[0] if len(found.config.model.modalities) == 1 else FUSED]
    pooled, chance = found.scores.uar, 100 / len(found.emotions)
    ax.axhspan(pooled.low, pooled.high, color=colour, alpha=0.15, lw=0)
    ax.axhline(pooled.value, color=colour, lw=1.5)
    ax.axhline(chance, color=INK, lw=1, ls=(0, (2, 1.5)))
    for place, fold in enumerate(found.folds):
        if fold.scores is None:
            continue
        uar = fold.scores.uar
        ax.plot([place, place], [uar.low, uar.high], color=FAINT, lw=4, solid_capstyle="butt", zorder=2)
        seeds = [run.metrics["test"]["uar"]["value"] for (number, _), run in found.runs.items() if number == fold.fold]
        ax.scatter([place] * len(seeds), seeds, s=16, color="white", edgecolor=INK, linewidth=0.8, zorder=3)
        ax.scatter([place], [uar.value], s=60, marker="_", color=INK, linewidth=2, zorder=4)
    ax.set_xticks(range(len(found.folds)), [str(fold.fold) for fold in found.folds])
    ax.set(xlabel="fold", ylabel="UAR, %", xlim=(-0.6, len(found.folds) - 0.4), ylim=(0, 100))
    ax.text(0.98, chance + 1, "guessing", transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)
    ax.set_title(
        f"all folds {pooled:.1f}\nband and bars: 95 %, speakers; dots: seeds", fontsize=8, loc="left", color=INK
    )
    plain(ax)
