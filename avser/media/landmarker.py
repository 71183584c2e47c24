"""MediaPipe's FaceLandmarker: where its model file is, and the faces that it finds in the frames of one clip."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from avser.errors import ConfigError, MediaError
from avser.media.native import import_native, missing_library
from avser.media.video import Frame

MODEL_FILE = "face_landmarker.task"


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
    """The detector in VIDEO mode, which carries state from frame to frame: one for each clip, closed after it.

    Raises:
        ConfigError: the model file is none, or MediaPipe or a library that it needs is missing.
    """

    def __init__(self, model: Path, max_faces: int) -> None:
        self._mediapipe = import_native("mediapipe")
        tasks = import_native("mediapipe.tasks.python")
        try:
            options = tasks.vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=model.read_bytes()),
                running_mode=tasks.vision.RunningMode.VIDEO,
                num_faces=max_faces,
                output_face_blendshapes=True,
            )
            self._landmarker = tasks.vision.FaceLandmarker.create_from_options(options)
        except (OSError, RuntimeError, ValueError) as error:
            if ".so" in str(error):  # MediaPipe loads some libraries only now
                raise missing_library(error) from error
            reason = str(error).splitlines()[0]
            raise ConfigError(f"media.faces.model: {model} is not a FaceLandmarker model ({reason})") from error
        self._last_ms = -1

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()

    def detect(self, frame: Frame) -> list[tuple[np.ndarray, np.ndarray]]:
        """The faces of the next frame.

        Returns:
            For each face its landmarks, (478, 2) float32 in pixels, and its blendshapes, (52,) float32 in [0, 1].

        Raises:
            MediaError: the detector failed.
        """
        # MediaPipe wants milliseconds that increase; frames may come closer together than that.
        self._last_ms = max(round(frame.time_s * 1000), self._last_ms + 1)
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=frame.image)
        try:
            result = self._landmarker.detect_for_video(image, self._last_ms)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise MediaError(f"the face detector failed on the frame at {frame.time_s:.3f} s: {reason}") from error
        height, width = frame.image.shape[:2]
        return [
            (
                np.array([(p.x * width, p.y * height) for p in points], np.float32),
                np.array([shape.score for shape in shapes], np.float32),
            )
            for points, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True)
        ]
