"""Dynamics, mixture and fusion of hand-made evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avser.errors import AvserError
from avser.roi.dynamics import emotion_dynamics, fuse_evidence, mixture, summarise_dynamics
from avser.structures import Attended, Curve


def make_attended(weights: list[float], evidence: list[list[float]], step_s: float = 0.1) -> Attended:
    w, p = torch.tensor([weights]), torch.tensor([evidence])
    times = (torch.arange(len(weights)) + 0.5)[None] * step_s
    mask = torch.ones(1, len(weights), dtype=torch.bool)
    return Attended(torch.zeros(1, len(weights), 2), w, p.log(), times, mask, torch.zeros(1, 2), torch.zeros(1, 2))


ATTENDED = make_attended([0.5, 0.3, 0.2], [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])


def test_unsmoothed_dynamics_are_attention_times_evidence() -> None:
    times, dynamics = emotion_dynamics(ATTENDED, 0, smooth_s=0)
    np.testing.assert_allclose(times, [0.05, 0.15, 0.25], atol=1e-6)
    np.testing.assert_allclose(dynamics, [[0.45, 0.05], [0.06, 0.24], [0.1, 0.1]], atol=1e-6)


def test_smoothed_dynamics_still_sum_to_one_and_vary_less() -> None:
    _, raw = emotion_dynamics(ATTENDED, 0, smooth_s=0)
    _, smooth = emotion_dynamics(ATTENDED, 0)
    assert smooth.sum() == pytest.approx(1)
    assert (np.ptp(smooth, axis=0) < np.ptp(raw, axis=0)).all()


def test_mixture_by_hand() -> None:
    np.testing.assert_allclose(mixture(ATTENDED, 0), [0.61, 0.39], atol=1e-6)


def test_summary_by_hand() -> None:
    # leaders 0, 1, 1, 0, 1; evidence so far: [3 0] [3 1] [3 3] [4 3] [4 7], so the last step decides
    dynamics = np.array([[3, 0], [0, 1], [0, 2], [1, 0], [0, 4.0]])
    summary = summarise_dynamics((np.arange(5) + 0.5) / 10, dynamics)
    assert summary.num_switches == 3
    np.testing.assert_allclose(summary.dwell_s, [0.2, 0.3])
    assert summary.onset_s == pytest.approx(0.45)


def test_a_decision_that_never_wavers_begins_at_the_first_step() -> None:
    summary = summarise_dynamics(np.array([0.05, 0.15, 0.25]), np.array([[1, 0], [1, 0], [1, 0.0]]))
    assert (summary.num_switches, summary.onset_s) == (0, pytest.approx(0.05))
    with pytest.raises(AvserError, match="no steps"):
        summarise_dynamics(np.zeros(0), np.zeros((0, 2)))


def test_fused_evidence_weighs_by_attention() -> None:
    """In the middle of a second of voice and face, attention as densities 3 : 1 decides the mix."""
    num_a, num_v = 40, 20
    times = {"audio": (np.arange(num_a) + 0.5) / num_a, "video": (np.arange(num_v) + 0.5) / num_v}
    evidence = {
        "audio": (times["audio"], np.tile([1.0, 0.0], (num_a, 1))),
        "video": (times["video"], np.tile([0.0, 1.0], (num_v, 1))),
    }
    salience = {
        "audio": Curve(times["audio"], np.full(num_a, 3 / num_a)),
        "video": Curve(times["video"], np.full(num_v, 1 / num_v)),
    }
    grid, fused = fuse_evidence(evidence, salience)
    assert grid[0] == pytest.approx(0.01)
    np.testing.assert_allclose(fused, np.tile([0.75, 0.25], (len(grid), 1)), atol=1e-9)


def test_one_modality_alone_is_its_own_fusion() -> None:
    times = (np.arange(10) + 0.5) / 10
    empty = np.zeros(0), np.zeros((0, 2))
    evidence = {"audio": (times, np.tile([0.3, 0.7], (10, 1))), "video": empty}
    grid, fused = fuse_evidence(evidence, {"audio": Curve(times, np.full(10, 0.1)), "video": Curve(*empty)})
    np.testing.assert_allclose(fused, np.tile([0.3, 0.7], (len(grid), 1)))
    with pytest.raises(AvserError, match="no modality has steps"):
        fuse_evidence({"video": empty}, {"video": Curve(*empty)})
