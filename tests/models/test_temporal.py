"""Sequence encoders: padding changes nothing, and their reach is what they claim."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from avser.errors import ConfigError
from avser.models.temporal import TEMPORAL, run_recurrent


def build(kind, **settings):
    torch.manual_seed(0)
    return TEMPORAL[kind](**{"dim": 8, "layers": 2, "bidirectional": True, "dropout": 0.0} | settings).eval()


@pytest.mark.parametrize("kind", TEMPORAL)
def test_padding_changes_nothing(kind):
    encoder, sequence = build(kind), torch.randn(1, 6, 8)
    alone = encoder(sequence, torch.ones(1, 6, dtype=torch.bool))
    padded = torch.nn.functional.pad(sequence, (0, 0, 0, 5))
    together = encoder(padded, torch.arange(11)[None] < 6)
    torch.testing.assert_close(together[:, :6], alone)
    assert (together[:, 6:] == 0).all()


@pytest.mark.parametrize("kind", TEMPORAL)
def test_a_clip_without_steps_stays_finite(kind):
    found = build(kind)(torch.zeros(2, 4, 8), torch.tensor([[True] * 4, [False] * 4]))
    assert torch.isfinite(found).all()
    assert (found[1] == 0).all()


@pytest.mark.parametrize("kind", TEMPORAL)
def test_holes_do_not_end_the_clip(kind):
    mask = torch.tensor([[True, False, True, True]])
    found = build(kind)(torch.randn(1, 4, 8) * mask[..., None], mask)
    assert (found[0, 1] == 0).all()
    assert (found[0, 3] != 0).any()


@pytest.mark.parametrize(("layers", "reach"), [(1, 1), (2, 3), (3, 7)])
def test_a_convolution_reaches_only_its_surroundings(layers, reach):
    encoder, sequence = build("tcn", layers=layers), torch.randn(1, 31, 8, requires_grad=True)
    encoder(sequence, torch.ones(1, 31, dtype=torch.bool))[0, 15].sum().backward()
    moved = sequence.grad.abs().sum(dim=(0, 2)).nonzero().flatten()
    assert (moved.min(), moved.max()) == (15 - reach, 15 + reach)


def test_a_unidirectional_rnn_does_not_see_the_future():
    encoder, sequence = build("gru", bidirectional=False), torch.randn(1, 9, 8, requires_grad=True)
    encoder(sequence, torch.ones(1, 9, dtype=torch.bool))[0, 4].sum().backward()
    assert sequence.grad.abs().sum(dim=(0, 2)).nonzero().max() == 4


def test_an_odd_width_cannot_be_halved():
    with pytest.raises(ConfigError, match="must be even"):
        build("lstm", dim=7)


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_runs_without_packing_equal_packed_ones(kind, bidirectional):
    torch.manual_seed(0)
    rnn = kind(5, 4, 2, batch_first=True, bidirectional=bidirectional, dropout=0.5).eval()
    mask = torch.arange(9) < torch.tensor([9, 4, 1, 6])[:, None]
    mask[0, 3] = False  # a hole
    x = (torch.randn(4, 9, 5) * mask[..., None]).requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor([9, 4, 1, 6]), batch_first=True, enforce_sorted=False)
    theirs, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True)
    ours = run_recurrent(rnn, x, mask)
    real = torch.arange(9) < torch.tensor([9, 4, 1, 6])[:, None]
    torch.testing.assert_close(ours[real], theirs[real])
    weights = torch.randn(theirs.shape) * real[..., None]
    gradients = [torch.autograd.grad((states * weights).sum(), [x, *rnn.parameters()]) for states in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_layers_drop_out_in_training_alone():
    rnn = torch.nn.LSTM(5, 4, 2, batch_first=True, dropout=0.9)
    x, mask = torch.randn(1, 6, 5), torch.ones(1, 6, dtype=torch.bool)
    assert not torch.allclose(run_recurrent(rnn.train(), x, mask), run_recurrent(rnn, x, mask))
    torch.testing.assert_close(run_recurrent(rnn.eval(), x, mask), rnn(x)[0])
