"""The door of faithfulness: folds and seeds of one system go in; verdicts, tables and figures come out."""

import json

import pytest
import torch

from avser.config import load_config
from avser.models.build import build_model
from avser.training.checkpoint import MODEL_FILE, save_model
from avser.training.run_data import load_data
from tests.conftest import tiny_sources
from tools.measure_faithfulness import main


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory):
    """Runs of random weights: three folds of one protocol, the first of them with two seeds; and half of the clips."""
    folder = tmp_path_factory.mktemp("runs")
    folds = {f"fold{fold}-seed0": (3, fold, 0) for fold in range(3)} | {"fold0-seed1": (3, 0, 1), "half": (2, 0, 0)}
    for name, (num_folds, fold, seed) in folds.items():
        protocol = ["data.protocol=speaker_kfold", f"data.num_folds={num_folds}", f"data.fold={fold}"]
        config = load_config([*tiny_sources(tiny_corpus), "model.modalities=[audio]", *protocol, f"seed={seed}"])
        torch.manual_seed(10 * seed + fold)
        model = build_model(config.model, config.data.emotions, sample_rate_hz=config.media.sample_rate_hz)
        save_model(folder / name / MODEL_FILE, model, config, list(config.data.emotions))
        (folder / name / "split.json").write_text(json.dumps(load_data(config).split.to_json()))
    return folder


def ask(capsys, *arguments):
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr()


def test_folds_and_seeds_are_pooled(runs, tmp_path, capsys):
    given = [runs / name for name in ("fold0-seed0", "fold1-seed0", "fold2-seed0", "fold0-seed1")]
    code, printed = ask(capsys, *given, "--modality", "audio", "--clips", 6, "--draws", 1, "--out", tmp_path / "out")
    assert code == 0
    assert "6 clips of 6 speakers: too few speakers to tell" in printed.out
    assert "between 2 models of one fold, 2 clips" in printed.out
    stored = json.loads((tmp_path / "out" / "faithfulness.json").read_text())
    assert stored["runs"] == [str(runs / name) for name in ("fold0-seed0", "fold0-seed1", "fold1-seed0", "fold2-seed0")]
    assert (stored["num_clips"], stored["num_speakers"]) == (6, 6)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    figures = {f"faithfulness_{operator}{suffix}" for operator in ("mean", "excise") for suffix in (".png", ".svg")}
    assert written == {"faithfulness.json", "faithfulness.md", *figures}


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (["fold0-seed0", "fold0-seed0"], [], "the same training twice"),
        (["fold0-seed0", "fold1-seed0", "fold2-seed0", "half"], [], "but not all"),
        (["fold0-seed0"], ["--modality", "video"], "reads audio, not video"),
        (["fold0-seed0", "fold1-seed0"], ["--permuted", "fold0-seed1"], "one for each fold, or none"),
        (["fold0-seed0"], ["--operators", "freeze,mean"], "a voice cannot stand still"),
    ],
)
def test_wrong_usage_is_told(runs, names, more, words, tmp_path, capsys):
    more = [runs / word if word == "fold0-seed1" else word for word in more]
    arguments = ["--modality", "audio", "--out", tmp_path / "out", *more]
    code, printed = ask(capsys, *(runs / name for name in names), *arguments)
    assert code == 2
    assert words in printed.err
    assert not (tmp_path / "out").exists()
