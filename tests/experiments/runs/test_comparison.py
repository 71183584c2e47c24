"""Runs beside each other: paired by clip, corrected for their number, refused where they do not fit, not trusted."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avser.config import config_to_yaml, load_config
from avser.data.splits import Split
from avser.errors import AvserError, CheckpointError, ConfigError
from avser.evaluation.multiple_tests import holm
from avser.evaluation.statistics import paired_permutation
from avser.experiments.runs.comparison import compare_runs
from avser.experiments.runs.comparison_tables import comparison_tables, write_comparison

EMOTIONS = ["anger", "fear"]
CLIPS = [f"c{i}" for i in range(16)]
VERDICT = {"speakers_disjoint": True, "sentences_disjoint": None, "val_apart_from_test": True}


def write_run(
    folder: Path,
    wrong: list[int],
    *overrides: str,
    clips: list[str] = CLIPS,
    emotions: list[str] = EMOTIONS,
    train: tuple[str, ...] = ("t0",),
    **metrics: object,
) -> Path:
    """A finished run that answers clip i, said by speaker i % 8, wrongly where i is in `wrong`."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_to_yaml(load_config([f"name={folder.name}", *overrides])))
    split = Split("made up", [*train], ["v0"], clips, verdict=None)
    (folder / "split.json").write_text(json.dumps(split.to_json()))
    part = {"num_clips": len(clips)}
    stored = {"emotions": emotions, "protocol": "made up", "verdict": VERDICT, "test": part, "val": {"num_clips": 0}}
    (folder / "metrics.json").write_text(json.dumps(stored | metrics))
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "split", "speaker", "emotion", "predicted", *emotions])
        for clip in clips:
            i = int(clip[1:])
            label = EMOTIONS[i // 8 % 2]
            answer = EMOTIONS[1 - EMOTIONS.index(label)] if i in wrong else label
            shares = [0.9 if emotion == answer else 0.1 for emotion in emotions]
            writer.writerow([clip, "test", f"s{i % 8}", label, answer, *shares])
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def good(tmp_path) -> Path:
    return write_run(tmp_path / "good", [0], "seed=4")


@pytest.fixture
def bad(tmp_path) -> Path:
    return write_run(tmp_path / "bad", [*range(16)], "model.attention.kind=mean")


@pytest.fixture
def middling(tmp_path) -> Path:
    return write_run(tmp_path / "middling", [0, 1, 2, 3, 8, 9])


def test_scores_and_differences_are_as_by_hand_and_tests_are_corrected(good, bad, middling):
    found = compare_runs([good, bad, middling])
    assert found.reference is found.runs[0]
    assert [run.scores.wa.value for run in found.runs] == pytest.approx([100 * 15 / 16, 0, 100 * 10 / 16])
    assert found.runs[0].difference is None
    others = found.runs[1:]
    assert [run.difference.wa.value for run in others] == pytest.approx([-100 * 15 / 16, -100 * 5 / 16])
    right = {run.folder.name: (run.pool.labels == run.pool.answers).astype(float) for run in found.runs}
    speakers = found.reference.pool.speakers
    plain = [paired_permutation(right[name], right["good"], speakers) for name in ("bad", "middling")]
    assert [run.difference.wa_p for run in others] == pytest.approx(plain)
    assert plain[0] == 2 / 2**8
    np.testing.assert_allclose([run.wa_p for run in others], holm(plain))
    assert others[0].wa_p == 2 * 2 / 2**8
    assert [run.uar_p for run in others] == holm([run.difference.uar_p for run in others]).tolist()
    assert others[0].uar_p == 2 * others[0].difference.uar_p


def test_another_reference_turns_the_differences_round(good, bad):
    found = compare_runs([good, bad], reference=bad)
    assert found.runs[0].difference.wa.value == pytest.approx(100 * 15 / 16)
    assert found.runs[1].difference is None
    with pytest.raises(ConfigError, match="none of the runs"):
        compare_runs([good, bad], reference=bad.parent)
    with pytest.raises(ConfigError, match="given twice"):
        compare_runs([good, good.parent / "." / "good"])


def test_what_differs_is_told_and_where_a_run_lies_is_no_difference(good, bad):
    found = compare_runs([good, bad])
    assert found.runs[0].differences == {}
    assert found.runs[1].differences == {"seed": (0, 4), "model.attention.kind": ("mean", "additive_mil")}
    rows = comparison_tables(found)[2].rows
    assert rows == [["2", "seed", "0", "4"], ["2", "model.attention.kind", "mean", "additive_mil"]]


def test_other_test_clips_are_refused_unless_the_common_ones_are_asked_for(good, tmp_path):
    part = write_run(tmp_path / "part", [0, 1], clips=[*CLIPS[:12], "c99"])
    with pytest.raises(ConfigError, match=r"tested 13 clips, .* 16, and 12 of them are the same.*--common"):
        compare_runs([good, part])
    found = compare_runs([good, part], common=True)
    assert (found.num_clips, found.runs[0].scores.num_clips) == (12, 12)
    assert found.runs[1].scores.wa.value == pytest.approx(100 * 10 / 12)
    assert any("compared on the 12 clips that all runs tested, of up to 16" in note for note in found.notes)
    apart = write_run(tmp_path / "apart", [], clips=["c99"])
    with pytest.raises(ConfigError, match="no clip was tested by all"):
        compare_runs([good, apart], common=True)


def test_emotions_may_stand_in_another_order(good, bad, tmp_path):
    turned = write_run(tmp_path / "turned", [*range(16)], emotions=EMOTIONS[::-1])
    found = compare_runs([good, bad, turned])
    assert found.runs[1].scores == found.runs[2].scores
    np.testing.assert_allclose(found.runs[1].pool.probabilities, found.runs[2].pool.probabilities)
    other = write_run(tmp_path / "other", [], emotions=[*EMOTIONS, "calm"])
    with pytest.raises(CheckpointError, match="one label set"):
        compare_runs([good, other])


def test_other_labels_are_refused(good, tmp_path):
    changed = write_run(tmp_path / "changed", [])
    text = (changed / "predictions.csv").read_text()
    (changed / "predictions.csv").write_text(text.replace("c3,test,s3,anger", "c3,test,s3,fear"))
    with pytest.raises(CheckpointError, match=r"another label or speaker .* 1 clips, e\.g\. c3"):
        compare_runs([good, changed])
    (changed / "predictions.csv").write_text(text.replace("c5,test,s5", "c5,test,s6"))
    with pytest.raises(CheckpointError, match=r"another label or speaker .* 1 clips, e\.g\. c5"):
        compare_runs([good, changed])


def test_what_limits_the_comparison_is_noted(good, tmp_path):
    loose = write_run(tmp_path / "loose", [], train=("t1",), verdict={**VERDICT, "speakers_disjoint": False})
    notes = compare_runs([good, loose]).notes
    assert any("not trained on the same clips" in note and "loose" in note for note in notes)
    assert any("speakers of test are in training" in note and "loose" in note for note in notes)
    assert compare_runs([good, shutil.copytree(good, tmp_path / "copy")]).notes == []


def test_what_runs_cost_is_read_where_it_is_known(good, bad):
    (good / "timing.json").write_text(json.dumps({"num_parameters": 17, "seconds": 120}))
    (bad / "timing.json").write_text(json.dumps({"num_parameters": "many", "seconds": float("nan")}))
    one, other = compare_runs([good, bad]).runs
    assert (one.num_parameters, one.seconds, one.peak_memory_bytes) == (17, 120, None)
    assert (other.num_parameters, other.num_stored, other.seconds) == (None, 17, None)
    cost = comparison_tables(compare_runs([good, bad]))[3]
    assert [row[1:] for row in cost.rows] == [[17, 2.0, None], ["at most 17", None, None]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "[1]"),
        ("metrics.json", "[" * 100_000),
        ("metrics.json", '{"emotions": [1, 2]}'),
        ("predictions.csv", "clip_id,split\n"),
        ("predictions.csv", "clip_id,split,speaker,emotion,predicted,anger,fear\n" + 16 * "c0,test,s,fear,fear,0,1\n"),
        ("predictions.csv", "clip_id,split\n" + "x" * 200_000 + ",test\n"),
        ("predictions.csv", "\x00"),
        ("split.json", "{}"),
        ("config.yaml", "!!python/object/apply:os.system [true]"),
        ("config.yaml", "training: {epochs: many}"),
        ("timing.json", "[]"),
    ],
)
def test_a_damaged_run_is_an_error_of_one_sentence(name, text, good, bad):
    (bad / name).write_text(text)
    with pytest.raises(AvserError) as refusal:
        compare_runs([good, bad])
    if name in ("metrics.json", "predictions.csv"):
        assert "copy it anew from where it was made" in str(refusal.value)


