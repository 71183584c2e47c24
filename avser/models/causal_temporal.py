"""Sequence encoders that see the past alone, and go on from chunk to chunk."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from avser.features.running import Memory, with_past
from avser.models.temporal import Identity, Recurrent, TemporalConvolution


class CausalRecurrent(Recurrent):
    """GRU or LSTM in one direction; its state is what it remembers."""

    def __init__(self, cell: str, dim: int, *, layers: int, dropout: float) -> None:
        super().__init__(cell, dim, layers=layers, bidirectional=False, dropout=dropout)

    def forward(self, sequence: Tensor, mask: Tensor, memory: Memory | None = None) -> Tensor:
        """(B, T, D) with mask (B, T) -> (B, T, D); steps that are not real are zero vectors to it."""
        if torch.compiler.is_exporting():  # a graph is given whole recordings, of any length
            return super().forward(sequence, mask)
        memory = Memory() if memory is None else memory
        if not sequence.shape[1]:
            return sequence
        hidden, memory["state"] = self.rnn(sequence, memory.get("state"))
        return hidden * mask[..., None]


class CausalConvolution(TemporalConvolution):
    """Residual convolutions of width 3; layer i reaches 2 * 2**i steps back."""

    def __init__(self, dim: int, *, layers: int, dropout: float) -> None:
        super().__init__(dim, layers=layers, dropout=dropout)
        for conv in self.convs:
            conv.padding = (0,)  # type: ignore[assignment]

    def forward(self, sequence: Tensor, mask: Tensor, memory: Memory | None = None) -> Tensor:
        """(B, T, D) with mask (B, T) -> (B, T, D)."""
        memory = Memory() if memory is None else memory
        if not sequence.shape[1]:
            return sequence
        real = mask[..., None].to(sequence.dtype)
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            inner = (norm(sequence) * real).transpose(1, 2)  # (B, D, T)
            change = torch.relu(conv(with_past(inner, 2 * 2**i, memory, f"layer{i}"))).transpose(1, 2)
            sequence = (sequence + self.dropout(change)) * real
        return sequence


class CausalIdentity(Identity):
    """No exchange between steps."""

    def forward(self, sequence: Tensor, mask: Tensor, memory: Memory | None = None) -> Tensor:
        return super().forward(sequence, mask)


CAUSAL_TEMPORAL: dict[str, Callable[..., nn.Module]] = {
    "gru": lambda dim, layers, dropout: CausalRecurrent("gru", dim, layers=layers, dropout=dropout),
    "lstm": lambda dim, layers, dropout: CausalRecurrent("lstm", dim, layers=layers, dropout=dropout),
    "tcn": lambda dim, layers, dropout: CausalConvolution(dim, layers=layers, dropout=dropout),
    "none": lambda dim, layers, dropout: CausalIdentity(),
}
