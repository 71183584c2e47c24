"""Curves read off hand-made attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avser.errors import AvserError
from avser.roi.salience.curves import attention_curve, contribution_curve, evidence_curve, salience_curve
from avser.structures import Attended


def make_attended(**changes: torch.Tensor | None) -> Attended:
    """Two clips of four steps and two emotions; the first clip lacks its third step, the second has none."""
    mask = torch.tensor([[True, True, False, True], [False] * 4])
    weights = torch.tensor([[0.2, 0.3, 0.0, 0.5], [0.0] * 4])
    step_logits = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0], [-1.0, 4.0]], [[0.0, 0.0]] * 4])
    parts = {
        "sequence": torch.zeros(2, 4, 3),
        "weights": weights,
        "step_logits": step_logits,
        "times": torch.tensor([[0.1, 0.3, 0.5, 0.7]] * 2),
        "mask": mask,
        "pooled": torch.zeros(2, 3),
        "logits": (weights[..., None] * step_logits).sum(dim=1),
        "class_weights": None,
    }
    return Attended(**(parts | changes))  # type: ignore[arg-type]


def test_attention_keeps_the_real_steps_and_sums_to_one() -> None:
    curve = attention_curve(make_attended(), 0)
    np.testing.assert_allclose(curve.times, [0.1, 0.3, 0.7], atol=1e-6)
    np.testing.assert_allclose(curve.values, [0.2, 0.3, 0.5], atol=1e-6)


def test_attention_is_renormalised() -> None:
    curve = attention_curve(make_attended(weights=torch.tensor([[1.0, 1.0, 5.0, 2.0], [0.0] * 4])), 0)
    np.testing.assert_allclose(curve.values, [0.25, 0.25, 0.5])


def test_missing_modality_gives_empty_curves() -> None:
    attended = make_attended()
    assert len(attention_curve(attended, 1)) == 0
    times, evidence = evidence_curve(attended, 1)
    assert times.shape == (0,)
    assert evidence.shape == (0, 2)
    assert len(contribution_curve(attended, 1, 0)) == 0


def test_weights_of_one_emotion() -> None:
    class_weights = torch.zeros(2, 4, 2)
    class_weights[0, :, 1] = torch.tensor([0.0, 1.0, 0.0, 3.0])
    attended = make_attended(class_weights=class_weights)
    np.testing.assert_allclose(attention_curve(attended, 0, emotion=1).values, [0, 0.25, 0.75])
    np.testing.assert_allclose(attention_curve(attended, 0).values, [0.2, 0.3, 0.5], atol=1e-6)
    np.testing.assert_allclose(contribution_curve(attended, 0, 1).values, [0, 0.5, 3.0])


def test_evidence_is_the_softmax_of_the_step() -> None:
    _, evidence = evidence_curve(make_attended(), 0)
    np.testing.assert_allclose(evidence.sum(axis=1), 1)
    np.testing.assert_allclose(evidence[0, 0], 1 / (1 + np.exp(-1)))


@pytest.mark.parametrize("emotion", [0, 1])
def test_contributions_are_signed_and_sum_to_the_logit(emotion: int) -> None:
    attended = make_attended()
    curve = contribution_curve(attended, 0, emotion)
    assert curve.values.sum() == pytest.approx(float(attended.logits[0, emotion]), abs=1e-6)
    assert (contribution_curve(attended, 0, 0).values < 0).any()


def test_without_step_logits_the_error_says_what_to_use() -> None:
    attended = make_attended(step_logits=None)
    for read in (lambda: evidence_curve(attended, 0), lambda: contribution_curve(attended, 0, 0)):
        with pytest.raises(AvserError, match="use the attention curve"):
            read()
    assert len(attention_curve(attended, 0)) == 3


def test_salience_is_the_attention_where_there_is_one() -> None:
    np.testing.assert_allclose(salience_curve(make_attended(), 0, 1).values, [0.2, 0.3, 0.5], atol=1e-6)


def test_salience_of_a_model_that_averages_is_what_each_step_adds() -> None:
    even = make_attended(weights=torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0] * 4]) / 3)
    np.testing.assert_allclose(salience_curve(even, 0, 1).values, [0, 1 / 3, 2 / 3], atol=1e-6)  # logits 0, 2, 4
    np.testing.assert_allclose(salience_curve(even, 0, 0).values, [2 / 3, 1 / 3, 0], atol=1e-6)  # logits 1, 0, -1
    silent = make_attended(weights=even.weights, step_logits=None)
    np.testing.assert_allclose(salience_curve(silent, 0, 1).values, [1 / 3] * 3, atol=1e-6)


def test_attention_that_is_nearly_even_is_not_replaced() -> None:
    nearly = make_attended(weights=torch.tensor([[0.3333, 0.3334, 0.0, 0.3333], [0.0] * 4]))
    np.testing.assert_allclose(salience_curve(nearly, 0, 1).values, [0.3333, 0.3334, 0.3333], atol=1e-4)


def test_a_clip_without_moments_gets_even_salience() -> None:
    thirds = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0] * 4]) / 3
    same = torch.full((2, 4, 2), 7.0)
    same[0, 1] += 1e-6  # what rounding leaves
    for step_logits in (same, torch.zeros(2, 4, 2)):
        curve = salience_curve(make_attended(weights=thirds, step_logits=step_logits), 0, 1)
        np.testing.assert_allclose(curve.values, [1 / 3] * 3, atol=1e-6)
