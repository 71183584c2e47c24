"""The face branch: from face crops, or from features that another program measured, to a sequence of steps in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from avser.models.real_steps import encode_real
from avser.structures import Batch


class VideoBranch(nn.Module):
    """CNN on every face crop, then a sequence encoder: the CNN-RNN of audio-visual emotion recognition.

    The feature map is pooled to a coarse grid rather than to one vector, so that mouth and brows stay apart; crops are
    aligned, so a grid cell is a place in the face (our choice).

    With `baseline="clip"` the clip's usual face is taken away from each frame: what is left is expression rather than
    identity, as OpenFace calibrates action units by the person's median (Baltrusaitis et al. 2015). It suits clips that
    change; where one expression fills most of the clip it would take that away too, so it is not the default.
    """

    modality = "video"

    def __init__(
        self,
        backbone: Backbone,
        temporal: nn.Module,
        *,
        dim: int,
        dropout: float,
        grid: int = 4,
        baseline: str = "none",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.project = nn.Linear(backbone.num_channels * grid * grid, dim)
        self.dropout = nn.Dropout(dropout)
        self.temporal = temporal
        self.dim = dim
        self.baseline = baseline
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def can_read(self, batch: Batch) -> bool:
        return batch.frames is not None

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """
        Returns:
            sequence (B, T, D), mask (B, T) and times (B, T) in seconds.
        """
        assert batch.frames is not None
        assert batch.frame_mask is not None
        assert batch.frame_times is not None
        mask = batch.frame_mask
        sequence = encode_real(self.encode_frames, batch.frames, mask, self.dim)
        if self.baseline == "clip":
            sequence = (sequence - usual_face(sequence, mask)) * mask[..., None]
        sequence = self.dropout(torch.relu(sequence))
        return self.temporal(sequence, mask), mask, batch.frame_times

    def encode_frames(self, frames: Tensor) -> Tensor:
        """(M, 3, H, W) uint8 RGB -> (M, D)."""
        images = (frames.float() / 255 - self.mean) / self.std
        features, _ = self.backbone(images)
        return self.project(self.pool(features).flatten(1))


class FeatureBranch(nn.Module):
    """Face features made elsewhere (such as OpenFace's action units), then a sequence encoder.

    Each feature is standardised by the training clips (batch normalisation over real steps, whose running statistics
    serve afterwards), for action units come on different scales. A clip with one row is a sequence of one step.
    """

    modality = "video"

    def __init__(self, num_features: int, temporal: nn.Module, *, dim: int, dropout: float, baseline: str) -> None:
        super().__init__()
        self.num_features = num_features
        self.norm = nn.BatchNorm1d(num_features)
        self.project = nn.Linear(num_features, dim)
        self.dropout = nn.Dropout(dropout)
        self.temporal = temporal
        self.dim = dim
        self.baseline = baseline

    def can_read(self, batch: Batch) -> bool:
        return batch.face_features is not None

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """
        Returns:
            sequence (B, T, D), mask (B, T) and times (B, T) in seconds.

        Raises:
            ConfigError: the features are not as many as the branch was built for.
        """
        assert batch.face_features is not None
        assert batch.feature_mask is not None
        assert batch.feature_times is not None
        features, mask = batch.face_features, batch.feature_mask
        if features.shape[-1] != self.num_features:
            raise ConfigError(
                f"the clips have {features.shape[-1]} face features a step, the model reads {self.num_features}; set "
                f"model.video.num_features={features.shape[-1]}, or choose columns by media.face_features"
            )
        if self.baseline == "clip":
            features = features - usual_face(features, mask)
        sequence = encode_real(self._encode, features, mask, self.dim).to(features.dtype)
        return self.temporal(sequence, mask), mask, batch.feature_times

    def _encode(self, real: Tensor) -> Tensor:
        """(M, F) -> (M, D), of real steps alone: in training they are what is standardised by."""
        if not self.training or len(real) > 1:  # a single step has no spread to standardise by
            real = self.norm(real)
        return self.dropout(torch.relu(self.project(real)))


def usual_face(sequence: Tensor, mask: Tensor) -> Tensor:
    """(B, 1, D): each feature's median over the real steps; 0 for a clip without any.

    The median and not the mean: a mean carries some of a short expression, and taking it away would print the
    expression's negative on every neutral frame.
    """
    median = sequence.masked_fill(~mask[..., None], float("nan")).nanmedian(dim=1, keepdim=True).values
    return median.nan_to_num()
