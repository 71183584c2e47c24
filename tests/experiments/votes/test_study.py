"""Human votes against models that were never trained: right model, clips, temperature and votes, and plain words."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.config import load_config
from avser.data.cache import ClipCache, build_cache
from avser.data.manifest import read_manifest, write_manifest
from avser.errors import AvserError
from avser.evaluation.soft_labels import jensen_shannon
from avser.experiments.votes.study import VoteStudy, count_votes, load_vote_clips, read_vote_clips, study_votes
from avser.experiments.votes.tables import vote_sentences, vote_tables, write_vote_tables
from avser.inference import load_models, predict, run_model
from avser.models.build import build_model
from avser.roi.dynamics import mixture
from avser.roi.report.tables import format_p
from avser.roi.vote_sides import compare_sides
from avser.roi.votes import (
    MIXTURE,
    ONE_HOT,
    PRIOR,
    SCALED_MIXTURE,
    SCALED_SOFTMAX,
    SOFTMAX,
    Calibration,
    Evidence,
    compare_with_votes,
    fit_temperature,
)
from avser.structures import AUDIO, FUSED, VIDEO
from avser.training.checkpoint import MODEL_FILE, save_model, write_json
from avser.training.run_data import load_data
from preprocessing.cremad import main as write_cremad
from tools.compare_votes import main

EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]
SMALL = [
    *("media.fps=10", "media.crop_px=32", "media.faces.tracker=center", "data.test_share=0.34"),
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 8}",
    *("model.audio.dim=8", "model.video.dim=8", "model.video.temporal=tcn", "model.attention.hidden=8"),
    "model.fusion.hidden=8",
]
HEARS = {AUDIO: "[audio]", VIDEO: "[video]", FUSED: "[audio,video]"}


def build_runs(folder: Path, emotions: list[str], *sources: str, split: dict | None = None) -> Path:
    """A folder of the runs audio, video and fused, as an ablation leaves it, of models that know nothing."""
    for seed, (name, modalities) in enumerate(HEARS.items()):
        config = load_config([*SMALL, *sources, f"model.modalities={modalities}"])
        torch.manual_seed(seed)
        model = build_model(config.model, emotions, sample_rate_hz=config.media.sample_rate_hz)
        (folder / name).mkdir(parents=True)
        save_model(folder / name / MODEL_FILE, model, config, emotions)
        if split:
            write_json(folder / name / "split.json", split)
    return folder


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory):
    """Runs on the tiny corpus, of whose clips people voted: ten on the voice, on the face and on both."""
    folder, rng = tmp_path_factory.mktemp("votes"), np.random.default_rng(3)
    rows = []
    for row in read_manifest(tiny_corpus / "manifest.csv").rows:
        votes = [dict(zip(EMOTIONS, map(int, rng.multinomial(10, rng.dirichlet([1] * 6))), strict=True)) for _ in "avb"]
        texts = dict(zip(("votes_audio", "votes_video", "votes_av"), map(json.dumps, votes), strict=True))
        rows.append(replace(row, **texts))
    write_manifest(rows, folder / "manifest.csv")
    sources = [f"data.manifest={folder / 'manifest.csv'}", f"data.cache={tiny_corpus / 'cache'}"]
    sources.append(f"data.emotions=[{','.join(EMOTIONS)}]")
    split = load_data(load_config([*SMALL, *sources])).split
    return build_runs(folder / "runs", EMOTIONS, *sources, split=split.to_json())


@pytest.fixture(scope="module")
def models(runs):
    return load_models(runs, "cpu")


@pytest.fixture(scope="module")
def study(models):
    return study_votes(models, load_vote_clips(models), batch_size=5, num_resamples=50)


@pytest.fixture(scope="module")
def data(models):
    return load_data(models[FUSED].config)


def shares_of(rows, modality) -> np.ndarray:
    votes = np.stack([count_votes(row, modality, EMOTIONS, {})[0] for row in rows])
    return votes / votes.sum(axis=1, keepdims=True)


def parts_of_split(data, models):
    cache = ClipCache(Path(models[FUSED].config.data.cache))
    for ids in (data.split.test, data.split.val):
        rows = [data.rows[clip_id] for clip_id in ids]
        yield rows, [cache.load(row.clip_id) for row in rows]


@pytest.mark.parametrize("modality", [AUDIO, VIDEO, FUSED])
def test_each_modality_is_read_off_its_own_model_and_held_against_its_own_votes(study, models, data, modality):
    (rows, clips), (val_rows, val_clips) = parts_of_split(data, models)
    assert study.sources == {AUDIO: AUDIO, VIDEO: VIDEO, FUSED: FUSED}
    assert study.clip_ids[modality] == data.split.test
    found, votes = study.comparisons[modality], shares_of(rows, modality)
    assert found.num_speakers == len({row.speaker for row in rows})
    output = run_model(models[modality], clips)
    whole = output.logits.softmax(dim=1).double().numpy()
    parts = [output.attended[m] for m in models[modality].modalities]
    mixed = np.mean([[mixture(part, i) for i in range(len(clips))] for part in parts], axis=0)
    np.testing.assert_allclose(found.per_clip[SOFTMAX], jensen_shannon(whole, votes), atol=1e-4)
    np.testing.assert_allclose(found.per_clip[MIXTURE], jensen_shannon(mixed, votes), atol=1e-4)
    one_hot = np.eye(6)[whole.argmax(axis=1)]
    np.testing.assert_allclose(found.per_clip[ONE_HOT], jensen_shannon(one_hot, votes), atol=1e-6)
    prior = shares_of([data.rows[clip_id] for clip_id in data.split.train], modality).mean(axis=0)
    np.testing.assert_allclose(found.calibration.prior, prior)
    logits = run_model(models[modality], val_clips).logits.double().numpy()
    expected = fit_temperature(logits, shares_of(val_rows, modality))
    assert found.calibration.softmax == pytest.approx(expected, rel=0.02)
    assert found.calibration.source == f"votes on {len(val_rows)} validation clips"


def test_sides_are_those_of_the_fused_model(study, models, data):
    (rows, clips), _ = parts_of_split(data, models)
    answers = np.array([EMOTIONS.index(predict(models[FUSED], clip).emotion) for clip in clips])
    votes = [shares_of(rows, m) for m in (AUDIO, VIDEO, FUSED)]
    expected = compare_sides(*votes, answers, [row.speaker for row in rows])
    assert study.sides.table.tolist() == expected.table.tolist()
    assert study.sides.num_conflicts > 0


def test_without_votes_on_validation_clips_their_labels_serve(models, data):
    clips = load_vote_clips(models)
    blank = [(replace(row, votes_audio=""), clip) for row, clip in clips.validation]
    train = [replace(row, votes_audio="") for row in clips.train]
    found = study_votes(
        {AUDIO: models[AUDIO]}, replace(clips, validation=blank, train=train), num_resamples=20
    ).comparisons[AUDIO]
    logits = run_model(models[AUDIO], [clip for _, clip in blank]).logits.double().numpy()
    labels = np.array([EMOTIONS.index(row.emotion) for row, _ in blank])
    assert found.calibration.source == f"labels of {len(blank)} validation clips"
    assert found.calibration.softmax == pytest.approx(fit_temperature(logits, labels), rel=0.02)
    np.testing.assert_allclose(found.calibration.prior, [np.mean([r.emotion == e for r in train]) for e in EMOTIONS])


def test_a_single_fused_run_speaks_for_voice_and_face_by_its_branches(models):
    clips = load_vote_clips(models)
    few = replace(clips, test=list(clips.test)[:4], validation=())
    study = study_votes({FUSED: models[FUSED]}, few, num_resamples=20)
    assert study.sources == dict.fromkeys((AUDIO, VIDEO, FUSED), FUSED)
    own = run_model(models[FUSED], [clip for _, clip in few.test]).attended[VIDEO].logits.softmax(dim=1).numpy()
    votes = shares_of([row for row, _ in few.test], VIDEO)
    np.testing.assert_allclose(study.comparisons[VIDEO].per_clip[SOFTMAX], jensen_shannon(own, votes), atol=1e-4)
    assert SCALED_SOFTMAX not in study.comparisons[VIDEO].divergence
    assert study.holm_p == {}


def test_clips_without_votes_or_without_a_face_are_left_out(models):
    clips = load_vote_clips(models)
    first, second, third, fourth = list(clips.test)[:4]
    first = (replace(first[0], votes_audio=""), first[1])
    second = (second[0], replace(second[1], face=None))
    study = study_votes(models, replace(clips, test=[first, second, third, fourth], validation=()), num_resamples=20)
    names = [row.clip_id for row, _ in (first, second, third, fourth)]
    assert study.clip_ids == {AUDIO: names[1:], VIDEO: [names[0], *names[2:]], FUSED: [names[0], *names[2:]]}
    assert study.sides.num_clips == 2  # with votes of all three kinds
    blind = [(replace(row, votes_audio="", votes_av=""), clip) for row, clip in (third, fourth)]
    study = study_votes(models, replace(clips, test=blind, validation=()), num_resamples=20)
    assert list(study.comparisons) == [VIDEO]
    assert "Voice alone: no clip has votes_audio." in study.notes
    with pytest.raises(AvserError, match="votes_audio"):
        study_votes({AUDIO: models[AUDIO]}, replace(clips, test=blind), num_resamples=20)


def test_votes_are_merged_and_strangers_counted():
    row = replace(read_row(), votes_av='{"anger": 3, "calm": 2, "neutral": 4, "fear": 1}')
    votes, outside = count_votes(row, FUSED, ["fear", "anger", "neutral"], {"calm": "neutral"})
    assert votes.tolist() == [1, 3, 6]
    assert outside == 0
    assert count_votes(row, FUSED, ["anger", "fear"], {})[1] == 6
    assert count_votes(row, AUDIO, ["anger", "fear"], {}) == (pytest.approx([0, 0]), 0)


def read_row():
    from avser.data.manifest import ClipRow

    return ClipRow("c1", "corpus", "s1", "anger")


# --- words -------------------------------------------------------------------------------------------------------


def told(*, speakers: int, mixture_right: bool, steps_calibrate: bool = False, calibrated: bool = True) -> VoteStudy:
    """A study in which everyone votes 70 : 30, and one of mixture and softmax says so."""
    right, wrong = np.log([0.7, 0.3]), np.log([0.99, 0.01])
    whole, step = (wrong, right) if mixture_right else (np.log([0.65, 0.35]) if steps_calibrate else right, wrong)
    evidence = [Evidence(whole, np.array([1.0]), step[None])] * (2 * speakers)
    names = [f"s{i % speakers}" for i in range(2 * speakers)]
    flat = np.log(0.99 / 0.01) / np.log(0.7 / 0.3)  # turns 99 : 1 into 70 : 30
    calibration = Calibration(1.0, flat if steps_calibrate else 1.0, None, "votes on 5 validation clips")
    votes = np.tile([7, 3], (len(names), 1))
    study = VoteStudy(["a", "b"], sources={AUDIO: AUDIO})
    study.comparisons[AUDIO] = compare_with_votes(
        evidence, votes, names, calibration if calibrated else Calibration(), num_resamples=50
    )
    return study


def test_a_mixture_that_wins_is_said_to_win():
    (sentence,) = vote_sentences(told(speakers=8, mixture_right=True))
    assert sentence.startswith("Voice alone: the attention mixture is closer to the votes than the softmax with a temp")
    assert "0.000 against 0.1" in sentence
    assert "p = 0.008 after Holm (16 clips of 8 speakers)" in sentence


def test_a_mixture_that_does_not_beat_the_scaled_softmax_is_said_not_to():
    (sentence,) = vote_sentences(told(speakers=8, mixture_right=False))
    assert "does not beat the softmax with a temperature; it is further from the votes" in sentence
    assert "Nor does it with a temperature for its steps as well" in sentence
    (sentence,) = vote_sentences(told(speakers=8, mixture_right=False, steps_calibrate=True))
    assert "does not beat" in sentence
    assert "With a temperature for its steps as well it does" in sentence


def test_few_speakers_prove_nothing():
    (sentence,) = vote_sentences(told(speakers=4, mixture_right=True))
    assert "does not beat" in sentence
    assert "no p-value can be below 0.12" in sentence
    (sentence,) = vote_sentences(told(speakers=1, mixture_right=True))
    assert "2 clips of one speaker allow no interval and no test" in sentence
    assert "nan" not in sentence
    assert "With one speaker there are no intervals" in vote_tables(told(speakers=1, mixture_right=True))[0].caption


def test_the_holm_adjusted_p_decides():
    study = told(speakers=8, mixture_right=True)
    study.holm_p[AUDIO] = 0.2
    assert "does not beat" in vote_sentences(study)[0]


def test_what_was_not_calibrated_is_not_compared():
    (sentence,) = vote_sentences(told(speakers=8, mixture_right=True, calibrated=False))
    assert "no validation clips to fit a temperature on" in sentence
    assert "beats a calibrated softmax is not known" in sentence


# --- tables and the door -----------------------------------------------------------------------------------------


def test_tables_and_files_hold_what_was_found(study, tmp_path):
    tables = vote_tables(study)
    assert [table.title.split(":")[0] for table in tables[:3]] == ["Voice alone", "Face alone", "Voice and face"]
    first = study.comparisons[AUDIO]
    names = [MIXTURE, SCALED_MIXTURE, SOFTMAX, SCALED_SOFTMAX, PRIOR, ONE_HOT]
    assert [row[0] for row in tables[0].rows] == names
    told_here = first.difference(MIXTURE, PRIOR)
    assert tables[0].rows[4][1:4] == [first.divergence[PRIOR], told_here.value, format_p(told_here.p_value)]
    assert tables[0].rows[0][2:] == [None, None, None, None, first.entropy_correlation[MIXTURE]]
    assert [row[1:] for row in tables[3].rows] == study.sides.table.tolist()
    write_vote_tables(study, tmp_path / "new")
    stored = json.loads((tmp_path / "new" / "votes.json").read_text())
    assert stored["sentences"] == vote_sentences(study)
    assert stored["comparisons"]["video"]["divergence"][MIXTURE]["value"] == pytest.approx(
        study.comparisons[VIDEO].divergence[MIXTURE].value
    )
    with (tmp_path / "new" / "votes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(map(len, study.clip_ids.values()))
    assert float(lines[0][PRIOR]) == pytest.approx(first.per_clip[PRIOR][0], abs=1e-5)


def test_the_door_prints_tables_and_sentences(runs, tmp_path, capsys):
    assert main([str(runs), "--out", str(tmp_path), "--resamples", "20", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "Voice alone: how close to human votes",
        "softmax, temperature-scaled",
        "does not beat",
        "votes.json",
    ):
        assert words in printed
    assert (tmp_path / "votes.csv").is_file()


def test_the_door_refuses_clips_that_were_trained_on(runs, tiny_corpus, tmp_path, capsys):
    arguments = [str(runs), "--out", str(tmp_path / "out"), "--manifest", str(runs.parent / "manifest.csv")]
    assert main(arguments) == 2
    assert "give both or neither" in capsys.readouterr().err
    assert main([*arguments, "--cache", str(tiny_corpus / "cache")]) == 1
    assert "was trained or validated on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
def test_real_votes_of_cremad_on_few_speakers(real_data, tmp_path, capsys):
    """Six clips of one speaker have a picture, twelve of two a voice: numbers, but nothing about other speakers."""
    emotions = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
    runs = build_runs(tmp_path / "runs", emotions, f"data.emotions=[{','.join(emotions)}]")
    assert write_cremad(["--raw", str(real_data / "cremad"), "--out", str(tmp_path / "cremad.csv")]) == 0
    models = load_models(runs, "cpu")
    report = build_cache(
        read_manifest(tmp_path / "cremad.csv"), tmp_path / "cache", models[AUDIO].config.media, progress=False
    )
    assert not report.failures
    study = study_votes(models, read_vote_clips(models, tmp_path / "cremad.csv", tmp_path / "cache"), num_resamples=50)
    assert {m: (c.num_clips, c.num_speakers) for m, c in study.comparisons.items()} == {
        AUDIO: (12, 2),
        VIDEO: (6, 1),
        FUSED: (6, 1),
    }
    face = study.comparisons[VIDEO]
    assert np.isfinite(face.divergence[MIXTURE].value)
    assert np.isnan(face.divergence[MIXTURE].low)
    assert np.isnan(face.difference(MIXTURE, SOFTMAX).p_value)
    # By tabulatedVotes.csv HAP was heard as neutral and seen as happiness, FEA as fear and disgust, DIS as disgust and
    # anger; both together made happiness, fear and disgust.
    assert (study.sides.num_clips, study.sides.num_conflicts, study.sides.num_tied) == (6, 3, 0)
    assert study.sides.table.sum(axis=1).tolist() == [2, 1, 0]
    arguments = [str(runs), "--out", str(tmp_path / "out"), "--resamples", "20", "--device", "cpu"]
    assert main([*arguments, "--manifest", str(tmp_path / "cremad.csv"), "--cache", str(tmp_path / "cache")]) == 0
    printed = capsys.readouterr().out
    assert "With one speaker there are no intervals and no tests." in " ".join(printed.split())
    assert "no validation clips to fit a temperature on" in printed
    assert "sided with the voice in 2, with the face in 1" in printed
