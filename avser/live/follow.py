"""Feeds a stream from a live source, in time: late pictures are left out and counted, latencies measured."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from avser.live.stream import Stream
from avser.media.live_sources import Chunk
from avser.structures import Prediction

LATE_S = (
    0.3  # a picture that has waited longer is not looked at: what is said about it would come too late (our choice)
)
NUM_REMEMBERED = 1000  # answers over which latencies are summed up


@dataclass
class Timekeeping:
    """How well the answers keep up, so far.

    Attributes:
        num_answers: that were given.
        num_joined: chunks without an answer of their own, as they came too late for one.
        num_frames: pictures that came in.
        num_dropped: pictures that were left out, as they came too late or nobody had fetched them in time.
        latencies_s: of the last answers, see `LiveAnswer.latency_s`.
    """

    num_answers: int = 0
    num_joined: int = 0
    num_frames: int = 0
    num_dropped: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_REMEMBERED))

    def latency_s(self, percentile: float) -> float:
        """Of the last answers; 0 before the first."""
        return float(np.percentile(self.latencies_s, percentile)) if self.latencies_s else 0.0


@dataclass(frozen=True)
class LiveAnswer:
    """What is known after a chunk.

    Attributes:
        time_s: seconds of the stream up to which it has heard and seen.
        prediction: None while there is nothing to go by.
        latency_s: from the moment at which the chunk was complete to this answer; without a pace, what it took.
        kept: how well the answers keep up; goes on being counted.
        warnings: sentences for the person, new ones.
    """

    time_s: float
    prediction: Prediction | None
    latency_s: float
    kept: Timekeeping
    warnings: list[str]


def follow(stream: Stream, chunks: Iterable[Chunk], *, pace: float = 1.0) -> Iterator[LiveAnswer]:
    """An answer after every chunk; when it falls behind, several chunks are answered together, so that it catches up.

    Args:
        chunks: from a device, whose chunks say when they were captured, or from a file.
        pace: of a file: seconds of it in a second; 0: as fast as it can, and nothing is late.

    Raises:
        AvserError: the source or the stream fails.
    """
    kept, waiting = Timekeeping(), list[Chunk]()
    begun = complete = 0.0
    for index, chunk in enumerate(chunks):
        if not index:  # a file is open by now, as a device would be
            begun = time.perf_counter()
        if chunk.captured_at is not None:
            complete, rate = chunk.captured_at, 1.0
        elif pace:
            complete, rate = begun + chunk.end_s / pace, pace
            time.sleep(max(complete - time.perf_counter(), 0.0))
        else:
            complete, rate = time.perf_counter(), math.inf
        late_s = time.perf_counter() - complete
        frames = [frame for frame in chunk.frames if late_s + (chunk.end_s - frame.time_s) / rate <= LATE_S]
        kept.num_frames += len(chunk.frames) + chunk.num_lost
        kept.num_dropped += len(chunk.frames) - len(frames) + chunk.num_lost
        waiting.append(replace(chunk, frames=frames))
        if late_s <= LATE_S:
            yield _answer(stream, waiting, complete, kept)
            waiting = []
    if waiting:
        yield _answer(stream, waiting, complete, kept)


def _answer(stream: Stream, chunks: Sequence[Chunk], complete: float, kept: Timekeeping) -> LiveAnswer:
    """Push chunks together; the last of them was complete at that reading of the clock."""
    pieces = [chunk.audio for chunk in chunks if chunk.audio is not None]
    prediction = stream.push(
        audio=np.concatenate(pieces) if pieces else None, frames=[frame for chunk in chunks for frame in chunk.frames]
    )
    latency_s = time.perf_counter() - complete
    kept.num_answers += 1
    kept.num_joined += len(chunks) - 1
    kept.latencies_s.append(latency_s)
    warnings = [warning for chunk in chunks for warning in chunk.warnings]
    return LiveAnswer(chunks[-1].end_s, prediction, latency_s, kept, warnings)