def test_a_probability_that_is_none_is_refused(good, bad):
    text = (bad / "predictions.csv").read_text()
    (bad / "predictions.csv").write_text(text.replace("0.9", "nan", 1))
    with pytest.raises(CheckpointError, match="not between 0 and 1"):
        compare_runs([good, bad])


def test_the_files_hold_every_run_and_nothing_that_a_terminal_obeys(good, bad, tmp_path):
    evil = write_run(tmp_path / "evil", [1], "data.manifest=here")
    text = (evil / "config.yaml").read_text()
    (evil / "config.yaml").write_text(text.replace("manifest: here", 'manifest: "\\x1b[2J|x"'))
    found = compare_runs([good, bad, evil])
    write_comparison(found, tmp_path / "out", command="python -m x")
    rows = list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))
    assert [row["is_reference"] for row in rows] == ["True", "False", "False"]
    assert float(rows[1]["wa_p_holm"]) == found.runs[1].wa_p
    stored = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert stored["runs"][1]["differences"] == {"seed": [0, 4], "model.attention.kind": ["mean", "additive_mil"]}
    page = (tmp_path / "out" / "runs.md").read_text()
    assert "\x1b" not in page
    assert "?[2J\\|x" in page
    for table in comparison_tables(found):
        assert all(len(row) == len(table.columns) for row in table.rows)
