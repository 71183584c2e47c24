"""Where a run is logged: TensorBoard unless told otherwise, nowhere if told so, and never to what is not installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from avser.errors import ConfigError
from avser.training.run import train


def test_tensorboard_shows_every_epoch_by_default(tiny_config):
    folder = train(tiny_config("name=logged", "model.modalities=[audio]"))
    events = EventAccumulator(str(folder / "log"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train_loss", "val_uar", "val_loss"}
    assert [event.step for event in events.Scalars("val_uar")] == [1, 2]


def test_a_run_may_be_logged_nowhere(tiny_config):
    folder = train(tiny_config("name=quiet", "model.modalities=[audio]", "training.epochs=1", "training.trackers=[]"))
    assert not (folder / "log").exists()
    assert (folder / "metrics.json").is_file()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read(tiny_config, name):
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    config = tiny_config("name=none", f"training.trackers=[tensorboard, {name}]", "data.manifest=nowhere.csv")
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        train(config)


def test_an_unknown_tracker_is_refused(tiny_config):
    with pytest.raises(ConfigError, match="take some of tensorboard, wandb, mlflow"):
        train(tiny_config("training.trackers=[comet]"))


def test_a_tracker_that_cannot_start_says_what_to_do(tiny_config):
    config = tiny_config("name=blocked", "model.modalities=[audio]")
    folder = Path(config.runs) / "blocked"
    folder.mkdir(parents=True)
    (folder / "log").write_text("no folder")
    with pytest.raises(
        ConfigError, match=r"training\.trackers: tensorboard cannot be started(.|\n)*take it from the list"
    ):
        train(config)


def test_weights_and_biases_is_told_every_epoch(tiny_config, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = train(tiny_config("name=told", "model.modalities=[audio]", "training.trackers=[wandb]"))
    (log,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert b"val_uar" in log.read_bytes()


def test_mlflow_is_told_every_epoch_and_the_settings(tiny_config, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    train(tiny_config("name=told", "model.modalities=[audio]", "training.trackers=[mlflow]"))
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    assert (run.info.run_name, run.info.status) == ("told", "FINISHED")
    assert {"train_loss", "val_uar", "val_loss"} <= set(run.data.metrics)
    assert run.data.params["training.epochs"] == "2"
