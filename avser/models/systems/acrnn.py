"""ACRNN: 3-D log-mels through convolutions, a BLSTM and attention (Chen et al. 2018).

M. Chen, X. He, J. Yang, H. Zhang: 3-D convolutional recurrent neural networks with attention model for speech emotion
recognition, IEEE Signal Processing Letters 25(10), 2018. The authors' code is that of the repository
xuanjihe/speech-emotion-recognition. Where the two differ, options choose and the docstrings say which is which.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from avser.features.normalization import TrainStatistics, standardize_clip
from avser.features.spectral import log_mel_3d
from avser.models.attention import LinearScore, masked_softmax
from avser.models.backbones import Backbone
from avser.models.segments import Segments, cut_segments, max_of_clips, mean_over_overlaps
from avser.models.system import Criterion, System
from avser.models.temporal import Lstm
from avser.structures import Attended, Batch, Output

POOLINGS = {"paper": (2, 2), "code": (4, 2)}  # bins and frames
LEAK = 0.01


class Acrnn(System):
    """3-D attention-based convolutional recurrent network.

    From the paper: 40 bands, segments of 3 s with the label of their utterance, a convolution of 5 frames by 3 bands
    with 128 maps, max-pooling, five more with 256 maps, leaky ReLUs of slope 0.01, a linear layer of 768 with batch
    normalisation at each step, a BLSTM of 128 cells a direction, attention e_t = w . h_t, a layer of 64 with batch
    normalisation, cross-entropy, and for an utterance the maximum of its segments' posteriors. From the authors' code:
    statistics of each band, the last segment of a longer clip ends with it. Our choices: padding inside a segment gets
    no attention and does not enter the batch normalisation of steps; segments follow one another without overlap but
    for the last; where the clip is longer than a segment, an odd last frame is left out.

    Args:
        pool: "code" pools 2 frames by 4 bands, "paper" 2 by 2, which doubles the linear layer and the time it takes.
        num_convs: 6 was best on IEMOCAP, 5 on EMO-DB (from the paper).
        score: "linear" is the paper's attention; "code" scores a step by u * sigmoid(w . h_t + b), as released.
        slide_back: False fills the last segment of a longer clip up with zeros instead of beginning it earlier.
        segment_s: length of a segment, in seconds.
    """

    has_own_loss = True

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate_hz: int = 16000,
        num_mels: int = 40,
        segment_s: float = 3.0,
        slide_back: bool = True,
        pool: str = "code",
        num_convs: int = 6,
        first_maps: int = 128,
        num_maps: int = 256,
        num_linear: int = 768,
        num_cells: int = 128,
        num_hidden: int = 64,
        score: str = "linear",
    ) -> None:
        super().__init__()
        self.front_end = AcrnnPlanes(sample_rate_hz=sample_rate_hz, num_mels=num_mels)
        self.network = AcrnnNetwork(
            num_classes,
            num_mels=num_mels,
            hop_s=self.front_end.hop_s,
            segment_s=segment_s,
            slide_back=slide_back,
            pool=pool,
            num_convs=num_convs,
            first_maps=first_maps,
            num_maps=num_maps,
            num_linear=num_linear,
            num_cells=num_cells,
            num_hidden=num_hidden,
            score=score,
        )

    def forward(self, batch: Batch) -> Output:
        """Raises ValueError where the batch has no waveform."""
        return self.network(*self.front_end(batch))

    def prepare(self, batches: Iterable[Batch]) -> None:
        self.front_end.fit(batches)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        return self.network.training_loss(output, batch, criterion)


class AcrnnPlanes(nn.Module):
    """Waveforms of mean 0 and variance 1 as 3-D log-mels, each band standardised with the training clips."""

    def __init__(self, *, sample_rate_hz: int, num_mels: int) -> None:
        super().__init__()
        self.log_mel = log_mel_3d(sample_rate_hz, num_mels)
        self.hop_s = self.log_mel.hop_s
        self.statistics = TrainStatistics(3 * num_mels)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """-> planes (B, 3, F, T) and frame_mask (B, T); frame t is centred on t * hop_s."""
        rows, mask = self._rows(batch)
        planes = self.statistics(rows, mask).unflatten(2, (3, -1))  # (B, T, 3, F)
        return planes.permute(0, 2, 3, 1), mask

    def fit(self, batches: Iterable[Batch]) -> None:
        """Take the statistics of the training clips."""
        self.statistics.fit(self._rows(batch) for batch in batches)

    def _rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T, 3 F) before standardisation, and the mask of frames."""
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError("acrnn reads the voice; this batch has no waveform")
        level = standardize_clip(batch.waveform.float()[..., None], batch.waveform_mask)[..., 0]
        planes, mask = self.log_mel(level, batch.waveform_mask)
        return planes.permute(0, 3, 1, 2).flatten(2), mask


