"""The layers that an exported graph keeps whole are those of PyTorch."""

import pytest
import torch
from torch import nn

from avser.models.recurrent_layers import gru_layer, lstm_layer
from avser.models.temporal import run_recurrent


@pytest.mark.parametrize(("kind", "layer"), [(nn.LSTM, lstm_layer), (nn.GRU, gru_layer)])
def test_a_layer_is_that_of_pytorch(kind, layer):
    torch.manual_seed(0)
    rnn, x = kind(5, 3, batch_first=True), torch.randn(2, 7, 5)
    weights = [getattr(rnn, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    with torch.no_grad():
        torch.testing.assert_close(layer(x, *weights), rnn(x)[0])
    torch.library.opcheck(layer, (x, *[weight.detach() for weight in weights]), test_utils="test_faketensor")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_graph_of_it_holds_for_any_length(kind):
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(4, 3, num_layers=2, batch_first=True, bidirectional=True)

        def forward(self, x, mask):
            return run_recurrent(self.rnn, x, mask)

    torch.manual_seed(0)
    encoder, any_length = Encoder().eval(), {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = torch.randn(2, 9, 4), torch.ones(2, 9, dtype=torch.bool)
    program = torch.export.export(encoder, example, dynamic_shapes=(any_length,) * 2, strict=False)
    x, mask = torch.randn(3, 17, 4), torch.arange(17) < torch.tensor([[17], [4], [1]])
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x, mask), encoder(x, mask))
