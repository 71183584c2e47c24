"""The report: complete, escaped, self-contained."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from avser.evaluation.statistics import Interval
from avser.roi.alignment import measure_alignment
from avser.roi.localization import LagScores, LocalizationScores
from avser.roi.plots import figure_png, plot_ablation
from avser.roi.report import MEASURES, ReportFigure, ReportSummary, describe_clip, write_report
from avser.roi.tables import ReportTable, format_cell, lag_table, region_table
from avser.roi.timeline import LEFT, PLOT_WIDTH, build_timeline
from avser.roi.view import ClipView
from avser.structures import Curve, Prediction, Region

NASTY = "<script>alert(1)</script>.mp4"


def bump(centre_s: float, num: int) -> Curve:
    times = (np.arange(num) + 0.5) * 2 / num
    values = np.exp(-0.5 * ((times - centre_s) / 0.15) ** 2) + 0.02
    return Curve(times, values / values.sum())


def make_view(clip_id: str = "clip_1", **changes: object) -> ClipView:
    """The face leads by 0.2 s, in truth and in the curves."""
    rng = np.random.default_rng(0)
    salience = {"audio": bump(1.1, 50), "video": bump(0.9, 60)}
    parts: dict = {
        "corpus": "cremad",
        "speaker": "1001",
        "true_emotion": "fear",
        "unimodal": {"audio": Prediction(clip_id, "fear", {"anger": 0.4, "fear": 0.6})},
        "log_mel": rng.normal(size=(200, 40)),
        "log_mel_times": (np.arange(200) + 0.5) / 100,
        "faces": rng.integers(1, 255, (60, 48, 48, 3), dtype=np.uint8),
        "face_times": salience["video"].times,
        "salience": salience,
        "regions": {"audio": [Region("audio", 0.9, 1.3, 0.8, 1.1)], "video": [Region("video", 0.7, 1.1, 0.8, 0.9)]},
        "truth": {"audio": [Region("audio", 0.9, 1.3)], "video": [Region("video", 0.7, 1.1)]},
        "evidence": {m: (c.times, np.tile([0.4, 0.6], (len(c), 1))) for m, c in salience.items()},
        "mixture": {"audio": np.array([0.38, 0.62])},
        "alignment": measure_alignment(salience["audio"], salience["video"]),
        "p_values": {"iou": 0.0042},
    }
    prediction = Prediction(clip_id, "anger", {"anger": 0.71, "fear": 0.29})
    return ClipView(clip_id, 2.0, prediction, **(parts | changes))  # type: ignore[arg-type]


def written(tmp_path: Path, views: list[ClipView], summary: ReportSummary | None = None, title: str = "A study") -> str:
    path = tmp_path / "out" / "report.html"
    write_report(path, title=title, summary=summary or ReportSummary(), views=views)
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags in order, and every address that the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]
        if tag not in ("meta", "br", "img", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    figure = ReportFigure("Ablation", figure_png(plot_ablation({"audio": Interval(50, 45, 55)})))
    text = written(tmp_path, [make_view(), make_view("clip_2")], ReportSummary(figures=[figure]))
    page = Page(text)
    assert page.open == []
    assert all(a.startswith(("data:image/", "#")) for a in page.addresses)
    assert "http:" not in text
    assert "https:" not in text
    assert "link" not in page.tags


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    summary = ReportSummary(
        paragraphs=[NASTY], warnings=[NASTY], tables=[ReportTable(NASTY, [NASTY], [[NASTY]], NASTY, NASTY)]
    )
    view = make_view(NASTY, corpus=NASTY, speaker=NASTY, true_emotion=NASTY, warnings=[NASTY])
    view.prediction = Prediction(NASTY, NASTY, {NASTY: 0.9, '"><img src=x>': 0.1})
    view.unimodal = {}
    text = written(tmp_path, [view], summary, title=NASTY)
    honest = written(tmp_path, [make_view()], ReportSummary())
    assert "<script>alert" not in text
    assert "alert(1)</script>" not in text
    assert Page(text).tags.count("script") == Page(honest).tags.count("script")
    assert "x" not in Page(text).addresses
    assert html.escape(NASTY) in text


def test_everything_of_a_clip_is_there(tmp_path: Path) -> None:
    text = written(tmp_path, [make_view(warnings=["no face in 12 % of the frames"])])
    for part in ("anger", "71 %", "acted: fear", "cremad", "speaker 1001", "no face in 12 %", "Alignment of voice"):
        assert part in text
    for name, _, _ in MEASURES.values():
        assert html.escape(name) in text
    assert text.count("data:image/jpeg") == 1 + 14  # spectrogram and face strip
    data = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)[0])
    assert {(s["kind"], s["source"], s["name"]) for s in data["series"]} == {
        ("salience", "audio", "voice"),
        ("salience", "video", "face"),
        *[("evidence", m, e) for m in ("audio", "video") for e in ("anger", "fear")],
    }


def test_every_measure_of_an_alignment_is_explained() -> None:
    view = make_view()
    assert view.alignment is not None
    assert list(MEASURES) == [f.name for f in dataclasses.fields(view.alignment)]


def test_warnings_come_before_results(tmp_path: Path) -> None:
    summary = ReportSummary(["About this."], ["Read me first."], [ReportTable("Results", ["a"], [[1]])])
    text = written(tmp_path, [make_view()], summary)
    assert text.index("Read me first.") < text.index("About this.") < text.index("Results") < text.index("clip_1")


def test_sentences_say_who_leads() -> None:
    sentences = describe_clip(make_view())
    assert sentences == [
        "The face leads the voice by 0.20 s.",
        "Their regions overlap by 33 % of their union.",
        "True lag +0.20 s, found +0.20 s between the strongest regions (above 0: the face leads).",
        "As a mixture, the voice is 62 % fear, 38 % anger.",
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lag_s": -0.31}, "The voice leads the face by 0.31 s (p = 0.0042)."),
        ({"lag_s": 0.01}, "Voice and face move together (p = 0.0042)."),
        ({"r_max": 0.1}, "No shift of up to half a second brings the two curves together (p = 0.0042)."),
        ({"r_max": float("nan")}, "No shift of up to half a second brings the two curves together (p = 0.0042)."),
    ],
)
def test_sentence_follows_the_lag(change: dict, sentence: str) -> None:
    view = make_view(p_values={"r_max": 0.0042})
    assert view.alignment is not None
    view.alignment = dataclasses.replace(view.alignment, **change)
    assert describe_clip(view)[0] == sentence


def test_an_even_or_empty_mixture_is_said_sensibly() -> None:
    emotions = [f"e{i}" for i in range(12)]
    prediction = Prediction("c", "e0", dict.fromkeys(emotions, 1 / 12))
    mixture = {"audio": np.full(12, 1 / 12), "video": np.zeros(12)}
    assert describe_clip(ClipView("c", 1.0, prediction, mixture=mixture)) == ["As a mixture, the voice is 8 % e0."]


def test_a_voice_alone_makes_a_report(tmp_path: Path) -> None:
    view = ClipView("v", 2.0, Prediction("v", "fear", {"fear": 1.0}), salience={"audio": bump(1, 50)})
    text = written(tmp_path, [view])
    assert "voice" in text
    assert "Alignment of voice" not in text
    assert describe_clip(view) == []


def test_a_flat_curve_is_warned_about(tmp_path: Path) -> None:
    flat = Curve(np.arange(5.0) / 3, np.full(5, 0.2))
    text = written(tmp_path, [make_view(salience={"video": flat})])
    assert "The face salience says nothing about when: all steps have the same value." in text


def test_marks_lie_at_their_seconds() -> None:
    """Half way through the clip is half way along the plot."""
    line = build_timeline(make_view(regions={"audio": [Region("audio", 1.0, 1.5)]}, truth={}))
    bands = [m.attributes for m in line.marks if m.tag == "rect" and m.attributes.get("fill-opacity")]
    assert [(b["x"], b["width"]) for b in bands] == [(LEFT + PLOT_WIDTH / 2, PLOT_WIDTH / 4)]
    assert all(0 <= float(m.attributes.get("y", 0)) <= line.height for m in line.marks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
        (0.12345, "0.123"),
        (-0.0001, "0.000"),
        (1.2345, "1.23"),
        (62.345, "62.3"),
        (1440, "1440"),
        ("voice", "voice"),
        (Interval(0.5, 0.4, 0.6), "0.500 [0.400, 0.600]"),
        (Interval(62.34, 60.0, 64.0), "62.3 [60.0, 64.0]"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert format_cell(value) == text  # type: ignore[arg-type]


def test_ready_made_tables_fit_their_columns() -> None:
    i = Interval(0.5, 0.4, 0.6)
    tables = [
        region_table({"audio": LocalizationScores(i, i, i, i, i, i, 10, 2, 1, 3)}),
        lag_table({"regions": LagScores(i, i, i, 0.1, i, i, 10, 2, 4)}),
    ]
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert "no region found in 1 clips" in tables[0].note
    assert "0.100 s" in tables[1].note
    assert "4 clips were left out" in tables[1].note
