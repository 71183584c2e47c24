"""`avser roi` as files: everything is written, the page parses and stands alone, names are harmless."""

import csv
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from avser.config import load_config
from avser.data.cache import ClipCache
from avser.errors import CheckpointError, MediaError
from avser.experiments.held_out import load_test_clips
from avser.experiments.regions.caveats import caveats
from avser.experiments.regions.report import disagreement_figures, report_clip, report_split, some_clips
from avser.explanation import explain
from avser.inference import load_models
from avser.roi.dynamics import Disagreement, DisagreementEpisode
from avser.structures import AUDIO, FUSED, VIDEO, Output
from avser.training.run import train

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
RESOURCES = ("src", "href", "xlink:href", "data", "poster", "action", "srcset")


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page refers to and which scripts it holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in RESOURCES]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_stands_alone(report: Path) -> Page:
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert [r for r in page.references if not r.startswith(("data:", "#"))] == []
    assert not re.search(r"url\(\s*['\"]?(?!data:|#)", text)
    assert "@import" not in text
    assert "fetch(" not in text
    return page


@pytest.fixture(scope="module")
def split_report(tiny_ablation, tmp_path_factory):
    out = tmp_path_factory.mktemp("roi")
    return report_split(tiny_ablation, out, num_clips=2, num_tested=2, formats=["csv", "textgrid"])


def test_a_split_leaves_page_tables_and_figures(split_report):
    folder = split_report.parent
    expected = {"report.html", "regions.csv", "alignment.csv", "study.json", "figures", "annotations"}
    assert {path.name for path in folder.iterdir()} == expected
    assert len(list((folder / "annotations").glob("*.TextGrid"))) == 12
    assert (folder / "annotations" / "found_regions.csv").is_file()
    stored = json.loads((folder / "study.json").read_text())
    assert [test["modality"] for test in stored["faithfulness"]] == ["audio", "video"]
    assert set(stored["alignment"]["nulls"]) <= {"re-pairing", "circular shift", "placement", "surrogates"}
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    shown = sorted(
        {row["clip_id"] for row in read_rows(folder / "alignment.csv")} & {Path(name).stem for name in figures}
    )
    tested = [
        "faithfulness_audio_excise",
        "faithfulness_audio_mean",
        "faithfulness_video_freeze",
        "faithfulness_video_mean",
    ]
    stems = [*tested, *shown, *(f"{clip_id}_disagreement" for clip_id in shown)]
    assert len(shown) == 2
    assert figures == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg"))
    assert all(path.stat().st_size > 1000 for path in (folder / "figures").iterdir())
    check_stands_alone(split_report)
    text = split_report.read_text()
    assert "12 test clips; protocol speaker_holdout(" in text
    assert "speakers disjoint: yes; sentences disjoint: " in text
    assert "<b>Voice and face against re-paired clips.</b>" in text  # the figure of the null model
    assert "<b>Faithfulness: voice, moments taken away (excise).</b>" in text
    assert "curves of voice model ablation/audio, seed 0; face model ablation/video, seed 0</div>" in text
    assert "one fused model" not in text
    for heading in ("Found regions against true ones", "Who leads", "Voice and face against"):
        assert heading in text


def test_curves_of_the_fused_model_come_with_their_caveat(tiny_ablation, split_report, tmp_path):
    told: list[str] = []
    report = report_split(tiny_ablation, tmp_path, curves="fused", num_clips=1, num_tested=0, warn=told.append)
    assert any(sentence.startswith("Both curves come from one fused model") for sentence in told)
    text = report.read_text()
    assert "Both curves come from one fused model" in text
    assert json.loads((tmp_path / "study.json").read_text())["sources"] == {AUDIO: FUSED, VIDEO: FUSED}
    own, usual = (read_rows(path.parent / "alignment.csv") for path in (report, split_report))
    assert [row["clip_id"] for row in own] == [row["clip_id"] for row in usual]
    assert [row["r0"] for row in own] != [row["r0"] for row in usual]


def test_the_clip_that_disagrees_longest_is_shown(tiny_ablation, tiny_corpus):
    view = explain(load_models(tiny_ablation, "cpu"), ClipCache(tiny_corpus / "cache").load("s02_fear_01"))
    episode = DisagreementEpisode(0.2, 0.5, 0, 1, 0.6, 0.7, 0.3)
    views = [
        replace(view, clip_id=name, disagreement=Disagreement(view.disagreement.divergence, episodes, share, 2.0))
        for name, episodes, share in (("a", [episode], 0.1), ("b", [episode], 0.4), ("c", [], 0.0))
    ]
    (figure,) = disagreement_figures(views)
    assert figure.title == "Where voice and face disagree: b"
    assert disagreement_figures([views[2], replace(view, disagreement=None)]) == []


