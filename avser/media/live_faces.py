"""Follows one face while its pictures come in, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avser.errors import ConfigError
from avser.media.faces import FaceTracker, MediaPipeTracker
from avser.media.landmarker import FaceLandmarker
from avser.media.past_faces import PastTracker, Pursuit
from avser.media.seen_faces import track_of
from avser.media.video import Frame
from avser.structures import FaceTrack


class LiveFace:
    """One face of a camera, followed as `PastTracker` does; a `CenterTracker` cuts as it always does.

    Args:
        tracker: whose settings hold, as `avser.media.faces.build_tracker` makes it. The crops of a `MediaPipeTracker`
            are smoothed by what is still to come: live they are cut from the past alone, and so a little otherwise.

    Raises:
        ConfigError: its model file is no FaceLandmarker, or a library of the system is missing.
    """

    def __init__(self, tracker: FaceTracker) -> None:
        self._tracker = _from_the_past(tracker) if isinstance(tracker, MediaPipeTracker) else tracker
        self._landmarker: FaceLandmarker | None = None
        if isinstance(self._tracker, PastTracker):
            self._landmarker = FaceLandmarker(self._tracker.model, self._tracker.max_faces)
            self._landmarker.detect(Frame(0.0, np.zeros((96, 96, 3), np.uint8)))  # the first look takes longer
        self.reset()

    def reset(self) -> None:
        """Forget the face; time may begin anew."""
        self._pursuit: Pursuit | None = None
        if self._landmarker is not None and isinstance(self._tracker, PastTracker):
            self._pursuit = Pursuit(self._landmarker, self._tracker)

    def follow(self, frames: Sequence[Frame]) -> FaceTrack:
        """The face in each of at least one frame, which go on from those before.

        Raises:
            MediaError: the detector failed.
        """
        if self._pursuit is not None and isinstance(self._tracker, PastTracker):
            seen = [self._pursuit.look(frame) for frame in frames]
            return _with_points(track_of(seen, 1, 0.0, self._tracker.crop_px))
        track, _ = self._tracker.track(frames)
        if track is None:
            raise ConfigError(f"{type(self._tracker).__name__} saw nothing; take media.faces.tracker=mediapipe_past")
        return track

    def close(self) -> None:
        """Let go of the detector; it has a thread of its own, which would keep the process from ending."""
        if self._landmarker is not None:
            self._landmarker.close()


def _with_points(track: FaceTrack) -> FaceTrack:
    """The track with a place for landmarks and blendshapes in a chunk without a face too, as the next may show one."""
    if track.landmarks is None:
        track.landmarks = np.full((len(track), 478, 2), np.nan, np.float32)
        track.blendshapes = np.full((len(track), 52), np.nan, np.float32)
    return track


def _from_the_past(how: MediaPipeTracker) -> PastTracker:
    return PastTracker(
        how.crop_px, how.model, how.max_faces, how.margin, how.smooth_s, how.align, how.detect_px, how.choose
    )
