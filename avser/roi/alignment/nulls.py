"""Null models of alignment: how alike would voice and face be if they had nothing to do with each other?

Four of them, each keeping something else. Every measure is taken of every pair that a null model can produce, so that a
permutation is an indexed mean of those. Shuffling single frames is not among them: salience is smooth, and once its
autocorrelation is destroyed every pair looks aligned. Clips of one speaker are not independent, so what is drawn (a
partner, a shift, phases, places) is drawn for a speaker and used for all of his or her clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from avser.errors import AvserError, ConfigError
from avser.evaluation.multiple_tests import sign_flip
from avser.evaluation.statistics import Interval, clustered_interval
from avser.roi.alignment.compare import CurvePair
from avser.roi.alignment.curve_stack import (
    GREATER,
    TAILS,
    CurveStack,
    measure_as_is,
    measure_pairs,
    prepare,
    stack_pairs,
)
from avser.roi.alignment.null_pools import MIN_SHIFT_S, POOLS, Pools, pool_placements, pool_shifts, pool_surrogates
from avser.roi.alignment.repairing import draw_partners, find_partners

ROUNDING = 1e-12


@dataclass
class MeasureResult:
    """One measure under one null model.

    Attributes:
        tail: "greater" or "less": on which side the aligned pairs lie.
        observed, chance: mean over clips, and what the null model gives on average.
        difference: observed minus chance, with an interval clustered by speaker.
        p_value: (1 + number of permutations at least as aligned) / (number + 1), one-sided, and never below what the
            number of different permutations allows.
        p_speakers: one-sided sign-flip test over the speakers' means of observed minus chance.
    """

    tail: str
    observed: float
    chance: float
    difference: Interval
    p_value: float
    p_speakers: float


@dataclass
class NullTest:
    """All measures under one null model.

    Attributes:
        null: key of `NULLS`.
        results: measure -> what was found.
        clips: (K,) rows of the stack that the test is over.
        observed, chance: measure -> (K,) of each clip.
        notes: what to know when reading it.
        means: measure -> (P,), the mean over clips in each permutation.
    """

    null: str
    results: dict[str, MeasureResult]
    clips: np.ndarray
    observed: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    num_permutations: int
    num_speakers: int
    notes: list[str]
    means: dict[str, np.ndarray] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those of single clips and permutations."""
        return {
            "null": self.null,
            "words": NULLS[self.null].words,
            "num_clips": len(self.clips),
            "num_speakers": self.num_speakers,
            "num_permutations": self.num_permutations,
            "notes": self.notes,
            "results": {measure: asdict(result) for measure, result in self.results.items()},
        }


@dataclass
class NullDraws:
    """What a null model gives, before it is judged.

    Attributes:
        clips: (K,) rows of the stack that it could be applied to.
        observed, chance: measure -> (K,), of each clip.
        means: measure -> (P,), mean over clips in each permutation.
        num_distinct: how many different permutations there are.
    """

    clips: np.ndarray
    observed: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    num_distinct: float = np.inf
    notes: list[str] = field(default_factory=list)


def compare_with_null(
    stack: CurveStack,
    null: str = "re-pairing",
    *,
    measures: Sequence[str] | None = None,
    num_permutations: int = 9999,
    num_resamples: int = 2000,
    seed: int = 0,
) -> NullTest:
    """Whether voice and face of the clips are more alike than a null model makes them.

    Args:
        null: a key of `NULLS`; what each keeps, and where it errs, stands with its function.
        measures: some of `TAILS`; None for all that the null model is made for.
        num_resamples: of the interval.

    Raises:
        ConfigError: an unknown null model, or one that does not know a measure.
        AvserError: it cannot be applied to these clips.
    """
    chosen = choose_measures(stack, null, measures)
    shaped = np.flatnonzero(stack.has_shape(chosen))
    if not len(shaped):
        raise AvserError(f"none of {len(stack)} clips has two curves with a shape; flat salience cannot be aligned")
    draws = NULLS[null].draw(stack.keep(shaped), chosen, num_permutations, np.random.default_rng(seed))
    notes = list(draws.notes)
    if len(shaped) < len(stack):
        notes.insert(0, f"{len(stack) - len(shaped)} of {len(stack)} clips are left out: a curve of theirs is flat")
    clips = shaped[draws.clips]
    speakers = [stack.speakers[i] for i in clips]
    results = {m: _judge(draws, m, speakers, num_resamples, seed) for m in chosen}
    num_speakers = len(set(speakers))
    return NullTest(
        null, results, clips, draws.observed, draws.chance, num_permutations, num_speakers, notes, draws.means
    )


