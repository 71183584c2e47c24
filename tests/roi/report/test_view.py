"""What both the figure and the report compute from a view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avser.roi.report.view import (
    OWN_ANSWERS,
    ClipView,
    overlap_segments,
    relative_values,
    salience_layers,
    span_words,
    strip_frames,
    unbroken,
    within,
)
from avser.structures import Curve, Prediction, Region


def make_view(**parts: object) -> ClipView:
    return ClipView("clip", 1.0, Prediction("clip", "anger", {"anger": 0.7, "fear": 0.3}), **parts)  # type: ignore[arg-type]


def test_overlap_is_cut_into_segments() -> None:
    regions = {
        "audio": [Region("audio", 0.2, 0.6), Region("audio", 0.8, 0.9)],
        "video": [Region("video", 0.1, 0.4)],
    }
    assert overlap_segments(make_view(regions=regions)) == [
        (0.1, 0.2, "video"),
        (0.2, 0.4, "fused"),
        (0.4, 0.6, "audio"),
        (0.8, 0.9, "audio"),
    ]
    assert overlap_segments(make_view()) == []


def test_segments_of_one_kind_that_touch_are_one() -> None:
    regions = {"audio": [Region("audio", 0.1, 0.3), Region("audio", 0.3, 0.5)]}
    assert overlap_segments(make_view(regions=regions)) == [(0.1, 0.5, "audio")]


def test_values_become_multiples_of_the_mean() -> None:
    np.testing.assert_allclose(
        relative_values(Curve(np.arange(4.0), np.array([0.1, 0.3, 0.4, 0.2]))), [0.4, 1.2, 1.6, 0.8]
    )
    assert (relative_values(Curve(np.arange(3.0), np.zeros(3))) == 0).all()
    assert len(relative_values(Curve(np.zeros(0), np.zeros(0)))) == 0


def test_lines_break_where_steps_are_missing() -> None:
    times = np.r_[np.arange(5), np.arange(9, 12)] / 10
    assert unbroken(times) == [slice(0, 5), slice(5, 8)]
    assert unbroken(np.zeros(0)) == []
    assert unbroken(np.array([0.5])) == [slice(0, 1)]


def test_strip_takes_the_face_nearest_to_the_middle_of_each_tile() -> None:
    times = (np.arange(15) + 0.5) / 15  # three frames a tile
    faces = np.tile(np.arange(1, 16, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    faces[3:5] = 0  # in the second tile only the last frame has a face
    faces[6:12] = 0  # the third and the fourth tile
    tiles = strip_frames(make_view(faces=faces, face_times=times), 5)
    assert [None if crop is None else int(crop[0, 0, 0]) for _, _, crop in tiles] == [2, 6, None, None, 14]
    assert tiles[1][:2] == pytest.approx((0.2, 0.4))


def test_strip_leaves_out_time_without_frames() -> None:
    faces = np.ones((2, 4, 4, 3), dtype=np.uint8)
    tiles = strip_frames(make_view(faces=faces, face_times=np.array([0.1, 0.2])), 4)
    assert [start for start, _, _ in tiles] == [0.0]
    assert strip_frames(make_view(), 4) == []


def test_every_choice_of_curves_is_a_layer_and_none_comes_twice() -> None:
    one, two, three = (Curve(np.arange(3.0), np.full(3, v)) for v in (1.0, 2.0, 3.0))
    view = make_view(
        salience={"audio": one},
        salience_source="attention",
        salience_model="each alone",
        saliences={"attention": {"audio": three}, "rise": {"audio": two}, "empty": {}},
        by_class={"rise": {"audio": {"fear": three, "anger": three}}},
        by_model={"fused": {"audio": two}},
    )
    layers = salience_layers(view)
    assert [(y.source, y.model, y.emotion) for y in layers] == [
        ("attention", "each alone", ""),
        ("attention", "fused", ""),
        ("rise", "each alone", "anger"),
        ("rise", "each alone", "fear"),
    ]
    assert [y.curves["audio"].values[0] for y in layers] == [1, 2, 3, 3]
    assert salience_layers(make_view()) == []


def test_a_curve_about_another_emotion_does_not_go_by_the_verdict_s_name() -> None:
    """A voice model of its own may hear anger where the verdict is fear."""
    own, anger, fear = (Curve(np.arange(3.0), np.full(3, v)) for v in (1.0, 2.0, 3.0))
    view = make_view(
        salience={"audio": own},
        salience_source="att_value",
        by_class={"att_value": {"audio": {"anger": anger, "fear": fear}}},
    )
    said = view.prediction.emotion
    other = next(e for e in ("anger", "fear") if e != said)
    assert salience_layers(replace(view, asked={"audio": said}))[0].emotion == said
    layers = {y.emotion: y.curves["audio"] for y in salience_layers(replace(view, asked={"audio": other}))}
    assert list(layers) == [OWN_ANSWERS, *sorted(("anger", "fear"), key=lambda e: e != said)]
    assert (layers[OWN_ANSWERS], layers["anger"], layers["fear"]) == (own, anger, fear)


def test_printed_times_lie_in_the_clip() -> None:
    assert [within(t, 2.0) for t in (-0.5, 0.3, 2.5)] == [0.0, 0.3, 2.0]
    assert span_words(-0.004, 2.01, 2.0) == "0.00 to 2.00 s"
    assert span_words(-0.0, 0.256, 2.0) == "0.00 to 0.26 s"
