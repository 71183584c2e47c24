"""The reference model: a branch for the voice, a branch for the face, attention over each, and their fusion."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from avser.models.fusion import drop_modalities
from avser.models.system import System
from avser.structures import Attended, Batch, Output


class Recognizer(System):
    """Emotion from voice, face, or both, with the moments that carried it.

    Args:
        branches: modality -> module that maps a Batch to (sequence (B, T, D), mask (B, T), times (B, T)), and says by
            `can_read(batch)` whether the batch has what it reads.
        attentions: modality -> AttentionPooling.
        fusion: from the attended parts to logits (B, C); None for a single modality.
        modality_dropout: share of training clips that lose one modality before the fusion, so that the fused model can
            answer with either alone. The modalities' own verdicts are not touched.
    """

    reads = ("audio", "video")
    face_inputs = ("crops", "features")

    def __init__(
        self,
        branches: Mapping[str, nn.Module],
        attentions: Mapping[str, nn.Module],
        fusion: nn.Module | None,
        *,
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.attentions = nn.ModuleDict(attentions)
        self.fusion = fusion
        self.modality_dropout = modality_dropout

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has none of the model's modalities.
        """
        attended = self.attend(batch)
        if not attended:
            raise ValueError(f"this model needs {' or '.join(self.branches)}; the batch has neither")
        return self.conclude(attended)

    def conclude(self, attended: dict[str, Attended]) -> Output:
        """The verdict from the attended modalities, at least one."""
        if self.fusion is None:
            return Output(next(iter(attended.values())).logits, attended)
        parts = attended
        if self.training and self.modality_dropout > 0:
            parts = drop_modalities(attended, self.modality_dropout)
        return Output(self.fusion(parts), attended)

    def attend(self, batch: Batch) -> dict[str, Attended]:
        """Each modality that the batch has, encoded and attended."""
        return {
            name: self.attentions[name](*branch(batch))
            for name, branch in self.branches.items()
            if branch.can_read(batch)  # type: ignore[operator]
        }
