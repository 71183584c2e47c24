"""AlexNet on log-mel segments, then a BLSTM with attention over the segments of a clip (Zhang et al. 2021).

Hua Zhang, Ruoyun Gou, Jili Shang, Fangyao Shen, Yifan Wu, Guojun Dai: Pre-trained deep convolution neural network model
with attention for speech emotion recognition, Frontiers in Physiology 12:643202. From the paper (its abstract and
figure 1): three-channel log-mel segments of 64x64, resized to 227x227 for AlexNet, whose 4096 features a segment go
through a BLSTM, attention and a DNN; UAR 87.86 on EMO-DB, 68.50 on IEMOCAP. From two independent reimplementations that
agree: pre-emphasis 0.97, 64 bands from 20 to 8000 Hz, 25 ms windows every 10 ms, segments of 64 frames every 32, clips
of 3 s (8 segments), 128 units a direction, scaled dot-product self-attention. Everything else is our choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.features.spectral import log_mel_3d
from avser.models.attention import masked_softmax
from avser.models.backbones import IMAGENET_MEAN, IMAGENET_STD, build_backbone, build_image_model
from avser.models.segments import Segments, cut_segments, mean_of_clips
from avser.models.system import Criterion, System
from avser.models.temporal import run_recurrent
from avser.structures import AUDIO, Attended, Batch, Output

LENGTHS = ("clip", "fixed")


class DcnnBlstmAttention(System):
    """Stage 1 fine-tunes the CNN on segments under their clip's label; stage 2 freezes it and trains the sequence.

    With AlexNet and 7 emotions there are 57.0 M weights in the CNN and 4.8 M behind it. A segment of 227x227 costs
    0.7 billion multiplications, a clip of 3 s eight times that; `image_px` is the way to make it cheaper.

    Args:
        backbone: "torchvision:alexnet" with its classifier up to the second layer of 4096 before its ReLU, or another
            image CNN of `build_backbone`, whose last map is averaged.
        weights: "none", "imagenet" (downloaded), or the path of a .safetensors file.
        num_mels, segment_frames, segment_hop: of the segments; a step of the result is every 320 ms, 640 ms wide.
        image_px: side that a segment is resized to.
        length: "clip" reads all of a clip of any length, its last segment slid back to end with it, and "fixed" cuts or
            fills it with silence to `num_segments`, as the reimplementations do (8: 2.88 s).
        hidden: of the BLSTM, a direction.
        attention_dim: of queries, keys and values.
        dnn: widths of the layers between attention and verdict; the first is followed by `dropout`.

    Raises:
        ConfigError: an unknown name, or weights that cannot be had.
    """

    num_stages = 2
    has_own_loss = True

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = 16000,
        pretrained: bool = True,
        *,
        backbone: str = "torchvision:alexnet",
        weights: str = "none",
        num_mels: int = 64,
        segment_frames: int = 64,
        segment_hop: int = 32,
        image_px: int = 227,
        length: str = "clip",
        num_segments: int = 8,
        hidden: int = 128,
        attention_dim: int = 256,
        dnn: tuple[int, int] = (512, 256),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if length not in LENGTHS:
            raise ConfigError(f"length={length!r}: take {' or '.join(LENGTHS)}")
        self.spectrogram = log_mel_3d(sample_rate_hz, num_mels)
        self.segment_frames, self.segment_hop, self.image_px = segment_frames, segment_hop, image_px
        self.num_frames = segment_frames + (num_segments - 1) * segment_hop if length == "fixed" else None
        self.backbone = SegmentCnn(backbone, weights if pretrained else "none")
        self.segment_head = nn.Linear(self.backbone.dim, num_classes)
        self.blstm = nn.LSTM(self.backbone.dim, hidden, batch_first=True, bidirectional=True)
        self.query, self.value = (nn.Linear(2 * hidden, attention_dim) for _ in range(2))
        self.key = nn.Linear(2 * hidden, attention_dim, bias=False)  # a bias would drop out of the softmax
        self.dnn = nn.Sequential(
            nn.Linear(attention_dim, dnn[0]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dnn[0], dnn[1]),
            nn.ReLU(),
            nn.Linear(dnn[1], num_classes),
        )
        self.enter_stage(0)

    def enter_stage(self, stage: int) -> None:
        """0: the CNN and its segment head learn; 1 and later: what comes after them does, and judges."""
        self.on_segments = stage == 0
        first: list[nn.Module] = [self.backbone, self.segment_head]
        for part in self.children():
            part.requires_grad_((part in first) == self.on_segments)
        self.train(self.training)

    def train(self, mode: bool = True) -> DcnnBlstmAttention:
        """The frozen CNN has neither dropout nor moving statistics."""
        super().train(mode)
        if not self.on_segments:
            self.backbone.eval()
            self.segment_head.eval()
        return self

    def forward(self, batch: Batch) -> Output:
        """In stage 1 the verdict is the mean of the segments', which are under "segment_logits" and "owner"."""
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("dcnn_blstmwa reads the voice: this batch has no waveform")
        segments = self.segments(batch.waveform, batch.waveform_mask)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.on_segments):
            features = self.backbone(self.pictures(segments))  # (S, D)
        present = batch.waveform_mask.any(dim=1)
        place, mask = _places(segments.owner, present)
        times = _onto(self._centres(segments)[:, None], segments.owner, place, mask)[..., 0]
        sequence = _onto(features, segments.owner, place, mask)  # (B, T, D)
        if not self.on_segments:
            attended = self.attend(sequence, mask, times)
            return Output(attended.logits, {AUDIO: attended})
        logits = self.segment_head(features)
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        clip_logits = mean_of_clips(logits, segments.owner, len(batch)) * present[:, None]
        step_logits = _onto(logits, segments.owner, place, mask)
        pooled = torch.einsum("bt,btd->bd", weights, sequence)
        attended = Attended(sequence, weights, step_logits, times, mask, pooled, clip_logits)
        real = present[segments.owner]
        parts = {"segment_logits": logits[real], "owner": segments.owner[real]}
        return Output(clip_logits, {AUDIO: attended}, parts)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Stage 1: every segment has its clip's emotion to tell; stage 2: the clip has."""
        if not self.on_segments:
            return criterion(output, batch)
        return criterion.cross_entropy(output.extra["segment_logits"], batch, output.extra["owner"])

    def segments(self, waveform: Tensor, waveform_mask: Tensor) -> Segments:
        """(B, N) samples -> values (S, 3, F, L) in [0, 1], each channel's least to largest value over its clip."""
        if self.num_frames is not None:
            num_samples = self.num_frames * self.spectrogram.hop_length
            fill = (0, num_samples - waveform.shape[1])  # negative cuts
            waveform = nn.functional.pad(waveform * waveform_mask, fill)
            waveform_mask = waveform_mask.any(dim=1, keepdim=True).expand_as(waveform)
        planes, frame_mask = self.spectrogram(waveform, waveform_mask)
        real = frame_mask[:, None, None, :]
        lowest = planes.masked_fill(~real, float("inf")).amin(dim=(2, 3), keepdim=True)
        highest = planes.masked_fill(~real, float("-inf")).amax(dim=(2, 3), keepdim=True)
        level = torch.where(real, (planes - lowest) / (highest - lowest).clamp(min=1e-6), 0.0)
        return cut_segments(level, frame_mask, self.segment_frames, self.segment_hop)

    def pictures(self, segments: Segments) -> Tensor:
        """(S, 3, image_px, image_px), with the mean and deviation of ImageNet."""
        images = segments.values
        size = (self.image_px, self.image_px)
        if images.shape[-2:] != size:
            images = nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (images - mean) / std

    def attend(self, sequence: Tensor, mask: Tensor, times: Tensor) -> Attended:
        """sequence (B, T, D) of segments -> the verdict of BLSTM, self-attention and DNN.

        A = softmax(Q K^T / sqrt(d)), c = the mean over queries of A V: a weighted sum of the values, in which step t
        has the mean of column t of A as its weight. The DNN behind it leaves no exact evidence of single steps.
        """
        hidden = run_recurrent(self.blstm, sequence, mask) * mask[..., None]
        query, key, value = self.query(hidden), self.key(hidden), self.value(hidden)
        scores = key @ query.transpose(1, 2) / query.shape[2] ** 0.5  # (B, T of keys, T of queries)
        shares = masked_softmax(scores, mask) * mask[:, None, :]
        weights = shares.sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        pooled = torch.einsum("bt,btd->bd", weights, value)
        logits = self.dnn(pooled) * mask.any(dim=1, keepdim=True)
        return Attended(value * mask[..., None], weights, None, times, mask, pooled, logits)

    def _centres(self, segments: Segments) -> Tensor:
        """(S,) seconds of the middle of what is real of each segment."""
        middle = segments.start + (segments.mask.sum(dim=1).clamp(min=1) - 1) / 2
        return middle * self.spectrogram.hop_s + self.spectrogram.offset_s


