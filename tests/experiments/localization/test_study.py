"""Runs and saliences against known regions: what is asked, of whom, how it is scored, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.config import load_config
from avser.data.cache import ClipCache
from avser.data.dataset import Example, collate
from avser.data.manifest import read_manifest
from avser.data.splits import Split
from avser.errors import AvserError, CheckpointError, ConfigError, ManifestError
from avser.experiments.localization.study import run_names, study_localization
from avser.experiments.localization.tables import localization_markdown
from avser.inference import load_model
from avser.models.build import build_model
from avser.roi.intervals import find_regions, smooth_curve
from avser.roi.localization import frame_auroc
from avser.roi.salience.sources import SOURCES, Source, find_salience
from avser.roi.trust.loudness import measure_loudness
from avser.structures import Curve
from avser.training.checkpoint import MODEL_FILE, save_model
from tests.conftest import tiny_sources

EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]


@pytest.fixture(scope="module")
def make_run(tiny_corpus, tmp_path_factory):
    """A run folder with an untrained model that has met the speakers of clips given by their speakers."""

    def make(name: str, *overrides: str, met: tuple[str, ...] = ("s05", "s06")) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        config = load_config([*tiny_sources(tiny_corpus), "roi.rule=coverage", *overrides])
        torch.manual_seed(0)
        model = build_model(config.model, EMOTIONS, sample_rate_hz=config.media.sample_rate_hz)
        save_model(folder / MODEL_FILE, model, config, EMOTIONS)
        rows = read_manifest(tiny_corpus / "manifest.csv").rows
        seen = [row.clip_id for row in rows if row.speaker in met]
        split = Split("manual", train=seen[1:], val=seen[:1], test=[])
        (folder / "split.json").write_text(json.dumps(split.to_json()))
        return folder

    return make


@pytest.fixture(scope="module")
def manifest(tiny_corpus) -> Path:
    """Two clips each of s01 and s02, and one of them a control; the cache is that of the whole corpus."""
    folder = tiny_corpus / "unmet"
    folder.mkdir()
    with (tiny_corpus / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = [row for s in ("s01", "s02") for row in [r for r in rows if r["speaker"] == s][:3]]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(chosen)
    lines = (tiny_corpus / "regions.csv").read_text().splitlines()
    control = chosen[-1]["clip_id"]
    (folder / "regions.csv").write_text("\n".join(line for line in lines if not line.startswith(f"{control},")) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def both(make_run):
    return make_run("both")


@pytest.fixture(scope="module")
def study(both, make_run, manifest, tiny_corpus):
    voice = make_run("voice", "model.modalities=[audio]", "model.attention.kind=mean")
    return study_localization(
        [both, voice], manifest, tiny_corpus / "cache", sources=["attention", "att_value"], batch_size=4, device="cpu"
    )


def test_every_run_is_asked_by_every_salience(study):
    asked = [(s.run.split("/")[-1], s.modality, s.source) for s in study.scores]
    assert asked == [
        *(("both", "audio", "attention"), ("both", "audio", "att_value")),
        *(("both", "video", "attention"), ("both", "video", "att_value")),
        *(("voice", "audio", "attention"), ("voice", "audio", "att_value")),
    ]
    for scores in study.scores:
        assert (scores.num_asked, scores.localization.num_clips, scores.localization.num_speakers) == (6, 5, 2)
        assert [d.min_iou for d in scores.detection] == [0.3, 0.5]
        assert [(d.num_clips, d.num_true) for d in scores.detection] == [(6, 5)] * 2  # the control counts here
    flat = study.scores[4].localization
    assert (flat.auroc.value, flat.hit_rate.value, flat.num_silent) == (0.5, 0, 5)  # equal weights point nowhere
    asked_for_lags = {(lags.run, lags.source) for lags in study.lags}
    assert {("both", "attention")} <= asked_for_lags <= {("both", "attention"), ("both", "att_value")}
    assert all(lags.lags.num_clips + lags.lags.num_left_out == 5 for lags in study.lags)
    assert study.failures == []


def test_scores_are_of_the_positive_part_smoothed(study, both, manifest, tiny_corpus):
    """Once more by hand: signed contributions to the predicted emotion of the fused model, voice."""
    model, cache = load_model(both, "cpu"), ClipCache(tiny_corpus / "cache")
    corpus = read_manifest(manifest)
    aurocs, num_found, right = [], 0, []
    for row in corpus.rows:
        batch = collate([Example(row.clip_id, cache.load(row.clip_id), None)])
        with torch.no_grad():
            emotion = int(model.network(batch).logits.argmax())
        (curve,) = find_salience(model.network, batch, "audio", [emotion], "att_value")
        positive = Curve(curve.times, np.maximum(curve.values, 0))
        num_found += len(find_regions(positive, "audio", **asdict(model.config.roi)))
        if row.clip_id in corpus.regions:
            smooth = smooth_curve(positive, model.config.roi.smooth_s)
            aurocs.append(frame_auroc(smooth, corpus.regions[row.clip_id]["audio"]))
            right.append(EMOTIONS[emotion] == row.emotion)
    scores = study.scores[1]
    assert scores.localization.auroc.value == pytest.approx(np.mean(aurocs), abs=0.02)
    assert scores.detection[0].num_found == pytest.approx(num_found, abs=1)
    assert scores.named_right == pytest.approx(np.mean(right))


def test_controls_are_scored_by_the_same_code_on_the_steps_of_the_model(both, manifest, tiny_corpus, study):
    """Once more by hand: loudness of the voice, smoothed like a salience, against the truth."""
    found = study_localization([both], manifest, tiny_corpus / "cache", controls=True, batch_size=4, device="cpu")
    middle = "the middle of the clip"
    assert [s.source for s in found.scores] == ["attention", "loudness", middle, "attention", "motion", middle]
    assert {lags.source for lags in found.lags} <= {"attention"}
    assert "loudness, motion" in found.notes[0]
    model, cache, corpus = load_model(both, "cpu"), ClipCache(tiny_corpus / "cache"), read_manifest(manifest)
    aurocs: dict[float, list[float]] = {0.0: [], 0.15: []}
    for row in corpus.rows:
        if row.clip_id not in corpus.regions:
            continue
        clip, truth = cache.load(row.clip_id), corpus.regions[row.clip_id]["audio"]
        (steps,) = find_salience(model.network, collate([Example(row.clip_id, clip, None)]), "audio", [0], "attention")
        fine = measure_loudness(clip)
        for late_s, values in aurocs.items():
            loud = Curve(steps.times, np.interp(steps.times - late_s, fine.times, fine.values))
            values.append(frame_auroc(smooth_curve(loud, model.config.roi.smooth_s), truth))
    assert found.scores[1].localization.auroc.value == pytest.approx(np.mean(aurocs[0.0]), abs=0.03)
    assert abs(np.mean(aurocs[0.15]) - np.mean(aurocs[0.0])) > 0.06  # a curve that is late would show


def test_the_true_emotion_can_be_asked_about(both, manifest, tiny_corpus, study):
    other = study_localization(
        [both], manifest, tiny_corpus / "cache", sources=["att_value"], target="true", ranking="peak", device="cpu"
    )
    assert other.scores[0].named_right == 1
    assert study.scores[1].named_right < 1
    assert other.scores[0].localization.auroc != study.scores[1].localization.auroc


def test_what_a_model_cannot_be_asked_is_said_and_the_rest_goes_on(make_run, manifest, tiny_corpus, monkeypatch):
    def refuse(*_, **__):
        raise AvserError("this model keeps that to itself")

    monkeypatch.setitem(SOURCES, "secret", Source("secret", "what?", False, refuse))
    run = make_run("last", "model.modalities=[audio]")
    study = study_localization(
        [run], manifest, tiny_corpus / "cache", sources=["secret", "attention"], batch_size=2, device="cpu"
    )
    assert [scores.source for scores in study.scores] == ["attention"]
    assert study.failures == ["last, audio, secret: this model keeps that to itself"]
    assert study.lags == []


@pytest.mark.parametrize("met", [("s02", "s06"), ("s01",)])
def test_known_speakers_are_refused_by_name(make_run, manifest, tiny_corpus, met):
    run = make_run("met", "model.modalities=[audio]", met=met)
    with pytest.raises(CheckpointError, match=f"1 speakers of these clips .*/{met[0]}; 3 of 6 clips"):
        study_localization([run], manifest, tiny_corpus / "cache", device="cpu")


def test_another_smoothing_than_the_runs_own_can_be_asked_for(both, manifest, tiny_corpus, study):
    def auroc(smooth_s):
        found = study_localization([both], manifest, tiny_corpus / "cache", smooth_s=smooth_s, device="cpu")
        return found.scores[0].localization.auroc.value, found.notes

    own, notes = auroc(0.05)  # the default of `roi.smooth_s`
    assert own == pytest.approx(study.scores[0].localization.auroc.value, abs=0.02)
    assert "0.05 s" in notes[0]
    assert auroc(0.5)[0] != own
    with pytest.raises(ConfigError, match="smooth_s=-1"):
        auroc(-1)


def _divide(run: Path, tiny_corpus: Path, **parts: str) -> None:
    """Give a run a split of whole speakers, e.g. train="s03"."""
    rows = read_manifest(tiny_corpus / "manifest.csv").rows
    ids = {part: [row.clip_id for row in rows if row.speaker == parts.get(part)] for part in ("train", "val", "test")}
    (run / "split.json").write_text(json.dumps(Split("manual", **ids).to_json()))


def test_one_part_of_the_runs_own_speakers_can_be_asked_about(make_run, manifest, tiny_corpus):
    run = make_run("parted", "model.modalities=[audio]")
    _divide(run, tiny_corpus, train="s03", val="s01", test="s02")
    chosen = study_localization([run], manifest, tiny_corpus / "cache", part="val", device="cpu")
    tested = study_localization([run], manifest, tiny_corpus / "cache", part="test", device="cpu")
    for found, num_clips in ((chosen, 3), (tested, 2)):  # one clip of s02 is the control
        assert (found.scores[0].num_asked, found.scores[0].localization.num_clips) == (3, num_clips)
    assert "not results" in chosen.notes[0]
    assert tested.notes == []


def test_a_part_that_a_run_has_trained_on_or_that_runs_do_not_share_is_refused(make_run, manifest, tiny_corpus):
    runs = [make_run(name, "model.modalities=[audio]") for name in ("one", "other")]
    _divide(runs[0], tiny_corpus, train="s03", val="s01", test="s02")
    for parts, kind, words in (
        ({"train": "s01", "val": "s01", "test": "s02"}, CheckpointError, "s01 of its val trained"),
        ({"train": "s01", "val": "s04", "test": "s02"}, ConfigError, "other people in val"),
        ({"train": "s01", "val": "s04"}, CheckpointError, "none of these clips is of the people of its val"),
    ):
        _divide(runs[1], tiny_corpus, **parts)
        asked = runs if kind is ConfigError else runs[1:]
        with pytest.raises(kind, match=words):
            study_localization(asked, manifest, tiny_corpus / "cache", part="val", device="cpu")
    _divide(runs[1], tiny_corpus, train="s03", val="s02", test="s02")
    with pytest.raises(CheckpointError, match="s02 of its test trained or validated"):
        study_localization(runs[1:], manifest, tiny_corpus / "cache", part="test", device="cpu")


def test_the_people_of_joined_takes_are_those_of_the_takes(make_run, manifest, tiny_corpus, tmp_path):
    run = make_run("met", "model.modalities=[audio]", met=("s01",))
    corpus = read_manifest(manifest).rows[0].corpus
    for name, is_known in ((f"{corpus}_splice", True), ("another", False)):
        (tmp_path / "manifest.csv").write_text(manifest.read_text().replace(f",{corpus},", f",{name},"))
        shutil.copy(manifest.with_name("regions.csv"), tmp_path)
        if is_known:
            with pytest.raises(CheckpointError, match="trained or validated on 1 speakers"):
                study_localization([run], tmp_path / "manifest.csv", tiny_corpus / "cache", device="cpu")
        else:
            assert study_localization([run], tmp_path / "manifest.csv", tiny_corpus / "cache", device="cpu").scores


def test_a_run_that_does_not_tell_whom_it_met_is_refused(make_run, manifest, tiny_corpus):
    run = make_run("mute", "model.modalities=[audio]")
    (run / "split.json").write_text(json.dumps(Split("manual", ["unheard_of"], [], []).to_json()))
    with pytest.raises(CheckpointError, match=r"is not the manifest .*unheard_of"):
        study_localization([run], manifest, tiny_corpus / "cache", device="cpu")
    (run / "split.json").unlink()
    with pytest.raises(CheckpointError, match="nobody knows"):
        study_localization([run], manifest, tiny_corpus / "cache", device="cpu")
    gone = make_run("gone", "model.modalities=[audio]", "data.manifest=gone/manifest.csv")
    with pytest.raises(CheckpointError, match="from which the run was started"):
        study_localization([gone], manifest, tiny_corpus / "cache", device="cpu")


def test_wrong_settings_and_a_corpus_without_truth_are_refused(both, manifest, tiny_corpus, tmp_path):
    for wrong in ({"sources": ["attentoin"]}, {"target": "best"}, {"part": "train"}, {"ranking": "size"}):
        with pytest.raises(ConfigError):
            study_localization([both], manifest, tiny_corpus / "cache", **wrong)
    shutil.copy(manifest, tmp_path)
    with pytest.raises(ManifestError, match=r"no regions\.csv"):
        study_localization([both], tmp_path / "manifest.csv", tiny_corpus / "cache")


def test_names_are_as_short_as_they_can_be(tmp_path):
    assert run_names([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]
    assert run_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]
    for wrong in ([], [tmp_path, tmp_path]):
        with pytest.raises(ConfigError):
            run_names(wrong)


def test_the_page_holds_every_row_and_what_failed(study):
    study.failures.append("both, audio, x: it | cannot")
    page = localization_markdown(study, "python -m x")
    study.failures.clear()
    for row in study.scores:
        assert page.count(f"| {row.run}, {'voice' if row.modality == 'audio' else 'face'}, {row.source} |") == 2
    assert "mAP at IoU 0.3" in page
    assert "Made by `python -m x`." in page
    assert "both, audio, x: it | cannot" in page


def test_without_a_manifest_the_runs_are_asked_about_their_own_split(tiny_ablation):
    study = study_localization(
        [tiny_ablation, tiny_ablation / "audio"], sources=["attention", "occlusion"], num_costly=3, device="cpu"
    )
    split = Split.from_json(json.loads((tiny_ablation / "audio" / "split.json").read_text()))
    asked = {(s.run.split("/")[-1], s.modality, s.source): s.num_asked for s in study.scores}
    assert asked == {
        ("ablation", "audio", "attention"): len(split.test),
        ("ablation", "audio", "occlusion"): 3,
        ("ablation", "video", "attention"): len(split.test),
        ("ablation", "video", "occlusion"): 3,
        ("audio", "audio", "attention"): len(split.test),
        ("audio", "audio", "occlusion"): 3,
    }
    assert {s.lags.num_clips for s in study.lags if s.source == "attention"} == {len(split.test)}
    assert "test clips with a true region" in localization_markdown(study)
    on_val = study_localization([tiny_ablation / "audio"], part="val", device="cpu")
    assert on_val.scores[0].num_asked == len(split.val)


def test_runs_of_different_splits_are_not_put_into_one_table(tiny_ablation, tiny_config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_ablation / "video", other)
    model = load_model(other, "cpu")
    model.config.data.split_seed = 1
    save_model(other / MODEL_FILE, model.network, model.config, model.emotions)
    (other / "split.json").write_text(json.dumps(Split("manual", [], [], []).to_json()))
    with pytest.raises(CheckpointError, match="other test clips"):
        study_localization([tiny_ablation / "audio", other], device="cpu")
    with pytest.raises(ConfigError, match="belong together"):
        study_localization([tiny_ablation], tiny_ablation / "manifest.csv", device="cpu")
    with pytest.raises(ConfigError, match="part="):
        study_localization([tiny_ablation], part="train", device="cpu")
