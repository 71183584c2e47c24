"""Figures of a study of many clips: alignment against chance, faithfulness, localisation, and one of disagreement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avser.errors import AvserError
from avser.evaluation.statistics import Interval
from avser.roi.dynamics import Disagreement
from avser.roi.report.plots import APART_COLOUR, FAINT, INK, MODALITY_COLOURS, MODALITY_WORDS, OTHER_COLOUR, plain
from avser.roi.report.tables import format_p
from avser.roi.report.view import unbroken

# Okabe & Ito's colours for those that are told apart by colour, dashes and labels at the ends of the lines.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
NEITHER = ("#009E73", "#CC79A7", "#000000", "#56B4E9")  # those that are like neither the voice nor the face
GREYS = ("#6E6E6E", "#8C8C8C", "#AAAAAA")
MARKS = "os^vDX"
LINE_DASHES: tuple = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))


def plot_alignment_nulls(
    observed: Mapping[str, float],
    null: Mapping[str, np.ndarray],
    *,
    p_values: Mapping[str, float] | None = None,
    words: Mapping[str, str] | None = None,
) -> Figure:
    """One panel a measure: how it is distributed if voice and face have nothing to do with each other, and what it is.

    Args:
        observed: measure -> mean over clips.
        null: measure -> (P,) the same mean in each permutation.
        p_values: measure -> p, written beside the line.
        words: measure -> what it is called; by default its name.

    Raises:
        AvserError: no measure has a null distribution.
    """
    measures = [m for m in observed if np.size(null.get(m, ()))]
    if not measures:
        raise AvserError("no measure has a null distribution; compare with a null model first")
    figure = Figure(figsize=(0.4 + 2.7 * len(measures), 2.6), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    for ax, measure in zip(panels, measures, strict=True):
        ax.hist(np.asarray(null[measure], float), bins=40, color=FAINT)
        ax.axvline(observed[measure], color=MODALITY_COLOURS["fused"], lw=2)
        p_value = (p_values or {}).get(measure)
        said = "" if p_value is None else f", p {format_p(p_value) if p_value < 0.0005 else f'= {p_value:.3f}'}"
        ax.set_title(f"observed {observed[measure]:.3f}{said}", fontsize=9, color=MODALITY_COLOURS["fused"])
        ax.set_xlabel((words or {}).get(measure, measure))
        ax.set_yticks([])
        ax.margins(x=0.08)
        plain(ax)
    panels[0].set_ylabel("permutations")
    return figure


def plot_faithfulness(
    deletion: Mapping[str, tuple[np.ndarray, np.ndarray]],
    insertion: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    controls: Collection[str] = (),
    modality: str = "",
    title: str = "",
) -> Figure:
    """Probability of the answer while moments go (left) and come (right), the most salient ones first.

    A faithful salience falls faster and rises faster than the controls, which are grey, each with marks of its own.

    Args:
        deletion, insertion: salience or control -> shares of the clip (L,) in [0, 1] and mean probability (L,).
        controls: which of the names are controls.
        modality: whose moments they are; the first salience has its hue.
    """
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys([*deletion, *insertion]))
    sources = [name for name in names if name not in controls]
    others = [name for name in names if name in controls]
    colours = (MODALITY_COLOURS[modality], *NEITHER) if modality else LINE_COLOURS
    for ax, curves, way in zip(panels, (deletion, insertion), ("removed", "alone"), strict=True):
        for name in sorted(curves, key=lambda n: n not in controls):  # saliences over the controls
            shares, probability = curves[name]
            ax.plot(100 * np.asarray(shares), probability, **_line_style(name, sources, others, colours), label=name)
        ax.set_xlabel(f"top moments {way}, % of the clip")
        ax.set_xlim(0, 100)
        plain(ax)
    panels[0].set_ylabel("probability of the answer")
    panels[0].set_ylim(bottom=0)
    panels[0].set_title(title, loc="left", fontsize=10)
    handles = {line.get_label(): line for ax in panels for line in ax.get_lines()}
    known = [handles[name] for name in [*sources, *others]]
    figure.legend(handles=known, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def plot_localization(
    scores: Mapping[str, Mapping[str, Interval]], *, measure: str = "AUROC", chance: float | None = 0.5
) -> Figure:
    """How well each salience finds the true regions: one row a salience, a dot with its interval for each modality.

    Args:
        scores: salience, in words -> modality -> value with interval.
        chance: drawn as a line.
    """
    figure = Figure(figsize=(5.6, 1.1 + 0.42 * len(scores)), layout="constrained")
    ax = figure.subplots()
    modalities = list(dict.fromkeys(m for by_modality in scores.values() for m in by_modality))
    for place, modality in enumerate(modalities):
        shift = 0.24 * (place - (len(modalities) - 1) / 2)
        rows = [(row, s[modality]) for row, s in enumerate(scores.values()) if modality in s]
        values = np.array([i.value for _, i in rows])
        spread = np.maximum(0, [values - [i.low for _, i in rows], np.subtract([i.high for _, i in rows], values)])
        colour = MODALITY_COLOURS.get(modality, OTHER_COLOUR)
        style: dict = {"fmt": "os^D"[place % 4], "ms": 5, "color": colour, "lw": 1.4, "capsize": 3}
        where = [row + shift for row, _ in rows]
        ax.errorbar(values, where, xerr=spread, **style, label=MODALITY_WORDS.get(modality, modality))
    if chance is not None:
        ax.axvline(chance, color=INK, lw=1, ls=":")
        beside: dict = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
        ax.annotate("chance", (chance, 1), (3, -2), va="top", **beside)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set_ylim(len(scores) - 0.5, -0.5)
    ax.set_xlabel(measure)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    plain(ax)
    return figure


def plot_disagreement(disagreement: Disagreement, emotions: Sequence[str]) -> Figure:
    """How far apart voice and face are along one clip, with the episodes in which they point to different emotions."""
    figure = Figure(figsize=(7.6, 2.5), layout="constrained")
    ax = figure.subplots()
    curve = disagreement.divergence
    for episode in disagreement.episodes:
        ax.axvspan(episode.start_s, episode.end_s, color=APART_COLOUR, alpha=0.18, lw=0)
        words = f"voice {emotions[episode.voice_emotion]}\nface {emotions[episode.face_emotion]}"
        middle = (episode.start_s + episode.end_s) / 2
        ax.text(middle, 0.97, words, ha="center", va="top", fontsize=8, transform=ax.get_xaxis_transform())
    for run in unbroken(curve.times):
        ax.plot(curve.times[run], curve.values[run], color=APART_COLOUR, lw=1.6)
    _headroom(ax, float(np.max(curve.values, initial=0)))
    ax.set_xlim(0, float(curve.times[-1]) if len(curve) else 1)
    ax.set(xlabel="seconds", ylabel="divergence, bits")
    ax.set_title(f"voice and face disagree in {100 * disagreement.share:.0f} % of the time", loc="left", fontsize=10)
    plain(ax)
    return figure


def _line_style(name: str, sources: Sequence[str], others: Sequence[str], colours: Sequence[str]) -> dict:
    if name not in sources:
        place = others.index(name)
        mark = {"marker": MARKS[place % len(MARKS)], "ms": 4, "mfc": "white", "mew": 0.9}
        return {"color": GREYS[place % len(GREYS)], "lw": 1.0, "ls": "-", **mark}
    place = sources.index(name)
    return {"color": colours[place % len(colours)], "lw": 1.9, "ls": LINE_DASHES[place % len(LINE_DASHES)]}


def _headroom(ax: Axes, top: float) -> None:
    """Room above the curve for the words of the episodes."""
    ax.set_ylim(0, max(0.1, 1.45 * top))