class SegmentCnn(nn.Module):
    """Pictures (S, 3, H, W) -> features (S, D)."""

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        if name == "torchvision:alexnet":
            alexnet: Any = build_image_model("alexnet", weights=weights)
            if weights == "none":
                _start_anew(alexnet)
            # Features, pooling to 6 x 6, and the classifier without its last ReLU and layer.
            self.layers = nn.Sequential(alexnet.features, alexnet.avgpool, nn.Flatten(), *alexnet.classifier[:5])
            self.dim = 4096
        else:
            cnn = build_backbone(name, weights=weights, max_stride=32)
            self.layers = nn.Sequential(cnn.layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.dim = cnn.num_channels

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


def _start_anew(network: nn.Module) -> None:
    """Convolutions as He et al. 2015 proposed: PyTorch's own fade away. The wide layers keep theirs, which are tame."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _places(owner: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Where in its clip's row each of the segments (S,) goes, and the mask (B, T) of these rows."""
    count = torch.bincount(owner, minlength=len(present))
    first = count.cumsum(0) - count
    place = torch.arange(len(owner), device=owner.device) - first[owner]
    steps = torch.arange(int(count.max()), device=owner.device)
    return place, (steps < count[:, None]) & present[:, None]


def _onto(values: Tensor, owner: Tensor, place: Tensor, mask: Tensor) -> Tensor:
    """(S, D) one row a segment -> (B, T, D), zero where there is none."""
    rows = values.new_zeros(*mask.shape, values.shape[1])
    return rows.index_put((owner, place), values) * mask[..., None]
