"""The picture of a clip as marks: everything at its second, nothing drawn twice."""

from __future__ import annotations

import re

import numpy as np
import pytest

from avser.roi.dynamics import Disagreement, DisagreementEpisode
from avser.roi.report.timeline import MAX_POINTS, SPAN, build_timeline
from avser.roi.report.view import ClipView
from avser.roi.salience.frequency_map import FrequencyMap
from avser.structures import Curve, Prediction, Region

TIMES = (np.arange(20) + 0.5) / 10


def make_view(**parts: object) -> ClipView:
    """Two seconds."""
    return ClipView("clip", 2.0, Prediction("clip", "anger", {"anger": 0.7, "fear": 0.3}), **parts)  # type: ignore[arg-type]


def curve(scale: float = 1.0) -> Curve:
    return Curve(TIMES, scale * np.linspace(-0.2, 1, 20))


def test_rows_are_those_that_there_are_data_for() -> None:
    assert build_timeline(make_view()).rows == []
    view = make_view(
        log_mel=np.zeros((20, 8)),
        log_mel_times=TIMES,
        frequency_map=FrequencyMap(TIMES, np.full((20, 4), 1 / 80)),
        faces=np.full((20, 8, 8, 3), 9, dtype=np.uint8),
        face_times=TIMES,
        salience={"audio": curve(), "video": curve()},
        places={"mouth": (TIMES, np.full(20, 0.5))},
        regions={"audio": [], "video": []},
        evidence={m: (TIMES, np.full((20, 2), 0.5)) for m in ("audio", "video", "fused")},
        disagreement=Disagreement(
            Curve(np.zeros(0), np.zeros(0)), [DisagreementEpisode(0.5, 1.0, 0, 1, 0.6, 0.7, 0.3)], 0.25, 2.0
        ),
    )
    assert [row.key for row in build_timeline(view).rows] == [
        "spectrogram",
        "frequencies",
        "salience-audio",
        "faces",
        "salience-video",
        "places",
        "together",
        "evidence-audio",
        "evidence-video",
        "evidence-fused",
        "apart",
    ]


def test_where_there_is_no_region_the_row_says_so() -> None:
    assert [o.text for o in build_timeline(make_view(regions={"audio": [], "video": []})).row("together").overlays] == [
        "no region stands out"
    ]
    found = build_timeline(make_view(regions={"audio": [Region("audio", 1.0, 1.5)], "video": []}))
    assert [o.text for o in found.row("together").overlays] == ["voice only"]


def test_regions_lie_at_their_seconds() -> None:
    """Half way through the clip is half way along the row."""
    view = make_view(salience={"audio": curve()}, regions={"audio": [Region("audio", 1.0, 1.5)]})
    bands = [m.attributes for m in build_timeline(view).row("salience-audio").marks if m.tag == "rect"]
    assert [(b["x"], b["width"]) for b in bands] == [(SPAN / 2, SPAN / 4)]


def test_curves_lie_at_their_seconds_and_within_their_row() -> None:
    row = build_timeline(make_view(salience={"audio": curve()})).row("salience-audio")
    (line,) = [m for m in row.marks if m.tag == "polyline"]
    points = np.array([[float(v) for v in p.split(",")] for p in str(line.attributes["points"]).split()])
    np.testing.assert_allclose(points[:, 0], TIMES / 2 * SPAN)
    assert (points[:, 1] >= 0).all()
    assert (points[:, 1] <= row.height).all()
    assert (np.diff(points[:, 1]) < 0).all()  # up is more


def test_layers_share_a_row_and_only_the_first_is_shown() -> None:
    view = make_view(salience={"audio": curve()}, saliences={"rise": {"audio": curve(2), "video": curve()}})
    line = build_timeline(view)
    shown = [m.attributes for m in line.row("salience-audio").marks if m.tag == "polyline"]
    assert [(a["data-layer"], a.get("class", "")) for a in shown] == [("0", ""), ("1", "off")]
    assert [row.key for row in line.rows] == ["salience-audio", "salience-video"]
    assert [(s["source"], s["layer"]) for s in line.series] == [("audio", 0), ("audio", 1), ("video", 1)]
    assert all(m.attributes.get("class") == "off" for m in line.row("salience-video").marks)


def test_times_are_written_once_and_missing_values_are_no_numbers() -> None:
    view = make_view(
        salience={"audio": curve(), "video": curve()}, places={"mouth": (TIMES, np.r_[np.nan, np.full(19, 0.25)])}
    )
    line = build_timeline(view)
    assert len(line.axes) == 1
    assert line.axes[0] == pytest.approx(TIMES)
    (place,) = [s for s in line.series if s["kind"] == "place"]
    assert place["values"] == [None, *[0.25] * 19]
    rects = [m for m in line.row("places").marks if m.tag == "rect"]
    assert len(rects) == 19
    assert {m.attributes["fill-opacity"] for m in rects} == {1.0}  # the strongest is full


def test_a_long_curve_is_drawn_with_as_many_points_as_can_be_seen() -> None:
    times = np.arange(6000) / 3000
    row = build_timeline(make_view(salience={"audio": Curve(times, np.ones(6000))})).row("salience-audio")
    (line,) = [m for m in row.marks if m.tag == "polyline"]
    assert MAX_POINTS / 2 < len(str(line.attributes["points"]).split()) <= MAX_POINTS


def test_where_the_answer_settles_is_marked_in_its_own_row() -> None:
    evidence = {m: (TIMES, np.full((20, 2), 0.5)) for m in ("audio", "video")}
    line = build_timeline(make_view(evidence=evidence, decision={"audio": 0.5, "video": float("nan")}))
    upright = [m.attributes["x1"] for m in line.row("evidence-audio").marks if m.attributes.get("x1") == 250.0]
    assert upright == [250.0]
    assert [o.text for o in line.row("evidence-audio").overlays] == ["answer settled"]
    assert line.row("evidence-video").overlays == []


def test_an_episode_says_who_says_what() -> None:
    view = make_view(
        disagreement=Disagreement(
            Curve(np.zeros(0), np.zeros(0)), [DisagreementEpisode(0.5, 1.0, 0, 1, 0.6, 0.7, 0.3)], 0.25, 2.0
        )
    )
    (band,) = build_timeline(view).row("apart").overlays
    assert band.text == "voice anger, face fear"
    assert re.findall(r"[\d.]+", str(band.attributes["style"])) == ["25.0", "25.000"]


def test_seconds_are_ticked() -> None:
    assert build_timeline(make_view()).seconds[:3] == [(0.0, "0.0"), (10.0, "0.2"), (20.0, "0.4")]
