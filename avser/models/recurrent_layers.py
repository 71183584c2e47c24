"""One direction of one recurrent layer as an operation of its own, so that a graph of it holds for any length.

PyTorch's exporter unrolls its LSTM and GRU over the steps of the clip that it sees. An operation that it does not look
into stays whole; `avser.deployment.operators` says what it is in ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("avser::lstm_layer", mutates_args=())
def lstm_layer(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, H), from a state of zeros; weights as in nn.LSTM."""
    state = x.new_zeros(1, x.shape[0], weight_hh.shape[1])
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    return torch.lstm(x, (state, state), weights, True, 1, 0.0, False, False, True)[0].contiguous()


@torch.library.custom_op("avser::gru_layer", mutates_args=())
def gru_layer(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, H), from a state of zeros; weights as in nn.GRU."""
    state = x.new_zeros(1, x.shape[0], weight_hh.shape[1])
    return torch.gru(x, state, [weight_ih, weight_hh, bias_ih, bias_hh], True, 1, 0.0, False, False, True)[
        0
    ].contiguous()


def _shape_of_answer(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], weight_hh.shape[1])


lstm_layer.register_fake(_shape_of_answer)
gru_layer.register_fake(_shape_of_answer)
