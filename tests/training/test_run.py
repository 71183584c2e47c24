"""Whole runs on a tiny rendered corpus: what they leave, exact resuming, and data that must be refused."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from avser.data.cache import build_cache
from avser.data.manifest import read_manifest, write_manifest
from avser.errors import CacheError, CheckpointError, ConfigError, ManifestError, SplitError, TrainingError
from avser.inference import load_model, predict
from avser.training import fit as fit_module
from avser.training import run as run_module
from avser.training.run import evaluate_run, train
from avser.training.run_data import load_data


def test_a_run_leaves_everything_and_evaluates_to_the_same_numbers(tiny_config):
    folder = train(tiny_config("name=a"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"].startswith("speaker_holdout(")
    assert metrics["split_fingerprint"] == json.loads((folder / "split.json").read_text())["fingerprint"]
    assert metrics["verdict"] == json.loads((folder / "split.json").read_text())["verdict"]
    assert metrics["verdict"]["speakers_disjoint"] is True
    assert metrics["seed"] == 0
    assert metrics["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"val", "test"}
    right = [row["emotion"] == row["predicted"] for row in rows if row["split"] == "test"]
    assert metrics["test"]["wa"]["value"] == pytest.approx(100 * sum(right) / len(right))
    assert list((folder / "log").iterdir())
    assert evaluate_run(folder, "test")["test"] == metrics["test"]
    with pytest.raises(ConfigError, match="take one of"):
        evaluate_run(folder, "tset")


def test_speakers_are_disjoint(tiny_config):
    data = load_data(tiny_config())
    speakers = [{data.rows[c].speaker for c in ids} for ids in data.split.parts().values()]
    assert all(speakers)
    assert sum(map(len, speakers)) == len(set.union(*speakers))


class InterruptedRunError(Exception):
    """Stands for a kill."""


def test_an_interrupted_run_resumes_exactly(tiny_config, monkeypatch):
    whole = train(tiny_config("name=whole", "training.epochs=3", "model.fusion.modality_dropout=0.3"))
    evaluate, calls = fit_module.evaluate, []

    def stop_in_the_second_epoch(*args):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedRunError
        return evaluate(*args)

    config = tiny_config("name=broken", "training.epochs=3", "model.fusion.modality_dropout=0.3")
    monkeypatch.setattr(fit_module, "evaluate", stop_in_the_second_epoch)
    with pytest.raises(InterruptedRunError):
        train(config)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="--resume"):
        train(config)
    resumed = train(config, resume=True)
    first, second = (load_file(folder / "last" / "state.safetensors") for folder in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert (whole / "predictions.csv").read_text() == (resumed / "predictions.csv").read_text()


def test_a_finished_run_is_never_overwritten_by_accident(tiny_config):
    config = tiny_config("name=once", "training.epochs=1", "model.modalities=[audio]")
    folder = train(config)
    written = (folder / "metrics.json").stat().st_mtime_ns
    with pytest.raises(CheckpointError, match="give another name"):
        train(config)
    assert (folder / "metrics.json").stat().st_mtime_ns == written
    train(config, overwrite=True)


def test_early_stopping_waits_for_patience(tiny_config):
    config = tiny_config("training.epochs=30", "training.patience=2", "training.learning_rate=1e-12", "name=still")
    folder = train(config)
    progress = json.loads(safe_open(folder / "last" / "state.safetensors", "pt").metadata()["progress"])
    assert progress["epoch"] < 30
    assert progress["epochs_without_gain"] == 2


def manifest_with(tiny_corpus, folder, change):
    rows = [change(i, row) for i, row in enumerate(read_manifest(tiny_corpus / "manifest.csv").rows)]
    write_manifest(rows, folder / "manifest.csv")
    return f"data.manifest={folder / 'manifest.csv'}"


def test_faulty_data_are_refused_before_training(tiny_config, tiny_corpus, tmp_path):
    with pytest.raises(ConfigError, match="must be set"):
        load_data(tiny_config("data.manifest=''"))
    with pytest.raises(ManifestError, match=r"data\.emotions"):
        load_data(tiny_config("data.emotions=[anger, fear]"))
    with pytest.raises(CacheError, match="fps"):
        load_data(tiny_config("media.fps=5"))
    with pytest.raises(CacheError):
        load_data(tiny_config(f"data.cache={tmp_path / 'nothing'}"))
    duplicate = manifest_with(tiny_corpus, tmp_path, lambda i, row: replace(row, clip_id="same"))
    with pytest.raises(ManifestError, match="stands in line 2"):
        load_data(tiny_config(duplicate))


def test_shared_speakers_are_refused_unless_asked_for(tiny_config, tiny_corpus, tmp_path):
    parts = ["train", "val", "test"]
    mixed = manifest_with(tiny_corpus, tmp_path, lambda i, row: replace(row, split=parts[(i // 6 + i) % 3]))
    with pytest.raises(SplitError, match="speaker"):
        load_data(tiny_config(mixed, "data.protocol=manifest"))
    data = load_data(tiny_config(mixed, "data.protocol=manifest", "data.allow_shared_speakers=true"))
    assert any("speaker-dependent" in note for note in data.notes)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config, monkeypatch):
    monkeypatch.setattr(fit_module.TrainingLoss, "forward", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match="learning_rate"):
        train(tiny_config("name=nan"))
    shutil.rmtree(tiny_config("name=nan").runs)


@pytest.mark.parametrize(
    "override", ["training.mixed_precision=bf16", "training.augment.mixup=0.4", "training.workers=1"]
)
def test_options_of_training_run_through(tiny_config, override):
    folder = train(tiny_config("name=option", "training.epochs=1", override))
    assert json.loads((folder / "metrics.json").read_text())["test"]["num_clips"] > 0


def test_resuming_with_other_settings_changes_nothing(tiny_config, monkeypatch):
    monkeypatch.setattr(run_module, "write_results", lambda *_: None)  # as if killed before the end
    folder = train(tiny_config("name=other", "training.epochs=1", "model.modalities=[audio]"))
    before = (folder / "split.json").read_text()
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="another configuration"):
        train(
            tiny_config("name=other", "training.epochs=1", "model.modalities=[audio]", "data.split_seed=3"), resume=True
        )
    assert (folder / "split.json").read_text() == before


def test_a_bad_overwrite_loses_nothing(tiny_config):
    folder = train(tiny_config("name=kept", "training.epochs=1", "model.modalities=[audio]"))
    with pytest.raises(CacheError):
        train(tiny_config("name=kept", "media.fps=3"), overwrite=True)
    assert (folder / "metrics.json").is_file()


@pytest.fixture
def annotated(tiny_corpus, tiny_config, tmp_path):
    """The tiny corpus with votes and a table of face features, cached anew; every fifth clip's votes are tied."""
    rows = read_manifest(tiny_corpus / "manifest.csv").rows
    emotions = sorted({row.emotion for row in rows})
    table = ["clip_id,AU01_r,AU02_r"]
    voted = []
    for i, row in enumerate(rows):
        other = emotions[(emotions.index(row.emotion) + 1) % 6]
        votes = {row.emotion: 3, other: 3 if i % 5 == 0 else 1}
        voted.append(replace(row, face_features="features.csv", votes_video=json.dumps(votes)))
        table.append(f"{row.clip_id},{emotions.index(row.emotion)},{i}")
    (tiny_corpus / "features.csv").write_text("\n".join(table))
    write_manifest(voted, tiny_corpus / "annotated.csv")
    config = tiny_config(
        f"data.manifest={tiny_corpus / 'annotated.csv'}", f"data.cache={tmp_path / 'cache'}", "media.faces.tracker=none"
    )
    report = build_cache(read_manifest(config.data.manifest), config.data.cache, config.media, progress=False)
    assert not report.failures
    return config


