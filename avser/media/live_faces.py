"""Follows one face while its pictures come in: what a frame is cut by is what was seen up to then."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from avser.errors import ConfigError
from avser.media.crops import Square, cut_square, face_square, square_between
from avser.media.faces import FaceTracker, MediaPipeTracker
from avser.media.jpeg import decode_jpeg, encode_jpeg
from avser.media.landmarker import FaceLandmarker
from avser.media.tracks import MIN_OVERLAP, Face, overlap
from avser.media.video import Frame
from avser.structures import FaceTrack

LOST_S = 1.0  # a face that was away for longer may come back as anybody
PREFERENCES = {"left": lambda square: -square.x, "right": lambda square: square.x}  # else the largest


class LiveFace:
    """One face of a camera, frame by frame.

    The detector looks at every frame. Of several faces, the one that is followed is kept as long as it is seen; a new
    one is chosen by the tracker's `choose` as far as one moment tells: left, right, else the largest. Place, size and
    angle are smoothed backwards in time alone, with half the time constant of `MediaPipeTracker`, as that smooths to
    both sides; crops go through JPEG as those of a cache do (our choice).

    Args:
        tracker: whose settings hold, as `avser.media.faces.build_tracker` makes it.

    Raises:
        ConfigError: its model file is no FaceLandmarker, or a library of the system is missing.
    """

    def __init__(self, tracker: FaceTracker) -> None:
        self._tracker = tracker
        self._landmarker: FaceLandmarker | None = None
        if isinstance(tracker, MediaPipeTracker):
            self._landmarker = FaceLandmarker(tracker.model, tracker.max_faces)
            self._landmarker.detect(Frame(0.0, np.zeros((96, 96, 3), np.uint8)))  # the first look takes longer
        self.reset()

    def reset(self) -> None:
        """Forget the face; time may begin anew."""
        self._seen_s = -math.inf
        self._box = np.zeros(4)
        self._square = Square(0, 0, 0)

    def follow(self, frames: Sequence[Frame]) -> FaceTrack:
        """The face in each of at least one frame, which go on from those before.

        Raises:
            MediaError: the detector failed.
        """
        if not isinstance(self._tracker, MediaPipeTracker):
            track, _ = self._tracker.track(frames)
            if track is None:
                raise ConfigError(f"{type(self._tracker).__name__} saw nothing; take media.faces.tracker=mediapipe")
            return track
        num, crop_px = len(frames), self._tracker.crop_px
        track = FaceTrack(
            times=np.array([frame.time_s for frame in frames], np.float64),
            crops=np.zeros((num, crop_px, crop_px, 3), np.uint8),
            found=np.zeros(num, bool),
            boxes=np.full((num, 4), np.nan, np.float32),
            landmarks=np.full((num, 478, 2), np.nan, np.float32),
            blendshapes=np.full((num, 52), np.nan, np.float32),
        )
        for i, frame in enumerate(frames):
            self._look(self._tracker, frame, track, i)
        return track

    def close(self) -> None:
        """Let go of the detector; it has a thread of its own, which would keep the process from ending."""
        if self._landmarker is not None:
            self._landmarker.close()

    def _look(self, how: MediaPipeTracker, frame: Frame, track: FaceTrack, index: int) -> None:
        assert self._landmarker is not None
        faces = [
            Face(*found, face_square(found[0], margin=how.margin, align=how.align))
            for found in self._landmarker.detect(frame, how.detect_px)
        ]
        known = frame.time_s - self._seen_s <= LOST_S
        face = self._same(faces) if known else None
        if face is None:
            if known or not faces:  # for a while, nobody else takes the place of one who looked away
                return
            face = max(faces, key=lambda face: PREFERENCES.get(how.choose, lambda square: square.side)(face.square))
            self._square = face.square
        time_s = how.smooth_s / 2
        share = 1 - math.exp(-(frame.time_s - self._seen_s) / time_s) if time_s else 1.0
        self._square = square_between(self._square, face.square, share)
        self._box, self._seen_s = face.box, frame.time_s
        track.crops[index] = decode_jpeg(encode_jpeg(cut_square(frame.image, self._square, how.crop_px)))  # type: ignore
        track.found[index], track.boxes[index] = True, self._square.box
        assert track.landmarks is not None
        assert track.blendshapes is not None
        track.landmarks[index], track.blendshapes[index] = face.landmarks, face.blendshapes

    def _same(self, faces: Sequence[Face]) -> Face | None:
        """The face that overlaps the one before most, if one does."""
        shares = [overlap(self._box, face.box) for face in faces]
        return faces[int(np.argmax(shares))] if shares and max(shares) >= MIN_OVERLAP else None
