"""Turn a curve into regions: the intervals in which it stands out.

A step is an interval of time, not a point: it reaches halfway to its neighbours. Regions begin and end at the edges of
steps, so a region of one step has that step's duration.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avser.errors import ConfigError
from avser.structures import Curve, Region

FLAT_SHARE = 0.01  # a curve that varies by less than this share of its mean has no shape to read (our choice)


def find_regions(
    curve: Curve,
    modality: str,
    *,
    rule: str = "kappa",
    kappa: float = 1.5,
    mass: float = 0.5,
    coverage: float = 0.2,
    smooth_s: float = 0.05,
    merge_gap_s: float = 0.1,
    min_duration_s: float = 0.08,
) -> list[Region]:
    """The intervals in which a curve stands out.

    The curve is smoothed with a Gaussian, steps are chosen by the rule, regions closer than `merge_gap_s` are merged
    and islands shorter than `min_duration_s` dropped. If every region is that short, the one with the most mass stays:
    a coarse or sharp attention still points somewhere. Values below zero (signed contributions) count as zero. A flat,
    empty or non-finite curve has no regions, and under "kappa" nor has one that nowhere exceeds its threshold.

    Args:
        curve: salience along time, one value a step.
        modality: "audio" or "video", written into the regions.
        rule: "kappa": steps above `kappa` times the mean; "mass": the fewest steps that hold the share `mass` of the
            curve; "coverage": the highest steps that fill the share `coverage` of the time (the only rule that compares
            across modalities, since it does not depend on how many steps there are).
        smooth_s: standard deviation of the Gaussian in seconds; 0 for none.

    Returns:
        Regions in order of time. `mass` is the share of the unsmoothed curve inside, `peak_s` the centre of its highest
        step there.

    Raises:
        ConfigError: an unknown rule.
    """
    if rule not in RULES:
        raise ConfigError(f"roi.rule={rule!r}: allowed are {', '.join(sorted(RULES))}")
    values = np.clip(np.asarray(curve.values, dtype=float), 0, None)
    if not len(curve) or not np.isfinite(values).all() or is_flat(values):
        return []
    steps = step_intervals(curve.times)
    smooth = smooth_steps(values, curve.times, smooth_s)
    chosen = RULES[rule](smooth, steps[:, 1] - steps[:, 0], {"kappa": kappa, "mass": mass, "coverage": coverage}[rule])
    found = [_region(s, e, values, curve.times, modality) for s, e in _merge(steps[chosen], merge_gap_s)]
    long_enough = [r for r in found if r.duration_s >= min_duration_s - 1e-9]
    return long_enough or sorted(found, key=lambda r: -r.mass)[:1]


def describe_degenerate(curve: Curve) -> str | None:
    """Why a curve says nothing about when, as a sentence for the person; None where it does."""
    values = np.asarray(curve.values, dtype=float)
    if not len(values):
        return "there are no steps"
    if not np.isfinite(values).all():
        return "the values are not finite"
    if len(values) < 3:
        return "there is only 1 step" if len(values) == 1 else f"there are only {len(values)} steps"
    if is_flat(values):
        return "all steps have the same value"
    if np.abs(values).max() > 0.99 * np.abs(values).sum():
        return f"all mass lies on the single step at {curve.times[int(np.abs(values).argmax())]:.2f} s"
    return None


def is_flat(values: np.ndarray) -> bool:
    """Whether (T,) values vary by less than `FLAT_SHARE` of their mean size."""
    return bool(np.ptp(values) <= FLAT_SHARE * np.abs(values).mean())


def step_intervals(times: np.ndarray) -> np.ndarray:
    """Start and end of each step in seconds, (T, 2), from the steps' centres (T,).

    A step reaches halfway to its neighbours, but never further than one median step, so that frames without a face
    leave a hole instead of stretching the frames around it. The outer steps reach as far outwards as inwards, so the
    first may begin before 0. A lone step reaches from 0 to twice its centre.
    """
    times = np.asarray(times, dtype=float)
    if len(times) < 2:
        return np.stack([np.zeros_like(times), 2 * times], axis=-1)
    gaps = np.diff(times)
    reach = np.minimum(gaps / 2, np.median(gaps))
    before, after = np.r_[reach[0], reach], np.r_[reach, reach[-1]]
    return np.stack([times - before, times + after], axis=-1)


def smooth_curve(curve: Curve, sd_s: float) -> Curve:
    """The curve smoothed in time by a Gaussian of `sd_s` seconds.

    A flat one stays as it is: smoothing would leave rounding errors in it, that rank its steps.
    """
    if len(curve) < 2 or is_flat(curve.values):
        return curve
    return Curve(curve.times, smooth_steps(curve.values, curve.times, sd_s))


def smooth_steps(values: np.ndarray, times: np.ndarray, sd_s: float) -> np.ndarray:
    """Gaussian smoothing of (T, ...) values at uneven `times` (T,); a constant stays constant up to the edges."""
    values, times = np.asarray(values, dtype=float), np.asarray(times, dtype=float)
    if sd_s <= 0 or len(times) < 2:
        return values
    num_neighbours = min(len(times) - 1, int(np.ceil(4 * sd_s / np.median(np.diff(times)))))
    total, weight_sum = np.zeros_like(values), np.zeros(len(times))
    for offset in range(-num_neighbours, num_neighbours + 1):
        here = np.arange(max(0, -offset), len(times) - max(0, offset))
        weight = np.exp(-0.5 * ((times[here + offset] - times[here]) / sd_s) ** 2)
        total[here] += weight.reshape(-1, *[1] * (values.ndim - 1)) * values[here + offset]
        weight_sum[here] += weight
    return total / weight_sum.reshape(-1, *[1] * (values.ndim - 1))


# --- rules: (values (T,), durations (T,), setting) -> chosen (T,) bool --------------------------------------------


def _above_mean(values: np.ndarray, _durations: np.ndarray, kappa: float) -> np.ndarray:
    return values > kappa * values.mean()


def _most_mass(values: np.ndarray, _durations: np.ndarray, mass: float) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    held_before = np.r_[0, np.cumsum(values[order])[:-1]]
    return _mark(order[held_before < mass * values.sum() * (1 - 1e-9)], len(values))


def _most_time(values: np.ndarray, durations: np.ndarray, coverage: float) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    middle = np.cumsum(durations[order]) - durations[order] / 2  # a step belongs if more than half of it fits
    return _mark(order[middle < coverage * durations.sum()], len(values))


def _mark(indices: np.ndarray, length: int) -> np.ndarray:
    chosen = np.zeros(length, dtype=bool)
    chosen[indices] = True
    return chosen


RULES: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "kappa": _above_mean,
    "mass": _most_mass,
    "coverage": _most_time,
}


# --- from steps to regions ----------------------------------------------------------------------------------------


def _merge(steps: np.ndarray, gap_s: float) -> list[tuple[float, float]]:
    """Join (T, 2) intervals, in order of time, that touch or are closer than `gap_s`."""
    merged: list[tuple[float, float]] = []
    for start, end in steps:
        if merged and (start - merged[-1][1] <= 1e-9 or start - merged[-1][1] < gap_s):
            merged[-1] = (merged[-1][0], float(end))
        elif end > start:
            merged.append((float(start), float(end)))
    return merged


def _region(start_s: float, end_s: float, values: np.ndarray, times: np.ndarray, modality: str) -> Region:
    inside = np.flatnonzero((times >= start_s) & (times <= end_s))
    peak = inside[values[inside].argmax()]
    return Region(modality, max(start_s, 0.0), end_s, float(values[inside].sum() / values.sum()), float(times[peak]))
