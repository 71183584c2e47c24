"""How the emotions rise and fall within a clip, where voice and face disagree, and what mixture the clip amounts to.

After Desai, Cao & Shah, arXiv 2203.03428: the evidence of each step, weighted by the attention it got. The formulas are
our choice, as the paper's were not available.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avser.errors import AvserError
from avser.evaluation.soft_labels import jensen_shannon
from avser.roi.alignment.compare import common_grid, resample
from avser.roi.intervals import smooth_steps, step_intervals
from avser.roi.salience.curves import attention_curve, evidence_curve
from avser.structures import Attended, Curve

SMOOTH_S = 0.1


@dataclass
class DynamicsSummary:
    """The course of a clip in numbers.

    Attributes:
        num_switches: how often the leading emotion changes from one step to the next.
        dwell_s: (C,) seconds for which each emotion leads.
        onset_s: from when on the evidence gathered so far points to the final emotion and stays there: how much of the
            clip the decision needs. The network saw the whole clip; only the gathering is cut off.
    """

    num_switches: int
    dwell_s: np.ndarray
    onset_s: float


@dataclass
class CourseBand:
    """The course of one clip as several models see it, e.g. seeds of one system.

    Attributes:
        times: (N,) centres of the cells that all models cover, in seconds.
        mean, sd: (N, C) over the models; the sd is that of a sample (divided by one less), NaN for a single model.
        num_models: how many.
    """

    times: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    num_models: int


@dataclass
class DisagreementEpisode:
    """A stretch of time in which voice and face point to different emotions.

    Attributes:
        start_s, end_s: seconds.
        voice_emotion, face_emotion: indices of the two emotions that lead; where they change on the way, the pair that
            leads longest.
        voice_share, face_share: mean probability over the stretch that the voice gives to `voice_emotion`, the face to
            `face_emotion`: how strongly each says it.
        divergence: mean Jensen-Shannon divergence over the stretch, base 2, in [0, 1].
    """

    start_s: float
    end_s: float
    voice_emotion: int
    face_emotion: int
    voice_share: float
    face_share: float
    divergence: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass
class Disagreement:
    """Where in a clip voice and face disagree, and how much.

    Attributes:
        divergence: Jensen-Shannon divergence of their evidence at each moment at which both have any, base 2: 0 where
            they say the same, 1 where no emotion is possible for both.
        episodes: in order of time.
        share: of the time at which both have evidence, how much lies in episodes.
        compared_s: that time.
    """

    divergence: Curve
    episodes: list[DisagreementEpisode]
    share: float
    compared_s: float


def emotion_dynamics(attended: Attended, index: int, smooth_s: float = SMOOTH_S) -> tuple[np.ndarray, np.ndarray]:
    """How much of the clip's evidence falls on each step and emotion: D_k(t) = a_t * p_t(k), smoothed.

    Args:
        smooth_s: standard deviation of the Gaussian in seconds.

    Returns:
        times (T,) in seconds and D (T, C), which sums to 1 over all steps and emotions.

    Raises:
        AvserError: the model gives no logits for single steps.
    """
    times, evidence = evidence_curve(attended, index)
    weights = attention_curve(attended, index).values
    dynamics = smooth_steps(weights[:, None] * evidence, times, smooth_s)
    total = dynamics.sum()
    return times, dynamics / total if total > 0 else dynamics


def mixture(attended: Attended, index: int) -> np.ndarray:
    """The clip as a mixture of emotions, m_k = sum over t of a_t * p_t(k): (C,), sums to 1 (0 without any step).

    Raises:
        AvserError: the model gives no logits for single steps.
    """
    return attention_curve(attended, index).values @ evidence_curve(attended, index)[1]


def summarise_dynamics(times: np.ndarray, dynamics: np.ndarray) -> DynamicsSummary:
    """Switches, dwell time and onset of the final emotion, from times (T,) and dynamics (T, C).

    Raises:
        AvserError: there are no steps.
    """
    if not len(times):
        raise AvserError("there are no steps to summarise; this clip lacks the modality")
    steps = step_intervals(times)
    leader = dynamics.argmax(axis=1)
    dwell = np.bincount(leader, weights=steps[:, 1] - steps[:, 0], minlength=dynamics.shape[1])
    decision = np.cumsum(dynamics, axis=0).argmax(axis=1)  # (T,) what the clip so far amounts to
    undecided = np.flatnonzero(decision != decision[-1])
    settled = int(undecided[-1]) + 1 if len(undecided) else 0
    return DynamicsSummary(int((np.diff(leader) != 0).sum()), dwell, float(times[settled]))


def fuse_evidence(
    evidence: Mapping[str, tuple[np.ndarray, np.ndarray]], salience: Mapping[str, Curve], rate_hz: float = 50
) -> tuple[np.ndarray, np.ndarray]:
    """What all modalities together say at each moment: their evidence weighted by the attention it got there.

    p(t, k) = sum_m a_m(t) p_m(t, k) / sum_m a_m(t), with attention as a density over seconds, on a common grid.

    Args:
        evidence: modality -> times (T,) and step probabilities (T, C), as from `evidence_curve`.
        salience: modality -> attention over the same steps.

    Returns:
        times (N,) of the cells in which any modality has attention, and probabilities (N, C).

    Raises:
        AvserError: no modality has steps.
    """
    present = [m for m in evidence if len(evidence[m][0]) and len(salience[m])]
    if not present:
        raise AvserError("there is no evidence to fuse; no modality has steps in this clip")
    end_s = max(step_intervals(evidence[m][0])[-1, 1] for m in present)
    grid = (np.arange(max(2, int(np.ceil(end_s * rate_hz - 1e-6)))) + 0.5) / rate_hz
    total = np.sum([_weighted_evidence(*evidence[m], salience[m].values, grid) for m in present], axis=0)
    covered = total.sum(axis=1) > 1e-12
    total = smooth_steps(total[covered], grid[covered], 1 / rate_hz)  # evens out where steps meet cells
    return grid[covered], total / total.sum(axis=1, keepdims=True)


def band_courses(
    courses: Sequence[tuple[np.ndarray, np.ndarray]], *, are_shares: bool = False, rate_hz: float = 50
) -> CourseBand:
    """Mean and spread of one clip's course over several models, on the time that all of them cover.

    Args:
        courses: for each model times (T,) and values (T, C), from `evidence_curve`, `fuse_evidence` or
            `emotion_dynamics`; the models may step differently.
        are_shares: the values are shares of the clip, as those of `emotion_dynamics`: they are turned into shares a
            second, so that models of finer steps do not look smaller. Otherwise they are levels, such as probabilities.

    Raises:
        AvserError: no model, or models whose courses have less than three cells in common.
    """
    if not courses:
        raise AvserError("there is no course to take a band of; give those of one clip from one model or more")
    spans = [step_intervals(times) for times, _ in courses]
    if not all(len(span) for span in spans):
        raise AvserError("a model has no steps in this clip, so there is no band; leave that model or this clip out")
    start, end = max(span[0, 0] for span in spans), min(span[-1, 1] for span in spans)
    num_cells = int(np.floor((end - start) * rate_hz + 1e-6))
    if num_cells < 3:
        raise AvserError(f"the models' courses have {max(0.0, end - start):.2f} s in common, less than three cells")
    grid = start + (np.arange(num_cells) + 0.5) / rate_hz
    levels, covered = [], np.ones(num_cells, dtype=bool)
    for times, values in courses:
        found, here = _levels(times, values / _durations(times)[:, None] if are_shares else values, grid)
        levels.append(found)
        covered &= here
    stack = np.stack(levels)[:, covered]  # (models, N, C)
    sd = stack.std(axis=0, ddof=1) if len(stack) > 1 else np.full(stack.shape[1:], np.nan)
    return CourseBand(grid[covered], stack.mean(axis=0), sd, len(stack))


def find_disagreement(
    voice: tuple[np.ndarray, np.ndarray],
    face: tuple[np.ndarray, np.ndarray],
    *,
    margin: float = 0.1,
    min_duration_s: float = 0.1,
    smooth_s: float = SMOOTH_S,
    rate_hz: float = 100,
) -> Disagreement:
    """The moments at which voice and face point to different emotions (definition and defaults: our choice).

    Both are brought onto one grid over the time that both cover, and smoothed. With each one's leading emotion, they
    are apart by the smaller of two distances: by how much the voice prefers its emotion over that of the face, and by
    how much the face prefers its own over that of the voice. So 0 where they agree, and little where one of them nearly
    agrees with the other; a tie between two emotions that are both not the other's is no near agreement. An episode is
    a maximal stretch in which they are apart by at least half of `margin`, and somewhere by the whole of it; the two
    thresholds keep noise around one of them from cutting it up. A moment without evidence of either ends it.

    The evidence of two models is compared as it is: an overconfident model makes for more divergence.

    Args:
        voice, face: times (T,) and step probabilities (T, C) of one clip, as from `evidence_curve`.
        margin: in probability.
        min_duration_s: shorter stretches are left out.
        smooth_s: standard deviation of the Gaussian in seconds; 0 for none.

    Raises:
        AvserError: they have no time in common, as where a clip lacks one of the two, or not the same emotions.
    """
    if voice[1].shape[1:] != face[1].shape[1:]:
        raise AvserError(
            f"voice and face tell {voice[1].shape[1:]} and {face[1].shape[1:]} emotions; take one label set"
        )
    grid = common_grid(Curve(voice[0], voice[1][:, 0]), Curve(face[0], face[1][:, 0]), rate_hz)
    (said, heard), (shown, seen) = (_levels(times, p, grid) for times, p in (voice, face))
    both = heard & seen
    times = grid[both]
    said, shown = (smooth_steps(p[both], times, smooth_s) for p in (said, shown))
    cells, by_voice, by_face = np.arange(len(times)), said.argmax(axis=1), shown.argmax(axis=1)
    apart = np.minimum(
        said[cells, by_voice] - said[cells, by_face], shown[cells, by_face] - shown[cells, by_voice]
    )  # (N,), 0 where the leaders are the same
    divergence = jensen_shannon(said, shown)
    episodes = []
    for run in _runs((apart > 0) & (apart >= margin / 2), times, 1 / rate_hz):
        if apart[run].max() < margin or len(run) / rate_hz < min_duration_s - 1e-9:
            continue
        (a, v), _ = Counter(zip(by_voice[run].tolist(), by_face[run].tolist(), strict=True)).most_common(1)[0]
        episodes.append(
            DisagreementEpisode(
                float(times[run[0]] - 0.5 / rate_hz),
                float(times[run[-1]] + 0.5 / rate_hz),
                a,
                v,
                float(said[run, a].mean()),
                float(shown[run, v].mean()),
                float(divergence[run].mean()),
            )
        )
    compared_s = len(times) / rate_hz
    inside_s = sum(episode.duration_s for episode in episodes)
    return Disagreement(Curve(times, divergence), episodes, inside_s / compared_s if compared_s else 0.0, compared_s)


def _runs(chosen: np.ndarray, times: np.ndarray, cell_s: float) -> list[np.ndarray]:
    """Indices of each maximal run of chosen cells (N,); a hole in the times ends a run."""
    where = np.flatnonzero(chosen)
    breaks = np.flatnonzero((np.diff(where) > 1) | (np.diff(times[where]) > 1.5 * cell_s)) + 1
    return [run for run in np.split(where, breaks) if len(run)]


def _durations(times: np.ndarray) -> np.ndarray:
    steps = step_intervals(times)
    return steps[:, 1] - steps[:, 0]


def _levels(times: np.ndarray, values: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over each cell of what the steps (T, C) in it say: (N, C), and (N,) bool, the cells at least half full."""
    durations = _durations(times)
    covered = resample(Curve(times, durations), grid)  # seconds of each cell
    total = np.stack([resample(Curve(times, durations * column), grid) for column in values.T], axis=1)
    return total / np.maximum(covered, 1e-12)[:, None], covered >= (grid[1] - grid[0]) / 2


def _weighted_evidence(times: np.ndarray, evidence: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(N, C) attention times evidence of one modality in each cell of the grid."""
    return np.stack([resample(Curve(times, weights * column), grid) for column in evidence.T], axis=1)
