"""Cross-validation on tiny runs: folds keep speakers apart, scores are those of all test clips, files say so."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from avser.config import load_config
from avser.data.manifest import ClipRow, read_manifest, write_manifest
from avser.errors import CheckpointError, ConfigError, SplitError
from avser.evaluation.pooled import Pool
from avser.experiments.cross_validation.measures import (
    CALIBRATION,
    CROSS_ENTROPY,
    DIVERGENCE,
    calibration_error,
    measure_pools,
    vote_shares,
)
from avser.experiments.cross_validation.study import CrossValidation, cross_validate, slice_columns
from avser.experiments.cross_validation.tables import cross_validation_tables, write_cross_validation

SMALL = [
    "media.fps=10",
    "media.crop_px=32",
    "media.faces.tracker=center",
    "model.modalities=[audio]",
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.audio.dim=16",
    "model.attention.hidden=8",
    "training.batch_size=8",
    "training.epochs=1",
    "data.protocol=speaker_kfold",
    "data.num_folds=3",
]


@pytest.fixture(scope="module")
def config(tiny_corpus):
    return load_config([*SMALL, f"data.manifest={tiny_corpus / 'manifest.csv'}", f"data.cache={tiny_corpus / 'cache'}"])


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("crossval")


@pytest.fixture(scope="module")
def found(config, out) -> CrossValidation:
    return cross_validate(config, out=out, seeds=[0, 1])


def predictions(out: Path, fold: int, seed: int) -> list[dict[str, str]]:
    with (out / "runs" / "av_roi" / f"fold{fold}-seed{seed}" / "predictions.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def measure(found: CrossValidation, name: str):
    return next(each for each in found.measures if each.name == name)


def test_every_clip_is_tested_once_a_seed_by_people_that_trained_nothing(found, config, out):
    rows = {row.clip_id: row for row in read_manifest(config.data.manifest).rows}
    for seed in (0, 1):
        tested = [row["clip_id"] for fold in range(3) for row in predictions(out, fold, seed)]
        assert sorted(tested) == sorted(rows)
    for fold in found.folds:
        speakers = {part: {rows[i].speaker for i in ids} for part, ids in fold.split.parts().items()}
        assert not speakers["val"] & speakers["test"]
        assert not speakers["train"] & speakers["test"]
        assert fold.val_speakers_apart
        assert fold.num_speakers == {part: len(names) for part, names in speakers.items()}
    assert found.is_strict
    assert not found.notes
    assert (found.scores.num_clips, found.scores.num_speakers) == (36, 6)


def test_scores_are_those_of_all_test_clips_mean_of_the_seeds(found, out):
    uar, f1, recalls, right = [], [], [], []
    for seed in (0, 1):
        rows = [row for fold in range(3) for row in predictions(out, fold, seed)]
        labels, answers = [row["emotion"] for row in rows], [row["predicted"] for row in rows]
        options = {"labels": found.emotions, "zero_division": 0}
        recalls.append(recall_score(labels, answers, average=None, **options))
        uar.append(np.mean(recalls[-1]))
        f1.append(f1_score(labels, answers, average="weighted", **options))
        right.append([[labels.count(e) for e in found.emotions]])
    assert measure(found, "UAR, %").value.value == pytest.approx(100 * np.mean(uar))
    assert measure(found, "UAR, %").value == found.scores.uar
    assert measure(found, "UAR, %").seed_sd == pytest.approx(100 * np.std(uar, ddof=1))
    assert measure(found, "weighted F1, %").value.value == pytest.approx(100 * np.mean(f1))
    np.testing.assert_allclose([r.value for r in found.recalls.values()], 100 * np.mean(recalls, axis=0))
    np.testing.assert_allclose(found.confusion.sum(axis=1), 6)
    np.testing.assert_allclose(found.confusion.diagonal() / 6, np.mean(recalls, axis=0))


def test_folds_have_scores_of_their_own(found, out):
    each = [
        [json.loads((out / f"runs/av_roi/fold{f}-seed{s}/metrics.json").read_text())["test"] for s in (0, 1)]
        for f in range(3)
    ]
    means = [np.mean([scores["uar"]["value"] for scores in fold]) for fold in each]
    np.testing.assert_allclose([fold.scores.uar.value for fold in found.folds], means)
    assert measure(found, "UAR, %").fold_sd == pytest.approx(np.std(means, ddof=1))
    spread = [np.std([scores["uar"]["value"] for scores in fold], ddof=1) for fold in each]
    np.testing.assert_allclose([fold.seed_sd for fold in found.folds], spread)


def test_slices_are_by_the_columns_of_the_manifest(found, config):
    rows = read_manifest(config.data.manifest).rows
    by_sex = {each.value: each.scores for each in found.slices if each.column == "sex"}
    assert {sex: scores.num_clips for sex, scores in by_sex.items()} == {
        sex: sum(row.sex == sex for row in rows) for sex in {row.sex for row in rows}
    }
    speakers = [each for each in found.slices if each.column == "speaker"]
    assert [each.value for each in speakers] == sorted({row.speaker for row in rows})
    mean = np.mean([each.scores.wa.value for each in speakers])  # equally many clips each
    assert mean == pytest.approx(found.scores.wa.value)
    assert "corpus" not in {each.column for each in found.slices}


def test_speakers_of_two_corpora_are_two_people():
    rows = [ClipRow("a", "one", "01", "anger"), ClipRow("b", "other", "01", "anger")]
    assert slice_columns(rows)["speaker"] == {"a": "one/01", "b": "other/01"}
    assert slice_columns(rows[:1])["speaker"] == {"a": "01"}


def test_the_second_call_trains_nothing_and_finds_the_same(found, config, out):
    files = sorted(out.glob("runs/av_roi/*/model.safetensors"))
    before = [file.stat().st_mtime_ns for file in files]
    again = cross_validate(config, out=out, seeds=[0, 1])
    assert len(files) == 6
    assert [file.stat().st_mtime_ns for file in files] == before
    assert again.scores == found.scores


def test_a_damaged_run_is_told_and_missing(found, config, out, tmp_path):
    shutil.copytree(out / "runs", tmp_path / "runs")
    (tmp_path / "runs/av_roi/fold1-seed1/predictions.csv").write_text("clip_id\n")
    again = cross_validate(config, out=tmp_path, seeds=[0, 1])
    assert list(again.failures) == ["av_roi/fold1-seed1"]
    assert any("1 of 6 runs failed" in note for note in again.notes)
    assert any("no fair part of the mean: seeds [1]" in note for note in again.notes)
    assert "av_roi/fold1-seed1" in (write_cross_validation(again, tmp_path) or (tmp_path / "crossval.md").read_text())


def test_the_files_hold_verdict_protocol_seeds_and_every_number(found, tmp_path):
    write_cross_validation(found, tmp_path, command="avser crossval x")
    stored = json.loads((tmp_path / "crossval.json").read_text())
    assert (stored["verdict"], stored["protocol"], stored["seeds"]) == ("strict", "speaker_kfold", [0, 1])
    assert [fold["val_speakers_apart"] for fold in stored["folds"]] == [True] * 3
    assert stored["scores"]["uar"]["value"] == pytest.approx(found.scores.uar.value)
    assert stored["config"]["data"]["num_folds"] == 3
    rows = list(csv.DictReader((tmp_path / "crossval.csv").open()))
    assert {"all", "fold", "run", "emotion", "sex", "speaker"} <= {row["part"] for row in rows}
    assert float(rows[0]["score"]) == pytest.approx(found.scores.uar.value)
    assert sum(row["part"] == "run" for row in rows) == 3 * 2 * 2
    page = (tmp_path / "crossval.md").read_text()
    for words in ("strict: nobody", "avser crossval x", "(crossval.png)", "3 of 3 folds", "speakers disjoint: yes"):
        assert words in page
    assert (tmp_path / "crossval.png").stat().st_size > 10_000
    for table in cross_validation_tables(found):
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_fold_that_is_not_there_is_refused_before_anything_is_trained(config, tmp_path):
    with pytest.raises(ConfigError, match=r"3 folds, .* no fold 3"):
        cross_validate(config, out=tmp_path, folds=[0, 3])
    assert not list(tmp_path.iterdir())


def test_a_split_that_lets_speakers_through_is_refused_unless_asked_for_and_then_said(config, tmp_path):
    rows = read_manifest(config.data.manifest).rows
    parts = [("train", "val", "test", "train")[i % 4] for i in range(len(rows))]
    lines = [f"{row.clip_id},{part}" for row, part in zip(rows, parts, strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["clip_id,split", *lines]))
    leaky = load_config(["data.protocol=split_file", f"data.split_file={tmp_path / 'list.csv'}"], config)
    with pytest.raises(SplitError, match="speaker"):
        cross_validate(leaky, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    asked = cross_validate(load_config(["data.allow_shared_speakers=true"], leaky), out=tmp_path / "out")
    assert len(asked.folds) == 1  # a protocol without folds
    assert not asked.folds[0].val_speakers_apart
    assert not asked.is_strict
    assert cross_validation_tables(asked)[0].title.startswith("paper")


def test_without_a_single_run_the_reasons_are_told(config, tmp_path):
    broken = load_config(["model.audio.backbone.weights=no.safetensors"], config)
    with pytest.raises(CheckpointError, match=r"(?s)no run could be finished:.*fold0-seed0: no weight file"):
        cross_validate(broken, out=tmp_path, folds=[0])


# --- measures of made-up answers ---------------------------------------------------------------------------------


def made_pool(clip_ids: str, labels: list[int], probabilities: list[list[float]], seed: int = 0) -> Pool:
    shares = np.array(probabilities)
    return Pool(
        list(clip_ids),
        [f"speaker of {c}" for c in clip_ids],
        np.full(len(labels), seed),
        np.array(labels),
        shares.argmax(axis=1),
        shares,
    )


def test_calibration_error_is_the_mean_of_the_seeds():
    sure = made_pool("ab", [0, 1], [[1, 0], [1, 0]])  # half of it right at a confidence of 1
    unsure = made_pool("ab", [0, 0], [[0.75, 0.25], [0.75, 0.25]], seed=1)
    assert calibration_error(sure) == pytest.approx(50)
    assert calibration_error(unsure) == pytest.approx(25)
    found = {m.name: m for m in measure_pools({(0, 0): sure, (0, 1): unsure}, {})}
    even = found[list(CALIBRATION)[1]]
    assert even.value.value == pytest.approx((50 + 25) / 2)
    assert even.seed_sd == pytest.approx(np.std([50, 25], ddof=1))
    assert even.fold_sd is None
    assert DIVERGENCE not in found


def test_distance_to_votes_is_over_the_clips_that_have_some():
    pools = {(0, 0): made_pool("ab", [0, 1], [[1, 0], [0.25, 0.75]]), (1, 0): made_pool("c", [0], [[0.5, 0.5]])}
    votes = {"a": np.array([0.0, 1.0]), "b": np.array([0.25, 0.75])}
    found = {m.name: m for m in measure_pools(pools, votes)}
    assert found[DIVERGENCE].value.value == pytest.approx((1 + 0) / 2)
    own = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert found[CROSS_ENTROPY].value.value == pytest.approx((-np.log2(1e-5) + own) / 2)
    assert found[DIVERGENCE].fold_sd is None  # one fold alone has votes


def test_the_votes_are_those_of_people_who_were_given_what_the_model_is_given(config, tiny_corpus, tmp_path):
    rows = read_manifest(config.data.manifest).rows
    voted = replace(rows[0], votes_audio='{"anger": 1, "fear": 3}', votes_video='{"anger": 4}')
    write_manifest([voted, *rows[1:]], tmp_path / "manifest.csv")
    rows = read_manifest(tmp_path / "manifest.csv").rows
    emotions = ["anger", "fear", "sadness"]
    heard = vote_shares(rows, emotions, config)
    assert list(heard) == [voted.clip_id]
    np.testing.assert_allclose(heard[voted.clip_id], [0.25, 0.75, 0])
    seen = vote_shares(rows, emotions, load_config(["model.modalities=[video]"], config))
    np.testing.assert_allclose(seen[voted.clip_id], [1, 0, 0])
    assert not vote_shares(rows, emotions, load_config(["model.modalities=[audio, video]"], config))
