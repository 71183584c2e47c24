"""Bagging of ACRNNs: members trained on class-balanced bootstraps, majority vote.

The plain ensemble against which Ai et al. 2020 (IEEE Access 8:199909) set theirs; `Acrnn` is the base learner of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from avser.models.bags import balanced_bootstraps
from avser.models.systems.acrnn import Acrnn
from avser.models.voting import VotingEnsemble


class AcrnnBagging(VotingEnsemble):
    """Each member draws, with replacement, as many utterances of each emotion as the rarest has.

    Our choices: this balance, and the number of members, which we could not learn from the paper.

    Args:
        member: options of the members, those of `Acrnn`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        sample_rate_hz: int = 16000,
        num_members: int = 10,
        member: Mapping[str, Any] | None = None,
    ) -> None:
        options = {"sample_rate_hz": sample_rate_hz, **(member or {})}
        super().__init__([Acrnn(num_classes, **options) for _ in range(num_members)])

    def bags(self, labels: Sequence[int], seed: int) -> list[list[int]]:
        return balanced_bootstraps(labels, self.num_stages, torch.Generator().manual_seed(seed))
