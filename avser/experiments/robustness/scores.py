"""What answers to spoiled clips are worth: levels against clean clips, whole curves, and one model against another.

UAR and area are in percent. The area under a curve is its mean height over the range of levels that was tried
(trapezoids; with the clean clips as a point of it where they have a place on the axis). Relative robustness is the
share of what the model knows of clean clips, beyond guessing, that is left: (UAR - chance) / (clean UAR - chance).

Effective robustness follows Taori et al. 2020 (arXiv 2007.00644): what a model scores on shifted data beyond what its
score on clean data lets expect from the behaviour of baseline models, rho(f) = acc_shifted(f) - beta(acc_clean(f)).
They fit beta to many baselines; here there is one, and beta is the straight line through guessing and through it (our
choice): the model is expected to keep the baseline's share above chance. Acc is the UAR, on shifted data the area.
Their relative robustness, acc_shifted of one model minus that of another, is another measure than ours of that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from avser.evaluation.multiple_tests import holm
from avser.evaluation.pooled import Pool, mean_uar
from avser.evaluation.resampled import resampled_interval, resampled_uars
from avser.evaluation.statistics import Interval, paired_permutation


@dataclass
class LevelScores:
    """The answers at one level, against those to clean clips; intervals 95 %, clustered by speaker.

    Attributes:
        uar: in percent.
        difference: UAR minus that of clean clips, in points; None for the clean clips.
        p_value: two-sided, of the difference, from swapping whole speakers.
        adjusted_p: by Holm's method, over the levels of the curve or over all switches.
        relative: relative robustness in percent; NaN where the model only guesses on clean clips.
    """

    level: float | None
    uar: Interval
    difference: Interval | None = None
    p_value: float | None = None
    adjusted_p: float | None = None
    relative: Interval | None = None


@dataclass
class CurveScores:
    """One corruption at all its levels.

    Attributes:
        area: mean UAR over the range of levels, in percent.
        relative: relative robustness of the area, in percent.
        counts: (G, K, S, C, C) confusion matrices of G speakers: clean clips first, then K - 1 levels.
        weights: (K,) what each of these counts for in the area; they sum to 1.
    """

    name: str
    levels: list[LevelScores]
    area: Interval
    relative: Interval
    counts: np.ndarray = field(repr=False)
    weights: np.ndarray
    speakers: list[str]

    @property
    def places(self) -> list[float]:
        """Its levels as numbers, increasing."""
        return [float(level.level) for level in self.levels if level.level is not None]


@dataclass
class EffectiveRobustness:
    """Effective robustness of a model under one corruption, in points, against a baseline."""

    name: str
    baseline: str
    value: Interval


def score_clean(clean: Pool) -> LevelScores:
    """Answers to clips as they are."""
    speakers, counts = clean.count()
    return LevelScores(None, resampled_interval(100 * resampled_uars(counts[:, None])[:, 0], len(speakers)))


def score_switches(clean: Pool, found: Mapping[str, Pool]) -> dict[str, LevelScores]:
    """Each against the clean clips; p-values are adjusted over all of them."""
    if not found:
        return {}
    counts, speakers = _stack(clean, list(found.values()))
    return dict(zip(found, _score_levels([None] * len(found), counts, speakers), strict=True))


def score_curve(name: str, clean: Pool, found: Mapping[float, Pool], *, clean_level: float | None) -> CurveScores:
    """A corruption's levels, and the area under them.

    Args:
        found: level -> answers to the same clips as `clean`.
        clean_level: the place of the clean clips on the axis, if they have one.
    """
    levels = sorted(found)
    counts, speakers = _stack(clean, [found[level] for level in levels])
    weights = area_weights(levels, clean_level)
    uars, chance = resampled_uars(counts), _chance(counts)
    area = uars @ weights
    return CurveScores(
        name,
        _score_levels(levels, counts, speakers),
        area=resampled_interval(100 * area, len(speakers)),
        relative=resampled_interval(100 * _share_left(area, uars[:, 0], chance), len(speakers)),
        counts=counts,
        weights=weights,
        speakers=speakers,
    )


def compare_curves(curve: CurveScores, baseline_curve: CurveScores, *, baseline: str) -> EffectiveRobustness:
    """Effective robustness of a curve's model against a baseline with the same speakers and levels.

    Raises:
        ValueError: they have other speakers or levels.
    """
    if curve.speakers != baseline_curve.speakers or curve.places != baseline_curve.places:
        raise ValueError("curves can only be compared over the same speakers and levels")
    chance = _chance(curve.counts)
    own, theirs = (resampled_uars(counts) for counts in (curve.counts, baseline_curve.counts))  # of the same speakers
    kept = _share_left(theirs @ curve.weights, theirs[:, 0], chance)
    effective = own @ curve.weights - (chance + (own[:, 0] - chance) * kept)
    return EffectiveRobustness(curve.name, baseline, resampled_interval(100 * effective, len(curve.speakers)))


def area_weights(levels: Sequence[float], clean_level: float | None) -> np.ndarray:
    """(1 + K,) shares of the clean clips and of each level in the mean height of the curve, by trapezoids.

    With a single point all the weight is on it.

    Args:
        levels: (K,) increasing.
    """
    places = np.array([np.nan if clean_level is None else clean_level, *levels], dtype=float)
    order = np.argsort(places)[: len(places) - int(clean_level is None)]  # NaN comes last
    weights = np.zeros(len(places))
    if len(order) == 1:
        weights[order] = 1
        return weights
    widths = np.diff(places[order])
    weights[order[:-1]] += widths / 2
    weights[order[1:]] += widths / 2
    return weights / weights.sum()


def _stack(clean: Pool, others: Sequence[Pool]) -> tuple[np.ndarray, list[str]]:
    """Counts (G, 1 + K, S, C, C), the clean clips' first, and G speakers."""
    speakers, first = clean.count()
    return np.stack([first, *(pool.count()[1] for pool in others)], axis=1), speakers


def _score_levels(levels: Sequence[float | None], counts: np.ndarray, speakers: Sequence[str]) -> list[LevelScores]:
    """Of K levels, with counts (G, 1 + K, S, C, C); p-values are adjusted over them."""
    uars, chance, num = resampled_uars(counts), _chance(counts), len(speakers)
    clean = uars[:, 0]
    p_values = [paired_permutation(counts[:, k], counts[:, 0], speakers, mean_uar) for k in range(1, counts.shape[1])]
    return [
        LevelScores(
            level,
            resampled_interval(100 * own, num),
            resampled_interval(100 * (own - clean), num),
            p_value,
            float(adjusted_p),
            resampled_interval(100 * _share_left(own, clean, chance), num),
        )
        for level, own, p_value, adjusted_p in zip(levels, uars[:, 1:].T, p_values, holm(p_values), strict=True)
    ]


def _chance(counts: np.ndarray) -> float:
    """What guessing reaches: 1 / number of emotions that occur in counts (G, K, S, C, C)."""
    return 1 / int((counts[:, 0].sum(axis=(0, 1, 3)) > 0).sum())


def _share_left(uars: np.ndarray, clean: np.ndarray, chance: float) -> np.ndarray:
    """(R,) share left of the clean clips' UAR above chance; NaN where there is none to lose."""
    known = clean - chance
    return np.divide(uars - chance, known, out=np.full_like(known, np.nan), where=known > 1e-9)