def test_a_split_covers_the_test_clips_and_no_other(split_report, tiny_ablation):
    clip_ids = [row["clip_id"] for row in read_rows(split_report.parent / "alignment.csv")]
    clips = load_test_clips(load_models(tiny_ablation, "cpu"))
    assert clip_ids == [row.clip_id for row in clips.rows] == [clip.clip_id for _, clip in clips]
    assert set(clip_ids) <= set(clips.truth)
    with (tiny_ablation / FUSED / "predictions.csv").open() as file:
        assert set(clip_ids) == {row["clip_id"] for row in csv.DictReader(file) if row["split"] == "test"}
    assert clips.protocol.startswith("speaker_holdout(")


def test_one_clip_leaves_a_page_and_its_figures(tiny_ablation, tiny_corpus, tmp_path):
    report = report_clip(tiny_ablation, tiny_corpus / "media" / "s02_fear_01.mp4", tmp_path / "out")
    check_stands_alone(report)
    stems = "s02_fear_01", "s02_fear_01_disagreement"
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg")
    }


def test_the_name_of_a_clip_is_harmless(tiny_ablation, tiny_corpus, tmp_path):
    name = "<script>alert(1)</script>".replace("/", "\N{DIVISION SLASH}") + " $x^2$ {{7*7}} 'q\" &amp;"
    clip = tmp_path / f"{name}.mp4"
    shutil.copy(tiny_corpus / "media" / "s02_fear_01.mp4", clip)
    harmless = report_clip(tiny_ablation / AUDIO, tiny_corpus / "media" / "s02_fear_01.mp4", tmp_path / "a")
    report = report_clip(tiny_ablation / AUDIO, clip, tmp_path / "b")
    assert check_stands_alone(report).tags.count("script") == check_stands_alone(harmless).tags.count("script")
    text = report.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text
    assert "{{7*7}}" in text
    svg = next((tmp_path / "b" / "figures").glob("*.svg")).read_text(encoding="utf-8")
    assert "<script" not in svg


def test_a_broken_clip_is_an_error_and_leaves_nothing(tiny_ablation, tmp_path):
    clip = tmp_path / "broken.mp4"
    clip.write_bytes(b"no media at all")
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        report_clip(tiny_ablation, clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_different_splits_are_refused(tiny_ablation, tmp_path):
    for name in (AUDIO, FUSED):
        shutil.copytree(tiny_ablation / name, tmp_path / "mixed" / name)
    base = load_config([tiny_ablation / VIDEO / "config.yaml"])
    train(load_config(["data.split_seed=3", "training.epochs=1", "name=mixed/video", f"runs={tmp_path}"], base=base))
    with pytest.raises(CheckpointError, match=r"mixed/video: was trained or validated on \d+ of the 12 test clips"):
        report_split(tmp_path / "mixed", tmp_path / "out")


def test_the_reader_is_told_where_curves_come_from(tiny_ablation):
    models = load_models(tiny_ablation, "cpu")
    assert not any("one fused model" in sentence for sentence in caveats(models))
    assert any("one fused model" in sentence for sentence in caveats({FUSED: models[FUSED]}))
    assert any("not been tested for faithfulness" in sentence for sentence in caveats({AUDIO: models[AUDIO]}))


class KnowsAll(torch.nn.Module):
    """A network whose steps hold what the whole clip holds."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, batch):
        output = self.network(batch)
        part = output.attended[AUDIO]
        everything = part.sequence.mean(dim=1, keepdim=True).expand_as(part.sequence)
        return Output(output.logits, {AUDIO: replace(part, sequence=everything)})


def test_steps_that_know_the_whole_clip_are_told(tiny_ablation):
    model = load_models(tiny_ablation, "cpu")[AUDIO]
    clips = some_clips(load_test_clips({AUDIO: model}), 2)
    leaky = replace(model, network=KnowsAll(model.network).eval())
    assert any("within 0.15 s of it" in sentence for sentence in caveats({AUDIO: leaky}, clips=clips))
    assert not any("within 0.15 s of it" in sentence for sentence in caveats({AUDIO: model}, clips=clips))
