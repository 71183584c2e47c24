"""Sequence encoders over the steps of one modality: recurrent, convolutional or none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.recurrent_layers import gru_layer, lstm_layer


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
        return run_recurrent(self.rnn, sequence, mask) * mask[..., None]


def run_recurrent(rnn: nn.RNNBase, sequence: Tensor, mask: Tensor) -> Tensor:
    """What `rnn` gives for packed sequences, without packing them.

    Backwards through a packed sequence costs time with the square of its length on a CPU (21 s instead of 0.3 s for 64
    clips of 370 steps). Here each direction runs over padded clips; backwards, every clip is turned around within its
    own length, so that it begins with its last real step.

    Args:
        rnn: nn.LSTM or nn.GRU with biases, in any number of layers and directions.
        sequence: (B, T, D), mask: (B, T) bool; what follows a clip's last real step does not reach the steps before.

    Returns:
        (B, T, H * directions); anything in the padding.
    """
    steps = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    lengths = (steps * mask).amax(dim=1, keepdim=True)  # (B, 1) place after the last real step
    mirrored = torch.where(steps <= lengths, lengths - steps, steps - 1)  # (B, T)
    x = sequence
    for layer in range(rnn.num_layers):
        hidden = _run_layer(rnn, f"l{layer}", x)
        if rnn.bidirectional:
            backwards = _run_layer(rnn, f"l{layer}_reverse", _reorder(x, mirrored))
            hidden = torch.cat([hidden, _reorder(backwards, mirrored)], dim=2)
        x = nn.functional.dropout(hidden, rnn.dropout, rnn.training) if layer + 1 < rnn.num_layers else hidden
    return x


def _run_layer(rnn: nn.RNNBase, name: str, x: Tensor) -> Tensor:
    """One direction of one layer over (B, T, D), from a state of zeros."""
    weights = [getattr(rnn, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if torch.compiler.is_exporting():
        return (lstm_layer if isinstance(rnn, nn.LSTM) else gru_layer)(x, *weights)
    state = x.new_zeros(1, x.shape[0], rnn.hidden_size)
    if isinstance(rnn, nn.LSTM):
        return torch.lstm(x, (state, state), weights, True, 1, 0.0, rnn.training, False, True)[0]
    return torch.gru(x, state, weights, True, 1, 0.0, rnn.training, False, True)[0]


def _reorder(x: Tensor, places: Tensor) -> Tensor:
    """(B, T, D) in another order of steps, (B, T)."""
    return x.gather(1, places[..., None].expand_as(x))


class Lstm(Recurrent):
    """An LSTM whose states have another width than its input."""

    def __init__(self, num_features: int, num_cells: int, *, layers: int = 1, bidirectional: bool = False) -> None:
        nn.Module.__init__(self)
        self.rnn = nn.LSTM(num_features, num_cells, layers, batch_first=True, bidirectional=bidirectional)


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
