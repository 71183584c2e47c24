"""Runs an encoder over the steps of a batch that are real, so that padding costs nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def encode_real(encode: Callable[[Tensor], Tensor], values: Tensor, mask: Tensor, num_features: int) -> Tensor:
    """What `encode` makes of each real step, zero elsewhere.

    While a graph is exported every step is encoded and padding blanked afterwards: a graph whose sizes depend on what
    the mask holds could not be written for any batch. `encode` must treat each step on its own, as in eval mode.

    Args:
        encode: (M, ...) -> (M, D), of M steps of any clips.
        values: (B, T, ...), mask: (B, T) bool.
        num_features: D, for a batch without a real step.

    Returns:
        (B, T, D) in the precision of what `encode` gives; float32 without a real step.
    """
    if torch.compiler.is_exporting():
        every = encode(values.flatten(0, 1)).unflatten(0, values.shape[:2])
        return every.masked_fill(~mask[..., None], 0.0)
    sequence = mask.new_zeros((*mask.shape, num_features), dtype=torch.float32)
    if mask.any():
        real = encode(values[mask])
        sequence = sequence.to(real.dtype)
        sequence[mask] = real
    return sequence
