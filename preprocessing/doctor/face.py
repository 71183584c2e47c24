"""What is measured of a picture: whether there is a face, or several, and how large, bright and sharp it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avser.config import MediaConfig
from avser.data.manifest import ClipRow
from avser.media.crops import Square, cut_square, face_square
from avser.media.jpeg import encode_jpeg
from avser.media.landmarker import FaceLandmarker, find_model
from avser.media.video import Frame, iterate_frames

MIN_FRAMES, MAX_FRAMES = 4, 60  # looked at in one clip, however short or long it is
THUMBNAIL_PX = 88
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of RGB (ITU-R BT.601)

Find = Callable[[Frame], list[Square]]  # the squares around the faces of a frame


@dataclass
class FaceFacts:
    """Of the frames looked at, a few a second.

    Attributes:
        num_frames: looked at.
        num_with_face, num_with_several: of them; None where faces are switched off.
        most_faces: in one frame.
        side_px: of the square that is cut around the largest face, in pixels of the recording; median, as the rest.
        brightness: mean grey level of the crop, 0 to 255.
        sharpness: share of the crop's contrast that lies between neighbouring pixels; see `measure_crop`.
        damage: what decoding lost.
    """

    num_frames: int = 0
    num_with_face: int | None = None
    num_with_several: int | None = None
    most_faces: int | None = None
    side_px: float | None = None
    brightness: float | None = None
    sharpness: float | None = None
    damage: list[str] = field(default_factory=list)


def build_finder(media: MediaConfig) -> Find | None:
    """Finds the faces in a frame, as the cache will; None where faces are switched off.

    Raises:
        ConfigError: the tracker's model cannot be used.
    """
    faces = media.faces
    if faces.tracker == "none":
        return None
    if faces.tracker == "center":
        return lambda frame: [_middle(frame, faces.center_size)]
    landmarker = FaceLandmarker(find_model(faces.model), faces.max_faces)

    def find(frame: Frame) -> list[Square]:
        found = landmarker.detect(frame, faces.detect_px)
        return [face_square(landmarks, margin=faces.margin, align=faces.align) for landmarks, _ in found]

    return find


def examine_face(row: ClipRow, path: Path, find: Find | None, crop_px: int, fps: float) -> tuple[FaceFacts, bytes]:
    """Look for faces in a clip.

    Args:
        row: says which part of the file, and which half of the picture.
        find: see `build_finder`; None: the file is decoded and nothing is looked for.
        fps: frames looked at a second; see `frames_to_look_at`.

    Returns:
        The facts, and a small JPEG: a crop of the face from the middle of the frames that have one, or else the whole
        of a frame.

    Raises:
        MediaError: as `iterate_frames`.
    """
    damage: list[str] = []
    frames = iterate_frames(path, fps=fps, start_s=row.start_s, end_s=row.end_s, warnings=damage)
    facts, image = look_for_faces(_halves(frames, row.side), find, crop_px)
    facts.damage = damage
    return facts, encode_jpeg(image, quality=80)


def look_for_faces(frames: Iterable[Frame], find: Find | None, crop_px: int) -> tuple[FaceFacts, np.ndarray]:
    """Facts and a picture (THUMBNAIL_PX, THUMBNAIL_PX, 3) uint8; see `examine_face`. Without `find`, just decode."""
    counts: list[int] = []  # faces in each frame
    measured: list[tuple[float, float, float]] = []
    thumbnails: list[np.ndarray] = []
    without_face = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
    for frame in frames:
        squares = find(frame) if find is not None else []
        counts.append(len(squares))
        if squares:
            largest = max(squares, key=lambda square: square.side)
            measured.append((largest.side, *measure_crop(cut_square(frame.image, largest, crop_px))))
            thumbnails.append(cut_square(frame.image, largest, THUMBNAIL_PX))
        elif not thumbnails:
            height, width = frame.image.shape[:2]
            without_face = cut_square(frame.image, Square(width / 2, height / 2, max(height, width)), THUMBNAIL_PX)
    facts = FaceFacts(len(counts))
    if find is not None:
        facts.num_with_face, facts.num_with_several = sum(n > 0 for n in counts), sum(n > 1 for n in counts)
        facts.most_faces = max(counts, default=0)
    if not measured:
        return facts, without_face
    facts.side_px, facts.brightness, facts.sharpness = np.median(measured, axis=0).tolist()
    return facts, thumbnails[len(thumbnails) // 2]


def measure_crop(crop: np.ndarray) -> tuple[float, float]:
    """Brightness and sharpness of a crop (H, W, 3) uint8.

    Sharpness is the standard deviation of the Laplacian over that of the grey levels, in the middle of the crop: the
    contrast between neighbours relative to the contrast of the whole, so that light and exposure cancel (our choice;
    after the variance of the Laplacian of Pech-Pacheco et al. 2000).
    """
    edge = len(crop) // 5
    grey = (crop[edge : len(crop) - edge, edge : len(crop) - edge] @ GREY).astype(np.float32)
    inner = grey[1:-1, 1:-1]
    laplacian = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(grey.mean()), float(laplacian.std() / max(float(grey.std()), 1e-3))


def frames_to_look_at(duration_s: float | None, fps: float) -> float:
    """Frames a second that make at least MIN_FRAMES and at most MAX_FRAMES of a clip of this length."""
    if not duration_s:
        return fps
    return float(np.clip(fps, MIN_FRAMES / duration_s, max(MAX_FRAMES, MIN_FRAMES) / duration_s))


def _middle(frame: Frame, size: float) -> Square:
    height, width = frame.image.shape[:2]
    return Square(width / 2, height / 2, size * min(height, width))


def _halves(frames: Iterator[Frame], side: str) -> Iterator[Frame]:
    for frame in frames:
        half = frame.image.shape[1] // 2
        if side == "left":
            frame = Frame(frame.time_s, np.ascontiguousarray(frame.image[:, :half]))
        elif side == "right":
            frame = Frame(frame.time_s, np.ascontiguousarray(frame.image[:, -half:]))
        yield frame
