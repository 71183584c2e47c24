"""The report: complete, escaped, self-contained."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from avser.evaluation.statistics import Interval
from avser.roi.alignment.compare import measure_alignment
from avser.roi.dynamics import Disagreement, DisagreementEpisode
from avser.roi.localization import LagScores, LocalizationScores
from avser.roi.report.page import ReportFigure, ReportSummary, write_report
from avser.roi.report.plots import figure_png, plot_ablation
from avser.roi.report.sentences import MEASURES, alignment_rows, describe_clip, describe_measure
from avser.roi.report.tables import ReportTable, format_cell, format_p, lag_table, region_table
from avser.roi.report.view import ClipView, FaithfulnessRow
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
    view = make_view(NASTY, corpus=NASTY, speaker=NASTY, true_emotion=NASTY, salience_model=NASTY, warnings=[NASTY])
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
    for name, *_ in list(MEASURES.values())[:-2]:  # without controls, the last two are not measured
        assert html.escape(name) in text
    assert text.count("data:image/jpeg") == 1 + 14  # spectrogram and face strip
    data = json.loads(re.findall(r'<script type="application/json" class="data">(.*?)</script>', text, re.S)[0])
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
        "Their regions overlap by 33 % of their union; their strongest moments coincide more than chance would "
        "(p = 0.0042).",
        "True lag +0.20 s, found +0.20 s between the strongest regions (above 0: the face leads).",
        "As a mixture, the voice is 62 % fear, 38 % anger.",
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lag_s": -0.31}, "The voice leads the face by 0.31 s (p = 0.0042)."),
        ({"lag_s": 0.01}, "Voice and face move together (p = 0.0042)."),
        ({"r_max": 0.1}, "No shift of up to half a second brings the two curves together."),
        ({"r_max": float("nan")}, "No shift of up to half a second brings the two curves together."),
    ],
)
def test_sentence_follows_the_lag(change: dict, sentence: str) -> None:
    view = make_view(p_values={"r_max": 0.0042})
    assert view.alignment is not None
    view.alignment = dataclasses.replace(view.alignment, **change)
    assert describe_clip(view)[0] == sentence


def test_a_lag_that_chance_would_give_is_told_with_its_doubt() -> None:
    assert describe_clip(make_view(p_values={"r_max": 0.34}))[0] == (
        "The face leads the voice by 0.20 s, but curves that have nothing to do with each other would fit as well "
        "(p = 0.34)."
    )


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


def test_a_salience_that_loses_to_its_controls_is_the_first_thing_said(tmp_path: Path) -> None:
    rows = [
        FaithfulnessRow("attention", "video", 0.03, 0.04, 0.61, False, "loudness"),
        FaithfulnessRow("occlusion", "audio", 0.31, 0.04, 0.0001, True),
    ]
    text = written(
        tmp_path,
        [make_view(warnings=["another"], faithfulness=rows)],
        ReportSummary((), ["Read me."], faithfulness=rows),
    )
    first = "The face salience (attention) does not beat its controls (the strongest: loudness)"
    assert re.findall(r"<li>(.*?)(?::|<)", text)[0].startswith(first.split(":")[0])
    assert text.index(first) < text.index("Read me.") < text.rindex(first) < text.index("another")
    assert text.count(first) == 2  # of the study, and of the clip
    assert text.count("occlusion) does not beat") == 0
    assert "&lt; 0.001" in text


def test_what_another_source_is_worth_is_no_warning_about_the_shown_one(tmp_path: Path) -> None:
    rows = [FaithfulnessRow("rise", "video", 0.03, 0.04, 0.61, False)]
    assert "does not beat" not in written(tmp_path, [make_view(faithfulness=rows)])


def test_sentences_on_everything_else() -> None:
    times = np.array([0.5, 1.5])
    view = make_view(
        alignment=None,
        truth={},
        mixture={},
        p_values={"iou": 0.0042},
        decision={"audio": 1.25, "video": 0.0, "fused": float("nan")},
        places={"mouth": (times, np.array([0.6, np.nan])), "eyes": (times, np.array([0.2, 0.2]))},
        disagreement=Disagreement(
            Curve(np.zeros(0), np.zeros(0)),
            [
                DisagreementEpisode(0.5, 0.8, 0, 1, 0.6, 0.7, 0.3),
                DisagreementEpisode(1.0, 1.6, 1, 0, 0.6, 0.7, 0.3),
            ],
            0.45,
            2.0,
        ),
    )
    assert describe_clip(view) == [
        "Their regions overlap by 33 % of their union; their strongest moments coincide more than chance would "
        "(p = 0.0042).",
        "Voice and face disagree for 0.90 s in all, longest from 1.00 to 1.60 s: voice fear, face anger.",
        "The answer is settled by the voice after 1.25 s, by the face from the start.",
        "In the face, the largest share of what counted lies in the mouth (60 %).",
    ]


@pytest.mark.parametrize(
    ("key", "value", "p_value", "says"),
    [
        ("r0", 0.5, 0.01, "more alike than chance would have it"),
        ("js", 0.5, 0.2, "no more alike than by chance"),
        ("lag_s", 0.5, 0.01, "who leads? above 0: the face"),
        ("r0", 0.5, None, "the same shape at the same time?"),
        ("r0", float("nan"), 0.01, "cannot be told: a curve is flat"),
    ],
)
def test_measures_speak_plainly(key: str, value: float, p_value: float | None, says: str) -> None:
    assert describe_measure(key, value, p_value) == says


def test_the_plainest_measures_come_first_and_unmeasured_ones_are_left_out() -> None:
    rows = alignment_rows(make_view())
    assert [r["first"] for r in rows] == [True] * 6 + [False] * 10
    assert next(r for r in rows if r["name"].startswith("overlap"))["p_value"] == 0.0042


def test_one_clip_is_open_and_many_wait_in_templates(tmp_path: Path) -> None:
    """So that a page of a hundred clips opens fast."""
    one, many = written(tmp_path, [make_view()]), written(tmp_path, [make_view(), make_view("clip_2")])
    assert "<template>" not in one
    assert Page(many).tags.count("template") == 2
    outside = re.sub(r"<template>.*?</template>", "", many, flags=re.S)
    assert "<article" not in outside
    assert "clip_2" in outside


def test_a_recording_is_embedded_once(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4
    text = written(tmp_path, [make_view(video=content, video_type="video/mp4")])
    found = re.findall(r'<script type="text/plain" class="media">(.*?)</script>', text)
    assert [base64.b64decode(f) for f in found] == [content]
    assert "media-src data: blob:" in text
    voice = written(tmp_path, [make_view(video=content, video_type="audio/mp4")])
    assert (Page(text).tags.count("video"), Page(text).tags.count("audio")) == (1, 0)
    assert (Page(voice).tags.count("video"), Page(voice).tags.count("audio")) == (0, 1)
    assert "player" not in re.sub(r"<(style|script)>.*?</\1>", "", written(tmp_path, [make_view()]), flags=re.S)


def test_choices_are_there_only_where_there_is_a_choice(tmp_path: Path) -> None:
    def buttons(view: ClipView) -> list[tuple[str, str, str]]:
        return re.findall(r'data-choose="(.*?)" data-value="(.*?)" aria-pressed="(.*?)"', written(tmp_path, [view]))

    assert buttons(make_view()) == []
    curves = make_view().salience
    view = make_view(
        saliences={"attention": curves, "rise": curves},
        by_class={"rise": {"audio": {"fear": curves["audio"], "anger": curves["audio"]}}},
    )
    assert buttons(view) == [
        ("source", "attention", "true"),
        ("source", "rise", "false"),
        ("emotion", "anger", "false"),
        ("emotion", "fear", "false"),
    ]
    assert buttons(make_view(by_model={"fused": curves})) == [("model", "", "true"), ("model", "fused", "false")]


def test_the_page_says_whose_curves_it_shows(tmp_path: Path) -> None:
    assert "curves of" not in written(tmp_path, [make_view()])
    whose = "voice model demo/audio, seed 0"
    assert f"2.00 s · curves of {whose}</div>" in written(tmp_path, [make_view(salience_model=whose)])


def test_strata_are_folded_up_behind_the_tables(tmp_path: Path) -> None:
    table = ReportTable("Women", ["a"], [[1]])
    text = written(tmp_path, [make_view()], ReportSummary(tables=[ReportTable("All", ["a"], [[1]])], strata=[table]))
    assert text.index("All</h2>") < text.index("<summary>Women") < text.index("<article")


@pytest.mark.parametrize(
    ("p", "text"), [(None, "\N{EN DASH}"), (float("nan"), "\N{EN DASH}"), (0.0001, "< 0.001"), (0.0123, "0.012")]
)
def test_no_p_value_is_zero(p: float | None, text: str) -> None:
    assert format_p(p) == text


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


def test_no_sentence_leaves_the_clip() -> None:
    """The cells of a course reach a little beyond the clip on both sides."""
    beyond = DisagreementEpisode(-0.013, 2.013, 0, 1, 0.7, 0.8, 0.5)
    early = DisagreementEpisode(-0.004, 0.5, 0, 1, 0.7, 0.8, 0.5)
    for episodes, words in (
        ([beyond], "disagree from 0.00 to 2.00 s"),
        ([early], "disagree from 0.00 to 0.50 s"),
        ([beyond, early], "for 2.00 s in all, longest from 0.00 to 2.00 s"),
    ):
        view = make_view(disagreement=Disagreement(Curve(np.zeros(0), np.zeros(0)), episodes, 1.0, 2.0))
        (found,) = [sentence for sentence in describe_clip(view) if "disagree" in sentence]
        assert words in found
    assert "by both after 2.00 s" in " ".join(describe_clip(make_view(decision={"fused": 2.004001})))
