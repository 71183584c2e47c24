"""Measures of many pairs of curves at once: row by row, so that null models measure chance with the same code.

Curves are rows (..., N) on N even cells. Two of them make a pair where they stand in the same row.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from avser.roi.intervals import FLAT_SHARE

TIE = 1e-9  # what a step costs extra in `warp`, so that of equally cheap paths the shortest is taken


def flat_rows(x: np.ndarray) -> np.ndarray:
    """(...) bool: which rows vary by less than `FLAT_SHARE` of their mean size, so that they have no shape."""
    return np.ptp(x, axis=-1) <= FLAT_SHARE * np.abs(x).mean(axis=-1)


def standardise(x: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and squares that sum to 1, so that the sum of products is Pearson's r; NaN where flat."""
    centred = x - x.mean(axis=-1, keepdims=True)
    size = np.sqrt((centred * centred).sum(axis=-1, keepdims=True))
    return np.where(flat_rows(x)[..., None], np.nan, centred / np.where(size > 0, size, 1))


def residuals(x: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """What is left of rows x (R, N) once the controls (K, N) and a constant are fitted by least squares; standardised.

    NaN where a row is flat, or where the controls explain it but for one millionth of its variance.
    """
    whole = standardise(x)
    regressors = np.concatenate([np.ones((1, x.shape[-1])), controls])
    basis, scale, _ = np.linalg.svd(regressors.T, full_matrices=False)
    basis = basis[:, scale > 1e-9 * scale.max()]  # controls that say the same count once
    left = whole - whole @ basis @ basis.T
    size = np.sqrt((left * left).sum(axis=-1, keepdims=True))
    return np.where(size > 1e-3, left / np.where(size > 0, size, 1), np.nan)


def top_cells(values: np.ndarray, coverage: float) -> np.ndarray:
    """(..., N) bool: the highest cells of each row that fill the share `coverage`, at least one; earlier cells win
    ties."""
    num_cells = max(1, round(coverage * values.shape[-1]))
    top = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(top, np.argsort(-values, axis=-1, kind="stable")[..., :num_cells], True, axis=-1)
    return top


def overlaps(top_a: np.ndarray, top_v: np.ndarray) -> np.ndarray:
    """(...) cells in both over cells in either, of sets (..., N) bool."""
    both = (top_a & top_v).sum(axis=-1)
    return both / (top_a.sum(axis=-1) + top_v.sum(axis=-1) - both)


def wasserstein_cells(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(...) by how many cells mass must move, on average, to turn one distribution (..., N) into the other."""
    return np.abs(np.cumsum(p - q, axis=-1)).sum(axis=-1)


def best_lags(a: np.ndarray, v: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest Pearson correlation of a(t + lag) with v(t) on their overlap, and its lag in cells, of rows (R, N).

    Of equal correlations the one with the smallest lag is taken. The products of every lag come from one Fourier
    transform, the sums over every overlap from cumulative sums.

    Args:
        a, v: (R, N) standardised rows; a row with NaN gives NaN.
        reach: (R,) largest lag in cells; lags that leave less than half of the cells as overlap are never tried, for
            a short overlap correlates by chance.
    """
    num = a.shape[-1]
    reach = np.minimum(reach, num // 2)
    widest = int(reach.max(initial=0))
    lags = np.array(sorted(range(-widest, widest + 1), key=abs))  # the smallest first: argmax takes the first of equals
    start_a, start_v, size = np.maximum(lags, 0), np.maximum(-lags, 0), num - np.abs(lags)

    def overlap_sums(x: np.ndarray, start: np.ndarray) -> np.ndarray:
        total = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, axis=-1)], axis=-1)
        return total[:, start + size] - total[:, start]

    padded = next_fast_len(num + widest, real=True)
    products = irfft(rfft(a, padded) * np.conj(rfft(v, padded)), padded)[:, lags]  # negative lags from the end
    sum_a, sum_v = overlap_sums(a, start_a), overlap_sums(v, start_v)
    var_a = overlap_sums(a * a, start_a) - sum_a**2 / size
    var_v = overlap_sums(v * v, start_v) - sum_v**2 / size
    shaped = (var_a > 1e-6) & (var_v > 1e-6) & (np.abs(lags) <= reach[:, None])
    r = np.where(shaped, (products - sum_a * sum_v / size) / np.sqrt(np.where(shaped, var_a * var_v, 1)), -1)
    best = np.round(r, 9).argmax(axis=-1)
    known = np.isfinite(a).all(axis=-1) & np.isfinite(v).all(axis=-1)
    highest = np.minimum(r[np.arange(len(r)), best], 1)
    return np.where(known, highest, np.nan), np.where(known, lags[best], np.nan)


