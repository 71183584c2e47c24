"""Windows that overlap become one timeline: the mean of those that cover a moment, in seconds of the recording."""

import numpy as np
import pytest

from avser.config import RoiConfig
from avser.recordings.result import Row
from avser.recordings.timeline import find_gaps, mean_over_time, merge_rows, merge_saliences, summarize
from avser.structures import AUDIO, Curve, Prediction

EMOTIONS = ["anger", "fear"]


def row(start_s, anger, *, length_s=4.0, face=1, speaks=None, salience=None):
    shares = {"anger": anger, "fear": 1 - anger}
    prediction = Prediction("x", max(shares, key=shares.get), shares, {AUDIO: salience} if salience else {})
    return Row(start_s, start_s + length_s, face, speaks, True, prediction)


def nothing(start_s, length_s=4.0):
    return Row(start_s, start_s + length_s, None, None, True, None, "silence")


def test_a_moment_gets_the_mean_of_the_windows_that_cover_it():
    timeline = merge_rows([row(0, 0.9), row(2, 0.7), row(4, 0.0)])
    assert [(s.start_s, s.end_s, s.emotion) for s in timeline] == [(0, 4, "anger"), (4, 8, "fear")]
    assert timeline[0].probabilities["anger"] == pytest.approx((0.9 + 0.8) / 2)
    assert timeline[1].probabilities["anger"] == pytest.approx((0.35 + 0.0) / 2)
    assert mean_over_time(timeline, EMOTIONS) == pytest.approx({"anger": 0.5125, "fear": 0.4875})


def test_stretches_of_other_faces_or_speakers_stay_apart():
    timeline = merge_rows([row(0, 0.9, face=1), row(4, 0.9, face=2), row(8, 0.9, face=2, speaks=True)])
    assert [(s.start_s, s.face, s.speaks) for s in timeline] == [(0, 1, None), (4, 2, None), (8, 2, True)]
    mixed = merge_rows([row(0, 0.9, face=1), row(2, 0.9, face=2)])
    assert [(s.start_s, s.end_s, s.face) for s in mixed] == [(0, 2, 1), (2, 4, None), (4, 6, 2)]


def test_where_there_is_nothing_no_window_answers():
    gaps = find_gaps(np.array([0.2, 0.9, 1.5, 4.4, 5.1]), 8.0)
    assert gaps == [(1.5, 4.4), (5.1, 8.0)]
    timeline = merge_rows([row(0, 0.9), row(2, 0.9), row(4, 0.9)], gaps)
    assert [(s.start_s, s.end_s, s.emotion) for s in timeline] == [
        (0, 1.5, "anger"),
        (1.5, 4.4, None),
        (4.4, 5.1, "anger"),
        (5.1, 8, None),
    ]
    assert timeline[1].remark == "no voice, no face"
    silent = merge_rows([row(0, 0.9), nothing(4), nothing(6)])
    assert [(s.start_s, s.end_s, s.emotion, s.remark) for s in silent] == [
        (0, 4, "anger", ""),
        (4, 10, None, "silence"),
    ]
    assert mean_over_time(silent, EMOTIONS)["anger"] == pytest.approx(0.9)


def test_the_salience_of_the_whole_is_that_of_its_windows():
    def whole(times):
        return 1 + np.exp(-0.5 * ((times - 5.0) / 0.3) ** 2)

    def cut(start_s, shift=0.0):
        times = start_s + shift + 0.02 + 0.04 * np.arange(100)
        return Curve(times, whole(times) / whole(times).sum())

    rows = [row(s, 0.9, salience=cut(s, shift)) for s, shift in ((0, 0), (2, 0), (4, 0.013), (6, 0))]
    curve = merge_saliences(rows, AUDIO)
    assert curve.values.sum() == pytest.approx(1)
    assert (np.diff(curve.times) > 0.02).all()
    assert curve.times[0] == pytest.approx(0.02)
    assert curve.times[-1] == pytest.approx(9.98, abs=0.04)
    assert curve.times[curve.values.argmax()] == pytest.approx(5.0, abs=0.05)
    expected = whole(curve.times)
    # Each window's scale is its own mean, so the shape is kept but for that.
    assert np.corrcoef(curve.values, expected)[0, 1] > 0.94
    summary = summarize("x", rows, merge_rows(rows), EMOTIONS, RoiConfig())
    [region] = summary.regions[AUDIO]
    assert 4.5 < region.start_s < 5.0 < region.end_s < 5.5
    assert summary.emotion == "anger"


def test_a_gap_of_a_face_is_not_bridged():
    early = Curve(np.array([0.1, 0.2, 0.3, 3.5, 3.6, 3.7]), np.full(6, 1 / 6))
    late = Curve(np.array([3.5, 3.6, 3.7, 4.0, 4.1]), np.full(5, 1 / 5))
    curve = merge_saliences([row(0, 0.9, salience=early), row(2, 0.9, salience=late)], AUDIO)
    assert not ((curve.times > 0.4) & (curve.times < 3.4)).any()
    assert len(curve) == 8
