"""One command trains every kind of attention alike and asks each by every salience."""

import json

import pytest

from avser.inference import load_model
from tests.conftest import tiny_sources
from tools.compare_attention import main


@pytest.fixture
def sources(tiny_corpus, tmp_path):
    return [*tiny_sources(tiny_corpus), f"runs={tmp_path / 'runs'}", "name=kinds", "training.epochs=1"]


def test_every_kind_has_a_row_for_every_salience_and_modality(sources, tmp_path, capsys):
    asked = ["--kinds", "mean,gated", "--sources", "attention,att_value,occlusion", "--costly-clips", "4"]
    assert main([*sources, *asked, "--out", str(tmp_path / "out")]) == 0
    stored = json.loads((tmp_path / "out" / "localization.json").read_text())
    rows = {(s["run"], s["modality"], s["source"]): s for s in stored["scores"]}
    assert set(rows) == {
        (kind, modality, source)
        for kind in ("mean", "gated")
        for modality in ("audio", "video")
        for source in ("attention", "att_value", "occlusion")
    }
    assert rows["mean", "audio", "attention"]["localization"]["auroc"]["value"] == 0.5
    assert rows["gated", "audio", "attention"]["localization"]["auroc"]["value"] != 0.5
    assert {rows[row]["num_asked"] for row in rows if row[2] == "occlusion"} == {4}
    for kind in ("mean", "gated"):
        trained = load_model(tmp_path / "runs" / "kinds" / kind / "video", "cpu").config
        assert (trained.model.attention.kind, trained.model.modalities) == (kind, ["video"])
    weights = tmp_path / "runs" / "kinds" / "gated" / "audio" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert main([*sources, "--kinds", "gated", "--sources", "attention", "--out", str(tmp_path / "again")]) == 0
    assert weights.stat().st_mtime_ns == before  # what is finished is not trained again
    assert "gated, face, attention" in capsys.readouterr().out


def test_an_unknown_kind_or_a_system_without_kinds_is_refused_before_training(sources, tmp_path, capsys):
    assert main([*sources, "--kinds", "selfish", "--out", str(tmp_path / "out")]) == 2
    assert main(["macnn_area", "--kinds", "mean", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "runs").exists()
    assert "selfish" in capsys.readouterr().err
