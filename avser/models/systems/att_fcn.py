"""Attention over the cells of a fully convolutional network on spectrograms (Zhang et al. 2019).

Yuanyuan Zhang, Jun Du, Zirui Wang, Jianshu Zhang, Yanhui Tu: Attention based fully convolutional network for speech
emotion recognition, arXiv 1806.01506. From the paper (its abstract): an FCN that reads clips of any length, attention
over time and frequency at once, and transfer from ImageNet, which makes up for small corpora; IEMOCAP, 4 emotions:
WA 70.4, UA 63.9. From two independent reimplementations that agree: the convolutions of AlexNet, the formula of the
attention, its hidden size of 256 and its temperature of 0.3. Everything else is our choice, and marked so below.

The two claims can be measured with all else equal: `attention: mean` or `temperature: 0` against the default, and
`weights: none` against ImageNet's, with `backbone: torchvision:alexnet` in both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.features.spectral import LogSpectrogram
from avser.models.attention import SCORES, masked_softmax
from avser.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, build_backbone, hold_time_stride
from avser.models.system import System
from avser.structures import AUDIO, Attended, Batch, Output

ATTENTIONS = ("additive", "mean")
HEADS = ("linear", "mlp")


class AttentionFcn(System):
    """AlexNet's convolutions over a log spectrogram, attention over all cells of the last map, one linear layer.

    The last map has a cell for every 32 columns of 10 ms: steps of 320 ms, wide for a region. `max_stride` and
    `max_time_stride` make them finer at the price of more computing; neither is of the paper.

    Args:
        backbone: "alexnet" for the layout of 2012 (96-256-384-384-256 channels, local response normalisation, trained
            from scratch), or an image CNN of `build_backbone` such as "torchvision:alexnet".
        weights: "none", "imagenet" (downloaded), or the path of a .safetensors file; not for "alexnet".
        max_stride: cut the network where its total stride would exceed this. Nothing rescales the map there:
            SqueezeNet with ImageNet weights has values of hundreds at a stride of 8, which learns badly; keep it at 16.
        max_time_stride: let later layers stride along frequency alone; None: alike.
        attention: "additive", or "mean" for the same network without it.
        hidden: width of the attention's inner layer.
        temperature: lambda in softmax(lambda * e); 0 gives every cell the same weight.
        head: "linear", or "mlp" with a hidden layer (one reimplementation), which leaves no exact evidence of steps.
        head_hidden, dropout: of the "mlp" head; from that reimplementation.

    Raises:
        ConfigError: an unknown name, or weights for a network that has none.
    """

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = 16000,
        pretrained: bool = True,
        *,
        backbone: str = "alexnet",
        weights: str = "none",
        max_stride: int = 32,
        max_time_stride: int | None = None,
        attention: str = "additive",
        hidden: int = 256,
        temperature: float = 0.3,
        head: str = "linear",
        head_hidden: int = 256,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        for name, value, allowed in (("attention", attention, ATTENTIONS), ("head", head, HEADS)):
            if value not in allowed:
                raise ConfigError(f"{name}={value!r}: take {' or '.join(allowed)}")
        # 200 bins from 0 to 4 kHz, 40 ms windows every 10 ms: from a reimplementation.
        self.spectrogram = LogSpectrogram(sample_rate_hz=sample_rate_hz)
        self.backbone = build_fcn(
            backbone,
            weights=weights if pretrained else "none",
            max_stride=max_stride,
            max_time_stride=max_time_stride,
        )
        self.min_frames = self.backbone.min_columns()
        width = self.backbone.num_channels
        self.temperature = temperature
        self.score = SCORES[attention](width, hidden, num_classes)
        self.head: nn.Module = nn.Linear(width, num_classes)
        self.linear = head == "linear"
        if not self.linear:
            self.head = nn.Sequential(
                nn.Linear(width, head_hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(head_hidden, num_classes)
            )
        self.step_s = self.backbone.stride * self.spectrogram.hop_s
        self.notes.append(f"att_fcn: a step of its curve is {1000 * self.step_s:.0f} ms")

    def forward(self, batch: Batch) -> Output:
        """A clip shorter than the network's reach (about 0.65 s at the full stride) is followed by silence."""
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("att_fcn reads the voice: this batch has no waveform")
        planes, frame_mask = self.pictures(batch.waveform, batch.waveform_mask)
        features, mask = self.backbone(planes, frame_mask)
        assert mask is not None
        attended = self.attend(features, mask)
        return Output(attended.logits, {AUDIO: attended})

    def pictures(self, waveform: Tensor, waveform_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) samples -> (B, 3, F, T) as ImageNet's networks take them, and frame_mask (B, T).

        Decibels from the floor to 0 become 0 to 1. As every clip's loudest bin is at 0 dB, this is the range of any
        training set too. One plane three times, and ImageNet's mean and deviation: our choice.
        """
        decibels, frame_mask = self.spectrogram(waveform, waveform_mask)  # (B, 1, F, T)
        level = (1 - decibels / self.spectrogram.floor_db) * frame_mask[:, None, None, :]
        short = self.min_frames - level.shape[-1]
        if short > 0:
            level, frame_mask = nn.functional.pad(level, (0, short)), nn.functional.pad(frame_mask, (0, short))
        lead = torch.arange(level.shape[-1], device=level.device) < self.min_frames
        frame_mask = frame_mask | (lead & frame_mask.any(dim=1, keepdim=True))
        mean, std = (level.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (level - mean) / std * frame_mask[:, None, None, :], frame_mask

    def attend(self, features: Tensor, mask: Tensor) -> Attended:
        """features (B, C, F, T) with mask (B, T): every cell is a vector of C, and attention is over all F * T of them.

        e_i = u . tanh(W a_i + b), alpha = softmax(lambda * e), c = sum_i alpha_i a_i.
        """
        num_rows, num_steps = features.shape[2:]
        cells = features.flatten(2).transpose(1, 2)  # (B, F * T, C)
        real = mask[:, None, :].expand(-1, num_rows, -1).flatten(1)  # (B, F * T)
        alpha = masked_softmax(self.temperature * self.score(cells), real)[..., 0].view(-1, num_rows, num_steps)
        weights = alpha.sum(dim=1)  # (B, T)
        # What the attention sees of a column, so that the steps' weighted sum is that of all cells.
        column = torch.einsum("bft,bcft->btc", alpha, features)
        sequence = column / weights.clamp(min=1e-12)[..., None]
        pooled = column.sum(dim=1)
        present = mask.any(dim=1, keepdim=True)
        return Attended(
            sequence=sequence,
            weights=weights,
            step_logits=self.head(sequence) * mask[..., None] if self.linear else None,
            times=self._times(mask),
            mask=mask,
            pooled=pooled,
            logits=self.head(pooled) * present,
            map=alpha,
        )

    def _times(self, mask: Tensor) -> Tensor:
        steps = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32).expand(mask.shape)
        columns = self.backbone.offset + self.backbone.stride * steps
        return columns * self.spectrogram.hop_s + self.spectrogram.offset_s


def build_fcn(name: str, *, weights: str, max_stride: int, max_time_stride: int | None) -> Backbone:
    """The convolutions: AlexNet's of 2012 by "alexnet", anything else by `build_backbone`."""
    if name != "alexnet":
        return build_backbone(name, weights=weights, max_stride=max_stride, max_time_stride=max_time_stride)
    if weights != "none":
        raise ConfigError(f"weights={weights!r}: the alexnet of 2012 has none here; take backbone=torchvision:alexnet")
    layers = alexnet_layers(max_stride)
    if max_time_stride is not None:
        hold_time_stride(layers, max_time_stride)
    return Backbone(layers, probe_rows=200)


def alexnet_layers(max_stride: int = 32) -> nn.Sequential:
    """AlexNet's convolutions (Krizhevsky et al. 2012) without their division into two groups: 3 747 200 weights.

    Normalisation before the ReLU follows the reimplementations. Weights start as He et al. 2015 proposed (our choice):
    the deviation of 0.01 of 2012 fades away where nothing is pretrained.
    """

    def normalised() -> list[nn.Module]:
        return [nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0), nn.ReLU()]

    stages: list[tuple[int, list[nn.Module]]] = [  # total stride, layers
        (4, [nn.Conv2d(3, 96, 11, stride=4), *normalised()]),
        (8, [nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2), *normalised()]),
        (16, [nn.MaxPool2d(3, 2), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()]),
        (16, [nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()]),
        (32, [nn.MaxPool2d(3, 2)]),
    ]
    kept = [layer for stride, layers in stages if stride <= max_stride for layer in layers]
    if not kept:
        raise ConfigError(f"max_stride={max_stride}: AlexNet's first layer strides 4")
    for layer in kept:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*kept)
