"""Finds one face in the frames of a clip and follows it: trackers turn frames into a FaceTrack."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from avser.errors import ConfigError
from avser.media.crops import Square, cut_square, face_square, smooth_square
from avser.media.jpeg import JpegRun, encode_jpeg
from avser.media.landmarker import DetectorHolder, FaceLandmarker, find_model
from avser.media.past_faces import PastTracker
from avser.media.seen_faces import SeenFace, SeenFrame
from avser.media.tracks import CHOICES, Face, FollowedFace, Following, as_face_track, choose
from avser.media.video import Frame
from avser.structures import Curve, FaceTrack

SMOOTH_REACH = 2.0  # in standard deviations: how far ahead the smoothing looks, and so how many frames are held


class FaceTracker(Protocol):
    """Follows one face through a clip. One tracker serves many clips; nothing of one is left for the next."""

    def track(self, frames: Iterable[Frame], voice: Curve | None = None) -> tuple[FaceTrack | None, list[str]]:
        """The track, or None when no frame shows a face; and warnings for the person.

        Args:
            frames: in order of time, read once.
            voice: its loudness along time, to tell who of several people speaks; None where there is none.
        """
        ...

    def stream(self, frames: Iterable[Frame]) -> Iterator[SeenFrame]:
        """Every face of every frame, as soon as it is cut out; holds a second of the recording, however long it is."""
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

    def track(self, frames: Iterable[Frame], voice: Curve | None = None) -> tuple[FaceTrack | None, list[str]]:
        """The middle of every frame, `found` throughout; None without frames. The voice is not needed."""
        times, boxes, run = [], [], JpegRun()
        for index, frame in enumerate(frames):
            height, width = frame.image.shape[:2]
            square = Square(width / 2, height / 2, self.size * min(height, width))
            times.append(frame.time_s)
            boxes.append(square.box)
            run.add(index, encode_jpeg(cut_square(frame.image, square, self.crop_px)))
        if not times:
            return None, ["no frames"]
        crops = run.crops(len(times), self.crop_px)
        return FaceTrack(np.array(times, np.float64), crops, np.ones(len(times), bool), np.stack(boxes)), []

    def stream(self, frames: Iterable[Frame]) -> Iterator[SeenFrame]:
        """The middle of every frame, as the one face in it."""
        for frame in frames:
            height, width = frame.image.shape[:2]
            square = Square(width / 2, height / 2, self.size * min(height, width))
            crop = encode_jpeg(cut_square(frame.image, square, self.crop_px))
            yield SeenFrame(frame.time_s, {1: SeenFace(square.box, crop)})


@dataclass
class MediaPipeTracker(DetectorHolder):
    """MediaPipe's FaceLandmarker: 478 landmarks and 52 blendshapes a frame, crops levelled by the eyes.

    The detector looks at every `every`-th frame and at the last one. A face that two looks in a row have seen is taken
    to have moved evenly between them: its landmarks, blendshapes and square there are linear in time. Where a face
    came, went or jumped between two looks, the frames between are looked at too; and, to tell who speaks, wherever
    there are several (our choice).

    Measured on CREMA-D at 15 frames a second, every=5 against every=1: the points are off by 0.8 % of the distance
    between the eyes in the median (3.1 % at the 95th percentile), the crops by 0.7 %. The mouth moves faster than that:
    where landmarks or blendshapes are to be read as curves, take every=1.

    One pass over the frames, without keeping them: the smoothing looks 2 smooth_s ahead, so only the frames of that
    window and those since the last look are held, and each is cut once the squares around it are known. Which of
    several faces is wanted shows only at the end, so the crops of all are kept until then, as JPEG.

    The model is loaded for each clip, or, inside `with tracker:`, once for all.

    Attributes:
        crop_px: side of the crops.
        model: face_landmarker.task.
        max_faces: faces looked for in a frame.
        margin: share of the face's size added on every side.
        smooth_s: standard deviation of the Gaussian that smooths place, size and angle of the crops; 0: none.
        align: turn the crops so that the eyes are level.
        every: 1 looks at every frame.
        detect_px: longer side of the picture that the detector sees, larger ones are averaged down; 0: as it is.
        choose: which of several faces, see `avser.media.tracks.choose`.
    """

    crop_px: int
    model: Path
    max_faces: int
    margin: float
    smooth_s: float
    align: bool
    every: int
    detect_px: int
    choose: str

    def track(self, frames: Iterable[Frame], voice: Curve | None = None) -> tuple[FaceTrack | None, list[str]]:
        """The face that `choose` asks for; None when no frame shows one.

        Raises:
            ConfigError: the model file is no FaceLandmarker, or a library of the system is missing.
            MediaError: the detector failed.
        """
        if self._held is not None:
            return self._track(self._held, frames, voice)
        with self:
            return self.track(frames, voice)

    def _track(
        self, landmarker: FaceLandmarker, frames: Iterable[Frame], voice: Curve | None
    ) -> tuple[FaceTrack | None, list[str]]:
        following = Following()
        window: deque[tuple[int, Frame]] = deque()  # the frames that are not cut yet
        for index, frame in enumerate(frames):
            following.times.append(frame.time_s)
            window.append((index, frame))
            if index % self.every == 0:
                self._look(landmarker, window, following, mouths=self.choose == "speaking")
                while window[0][1].time_s < frame.time_s - SMOOTH_REACH * self.smooth_s:
                    self._keep(*window.popleft(), following)
        if following.last < len(following.times) - 1:
            self._look(landmarker, window, following, mouths=self.choose == "speaking")
        while window:
            self._keep(*window.popleft(), following)
        following.drop_flashes()
        if not following.tracks:
            return None, [f"no face in any of {len(following.times)} frames"]
        chosen, warnings = choose(following, self.choose, voice)
        return as_face_track(chosen, following.times, self.crop_px), warnings

    def stream(self, frames: Iterable[Frame]) -> Iterator[SeenFrame]:
        """Every face of every frame, cut as `track` cuts it. Where there are several, the detector looks at all frames.

        Faces are numbered from 1 as they come; one that comes back where it was keeps its number.

        Raises:
            ConfigError: the model file is no FaceLandmarker, or a library of the system is missing.
            MediaError: the detector failed.
        """
        if self._held is None:
            with self:
                yield from self.stream(frames)
            return
        landmarker, following = self._held, Following()
        window: deque[tuple[int, Frame]] = deque()
        for index, frame in enumerate(frames):
            following.times.append(frame.time_s)
            window.append((index, frame))
            if index % self.every == 0:
                self._look(landmarker, window, following, mouths=True)
                while window[0][1].time_s < frame.time_s - SMOOTH_REACH * self.smooth_s:
                    yield self._see(*window.popleft(), following)
        if following.last < len(following.times) - 1:
            self._look(landmarker, window, following, mouths=True)
        while window:
            yield self._see(*window.popleft(), following)

    def _keep(self, index: int, frame: Frame, following: Following) -> None:
        for track, box, crop in self._cut(index, frame, following):
            track.boxes[index] = box
            track.crops.add(index, crop)

    def _see(self, index: int, frame: Frame, following: Following) -> SeenFrame:
        """The faces of a frame, cut out; what no later frame needs is forgotten."""
        seen = SeenFrame(frame.time_s)
        for track, box, crop in self._cut(index, frame, following):
            number = following.tracks.index(track) + 1
            seen.faces[number] = SeenFace(box, crop, *track.points(index, following.times))
        following.forget(index, self.every, SMOOTH_REACH * self.smooth_s)
        return seen

    def _look(
        self, landmarker: FaceLandmarker, window: deque[tuple[int, Frame]], following: Following, *, mouths: bool
    ) -> None:
        """Look at the newest frame; and at those since the last look, if other faces are there or mouths compared."""
        index, frame = window[-1]
        faces = self._faces(landmarker, frame)
        if not following.agrees(faces) or (mouths and len(faces) > 1):
            for between, passed_over in [w for w in window if following.last < w[0] < index]:
                following.add(between, self._faces(landmarker, passed_over))
        following.add(index, faces)

    def _faces(self, landmarker: FaceLandmarker, frame: Frame) -> list[Face]:
        found = landmarker.detect(frame, self.detect_px)
        return [Face(*face, face_square(face[0], margin=self.margin, align=self.align)) for face in found]

    def _cut(self, index: int, frame: Frame, following: Following) -> Iterator[tuple[FollowedFace, np.ndarray, bytes]]:
        """Every face of a frame with its box (4,) and its crop as JPEG, now that the frames around it are known."""
        for track in following.tracks:
            if index not in track.squares:
                continue
            near = following.near(track, index, SMOOTH_REACH * self.smooth_s)
            times = np.array([following.times[i] for i in near])
            square = smooth_square(frame.time_s, times, [track.squares[i] for i in near], self.smooth_s)
            yield track, square.box, encode_jpeg(cut_square(frame.image, square, self.crop_px))


@contextmanager
def kept_open(tracker: FaceTracker | None) -> Iterator[None]:
    """Load a tracker's model once for many clips; and so see that nothing is missing, before the first of them.

    Raises:
        ConfigError: the file is no model; MediaPipe or a library that it needs is missing.
    """
    if isinstance(tracker, DetectorHolder):
        with tracker:
            yield
    else:
        yield


TRACKERS = {"mediapipe": MediaPipeTracker, "mediapipe_past": PastTracker, "center": CenterTracker}


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
    every: int = 5,
    detect_px: int = 640,
    choose: str = "longest",
) -> FaceTracker | None:
    """The tracker of that name; None for "none", when faces are not wanted.

    Args:
        name: mediapipe, mediapipe_past, center or none.
        crop_px: side of the crops.
        model: path of face_landmarker.task; None looks in $AVSER_MODELS (a folder, or the file).
        max_faces, margin, smooth_s, align, every, detect_px, choose: see `MediaPipeTracker`.
        center_size: see `CenterTracker.size`.

    Raises:
        ConfigError: unknown name or choice, or no model file. Whether it is a model shows when it is loaded.
    """
    if choose not in CHOICES:
        raise ConfigError(f"media.faces.choose={choose!r}: allowed are {', '.join(CHOICES)}")
    if name == "none":
        return None
    if name == "center":
        return CenterTracker(crop_px, center_size)
    if name == "mediapipe":
        options = (max_faces, margin, smooth_s, align, every, detect_px, choose)
        return MediaPipeTracker(crop_px, find_model(model), *options)
    if name == "mediapipe_past":
        return PastTracker(crop_px, find_model(model), max_faces, margin, smooth_s, align, detect_px, choose)
    raise ConfigError(f"media.faces.tracker={name!r}: allowed are {', '.join([*TRACKERS, 'none'])}")
