"""Where a face is cut out of its frame: a turned square, smoothed in time, warped to a crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avser.media.native import import_native

# FaceLandmarker's mesh: the corners of the eye that is left, and of the one that is right, in the picture of a person
# who faces the camera.
LEFT_EYE, RIGHT_EYE = (33, 133), (362, 263)


@dataclass(frozen=True, slots=True)
class Square:
    """A square region of a frame.

    Attributes:
        x, y: its centre in pixels.
        side: in pixels.
        angle: radians by which it is turned, clockwise on the screen.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def box(self) -> np.ndarray:
        """(4,) float32: x0, y0, x1, y1 of the square before it is turned."""
        half = self.side / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half], np.float32)


def face_square(landmarks: np.ndarray, *, margin: float, align: bool) -> Square:
    """The square around a face.

    Args:
        landmarks: (478, 2) pixels.
        margin: share of the face's size added on every side.
        align: turn the square so that the eyes are level in it.
    """
    angle = 0.0
    if align:
        dx, dy = landmarks[RIGHT_EYE, :].sum(axis=0) - landmarks[LEFT_EYE, :].sum(axis=0)
        angle = math.atan2(dy, dx)
    turn = _rotation(angle)
    level = landmarks @ turn  # in axes along and across the line of the eyes
    low, high = level.min(axis=0), level.max(axis=0)
    x, y = turn @ ((low + high) / 2)
    side = max(float((high - low).max()) * (1 + 2 * margin), 1.0)
    return Square(float(x), float(y), side, angle)


def square_between(one: Square, other: Square, share: float) -> Square:
    """The square on the way from one to the other: at `share` 0 the one, at 1 the other; turned the shorter way."""
    turn = (other.angle - one.angle + np.pi) % (2 * np.pi) - np.pi
    return Square(
        one.x + share * (other.x - one.x),
        one.y + share * (other.y - one.y),
        one.side + share * (other.side - one.side),
        float(one.angle + share * turn),
    )


def smooth_square(time_s: float, times: np.ndarray, squares: list[Square], smooth_s: float) -> Square:
    """Gaussian mean of a track's squares around one of its times; that square itself where smooth_s is 0.

    Args:
        time_s: one of `times`.
        times: (K,) seconds.
        squares: K squares.
        smooth_s: standard deviation in seconds.
    """
    if smooth_s == 0:
        return squares[int(np.argmin(np.abs(times - time_s)))]
    weights = np.exp(-0.5 * ((times - time_s) / smooth_s) ** 2)
    # Angles as points on the circle: the mean of 179 and -179 degrees is 180, not 0.
    rows = np.array([(s.x, s.y, s.side, np.cos(s.angle), np.sin(s.angle)) for s in squares])
    x, y, side, cos, sin = weights @ rows / weights.sum()
    return Square(float(x), float(y), float(side), float(np.arctan2(sin, cos)))


def cut_square(image: np.ndarray, square: Square, crop_px: int) -> np.ndarray:
    """(crop_px, crop_px, 3) uint8: the square, upright; black beyond the edge of `image` (H, W, 3)."""
    cv2 = import_native("cv2")
    # A warp samples points; a large face is first warped to a multiple of the size, then averaged, or it would alias.
    factor = max(1, round(square.side / crop_px))
    size = crop_px * factor
    axes = _rotation(square.angle) * (square.side / size)  # crop pixels -> frame pixels
    corner = np.array([square.x, square.y]) - axes @ np.full(2, size / 2)
    offset = corner + axes @ np.full(2, 0.5) - 0.5  # pixel centres lie at half-integers, OpenCV counts them from 0
    matrix = np.hstack([axes, offset[:, None]])
    crop = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return crop if factor == 1 else cv2.resize(crop, (crop_px, crop_px), interpolation=cv2.INTER_AREA)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (4,): x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    either = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / either if either > 0 else 0.0


def _rotation(angle: float) -> np.ndarray:
    """(2, 2): columns are the directions along and across the line of the eyes."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
