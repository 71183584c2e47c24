"""What the page shows: names cannot become markup, bars and regions say what was found, downloads hold the answer."""

from __future__ import annotations

import base64
import csv
import io
import json
import re

import numpy as np
import pytest

from avser.app.answer import ModelAnswer
from avser.app.cards import answer_cards, answer_csv, answer_json, chosen_card, message_card, report_frames, steps_card
from avser.app.progress import Progress
from avser.app.uploads import Upload
from avser.roi.report.view import ClipView
from avser.structures import Curve, Prediction, Region

NASTY = '"><script>alert(1)</script>'


def made(model: str = "demo", **changes) -> ModelAnswer:
    shares = {"anger": 0.2, "fear": 0.7, NASTY: 0.1}
    view = ClipView(
        NASTY,
        2.0,
        Prediction(NASTY, "fear", shares),
        unimodal={m: Prediction(NASTY, "anger", {"anger": 0.6, "fear": 0.3, NASTY: 0.1}) for m in ("audio", "video")},
        salience={"audio": Curve(np.array([0.5, 1.5]), np.array([0.4, 0.6]))},
        regions={"audio": [Region("audio", 1.0, 1.5, 0.8)], "video": []},
        warnings=[NASTY],
    )
    return ModelAnswer(model, "voice and face", view, [NASTY], f"<html>{NASTY}</html>", **changes)


def test_nothing_that_comes_from_elsewhere_becomes_markup() -> None:
    failed = ModelAnswer(NASTY, "voice", fault=NASTY)
    answers = [made(NASTY), failed]
    shown = [
        answer_cards(answers, NASTY),
        report_frames(answers),
        chosen_card(Upload(None, NASTY, NASTY)),  # type: ignore[arg-type]
        message_card(NASTY, NASTY, advice=NASTY),
        steps_card(Progress("ask", note=NASTY)),
    ]
    for html in shown:
        assert "<script" not in html
        assert NASTY not in html
        assert "&lt;script&gt;" in html


def test_the_emotion_its_bars_and_its_regions_are_shown() -> None:
    html = answer_cards([made()], "a.mp4")
    assert re.search(r"fear <b>70 %</b>", html)
    order = re.findall(r"<tr(?: class=\"av-top\")?><th>(.*?)</th>", html)
    assert order[1:3] == ["fear", "anger"]  # the first stands over the column
    assert re.findall(r"width:(70\.0|30\.0)%", html) == ["70.0", "30.0", "30.0"]
    assert "left:50.00%;width:25.00%" in html
    assert "1.00 to 1.50 s" in html
    assert "no moment stands out" in html


def test_a_model_of_one_modality_has_one_bar() -> None:
    answer = made()
    assert answer.view is not None
    del answer.view.unimodal["video"]
    html = answer_cards([answer], "a.mp4")
    assert "voice alone" in html
    assert ">both<" not in html


def test_several_reports_are_shown_one_at_a_time_in_frames_that_reach_nothing() -> None:
    html = report_frames([made("one"), ModelAnswer("two", "voice", fault="no"), made("three")])
    frames = re.findall(r"<iframe (.*?)>", html, re.S)
    assert len(frames) == 2
    assert all('sandbox="allow-scripts"' in frame for frame in frames)
    assert [" hidden" in frame for frame in frames] == [False, True]
    assert report_frames([ModelAnswer("two", "voice", fault="no")]) == ""


def test_downloads_hold_the_answer() -> None:
    html = answer_cards([made()], "my clip/../x.mp4")
    names = re.findall(r'(?:download|data-name)="(.*?)"', html)
    assert names == [f"my_clip____x_mp4-demo.{kind}" for kind in ("html", "json", "csv")]
    content = base64.b64decode(re.findall(r"base64,([^\"]*)", html)[0])
    stored = json.loads(content)
    assert (stored["emotion"], stored["probabilities"]["fused"]["fear"]) == ("fear", 0.7)
    assert stored["regions"]["audio"] == [{"start_s": 1.0, "end_s": 1.5, "mass": 0.8}]
    assert json.loads(answer_json(made(), "x"))["sentences"] == [NASTY]


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@x"])
def test_a_name_does_not_become_a_formula_of_a_spreadsheet(name: str) -> None:
    rows = list(csv.DictReader(io.StringIO(answer_csv(made(), name))))
    assert {row["recording"] for row in rows} == {f"'{name}"}
    assert len(rows) == 9
    assert sum(float(row["probability"]) for row in rows if row["source"] == "fused") == pytest.approx(1)


def test_steps_say_which_is_under_way() -> None:
    html = steps_card(Progress("faces", 0.4, "1.2 s"))
    assert re.findall(r'<li class="av-(\w+)">', html) == ["done", "now", "later", "later"]
    assert "width:40%" in html
    assert "av-busy" not in html
    assert "av-busy" in steps_card(Progress("ask"))
