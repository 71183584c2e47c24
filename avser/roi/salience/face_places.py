"""The places of a face in its crop: brows, eyes, nose, mouth, cheeks and jaw, as areas between points of the face mesh.

The points are those of MediaPipe's FaceLandmarker. The lines of brows, eyes, lips, nose and of the face's oval are the
ones that it exports (`mediapipe.tasks.python.vision.FaceLandmarksConnections`); what lies between them is divided into
cheeks and jaw along the line from the corner of the mouth to the corner of the jaw (our choice). The forehead belongs
to no place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avser.media.crops import Square, face_square, smooth_square
from avser.media.faces import SMOOTH_REACH
from avser.media.past_faces import LOST_S, follow_square

# Points of the mesh, left and right as seen in the picture of a person who faces the camera.
LEFT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
RIGHT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)
NOSE = (
    *(168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327),
    *(294, 278, 344, 440, 275, 45, 220, 115, 48, 64),
)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)  # around them
LEFT_CHEEK = (127, 234, 93, 132, 58, 61, 64, 48, 115, 155, 154, 153, 145, 144, 163, 7, 33)
RIGHT_CHEEK = (356, 454, 323, 361, 288, 291, 294, 278, 344, 382, 381, 380, 374, 373, 390, 249, 263)
JAW = (
    *(58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288),
    *(291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 61),
)
# Place -> its areas, each as points whose hull, or else whose outline in this order, it is. Where two areas meet, a
# pixel belongs to the place that stands first.
HULL, OUTLINE = "hull", "outline"
MIDDLE = 0.5  # of a crop, from its left edge
PLACES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "brows": ((HULL, LEFT_BROW), (HULL, RIGHT_BROW)),
    "eyes": ((HULL, LEFT_EYE), (HULL, RIGHT_EYE)),
    "mouth": ((HULL, LIPS),),
    "nose": ((HULL, NOSE),),
    "cheeks": ((OUTLINE, LEFT_CHEEK), (OUTLINE, RIGHT_CHEEK)),
    "jaw": ((OUTLINE, JAW),),
}
# The same in a crop whose landmarks are unknown, in shares of its side: outlines of the left half, of which those that
# end in the middle go on as their own mirror image. Read off crops of two people with the default margin (our choice).
USUAL_PLACES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "brows": (((0.28, 0.32), (0.31, 0.28), (0.45, 0.285), (0.45, 0.315)),),
    "eyes": (((0.33, 0.375), (0.36, 0.352), (0.41, 0.352), (0.435, 0.38), (0.38, 0.386)),),
    "mouth": (((0.5, 0.70), (0.45, 0.685), (0.395, 0.636), (0.45, 0.61), (0.5, 0.606)),),
    "nose": (((0.5, 0.554), (0.425, 0.52), (0.5, 0.36)),),
    "cheeks": (((0.235, 0.38), (0.43, 0.375), (0.43, 0.50), (0.395, 0.636), (0.265, 0.636)),),
    "jaw": (((0.5, 0.833), (0.40, 0.82), (0.31, 0.74), (0.265, 0.636), (0.395, 0.636), (0.45, 0.685), (0.5, 0.70)),),
}


def crop_squares(
    times: np.ndarray,
    landmarks: np.ndarray,
    *,
    margin: float = 0.25,
    smooth_s: float = 0.2,
    align: bool = True,
    past: bool = False,
) -> list[Square]:
    """The square that each frame's crop was cut from, out of the landmarks that the tracker found.

    The very squares of `avser.media.faces.MediaPipeTracker` where it looked at every frame and all frames are given;
    where it looked at some, landmarks and squares are both linear in between, which differs by less than a pixel. Those
    of `avser.media.past_faces.PastTracker` where the frames begin with the recording.

    Args:
        times: (T,) seconds, of the frames with a face.
        landmarks: (T, 478, 2) pixels of the source frame.
        margin, smooth_s, align: the settings `media.faces` that the clip was cached with.
        past: the tracker was mediapipe_past.
    """
    times = np.asarray(times, dtype=float)
    squares = [face_square(points, margin=margin, align=align) for points in np.asarray(landmarks, dtype=float)]
    return _followed(times, squares, smooth_s) if past else _smoothed(times, squares, smooth_s)


def _followed(times: np.ndarray, squares: list[Square], smooth_s: float) -> list[Square]:
    followed = squares[:1]
    for square, elapsed_s in zip(squares[1:], np.diff(times), strict=True):
        before = square if elapsed_s > LOST_S else followed[-1]
        followed.append(follow_square(before, square, float(elapsed_s), smooth_s))
    return followed


def _smoothed(times: np.ndarray, squares: list[Square], smooth_s: float) -> list[Square]:
    smoothed = []
    for time_s in times:
        reach_s = SMOOTH_REACH * smooth_s
        near = np.flatnonzero((times >= time_s - reach_s) & (times <= time_s + reach_s))
        smoothed.append(smooth_square(float(time_s), times[near], [squares[i] for i in near], smooth_s))
    return smoothed


def into_crop(points: np.ndarray, square: Square, crop_px: int) -> np.ndarray:
    """Where points (..., 2) of the source frame lie in a crop of it, both in pixels from the upper left corner.

    The inverse of what `avser.media.crops.cut_square` does; the middle of the first pixel is (0.5, 0.5).
    """
    cos, sin = np.cos(square.angle), np.sin(square.angle)
    x, y = np.moveaxis(np.asarray(points, dtype=float) - (square.x, square.y), -1, 0)
    level = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)
    return level * (crop_px / square.side) + crop_px / 2


def place_masks(points: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    """Which pixels of a crop belong to which place of the face, each to one at most, by their middles.

    Args:
        points: (478, 2) or (468, 2) in pixels of the crop; what lies beyond its edge is cut off.

    Returns:
        Place -> (height, width) bool.
    """
    free = np.ones((height, width), dtype=bool)
    masks = {}
    for place, areas in PLACES.items():
        inside = np.zeros_like(free)
        for kind, indices in areas:
            corners = points[list(indices)]
            inside |= fill_polygon(_hull(corners) if kind == HULL else corners, height, width)
        masks[place] = inside & free
        free &= ~inside
    return masks


def usual_masks(height: int, width: int) -> dict[str, np.ndarray]:
    """As `place_masks`, of a face that looks straight ahead out of a crop with the usual margin, its eyes level."""
    free = np.ones((height, width), dtype=bool)
    masks = {}
    for place, outlines in USUAL_PLACES.items():
        inside = np.zeros_like(free)
        for outline in outlines:
            left = np.array(outline) * (width, height)
            right = (left * (-1, 1) + (width, 0))[::-1]
            whole = outline[0][0] == outline[-1][0] == MIDDLE
            for corners in [np.concatenate([left, right])] if whole else [left, right]:
                inside |= fill_polygon(corners, height, width)
        masks[place] = inside & free
        free &= ~inside
    return masks


def fill_polygon(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool: the pixels whose middle lies inside a polygon (K, 2), by the even-odd rule."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)  # rows (height,) that this side crosses
        if crosses.any():
            at = x0 + (y[crosses] - y0) / (y1 - y0) * (x1 - x0)
            inside[crosses] ^= x < at[:, None]
    return inside


def _hull(points: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of (K, 2), in order around it (Andrew's monotone chain)."""
    ordered = sorted({(float(x), float(y)) for x, y in points})
    if len(ordered) < 3:
        return np.array(ordered)

    def half(run: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for point in run:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
