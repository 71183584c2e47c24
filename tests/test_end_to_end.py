"""The whole way as a user walks it: render, cache, ablate, find regions, predict; every step a command."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest

CONFIG = """
name: small
media: {fps: 10, crop_px: 32, faces: {tracker: center}}
data: {manifest: corpus/manifest.csv, cache: cache, test_share: 0.34, val_share: 0.3}
model:
  audio: {dim: 16, backbone: {name: "timm:test_byobnet", weights: none, max_stride: 4}}
  video: {dim: 16, temporal: tcn, baseline: clip, backbone: {name: "timm:test_byobnet", weights: none, max_stride: 8}}
  attention: {hidden: 8}
  fusion: {hidden: 16}
training: {epochs: 2, batch_size: 8, learning_rate: 1.0e-2}
roi: {rule: coverage}
"""


@pytest.fixture
def command(run_module, tmp_path):
    return partial(run_module, cwd=tmp_path)


def test_from_nothing_to_regions_and_predictions(command, tmp_path):
    (tmp_path / "small.yaml").write_text(CONFIG)

    command("preprocessing.synthetic", "--out", "corpus", "--speakers", 4, "--clips-per-emotion", 1, "--workers", 1)
    said = command("avser.cli", "cache", "corpus/manifest.csv", "small.yaml", "--out", "cache", "--workers", 1)
    assert said == "24 of 24 clips cached in cache (0 were there already, 0 failed)\n"

    table = command("avser.cli", "ablate", "small.yaml", "seed=1")
    assert "voice alone" in table
    for name in ("audio", "video", "fused"):
        metrics = json.loads((tmp_path / "runs" / "small" / name / "metrics.json").read_text())
        assert f"{metrics['test']['uar']['value']:.1f} [" in table
        assert metrics["split_fingerprint"] in table
        assert metrics["seed"] == 1

    command("avser.cli", "roi", "runs/small", "--out", "regions")
    assert (tmp_path / "regions" / "report.html").stat().st_size > 100_000
    rows = {
        name: list(csv.DictReader((tmp_path / "regions" / f"{name}.csv").open())) for name in ("regions", "alignment")
    }
    num_test = metrics["test"]["num_clips"]
    assert len(rows["alignment"]) == num_test > 0
    assert {row["modality"] for row in rows["regions"]} == {"audio", "video"}
    assert all(float(row["start_s"]) < float(row["end_s"]) for row in rows["regions"])

    clips = ["corpus/media/s01_anger_01.mp4", "corpus/media/s02_fear_01.mp4"]
    answers = [
        json.loads(line) for line in command("avser.cli", "predict", "runs/small/fused", *clips, "--json").splitlines()
    ]
    assert [answer["clip"] for answer in answers] == [Path(clip).stem for clip in clips]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert answer["regions"]["audio"]
        assert answer["regions"]["video"]
