"""A model that must see whole clips, asked about the last seconds of a stream over and over."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from avser.inference import TrainedModel, predict_clips
from avser.structures import Clip, FaceTrack, Prediction


class Rereading:
    """The last seconds of a stream, and what a model says about them as a clip.

    Args:
        window_s: how many seconds are kept and read.
        name: clip_id of the answers.
    """

    def __init__(self, model: TrainedModel, window_s: float, name: str) -> None:
        self._model, self._window_s, self._name = model, window_s, name
        self._rate_hz = model.config.media.sample_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self._samples = np.zeros(0, np.float32)
        self._num_samples = 0  # of the whole stream
        self._face: FaceTrack | None = None

    def push(self, samples: np.ndarray | None, face: FaceTrack | None, now_s: float) -> Prediction | None:
        """The answer for the window that ends at `now_s`; None where it shows nothing that the model reads."""
        if samples is not None:
            self._samples = np.concatenate([self._samples, samples])
            self._num_samples += len(samples)
        if face is not None:
            self._face = face if self._face is None else join_tracks(self._face, face)
        start = max(round((now_s - self._window_s) * self._rate_hz), 0)
        start_s = start / self._rate_hz
        self._samples = self._samples[max(len(self._samples) - max(self._num_samples - start, 0), 0) :]
        if self._face is not None:
            kept = self._face.times >= start_s
            self._face = pick_frames(self._face, kept) if kept.any() else None
        clip = Clip(
            self._name,
            now_s - start_s,
            self._samples if len(self._samples) else None,
            self._rate_hz,
            None if self._face is None else replace(self._face, times=self._face.times - start_s),
        )
        if not any(self._model.can_read(clip, modality) for modality in self._model.modalities):
            return None
        return predict_clips(self._model, [clip])[0].moved(start_s)


def join_tracks(one: FaceTrack, other: FaceTrack) -> FaceTrack:
    """One track after the other; landmarks and blendshapes only where both have them."""
    joined: dict[str, Any] = {
        name: None if mine is None or theirs is None else np.concatenate([mine[:], theirs[:]])
        for name, mine, theirs in ((f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(FaceTrack))
    }
    return FaceTrack(**joined)


def pick_frames(track: FaceTrack, kept: np.ndarray) -> FaceTrack:
    """The frames of a track that are marked in `kept` (T,) bool."""
    picked: dict[str, Any] = {
        name: None if values is None else values[kept]
        for name, values in ((f.name, getattr(track, f.name)) for f in fields(FaceTrack))
    }
    return FaceTrack(**picked)
