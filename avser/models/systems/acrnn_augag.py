"""Augagging of ACRNNs: Redagging with one more member that has heard everything, oversampled; majority vote.

X. Ai et al.: Ensemble learning with attention-integrated convolutional recurrent neural network for imbalanced speech
emotion recognition, IEEE Access 8:199909, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from avser.models.bags import oversample, permutation_bags
from avser.models.systems.acrnn import Acrnn
from avser.models.voting import VotingEnsemble


class AcrnnAugag(VotingEnsemble):
    """The last member learns from all utterances, those of rarer emotions repeated; the others from Redagging's bags.

    From the paper: an oversampling learner takes part in the majority vote, for bags lack the whole picture. Our
    choices: how bags are cut (`permutation_bags`), the number of members, the oversampling one among them, and that
    it repeats utterances up to the number of the commonest emotion.

    Args:
        bag_size: of each emotion in a bag, "min" as the rarest has, or "median" of the emotions.
        oversampler_votes: votes of the last member.
        member: options of the members, those of `Acrnn`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate_hz: int = 16000,
        num_members: int = 10,
        bag_size: str = "min",
        oversampler_votes: int = 1,
        member: Mapping[str, Any] | None = None,
    ) -> None:
        if bag_size not in ("min", "median") or num_members < 2:
            raise ValueError(
                f"bag_size={bag_size!r}, num_members={num_members}: take 'min' or 'median', and at least 2 members"
            )
        options = {"sample_rate_hz": sample_rate_hz, **(member or {})}
        super().__init__(
            [Acrnn(num_classes, **options) for _ in range(num_members)],
            member_votes=[1] * (num_members - 1) + [oversampler_votes],
        )
        self.bag_size = bag_size

    def bags(self, labels: Sequence[int], seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        bags = permutation_bags(labels, self.num_stages - 1, generator, size=self.bag_size)
        return [*bags, oversample(range(len(labels)), labels, generator)]
