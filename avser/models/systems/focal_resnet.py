"""A residual CNN over log-mels or MFCCs, trained with the focal loss (Tripathi et al. 2019).

S. Tripathi, A. Kumar, A. Ramesh, C. Singh, P. Yenigalla: "Focal loss based residual convolutional neural network for
speech emotion recognition", arXiv 1906.05682. From the abstract: a residual network on spectrograms or MFCCs, and the
focal loss (Lin et al. 2017), which training is configured with. Remembered, not verified: about 6 s of speech, 2048
samples a window and 512 from one to the next at 22.05 kHz. Everything else, every size of the network included, is our
choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avser.features.cepstral import Mfcc
from avser.features.spectral import LogMel, standardize
from avser.models.attention import AttentionPooling
from avser.models.backbones import Backbone
from avser.models.segments import first_steps
from avser.models.system import System
from avser.structures import Batch, Output

FEATURES = ("logmel", "mfcc")


class FocalResnet(System):
    """Log-mels or MFCCs -> residual network -> mean over frequency and real time -> verdict.

    Args:
        features: "logmel" or "mfcc".
        num_mels, num_coefficients: bands, and how many MFCCs are made of them.
        window_s, hop_s: of the frames.
        clip_s: only so much of each clip is read, from its beginning; None for all of it. Shorter clips are not filled
            up: the network is blind to what is beyond their end.
        channels: of each stage of residual blocks; the stem has as many as the first.
        blocks: residual blocks a stage.
        strides: of each stage, after the stem's 2; together they make a step as long as 2 * product(strides) hops.
        dropout: of the averaged features.

    Raises:
        ValueError: features that are not one of these, or not one stride for each stage.
    """

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = 16000,
        *,
        features: str = "logmel",
        num_mels: int = 128,
        num_coefficients: int = 40,
        window_s: float = 2048 / 22050,
        hop_s: float = 512 / 22050,
        min_hz: float = 20.0,
        clip_s: float | None = 6.0,
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: int = 2,
        strides: Sequence[int] = (1, 2, 2, 2),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if features not in FEATURES or len(strides) != len(channels):
            raise ValueError(f"features={features!r} must be logmel or mfcc, and strides as many as channels")
        self.log_mel = LogMel(
            sample_rate_hz=sample_rate_hz,
            num_mels=num_mels,
            window_s=window_s,
            hop_s=hop_s,
            min_hz=min_hz,
            max_hz=sample_rate_hz / 2,
            normalize="none",
            num_channels=1,
        )
        self.mfcc = Mfcc(self.log_mel, num_coefficients=num_coefficients) if features == "mfcc" else None
        self.max_samples = None if clip_s is None else round(clip_s * sample_rate_hz)
        self.network = Backbone(residual_network(channels, blocks, strides), num_planes=1)
        self.dropout = nn.Dropout(dropout)
        self.readout = AttentionPooling(channels[-1], num_classes, kind="mean")

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has no voice.
        """
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("focal_resnet needs the voice; this batch has no waveform")
        planes, frame_mask = self.planes(
            first_steps(batch.waveform, self.max_samples), first_steps(batch.waveform_mask, self.max_samples)
        )
        features, mask = self.network(planes, frame_mask)  # (B, D, F', T')
        assert mask is not None
        sequence = features.mean(dim=2).transpose(1, 2)  # (B, T', D)
        # Dropout of the averaged features: a feature is gone at all steps or at none.
        keep = self.dropout(torch.ones_like(sequence[:, :1]))
        columns = self.network.offset + self.network.stride * torch.arange(sequence.shape[1], device=mask.device)
        attended = self.readout(sequence * keep, mask, (columns * self.log_mel.hop_s).expand(mask.shape))
        return Output(attended.logits, {"audio": attended})

    def planes(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, F, T) with mean 0 and variance 1 over the clip, for MFCCs in each coefficient, and mask (B, T)."""
        if self.mfcc is None:
            planes, frame_mask = self.log_mel(waveform, mask)
        else:
            coefficients, frame_mask = self.mfcc(waveform, mask)
            planes = coefficients.transpose(1, 2)[:, None]
        planes = standardize(planes, frame_mask, each_band=self.mfcc is not None)
        return planes * frame_mask[:, None, None, :], frame_mask


class ResidualBlock(nn.Module):
    """BatchNorm and ReLU before each of two convolutions, and the input added to their result (He et al. 2016b)."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(num_in), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(num_out),
            nn.ReLU(),
            nn.Conv2d(num_out, num_out, 3, padding=1, bias=False),
        )
        same = num_in == num_out and stride == 1
        self.shortcut = None if same else nn.Conv2d(num_in, num_out, 1, stride, bias=False)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, num_in, F, T) -> (B, num_out, F / stride, T / stride)"""
        active = self.first(planes)
        return self.second(active) + (planes if self.shortcut is None else self.shortcut(active))


def residual_network(channels: Sequence[int], blocks: int, strides: Sequence[int]) -> nn.Sequential:
    """A 7 x 7 stem with stride 2, the stages, and the BatchNorm and ReLU that the last block still owes."""
    layers: list[nn.Module] = [nn.Conv2d(1, channels[0], 7, 2, padding=3, bias=False)]
    num_in = channels[0]
    for num_out, stride in zip(channels, strides, strict=True):
        for block in range(blocks):
            layers.append(ResidualBlock(num_in, num_out, stride if block == 0 else 1))
            num_in = num_out
    return nn.Sequential(*layers, nn.BatchNorm2d(num_in), nn.ReLU())
