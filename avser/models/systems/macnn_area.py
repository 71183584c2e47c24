"""A CNN under area attention: every small rectangle of the feature map is something to attend to (Xu et al. 2021).

M. Xu, F. Zhang, X. Cui, W. Zhang: "Speech emotion recognition with multiscale area attention and data augmentation",
ICASSP 2021, arXiv 2102.01813. Sizes, front end, segments and augmentation are from the authors' code
(github.com/lessonxmk/Optimized_attention_for_SER), whose area attention is tensor2tensor's (Li et al. 2019).

The paper describes areas over time and frequency. In the released code areas are runs along time alone, for the library
takes each row of frequency as a head of its own; `mode` chooses. There, dropout also stays on while testing, BatchNorm
is never told that it trains, clips of at most 2 s are left out, and the end of a clip that fills no segment is not
heard; none of that is repeated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avser.features.perturb import vtlp_warp
from avser.features.spectral import LogMel
from avser.models.area_attention import HIDDEN, Areas, area_shares, box_averages, keyed_scores, told_by_maxima
from avser.models.segments import Segments, cut_segments, mean_of_clips, mean_over_overlaps
from avser.models.system import Criterion, System
from avser.models.systems.light_sernet import init_like_keras
from avser.structures import Attended, Batch, Output

MODES = ("2d", "released")
KEYS = ("mean", "max", "sample")
VALUES = ("sum", "mean", "max")


class MacnnArea(System):
    """Segments of 2 s -> log-mels -> CNN -> area attention -> one dense layer -> mean over the segments.

    A clip's verdict is the logarithm of its segments' mean probabilities. What each moment says is read off one step
    earlier, where it is exact: given the attention, a segment's logits are a sum over the cells of its feature map.
    `weights` are each cell's part in all that attention gathers, averaged over segments; `step_logits` add up to the
    mean of the segments' logits, which is `Attended.logits`. Cells beyond a clip's end get no attention (our choice).

    Args:
        mode: "2d" for areas over time and frequency, "released" for runs along time in each row (see above).
        max_height, max_width: largest area, in cells along frequency and time.
        key: what a query is compared with, the "mean" of an area's cells (authors' code), their "max" in each feature,
            or a "sample": their mean and, while training, noise of their deviation. "max" and "sample" are
            tensor2tensor's, and slower.
        value: what an area passes on, the "sum" of its cells (authors' code), their "mean", or their "max" in each
            feature (both tensor2tensor's). A maximum counts as told by the cell that has it; equal cells share it.
        attention_dropout: of the weights of areas, while training.
        segment_s, train_hop_s, hop_s: length of a segment, and from one to the next in training and otherwise.
        num_mels, window_s, spacing_s, log_floor: of the log10 mel spectrogram; the floor is our choice.
        branch_channels, channels: of the two parallel convolutions and of the four that follow.
        vtlp_replicas: copies of each training clip an epoch with another vocal tract length; the authors made up to 7
            beforehand, here each is drawn anew, from `vtlp_range`.
        chunk: segments whose attention is in memory at once; changes no result.
        norm_momentum: of BatchNorm, in PyTorch's sense; Keras calls 0.01 a momentum of 0.99.

    Raises:
        ValueError: a mode, key or value that is not one of these, areas larger than the map, or bands that are not a
            multiple of 4 in number.
    """

    has_own_loss = True

    def __init__(
        self,
        num_classes: int,
        sample_rate_hz: int = 16000,
        *,
        mode: str = "2d",
        max_height: int = 3,
        max_width: int = 3,
        key: str = "mean",
        value: str = "sum",
        attention_dropout: float = 0.5,
        segment_s: float = 2.0,
        train_hop_s: float = 1.0,
        hop_s: float = 0.4,
        num_mels: int = 128,
        window_s: float = 0.050,
        spacing_s: float = 0.025,
        log_floor: float = 1e-10,
        branch_channels: int = 16,
        channels: tuple[int, int, int, int] = (32, 48, 64, 80),
        vtlp_replicas: int = 0,
        vtlp_range: tuple[float, float] = (0.8, 1.2),
        chunk: int = 4,
        norm_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        _check(("mode", mode, MODES), ("key", key, KEYS), ("value", value, VALUES))
        self.log_mel = log10_mel(sample_rate_hz, num_mels, window_s, spacing_s, log_floor)
        self.sample_rate_hz = sample_rate_hz
        self.vtlp_replicas, self.vtlp_range = vtlp_replicas, vtlp_range

        self.cnn = MapCnn(branch_channels, channels, norm_momentum)
        self._lay_grid(num_mels, (segment_s, train_hop_s, hop_s))

        self._lay_areas(mode, max_height, max_width)
        self.key, self.value = key, value
        self.attention_dropout, self.chunk = attention_dropout, chunk

        self.head = nn.Linear(self.num_rows * self.num_steps * channels[-1], num_classes)
        init_like_keras(self)

    def _lay_grid(self, num_mels: int, seconds: tuple[float, float, float]) -> None:
        """The feature map of a segment: both branches' rows of a quarter of the bands, and steps of four frames.

        Args:
            seconds: length of a segment, and from one to the next in training and otherwise.
        """
        if num_mels % 4:
            raise ValueError(f"num_mels={num_mels}; take a multiple of 4")
        self.num_rows = 2 * num_mels // 4
        self.samples_per_step = 4 * self.log_mel.hop_length  # two poolings by two
        self.step_s = self.samples_per_step / self.sample_rate_hz
        self.offset_s = 1.5 * self.log_mel.hop_s
        self.num_steps, self.train_hop, self.hop = (max(1, round(s / self.step_s)) for s in seconds)

    def _lay_areas(self, mode: str, max_height: int, max_width: int) -> None:
        """Rectangles over the whole map, or runs along time in each row as a head of its own."""
        self.heads = self.num_rows if mode == "released" else 1
        self.max_area = (1 if mode == "released" else max_height, max_width)
        if self.max_area[0] > self.num_rows or max_width > self.num_steps:
            raise ValueError(f"areas of {max_height} x {max_width} in a map of {self.num_rows} x {self.num_steps}")

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has no voice.
        """
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("macnn_area needs the voice; this batch has no waveform")
        segments, num_samples = self.cut(batch.waveform, batch.waveform_mask), batch.waveform_mask.sum(dim=1)
        cells = self.cnn(self.pictures(segments, len(batch))).permute(0, 2, 3, 1)  # (S, H, W, D)
        segments.mask = self.real_steps(segments, num_samples)
        gathered, evidence = self.attend(cells, segments.mask)  # (S, H, W), (S, W, C)
        segment_logits = evidence.sum(dim=1) + self.head.bias
        probabilities = mean_of_clips(segment_logits.softmax(dim=1), segments.owner, len(batch))
        attended = self.on_the_clips_axis(cells, gathered, evidence, segment_logits, segments, len(batch))
        extra = {"segment_logits": segment_logits, "owner": segments.owner}
        return Output(probabilities.clamp(min=1e-12).log(), {"audio": attended}, extra)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Every segment has the emotion of its clip."""
        return criterion.cross_entropy(output.extra["segment_logits"], batch, output.extra["owner"])

    def stage_clips(self, labels: Sequence[int], stage: int, seed: int) -> list[int] | None:
        """Each clip once as it is and `vtlp_replicas` times warped, on average."""
        return list(range(len(labels))) * (1 + self.vtlp_replicas) if self.vtlp_replicas else None

    def cut(self, waveform: Tensor, mask: Tensor) -> Segments:
        """Segments of whole steps, so that what they say falls on one grid: values (S, samples a step, W)."""
        short = -waveform.shape[1] % self.samples_per_step
        waveform, mask = nn.functional.pad(waveform * mask, (0, short)), nn.functional.pad(mask, (0, short))
        steps = waveform.unflatten(1, (-1, self.samples_per_step)).transpose(1, 2)
        begun = mask.unflatten(1, (-1, self.samples_per_step)).any(dim=2)
        return cut_segments(steps, begun, self.num_steps, self.train_hop if self.training else self.hop)

    def pictures(self, segments: Segments, num_clips: int) -> Tensor:
        """(S, 1, F, T) log-mels of each segment by itself, under another vocal tract while training if so asked."""
        waveform = segments.values.transpose(1, 2).flatten(1)
        # One more sample gives librosa's last frame, centred where the segment ends.
        waveform = nn.functional.pad(waveform, (0, 1))
        real = torch.ones_like(waveform, dtype=torch.bool)
        if not (self.training and self.vtlp_replicas):
            return self.log_mel.log_mel(waveform, real)[:, None]
        low, high = self.vtlp_range
        factor = low + (high - low) * torch.rand(num_clips, device=waveform.device)
        warped = torch.rand(num_clips, device=waveform.device) * (1 + self.vtlp_replicas) >= 1
        factor = torch.where(warped, factor, 1.0)[segments.owner]
        power = self.log_mel.frames(waveform, real).abs().square().transpose(1, 2)
        power = vtlp_warp(power, factor, sample_rate_hz=self.sample_rate_hz)
        return torch.log10(self.log_mel.filters.T @ power + self.log_mel.log_floor)[:, None]

    def real_steps(self, segments: Segments, num_samples: Tensor) -> Tensor:
        """(S, W) whether the centre of a step lies inside its clip; the first step always does."""
        step = segments.start[:, None] + torch.arange(self.num_steps, device=segments.start.device)
        centre = (step * self.step_s + self.offset_s) * self.sample_rate_hz
        length = num_samples[segments.owner][:, None]
        return ((centre < length) | (step == 0)) & (length > 0)

    def attend(self, cells: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Chunk by chunk; scores of all cells against all areas would not fit into memory at once, so the backward pass
        computes them again.

        Args:
            cells: (S, H, W, D), mask: (S, W).

        Returns:
            (S, H, W) how much of each cell attention gathers, and (S, W, C) what that adds to the segment's logits.
        """
        parts = []
        for some, real in zip(cells.split(self.chunk), mask.split(self.chunk), strict=True):
            if torch.is_grad_enabled():
                parts.append(checkpoint(self._attend_chunk, some, real, use_reentrant=False))
            else:
                parts.append(self._attend_chunk(some, real))
        gathered, evidence = zip(*parts, strict=True)
        return torch.cat(gathered), torch.cat(evidence)

    def _attend_chunk(self, cells: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        cells = cells.unflatten(1, (self.heads, -1))  # (S, G, H, W, D), attention within each of the G heads
        queries = cells.flatten(2, 3)  # (S, G, Q, D)
        if self.key == "mean" or (self.key == "sample" and not self.training):
            scores = torch.einsum("sghwd,sgqd->sghwq", cells, queries).float()
            scores = scores.masked_fill(~mask[:, None, None, :, None], HIDDEN)
            areas: Iterable[Areas] = box_averages(scores, *self.max_area)
        else:
            areas = keyed_scores(cells, queries, mask, *self.max_area, key=self.key)
        dropout = self.attention_dropout if self.training else 0.0
        asked = mask[:, None, None, :].expand(-1, self.heads, cells.shape[2], -1).flatten(2)  # (S, G, Q)
        if self.value == "max":
            dense = self.head.weight.view(-1, self.heads, *queries.shape[2:])  # (C, G, Q, D)
            gathered, evidence = told_by_maxima(areas, cells, dense, asked, dropout=dropout)
            return gathered.flatten(1, 2), evidence
        shares = area_shares(areas, cells, value=self.value, dropout=dropout)
        shares = shares * asked[:, :, None, None]
        # Not summed over the columns w yet: what each of them sends to each query.
        sent = torch.einsum("sghwq,sghwd->swgqd", shares, cells)
        evidence = sent.flatten(2) @ self.head.weight.T
        return shares.sum(dim=-1).flatten(1, 2), evidence

    def on_the_clips_axis(
        self,
        cells: Tensor,
        gathered: Tensor,
        evidence: Tensor,
        segment_logits: Tensor,
        segments: Segments,
        num_clips: int,
    ) -> Attended:
        """The map's two halves, one of each parallel convolution, are laid on each other: 32 bands from low to high."""
        owner, start = segments.owner, segments.start
        total = gathered.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        bands = (gathered / total).unflatten(1, (2, -1)).sum(dim=1)  # (S, F, W)
        by_cell, mask = mean_over_overlaps(bands.transpose(1, 2), segments.mask, owner, start, num_clips)
        sequence, _ = mean_over_overlaps(cells.mean(dim=1), segments.mask, owner, start, num_clips)
        spoken, _ = mean_over_overlaps(evidence, segments.mask, owner, start, num_clips)
        # From the mean over the segments at a step to the sum over them, and then the mean over the clip's segments.
        held = segments_at(segments, num_clips, mask.shape[1])
        per_clip = torch.bincount(owner, minlength=num_clips).clamp(min=1)[:, None]
        share = (held / per_clip)[..., None].to(spoken.dtype)
        area_map, contribution = by_cell * share, spoken * share
        weights = area_map.sum(dim=2)  # (B, T)
        step_logits = contribution / weights.clamp(min=1e-12)[..., None] + self.head.bias
        times = torch.arange(mask.shape[1], device=mask.device) * self.step_s + self.offset_s
        return Attended(
            sequence=sequence,
            weights=weights,
            step_logits=step_logits * mask[..., None],
            times=times.expand(mask.shape),
            mask=mask,
            pooled=torch.einsum("bt,btd->bd", weights, sequence),
            logits=mean_of_clips(segment_logits, owner, num_clips),
            map=area_map.transpose(1, 2),
        )


class MapCnn(nn.Module):
    """Two convolutions, one long in frequency and one long in time, stacked along frequency, and four more."""

    def __init__(self, branch_channels: int, channels: tuple[int, int, int, int], norm_momentum: float) -> None:
        super().__init__()

        def block(num_in: int, num_out: int, kernel: tuple[int, int], pool: bool = False) -> nn.Sequential:
            norm = nn.BatchNorm2d(num_out, eps=1e-3, momentum=norm_momentum)  # Keras' defaults
            rows, columns = kernel  # an even kernel reaches one cell further behind, as in TensorFlow
            edge = nn.ZeroPad2d(((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2))
            layers = [edge, nn.Conv2d(num_in, num_out, kernel), norm, nn.ReLU()]
            return nn.Sequential(*layers, *[nn.MaxPool2d(2)] * pool)

        first, second, third, fourth = channels
        self.tall, self.wide = block(1, branch_channels, (10, 2)), block(1, branch_channels, (2, 8))
        self.deeper = nn.Sequential(
            block(branch_channels, first, (3, 3), pool=True),
            block(first, second, (3, 3), pool=True),
            block(second, third, (3, 3)),
            block(third, fourth, (3, 3)),
        )

    def forward(self, planes: Tensor) -> Tensor:
        """(S, 1, F, T) -> (S, D, F / 2, T / 4)"""
        return self.deeper(torch.cat([self.tall(planes), self.wide(planes)], dim=2))


def segments_at(segments: Segments, num_clips: int, num_steps: int) -> Tensor:
    """(B, T) how many segments hold each step of their clips."""
    place = segments.start[:, None] + torch.arange(segments.mask.shape[1], device=segments.start.device)
    flat = (segments.owner[:, None] * num_steps + place)[segments.mask]
    return torch.bincount(flat, minlength=num_clips * num_steps).view(num_clips, num_steps)


def log10_mel(sample_rate_hz: int, num_mels: int, window_s: float, spacing_s: float, log_floor: float) -> LogMel:
    """librosa's mel spectrogram up to half the sampling rate, its common logarithm, on no other scale."""
    return LogMel(
        sample_rate_hz=sample_rate_hz,
        num_mels=num_mels,
        window_s=window_s,
        hop_s=spacing_s,
        min_hz=0.0,
        max_hz=sample_rate_hz / 2,
        mel_scale="slaney",
        log="log10",
        log_floor=log_floor,
        fft_length=round(window_s * sample_rate_hz),
        normalize="none",
        num_channels=1,
    )


def _check(*options: tuple[str, str, Sequence[str]]) -> None:
    for name, got, allowed in options:
        if got not in allowed:
            raise ValueError(f"{name}={got!r}; take one of {', '.join(allowed)}")
