"""Whole runs on a tiny rendered corpus: what they leave, exact resuming, and data that must be refused."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from avser.data.manifest import read_manifest, write_manifest
from avser.errors import CacheError, CheckpointError, ConfigError, ManifestError, SplitError, TrainingError
from avser.training import run as run_module
from avser.training.run import evaluate_run, load_data, train


def test_a_run_leaves_everything_and_evaluates_to_the_same_numbers(tiny_config):
    folder = train(tiny_config("name=a"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"].startswith("speaker_holdout(")
    assert metrics["split_fingerprint"] == json.loads((folder / "split.json").read_text())["fingerprint"]
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
    evaluate, calls = run_module.evaluate, []

    def stop_in_the_second_epoch(*args):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedRunError
        return evaluate(*args)

    config = tiny_config("name=broken", "training.epochs=3", "model.fusion.modality_dropout=0.3")
    monkeypatch.setattr(run_module, "evaluate", stop_in_the_second_epoch)
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
    monkeypatch.setattr(run_module.TrainingLoss, "forward", lambda *_: torch.tensor(float("nan")))
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
