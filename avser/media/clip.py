"""Reads one recording: the voice and the face of a clip on one time axis, or the reason why it cannot be used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from avser.errors import MediaError
from avser.media.audio import decode_audio, is_silent
from avser.media.container import check_present, time_zero_s
from avser.media.face_table import read_face_features
from avser.media.faces import FaceTracker
from avser.media.speaker import measure_loudness
from avser.media.video import Frame, iterate_frames
from avser.structures import Clip, Curve, FaceTrack, FeatureTrack


def read_clip(
    clip_id: str,
    *,
    audio: Path | None,
    video: Path | None,
    tracker: FaceTracker | None,
    sample_rate_hz: int = 16000,
    fps: float | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    side: str = "",
    face_features: Path | None = None,
    feature_columns: Sequence[str] = (),
) -> Clip:
    """Decode a clip. A modality that cannot be used is None and a warning says why, as long as the other one is left.

    Args:
        clip_id: its name.
        audio, video: files; either may be None, and both may name one file, whose tracks then share their time 0.
        tracker: finds the face; None when faces are not wanted, and `video` is then not read.
        sample_rate_hz: of the waveform.
        fps: frames kept a second; None for every frame.
        start_s, end_s: the part of the files that is the clip.
        side: "left" or "right": the half of the picture to look at (a split screen); empty for all of it. Boxes and
            landmarks are then in pixels of that half.
        face_features: a table that another program made of the face, see `avser.media.face_table`.
        feature_columns: which of its columns, as shell patterns.

    Raises:
        MediaError: a file that is named is missing or a Git LFS pointer (so that a wrong path cannot pass for a clip
            without a voice); or neither a voice nor a face is left.
        ConfigError: the tracker's model cannot be used.
    """
    for path in (audio, video, face_features):
        if path is not None:
            check_present(path)
    warnings: list[str] = []
    part = _Part(start_s, end_s, _shared_zero_s(audio, video) if tracker is not None else None)
    waveform, audio_s = None, 0.0
    if audio is not None:
        waveform, audio_s = _voice(audio, sample_rate_hz, part, warnings)
    face, video_s = None, 0.0
    if video is not None and tracker is not None:
        frames = _Watched(video, fps, part, side)
        voice = None if waveform is None else measure_loudness(waveform, sample_rate_hz)
        face = _face(tracker, frames, voice, warnings)
        video_s = min(frames.end_s, math.inf if end_s is None else end_s - (start_s or 0.0))
    duration_s, features = max(audio_s, video_s), None
    if face_features is not None:
        cut = {"start_s": start_s, "end_s": end_s, "duration_s": duration_s}
        features = _features(face_features, clip_id, feature_columns, fps, cut, warnings)
    if waveform is None and face is None and features is None:
        if video is not None and tracker is None:
            warnings.append("faces are switched off (media.faces.tracker=none)")
        reasons = "; ".join(warnings) or "neither an audio nor a video file is given"
        raise MediaError(f"clip {clip_id}: neither a voice nor a face is left: {reasons}")
    if not duration_s and features is not None:
        duration_s = float(features.times[-1])
    return Clip(clip_id, duration_s, waveform, sample_rate_hz, face, features, warnings)


@dataclass(frozen=True)
class _Part:
    """The part of the files that is the clip; `zero_s` is their time 0, where it is known before they are read."""

    start_s: float | None
    end_s: float | None
    zero_s: float | None


def _shared_zero_s(audio: Path | None, video: Path | None) -> float | None:
    """Time 0 of the one file that holds both tracks, measured once. A fault is told where the tracks are read."""
    if audio is None or audio != video:
        return None
    try:
        return time_zero_s(audio)
    except MediaError:
        return None


def _voice(path: Path, sample_rate_hz: int, part: _Part, warnings: list[str]) -> tuple[np.ndarray | None, float]:
    """The waveform, None where it is unusable, and its length in seconds."""
    try:
        waveform, found = decode_audio(path, sample_rate_hz=sample_rate_hz, **asdict(part))
    except MediaError as error:
        warnings.append(f"no voice: {error}")
        return None, 0.0
    warnings.extend(found)
    duration_s = len(waveform) / sample_rate_hz
    if is_silent(waveform):
        warnings.append(f"no voice: {path} is silent throughout")
        return None, duration_s
    return waveform, duration_s


def _face(tracker: FaceTracker, frames: _Watched, voice: Curve | None, warnings: list[str]) -> FaceTrack | None:
    try:
        face, found = tracker.track(frames, voice)
    except MediaError as error:
        warnings.append(f"no face: {error}")
        return None
    warnings.extend(w for w in frames.warnings + found if w not in warnings)
    return face


def _features(
    path: Path,
    clip_id: str,
    columns: Sequence[str],
    fps: float | None,
    cut: Mapping[str, float | None],
    warnings: list[str],
) -> FeatureTrack | None:
    try:
        features, found = read_face_features(path, clip_id, columns, fps=fps, **cut)  # type: ignore[arg-type]
    except MediaError as error:
        warnings.append(f"no face features: {error}")
        return None
    warnings.extend(found)
    return features


class _Watched:
    """The frames of a file; tells afterwards when the last of them ended and what was lost."""

    def __init__(self, path: Path, fps: float | None, part: _Part, side: str) -> None:
        self.warnings: list[str] = []
        self._side = side
        self._frames = iterate_frames(path, fps=fps, warnings=self.warnings, **asdict(part))
        self._num, self._first_s, self._last_s = 0, 0.0, 0.0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self._first_s = self._first_s if self._num else frame.time_s
            self._last_s = frame.time_s
            self._num += 1
            yield frame if not self._side else Frame(frame.time_s, _half(frame.image, self._side))

    @property
    def end_s(self) -> float:
        """How long the last frame is shown no timestamp says: as long as frames are on average."""
        return self._last_s + (self._last_s - self._first_s) / max(self._num - 1, 1)


def _half(image: np.ndarray, side: str) -> np.ndarray:
    """(H, W // 2, 3), in memory of its own: detectors want no gaps between the lines."""
    half = image.shape[1] // 2
    return np.ascontiguousarray(image[:, :half] if side == "left" else image[:, -half:])
