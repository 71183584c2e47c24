"""What a person sees on the terminal."""

import io

import numpy as np
from rich.console import Console

from avser.live.follow import LiveAnswer, Timekeeping
from avser.live.view import show_answer, sparkline
from avser.structures import Curve, Prediction

EMOTIONS = ["anger", "neutral"]


def shown(answer: LiveAnswer) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(show_answer(answer, EMOTIONS, ("audio", "video"), 4.0))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_emotion_bars_curves_latency_and_dropped_frames_are_there() -> None:
    kept = Timekeeping(num_answers=3, num_frames=40, num_dropped=2)
    kept.latencies_s.extend([0.04, 0.05, 0.09])
    curve = Curve(np.array([8.0, 9.0, 10.0]), np.array([0.1, 0.8, 0.1]))
    prediction = Prediction("live", "anger", {"anger": 0.75, "neutral": 0.25}, {"audio": curve})
    text = shown(LiveAnswer(10.0, prediction, 0.09, kept, []))
    assert "75 %" in text
    assert text.count("█") > 20
    assert "voice" in text
    assert "nothing to go by" in text  # the face
    assert "latency 90 ms (median 50, 95 % 86)" in text
    assert "2 of 40 frames dropped" in text
    assert "-4 s" in text


def test_before_the_first_answer_it_says_what_it_waits_for() -> None:
    assert "waiting for a voice or a face" in shown(LiveAnswer(0.1, None, 0.01, Timekeeping(), []))


def test_a_line_is_as_high_as_the_curve_where_it_is() -> None:
    curve = Curve(np.array([1.05, 1.55, 1.95]), np.array([1.0, 8.0, 4.0]))
    assert sparkline(curve, 0.0, 2.0, 20) == " " * 10 + "▁" * 5 + "█" * 4 + "▄"
    assert sparkline(Curve(np.zeros(0), np.zeros(0)), 0.0, 2.0, 20) is None
    assert sparkline(None, 0.0, 2.0, 20) is None
