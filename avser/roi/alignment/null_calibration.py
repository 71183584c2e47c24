"""How often the tests of alignment call unrelated curves aligned: at the 5 % level it should be 5 times in 100."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import binom, norm

from avser.evaluation.multiple_tests import sign_flip
from avser.roi.alignment.curve_stack import TAILS, CurveStack
from avser.roi.alignment.nulls import NULLS, choose_measures, p_value
from avser.roi.report.tables import Cell, ReportTable

STATIONARY, MID_CLIP = "stationary", "both peak mid-clip"
MARKS = {"anti-conservative": " +", "conservative": " -", "calibrated": ""}
PERMUTATIONS, SPEAKERS = "permutations", "sign flips of speakers"


@dataclass
class FalsePositives:
    """How often one test called unrelated curves aligned.

    Attributes:
        world: how the curves were made; "stationary", or "both peak mid-clip".
        test: "permutations" or "sign flips of speakers".
        num_rejected: trials with p <= level.
    """

    world: str
    null: str
    measure: str
    test: str
    num_rejected: int
    num_trials: int
    level: float

    @property
    def rate(self) -> float:
        return self.num_rejected / self.num_trials

    @property
    def expected(self) -> tuple[float, float]:
        """Where 99 % of rates lie if the true one is `level`."""
        low, high = (float(binom.ppf(share, self.num_trials, self.level)) for share in (0.005, 0.995))
        return low / self.num_trials, high / self.num_trials

    @property
    def verdict(self) -> str:
        """ "calibrated", "conservative" (calls too few) or "anti-conservative" (calls too many)."""
        low, high = self.expected
        if self.rate > high:
            return "anti-conservative"
        return "conservative" if self.rate < low else "calibrated"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rate": self.rate, "expected": self.expected, "verdict": self.verdict}


def calibrate_nulls(
    num_trials: int,
    seed: int = 0,
    *,
    first_trial: int = 0,
    worlds: Sequence[str] = (STATIONARY, MID_CLIP),
    nulls: Sequence[str] = tuple(NULLS),
    num_speakers: int = 24,
    clips_per_speaker: int = 10,
    num_permutations: int = 199,
    num_cells: int = 32,
    speaker_share: float = 0.3,
    level: float = 0.05,
) -> list[FalsePositives]:
    """False positive rates of every null model, measure and test on curves that have nothing to do with each other.

    Args:
        first_trial: its number, for trials that are run in parts (`join_trials`).
        worlds: "stationary" curves, and such that both peak mid-clip for reasons of their own.
        speaker_share: how much of a curve's variance all clips of the speaker share, in voice and in face separately;
            a test that took clips for independent would fail on it.
    """
    found = []
    for world in worlds:
        rejected: dict[tuple[str, str, str], int] = {}
        for trial in range(first_trial, first_trial + num_trials):
            rng = np.random.default_rng([seed, trial, len(world)])
            stack = unrelated_curves(
                rng, num_speakers, clips_per_speaker, num_cells=num_cells, speaker_share=speaker_share, world=world
            )
            for null in nulls:
                for key, p in _p_values(stack, null, num_permutations, rng).items():
                    rejected[key] = rejected.get(key, 0) + int(p <= level)
        for (null, measure, test), count in rejected.items():
            found.append(FalsePositives(world, null, measure, test, count, num_trials, level))
    return found


def join_trials(parts: Iterable[Sequence[FalsePositives]]) -> list[FalsePositives]:
    """The same tests over the trials of all parts together."""
    joined: dict[tuple[str, str, str, str], FalsePositives] = {}
    for own in (one for part in parts for one in part):
        key = (own.world, own.null, own.measure, own.test)
        before = joined.get(key, replace(own, num_rejected=0, num_trials=0))
        total = before.num_rejected + own.num_rejected, before.num_trials + own.num_trials
        joined[key] = replace(own, num_rejected=total[0], num_trials=total[1])
    return list(joined.values())


def calibration_table(found: Sequence[FalsePositives]) -> ReportTable:
    """False positive rates in percent, a row for each null model and measure."""
    worlds, tests = (list(dict.fromkeys(getattr(one, key) for one in found)) for key in ("world", "test"))
    rates = {(one.null, one.measure, one.world, one.test): one for one in found}
    rows: list[list[Cell]] = []
    for null, measure in dict.fromkeys((one.null, one.measure) for one in found):
        own = [rates.get((null, measure, world, test)) for world in worlds for test in tests]
        cells = [f"{100 * one.rate:.1f}{MARKS[one.verdict]}" if one else None for one in own]
        rows.append([f"{null}: {measure}", *cells])
    low, high = found[0].expected
    return ReportTable(
        "False positives at the 5 % level, in percent",
        ["null model: measure", *(f"{world}: {test}" for world in worlds for test in tests)],
        rows,
        f"{found[0].num_trials} trials of unrelated curves. If the true rate is 5 %, 99 % of rates lie from "
        f"{100 * low:.1f} to {100 * high:.1f}; + marks what lies above (the test calls too many), - what lies below.",
    )


def unrelated_curves(
    generator: np.random.Generator,
    num_speakers: int,
    clips_per_speaker: int,
    *,
    num_cells: int = 32,
    speaker_share: float = 0.3,
    world: str = STATIONARY,
    bond: float = 0.0,
) -> CurveStack:
    """Smooth random curves of clips of 1.5 to 3.5 s; voice and face are drawn apart.

    Args:
        bond: share of the variance of the face's curve that it takes from the voice's, for curves that are related.
    """
    num_clips = num_speakers * clips_per_speaker
    owner, number = (
        np.repeat(np.arange(num_speakers), clips_per_speaker),
        np.tile(np.arange(clips_per_speaker), num_speakers),
    )
    voice, face = (_noise(generator, owner, num_cells, speaker_share) for _ in range(2))
    face = np.sqrt(bond) * voice + np.sqrt(1 - bond) * face
    curves = np.stack([voice, face])
    values = norm.cdf(curves) + 0.05  # salience: bounded, never negative
    if world == MID_CLIP:
        values = values * np.exp(-0.5 * (np.linspace(-1, 1, num_cells) / 0.4) ** 2)
    values /= values.sum(axis=-1, keepdims=True)
    return CurveStack(
        audio=values[0],
        video=values[1],
        durations_s=generator.uniform(1.5, 3.5, num_clips),
        speakers=[f"speaker {s}" for s in owner],
        emotions=[f"emotion {k % 5}" for k in number],
        sentences=[f"sentence {k // 5 % 2}" for k in number],
    )


def _noise(generator: np.random.Generator, owner: np.ndarray, num_cells: int, speaker_share: float) -> np.ndarray:
    """(C, N) standard Gaussian noise, smooth over some 5 % of the clip, partly the same for all clips of a speaker."""
    sd, pad = num_cells / 20, num_cells // 4
    drawn = generator.normal(size=(owner.max() + 1 + len(owner), num_cells + 2 * pad))
    smooth = gaussian_filter1d(drawn, sd, axis=-1)[:, pad:-pad] * np.sqrt(2 * sd * np.sqrt(np.pi))
    shared, own = smooth[: owner.max() + 1], smooth[owner.max() + 1 :]
    return np.sqrt(speaker_share) * shared[owner] + np.sqrt(1 - speaker_share) * own


def _p_values(
    stack: CurveStack, null: str, num_permutations: int, generator: np.random.Generator
) -> dict[tuple[str, str, str], float]:
    """(null, measure, test) -> p-value."""
    measures = choose_measures(stack, null)
    draws = NULLS[null].draw(stack, measures, num_permutations, generator)
    speakers = [stack.speakers[i] for i in draws.clips]
    found = {}
    for m in measures:
        observed, tail = draws.observed[m], TAILS[m]
        found[null, m, PERMUTATIONS] = p_value(float(observed.mean()), draws.means[m], tail, draws.num_distinct)
        apart = observed - draws.chance[m]
        found[null, m, SPEAKERS] = sign_flip(
            apart, speakers, tail=tail, num_flips=999, seed=int(generator.integers(2**31))
        )
    return found
