"""Weights drawn anew, and curves that agree or do not."""

import numpy as np
import pytest
import torch
from torch import nn

from avser.roi.trust.sanity_checks import randomised, rank_agreement
from avser.structures import Curve


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(30, 40)
        self.scale = nn.ParameterDict({"query": nn.Parameter(torch.arange(500.0))})
        self.rnn = nn.GRU(40, 20)
        self.head = nn.Linear(20, 4)
        self.register_buffer("mel", torch.ones(5))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model().eval()


def changed(model: nn.Module, other: nn.Module) -> set[str]:
    pairs = zip(model.named_parameters(), other.parameters(), strict=True)
    return {name.split(".")[0] for (name, a), b in pairs if not torch.equal(a, b)}


def test_all_weights_change_and_the_model_stays(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    anew = randomised(model, seed=0)  # the seed of its own first weights
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert changed(model, anew) == {"first", "scale", "rnn", "head"}
    assert torch.equal(anew.mel, model.mel)
    assert not anew.training
    for a, b in zip(model.parameters(), anew.parameters(), strict=True):
        assert not torch.isclose(a, b).any(), "every single weight is a new one"
    query = anew.scale["query"].detach()
    assert query.mean() == pytest.approx(249.5, abs=25)
    assert query.std() == pytest.approx(144.5, rel=0.15)
    assert abs(np.corrcoef(query, np.arange(500))[0, 1]) < 0.2


def test_the_same_seed_draws_the_same_weights(model):
    one, two, other = randomised(model, seed=1), randomised(model, seed=1), randomised(model, seed=2)
    assert changed(one, two) == set()
    assert changed(one, other) == {"first", "scale", "rnn", "head"}


def test_the_cascade_begins_at_the_head(model):
    assert changed(model, randomised(model, share=0.01)) == {"head"}
    assert changed(model, randomised(model, share=0.5)) == {"rnn", "head"}
    for share in (0, 1.5):
        with pytest.raises(ValueError, match="share"):
            randomised(model, share=share)


def curve(*values: float, step_s: float = 0.02) -> Curve:
    return Curve(np.arange(len(values)) * step_s, np.array(values))


def test_agreement_by_hand():
    # Of 6 pairs, (2, 3) alone is the other way round: tau = 4 / 6; rho = 1 - 6 * 2 / (4 * 15).
    tau, rho = rank_agreement(curve(1, 2, 3, 4), curve(1, 3, 2, 9))
    assert tau == pytest.approx(4 / 6)
    assert rho == pytest.approx(0.8)
    assert rank_agreement(curve(1, 2, 3), curve(9, 5, 1)) == pytest.approx((-1, -1))


def test_curves_of_other_steps_are_read_at_those_of_the_first():
    coarse = Curve(np.array([0.0, 0.08]), np.array([0.0, 8.0]))
    assert rank_agreement(curve(1, 2, 3, 4, 5), coarse) == pytest.approx((1, 1))


def test_a_flat_curve_agrees_with_none():
    flat = curve(1, 1, 1, 1)
    assert rank_agreement(curve(1, 2, 3, 4), flat) == (0, 0)
    assert rank_agreement(flat, curve(1, 2, 3, 4)) == (0, 0)
    assert np.isnan(rank_agreement(flat, flat)).all()
    assert np.isnan(rank_agreement(curve(1, 2), curve(1, 2))).all()
    assert rank_agreement(curve(1, 2, 3), curve(1, np.nan, 3)) == (0, 0)
