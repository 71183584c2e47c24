"""A clip as a mixture of emotions, held against how people voted on it: does attention over time add anything?

People who hear or see one clip name different emotions. The mixture m = sum over t of a_t p_t, from the attention a_t
and what each step says alone, p_t, is one estimate of their shares. Whether it is better than what a classifier gives
without any time is asked with the Jensen-Shannon divergence (base 2, in [0, 1]) to the votes, against
    the softmax of the clip,
    the same with a temperature fitted on other clips (Guo et al. 2017, "On calibration of modern neural networks"),
        which is the rival that counts: an overconfident softmax is easily beaten by anything flatter,
    the shares of the emotions over other clips, the same for every clip, and
    all on the one emotion that the classifier chose.
The set of rivals is our choice, as is a temperature for the steps of the mixture, so that it is calibrated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import rankdata

from avser.errors import AvserError
from avser.evaluation.soft_labels import entropy_bits, jensen_shannon
from avser.evaluation.statistics import Interval, clustered_interval, paired_difference, paired_permutation
from avser.roi.alignment.pair_measures import standardise

MIXTURE, SCALED_MIXTURE = "attention mixture", "attention mixture, temperature-scaled"
SOFTMAX, SCALED_SOFTMAX = "softmax", "softmax, temperature-scaled"
PRIOR, ONE_HOT = "class prior", "one-hot answer"
MIXTURES, RIVALS = (MIXTURE, SCALED_MIXTURE), (SOFTMAX, SCALED_SOFTMAX, PRIOR, ONE_HOT)
LOWEST, HIGHEST = 0.01, 100.0  # temperatures; beyond, a softmax is one-hot or uniform in all but name


@dataclass
class Evidence:
    """What a model says of one clip, as a whole and step by step.

    Attributes:
        logits: (C,) of the clip.
        weights: (T,) attention, sums to 1; None where the model gives no logits for single steps.
        step_logits: (T, C), or None.
    """

    logits: np.ndarray
    weights: np.ndarray | None = None
    step_logits: np.ndarray | None = None

    @property
    def has_steps(self) -> bool:
        return self.weights is not None and self.step_logits is not None and len(self.weights) > 0


@dataclass
class Calibration:
    """What was learned on other clips than those that are judged.

    Attributes:
        softmax, mixture: temperatures; None where there were no clips to fit them on.
        prior: (C,) shares of the emotions; None where unknown.
        source: what they were fitted on, in words.
    """

    softmax: float | None = None
    mixture: float | None = None
    prior: np.ndarray | None = None
    source: str = "nothing"


@dataclass
class Difference:
    """Mean divergence of a mixture minus that of a rival, over the same clips; below 0 the mixture is closer.

    Attributes:
        value: with an interval clustered by speaker.
        p_value: two-sided permutation test over speakers; NaN with fewer than two.
    """

    mixture: str
    rival: str
    value: Interval
    p_value: float


@dataclass
class VoteComparison:
    """Estimates of human votes over some clips.

    Attributes:
        divergence: estimate -> mean Jensen-Shannon divergence to the votes, with an interval clustered by speaker.
        differences: of each mixture from each rival.
        entropy_correlation: estimate -> Spearman correlation between its entropy and that of the votes: is it unsure
            where people disagree? NaN where one does not vary.
        redrawn: mean divergence of the votes from as many votes drawn from their own shares: with ten people a clip,
            chance alone keeps even the truth about so far away. NaN where the number of votes is unknown.
        per_clip: estimate -> (N,) divergences.
        calibration: what the temperatures and the prior are from.
    """

    num_clips: int
    num_speakers: int
    divergence: dict[str, Interval]
    differences: list[Difference]
    entropy_correlation: dict[str, Interval]
    redrawn: float
    calibration: Calibration
    per_clip: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def difference(self, mixture: str, rival: str) -> Difference | None:
        return next((d for d in self.differences if (d.mixture, d.rival) == (mixture, rival)), None)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(..., C) probabilities of logits (..., C) divided by a temperature."""
    scaled = np.asarray(logits, dtype=float) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def mix(evidence: Evidence, temperature: float = 1.0) -> np.ndarray:
    """(C,) the mixture m = sum over t of a_t p_t, with p_t the softmax of the step's logits over the temperature.

    Raises:
        AvserError: the model gives no logits for single steps.
    """
    if evidence.weights is None or evidence.step_logits is None:
        raise AvserError("this model gives no logits for single steps, so a clip of it is no mixture over time")
    return evidence.weights @ softmax(evidence.step_logits, temperature)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature T under which softmax(logits / T) has the smallest negative log-likelihood (Guo et al. 2017).

    In 1 / T the likelihood has a single optimum, which is found to rounding; it lies between 0.01 and 100, where the
    ends stand for answers that are always right, and for logits that say nothing.

    Args:
        logits: (N, C) of clips that the model was not trained on.
        targets: (N,) int, the emotions' indices; or (N, C), shares of votes that sum to 1.

    Raises:
        ValueError: no clips, or shapes that do not fit.
    """
    z = np.asarray(logits, dtype=float)
    q = _shares_of(targets, z)
    z = z - z.max(axis=1, keepdims=True)

    def slope(log_inverse: float) -> float:
        """Of the negative log-likelihood along 1 / T: what the model expects of z minus what the targets do."""
        return float(((softmax(z, np.exp(-log_inverse)) - q) * z).sum(axis=1).mean())

    coldest, hottest = -np.log(LOWEST), -np.log(HIGHEST)
    if slope(hottest) >= 0:
        return HIGHEST
    if slope(coldest) <= 0:
        return LOWEST
    return float(np.exp(-brentq(slope, hottest, coldest, xtol=1e-10)))


def fit_mixture_temperature(evidence: Sequence[Evidence], targets: np.ndarray) -> float:
    """The temperature of the steps under which the mixtures have the smallest negative log-likelihood.

    Unlike that of a softmax it may have several optima: the best of a coarse grid is refined.

    Args:
        evidence: N clips with steps that the model was not trained on.
        targets: as in `fit_temperature`.
    """
    q = _shares_of(targets, np.stack([e.logits for e in evidence]) if evidence else np.zeros((0, 1)))

    def loss(log_temperature: float) -> float:
        m = np.stack([mix(e, float(np.exp(log_temperature))) for e in evidence])
        return float(-(q * np.log(np.maximum(m, 1e-12))).sum(axis=1).mean())

    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), 47)  # the 24th is 1
    best = int(np.argmin([loss(x) for x in grid]))
    around = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    found = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x if found.fun < loss(grid[best]) else grid[best]))


def calibrate(
    evidence: Sequence[Evidence], targets: np.ndarray, *, prior: np.ndarray | None = None, source: str = ""
) -> Calibration:
    """Temperatures for softmax and mixture, from clips that the model was not trained on.

    Args:
        targets: as in `fit_temperature`; give the votes on these clips where there are any, for labels ask for answers
            that are surer than people are.
        prior: (C,); by default the mean of the targets.
    """
    logits = np.stack([e.logits for e in evidence]) if evidence else np.zeros((0, 1))
    has_steps = bool(evidence) and all(e.has_steps for e in evidence)
    return Calibration(
        fit_temperature(logits, targets),
        fit_mixture_temperature(evidence, targets) if has_steps else None,
        _shares_of(targets, logits).mean(axis=0) if prior is None else prior,
        source,
    )


def estimate_votes(evidence: Sequence[Evidence], calibration: Calibration) -> dict[str, np.ndarray]:
    """Estimate -> (N, C) shares; those for which something is missing (steps, calibration) are left out."""
    logits = np.stack([e.logits for e in evidence])
    found: dict[str, np.ndarray] = {}
    if all(e.has_steps for e in evidence):
        found[MIXTURE] = np.stack([mix(e) for e in evidence])
        if calibration.mixture is not None:
            temperature = calibration.mixture
            found[SCALED_MIXTURE] = np.stack([mix(e, temperature) for e in evidence])
    found[SOFTMAX] = softmax(logits)
    if calibration.softmax is not None:
        found[SCALED_SOFTMAX] = softmax(logits, calibration.softmax)
    if calibration.prior is not None:
        found[PRIOR] = np.tile(calibration.prior, (len(logits), 1))
    found[ONE_HOT] = np.eye(logits.shape[1])[logits.argmax(axis=1)]
    return found


def compare_with_votes(
    evidence: Sequence[Evidence],
    votes: np.ndarray,
    speakers: Sequence[str],
    calibration: Calibration,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> VoteComparison:
    """How close mixtures and their rivals come to human votes.

    Args:
        evidence: of N clips.
        votes: (N, C) counts, or shares.
        speakers: N names; clips of one speaker are not independent.

    Raises:
        ValueError: no clips, or one without votes.
    """
    votes = np.asarray(votes, dtype=float)
    if not len(evidence) or len(votes) != len(evidence) or not (votes.sum(axis=1) > 0).all():
        raise ValueError(f"{len(evidence)} clips and votes {votes.shape}: at least one, each with at least one vote")
    shares = votes / votes.sum(axis=1, keepdims=True)
    estimates = estimate_votes(evidence, calibration)
    per_clip = {name: jensen_shannon(p, shares) for name, p in estimates.items()}
    unsure = {name: np.stack([entropy_bits(p), entropy_bits(shares)], axis=1) for name, p in estimates.items()}

    def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean) -> Interval:
        if not np.isfinite(statistic(values)):
            return Interval(float("nan"), float("nan"), float("nan"))
        return clustered_interval(values, speakers, statistic, num_resamples=num_resamples, seed=seed)

    differences = [
        _difference(per_clip, mixture, rival, speakers, num_resamples, seed)
        for mixture in MIXTURES
        for rival in RIVALS
        if mixture in per_clip and rival in per_clip
    ]
    return VoteComparison(
        len(shares),
        len(set(speakers)),
        {name: interval(values) for name, values in per_clip.items()},
        differences,
        {name: interval(pairs, rank_correlation) for name, pairs in unsure.items() if name != ONE_HOT},
        redraw_votes(votes, seed=seed),
        calibration,
        per_clip,
    )


def rank_correlation(pairs: np.ndarray) -> float:
    """Spearman's correlation of the two columns of (N, 2); NaN where one of them does not vary."""
    if len(pairs) < 2 or (np.ptp(pairs, axis=0) < 1e-9).any():
        return float("nan")
    first, second = standardise(rankdata(np.round(pairs, 9), axis=0).T)
    return float(np.clip(first @ second, -1, 1))


