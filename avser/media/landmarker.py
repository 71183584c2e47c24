"""MediaPipe's FaceLandmarker: where its model file is, and the faces that it finds in a frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, Self

import numpy as np

from avser.errors import ConfigError, MediaError
from avser.media.crops import overlap
from avser.media.native import import_native, missing_library
from avser.media.video import Frame

MODEL_FILE = "face_landmarker.task"
SAME_FACE = 0.3  # overlap of two boxes that neighbouring windows show of one face
MIN_LOOK_PX = 128  # smaller windows hold no face of the size that crops want


def find_model(model: str | None = None) -> Path:
    """The model file: at the path given, or where $AVSER_MODELS points (a folder, or the file).

    Raises:
        ConfigError: it is not there; the message says where to get and where to put it.
    """
    place = model or os.environ.get("AVSER_MODELS")
    path = Path(place).expanduser() if place else None
    if path is not None and path.is_dir():
        path = path / MODEL_FILE
    if path is not None and path.is_file():
        return path
    got = f"there is no {path}" if path is not None else "neither media.faces.model nor $AVSER_MODELS is set"
    raise ConfigError(
        f"the face model {MODEL_FILE} is missing: {got}. Download it (the MediaPipe model card of FaceLandmarker has "
        "the link), then set media.faces.model=PATH or put it into the folder that $AVSER_MODELS names; "
        "media.faces.tracker=center or none needs no model"
    )


class FaceLandmarker:
    """The detector, for one frame at a time: it carries nothing from one to the next, so it serves many clips.

    In MediaPipe's IMAGE mode, as the frames looked at may lie far apart and come in any order. Wherever a frame shows
    fewer faces than are looked for, the VIDEO mode finds the very same points at the same cost (measured).

    Raises:
        ConfigError: the model file is none, or MediaPipe or a library that it needs is missing.
    """

    def __init__(self, model: Path, max_faces: int) -> None:
        self._mediapipe = import_native("mediapipe")
        self._tasks = import_native("mediapipe.tasks.python")
        self._model, self._max_faces = model, max_faces
        self._landmarker = self._open()

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Has to be called: one that is left to the garbage collector may wait for its own thread for ever."""
        self._landmarker.close()

    def detect(self, frame: Frame, longest_px: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """The faces of a frame.

        The detector sees any picture as a small square, in which a face of less than a seventh of the longer side is
        lost. Where the whole picture shows none, squares of it are looked at, and then smaller ones (our choice).

        Args:
            longest_px: a picture with a longer side is first averaged down to it; 0: none is.

        Returns:
            For each face its landmarks, (478, 2) float32 in pixels of the frame, and its blendshapes, (52,) float32 in
            [0, 1].

        Raises:
            MediaError: the detector failed.
        """
        faces = self._detect(frame.image, frame.time_s, longest_px)
        for windows in _closer_looks(*frame.image.shape[:2]):
            if faces:
                break
            for x, y, side in windows:
                part = np.ascontiguousarray(frame.image[y : y + side, x : x + side])
                for points, shapes in self._detect(part, frame.time_s, longest_px):
                    points += np.array([x, y], np.float32)
                    if not any(overlap(_box(points), _box(other)) > SAME_FACE for other, _ in faces):
                        faces.append((points, shapes))
        return faces[: self._max_faces]

    def _detect(self, picture: np.ndarray, time_s: float, longest_px: int) -> list[tuple[np.ndarray, np.ndarray]]:
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=_reduced(picture, longest_px))
        try:
            result = self._landmarker.detect(image)
        except (RuntimeError, ValueError) as error:
            self.close()  # one that has failed once may fail ever after
            self._landmarker = self._open()
            reason = str(error).splitlines()[0]
            raise MediaError(f"the face detector failed on the frame at {time_s:.3f} s: {reason}") from error
        height, width = picture.shape[:2]
        size = np.array([width, height], np.float32)
        return [
            (
                np.array([(point.x, point.y) for point in points], np.float32) * size,
                np.array([shape.score for shape in shapes], np.float32),
            )
            for points, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True)
        ]

    def _open(self) -> Any:
        try:
            options = self._tasks.vision.FaceLandmarkerOptions(
                base_options=self._tasks.BaseOptions(model_asset_buffer=self._model.read_bytes()),
                running_mode=self._tasks.vision.RunningMode.IMAGE,
                num_faces=self._max_faces,
                output_face_blendshapes=True,
            )
            return self._tasks.vision.FaceLandmarker.create_from_options(options)
        except (OSError, RuntimeError, ValueError) as error:
            if ".so" in str(error):  # MediaPipe loads some libraries only now
                raise missing_library(error) from error
            reason = str(error).splitlines()[0]
            raise ConfigError(f"media.faces.model: {self._model} is not a FaceLandmarker model ({reason})") from error


class DetectorHolder:
    """A tracker that loads its model for each clip, or, inside `with tracker:`, once for all.

    Attributes:
        model: face_landmarker.task.
        max_faces: faces looked for in a frame.
    """

    model: Path
    max_faces: int
    _held: FaceLandmarker | None = None

    def __enter__(self) -> Self:
        self._held = FaceLandmarker(self.model, self.max_faces)
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()
        self._held = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": None}  # a detector cannot travel to another process


def _reduced(image: np.ndarray, longest_px: int) -> np.ndarray:
    scale = longest_px / max(image.shape[:2])
    if not 0 < scale < 1:
        return image
    cv2 = import_native("cv2")
    height, width = (max(round(length * scale), 1) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _closer_looks(height: int, width: int) -> Iterator[list[tuple[int, int, int]]]:
    """(x, y, side) of overlapping squares that cover a picture: as high as it is, then half of that."""
    for share in (1.0, 0.5):
        side = round(share * min(height, width))
        if MIN_LOOK_PX <= side < max(height, width):
            yield [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]


def _starts(length: int, side: int) -> list[int]:
    """Where windows of that side begin, half a side apart at most, the last at the end."""
    num = 1 + ceil(2 * (length - side) / side)
    return [round(i * (length - side) / max(num - 1, 1)) for i in range(num)]


def _box(points: np.ndarray) -> np.ndarray:
    """(4,) tightly around landmarks (478, 2)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
