"""PCRN: an LSTM over descriptors beside a CNN over 3-D log-mels, fused under batch normalisation (Jiang et al. 2019).

P. Jiang, H. Fu, H. Tao, P. Lei, L. Zhao: Parallelized convolutional recurrent neural network with spectral features
for speech emotion recognition, IEEE Access 7:90368, 2019.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from avser.features.descriptors import InterspeechDescriptors
from avser.features.normalization import build_statistics
from avser.features.spectral import log_mel_3d
from avser.models.backbones import Backbone
from avser.models.system import System
from avser.models.systems.acrnn import RowNorm
from avser.models.temporal import Lstm
from avser.structures import Attended, Batch, Output


class Pcrn(System):
    """Parallelized convolutional recurrent network.

    From the paper: frame-level features go through an LSTM frame by frame; in parallel log-mels with their first and
    second differences go through a CNN as three channels; both results are joined and batch-normalised; softmax.
    Our choices, for the paper's text was not at hand: the INTERSPEECH 2009 descriptors as frame-level features, the
    standardisation of both inputs with the training clips, all sizes, the state at the last real frame, a dense layer
    over each column of the CNN and the mean over real columns, dropout before the softmax, and that clips are read
    whole.

    Args:
        num_cells, num_layers: of the LSTM.
        num_maps, kernels: of the four convolutions; each but the last is followed by max-pooling of 2 x 2.
        num_hidden: of the CNN's dense layer.
        normalize: of both inputs, "train", "minmax_train" or "utterance", see `build_statistics`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate_hz: int = 16000,
        num_mels: int = 40,
        num_cells: int = 128,
        num_layers: int = 2,
        num_maps: tuple[int, int, int, int] = (64, 128, 256, 256),
        kernels: tuple[int, int, int, int] = (5, 5, 3, 3),
        num_hidden: int = 256,
        dropout: float = 0.5,
        normalize: str = "train",
    ) -> None:
        super().__init__()
        self.descriptors = InterspeechDescriptors(sample_rate_hz=sample_rate_hz)
        self.log_mel = log_mel_3d(sample_rate_hz, num_mels)
        self.widths = [self.descriptors.num_features, 3 * num_mels]
        self.statistics = build_statistics(normalize, sum(self.widths))
        self.lstm = Lstm(self.descriptors.num_features, num_cells, layers=num_layers)
        layers: list[nn.Module] = []
        for i, (before, maps, kernel) in enumerate(zip((3, *num_maps[:-1]), num_maps, kernels, strict=True)):
            layers += [nn.Conv2d(before, maps, kernel, padding=kernel // 2), nn.BatchNorm2d(maps), nn.ReLU()]
            if i < len(num_maps) - 1:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.cnn = Backbone(nn.Sequential(*layers), num_planes=3)
        self.dense = nn.Linear(self.cnn.num_channels * self.cnn.num_rows(num_mels), num_hidden)
        self.norm = RowNorm(num_cells + num_hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_cells + num_hidden, num_classes)

    def forward(self, batch: Batch) -> Output:
        """The moments are those of the CNN; the LSTM's state is part of what each of them says.

        Raises:
            ValueError: the batch has no waveform.
        """
        x, frame_mask = self._features(batch)
        described, rows = self.statistics(x, frame_mask).split(self.widths, dim=2)
        state = self._last_state(described, frame_mask)  # (B, cells)
        planes = rows.unflatten(2, (3, -1)).permute(0, 2, 3, 1)  # (B, 3, F, T)
        features, mask = self.cnn(planes, frame_mask)
        assert mask is not None
        columns = torch.relu(self.dense(features.permute(0, 3, 1, 2).flatten(2)))  # (B, T, hidden)
        sequence = torch.cat([state[:, None].expand(-1, columns.shape[1], -1), columns], dim=2) * mask[..., None]
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        pooled = torch.einsum("bt,btd->bd", weights, sequence)
        logits = self.head(self.dropout(self.norm(pooled)))
        step = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32)
        times = ((self.cnn.offset + self.cnn.stride * step) * self.log_mel.hop_s).expand(mask.shape)
        # In training the steps would count in the batch normalisation; in use it is linear, and so is all after it.
        said = None if self.training else self.head(self.norm(sequence.flatten(0, 1)))
        step_logits = None if said is None else said.unflatten(0, mask.shape) * mask[..., None]
        attended = Attended(sequence, weights, step_logits, times, mask, pooled, logits)
        return Output(logits, {"audio": attended})

    def prepare(self, batches: Iterable[Batch]) -> None:
        self.statistics.fit(self._features(batch) for batch in batches)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Descriptors beside 3-D log-mels, (B, T, 32 + 3 F), and the mask of the frames that they share."""
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("pcrn reads the voice; this batch has no waveform")
        described, mask = self.descriptors(batch.waveform, batch.waveform_mask)
        planes, _ = self.log_mel(batch.waveform, batch.waveform_mask)
        return torch.cat([described, planes.permute(0, 3, 1, 2).flatten(2)], dim=2), mask

    def _last_state(self, described: Tensor, mask: Tensor) -> Tensor:
        states = self.lstm(described, mask)  # (B, T, cells)
        last = (mask.sum(dim=1) - 1).clamp(min=0)
        return states[torch.arange(states.shape[0], device=mask.device), last]
