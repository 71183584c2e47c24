"""Keeps padding zero from layer to layer of a CNN along time, and touches nothing that is zero or real already."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# What gives zero for zero, each value on its own: behind them, padding that was blank is blank.
KEEPS_ZERO = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Mish,
)


class RealColumns:
    """How many columns of each clip are real at every width that planes have during one pass.

    Args:
        lengths: (B,) real columns of the planes that go in; they come first.
        num_columns: of those planes.
    """

    def __init__(self, lengths: Tensor, num_columns: int) -> None:
        self._lengths, self._masks = ByWidth(), ByWidth()
        self._lengths.keep(num_columns, lengths)
        self._first_padded: dict[int, int] = {}
        self._blank: tuple[Tensor, int] | None = None  # the last output whose padding is zero, and its version

    def mask(self, planes: Tensor) -> Tensor:
        """(B, T) bool for planes (B, ..., T) of a width that was met before."""
        width, found = planes.shape[-1], self._masks.find(planes)
        if found is None:
            lengths = self._lengths.find(planes)
            assert lengths is not None, f"planes of {width} columns were not met before"
            found = self._masks.keep(width, torch.arange(width, device=lengths.device) < lengths[:, None])
        return found

    def after(self, layer: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        """Follow the lengths through a layer, (B, C, F, T) -> (B, C', F', T'), and blank the padding of its output."""
        lengths = self._lengths.find(given)
        if lengths is None:
            return output
        if self._lengths.find(output) is None:
            self._lengths.keep(output.shape[-1], output_length(layer, lengths))
        if torch.compiler.is_compiling():  # a graph cannot ask what is in its tensors
            return self._multiplied(layer, given, output)
        if not (isinstance(layer, KEEPS_ZERO) and self._is_blank(layer, given)):
            output = self._blanked(layer, given, output)
        self._blank = None if output.is_inference() else (output, output._version)
        return output

    def _is_blank(self, layer: nn.Module, given: Tensor) -> bool:
        """Whether that tensor is the last one blanked, and nobody but the layer itself has written to it since."""
        if self._blank is None or self._blank[0] is not given:
            return False
        # One write is an in-place layer's own; a dropout writes only in training, and is then taken for anybody.
        writes = getattr(layer, "inplace", False) and not isinstance(layer, nn.Dropout | nn.Dropout2d)
        return given._version == self._blank[1] + int(writes)

    def _blanked(self, layer: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        if output.device.type != "cpu":  # asking a GPU for a number would make it wait
            return self._multiplied(layer, given, output)
        start = self._padded_from(output)
        if start >= output.shape[-1] and self._padded_from(given) >= given.shape[-1]:
            return output
        own = output.untyped_storage().data_ptr() != given.untyped_storage().data_ptr()
        if isinstance(layer, nn.AvgPool2d) or output.requires_grad or not own:
            return self._multiplied(layer, given, output)
        output[..., start:] *= self.mask(output)[:, None, None, start:].to(output.dtype)
        return output

    def _padded_from(self, planes: Tensor) -> int:
        """The first column that is padding in any clip."""
        width = planes.shape[-1]
        if width not in self._first_padded:
            lengths = self._lengths.find(planes)
            assert lengths is not None, f"planes of {width} columns were not met before"
            self._first_padded[width] = int(lengths.min()) if len(lengths) else 0
        return self._first_padded[width]

    def _multiplied(self, layer: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        if isinstance(layer, nn.AvgPool2d) and not layer.count_include_pad:
            output = output / _real_share(layer, self.mask(given), output.dtype)
        return output * self.mask(output)[:, None, None, :].to(output.dtype)


class ByWidth:
    """Tensors by a number of columns. No dictionary: while a graph is made for any length, numbers have no hash."""

    def __init__(self) -> None:
        self._kept: list[tuple[str | int, Tensor]] = []

    def find(self, planes: Tensor) -> Tensor | None:
        """What is kept for planes of that width."""
        key = _as_key(planes.shape[-1])
        return next((value for width, value in self._kept if width == key), None)

    def keep(self, width: int, value: Tensor) -> Tensor:
        self._kept.append((_as_key(width), value))
        return value


def window_of(layer: nn.Module) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation of a layer along the last axis."""

    def along_time(name: str, default: int) -> int:
        value = getattr(layer, name, default)
        return int(value[-1] if isinstance(value, tuple) else value)

    kernel = along_time("kernel_size", 1)
    return kernel, along_time("stride", 1), along_time("padding", 0), along_time("dilation", 1)


def output_length(layer: nn.Module, lengths: Tensor) -> Tensor:
    """How many columns the layer would give for an unpadded input of `lengths` columns."""
    kernel, stride, padding, dilation = window_of(layer)
    span = lengths + 2 * padding - dilation * (kernel - 1) - 1
    if getattr(layer, "ceil_mode", False):
        steps = -(-span // stride) + 1
        # PyTorch drops a last window that would start in the right padding.
        steps = torch.where((steps - 1) * stride >= lengths + padding, steps - 1, steps)
    else:
        steps = span // stride + 1
    return torch.where(lengths > 0, steps, 0).clamp(min=0)


def _as_key(width: int) -> str | int:
    """To be compared: a formula, as a text, in a graph that is exported for any length.

    While `torch.compile` reads along it stays what it is, for as a text it would hold for this one length alone.
    """
    return width if torch.compiler.is_dynamo_compiling() else str(width)


def _real_share(layer: nn.AvgPool2d, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, T'): how much of each pooling window is real, for poolings that average over what is there."""
    kernel, stride, padding, _ = window_of(layer)
    share = nn.functional.avg_pool2d(
        mask[:, None, None, :].to(dtype), (1, kernel), (1, stride), (0, padding), layer.ceil_mode, False
    )
    return share.where(share > 0, 1.0)
