"""Many clips' pairs of curves on the same number of cells, and every measure of any voice with any face among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from avser.evaluation.soft_labels import entropy_bits
from avser.roi.alignment.compare import COVERAGE, MAX_LAG_S, MAX_WARP_S, CurvePair, resample
from avser.roi.alignment.pair_measures import (
    best_lags,
    flat_rows,
    overlaps,
    residuals,
    standardise,
    top_cells,
    warp,
    wasserstein_cells,
)
from avser.structures import Curve

GREATER, LESS = "greater", "less"
# Field of `Alignment` -> on which side the aligned pairs lie.
TAILS = {
    "r0": GREATER,
    "rho0": GREATER,
    "r_max": GREATER,
    "js": LESS,
    "w1_s": LESS,
    "dtw_cost": LESS,
    "iou": GREATER,
    "partial_r0": GREATER,
}
CHUNK = 1024  # pairs measured at once: what they need fits into a processor's cache


@dataclass
class CurveStack:
    """Clips with both curves, time-normalised: cell n of every clip is the same share of its time.

    Attributes:
        audio, video: (C, N) share of the curve in each cell; rows sum to 1.
        durations_s: (C,) time that the cells of a clip cover.
        speakers, emotions, sentences: C names each; a sentence may be empty.
        audio_left, video_left: (C, N) standardised curves once the controls are taken out, or None.
    """

    audio: np.ndarray
    video: np.ndarray
    durations_s: np.ndarray
    speakers: Sequence[str]
    emotions: Sequence[str]
    sentences: Sequence[str]
    audio_left: np.ndarray | None = None
    video_left: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.audio)

    def keep(self, clips: np.ndarray) -> CurveStack:
        """The clips at the given rows."""
        speakers, emotions, sentences = (
            [values[i] for i in clips] for values in (self.speakers, self.emotions, self.sentences)
        )
        left = [None if x is None else x[clips] for x in (self.audio_left, self.video_left)]
        audio, video, durations_s = self.audio[clips], self.video[clips], self.durations_s[clips]
        return CurveStack(audio, video, durations_s, speakers, emotions, sentences, left[0], left[1])

    def has_shape(self, measures: Sequence[str]) -> np.ndarray:
        """(C,) bool: whose curves are not flat, nor wholly explained by the controls where `partial_r0` is asked."""
        shaped = ~(flat_rows(self.audio) | flat_rows(self.video))
        if "partial_r0" in measures:
            for left in (self.audio_left, self.video_left):
                shaped &= np.isfinite(left).all(axis=-1) if left is not None else False
        return shaped


def stack_pairs(
    pairs: Sequence[CurvePair],
    speakers: Sequence[str],
    emotions: Sequence[str],
    sentences: Sequence[str] | None = None,
    *,
    num_cells: int = 100,
) -> CurveStack:
    """Clips on `num_cells` cells each. Controls are taken out of the curves if every pair has them.

    Raises:
        ValueError: no pairs, or a number of names that differs from theirs.
    """
    sentences = [""] * len(pairs) if sentences is None else sentences
    if not pairs or {len(speakers), len(emotions), len(sentences)} != {len(pairs)}:
        counts = f"{len(pairs)}, {len(speakers)}, {len(emotions)} and {len(sentences)}"
        raise ValueError(
            f"got {counts} pairs, speakers, emotions and sentences; as many of each are needed, at least 1"
        )
    both = np.stack([_on_cells(p, np.stack([p.audio, p.video]), num_cells) for p in pairs])  # (C, 2, N)
    left: np.ndarray | None = None
    if all(p.controls is not None for p in pairs):
        left = np.full(both.shape, np.nan)
        for rows, pair, curves in zip(left, pairs, both, strict=True):
            controls = _on_cells(pair, np.asarray(pair.controls), num_cells)
            rows[:] = residuals(curves, standardise(controls[~flat_rows(controls)]))
    both /= both.sum(axis=-1, keepdims=True)
    return CurveStack(
        audio=both[:, 0],
        video=both[:, 1],
        durations_s=np.array([len(p.times) / p.rate_hz for p in pairs]),
        speakers=speakers,
        emotions=emotions,
        sentences=sentences,
        audio_left=None if left is None else left[:, 0],
        video_left=None if left is None else left[:, 1],
    )


@dataclass
class PreparedCurves:
    """Rows of curves with all that the measures need of one curve alone, so that it is computed once.

    Attributes:
        share, shape, ranks: (R, N) as they are, standardised, and ranks standardised.
        top: (R, N) bool, the highest cells.
        entropy: (R,) in bits.
        left: (R, N) standardised, once the controls are taken out, or None.
    """

    share: np.ndarray
    shape: np.ndarray
    ranks: np.ndarray
    top: np.ndarray
    entropy: np.ndarray
    left: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> PreparedCurves:
        left = None if self.left is None else self.left[rows]
        return PreparedCurves(
            self.share[rows], self.shape[rows], self.ranks[rows], self.top[rows], self.entropy[rows], left
        )

    def shifted(self, rows: np.ndarray, shifts: np.ndarray) -> PreparedCurves:
        """The given rows (R,), each moved round by its number of cells (R,): what leaves at the end enters in front."""
        cells = (np.arange(self.share.shape[-1]) - shifts[:, None]) % self.share.shape[-1]
        rows_of = rows[:, None]
        left = None if self.left is None else self.left[rows_of, cells]
        share, shape, ranks, top = (x[rows_of, cells] for x in (self.share, self.shape, self.ranks, self.top))
        return PreparedCurves(share, shape, ranks, top, self.entropy[rows], left)


def prepare(share: np.ndarray, left: np.ndarray | None = None, coverage: float = COVERAGE) -> PreparedCurves:
    """Rows of curves (R, N), each summing to 1."""
    ranks = standardise(rankdata(share, axis=-1))
    return PreparedCurves(share, standardise(share), ranks, top_cells(share, coverage), entropy_bits(share), left)


def measure_rows(
    audio: PreparedCurves, video: PreparedCurves, durations_s: np.ndarray, measures: Sequence[str]
) -> dict[str, np.ndarray]:
    """Measures (R,) of row r of the voice with row r of the face, on cells of `durations_s[r]` / N seconds.

    As `avser.roi.alignment.compare.measure_pair` takes them of one pair: the same largest lag, warping and coverage.
    """
    num_cells = audio.share.shape[-1]
    per_s = num_cells / durations_s  # (R,) cells a second
    compute = {
        "r0": lambda: (audio.shape * video.shape).sum(axis=-1),
        "rho0": lambda: (audio.ranks * video.ranks).sum(axis=-1),
        "r_max": lambda: best_lags(audio.shape, video.shape, np.round(MAX_LAG_S * per_s).astype(int))[0],
        "js": lambda: np.clip(
            entropy_bits((audio.share + video.share) / 2) - (audio.entropy + video.entropy) / 2, 0, 1
        ),
        "w1_s": lambda: wasserstein_cells(audio.share, video.share) / per_s,
        "dtw_cost": lambda: warp(
            audio.shape * np.sqrt(num_cells), video.shape * np.sqrt(num_cells), np.round(MAX_WARP_S * per_s).astype(int)
        )[0],
        "iou": lambda: overlaps(audio.top, video.top),
        "partial_r0": lambda: (np.asarray(audio.left) * np.asarray(video.left)).sum(axis=-1),
    }
    return {measure: compute[measure]() for measure in measures}


def measure_pairs(
    audio: PreparedCurves,
    video: PreparedCurves,
    rows_a: np.ndarray,
    rows_v: np.ndarray,
    durations_s: np.ndarray,
    measures: Sequence[str],
    shifts: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Measures (P,) of voice `rows_a[p]` with face `rows_v[p]`, moved round by `shifts[p]` cells, in chunks.

    Args:
        durations_s: (P,) time that the pair covers.
    """
    # Pairs of one duration together: within a chunk the longest lag and the widest band are tried for all.
    order = np.argsort(durations_s, kind="stable")
    found = {measure: np.empty(len(order)) for measure in measures}
    for start in range(0, len(order), CHUNK):
        some = order[start : start + CHUNK]
        faces = video.take(rows_v[some]) if shifts is None else video.shifted(rows_v[some], shifts[some])
        for measure, values in measure_rows(audio.take(rows_a[some]), faces, durations_s[some], measures).items():
            found[measure][some] = values
    return found


def measure_as_is(stack: CurveStack, measures: Sequence[str]) -> dict[str, np.ndarray]:
    """measure -> (C,) of each clip's own voice with its own face."""
    rows = np.arange(len(stack))
    audio, video = prepare(stack.audio, stack.audio_left), prepare(stack.video, stack.video_left)
    return measure_pairs(audio, video, rows, rows, stack.durations_s, measures)


def _on_cells(pair: CurvePair, curves: np.ndarray, num_cells: int) -> np.ndarray:
    """(K, num_cells) rows of a pair's grid (K, N), collected in cells of equal length over the same time."""
    length_s = len(pair.times) / pair.rate_hz / num_cells
    start_s = pair.times[0] - 0.5 / pair.rate_hz
    cells = start_s + (np.arange(num_cells) + 0.5) * length_s
    return np.stack([resample(Curve(pair.times, row), cells) for row in curves])
