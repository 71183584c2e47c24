"""Windows cover the recording, each of full length, and hold no more than their stretch."""

import math

import numpy as np
import pytest

from avser.errors import ConfigError
from avser.media.seen_faces import SeenFrame
from avser.recordings.windows import Windowing, cut_windows

RATE = 100


def sound(seconds, piece=37):
    """Samples that say when they are, in pieces of odd lengths."""
    samples = np.arange(round(seconds * RATE), dtype=np.float32)
    return iter([samples[i : i + piece] for i in range(0, len(samples), piece)])


def sight(seconds, fps=10):
    return iter([SeenFrame(i / fps) for i in range(round(seconds * fps))])


def test_windows_overlap_and_the_last_one_ends_with_the_recording():
    windows = list(cut_windows(sound(13.3), sight(13.0), RATE, Windowing(4, 2, 10)))
    assert [(w.start_s, round(w.end_s, 6)) for w in windows] == [
        *((s, s + 4) for s in (0, 2, 4, 6, 8)),
        (pytest.approx(9.3), 13.3),
    ]
    for window in windows:
        assert window.waveform.tolist() == list(range(round(window.start_s * RATE), round(window.end_s * RATE)))
        times = [frame.time_s for frame in window.frames]
        assert times == [i / 10 for i in range(130) if window.start_s <= i / 10 < window.end_s]
        assert not window.whole


@pytest.mark.parametrize(("seconds", "num"), [(12.0, 5), (12.05, 5), (12.2, 6), (10.0, 1), (0.7, 1)])
def test_a_short_recording_is_one_window_and_a_short_rest_none_of_its_own(seconds, num):
    windows = list(cut_windows(sound(seconds), None, RATE, Windowing(4, 2, 10)))
    assert len(windows) == num
    assert windows[0].whole == (num == 1)
    if num == 1:
        assert len(windows[0].waveform) == round(seconds * RATE)


@pytest.mark.parametrize(("heard", "seen"), [(5.0, 15.0), (15.0, 5.0), (0.0, 15.0)])
def test_one_track_may_end_long_before_the_other(heard, seen):
    windows = list(cut_windows(sound(heard), sight(seen), RATE, Windowing(4, 2, 10)))
    assert windows[-1].end_s == pytest.approx(15.0)
    assert all(len(w.waveform if w.waveform is not None else ()) <= 4 * RATE for w in windows)
    late = [w for w in windows if w.start_s >= 5]
    assert all((not w.frames) if seen == 5 else not len(w.waveform if w.waveform is not None else ()) for w in late)


def test_no_more_is_read_than_the_window_needs():
    read = 0.0

    def endless():
        nonlocal read
        while True:
            read += 0.5
            yield np.zeros(RATE // 2, np.float32)

    windows = cut_windows(endless(), None, RATE, Windowing(4, 2, 10))
    for number in range(500):
        window = next(windows)
        assert len(window.waveform) == 4 * RATE
        assert read <= max(10, number * 2 + 4) + 1
    windows.close()


@pytest.mark.parametrize(("window_s", "hop_s"), [(4, 5), (4, 0), (0.1, 0.1), (math.inf, 2), (math.nan, 1)])
def test_impossible_windows_are_refused(window_s, hop_s):
    with pytest.raises(ConfigError, match="a window has at least"):
        Windowing(window_s, hop_s)
