"""What a recording may come as: a path, an open file, or arrays of voice and pictures; all become two streams."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from avser.errors import AvserError, MediaError
from avser.inference import TrainedModel, wanted_tracks
from avser.media.audio import iterate_audio, resample
from avser.media.container import time_zero_s
from avser.media.faces import FaceTracker
from avser.media.seen_faces import SeenFrame
from avser.media.video import Frame, frames_of, iterate_frames, probe
from avser.recordings.ahead import read_ahead

Given = str | Path | BinaryIO | np.ndarray | tuple[np.ndarray, np.ndarray]
Piece = TypeVar("Piece")

FRAMES_AHEAD, FACES_AHEAD = 24, 48  # pictures of 480x360 are half a megabyte each


@dataclass
class Source:
    """A recording as streams.

    Attributes:
        voice: pieces (n,) at the model's rate, the first at time 0; None where there is no voice to be read.
        faces: the faces of every frame that the model reads; None where there is no picture to be read.
        duration_s: as the header says, for the progress alone; None where it does not.
        warnings: complete once both streams have been read.
    """

    name: str
    path: Path | None
    voice: Generator[np.ndarray] | None
    faces: Generator[SeenFrame] | None
    duration_s: float | None = None
    warnings: list[str] = field(default_factory=list)


@contextmanager
def open_source(
    model: TrainedModel,
    given: Given,
    tracker: FaceTracker | None,
    *,
    name: str = "",
    sample_rate_hz: int | None = None,
    fps: float | None = None,
) -> Iterator[Source]:
    """The streams of a recording, read ahead in threads of their own, which end with the `with`.

    Args:
        given: a path; a file object opened for reading bytes; a voice (N,) or (C, N) of floats with its
            `sample_rate_hz`; pictures (T, H, W, 3) uint8 RGB with their `fps`; or voice and pictures as a pair.
        tracker: finds the faces; None where the model reads none.
        name: of the recording; by default its file's.

    Raises:
        MediaError: the file cannot be used, or has nothing that the model reads; or arrays of another shape.
    """
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(given, (np.ndarray, tuple)):
            source = _from_arrays(model, given, tracker, name or "array", sample_rate_hz, fps)
        elif isinstance(given, (str, Path)):
            source = _from_path(model, Path(given), tracker, name or Path(given).stem)
        elif hasattr(given, "read"):
            source = _from_path(model, _copy(given, Path(folder)), tracker, name or _name_of(given))
            source.path = None
        else:
            raise MediaError(f"{type(given).__name__}: give a path, a file opened for bytes, or NumPy arrays")
        try:
            yield source
        finally:
            for stream in (source.voice, source.faces):
                if stream is not None:
                    stream.close()


def _from_path(model: TrainedModel, path: Path, tracker: FaceTracker | None, name: str) -> Source:
    wants_voice, wants_face = wanted_tracks(model, path)
    info, media = probe(path), model.config.media
    source = Source(name, path, None, None, info.duration_s)
    zero_s = time_zero_s(path)
    if wants_voice or (wants_face and info.has_audio):  # of several faces, the voice tells who speaks
        lost = list[str]()
        pieces = iterate_audio(path, sample_rate_hz=media.sample_rate_hz, zero_s=zero_s, warnings=lost)
        source.voice = read_ahead(_forgiving(pieces, "voice", source.warnings, lost), FACES_AHEAD)
    if wants_face and tracker is not None:
        lost = list[str]()
        frames = iterate_frames(path, fps=media.fps, zero_s=zero_s, warnings=lost)
        source.faces = _follow(tracker, frames, source.warnings, lost)
    elif wants_face:
        source.warnings.append("faces are switched off (media.faces.tracker=none)")
    return source


def _from_arrays(
    model: TrainedModel,
    given: np.ndarray | tuple[np.ndarray, np.ndarray],
    tracker: FaceTracker | None,
    name: str,
    sample_rate_hz: int | None,
    fps: float | None,
) -> Source:
    arrays = given if isinstance(given, tuple) else (given,)
    voices = [a for a in arrays if a.ndim in (1, 2) and a.dtype.kind == "f"]
    pictures = [a for a in arrays if a.ndim == 4 and a.shape[3] == 3 and a.dtype == np.uint8]
    if len(voices) + len(pictures) < len(arrays) or max(len(voices), len(pictures)) > 1 or not all(map(len, arrays)):
        got = ", ".join(f"{a.shape} {a.dtype}" for a in arrays)
        raise MediaError(
            f"arrays {got}: expected a voice (N,) or (C, N) of floats, pictures (T, H, W, 3) uint8, or both"
        )
    if (voices and not sample_rate_hz) or (pictures and not fps):
        raise MediaError("arrays do not say how fast they run: give sample_rate_hz of a voice, and fps of pictures")
    source, media = Source(name, None, None, None), model.config.media
    if voices and sample_rate_hz:
        voice = resample(
            voices[0] if voices[0].ndim == 1 else voices[0].mean(axis=0), sample_rate_hz, media.sample_rate_hz
        )
        source.voice = read_ahead([voice], 1)
    if pictures and fps and tracker is not None:
        source.faces = _follow(tracker, frames_of(pictures[0], fps, fps=media.fps), source.warnings, [])
    if source.faces is None and source.voice is None:
        raise MediaError(
            f"{name}: has nothing for the model in {model.folder}, which reads {' and '.join(model.modalities)}"
        )
    return source


def _follow(
    tracker: FaceTracker, frames: Iterator[Frame], warnings: list[str], lost: list[str]
) -> Generator[SeenFrame]:
    """Decoding in one thread, looking for faces in another."""
    ahead = read_ahead(_forgiving(frames, "face", warnings, lost), FRAMES_AHEAD)
    return read_ahead(_closing(tracker.stream(ahead), ahead.close), FACES_AHEAD)


def _closing(items: Iterator[Piece], close: Callable[[], None]) -> Iterator[Piece]:
    try:
        yield from items
    finally:
        close()


def _forgiving(items: Iterator[Piece], what: str, warnings: list[str], lost: list[str]) -> Iterator[Piece]:
    """A track that fails is a warning: the other one may be enough."""
    try:
        yield from items
    except AvserError as error:
        warnings.append(f"no {what}: {error}")
    warnings.extend(w for w in lost if w not in warnings)


def _copy(file: Any, folder: Path) -> Path:
    """An open file as one on disk: decoders jump to and fro, and read it once for each track."""
    path = folder / "recording"
    with path.open("wb") as out:
        try:
            shutil.copyfileobj(file, out)
        except TypeError as error:
            raise MediaError("a file object opened for text; open it with mode 'rb'") from error
    return path


def _name_of(file: Any) -> str:
    name = getattr(file, "name", None)
    return Path(name).stem if isinstance(name, str) else "recording"
