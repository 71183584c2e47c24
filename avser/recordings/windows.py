"""Cuts a stream of voice and faces into windows that overlap; only the stretch of the current ones is in memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from avser.errors import ConfigError
from avser.media.seen_faces import SeenFrame

# Our choice: about the length of the clips that models are trained on, each moment seen twice.
WINDOW_S, HOP_S = 4.0, 2.0
REST_S = 0.1  # what is left behind the last window is not worth one of its own, if it is shorter


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

    Attributes:
        start_s, end_s: seconds of the recording.
        waveform: (N,) float32, what there is of the voice between these; None where the recording has none.
        frames: those between, with times of the recording.
        whole: the stretch is the whole recording.
    """

    start_s: float
    end_s: float
    waveform: np.ndarray | None
    frames: list[SeenFrame]
    whole: bool = False


@dataclass(frozen=True)
class Windowing:
    """How a recording is cut.

    Attributes:
        window_s, hop_s: length of a window, and from one to the next.
        whole_s: a recording of at most so many seconds is one window.

    Raises:
        ConfigError: a length that is not above 0, or a hop beyond the window, which would leave moments out.
    """

    window_s: float = WINDOW_S
    hop_s: float = HOP_S
    whole_s: float = 10.0

    def __post_init__(self) -> None:
        if not (0.5 <= self.window_s < math.inf and 0.1 <= self.hop_s <= self.window_s and self.whole_s >= 0):
            raise ConfigError(
                f"windows of {self.window_s:g} s every {self.hop_s:g} s: a window has at least 0.5 s, the hop at least "
                "0.1 s and at most a window"
            )


def cut_windows(
    voice: Iterator[np.ndarray] | None, faces: Iterator[SeenFrame] | None, rate_hz: int, how: Windowing
) -> Iterator[Window]:
    """Windows in order of time; the last one ends with the recording, and has the full length too.

    Args:
        voice: pieces (n,) that follow each other, the first at time 0; None without a voice.
        faces: frames in order of time; None without a picture.
        rate_hz: of the voice.
    """
    sound, sight = _Sound(voice, rate_hz), _Sight(faces)
    if sound.fill(how.whole_s) & sight.fill(how.whole_s):
        end_s = max(sound.end_s, sight.end_s)
        yield Window(0.0, end_s, sound.cut(0.0, end_s), sight.cut(0.0, math.inf), whole=True)
        return
    covered_s, index = 0.0, 0
    while True:
        start_s = index * how.hop_s
        end_s = start_s + how.window_s
        ended = sound.fill(end_s) & sight.fill(end_s)
        if ended:
            end_s = max(sound.end_s, sight.end_s)
            if end_s - covered_s < REST_S:
                return
            start_s = max(end_s - how.window_s, 0.0)
        yield Window(start_s, end_s, sound.cut(start_s, end_s), sight.cut(start_s, end_s))
        if ended:
            return
        sound.drop(start_s)
        sight.drop(start_s)
        covered_s, index = end_s, index + 1


class _Sound:
    """The samples that windows still need."""

    def __init__(self, pieces: Iterator[np.ndarray] | None, rate_hz: int) -> None:
        self._pieces, self._rate_hz = pieces, rate_hz
        self._kept: deque[np.ndarray] = deque()
        self._begin = self._end = 0  # samples of the recording

    @property
    def end_s(self) -> float:
        return self._end / self._rate_hz

    def fill(self, until_s: float) -> bool:
        """Read on to that time; whether nothing comes behind it."""
        while self._pieces is not None and self._end <= round(until_s * self._rate_hz):
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
                break
            self._kept.append(piece)
            self._end += len(piece)
        return self._pieces is None and self._end <= round(until_s * self._rate_hz)

    def cut(self, start_s: float, end_s: float) -> np.ndarray | None:
        if not self._end:
            return None
        whole = np.concatenate([np.zeros(0, np.float32), *self._kept])
        low, high = (max(round(t * self._rate_hz) - self._begin, 0) for t in (start_s, end_s))
        return whole[low:high].copy()

    def drop(self, before_s: float) -> None:
        while self._kept and self._begin + len(self._kept[0]) <= round(before_s * self._rate_hz):
            self._begin += len(self._kept.popleft())


class _Sight:
    """The frames that windows still need."""

    def __init__(self, frames: Iterator[SeenFrame] | None) -> None:
        self._frames = frames
        self._kept: deque[SeenFrame] = deque()
        self._num, self._first_s, self._last_s = 0, 0.0, 0.0

    @property
    def end_s(self) -> float:
        """How long the last frame is shown no timestamp says: as long as frames are on average."""
        return self._last_s + (self._last_s - self._first_s) / max(self._num - 1, 1) if self._num else 0.0

    def fill(self, until_s: float) -> bool:
        """Read on to that time; whether nothing comes behind it."""
        while self._frames is not None and (not self._num or self._last_s < until_s):
            frame = next(self._frames, None)
            if frame is None:
                self._frames = None
                break
            self._first_s = self._first_s if self._num else frame.time_s
            self._last_s = frame.time_s
            self._num += 1
            self._kept.append(frame)
        return self._frames is None and (not self._num or self._last_s < until_s)

    def cut(self, start_s: float, end_s: float) -> list[SeenFrame]:
        return [frame for frame in self._kept if start_s <= frame.time_s < end_s]

    def drop(self, before_s: float) -> None:
        while self._kept and self._kept[0].time_s < before_s:
            self._kept.popleft()