def test_a_fused_model_of_the_voice_and_features_made_elsewhere(annotated):
    annotated.model.video.num_features = 2
    folder = train(annotated)
    part = load_data(annotated).parts["test"]
    prediction = predict(load_model(folder), part[0].clip)
    assert set(prediction.salience) == {"audio", "video"}
    assert len(prediction.salience["video"]) == 1
    annotated.model.video.num_features, annotated.name = 7, "wrong"
    with pytest.raises(ConfigError, match=r"set model.video.num_features=2"):
        train(annotated)


def test_soft_labels_train_and_tied_clips_are_not_scored(annotated):
    annotated.data.target, annotated.data.soft_labels = "perceived_video", True
    annotated.model.modalities = ["audio"]
    data = load_data(annotated)
    tied = {clip_id for clip_id, row in data.rows.items() if not row.emotion}
    assert len(tied) == 8
    assert not tied & {*data.split.val, *data.split.test}
    assert any("clips with tied votes are not scored" in note for note in data.notes)
    shares = {
        s for b in data.batches("train", annotated.training, shuffle_seed=0) for s in b.targets.flatten().tolist()
    }
    assert shares == {0.0, 0.25, 0.5, 0.75}
    assert next(iter(data.batches("test", annotated.training))).targets is None
    folder = train(annotated)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "labels: perceived_video, the shares of the votes" in metrics["notes"]
    known = [clip_id for clip_id in data.split.train if clip_id not in tied]
    assert 0 < len(known) < len(data.split.train)
    assert evaluate_run(folder, "train")["train"]["num_clips"] == len(known)


def test_balanced_sampling_draws_clips_that_have_soft_labels_alone(annotated):
    annotated.data.target, annotated.data.soft_labels = "perceived_video", True
    annotated.model.modalities, annotated.training.sampling = ["audio"], "balanced"
    data = load_data(annotated)
    epochs = [data.batches("train", annotated.training, shuffle_seed=seed) for seed in (0, 1)]
    drawn = [[clip_id for batch in epoch for clip_id in batch.clip_ids] for epoch in epochs]
    assert set(drawn[0]) == set(drawn[1]) == set(data.split.train)
    assert len(drawn[0]) == len(drawn[1])


def test_speakers_of_one_name_in_two_corpora_are_two_people(tiny_corpus, tiny_config):
    rows = read_manifest(tiny_corpus / "manifest.csv").rows
    speakers = sorted({row.speaker for row in rows})
    two = {name: ("one" if i % 2 else "two", f"p{i // 2}") for i, name in enumerate(speakers)}
    renamed = [replace(row, corpus=two[row.speaker][0], speaker=two[row.speaker][1]) for row in rows]
    write_manifest(renamed, tiny_corpus / "two_corpora.csv")
    config = tiny_config(f"data.manifest={tiny_corpus / 'two_corpora.csv'}")
    data = load_data(config)
    assert len({data.speaker(clip_id) for clip_id in data.rows}) == len(speakers)
    assert load_data(tiny_config()).speaker(rows[0].clip_id) == rows[0].speaker
