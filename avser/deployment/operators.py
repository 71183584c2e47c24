"""How PyTorch operations are written in ONNX where its exporter cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from avser.deployment.runtime import import_export


def translations() -> dict[Any, Callable[..., Any]]:
    """PyTorch operation -> function that writes it with ONNX operators, for `torch.onnx.export`."""
    op = import_export("onnxscript").opset20

    def nanmedian(self: Any, dim: int, keepdim: bool = False) -> Any:
        """The lower median of what is a number, NaN where nothing is: sorted with NaN last, then looked up."""
        is_number = op.Not(op.IsNaN(self))
        count = op.ReduceSum(op.Cast(is_number, to=7), op.Constant(value_ints=[dim]), keepdims=1)
        last = op.Where(is_number, self, op.CastLike(op.Constant(value_float=float("inf")), self))
        size = op.Slice(op.Shape(self), op.Constant(value_ints=[dim]), op.Constant(value_ints=[dim + 1]))
        ordered, places = op.TopK(last, size, axis=dim, largest=0, sorted=1)
        one, two = op.Constant(value_ints=[1]), op.Constant(value_ints=[2])
        middle = op.Max(op.Div(op.Sub(count, one), two), op.Constant(value_ints=[0]))
        value = op.GatherElements(ordered, middle, axis=dim)
        none = op.Equal(count, op.Constant(value_ints=[0]))
        value = op.Where(none, op.CastLike(op.Constant(value_float=float("nan")), value), value)
        index = op.GatherElements(places, middle, axis=dim)
        if keepdim:
            return value, index
        axis = op.Constant(value_ints=[dim])
        return op.Squeeze(value, axis), op.Squeeze(index, axis)

    def hypot(self: Any, other: Any) -> Any:
        return op.Sqrt(op.Add(op.Mul(self, self), op.Mul(other, other)))

    def layer(kind: str, x: Any, weights: Any, recurrent: Any, bias: Any, recurrent_bias: Any, size: int) -> Any:
        """One direction of a layer; ONNX has time first, one axis of directions, and an order of gates of its own."""
        # Places of ONNX's gates among PyTorch's: input, forget, cell, output of an LSTM; reset, update, new of a GRU.
        order = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}[kind]
        first = op.Constant(value_ints=[0])

        def ordered(value: Any) -> Any:
            gates = [
                op.Slice(value, op.Constant(value_ints=[i * size]), op.Constant(value_ints=[(i + 1) * size]), first)
                for i in order
            ]
            return op.Concat(*gates, axis=0)

        both = op.Concat(ordered(bias), ordered(recurrent_bias), axis=0)
        arguments = [op.Unsqueeze(value, first) for value in (ordered(weights), ordered(recurrent), both)]
        by_time = op.Transpose(x, perm=[1, 0, 2])  # (T, B, D)
        if kind == "LSTM":
            states, _, _ = op.LSTM(by_time, *arguments, hidden_size=size)
        else:
            states, _ = op.GRU(by_time, *arguments, hidden_size=size, linear_before_reset=1)
        return op.Transpose(op.Squeeze(states, op.Constant(value_ints=[1])), perm=[1, 0, 2])  # of (T, 1, B, H)

    def lstm(x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        return layer("LSTM", x, weight_ih, weight_hh, bias_ih, bias_hh, weight_hh.shape[1])

    def gru(x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        return layer("GRU", x, weight_ih, weight_hh, bias_ih, bias_hh, weight_hh.shape[1])

    return {
        torch.ops.aten.nanmedian.dim: nanmedian,
        torch.ops.aten.hypot.default: hypot,
        torch.ops.avser.lstm_layer.default: lstm,
        torch.ops.avser.gru_layer.default: gru,
    }
