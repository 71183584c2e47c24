"""Stacks of frames through a DNN, and an extreme learning machine over the segments' verdicts (2014).

K. Han, D. Yu & I. Tashev, "Speech emotion recognition using deep neural network and extreme learning machine",
Interspeech 2014; the baseline of Lee & Tashev 2015. From a public reimplementation: three layers of 256 units and the
statistics of the segments. Remembered, not verified: segments of 25 frames, of which the loudest tenth is used, 120
units of the extreme learning machine. Our choices: the descriptors of Lee & Tashev, a segment around every frame, ReLU.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from avser.models.system import Criterion
from avser.models.systems.blstm_rv_elm import FrameElm
from avser.structures import AUDIO, Batch, Output


class DnnElm(FrameElm):
    """Descriptors -> 25 frames at a time -> 3 x 256 -> K emotions in each segment -> statistics -> read-out.

    Args:
        stack_frames: frames of a segment, odd; the first and last frame of a clip repeat beyond its ends.
        loudest_share: of a clip's segments, by energy, in training and afterwards.
        hidden, layers: width and number of the hidden layers.

    Raises:
        ValueError: an even number of frames, or a share outside (0, 1].
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int = 16000,
        stack_frames: int = 25,
        loudest_share: float = 0.1,
        hidden: int = 256,
        layers: int = 3,
        readout: str = "elm",
        readout_options: dict[str, Any] | None = None,
        threshold: float = 0.2,
        normalize: str = "train",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            sample_rate_hz=sample_rate_hz,
            readout=readout,
            readout_options=readout_options,
            threshold=threshold,
            normalize=normalize,
        )
        if stack_frames % 2 == 0 or not 0 < loudest_share <= 1:
            raise ValueError(
                f"stack_frames={stack_frames} must be odd and loudest_share={loudest_share} above 0 and at most 1"
            )
        self.stack_frames, self.loudest_share = stack_frames, loudest_share
        self.log_energy = self.front_end.names.index("log_energy")
        widths = [stack_frames * self.front_end.num_features, *[hidden] * layers]
        blocks = [nn.Sequential(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(widths)]
        self.dnn = nn.Sequential(*blocks)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, batch: Batch) -> Output:
        x, mask = self.describe(batch)
        energy = neighbourhood(x[..., self.log_energy, None].exp() * mask[..., None], mask, self.stack_frames)
        kept = loudest(energy.mean(dim=2), mask, self.loudest_share)
        stacks = neighbourhood(self.statistics(x, mask), mask, self.stack_frames)[kept]  # (M, 25 F)
        states = self.dnn(stacks)
        hidden = states.new_zeros(*mask.shape, states.shape[1])
        hidden[kept] = states
        step_logits = self.head(hidden)
        weights = kept.float() / kept.sum(dim=1, keepdim=True).clamp(min=1)
        return self.verdict(hidden, step_logits, weights, kept, {"step_logits": step_logits})

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Cross-entropy of every kept segment with the emotion of its clip."""
        owner, step = output.attended[AUDIO].mask.nonzero(as_tuple=True)
        return criterion.cross_entropy(output.extra["step_logits"][owner, step], batch, owner)


def neighbourhood(x: Tensor, mask: Tensor, width: int) -> Tensor:
    """(B, T, F) -> (B, T, width * F): each frame with those around it; a clip's ends repeat."""
    last = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
    steps = torch.arange(-(width // 2), x.shape[1] + width // 2, device=x.device).clamp(min=0)
    source = torch.minimum(steps.expand(x.shape[0], -1), last)
    long = x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))  # (B, T + width - 1, F)
    return long.unfold(1, width, 1).transpose(2, 3).flatten(2)


def loudest(energy: Tensor, mask: Tensor, share: float) -> Tensor:
    """(B, T) bool: the `share` of a clip's real steps with the highest energy, at least one; of equals the earlier."""
    num_kept = torch.ceil(share * mask.sum(dim=1)).long()
    order = energy.masked_fill(~mask, float("-inf")).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter(1, order, torch.arange(mask.shape[1], device=mask.device).expand_as(order))
    return mask & (rank < num_kept[:, None])
