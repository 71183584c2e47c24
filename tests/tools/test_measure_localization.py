"""The door to the study of localisation: what it writes and prints, and how it exits."""

import json

import pytest
import torch

from avser.config import load_config
from avser.data.manifest import read_manifest
from avser.data.splits import Split
from avser.models.build import build_model
from avser.training.checkpoint import MODEL_FILE, save_model
from tests.conftest import tiny_sources
from tools.measure_localization import main


@pytest.fixture
def run(tiny_corpus, tmp_path):
    config = load_config([*tiny_sources(tiny_corpus), "model.modalities=[audio]"])
    torch.manual_seed(0)
    model = build_model(config.model, config.data.emotions, sample_rate_hz=config.media.sample_rate_hz)
    save_model(tmp_path / "run" / MODEL_FILE, model, config, list(config.data.emotions))
    (tmp_path / "run" / "split.json").write_text(json.dumps(Split("manual", [], [], []).to_json()))
    return tmp_path / "run"


def test_one_command_writes_and_prints_the_tables(run, tiny_corpus, tmp_path, capsys):
    corpus = ["--manifest", str(tiny_corpus / "manifest.csv"), "--cache", str(tiny_corpus / "cache")]
    assert (
        main([str(run), *corpus, "--sources", "attention, att_value", "--controls", "--out", str(tmp_path / "out")])
        == 0
    )
    printed = capsys.readouterr().out
    for words in (
        "Moments and regions",
        "run, voice, att_value",
        "run, voice, loudness",
        "mAP at IoU 0.5",
        "localization.md",
    ):
        assert words in printed
    stored = json.loads((tmp_path / "out" / "localization.json").read_text())
    assert stored["command"].startswith(f"python -m tools.measure_localization {run}")
    assert len(stored["scores"]) == 4
    assert stored["scores"][0]["num_asked"] == len(read_manifest(tiny_corpus / "manifest.csv").rows)
    assert {"localization.md", "auroc.png", "auroc.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("wrong", "code"), [(["--sources", "x"], 2), (["--batch-size", "0"], 2), (["--cache", "no"], 1)]
)
def test_wrong_usage_and_unusable_data_exit_otherwise(wrong, code, run, tiny_corpus, tmp_path, capsys):
    arguments = [str(run), "--manifest", str(tiny_corpus / "manifest.csv"), "--cache", str(tiny_corpus / "cache")]
    try:
        got = main([*arguments, "--out", str(tmp_path / "out"), *wrong])
    except SystemExit as stop:
        got = stop.code
    assert got == code
    assert not (tmp_path / "out").exists()
    assert "error:" in capsys.readouterr().err