class AcrnnNetwork(nn.Module):
    """From standardised planes to the verdict; the arguments are those of `Acrnn`, and hop_s of the planes."""

    def __init__(
        self,
        num_classes: int,
        *,
        num_mels: int,
        hop_s: float,
        segment_s: float,
        slide_back: bool,
        pool: str,
        num_convs: int,
        first_maps: int,
        num_maps: int,
        num_linear: int,
        num_cells: int,
        num_hidden: int,
        score: str,
    ) -> None:
        super().__init__()
        if pool not in POOLINGS or score not in SCORES or num_convs < 1:
            raise ValueError(
                f"pool={pool!r}, score={score!r}, num_convs={num_convs}: pool is one of {', '.join(POOLINGS)}, "
                f"score one of {', '.join(SCORES)}, num_convs at least 1"
            )
        layers: list[nn.Module] = [*_convolution(3, first_maps), nn.MaxPool2d(POOLINGS[pool], ceil_mode=True)]
        for i in range(num_convs - 1):
            layers += _convolution(num_maps if i else first_maps, num_maps)
        self.cnn = Backbone(nn.Sequential(*layers), num_planes=3)
        self.hop_s, self.slide_back, self.stride = hop_s, slide_back, int(self.cnn.stride)
        self.length = self.stride * round(segment_s / hop_s / self.stride)
        if not self.length:
            raise ValueError(f"segment_s={segment_s}: a segment holds at least a step of {self.stride * hop_s:g} s")
        self.linear = nn.Linear(self.cnn.num_channels * self.cnn.num_rows(num_mels), num_linear)
        self.norm = RowNorm(num_linear)
        self.lstm = Lstm(num_linear, num_cells, bidirectional=True)
        self.score = SCORES[score](2 * num_cells)
        self.head = nn.Sequential(
            nn.Linear(2 * num_cells, num_hidden),
            RowNorm(num_hidden),
            nn.LeakyReLU(LEAK),
            nn.Linear(num_hidden, num_classes),
        )

    def forward(self, planes: Tensor, frame_mask: Tensor) -> Output:
        """planes (B, 3, F, T) with frame_mask (B, T) -> the verdict; `extra` holds what each segment said."""
        cut = self._cut(planes, frame_mask)
        features, mask = self.cnn(cut.values, cut.mask)  # (S, maps, F', L)
        assert mask is not None
        steps = self.linear(features.permute(0, 3, 1, 2)[mask].flatten(1))  # (M, linear), of real steps alone
        steps = nn.functional.leaky_relu(self.norm(steps), LEAK)
        sequence = steps.new_zeros(*mask.shape, steps.shape[1])
        sequence[mask] = steps
        hidden = self.lstm(sequence, mask)  # (S, L, D)
        weights = masked_softmax(self.score(hidden), mask)  # (S, L, 1)
        logits = self.head((weights * hidden).sum(dim=1))  # (S, C)
        return Output(
            max_of_clips(logits.float().log_softmax(dim=1), cut.owner, len(planes)),
            {"audio": self._attended(cut, mask, hidden, weights[..., 0], logits, len(planes))},
            {"segment_logits": logits, "segment_owner": cut.owner},
        )

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Every segment learns its utterance's label (from the paper)."""
        return criterion.cross_entropy(output.extra["segment_logits"], batch, output.extra["segment_owner"])

    def _cut(self, planes: Tensor, mask: Tensor) -> Segments:
        lengths = mask.sum(dim=1)
        if self.slide_back:  # segments then begin where a step of the clip begins
            lengths = torch.where(lengths > self.length, lengths - lengths % self.stride, lengths)
        mask = torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
        return cut_segments(planes, mask, self.length, self.length, slide_back=self.slide_back)

    def _attended(
        self, cut: Segments, mask: Tensor, hidden: Tensor, weights: Tensor, logits: Tensor, num_clips: int
    ) -> Attended:
        """On the clip's axis, the attention of the segment that decided; it may be another for each emotion.

        The head is not linear: `step_logits` is what it says of each state alone; None in training, where its batch
        normalisation would count them.
        """
        start = torch.div(cut.start, self.stride, rounding_mode="floor")
        sequence, real = mean_over_overlaps(hidden, mask, cut.owner, start, num_clips)
        log_posteriors = logits.detach().float().log_softmax(dim=1)
        decisive = _first_highest(log_posteriors, cut.owner, num_clips)  # (B, C)
        place = start[decisive][..., None] + torch.arange(mask.shape[1], device=mask.device)  # (B, C, L)
        room = weights.new_zeros(*decisive.shape, int(place.max()) + 1 + real.shape[1])
        class_weights = room.scatter(2, place, weights[decisive])[..., : real.shape[1]].transpose(1, 2)
        mean_weights = class_weights.mean(dim=2)
        step = torch.arange(real.shape[1], device=mask.device, dtype=torch.float32)
        return Attended(
            sequence=sequence,
            weights=mean_weights,
            step_logits=None if self.training else self._step_logits(sequence, real),
            times=((self.cnn.offset + self.cnn.stride * step) * self.hop_s).expand(real.shape),
            mask=real,
            pooled=torch.einsum("bt,btd->bd", mean_weights, sequence.float()),
            logits=max_of_clips(logits.float().log_softmax(dim=1), cut.owner, num_clips),
            class_weights=class_weights,
        )

    def _step_logits(self, sequence: Tensor, mask: Tensor) -> Tensor:
        return self.head(sequence.flatten(0, 1)).unflatten(0, mask.shape) * mask[..., None]