def redraw_votes(votes: np.ndarray, *, num_draws: int = 200, seed: int = 0) -> float:
    """Mean divergence between counts (N, C) and as many votes drawn from their shares; NaN where they are no counts."""
    totals = votes.sum(axis=1)
    if (votes != np.round(votes)).any() or (totals < 2).all():
        return float("nan")
    rng = np.random.default_rng(seed)
    shares = votes / totals[:, None]
    drawn = rng.multinomial(totals.astype(int), shares, size=(num_draws, len(votes)))  # (draws, N, C)
    return float(jensen_shannon(drawn / totals[:, None], shares).mean())


def _difference(
    per_clip: dict[str, np.ndarray], mixture: str, rival: str, speakers: Sequence[str], num_resamples: int, seed: int
) -> Difference:
    a, b = per_clip[mixture], per_clip[rival]
    value = paired_difference(a, b, speakers, num_resamples=num_resamples, seed=seed)
    # One speaker could only be swapped as a whole, which tests nothing.
    p_value = paired_permutation(a, b, speakers, seed=seed) if len(set(speakers)) > 1 else float("nan")
    return Difference(mixture, rival, value, p_value)


def _shares_of(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(N, C) float targets, whether given as indices or as shares."""
    targets = np.asarray(targets)
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
        targets = np.eye(logits.shape[1])[targets]
    if not len(targets) or targets.shape != logits.shape:
        raise ValueError(f"targets {targets.shape} for logits {logits.shape}: one clip a row, and at least one clip")
    return targets.astype(float)
