"""Attention pooling: weights, masks, and verdicts that are the sum of their parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avser.models.attention import SCORES, AttentionPooling, masked_softmax

KINDS = list(SCORES)


def build(kind, **extra):
    torch.manual_seed(0)
    return AttentionPooling(8, 5, kind=kind, hidden=6, **extra).eval()


def inputs(mask):
    mask = torch.tensor(mask)
    times = torch.arange(mask.shape[1]).expand(mask.shape) * 0.04
    return torch.randn(*mask.shape, 8, generator=torch.Generator().manual_seed(1)), mask, times


MASK = [[True] * 6, [True, True, False, True, False, False]]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_sum_to_one_over_real_steps(kind):
    found = build(kind)(*inputs(MASK))
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(2))
    assert (found.weights[~found.mask] == 0).all()
    assert (found.weights >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_sum_to_the_logit(kind):
    found = build(kind)(*inputs(MASK))
    weights = found.weights[..., None] if found.class_weights is None else found.class_weights
    torch.testing.assert_close((weights * found.step_logits).sum(dim=1), found.logits)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    sequence, mask, times = inputs([[True] * 6])
    pool = build(kind)
    alone = pool(sequence, mask, times)
    padded = torch.cat([sequence, torch.randn(1, 3, 8)], dim=1)
    together = pool(padded, torch.tensor([[True] * 6 + [False] * 3]), torch.arange(9)[None] * 0.04)
    torch.testing.assert_close(together.logits, alone.logits)
    torch.testing.assert_close(together.weights[:, :6], alone.weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_without_steps_is_zero_and_passes_no_nan_back(kind):
    sequence, mask, times = inputs([[True] * 4, [False] * 4])
    sequence.requires_grad_(True)
    found = build(kind)(sequence, mask, times)
    assert (found.logits[1] == 0).all()
    assert found.present.tolist() == [True, False]
    found.logits.square().sum().backward()
    assert torch.isfinite(sequence.grad).all()


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("mean", "last")])
def test_attention_varies_with_the_input(kind):
    pool, (sequence, mask, times) = build(kind), inputs(MASK)
    assert not torch.allclose(pool(sequence, mask, times).weights, pool(2 * sequence, mask, times).weights)


def test_mean_and_last_do_as_they_say():
    torch.testing.assert_close(build("mean")(*inputs(MASK)).weights[1], torch.tensor([1, 1, 0, 1, 0, 0]) / 3)
    assert build("last")(*inputs(MASK)).weights.tolist() == [[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]]


def test_temperature_zero_is_mean_pooling():
    torch.testing.assert_close(
        build("additive", temperature=0.0)(*inputs(MASK)).weights, build("mean")(*inputs(MASK)).weights
    )


def test_per_class_has_a_curve_for_each_emotion():
    found = build("per_class")(*inputs(MASK))
    assert found.class_weights.shape == (2, 6, 5)
    torch.testing.assert_close(found.class_weights.sum(dim=1), torch.ones(2, 5))
    torch.testing.assert_close(found.class_weights.mean(dim=2), found.weights)


def test_additive_by_hand():
    pool = build("additive", temperature=0.3)
    sequence, mask, times = inputs([[True, True, True]])
    inner, outer = pool.score.inner, pool.score.outer
    scores = [outer.weight[0] @ torch.tanh(inner.weight @ h + inner.bias) for h in sequence[0]]
    powers = torch.exp(0.3 * torch.stack(scores))
    torch.testing.assert_close(pool(sequence, mask, times).weights[0], powers / powers.sum())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12), st.data())
def test_masked_softmax_is_finite_and_normalised(scores, data):
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))])
    weights = masked_softmax(torch.tensor(scores)[None, :, None], mask)
    assert torch.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0 if mask.any() else 0.0, abs=1e-5)