class ReleasedScore(nn.Module):
    """e_t = u * sigmoid(w . h_t + b) with a number u, as in the authors' code."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, 1), nn.Linear(1, 1, bias=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1)"""
        return self.outer(torch.sigmoid(self.inner(sequence)))


SCORES = {"linear": lambda dim: LinearScore(dim, 0, 0), "code": ReleasedScore}


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (M, D); a lone row has no variance and is treated as in use."""

    def forward(self, rows: Tensor) -> Tensor:
        if self.training and len(rows) < 2:
            return nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows)


def _convolution(num_planes: int, num_maps: int) -> list[nn.Module]:
    """3 bands by 5 frames."""
    return [nn.Conv2d(num_planes, num_maps, (3, 5), padding=(1, 2)), nn.LeakyReLU(LEAK)]


def _first_highest(values: Tensor, owner: Tensor, num_clips: int) -> Tensor:
    """(S, D) one row a segment -> (B, D) the number of the clip's segment that has the maximum."""
    is_highest = values == max_of_clips(values, owner, num_clips)[owner]
    order = torch.arange(len(values), device=values.device)[:, None].expand_as(values)
    rank = torch.where(is_highest, order, len(values))
    first = rank.new_full((num_clips, values.shape[1]), len(values))
    return first.scatter_reduce(0, owner[:, None].expand_as(rank), rank, "amin").clamp(max=len(values) - 1)
