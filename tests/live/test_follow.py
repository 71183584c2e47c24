"""In time or not: pace, late pictures, and chunks that are answered together."""

import time

import numpy as np
import pytest

from avser.live.follow import follow
from avser.media.live_sources import Chunk
from avser.media.video import Frame
from avser.structures import Prediction

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Slow:
    """A stream that takes its time, and remembers what it was given."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.num_samples: list[int] = []
        self.frame_times: list[float] = []

    def push(self, audio: np.ndarray | None, frames: list[Frame]) -> Prediction | None:
        time.sleep(self.seconds)
        self.num_samples.append(0 if audio is None else len(audio))
        self.frame_times += [frame.time_s for frame in frames]
        return None


def chunks(num: int, **options) -> list[Chunk]:
    """Of 50 ms, with 800 samples and a picture in the middle of each."""
    return [
        Chunk(0.05 * (i + 1), np.zeros(800, np.float32), [Frame(0.05 * i + 0.025, PICTURE)], **options)
        for i in range(num)
    ]


def test_without_a_pace_every_chunk_is_answered_at_once_and_nothing_is_late() -> None:
    stream, begun = Slow(0.0), time.perf_counter()
    answers = list(follow(stream, chunks(20), pace=0))  # type: ignore[arg-type]
    assert time.perf_counter() - begun < 0.5
    assert len(answers) == 20
    assert answers[-1].time_s == pytest.approx(1.0)
    assert (answers[-1].kept.num_frames, answers[-1].kept.num_dropped) == (20, 0)


@pytest.mark.parametrize("pace", [1.0, 2.0])
def test_a_file_is_read_at_its_pace(pace) -> None:
    begun = time.perf_counter()
    answers = list(follow(Slow(0.0), chunks(12), pace=pace))  # type: ignore[arg-type]
    assert time.perf_counter() - begun >= 0.6 / pace - 0.02
    assert all(answer.latency_s >= 0 for answer in answers)


def test_who_falls_behind_drops_pictures_but_no_sound_and_catches_up() -> None:
    stream = Slow(0.45)
    answers = list(follow(stream, chunks(40)))  # type: ignore[arg-type]
    kept = answers[-1].kept
    assert sum(stream.num_samples) == 40 * 800
    assert kept.num_frames == 40
    assert kept.num_dropped > 0
    assert len(stream.frame_times) == 40 - kept.num_dropped
    assert kept.num_joined == 40 - kept.num_answers > 0
    assert stream.frame_times == sorted(stream.frame_times)
    assert max(kept.latencies_s) < 1.5  # it would be 16 s if each chunk waited for its own answer


def test_what_a_device_captured_long_ago_is_late() -> None:
    stale = [Chunk(0.05, None, [Frame(0.02, PICTURE)], captured_at=time.perf_counter() - 1.0, num_lost=3)]
    fresh = [Chunk(0.10, None, [Frame(0.07, PICTURE)], captured_at=time.perf_counter() + 0.1)]
    stream = Slow(0.0)
    answers = list(follow(stream, [*stale, *fresh]))  # type: ignore[arg-type]
    assert stream.frame_times == [0.07]
    assert (answers[-1].kept.num_frames, answers[-1].kept.num_dropped) == (5, 4)


def test_warnings_come_with_the_answer() -> None:
    [answer] = follow(Slow(0.0), chunks(1, warnings=["the sound card lost samples"]), pace=0)  # type: ignore[arg-type]
    assert answer.warnings == ["the sound card lost samples"]
