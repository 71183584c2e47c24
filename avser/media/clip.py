"""Reads one recording: the voice and the face of a clip on one time axis, or the reason why it cannot be used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from avser.errors import MediaError
from avser.media.audio import decode_audio, is_silent
from avser.media.container import check_present
from avser.media.faces import FaceTracker
from avser.media.video import Frame, iterate_frames
from avser.structures import Clip, FaceTrack


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
) -> Clip:
    """Decode a clip. A modality that cannot be used is None and a warning says why, as long as the other one is left.

    Args:
        clip_id: its name.
        audio, video: files; either may be None, and both may name one file, whose tracks then share their time 0.
        tracker: finds the face; None when faces are not wanted, and `video` is then not read.
        sample_rate_hz: of the waveform.
        fps: frames kept a second; None for every frame.
        start_s, end_s: the part of the files that is the clip.

    Raises:
        MediaError: a file that is named is missing or a Git LFS pointer (so that a wrong path cannot pass for a clip
            without a voice); or neither a voice nor a face is left.
        ConfigError: the tracker's model cannot be used.
    """
    for path in (audio, video):
        if path is not None:
            check_present(path)
    warnings: list[str] = []
    waveform, audio_s = None, 0.0
    if audio is not None:
        waveform, audio_s = _voice(audio, sample_rate_hz, start_s, end_s, warnings)
    face, video_s = None, 0.0
    if video is not None and tracker is not None:
        frames = _Watched(video, fps, start_s, end_s)
        face = _face(tracker, frames, warnings)
        video_s = min(frames.end_s, math.inf if end_s is None else end_s - (start_s or 0.0))
    if waveform is None and face is None:
        if video is not None and tracker is None:
            warnings.append("faces are switched off (media.faces.tracker=none)")
        reasons = "; ".join(warnings) or "neither an audio nor a video file is given"
        raise MediaError(f"clip {clip_id}: neither a voice nor a face is left: {reasons}")
    return Clip(clip_id, max(audio_s, video_s), waveform, sample_rate_hz, face, warnings)


def _voice(
    path: Path, sample_rate_hz: int, start_s: float | None, end_s: float | None, warnings: list[str]
) -> tuple[np.ndarray | None, float]:
    """The waveform, None where it is unusable, and its length in seconds."""
    try:
        waveform, found = decode_audio(path, sample_rate_hz=sample_rate_hz, start_s=start_s, end_s=end_s)
    except MediaError as error:
        warnings.append(f"no voice: {error}")
        return None, 0.0
    warnings.extend(found)
    duration_s = len(waveform) / sample_rate_hz
    if is_silent(waveform):
        warnings.append(f"no voice: {path} is silent throughout")
        return None, duration_s
    return waveform, duration_s


def _face(tracker: FaceTracker, frames: _Watched, warnings: list[str]) -> FaceTrack | None:
    try:
        face, found = tracker.track(frames)
    except MediaError as error:
        warnings.append(f"no face: {error}")
        return None
    warnings.extend(w for w in frames.warnings + found if w not in warnings)
    return face


class _Watched:
    """The frames of a file; tells afterwards when the last of them ended and what was lost."""

    def __init__(self, path: Path, fps: float | None, start_s: float | None, end_s: float | None) -> None:
        self.warnings: list[str] = []
        self._frames = iterate_frames(path, fps=fps, start_s=start_s, end_s=end_s, warnings=self.warnings)
        self._num, self._first_s, self._last_s = 0, 0.0, 0.0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self._first_s = self._first_s if self._num else frame.time_s
            self._last_s = frame.time_s
            self._num += 1
            yield frame

    @property
    def end_s(self) -> float:
        """How long the last frame is shown no timestamp says: as long as frames are on average."""
        return self._last_s + (self._last_s - self._first_s) / max(self._num - 1, 1)