def warp(a: np.ndarray, v: np.ndarray, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping of rows (R, N) inside a band (Sakoe & Chiba 1978): how far apart the best warping leaves
    them, and how much it warped.

    A path leads from the first cells of both to the last, one cell on in a, in v, or in both; it costs the absolute
    difference in every cell pair that it visits. The cheapest is taken.

    Args:
        a, v: (R, N) z-scored rows; a row with NaN gives NaN.
        band: (R,) by how many cells a path may run ahead in one of the two.

    Returns:
        (R,) cost of the path over the number of cell pairs in it, and (R,) how many cells apart the two cells of a pair
        lie, on average along the path.
    """
    num_rows, num = a.shape
    widest = int(np.minimum(band, num - 1).max(initial=0))
    columns_a, columns_v = np.ascontiguousarray(a.T), np.ascontiguousarray(v.T[::-1])  # (N, R), v runs backwards
    # State of the anti-diagonal i + j = k, indexed by i - j + widest + 1: cost, steps and warping of the best path.
    shape = (2 * widest + 3, num_rows)
    before, last = [[np.full(shape, np.inf), np.zeros(shape), np.zeros(shape)] for _ in range(2)]
    outside = np.abs(np.arange(-widest, widest + 1))[:, None] > band  # (2 * widest + 1, R)
    closed = np.where(outside, np.inf, 0.0) if outside.any() else None
    for k in range(2 * num - 1):
        reach = min(k, 2 * num - 2 - k, widest - (widest + k) % 2)
        here = slice(widest + 1 - reach, widest + 2 + reach, 2)  # i - j = -reach, ..., reach, in steps of 2
        first_i, first_v, count = (k - reach) // 2, num - 1 - (k + reach) // 2, reach + 1
        step = np.abs(columns_a[first_i : first_i + count] - columns_v[first_v : first_v + count]) + TIE
        if closed is not None:
            step += closed[here.start - 1 : here.stop - 1 : 2]
        now = before  # what lies two diagonals back is read at `here` alone, and then written over
        if k == 0:
            now[0][here], now[1][here] = step, 1
        else:
            _extend(now, last, here, step, np.abs(np.arange(-reach, reach + 1, 2))[:, None])
        now[0][: here.start] = now[0][here.stop :] = np.inf
        before, last = last, now
    cost, steps, warping = (state[widest + 1] for state in last)
    known = np.isfinite(a).all(axis=-1) & np.isfinite(v).all(axis=-1)
    steps = np.where(known & (steps > 0), steps, np.nan)
    return np.maximum(cost / steps - TIE, 0), warping / steps


def _extend(now: list[np.ndarray], last: list[np.ndarray], here: slice, step: np.ndarray, distance: np.ndarray) -> None:
    """Best paths into the cells `here`: from the diagonal two back (already in `now`), or from either neighbour."""
    ahead_a, ahead_v = slice(here.start - 1, here.stop - 1, 2), slice(here.start + 1, here.stop + 1, 2)
    cost, steps, warping = (state[here] for state in now)
    for came in (ahead_a, ahead_v):
        better = last[0][came] < cost
        cost = np.where(better, last[0][came], cost)
        steps, warping = np.where(better, last[1][came], steps), np.where(better, last[2][came], warping)
    now[0][here], now[1][here], now[2][here] = cost + step, steps + 1, warping + distance
