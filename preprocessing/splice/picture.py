"""The frames of a joined clip: those of the pieces, cut at the same times as the sound, with short dissolves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from avser.errors import MediaError
from avser.media.video import Frame, iterate_frames

DISSOLVE_S = 0.1  # three frames: one face turns into the other instead of jumping
SPARE_S = 0.2  # decoded before a piece, so that its first frame has one before it


@dataclass(frozen=True)
class Stretch:
    """A piece of a file that is shown.

    Attributes:
        path: the file.
        start_s: when the stretch begins, in seconds of the file.
        duration_s: how long it is shown.
    """

    path: Path
    start_s: float
    duration_s: float


def join_frames(stretches: Sequence[Stretch], fps: float, num_frames: int) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB frames at times k / fps: of each stretch the frame nearest in time.

    Raises:
        MediaError: a file cannot be decoded, has no frame there, or differs in its picture's size.
    """
    begins = np.cumsum([0.0, *(s.duration_s for s in stretches)])[:-1]
    films = [_Film(stretch, begin) for stretch, begin in zip(stretches, begins, strict=True)]
    for k in range(num_frames):
        time_s = k / fps
        now = int(np.searchsorted(begins, time_s + 1e-9, side="right")) - 1
        image = films[now].at(time_s)
        nearest = min(range(1, len(films)), key=lambda n: abs(begins[n] - time_s), default=0)
        share = 0.5 - abs(begins[nearest] - time_s) / DISSOLVE_S if nearest else 0.0
        if share > 0:  # of the other side: a half at the cut itself
            other = films[nearest - 1 if now == nearest else nearest].at(time_s)
            if other.shape != image.shape:
                raise MediaError(f"{stretches[now].path}: its picture differs in size from the other take's")
            image = np.round(image * (1 - share) + other * share).astype(np.uint8)
        yield image


def first_frame_s(time_s: float, fps: Fraction) -> float:
    """When the first frame at or after a time is shown."""
    return float(math.ceil(time_s * fps - 1e-6) / fps)


class _Film:
    """One stretch, read forwards once."""

    def __init__(self, stretch: Stretch, begin_s: float) -> None:
        self._path = stretch.path
        self._from_s = max(stretch.start_s - SPARE_S, 0.0)
        self._shift_s = stretch.start_s - self._from_s - begin_s
        self._frames: Iterator[Frame] | None = None
        self._held: Frame | None = None
        self._next: Frame | None = None

    def at(self, time_s: float) -> np.ndarray:
        """The frame nearest to a time of the joined clip; times must not decrease."""
        if self._frames is None:
            self._frames = iterate_frames(self._path, start_s=self._from_s)
            self._held = next(self._frames)
            self._next = next(self._frames, None)
        assert self._held is not None
        wanted = time_s + self._shift_s
        while self._next is not None and abs(self._next.time_s - wanted) <= abs(self._held.time_s - wanted):
            self._held, self._next = self._next, next(self._frames, None)
        return self._held.image
