"""Features on a common scale: by the statistics of the training clips, or of each clip alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

SHAPES = {"feature": (-1,), "channel": (-1, 1, 1), "bin": (-1, 1)}  # of a statistic, to go along with (B, ...)


class TrainStatistics(nn.Module):
    """Scales features by statistics over the real frames of the training clips; the identity until `fit` was called.

    Chen et al. 2018 standardise their planes with the training set's mean and deviation; min-max by the training set
    is in the code of Zou et al. 2022 (by frequency bin). The statistics are buffers, so a checkpoint holds them.

    Args:
        num_features: how many statistics: F, or K with `per="channel"`.
        mode: "zscore" for mean 0 and deviation 1, or "minmax" for 0 to 1; other clips may leave this range.
        per: "feature" of sequences (B, T, F); "channel" of planes (B, K, F, T), over all bins; "bin" of planes, over
            all channels.

    Attributes:
        mean, std, min, max: (num_features,) float32. The deviation is that of the population; 1 where all frames have
            the same value, which then becomes 0.
    """

    mean: Tensor
    std: Tensor
    min: Tensor
    max: Tensor

    def __init__(self, num_features: int, *, mode: str = "zscore", per: str = "feature") -> None:
        super().__init__()
        if mode not in ("zscore", "minmax"):
            raise ValueError(f"mode={mode!r}; take 'zscore' or 'minmax'")
        if per not in SHAPES:
            raise ValueError(f"per={per!r}; take one of {', '.join(map(repr, SHAPES))}")
        self.num_features, self.mode, self.per = num_features, mode, per
        for name, value in {"mean": 0.0, "std": 1.0, "min": 0.0, "max": 1.0}.items():
            self.register_buffer(name, torch.full((num_features,), value))

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> TrainStatistics:
        """Reads (x, mask) of the training clips once, as a front end gives them, and returns itself.

        Sums are float64, around each batch's own mean, so that neither many frames nor a large mean cost digits.

        Raises:
            ValueError: another number of features, no real frame at all, or values that are not numbers.
        """
        count = 0
        mean = squares = torch.zeros(self.num_features, dtype=torch.float64)
        lowest, highest = torch.full_like(mean, torch.inf), torch.full_like(mean, -torch.inf)
        for x, mask in batches:
            rows = self._rows(x, mask)  # (num_features, values)
            new = rows.shape[1]
            if not new:
                continue
            centre = rows.mean(dim=1)
            step = centre - mean
            squares = (
                squares + (rows - centre[:, None]).square().sum(dim=1) + step.square() * count * new / (count + new)
            )
            mean = mean + step * new / (count + new)
            count += new
            lowest, highest = torch.minimum(lowest, rows.amin(dim=1)), torch.maximum(highest, rows.amax(dim=1))
        if not count:
            raise ValueError("no real frame to take statistics of; pass the clips of the training split")
        if not torch.isfinite(squares).all():
            broken = (~torch.isfinite(squares)).nonzero().flatten().tolist()
            raise ValueError(f"features {broken} hold values that are not finite numbers; look at the front end")
        deviation = torch.where(highest > lowest, (squares / count).sqrt(), 1.0)
        for name, value in {"mean": mean, "std": deviation, "min": lowest, "max": highest}.items():
            self.get_buffer(name).copy_(value)
        return self

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, F) or (B, K, F, T) with mask (B, T) -> the same shape, zero where padded."""
        shape = SHAPES[self.per]
        if self.mode == "zscore":
            x = (x - self.mean.view(shape)) / self.std.view(shape)
        else:
            span = torch.where(self.max > self.min, self.max - self.min, 1.0)
            x = (x - self.min.view(shape)) / span.view(shape)
        return x * (mask[..., None] if x.ndim == 3 else mask[:, None, None, :])

    def _rows(self, x: Tensor, mask: Tensor) -> Tensor:
        """The real values of each feature, channel or bin: (num_features, values) float64 on the CPU."""
        axis = {"feature": 2, "channel": 1, "bin": 2}[self.per]
        wanted = 3 if self.per == "feature" else 4
        if x.ndim != wanted or x.shape[axis] != self.num_features:
            raise ValueError(
                f"features of shape {tuple(x.shape)}: with per={self.per!r}, {wanted} axes are needed "
                f"and {self.num_features} entries in axis {axis}"
            )
        by_frame = x if wanted == 3 else x.permute(0, 3, 1, 2)  # (B, T, ...)
        real = by_frame[mask].detach().to("cpu", torch.float64)  # (frames, F) or (frames, K, F)
        return real.movedim(1 if self.per == "channel" else -1, 0).flatten(1)


class ClipStatistics(nn.Module):
    """`standardize_clip` in the place of `TrainStatistics`: each clip by its own real frames, so nothing is fitted.

    What is constant over a clip, or a clip of one frame, becomes 0. How a speaker or a microphone differs from others
    is gone, and so is how loud or high a whole clip is.
    """

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> ClipStatistics:
        """Reads the clips once, as `TrainStatistics.fit` does, for who counts something along the way."""
        for _ in batches:
            pass
        return self

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, F) with mask (B, T) -> the same shape, zero where padded."""
        return standardize_clip(x, mask)


def build_statistics(normalize: str, num_features: int) -> TrainStatistics | ClipStatistics:
    """How descriptors (B, T, F) come to a common scale.

    Args:
        normalize: "train", mean 0 and deviation 1 over the training clips; "minmax_train", from 0 to 1 over them; or
            "utterance", mean 0 and deviation 1 over each clip.

    Raises:
        ValueError: another word.
    """
    if normalize == "utterance":
        return ClipStatistics()
    modes = {"train": "zscore", "minmax_train": "minmax"}
    if normalize not in modes:
        raise ValueError(f"normalize={normalize!r}; take one of train, minmax_train, utterance")
    return TrainStatistics(num_features, mode=modes[normalize])


def standardize_clip(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 of each feature of each clip over its real frames; constant features become 0.

    x (B, T, F) with mask (B, T) -> the same shape, zero where padded. For planes see `spectral.standardize`.
    """
    real = mask[..., None]
    count = real.sum(dim=1, keepdim=True).clamp(min=1)
    centred = (x - (x * real).sum(dim=1, keepdim=True) / count) * real
    deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
    first = x[:, :1]
    is_constant = ((x == first) | ~real).all(dim=1, keepdim=True)
    return torch.where(is_constant, 0.0, centred / deviation.masked_fill(is_constant, 1.0))
