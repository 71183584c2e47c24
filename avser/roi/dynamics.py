"""How the emotions rise and fall within a clip, and what mixture of them the clip amounts to.

After Desai, Cao & Shah, arXiv 2203.03428: the evidence of each step, weighted by the attention it got. The formulas are
our choice, as the paper's were not available.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from avser.errors import AvserError
from avser.roi.alignment import resample
from avser.roi.intervals import smooth_steps, step_intervals
from avser.roi.salience import attention_curve, evidence_curve
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


def _weighted_evidence(times: np.ndarray, evidence: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(N, C) attention times evidence of one modality in each cell of the grid."""
    return np.stack([resample(Curve(times, weights * column), grid) for column in evidence.T], axis=1)
