"""The faces of a stream of frames, and those of a stretch of it as tracks: a recording is never in memory whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from avser.media.jpeg import JpegCrops
from avser.structures import FaceTrack

FEW_FRAMES = 4  # of so many, a face in a single one may still be one
BRIEF = 0.25  # of the frames of the face that is there longest: a passer-by, or no face at all


@dataclass(frozen=True)
class SeenFace:
    """One face in one frame.

    Attributes:
        box: (4,) float32, x0, y0, x1, y1 in pixels of the frame.
        crop: JPEG.
        landmarks: (L, 2) float32 in pixels of the frame, or None.
        blendshapes: (52,) float32, or None.
    """

    box: np.ndarray
    crop: bytes
    landmarks: np.ndarray | None = None
    blendshapes: np.ndarray | None = None


@dataclass(frozen=True)
class SeenFrame:
    """The faces of one frame by number, counted from 1."""

    time_s: float
    faces: dict[int, SeenFace] = field(default_factory=dict)


def tracks_between(
    frames: Sequence[SeenFrame], start_s: float, crop_px: int, *, min_share: float = 0.0
) -> dict[int, FaceTrack]:
    """The faces of a stretch of frames as tracks, by number; the one that is there longest first.

    Left out is a face that only one of several frames shows, and one that is there for less than a quarter of the time
    of another (our choice: nobody who is wanted).

    Args:
        frames: of the stretch, in order.
        start_s: where it begins; times of the tracks count from there.
        crop_px: side of the crops.
        min_share: of the frames that show a face, for it to be given.
    """
    counts = Counter(number for frame in frames for number in frame.faces)
    longest = max(counts.values(), default=0)
    fewest = max(BRIEF * longest, min_share * len(frames), 2 if len(frames) >= FEW_FRAMES else 1)
    lasting = [number for number, num in counts.most_common() if num >= fewest]
    return {number: track_of(frames, number, start_s, crop_px) for number in lasting}


def track_of(frames: Sequence[SeenFrame], number: int, start_s: float, crop_px: int) -> FaceTrack:
    """One face through a stretch of frames; without landmarks and blendshapes where none of them has any.

    Args:
        number, frames, start_s, crop_px: see `tracks_between`.
    """
    faces = [frame.faces.get(number) for frame in frames]

    def over_all_frames(name: str) -> np.ndarray | None:
        values = [None if face is None else getattr(face, name) for face in faces]
        shape = (
            next(value.shape for value in values if value is not None) if any(v is not None for v in values) else None
        )
        if shape is None:
            return None
        return np.stack([np.full(shape, np.nan, np.float32) if value is None else value for value in values])

    boxes = over_all_frames("box")
    return FaceTrack(
        times=np.array([frame.time_s - start_s for frame in frames], np.float64),
        crops=JpegCrops.from_images([b"" if face is None else face.crop for face in faces], crop_px),
        found=np.array([face is not None for face in faces]),
        boxes=np.full((len(frames), 4), np.nan, np.float32) if boxes is None else boxes,
        landmarks=over_all_frames("landmarks"),
        blendshapes=over_all_frames("blendshapes"),
    )
