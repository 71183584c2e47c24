"""The clips whose voices and faces may stand in for another's, and who is drawn for whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from avser.errors import ConfigError
from avser.structures import Batch


@dataclass
class ClipPool:
    """N clips of one part of a split, each with all that the model reads.

    Attributes:
        clip_ids, speakers: N names.
        labels: (N,) index of the emotion.
        read: the clips with these indices, as one batch.
    """

    clip_ids: list[str]
    speakers: list[str]
    labels: list[int]
    read: Callable[[Sequence[int]], Batch]

    def partner(self, clip_id: str, label: int, speaker: str, generator: torch.Generator, *, same: bool) -> int:
        """Index of another clip of the same emotion, or of another one; by another speaker where there is one.

        Raises:
            ConfigError: there is no such clip.
        """
        found = self._apart(
            [i for i, name in enumerate(self.clip_ids) if name != clip_id and (self.labels[i] == label) == same],
            speaker,
        )
        if not found:
            words = "of its emotion" if same else "of another emotion"
            raise ConfigError(f"{clip_id}: the split has no other clip {words}, with all that the model reads, to swap")
        return found[int(torch.randint(len(found), (), generator=generator))]

    def talkers(self, clip_id: str, speaker: str, num_talkers: int, generator: torch.Generator) -> list[int]:
        """Indices of at most so many other clips, each once; of other speakers where there are any.

        Raises:
            ConfigError: there is no other clip.
        """
        found = self._apart([i for i, name in enumerate(self.clip_ids) if name != clip_id], speaker)
        if not found:
            raise ConfigError(f"{clip_id}: the split has no other clip whose voice could be heard behind it")
        order = torch.randperm(len(found), generator=generator)[:num_talkers]
        return [found[int(i)] for i in order]

    def speaker_of(self, clip_id: str) -> str:
        """Empty for a clip that is not in the pool."""
        return self._speakers.get(clip_id, "")

    @cached_property
    def feature_deviation(self) -> Tensor:
        """(F,) standard deviation of every face feature over all real steps of all clips.

        Raises:
            ConfigError: no clip has face features.
        """
        values = []
        for i in range(len(self.clip_ids)):
            batch = self.read([i])
            if batch.face_features is not None and batch.feature_mask is not None:
                values.append(batch.face_features[batch.feature_mask])
        if not values:
            raise ConfigError("no clip of the split has face features")
        return torch.cat(values).double().std(dim=0, correction=0).float()

    @cached_property
    def _speakers(self) -> dict[str, str]:
        return dict(zip(self.clip_ids, self.speakers, strict=True))

    def _apart(self, indices: list[int], speaker: str) -> list[int]:
        return [i for i in indices if self.speakers[i] != speaker] or indices
