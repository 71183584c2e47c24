"""One timeline out of windows that overlap: at every moment the mean of the windows that cover it (our choice)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np

from avser.config import RoiConfig
from avser.recordings.result import Row, Stretch
from avser.roi.intervals import find_regions
from avser.structures import Curve, Prediction

NOTHING = "no voice, no face"
PAUSE_S = 1.0  # a pause that is shorter belongs to what is said around it (our choice)

Gap = tuple[float, float]


def merge_rows(rows: Sequence[Row], gaps: Sequence[Gap] = ()) -> list[Stretch]:
    """Stretches of one emotion, in order of time.

    Neighbours of `cells_of` with the same emotion, of the same face, are joined.

    Args:
        rows, gaps: see `cells_of`.
    """
    joined: list[Stretch] = []
    for cell in cells_of(rows, gaps):
        last = joined[-1] if joined else None
        if last and last.end_s == cell.start_s and _alike(last, cell):
            joined[-1] = _join(last, cell)
        else:
            joined.append(cell)
    return joined


def cells_of(rows: Sequence[Row], gaps: Sequence[Gap] = ()) -> list[Stretch]:
    """The edges of all windows cut the recording into cells; in each, posteriors are the mean of those that cover it.

    Args:
        rows: at most one a window.
        gaps: stretches in which there is nothing to answer from, in order. No window answers for them.
    """
    rows = sorted(rows, key=lambda row: row.start_s)
    starts, longest_s = [row.start_s for row in rows], max((row.end_s - row.start_s for row in rows), default=0.0)
    edges = sorted({t for row in rows for t in (row.start_s, row.end_s)} | {t for gap in gaps for t in gap})
    ends = [end_s for _, end_s in gaps]
    cells = []
    for start_s, end_s in pairwise(edges):
        near = rows[bisect_left(starts, start_s - longest_s) : bisect_right(starts, start_s)]
        covering = [row for row in near if row.end_s >= end_s]
        gap = bisect_left(ends, end_s)
        if covering and gap < len(gaps) and gaps[gap][0] <= start_s:
            cells.append(Stretch(start_s, end_s, None, None, None, remark=NOTHING))
        elif covering:
            cells.append(_cell(start_s, end_s, covering))
    return cells


def find_gaps(present_s: np.ndarray, end_s: float) -> list[Gap]:
    """Stretches of more than a second without any of the moments (K,), sorted, at which there is a voice or a face."""
    moments = np.concatenate([[0.0], present_s, [end_s]])
    return [(a, b) for a, b in pairwise(moments.tolist()) if b - a > PAUSE_S]


def mean_over_time(timeline: Sequence[Stretch], emotions: Sequence[str]) -> dict[str, float]:
    """Emotion -> its mean over all moments that have an answer; zeros where none has."""
    answered = [s for s in timeline if s.emotion is not None]
    total_s = sum(s.duration_s for s in answered) or 1.0
    return {e: sum(s.probabilities[e] * s.duration_s for s in answered) / total_s for e in emotions}


def merge_saliences(rows: Sequence[Row], modality: str) -> Curve:
    """The salience of one modality over all windows, which sums to 1.

    Within a window salience sums to 1, however long it is; so each is first scaled to a mean of 1 a step, and a moment
    gets the mean over the windows that cover it. Steps are those of the windows, where these lie a step or more apart.
    """
    parts = [
        row.prediction.salience[modality] for row in rows if row.prediction and modality in row.prediction.salience
    ]
    parts = [part for part in parts if len(part)]
    if len(parts) <= 1:
        return parts[0] if parts else Curve(np.zeros(0), np.zeros(0))
    times, values = _merge([p.times for p in parts], [p.values[:, None] * len(p) for p in parts])
    return Curve(times, values[:, 0] / max(float(values.sum()), 1e-12))


def merge_evidence(rows: Sequence[Row], modality: str) -> tuple[np.ndarray, np.ndarray] | None:
    """What each step said, times (T,) and probabilities (T, C), as the mean over windows; None where none says it."""
    parts = [
        row.prediction.evidence[modality] for row in rows if row.prediction and modality in row.prediction.evidence
    ]
    parts = [part for part in parts if len(part[0])]
    if len(parts) <= 1:
        return parts[0] if parts else None
    return _merge([times for times, _ in parts], [values for _, values in parts])


def summarize(
    name: str, rows: Sequence[Row], timeline: Sequence[Stretch], emotions: Sequence[str], roi: RoiConfig
) -> Prediction:
    """The recording as one prediction: the mean of its timeline over time, and curves and regions over all of it.

    Args:
        rows: one a window, those that lead. A single one is the answer as it stands.
    """
    if len(rows) == 1 and rows[0].prediction is not None:
        return rows[0].prediction
    shares = mean_over_time(timeline, emotions)
    answered = any(s.emotion is not None for s in timeline)
    merged = Prediction(name, max(shares, key=lambda e: shares[e]) if answered else "", shares)
    for modality in dict.fromkeys(m for row in rows if row.prediction for m in row.prediction.salience):
        curve = merge_saliences(rows, modality)
        merged.salience[modality] = curve
        merged.regions[modality] = find_regions(curve, modality, **asdict(roi))
        if (evidence := merge_evidence(rows, modality)) is not None:
            merged.evidence[modality] = evidence
    return merged


def _alike(one: Stretch, other: Stretch) -> bool:
    return (one.emotion, one.face, one.speaks, one.remark) == (other.emotion, other.face, other.speaks, other.remark)


def _cell(start_s: float, end_s: float, covering: Sequence[Row]) -> Stretch:
    answers = [row for row in covering if row.prediction is not None]
    if not answers:
        return Stretch(start_s, end_s, None, None, None, remark=covering[0].remark or NOTHING)
    told = {row.speaks for row in answers}
    speaks = None if told == {None} else True in told
    predictions = [row.prediction.probabilities for row in answers if row.prediction is not None]
    shares = {e: float(np.mean([p[e] for p in predictions])) for e in predictions[0]}
    faces = {row.face for row in answers}
    face = faces.pop() if len(faces) == 1 else None
    return Stretch(start_s, end_s, face, speaks, max(shares, key=lambda e: shares[e]), shares)


def _join(one: Stretch, other: Stretch) -> Stretch:
    share = one.duration_s / (one.duration_s + other.duration_s)
    shares = {e: share * v + (1 - share) * other.probabilities[e] for e, v in one.probabilities.items()}
    return replace(one, end_s=other.end_s, probabilities=shares)


def _merge(times: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Curves (T, K) that overlap as one: every window read at the steps of all, linear between its own."""
    step_s = float(np.median(np.concatenate([np.diff(t) for t in times if len(t) > 1] or [np.ones(1)])))
    grid = _thin(np.sort(np.concatenate(list(times))), step_s)
    total, count = np.zeros((len(grid), values[0].shape[1])), np.zeros(len(grid))
    for own, read in zip(times, values, strict=True):
        low, high = np.searchsorted(grid, [own[0] - step_s / 2, own[-1] + step_s / 2])
        at = grid[low:high]
        nearest = np.abs(own[np.clip(np.searchsorted(own, at), 0, len(own) - 1)] - at)
        before = np.abs(own[np.clip(np.searchsorted(own, at) - 1, 0, len(own) - 1)] - at)
        real = np.minimum(nearest, before) <= step_s * 0.75  # elsewhere the window had no face
        for k in range(read.shape[1]):
            total[low:high, k] += np.where(real, np.interp(at, own, read[:, k]), 0.0)
        count[low:high] += real
    kept = count > 0
    return grid[kept], total[kept] / count[kept, None]


def _thin(times: np.ndarray, step_s: float) -> np.ndarray:
    """Times at least most of a step apart: those of two windows that all but coincide are one."""
    kept: list[float] = []
    for time_s in times.tolist():
        if not kept or time_s - kept[-1] > 0.6 * step_s:
            kept.append(time_s)
    return np.array(kept)
