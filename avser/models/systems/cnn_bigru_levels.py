"""Zhu et al. 2017 (IJCAI): the levels of a CNN, from edges to objects, read one after another by a bidirectional GRU.

From the abstract: emotion in pictures needs low and high levels alike; a CNN of several branches takes features from
every level, a bidirectional recurrent network ties them together, and two losses are learnt at once. From a
reproduction's record of the paper: the weight lambda = 0.5 of the contrastive loss (equation 11), its margin of 1,
batches of 64. Remembered, not verified: a network of AlexNet's shape, eight emotions. Our choice, for the body of the
paper is not available to us: everything else, namely the layers of the branches (1 x 1 convolution to 128, batch
normalisation, ReLU, 4 x 4 means, Linear to 512, ReLU, dropout), a GRU of 256 in each direction, the states of all
levels side by side, the auxiliary verdict of each level, and 64 + 64 pairs a batch.

The paper judges single pictures; that is a clip of one frame here. Over the frames of a face, each frame is judged, and
the clip is the mean of its frames, or their sum under an attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.models.attention import AttentionPooling
from avser.models.backbones import IMAGENET_MEAN, IMAGENET_STD, build_backbone
from avser.models.real_steps import encode_real
from avser.models.system import Criterion, System
from avser.structures import Batch, Output

# Name in torchvision, where its levels end, and their channels; poolings between levels open the next one.
BACKBONES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "alexnet_like": ("alexnet", (2, 5, 8, 10, 12), (64, 192, 384, 256, 256)),
    "resnet18": ("resnet18", (3, 5, 6, 7, 8), (64, 64, 128, 256, 512)),
}
POOLINGS = ("mean", "additive", "linear", "gated", "per_class")


class CnnBigruLevels(System):
    """`cnn_bigru_levels`: per frame, five levels -> branches -> bidirectional GRU over levels -> linear.

    Args:
        backbone: "alexnet_like" (torchvision's shape of it) or "resnet18".
        weights: "none", "imagenet", or the path of a .safetensors file with torchvision's names.
        input_px: side to which pictures are brought.
        branch_channels, branch_grid: of a level's 1 x 1 convolution, and of the means over its plane.
        width: of a level's vector.
        hidden: of the GRU in each direction.
        readout: "all" puts the states of all levels side by side, "ends" those of the first and the last level.
        pooling: of frames: "mean", or an attention.
        contrast_weight, margin, num_pairs: of the contrastive loss; as many pairs of one emotion as of two.
    """

    reads = ("video",)
    face_inputs = ("crops",)

    def __init__(
        self,
        *,
        num_classes: int,
        pretrained: bool = True,
        backbone: str = "alexnet_like",
        weights: str = "none",
        input_px: int = 224,
        branch_channels: int = 128,
        branch_grid: int = 4,
        width: int = 512,
        hidden: int = 256,
        readout: str = "all",
        dropout: float = 0.5,
        pooling: str = "mean",
        attention_hidden: int = 64,
        contrast_weight: float = 0.5,
        margin: float = 1.0,
        num_pairs: int = 64,
    ) -> None:
        super().__init__()
        for name, got, allowed in (
            ("backbone", backbone, tuple(BACKBONES)),
            ("readout", readout, ("all", "ends")),
            ("pooling", pooling, POOLINGS),
        ):
            if got not in allowed:
                raise ValueError(f"{name}={got!r}; take one of {', '.join(allowed)}")
        library_name, self.ends, channels = BACKBONES[backbone]
        self.backbone = build_backbone(
            f"torchvision:{library_name}", weights=weights if pretrained else "none", max_stride=32
        )
        self.branches = nn.ModuleList(_branch(c, branch_channels, branch_grid, width) for c in channels)
        self.dropout = nn.Dropout(dropout)
        self.auxiliary = nn.ModuleList(nn.Linear(width, num_classes) for _ in channels)
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.readout, self.input_px = readout, input_px
        self.dim = 2 * hidden * (len(channels) if readout == "all" else 2)
        self.attention = AttentionPooling(self.dim, num_classes, kind=pooling, hidden=attention_hidden)
        self.contrast_weight, self.margin, self.num_pairs = contrast_weight, margin, num_pairs
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has no face crops.
        """
        if batch.frames is None or batch.frame_mask is None or batch.frame_times is None:
            raise ValueError("this model needs video (face crops); the batch has none")
        mask = batch.frame_mask
        extra: dict[str, Tensor] = {}

        def encode(frames: Tensor) -> Tensor:
            levels = self.encode_levels(frames)  # (M, 5, width)
            if self.training:
                extra.update(levels=levels, owner=mask.nonzero()[:, 0])
            return self._across_levels(levels)

        sequence = encode_real(encode, batch.frames, mask, self.dim)
        attended = self.attention(sequence, mask, batch.frame_times)
        return Output(attended.logits, {"video": attended}, extra)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """(M, 3, H, W) uint8 RGB -> (M, D): what the GRU makes of the levels of each frame."""
        return self._across_levels(self.encode_levels(frames))

    def encode_levels(self, frames: Tensor) -> Tensor:
        """(M, 3, H, W) uint8 RGB -> (M, 5, width), lowest level first, before dropout."""
        if not frames.shape[0]:
            return torch.zeros(0, len(self.ends), self.gru.input_size, device=frames.device)
        images = frames.float() / 255
        if images.shape[-2:] != (self.input_px, self.input_px):
            size = (self.input_px, self.input_px)
            images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        plane, begin, vectors = (images - self.mean) / self.std, 0, []
        layers: nn.Sequential = self.backbone.layers  # type: ignore[assignment]
        for end, branch in zip(self.ends, self.branches, strict=True):
            plane = layers[begin:end](plane)
            vectors.append(branch(plane))
            begin = end
        return torch.stack(vectors, dim=1)

    def _across_levels(self, levels: Tensor) -> Tensor:
        """(M, 5, width) -> (M, D)"""
        if not levels.shape[0]:
            return levels.new_zeros(0, self.dim)
        states, _ = self.gru(self.dropout(levels))  # (M, 5, 2 * hidden)
        return (states if self.readout == "all" else states[:, [0, -1]]).flatten(1)

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Loss of the verdict + mean loss of the levels' own verdicts + lambda * contrastive loss.

        Pairs are clips, for two frames of one clip are alike anyway: a clip's vector is the mean over its frames.
        """
        loss = criterion(output, batch)
        if "levels" not in output.extra:  # no clip has a face
            return loss
        levels, owner = output.extra["levels"], output.extra["owner"]  # (M, 5, width), (M,)
        dropped = self.dropout(levels)
        own = [criterion.cross_entropy(head(dropped[:, i]), batch, owner) for i, head in enumerate(self.auxiliary)]
        loss = loss + torch.stack(own).mean()
        clips, of_clip = owner.unique(return_inverse=True)
        total = levels.new_zeros(len(clips), *levels.shape[1:]).index_add(0, of_clip, levels)
        vectors = total / torch.bincount(of_clip).to(levels.dtype)[:, None, None]
        labels = batch.targets.argmax(dim=1) if batch.targets is not None else batch.labels
        assert labels is not None
        first, second, same = draw_pairs(labels[clips], self.num_pairs)
        return loss + self.contrast_weight * contrastive_loss(vectors[first], vectors[second], same, self.margin)


def contrastive_loss(one: Tensor, other: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of d^2 / 2 for pairs of one emotion and max(0, margin - d)^2 / 2 for others (Hadsell et al. 2006).

    Args:
        one, other: (P, ..., D) vectors, brought to length 1 here; d is the distance between them.
        same: (P,) bool.

    Returns:
        a scalar, 0 where there is no pair.
    """
    if not len(same):
        return one.sum() * 0.0
    one, other = (nn.functional.normalize(x.float(), dim=-1) for x in (one, other))
    square = (one - other).square().sum(dim=-1)  # (P, ...)
    distance = (square + 1e-12).sqrt()  # the root has no slope at 0
    apart = (margin - distance).clamp(min=0).square()
    return 0.5 * torch.where(same.view(-1, *[1] * (square.ndim - 1)), square, apart).mean()


def draw_pairs(labels: Tensor, num_pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Up to `num_pairs` pairs of one emotion and as many of two, at random, each pair once.

    labels (B,) -> first (P,), second (P,), same (P,) bool.
    """
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    same = labels[first] == labels[second]
    kept = []
    for kind in (same, ~same):
        pairs = kind.nonzero()[:, 0]
        kept.append(pairs[torch.randperm(len(pairs), device=labels.device)[:num_pairs]])
    chosen = torch.cat(kept)
    return first[chosen], second[chosen], same[chosen]


def _branch(channels: int, branch_channels: int, grid: int, width: int) -> nn.Module:
    """A level's plane (M, C, H, W) -> its vector (M, width)."""
    return nn.Sequential(
        nn.Conv2d(channels, branch_channels, 1, bias=False),
        nn.BatchNorm2d(branch_channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(),
        nn.Linear(branch_channels * grid * grid, width),
        nn.ReLU(),
    )