def clip_chance(pair: CurvePair, *, num_draws: int = 999, seed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    """One clip against its own null models: `iou` against placed regions, `r_max` against surrogates, the other
    measures against every circular shift.

    None of these knows that emotions tend to peak mid-clip (see `pool_shifts`); re-pairing does, but takes many clips.

    Returns:
        measure -> mean under the null model, and measure -> one-sided p-value; empty if a curve is flat, and without
        the shifted measures if the clip is too short to be shifted.
    """
    chance: dict[str, float] = {}
    p_values: dict[str, float] = {}
    stack = stack_pairs([pair], ["the speaker"], [""], num_cells=len(pair.times))
    names = [m for m in choose_measures(stack, "circular shift") if m not in ("r_max", "iou")]
    rng = np.random.default_rng(seed)
    for null, chosen in (("circular shift", names), ("placement", ["iou"]), ("surrogates", ["r_max"])):
        chosen = [m for m in chosen if stack.has_shape([m]).all()]
        observed = measure_as_is(stack, chosen)
        pools = POOLS[null](stack, chosen, rng, num_draws)
        for measure, values in pools.values.items() if len(pools.clips) else ():
            draws = values[0, : pools.counts[0]]
            chance[measure] = float(draws.mean())
            p_values[measure] = p_value(float(observed[measure][0]), draws, TAILS[measure])
    return chance, p_values


def choose_measures(stack: CurveStack, null: str, measures: Sequence[str] | None = None) -> list[str]:
    """The measures that a null model is made for and the stack has what they take.

    Raises:
        ConfigError: an unknown null model, or a measure that is not among them.
    """
    if null not in NULLS:
        raise ConfigError(f"null model {null!r}: take one of {', '.join(NULLS)}")
    known = [m for m in NULLS[null].measures if m != "partial_r0" or stack.audio_left is not None]
    if unknown := set(measures or ()) - set(known):
        raise ConfigError(f"measure {', '.join(sorted(unknown))} under {null!r}: take some of {', '.join(known)}")
    return [m for m in known if measures is None or m in measures]


def p_value(observed: float, draws: np.ndarray, tail: str, num_distinct: float = np.inf) -> float:
    """One-sided p-value with what was observed counted in, never below 1 / (1 + num_distinct): draws that repeat the
    same few permutations know no more than these."""
    sign = 1 if tail == GREATER else -1
    num_as_aligned = (sign * draws >= sign * observed - ROUNDING * (1 + abs(observed))).sum()
    return float(max((1 + num_as_aligned) / (len(draws) + 1), 1 / (1 + num_distinct)))


def draw_repairings(
    stack: CurveStack, measures: Sequence[str], num_permutations: int, generator: np.random.Generator
) -> NullDraws:
    """Voice of one clip with the face of another: same emotion and sentence, other speaker (see `repairing`).

    Keeps what the clips of an emotion and a sentence share, so curves that all peak mid-clip do not count as aligned.
    Partners are time-normalised: the face is stretched to the duration of the voice, and lags are seconds of that.

    The chance of a clip is additive: what its voice gives with others' faces, plus what its face gives with others'
    voices, minus what strangers give on average. With speakers numbered S there are (S - 1)! permutations of them at
    most, so 4 speakers cannot show anything at the 5 % level and 5 can just about.
    """
    partners = find_partners(stack, generator)
    audio, video = prepare(stack.audio, stack.audio_left), prepare(stack.video, stack.video_left)
    orders = generator.permuted(np.tile(np.arange(partners.num_speakers), (num_permutations, 1)), axis=1)
    clips = np.concatenate([group.clips for group in partners.groups])
    observed, chance = ({m: np.empty(len(stack)) for m in measures} for _ in range(2))
    sums = {m: np.zeros(num_permutations) for m in measures}
    for group in partners.groups:
        size, others = len(group.clips), group.others
        wanted = np.argwhere(others | np.eye(size, dtype=bool))  # clips of one speaker never meet but in themselves
        rows_a, rows_v = group.clips[wanted.T]
        found = measure_pairs(audio, video, rows_a, rows_v, stack.durations_s[rows_a], measures)
        drawn = draw_partners(group, orders, generator)
        for measure, values in found.items():
            matrix = np.zeros((size, size))
            matrix[wanted[:, 0], wanted[:, 1]] = values
            sums[measure] += matrix[np.arange(size), drawn].sum(axis=1)
            observed[measure][group.clips] = matrix.diagonal()
            strangers = np.where(others, matrix, 0)
            by_voice, by_face = (strangers.sum(axis=k) / others.sum(axis=k) for k in (1, 0))
            chance[measure][group.clips] = by_voice + by_face - strangers.sum() / others.sum()
    clips = np.sort(clips)
    return NullDraws(
        clips,
        {m: values[clips] for m, values in observed.items()},
        {m: values[clips] for m, values in chance.items()},
        {m: values / len(clips) for m, values in sums.items()},
        partners.num_distinct,
        partners.notes,
    )


def _draw_from(pool: Callable[..., Pools]) -> Callable[..., NullDraws]:
    """A null model that picks one of each clip's draws, all clips of a speaker at the same place of their pools."""

    def draw(
        stack: CurveStack, measures: Sequence[str], num_permutations: int, generator: np.random.Generator
    ) -> NullDraws:
        pools = pool(stack, measures, generator)
        if not len(pools.clips):
            raise AvserError(f"no clip is as long as {2 * MIN_SHIFT_S} s, so none can be shifted")
        names = np.asarray([stack.speakers[i] for i in pools.clips])
        _, owner = np.unique(names, return_inverse=True)
        num_speakers, num_clips = owner.max() + 1, len(pools.clips)
        means = {m: np.empty(num_permutations) for m in measures}
        for start in range(0, num_permutations, 256):
            stop = min(start + 256, num_permutations)
            places = generator.random((stop - start, num_speakers))[:, owner]
            index = (places * pools.counts).astype(int)  # (256, K)
            for measure, values in pools.values.items():
                means[measure][start:stop] = values[np.arange(num_clips), index].mean(axis=1)
        kept = stack.keep(pools.clips)
        chance = {m: values.sum(axis=1) / pools.counts for m, values in pools.values.items()}
        notes = []
        if num_clips < len(stack):
            num_left = len(stack) - num_clips
            notes.append(f"{num_left} of {len(stack)} clips are left out: they are too short to be shifted")
        distinct = float(pools.counts.max()) ** min(num_speakers, 100)
        return NullDraws(pools.clips, measure_as_is(kept, measures), chance, means, distinct, notes)

    return draw


def _judge(draws: NullDraws, measure: str, speakers: Sequence[str], num_resamples: int, seed: int) -> MeasureResult:
    observed, chance, tail = draws.observed[measure], draws.chance[measure], TAILS[measure]
    apart = observed - chance
    interval = clustered_interval(apart, speakers, num_resamples=num_resamples, seed=seed)
    p = p_value(float(observed.mean()), draws.means[measure], tail, draws.num_distinct)
    p_speakers = sign_flip(apart, speakers, tail=tail, seed=seed)
    return MeasureResult(tail, float(observed.mean()), float(chance.mean()), interval, p, p_speakers)


@dataclass(frozen=True)
class NullModel:
    """A way to take the bond between voice and face away.

    Attributes:
        words: what it compares the clips with, to follow "than".
        measures: those that it is made for.
        draw: (stack, measures, number of permutations, generator) -> `NullDraws`.
    """

    words: str
    measures: tuple[str, ...]
    draw: Callable[[CurveStack, Sequence[str], int, np.random.Generator], NullDraws]


NULLS = {
    "re-pairing": NullModel("re-paired clips", tuple(TAILS), draw_repairings),
    "circular shift": NullModel("curves shifted round", tuple(TAILS), _draw_from(pool_shifts)),
    "placement": NullModel("regions placed at random", ("iou",), _draw_from(pool_placements)),
    "surrogates": NullModel("curves with random phases", ("r_max",), _draw_from(pool_surrogates)),
}
