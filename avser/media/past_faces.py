"""Follows one face from the past alone: what a frame is cut by, no later frame changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avser.media.crops import Square, cut_square, face_square, square_between
from avser.media.jpeg import encode_jpeg
from avser.media.landmarker import DetectorHolder, FaceLandmarker
from avser.media.seen_faces import SeenFace, SeenFrame, track_of
from avser.media.tracks import MIN_OVERLAP, Face, overlap
from avser.media.video import Frame
from avser.structures import Curve, FaceTrack

LOST_S = 1.0  # a face that was away for longer may come back as anybody
PREFERENCES = {"left": lambda square: -square.x, "right": lambda square: square.x}  # else the largest


@dataclass
class PastTracker(DetectorHolder):
    """MediaPipe's FaceLandmarker, asked as while a camera is running; a recording is cut as it would be live.

    The detector looks at every frame. Of several faces, the one that is followed is kept as long as it is seen; a new
    one is chosen as far as one moment tells: left, right, else the largest. Place, size and angle are smoothed
    backwards in time alone, with half the time constant of `MediaPipeTracker`, as that smooths to both sides (our
    choice). The model is loaded for each clip, or, inside `with tracker:`, once for all.

    Attributes:
        crop_px, model, max_faces, margin, smooth_s, align, detect_px, choose: as of `MediaPipeTracker`.
    """

    crop_px: int
    model: Path
    max_faces: int
    margin: float
    smooth_s: float
    align: bool
    detect_px: int
    choose: str

    def track(self, frames: Iterable[Frame], voice: Curve | None = None) -> tuple[FaceTrack | None, list[str]]:
        """The face that is followed; None when no frame shows one. Who speaks is not asked: that shows only later.

        Raises:
            ConfigError: the model file is no FaceLandmarker, or a library of the system is missing.
            MediaError: the detector failed.
        """
        seen = list(self.stream(frames))
        if not any(frame.faces for frame in seen):
            return None, [f"no face in any of {len(seen)} frames"]
        return track_of(seen, 1, 0.0, self.crop_px), []

    def stream(self, frames: Iterable[Frame]) -> Iterator[SeenFrame]:
        """Every frame with the face that is followed, as number 1; without one while it is away.

        Raises:
            ConfigError, MediaError: as `track`.
        """
        if self._held is None:
            with self:
                yield from self.stream(frames)
            return
        pursuit = Pursuit(self._held, self)
        for frame in frames:
            yield pursuit.look(frame)


class Pursuit:
    """One face from frame to frame.

    Args:
        landmarker: is asked about every frame; stays open.
        how: the settings.
    """

    def __init__(self, landmarker: FaceLandmarker, how: PastTracker) -> None:
        self._landmarker, self._how = landmarker, how
        self._seen_s = -math.inf
        self._box = np.zeros(4)
        self._square = Square(0, 0, 0)

    def look(self, frame: Frame) -> SeenFrame:
        """The frame, later than all before, with the face as number 1 where it is there.

        Raises:
            MediaError: the detector failed.
        """
        how = self._how
        faces = [
            Face(*found, face_square(found[0], margin=how.margin, align=how.align))
            for found in self._landmarker.detect(frame, how.detect_px)
        ]
        known = frame.time_s - self._seen_s <= LOST_S
        face = self._same(faces) if known else None
        if face is None:
            if known or not faces:  # for a while, nobody else takes the place of one who looked away
                return SeenFrame(frame.time_s)
            face = max(faces, key=lambda face: PREFERENCES.get(how.choose, lambda square: square.side)(face.square))
            self._square = face.square
        self._square = follow_square(self._square, face.square, frame.time_s - self._seen_s, how.smooth_s)
        self._box, self._seen_s = face.box, frame.time_s
        crop = encode_jpeg(cut_square(frame.image, self._square, how.crop_px))
        return SeenFrame(frame.time_s, {1: SeenFace(self._square.box, crop, face.landmarks, face.blendshapes)})

    def _same(self, faces: Sequence[Face]) -> Face | None:
        """The face that overlaps the one before most, if one does."""
        shares = [overlap(self._box, face.box) for face in faces]
        return faces[int(np.argmax(shares))] if shares and max(shares) >= MIN_OVERLAP else None


def follow_square(before: Square, found: Square, elapsed_s: float, smooth_s: float) -> Square:
    """The square that a frame is cut by: on the way to where the face was found, from that of `elapsed_s` before."""
    time_s = smooth_s / 2
    return square_between(before, found, 1 - math.exp(-elapsed_s / time_s) if time_s else 1.0)
