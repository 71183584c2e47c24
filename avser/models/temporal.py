"""Sequence encoders over the steps of one modality: recurrent, convolutional or none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from avser.errors import ConfigError


class Recurrent(nn.Module):
    """GRU or LSTM; each state of a bidirectional one has seen the whole clip, so its attention is no proof of place."""

    def __init__(self, cell: str, dim: int, *, layers: int, bidirectional: bool, dropout: float) -> None:
        super().__init__()
        if bidirectional and dim % 2:
            raise ConfigError(f"a bidirectional {cell} halves its width: dim={dim} must be even")
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        width = dim // 2 if bidirectional else dim
        self.rnn = kind(
            dim, width, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout if layers > 1 else 0.0
        )

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) with mask (B, T) -> (B, T, D); holes inside a clip are zero vectors, its padding is not visited."""
        steps = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        lengths = (steps * mask).amax(dim=1).clamp(min=1)  # last real step; a clip with none still needs one
        packed = pack_padded_sequence(sequence, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=mask.shape[1])
        return hidden * mask[..., None]


class TemporalConvolution(nn.Module):
    """Residual convolutions of width 3; layer i reaches 2**i steps to each side: a step knows only its surroundings."""

    def __init__(self, dim: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.convs = nn.ModuleList(nn.Conv1d(dim, dim, 3, padding=2**i, dilation=2**i) for i in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) with mask (B, T) -> (B, T, D)."""
        real = mask[..., None].to(sequence.dtype)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            inner = (norm(sequence) * real).transpose(1, 2)  # (B, D, T)
            change = torch.relu(conv(inner)).transpose(1, 2)
            sequence = (sequence + self.dropout(change)) * real
        return sequence


class Identity(nn.Module):
    """No exchange between steps."""

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        return sequence * mask[..., None]


TEMPORAL: dict[str, Callable[..., nn.Module]] = {
    "gru": lambda dim, layers, bidirectional, dropout: Recurrent(
        "gru", dim, layers=layers, bidirectional=bidirectional, dropout=dropout
    ),
    "lstm": lambda dim, layers, bidirectional, dropout: Recurrent(
        "lstm", dim, layers=layers, bidirectional=bidirectional, dropout=dropout
    ),
    "tcn": lambda dim, layers, bidirectional, dropout: TemporalConvolution(dim, layers=layers, dropout=dropout),
    "none": lambda dim, layers, bidirectional, dropout: Identity(),
}
