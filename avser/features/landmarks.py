"""The face as a shape: 68 points of the face mesh, freed of place, size and tilt, and how they move."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Points of the face mesh in the order of the iBUG 300-W annotation (Sagonas et al. 2013), left and right as seen in the
# picture. Published conversions differ by a mesh point here and there; this list is our choice: one mesh point for
# each, both halves mirror images of each other in the mesh, checked by eye on real faces.
IBUG_68 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),  # 0-16 jaw
    *(70, 63, 105, 66, 107),  # 17-21 left brow
    *(336, 296, 334, 293, 300),  # 22-26 right brow
    *(168, 197, 5, 4),  # 27-30 bridge of the nose
    *(98, 97, 2, 326, 327),  # 31-35 nostrils
    *(33, 160, 158, 133, 153, 144),  # 36-41 left eye
    *(362, 385, 387, 263, 373, 380),  # 42-47 right eye
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),  # 48-59 outer lips
    *(78, 81, 13, 311, 308, 402, 14, 178),  # 60-67 inner lips
)
SMALLEST_PX = 1e-3  # a face whose points are closer together than this has no shape


class AlignedLandmarks(nn.Module):
    """68 points laid over the mean face of the training clips, and their first differences.

    Each face is moved, turned and scaled onto the mean face (Procrustes; see `align_faces`), so that x and y are in
    units of the face's own size: head movement in the picture's plane and the camera's distance drop out, expression
    and the person's build remain. The difference is to the frame before, per frame and not per second; it is zero
    where either of the two has no face. Before `fit`, faces are centred and scaled and keep their tilt.

    Args:
        deltas: whether the differences follow the 136 coordinates x0, y0, x1, ...

    Attributes:
        mean_face: (68, 2) float32, of mean 0 and size 1; zero until fitted.
        num_features: 272, or 136 without differences.
    """

    mean_face: Tensor

    def __init__(self, *, deltas: bool = True) -> None:
        super().__init__()
        self.deltas = deltas
        self.num_features = 2 * len(IBUG_68) * (2 if deltas else 1)
        self.register_buffer("mean_face", torch.zeros(len(IBUG_68), 2))

    def forward(self, landmarks: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            landmarks: (B, T, 478, 2) of the face mesh, or (B, T, 68, 2), in pixels.
            mask: (B, T) bool, True where there is a face; holes are allowed.

        Returns:
            (B, T, F) float32, zero where there is no face.
        """
        points = align_faces(select_points(landmarks), self.mean_face).flatten(2)  # (B, T, 136)
        if self.deltas:
            both = mask[:, 1:] & mask[:, :-1]
            steps = (points[:, 1:] - points[:, :-1]) * both[..., None]
            points = torch.cat([points, nn.functional.pad(steps, (0, 0, 1, 0))], dim=2)
        return points * mask[..., None]

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> AlignedLandmarks:
        """Take the mean face of (landmarks, mask) pairs as `forward` takes them; returns itself.

        Raises:
            ValueError: there is no face in them.
        """
        faces = [select_points(landmarks[mask]) for landmarks, mask in batches]  # (M, 68, 2) each
        none = self.mean_face.new_zeros(0, *self.mean_face.shape)
        self.mean_face.copy_(mean_face(torch.cat([none, *faces])))
        return self


def select_points(landmarks: Tensor) -> Tensor:
    """(..., L, 2) -> (..., 68, 2) float32: the 68 points out of a mesh of 468 or 478; 68 points stay as they are.

    Raises:
        ValueError: another number of points.
    """
    num_points = landmarks.shape[-2]
    if num_points == len(IBUG_68):
        return landmarks.float()
    if num_points <= max(IBUG_68):
        raise ValueError(f"{num_points} landmarks are no face mesh of 468 or 478 points, and not the 68 points of one")
    return landmarks[..., list(IBUG_68), :].float()


def align_faces(points: Tensor, reference: Tensor) -> Tensor:
    """Move, scale and turn each face so that it lies over the reference; faces are never mirrored.

    The centre of the points goes to that of the reference, the size (root mean square distance from the centre) to its
    size, and the turn is the one of least squares. Matching sizes, rather than the scale of least squares, which
    shrinks a face the more it differs, is our choice.

    Args:
        points: (..., L, 2).
        reference: (L, 2); of size 0 it only centres faces and brings them to size 1.

    Returns:
        (..., L, 2); the reference itself for a face without a shape: all points in one place, or not numbers.
    """
    target, target_size = _centred(reference)
    centred, size = _centred(points)
    x, y = centred.unbind(-1)
    along = (centred * target).sum(dim=(-1, -2))
    across = (x * target[..., 1] - y * target[..., 0]).sum(dim=-1)
    length = torch.hypot(along, across)
    is_turned = length > 0
    cosine = torch.where(is_turned, along / length, 1.0)[..., None]
    sine = torch.where(is_turned, across / length, 0.0)[..., None]
    turned = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)
    scale = torch.where(target_size > 0, target_size, 1.0) / size.clamp(min=SMALLEST_PX)
    aligned = turned * scale[..., None, None] + reference.mean(dim=-2)
    return torch.where((size > SMALLEST_PX)[..., None, None], aligned, reference)


def mean_face(faces: Tensor, *, num_rounds: int = 5) -> Tensor:
    """Generalised Procrustes analysis (Gower 1975): align all faces to their mean, and take the mean again.

    Args:
        faces: (M, L, 2); those without a shape do not count.
        num_rounds: how often; three change nothing visible any more.

    Returns:
        (L, 2), centre 0, size 1, with the mean tilt of the faces.

    Raises:
        ValueError: no face has a shape.
    """
    centred, size = _centred(faces)
    has_shape = size > SMALLEST_PX
    if not has_shape.any():
        raise ValueError("no face to take the mean of; pass the landmarks of the training clips")
    faces = (centred / size[:, None, None])[has_shape]
    mean = faces.mean(dim=0)
    for _ in range(num_rounds):
        mean = align_faces(faces, mean).mean(dim=0)
        mean = mean / _centred(mean)[1]
    return mean


def _centred(points: Tensor) -> tuple[Tensor, Tensor]:
    """(..., L, 2) around their mean, and the root mean square distance from it (...)."""
    centred = points - points.mean(dim=-2, keepdim=True)
    return centred, centred.square().sum(dim=-1).mean(dim=-1).sqrt()
