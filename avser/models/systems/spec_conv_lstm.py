"""Four convolutions, an LSTM and two dense layers over the spectrogram (Qazi & Kaushik 2020).

H. Qazi, B. N. Kaushik: A hybrid technique using CNN+LSTM for speech emotion recognition, International Journal of
Engineering and Advanced Technology 9(5), 2020, doi 10.35940/ijeat.E1027.069520.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.features.spectral import LogMel
from avser.models.attention import AttentionPooling
from avser.models.backbones import Backbone
from avser.models.system import System
from avser.models.temporal import Lstm
from avser.structures import Batch, Output

POOLS = ((2, 2), (2, 2), (4, 2), (4, 1))  # bands and frames


class SpecConvLstm(System):
    """From the paper: spectrograms, four convolutional layers, an LSTM, two dense layers.

    All sizes are our choice, for the paper's text was not at hand: 128 log-mel bands standardised over the clip,
    convolutions of 3 x 3 with batch normalisation, ReLU, max-pooling to 2 rows in steps of 80 ms and dropout, the
    state at the last real step, the middle of clips longer than `max_s`.

    Args:
        max_s: seconds of a clip that are read, around its middle; None: all of it.
        num_maps: of the four convolutions.
        dropout, dense_dropout: after each pooling; between the dense layers.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate_hz: int = 16000,
        num_mels: int = 128,
        max_s: float | None = 3.0,
        num_maps: tuple[int, int, int, int] = (32, 64, 128, 128),
        num_cells: int = 128,
        num_hidden: int = 64,
        dropout: float = 0.2,
        dense_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.max_samples = None if max_s is None else round(max_s * sample_rate_hz)
        self.log_mel = LogMel(
            sample_rate_hz=sample_rate_hz,
            num_mels=num_mels,
            max_hz=min(8000.0, sample_rate_hz / 2),
            num_channels=1,
            # Twice the usual length: with 128 bands the lowest would lie between two bins and be empty.
            fft_length=2 * 2 ** (round(0.025 * sample_rate_hz) - 1).bit_length(),
        )
        layers: list[nn.Module] = []
        for before, maps, pool in zip((1, *num_maps[:-1]), num_maps, POOLS, strict=True):
            layers += [nn.Conv2d(before, maps, 3, padding=1), nn.BatchNorm2d(maps), nn.ReLU()]
            layers += [nn.MaxPool2d(pool, ceil_mode=True), nn.Dropout(dropout)]
        self.cnn = Backbone(nn.Sequential(*layers), num_planes=1)
        self.lstm = Lstm(self.cnn.num_channels * self.cnn.num_rows(num_mels), num_cells)
        self.dense = nn.Sequential(nn.Linear(num_cells, num_hidden), nn.ReLU(), nn.Dropout(dense_dropout))
        self.pooling = AttentionPooling(num_hidden, num_classes, kind="last")

    def forward(self, batch: Batch) -> Output:
        """Raises ValueError where the batch has no waveform."""
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("spec_conv_lstm reads the voice; this batch has no waveform")
        waveform, mask, start = middle(batch.waveform, batch.waveform_mask, self.max_samples)
        planes, frame_mask = self.log_mel(waveform, mask)
        features, step_mask = self.cnn(planes, frame_mask)
        assert step_mask is not None
        sequence = features.permute(0, 3, 1, 2).flatten(2)  # (B, T, maps * rows)
        dense = self.dense(self.lstm(sequence, step_mask)) * step_mask[..., None]
        step = torch.arange(step_mask.shape[1], device=mask.device, dtype=torch.float32)
        in_cut = (self.cnn.offset + self.cnn.stride * step) * self.log_mel.hop_s
        attended = self.pooling(dense, step_mask, start[:, None] / self.sample_rate_hz + in_cut)
        return Output(attended.logits, {"audio": attended})


def middle(waveform: Tensor, mask: Tensor, max_samples: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The middle of the clips that are longer.

    Args:
        waveform, mask: (B, N), real samples first.

    Returns:
        waveform and mask (B, min(N, max_samples)), and the sample (B,) at which each begins.
    """
    lengths = mask.sum(dim=1)
    if max_samples is None:
        return waveform, mask, torch.zeros_like(lengths)
    start = torch.div((lengths - max_samples).clamp(min=0), 2, rounding_mode="floor")
    place = start[:, None] + torch.arange(torch.sym_min(waveform.shape[1], max_samples), device=mask.device)
    return waveform.gather(1, place), mask.gather(1, place), start
