"""Hidden frame labels: every likelihood against the sum over all paths, padding, and gradients at the extremes."""

import itertools
import math

import pytest
import torch

from avser.models.label_models import LABEL_MODELS, ergodic, hmm, log_complement


def shares(batch, length, num_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, num_classes + 1, generator=generator).log_softmax(dim=2)


def path_weight(path, model, stay=0.9):
    """Probability that a label model gives to a path of 0 (NULL) and 1 (the emotion), before looking at the frames."""
    if not any(path):
        return 0.0
    changes = sum(a != b for a, b in itertools.pairwise(path))
    if model == "ergodic":
        return 1.0
    if model == "hmm":
        return 0.5 * stay ** (len(path) - 1 - changes) * (1 - stay) ** changes
    if model == "ctc":
        return float(changes == (not path[0]) + (not path[-1]))  # one run
    return float(all(path))


def enumerated(log_shares, emotion, model):
    """Sum over all paths of one clip (T, 1 + K)."""
    y = log_shares.double().exp()
    total = 0.0
    for path in itertools.product([0, 1], repeat=len(y)):
        frames = math.prod(float(y[t, emotion + 1 if label else 0]) for t, label in enumerate(path))
        total += path_weight(path, model) * frames
    return math.log(total)


@pytest.mark.parametrize("model", LABEL_MODELS)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_likelihood_is_the_sum_over_all_paths(model, length):
    log_shares = shares(2, length, 3)
    found = LABEL_MODELS[model](log_shares, torch.ones(2, length, dtype=torch.bool))
    expected = [[enumerated(log_shares[b], e, model) for e in range(3)] for b in range(2)]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_another_chain_by_enumeration():
    log_shares = shares(1, 4, 1)
    total = 0.0
    for path in itertools.product([0, 1], repeat=4):
        frames = math.prod(float(log_shares[0, t, label].exp()) for t, label in enumerate(path))
        total += path_weight(path, "hmm", stay=0.6) * frames
    found = hmm(log_shares, torch.ones(1, 4, dtype=torch.bool), stay=0.6)
    assert found.item() == pytest.approx(math.log(total), abs=1e-5)


@pytest.mark.parametrize(("num_classes", "right"), [(8, 1 / 8), (4, 0.5), (4, 0.9)])
def test_the_likelihood_itself_leaves_few_emotional_frames(num_classes, right):
    length, emotional = 500, torch.linspace(1e-4, 0.02, 2000)
    others = [(1 - right) / (num_classes - 1)] * (num_classes - 1)
    shares_of_states = torch.stack([1 - emotional, *(emotional * share for share in (right, *others))], dim=1)
    log_shares = shares_of_states.log()[:, None].expand(-1, length, -1)
    likelihood = ergodic(log_shares, torch.ones(len(emotional), length, dtype=torch.bool))[:, 0]
    best = length * emotional[likelihood.argmax()]
    assert best.item() == pytest.approx(-math.log(1 - right) / right, abs=0.05)


@pytest.mark.parametrize("model", LABEL_MODELS)
def test_padding_changes_nothing(model):
    short, long = shares(1, 4, 2, seed=1), shares(1, 7, 2, seed=2)
    together = torch.cat([torch.nn.functional.pad(short, (0, 0, 0, 3)), long])
    mask = torch.arange(7) < torch.tensor([[4], [7]])
    found = LABEL_MODELS[model](together, mask)
    torch.testing.assert_close(found[:1], LABEL_MODELS[model](short, mask[:1, :4]))
    torch.testing.assert_close(found[1:], LABEL_MODELS[model](long, mask[1:]))


@pytest.mark.parametrize("model", LABEL_MODELS)
def test_a_clip_without_frames_says_nothing(model):
    log_shares = shares(2, 3, 2).requires_grad_()
    mask = torch.tensor([[False] * 3, [True] * 3])
    found = LABEL_MODELS[model](log_shares, mask)
    found.sum().backward()
    assert found[0].abs().max() == 0
    assert log_shares.grad[0].abs().max() == 0
    assert torch.isfinite(log_shares.grad).all()


@pytest.mark.parametrize("model", LABEL_MODELS)
@pytest.mark.parametrize("favourite", [0, 1])
def test_likelihood_and_gradient_stay_finite_for_certain_frames(model, favourite):
    """Hundreds of frames that are all but surely NULL, or surely emotional: no infinite loss, no NaN."""
    logits = torch.zeros(1, 400, 3)
    logits[..., favourite] = 60.0
    logits.requires_grad_()
    found = LABEL_MODELS[model](logits.log_softmax(dim=2), torch.ones(1, 400, dtype=torch.bool))
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("model", ["ergodic", "hmm", "ctc"])
def test_frames_that_are_all_null_are_pushed_towards_the_emotion(model):
    logits = torch.zeros(1, 20, 3)
    logits[..., 0] = 30.0
    logits.requires_grad_()
    LABEL_MODELS[model](logits.log_softmax(dim=2), torch.ones(1, 20, dtype=torch.bool))[0, 0].backward()
    assert logits.grad[0, :, 1].sum() == pytest.approx(1, abs=0.15)  # one frame's worth of emotion is missing
    assert logits.grad[0, :, 0].sum() == pytest.approx(-1, abs=0.15)


def test_log_complement_keeps_its_digits():
    log_share = torch.tensor([-1e-20, -1e-7, -0.5, -1.0, -50.0], dtype=torch.float64)
    expected = [math.log(-math.expm1(v)) for v in log_share.tolist()]
    torch.testing.assert_close(log_complement(log_share).tolist(), expected)
    assert torch.isfinite(log_complement(torch.zeros(1)))
