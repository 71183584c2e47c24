"""Measures over rows: closed forms, direct computation, and agreement with the measures of one pair."""

from __future__ import annotations

import numpy as np
import pytest

from avser.roi.alignment.pair_measures import best_lags, residuals, standardise, warp


def direct_warp(a: np.ndarray, v: np.ndarray, band: int) -> tuple[float, int, int]:
    """Cost, steps and summed warping of the cheapest path, cell by cell; the shortest of equally cheap ones."""
    best: dict[tuple[int, int], tuple[float, int, int]] = {}
    for i in range(len(a)):
        for j in range(len(v)):
            if abs(i - j) > band:
                continue
            came = [best[c] for c in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if c in best]
            cost, steps, warping = min(came, key=lambda x: (round(x[0], 12), x[1])) if came else (0.0, 0, 0)
            best[i, j] = cost + abs(a[i] - v[j]), steps + 1, warping + abs(i - j)
    return best[len(a) - 1, len(v) - 1]


@pytest.mark.parametrize("num", [2, 7, 16])
def test_warping_agrees_with_filling_the_table_cell_by_cell(num: int) -> None:
    rng = np.random.default_rng(num)
    a, v = rng.normal(size=(2, 9, num))
    band = np.array([0, 1, 2, 3, 4, 5, num, 40, 1])
    cost, warping = warp(a, v, band)
    for row in range(9):
        total, steps, displaced = direct_warp(a[row], v[row], int(band[row]))
        assert cost[row] == pytest.approx(total / steps, abs=1e-8)
        assert warping[row] == pytest.approx(displaced / steps)


def test_warping_by_hand() -> None:
    """A peak two cells late costs 1 + 1 over 6 cells unless the band is wide enough to move it."""
    a, v = np.array([[0.0, 1, 0, 0, 0, 0]]), np.array([[0.0, 0, 0, 1, 0, 0]])
    for band, cost in ((0, 2 / 6), (1, 2 / 6), (2, 0.0)):
        assert warp(a, v, np.array([band]))[0][0] == pytest.approx(cost, abs=1e-8)
    # The shortest paths take 8 pairs and meet at the peaks, two cells apart: 00 01 02 13 23 33 44 55 is straightest,
    # with 0 + 1 + 2 + 2 + 1 cells, the one that returns last 00 01 02 13 24 35 45 55, with 0 + 1 + 2 + 2 + 2 + 2 + 1.
    assert 6 / 8 <= warp(a, v, np.array([2]))[1][0] <= 10 / 8
    assert warp(a, a, np.array([2]))[1][0] == 0


def test_best_lags_keep_to_each_rows_reach() -> None:
    a = standardise(np.repeat(np.exp(-0.5 * (np.arange(40) - 24.0) ** 2)[None], 3, axis=0))
    v = standardise(np.repeat(np.exp(-0.5 * (np.arange(40) - 20.0) ** 2)[None], 3, axis=0))
    r, lags = best_lags(a, v, np.array([2, 4, 10]))
    assert lags.tolist() == [2, 4, 4]
    assert r[1] == pytest.approx(1, abs=1e-3)
    assert r[0] < 0.5


def test_rows_without_shape_are_nan() -> None:
    rows = standardise(np.array([np.ones(20), np.arange(20.0)]))
    reach = np.array([3, 3])
    assert np.isnan(rows[0]).all()
    for found in (*best_lags(rows, rows, reach), *warp(rows, rows, reach)):
        assert np.isnan(found).tolist() == [True, False]


def test_residuals_are_what_least_squares_leaves() -> None:
    rng = np.random.default_rng(0)
    x, controls = rng.normal(size=(3, 50)), rng.normal(size=(2, 50))
    left = residuals(x, np.concatenate([controls, controls[:1]]))  # one control twice
    np.testing.assert_allclose(left @ controls.T, 0, atol=1e-12)
    np.testing.assert_allclose(left.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((left**2).sum(axis=1), 1)
    assert np.isnan(residuals(3 * controls[:1] + 2, controls)).all()
    np.testing.assert_allclose(residuals(x, np.zeros((0, 50))), standardise(x))
