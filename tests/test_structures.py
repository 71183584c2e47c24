"""Answers that are moved along a recording."""

import numpy as np

from avser.structures import Curve, Prediction, Region


def test_a_moved_answer_has_all_its_times_later() -> None:
    times = np.array([0.1, 0.3])
    answer = Prediction(
        "clip",
        "fear",
        {"fear": 1.0},
        {"audio": Curve(times, np.array([0.4, 0.6]))},
        {"audio": (times, np.ones((2, 1)))},
        {"audio": [Region("audio", 0.25, 0.5, 0.6, 0.375), Region("audio", 0.75, 1.0)]},
        ["a warning"],
    )
    moved = answer.moved(2.5)
    np.testing.assert_allclose(moved.salience["audio"].times, [2.6, 2.8])
    np.testing.assert_array_equal(moved.salience["audio"].values, [0.4, 0.6])
    np.testing.assert_allclose(moved.evidence["audio"][0], [2.6, 2.8])
    assert moved.regions == {"audio": [Region("audio", 2.75, 3.0, 0.6, 2.875), Region("audio", 3.25, 3.5)]}
    assert (moved.clip_id, moved.emotion, moved.probabilities, moved.warnings) == (
        "clip",
        "fear",
        {"fear": 1.0},
        ["a warning"],
    )
    np.testing.assert_array_equal(answer.salience["audio"].times, [0.1, 0.3])  # the one that was moved stays
    assert answer.regions["audio"][0].start_s == 0.25
