"""Redagging of ACRNNs: members trained on bags cut from permutations of the clips, majority vote.

X. Ai et al.: Ensemble learning with attention-integrated convolutional recurrent neural network for imbalanced speech
emotion recognition, IEEE Access 8:199909, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from avser.models.bags import permutation_bags
from avser.models.systems.acrnn import Acrnn
from avser.models.voting import VotingEnsemble


class AcrnnRedag(VotingEnsemble):
    """No bag holds an utterance twice, and over all bags every utterance of an emotion is used alike.

    From the paper: bootstrap samples come from permutations of the observations, against their duplication, and the
    members vote. Our choices: how bags are cut from permutations (`permutation_bags`), and the number of members.

    Args:
        bag_size: of each emotion in a bag, "min" as the rarest has, or "median" of the emotions.
        member: options of the members, those of `Acrnn`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate_hz: int = 16000,
        num_members: int = 10,
        bag_size: str = "min",
        member: Mapping[str, Any] | None = None,
    ) -> None:
        if bag_size not in ("min", "median"):
            raise ValueError(f"bag_size={bag_size!r}; take 'min' or 'median'")
        options = {"sample_rate_hz": sample_rate_hz, **(member or {})}
        super().__init__([Acrnn(num_classes, **options) for _ in range(num_members)])
        self.bag_size = bag_size

    def bags(self, labels: Sequence[int], seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return permutation_bags(labels, self.num_stages, generator, size=self.bag_size)
