"""Finds one face in the frames of a clip and follows it: trackers turn frames into a FaceTrack."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from avser.errors import ConfigError
from avser.media.crops import Square, cut_square, face_square, overlap, smooth_square
from avser.media.landmarker import FaceLandmarker, find_model
from avser.media.video import Frame
from avser.structures import FaceTrack

MIN_OVERLAP = 0.3  # of two boxes, for the later face to be the earlier one
EQUAL_LENGTH = 0.9  # a track of this share of the longest counts as equally long; then size decides
SMOOTH_REACH = 2.0  # in standard deviations: how far ahead the smoothing looks, and so how many frames are held


class FaceTracker(Protocol):
    """Follows one face through a clip. One tracker serves many clips; nothing of one is left for the next."""

    def track(self, frames: Iterable[Frame]) -> tuple[FaceTrack | None, list[str]]:
        """The track, or None when no frame shows a face; and warnings for the person."""
        ...


@dataclass(frozen=True)
class CenterTracker:
    """A fixed square in the middle of the picture, for footage that is framed already; needs no model.

    Attributes:
        crop_px: side of the crops.
        size: side of the square as a share of the shorter side of the picture.
    """

    crop_px: int
    size: float

    def track(self, frames: Iterable[Frame]) -> tuple[FaceTrack | None, list[str]]:
        """The middle of every frame, `found` throughout; None without frames."""
        times, cut, boxes = [], [], []
        for frame in frames:
            height, width = frame.image.shape[:2]
            square = Square(width / 2, height / 2, self.size * min(height, width))
            times.append(frame.time_s)
            boxes.append(square.box)
            cut.append(cut_square(frame.image, square, self.crop_px))
        if not times:
            return None, ["no frames"]
        return FaceTrack(np.array(times, np.float64), np.stack(cut), np.ones(len(times), bool), np.stack(boxes)), []


@dataclass(frozen=True)
class MediaPipeTracker:
    """MediaPipe's FaceLandmarker: 478 landmarks and 52 blendshapes a frame, crops levelled by the eyes.

    One pass over the frames, without keeping them: the smoothing looks 2 smooth_s ahead, so only the frames of that
    window are held, and each is cut once the frames after it are known. Which of several faces is wanted shows only at
    the end, so the crops of all are kept until then.

    Attributes:
        crop_px: side of the crops.
        model: face_landmarker.task.
        max_faces: faces looked for in a frame.
        margin: share of the face's size added on every side.
        smooth_s: standard deviation of the Gaussian that smooths place, size and angle of the crops; 0: none.
        align: turn the crops so that the eyes are level.
    """

    crop_px: int
    model: Path
    max_faces: int
    margin: float
    smooth_s: float
    align: bool

    def track(self, frames: Iterable[Frame]) -> tuple[FaceTrack | None, list[str]]:
        """The face that is seen longest, of equally long ones the largest; None when no frame shows a face.

        Raises:
            ConfigError: the model file is no FaceLandmarker, or a library of the system is missing.
            MediaError: the detector failed.
        """
        times: list[float] = []
        followed: list[_Followed] = []
        window: deque[tuple[int, Frame]] = deque()
        with FaceLandmarker(self.model, self.max_faces) as landmarker:
            for index, frame in enumerate(frames):
                times.append(frame.time_s)
                found = landmarker.detect(frame)
                faces = [_Face(*f, face_square(f[0], margin=self.margin, align=self.align)) for f in found]
                _link(followed, index, frame.time_s, faces)
                window.append((index, frame))
                while window[0][1].time_s < frame.time_s - SMOOTH_REACH * self.smooth_s:
                    self._cut(*window.popleft(), followed)
            while window:
                self._cut(*window.popleft(), followed)
        return _chosen(followed, np.array(times, np.float64), self.crop_px)

    def _cut(self, index: int, frame: Frame, followed: list[_Followed]) -> None:
        """Cut every face out of a frame, now that the frames around it are known."""
        reach_s = SMOOTH_REACH * self.smooth_s
        for track in followed:
            if index not in track.faces:
                continue
            near = [(t, f.square) for t, f in track.around(frame.time_s, reach_s)]
            times = np.array([t for t, _ in near])
            square = smooth_square(frame.time_s, times, [s for _, s in near], self.smooth_s)
            track.boxes[index] = square.box
            track.crops[index] = cut_square(frame.image, square, self.crop_px)


TRACKERS = {"mediapipe": MediaPipeTracker, "center": CenterTracker}


def build_tracker(
    name: str,
    *,
    crop_px: int,
    model: str | None = None,
    max_faces: int = 3,
    margin: float = 0.25,
    smooth_s: float = 0.2,
    align: bool = True,
    center_size: float = 0.9,
) -> FaceTracker | None:
    """The tracker of that name; None for "none", when faces are not wanted.

    Args:
        name: mediapipe, center or none.
        crop_px: side of the crops.
        model: path of face_landmarker.task; None looks in $AVSER_MODELS (a folder, or the file).
        max_faces, margin, smooth_s, align: see `MediaPipeTracker`.
        center_size: see `CenterTracker.size`.

    Raises:
        ConfigError: unknown name; no model file, or one that is none; MediaPipe or a library that it needs is missing.
    """
    if name == "none":
        return None
    if name == "center":
        return CenterTracker(crop_px, center_size)
    if name == "mediapipe":
        tracker = MediaPipeTracker(crop_px, find_model(model), max_faces, margin, smooth_s, align)
        with FaceLandmarker(tracker.model, max_faces):  # what is missing shows now, not at each of the clips
            return tracker
    raise ConfigError(f"media.faces.tracker={name!r}: allowed are {', '.join([*TRACKERS, 'none'])}")


@dataclass(frozen=True)
class _Face:
    """One face in one frame: landmarks (478, 2) in pixels, blendshapes (52,), and the square before smoothing."""

    landmarks: np.ndarray
    blendshapes: np.ndarray
    square: Square

    @property
    def box(self) -> np.ndarray:
        """(4,) tightly around the landmarks."""
        return np.concatenate([self.landmarks.min(axis=0), self.landmarks.max(axis=0)])


@dataclass
class _Followed:
    """One face through the frames, by the index of the frame."""

    faces: dict[int, _Face] = field(default_factory=dict)
    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    crops: dict[int, np.ndarray] = field(default_factory=dict)
    recent: deque[tuple[float, _Face]] = field(default_factory=deque)

    def add(self, index: int, time_s: float, face: _Face) -> None:
        self.faces[index] = face
        self.recent.append((time_s, face))

    def around(self, time_s: float, reach_s: float) -> list[tuple[float, _Face]]:
        """(time, face) within `reach_s` of a time; earlier ones are forgotten, as times only grow."""
        while self.recent[0][0] < time_s - reach_s:
            self.recent.popleft()
        return [(t, face) for t, face in self.recent if t <= time_s + reach_s]

    @property
    def mean_area(self) -> float:
        return float(np.mean([np.prod(f.box[2:] - f.box[:2]) for f in self.faces.values()]))


def _link(followed: list[_Followed], index: int, time_s: float, faces: Sequence[_Face]) -> None:
    """Give each face of a frame to the track whose last box it overlaps most, or begin a track with it."""
    last = [track.recent[-1][1].box for track in followed]
    pairs = [(overlap(box, face.box), t, f) for t, box in enumerate(last) for f, face in enumerate(faces)]
    free_tracks, free_faces = set(range(len(followed))), set(range(len(faces)))
    for share, t, f in sorted(pairs, reverse=True):
        if share >= MIN_OVERLAP and t in free_tracks and f in free_faces:
            followed[t].add(index, time_s, faces[f])
            free_tracks.remove(t)
            free_faces.remove(f)
    for f in sorted(free_faces):
        followed.append(_Followed())
        followed[-1].add(index, time_s, faces[f])


def _chosen(followed: list[_Followed], times: np.ndarray, crop_px: int) -> tuple[FaceTrack | None, list[str]]:
    """The longest track (of nearly equal ones the largest) as arrays over all frames, with warnings."""
    total = len(times)
    if not followed:
        return None, [f"no face in any of {total} frames"]
    longest = max(len(track.faces) for track in followed)
    rivals = [track for track in followed if len(track.faces) >= EQUAL_LENGTH * longest]
    best = max(rivals, key=lambda track: track.mean_area)
    warnings = []
    if len(followed) > 1:
        share = len(best.faces) / total
        warnings.append(f"{len(followed)} face tracks; took the longest, seen in {share:.0%} of the frames")
    elif len(best.faces) < total:
        warnings.append(f"no face in {total - len(best.faces)} of {total} frames")
    return _as_track(best, times, crop_px), warnings


def _as_track(track: _Followed, times: np.ndarray, crop_px: int) -> FaceTrack:
    total, first = len(times), next(iter(track.faces.values()))
    result = FaceTrack(
        times=times,
        crops=np.zeros((total, crop_px, crop_px, 3), np.uint8),
        found=np.zeros(total, bool),
        boxes=np.full((total, 4), np.nan, np.float32),
        landmarks=np.full((total, *first.landmarks.shape), np.nan, np.float32),
        blendshapes=np.full((total, *first.blendshapes.shape), np.nan, np.float32),
    )
    assert result.landmarks is not None
    assert result.blendshapes is not None
    for index, face in track.faces.items():
        result.found[index] = True
        result.crops[index] = track.crops.pop(index)
        result.boxes[index] = track.boxes[index]
        result.landmarks[index] = face.landmarks
        result.blendshapes[index] = face.blendshapes
    return result
