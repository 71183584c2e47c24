"""By how much the face leads, from the boxes that explain both curves best: for clips with one emotional stretch each.

A region of the strongest curve answers with one stretch of each modality, and is far off where one of the two is wrong.
Here every stretch of time is a candidate: as a box that the curve is higher inside of than outside, it explains a share
of the curve's variance. Pairs of a voice's and a face's box whose lag is possible at all weigh by the shares that both
explain, and the lag is the weighted median: where a curve has no clear box, the other one and the limit still speak.
"""

from __future__ import annotations

import numpy as np

from avser.roi.alignment.compare import MAX_LAG_S
from avser.roi.intervals import is_flat, smooth_steps, step_intervals
from avser.structures import Curve

CELL_S = 0.02
BOX_S = (0.2, 1.2)  # shortest and longest stretch that is tried (our choice)
SHARPNESS = 5.0  # of 2 to 40, best on validation speakers of synthetic talking faces


def box_lag_s(
    audio: Curve,
    video: Curve,
    *,
    max_lag_s: float = MAX_LAG_S,
    smooth_s: float = 0.05,
    sharpness: float = SHARPNESS,
    box_s: tuple[float, float] = BOX_S,
) -> float:
    """Centre of the voice's box minus centre of the face's in seconds, positive: the face leads; NaN for a flat curve.

    Args:
        audio, video: salience; values below zero count as zero.
        max_lag_s: pairs of boxes further apart are impossible.
        smooth_s: standard deviation of the Gaussian that smooths both.
        sharpness: a pair weighs exp(sharpness * (sum of the shares explained)); the larger it is, the nearer comes the
            answer to that of the best pair alone.
        box_s: shortest and longest box.
    """
    profiles = [box_profile(curve, smooth_s=smooth_s, box_s=box_s) for curve in (audio, video)]
    if any(not len(centres) for centres, _ in profiles):
        return float("nan")
    (heard, heard_share), (seen, seen_share) = profiles
    lags = heard[:, None] - seen[None, :]
    possible = np.abs(lags) <= max_lag_s + 1e-9
    if not possible.any():
        return float("nan")
    explained = (heard_share[:, None] + seen_share[None, :])[possible]
    lags = lags[possible]
    order = np.argsort(lags, kind="stable")
    weights = np.cumsum(np.exp(sharpness * (explained - explained.max()))[order])
    return float(lags[order][np.searchsorted(weights, weights[-1] / 2)])


def box_profile(
    curve: Curve, *, smooth_s: float = 0.05, box_s: tuple[float, float] = BOX_S
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (K,) in seconds of all boxes in the time that a curve covers, and the largest share of its variance that
    one there explains, in [0, 1]; nothing for a flat curve.

    A box explains what lies between the mean inside and the mean outside, 0 where it is lower inside.
    """
    values = np.clip(np.asarray(curve.values, dtype=float), 0, None)
    if len(curve) < 3 or not np.isfinite(values).all() or is_flat(values):
        return np.zeros(0), np.zeros(0)
    (begin, _), (_, end) = step_intervals(curve.times)[[0, -1]]
    grid = np.arange(begin + CELL_S / 2, end, CELL_S)
    values = np.interp(grid, curve.times, smooth_steps(values, curve.times, smooth_s))
    values = values - values.mean()
    num, power = len(grid), float(values @ values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    shares = np.full(2 * num, -1.0)  # of centres on a grid of half cells
    for length in range(max(1, round(box_s[0] / CELL_S)), min(round(box_s[1] / CELL_S), num - 1) + 1):
        inside = (sums[length:] - sums[:-length]).clip(min=0)
        share = inside**2 / (length * (1 - length / num)) / power
        place = slice(length - 1, 2 * num - length, 2)
        shares[place] = np.maximum(shares[place], share)
    tried = shares >= 0
    return begin + (np.flatnonzero(tried) + 1) * CELL_S / 2, shares[tried]
