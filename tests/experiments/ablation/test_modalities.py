"""The ablation on tiny runs: the numbers are those of the runs, finished cells are kept, mixed-up cells are refused."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.config import load_config
from avser.errors import CheckpointError, ConfigError
from avser.evaluation.metrics import unweighted_average_recall
from avser.evaluation.statistics import Interval
from avser.experiments.ablation import modalities as ablation_module
from avser.experiments.ablation.modalities import (
    LABELS,
    ablate_modalities,
    ablation_table,
    compare_modalities,
    keep_modality,
    single_modality,
)
from avser.structures import AUDIO, FUSED, VIDEO, Batch

CELLS = (AUDIO, VIDEO, FUSED)


@pytest.fixture(scope="module")
def config(tiny_ablation):
    found = load_config([tiny_ablation / "fused" / "config.yaml"])
    found.name = tiny_ablation.name
    return found


@pytest.fixture(scope="module")
def ablation(tiny_ablation, config):
    return compare_modalities(config, {name: tiny_ablation / name for name in CELLS})


def uar_of_predictions(run: Path) -> float:
    with (run / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    names = sorted({row["emotion"] for row in rows})
    pairs = np.array([[names.index(row["emotion"]), names.index(row["predicted"])] for row in rows])
    return 100 * unweighted_average_recall(pairs[:, 0], pairs[:, 1])


def test_the_rows_are_the_runs_own_results(ablation, tiny_ablation):
    assert [row.name for row in ablation.rows] == list(LABELS)
    stored = {name: json.loads((tiny_ablation / name / "metrics.json").read_text()) for name in CELLS}
    for name, metrics in stored.items():
        assert ablation[name].scores.to_dict() == metrics["test"]
        assert metrics["split_fingerprint"] == ablation.split_fingerprint
        assert metrics["protocol"] == ablation.protocol


def test_differences_are_those_of_the_predictions(ablation, tiny_ablation):
    fused = uar_of_predictions(tiny_ablation / FUSED)
    assert ablation[FUSED].difference is None
    assert ablation[FUSED].p_value is None
    for name in (AUDIO, VIDEO):
        row = ablation[name]
        assert row.difference.value == pytest.approx(fused - uar_of_predictions(tiny_ablation / name))
        assert row.difference.low <= row.difference.value <= row.difference.high
        assert row.p_value >= 2 / 2**2  # two speakers can change places in four ways
        assert row.p_value * 4 in (2, 4)


def test_fused_compared_with_itself_differs_by_nothing(config, tiny_ablation, monkeypatch):
    monkeypatch.setattr(ablation_module, "keep_modality", lambda batches, given: batches)
    same = compare_modalities(config, dict.fromkeys(CELLS, tiny_ablation / FUSED))
    for row in same.rows:
        assert row.scores == same[FUSED].scores
        assert row.difference == (None if row.name == FUSED else Interval(0, 0, 0))
        assert row.p_value == (None if row.name == FUSED else 1)


def test_a_cell_gets_only_its_own_modality(config, tiny_ablation):
    """The cells "audio" and "video" are answered by copies of the fused run here."""
    same = compare_modalities(config, dict.fromkeys(CELLS, tiny_ablation / FUSED))
    for name in (AUDIO, VIDEO):
        assert same[name].scores == same[f"fused_{name}"].scores
        assert same[name].difference == same[f"fused_{name}"].difference


def test_the_table_names_protocol_and_chance(ablation):
    table = ablation_table(ablation)
    assert [row[0] for row in table.rows] == list(LABELS.values())
    assert "16.7 %" in table.note
    assert ablation.split_fingerprint in table.note
    assert ablation.protocol in table.note
    assert "speakers disjoint: yes; sentences disjoint: " in table.note
    assert "12 test clips of 2 speakers" in table.caption
    assert "change places for whole speakers" in table.caption


def test_keep_modality_takes_the_other_one_away():
    batch = Batch(
        ["a"],
        waveform=torch.zeros(1, 8),
        waveform_mask=torch.ones(1, 8, dtype=torch.bool),
        frames=torch.zeros(1, 2, 3, 4, 4, dtype=torch.uint8),
        frame_times=torch.zeros(1, 2),
        frame_mask=torch.ones(1, 2, dtype=torch.bool),
        labels=torch.tensor([1]),
    )
    (voice,), (face,), (both,) = (list(keep_modality([batch], given)) for given in CELLS)
    assert voice.waveform is batch.waveform
    assert (voice.frames, voice.frame_times, voice.frame_mask) == (None, None, None)
    assert face.frames is batch.frames
    assert (face.waveform, face.waveform_mask) == (None, None)
    assert both is batch
    assert voice.labels is face.labels is batch.labels


def test_the_cells_differ_in_nothing_but_name_and_modalities(config):
    for name, modalities in ((AUDIO, [AUDIO]), (VIDEO, [VIDEO]), (FUSED, [AUDIO, VIDEO])):
        part = single_modality(config, name)
        assert (part.name, part.model.modalities) == (f"{config.name}/{name}", modalities)
        part.name, part.model.modalities = config.name, config.model.modalities
        assert part == config


def test_one_modality_has_nothing_to_balance(config):
    config = load_config(["training.balance=ogm_ge"], base=config)
    assert [single_modality(config, name).training.balance for name in CELLS] == ["none", "none", "ogm_ge"]


def test_one_modality_cannot_be_ablated(tiny_config):
    with pytest.raises(ConfigError, match="needs audio and video"):
        ablate_modalities(tiny_config("model.modalities=[audio]"))


def copy_of(tiny_ablation: Path, folder: Path, config):
    """The finished ablation in another place, and the configuration to go on with it."""
    shutil.copytree(tiny_ablation, folder / "ablation")
    return load_config([f"runs={folder}"], base=config)


def test_resuming_keeps_finished_runs_and_does_the_missing_one(tiny_ablation, config, ablation, tmp_path):
    moved = copy_of(tiny_ablation, tmp_path, config)
    shutil.rmtree(tmp_path / "ablation" / "audio")
    before = {name: (tmp_path / "ablation" / name / "model.safetensors").stat().st_mtime_ns for name in (VIDEO, FUSED)}
    with pytest.raises(CheckpointError, match="a finished run is there"):
        ablate_modalities(load_config(["training.epochs=1"], base=moved))
    shutil.rmtree(tmp_path / "ablation" / "audio")
    again = ablate_modalities(moved, resume=True)
    after = {name: (tmp_path / "ablation" / name / "model.safetensors").stat().st_mtime_ns for name in (VIDEO, FUSED)}
    assert after == before
    assert again[AUDIO].scores == ablation[AUDIO].scores  # the same seed gives the same run


def test_a_finished_run_with_other_settings_is_not_kept(tiny_ablation, config, tmp_path):
    moved = copy_of(tiny_ablation, tmp_path, config)
    changed = load_config(["training.epochs=7", "roi.kappa=2"], base=moved)
    with pytest.raises(CheckpointError, match=r"audio: was trained .*: training\.epochs is 2 there, 7 asked for\."):
        ablate_modalities(changed, resume=True)


def test_runs_that_have_seen_the_test_clips_are_refused(tiny_ablation, config):
    other_split = load_config(["data.split_seed=3"], base=config)
    with pytest.raises(CheckpointError, match=r"was trained or validated on \d+ of the 12 test clips"):
        compare_modalities(other_split, {name: tiny_ablation / name for name in CELLS})
