"""LIGHT-SERNET: a CNN of less than half a million parameters over MFCCs of fixed length (Aftab et al. 2022).

A. Aftab, A. Morsali, S. Ghaemmaghami, B. Champagne: "LIGHT-SERNET: A lightweight fully convolutional neural network for
speech emotion recognition", ICASSP 2022, arXiv 2110.03435. All sizes, the front end, the gain and the regularisation
are from the authors' code (github.com/AryaAftab/LIGHT-SERNET); that they are the paper's too was not checked.

Reading moments off a network that averages over time, and what counts as a moment in padding, is our addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from avser.features.cepstral import mfcc_tf40
from avser.models.attention import AttentionPooling
from avser.models.backbones import Backbone
from avser.models.system import Criterion, System
from avser.structures import Attended, Batch, Output


class LightSernet(System):
    """Fixed-length MFCCs -> three parallel convolutions -> five more -> average over time and frequency -> verdict.

    Every clip is cut or filled up with zeros, equally on both sides, to `clip_s`; the network and its average see all
    of that, as published. A step counts as real where its centre lies inside the clip: attention is uniform over those,
    and what the zeros around add to the verdict is a constant part of each of them, like the head's bias, so that the
    verdict is still exactly the mean of `step_logits`. A clip too short for a centre keeps the step nearest to it.

    Args:
        clip_s: seconds that the network sees; the authors use 3 and 7.
        gain_percentile: each clip is divided by this percentile of its |samples|, then clipped to [-1, 1].
        branch_channels: of each of the three parallel convolutions, which look along time, along frequency, and both.
        time_kernel, frequency_kernel: lengths of the first two; in frames, and in coefficients.
        channels: of the five convolutions that follow; 3x3 but for the last, 1x1.
        dropout: of the averaged features.
        l2: weight of the squared weights of those five in the loss.
        norm_momentum: of BatchNorm, in PyTorch's sense; Keras calls 0.01 a momentum of 0.99.

    Raises:
        ValueError: `clip_s` is shorter than one frame.
    """

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = 16000,
        *,
        clip_s: float = 7.0,
        gain_percentile: float = 99.9,
        branch_channels: int = 32,
        time_kernel: int = 11,
        frequency_kernel: int = 9,
        channels: Sequence[int] = (64, 96, 128, 160, 320),
        dropout: float = 0.3,
        l2: float = 1e-6,
        norm_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        self.mfcc = mfcc_tf40(sample_rate_hz)
        self.sample_rate_hz, self.gain_percentile, self.l2 = sample_rate_hz, gain_percentile, l2
        self.num_samples = round(clip_s * sample_rate_hz)
        if self.num_samples < self.mfcc.spectrogram.window_length:
            raise ValueError(f"clip_s={clip_s} is shorter than one frame; the authors take 3 or 7")
        kernels = [(1, time_kernel), (frequency_kernel, 1), (3, 3)]  # (along frequency, along time)
        self.network = Backbone(
            nn.Sequential(
                ParallelConvolutions(kernels, branch_channels, norm_momentum),
                later_convolutions(3 * branch_channels, channels, norm_momentum),
            ),
            num_planes=1,
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = AttentionPooling(channels[-1], num_classes, kind="mean")
        init_like_keras(self)

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has no voice.
        """
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("light_sernet needs the voice; this batch has no waveform")
        waveform, real, start = fixed_length(batch.waveform, batch.waveform_mask, self.num_samples)
        waveform = set_gain(waveform, real, self.gain_percentile)
        coefficients, _ = self.mfcc(waveform, torch.ones_like(real))  # (B, T, 40)
        features, _ = self.network(coefficients.transpose(1, 2)[:, None])  # (B, D, F', T')
        sequence = features.mean(dim=2).transpose(1, 2)  # (B, T', D)
        # Dropout of the averaged features: a feature is gone at all steps or at none.
        keep = self.dropout(torch.ones_like(sequence[:, :1]))
        times, mask = self._steps(sequence.shape[1], start, batch.waveform_mask.sum(dim=1))
        everywhere = torch.ones_like(mask)
        attended = only_real_steps(self.readout(sequence * keep, everywhere, times), mask)
        return Output(attended.logits, {"audio": attended})

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """The configured loss plus the weight penalty of Keras' `l2`, which is not halved."""
        loss = criterion(output, batch)
        if not self.l2:
            return loss
        penalised = [m.weight for m in self.network.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
        return loss + self.l2 * sum((w.square().sum() for w in penalised), torch.zeros_like(loss))

    def _steps(self, num_steps: int, start: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Centre of each step in seconds of the clip (B, T), and which of them are in it."""
        columns = self.network.offset + self.network.stride * torch.arange(num_steps, device=start.device)
        times = columns * self.mfcc.hop_s + self.mfcc.offset_s + start[:, None] / self.sample_rate_hz
        duration = (num_samples / self.sample_rate_hz)[:, None]
        outside = torch.maximum(-times, times - duration).clamp(min=0)
        nearest = nn.functional.one_hot(outside.argmin(dim=1), num_steps).bool()
        mask = ((times >= 0) & (times < duration)) | nearest
        return times.clamp(min=0).minimum(duration), mask & (num_samples > 0)[:, None]


class ParallelConvolutions(nn.Module):
    """Several convolutions of the same plane, each followed by BatchNorm, ReLU and pooling, side by side."""

    def __init__(self, kernels: Sequence[tuple[int, int]], channels: int, norm_momentum: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1, channels, kernel, padding="same"),
                nn.BatchNorm2d(channels, eps=1e-3, momentum=norm_momentum),
                nn.ReLU(),
                nn.AvgPool2d(2, ceil_mode=True),
            )
            for kernel in kernels
        )

    def forward(self, planes: Tensor) -> Tensor:
        """(B, 1, F, T) -> (B, 3 * channels, ceil(F / 2), ceil(T / 2))"""
        return torch.cat([branch(planes) for branch in self.branches], dim=1)


def later_convolutions(num_in: int, channels: Sequence[int], norm_momentum: float) -> nn.Sequential:
    """The rest of the network: two blocks halve both axes, further ones time alone, the last one neither.

    Poolings round up and leave out what lies beyond the edge, like TensorFlow's with SAME padding.
    """
    layers: list[nn.Module] = []
    for i, num_out in enumerate(channels):
        is_last = i == len(channels) - 1
        layers += [
            nn.Conv2d(num_in, num_out, 1 if is_last else 3, padding="same", bias=False),
            nn.BatchNorm2d(num_out, eps=1e-3, momentum=norm_momentum),
            nn.ReLU(),
        ]
        if not is_last:
            layers.append(nn.AvgPool2d(2 if i < 2 else (1, 2), ceil_mode=True))
        num_in = num_out
    return nn.Sequential(*layers)


def fixed_length(waveform: Tensor, mask: Tensor, num_samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut each clip (B, N) to its middle, or put zeros around it; an odd sample falls behind.

    Returns:
        waveform (B, num_samples), its mask, and start (B,): the clip's sample that comes first, negative after zeros.
    """
    lengths = mask.sum(dim=1)
    spare = lengths - num_samples
    start = torch.where(spare >= 0, spare // 2, -(-spare // 2))
    source = start[:, None] + torch.arange(num_samples, device=waveform.device)
    real = (source >= 0) & (source < lengths[:, None])
    return waveform.gather(1, source.clamp(0, waveform.shape[1] - 1)) * real, real, start


def set_gain(waveform: Tensor, mask: Tensor, percentile: float) -> Tensor:
    """Divide each clip (B, N) by that percentile of its |real samples|, then clip to [-1, 1]."""
    below_top = (1 - percentile / 100) * (mask.sum(dim=1) - 1).clamp(min=0)  # places from the loudest sample, (B,)
    reach = min(int((1 - percentile / 100) * mask.shape[1]) + 2, mask.shape[1])
    loudest = waveform.abs().masked_fill(~mask, 0).topk(reach, dim=1).values
    place = below_top.long()[:, None]
    above, below = loudest.gather(1, place), loudest.gather(1, (place + 1).clamp(max=reach - 1))
    gain = torch.lerp(above, below, (below_top[:, None] - place).to(above.dtype))
    return (waveform / (gain + torch.finfo(torch.float64).eps)).clamp(-1, 1)


def only_real_steps(attended: Attended, mask: Tensor) -> Attended:
    """The same verdict, told by fewer steps: what the others say becomes a constant part of each that is left.

    Where no step is left there is no verdict either.
    """
    assert attended.step_logits is not None
    kept = attended.weights * mask
    share = kept.sum(dim=1, keepdim=True)
    weights = kept / share.clamp(min=1e-12)
    others = torch.einsum("bt,btc->bc", attended.weights - kept, attended.step_logits)
    step_logits = (attended.step_logits * share[..., None] + others[:, None]) * mask[..., None]
    pooled = torch.einsum("bt,btd->bd", weights, attended.sequence)
    logits = attended.logits * mask.any(dim=1, keepdim=True)
    return replace(attended, weights=weights, step_logits=step_logits, mask=mask, pooled=pooled, logits=logits)


def init_like_keras(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases in place, the defaults of the library that the authors used."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
