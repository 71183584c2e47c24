"""Finished tiny runs on spoiled test clips: their own clean answers, what is left out and why, tables, figure, door."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest

from avser.cli.main import main
from avser.data.corruptions import CORRUPTIONS
from avser.errors import CheckpointError, ConfigError
from avser.evaluation.pooled import mean_uar
from avser.experiments.robustness.study import measure_robustness, plan_levels
from avser.experiments.robustness.tables import robustness_tables, write_robustness
from avser.structures import AUDIO, FUSED, VIDEO

LEVELS = {
    "snr": [10.0, -5.0],
    "babble": [0.0],
    "voice_shift": [0.5],
    "sync": [-0.5, 0.5],
    "occlusion": [0.5],
    "blur": [2.0],
    "drop": [0.5, 1.0],
    "face_noise": [1.0],
}


@pytest.fixture(scope="module")
def found(tiny_ablation):
    return measure_robustness([tiny_ablation / name for name in (FUSED, AUDIO, VIDEO)], levels=LEVELS)


def stored_uar(run) -> float:
    return json.loads((run / "metrics.json").read_text())["test"]["uar"]["value"]


def test_clean_answers_are_the_runs_own_and_every_level_has_all_clips(found, tiny_ablation):
    for run in found.runs:
        assert run.clean_scores.uar.value == pytest.approx(stored_uar(tiny_ablation / run.name))
        for curve in run.curves.values():
            assert curve.counts.sum(axis=(0, 2, 3, 4)).tolist() == [12.0] * (1 + len(curve.levels))
            assert 100 * mean_uar(curve.counts[:, 0]) == pytest.approx(run.clean_scores.uar.value)
            assert [level.level for level in curve.levels] == sorted(LEVELS[curve.name])


def test_each_run_goes_through_what_it_can_notice(found):
    fused, voice, face = found.runs
    assert set(fused.curves) == set(LEVELS)
    assert set(fused.switches) == {name for name, kind in CORRUPTIONS.items() if kind.is_switch}
    assert set(voice.curves) == {"snr", "babble", "voice_shift"}
    assert set(face.curves) == set(LEVELS) - set(voice.curves)
    assert not voice.switches
    assert not face.switches
    assert voice.notes[0].startswith("sync, occlusion, blur, drop, face_noise, face_missing")
    assert voice.notes[0].endswith("left out: the model does not read video and answers as if nothing had happened")
    assert (
        voice.notes[1]
        == "voice_missing, voice_zero, voice_swap_same, voice_swap_other left out: the model reads one modality alone"
    )
    pairs = {(each.name, each.baseline) for each in found.effective}
    assert pairs == {(name, AUDIO) for name in voice.curves} | {(name, VIDEO) for name in face.curves}


def test_a_face_that_is_missing_in_every_frame_is_a_missing_face(found):
    """Two ways to the same answers: all frames dropped, and no face in the batch at all."""
    fused = found.runs[0]
    gone = fused.curves["drop"].levels[-1]
    assert gone.level == 1.0
    assert gone.uar.value == pytest.approx(fused.switches["face_missing"].uar.value)


def test_the_same_seed_gives_the_same_numbers(found, tiny_ablation):
    run = tiny_ablation / FUSED
    some = ["snr", "drop", "voice_swap_other"]
    again = measure_robustness([run], corruptions=some, levels={name: LEVELS[name] for name in some[:2]}).runs[0]
    first = found.runs[0]
    for name in some[:2]:
        assert np.array_equal(again.curves[name].counts, first.curves[name].counts)
    assert again.switches["voice_swap_other"].uar == first.switches["voice_swap_other"].uar


def test_what_a_model_does_not_notice_is_said(tiny_ablation):
    """Block of a single pixel's size: nothing of the crop is covered, and no answer changes."""
    found = measure_robustness([tiny_ablation / VIDEO], corruptions=["occlusion"], levels={"occlusion": [1e-5]})
    assert found.runs[0].notes == ["occlusion changes no answer in any digit: the model does not notice it"]


def test_tables_files_and_figure(found, tmp_path):
    paths = write_robustness(found, tmp_path, command="avser robustness ...")
    kinds = ("md", "csv", "tex", "html", "json", "png", "svg")
    assert {path.name for path in paths} == {f"robustness.{kind}" for kind in kinds}
    assert all(path.stat().st_size > 500 for path in paths)
    summary, switches, *curves = robustness_tables(found)
    assert len(curves) == len(LEVELS)
    assert len(summary.rows) == 2 * len(LEVELS)
    assert "12 test clips of 2 speakers" in summary.caption
    assert "16.7 %" in summary.caption
    assert "video/" not in summary.note
    assert switches.rows[0][0] == "nothing"
    with (tmp_path / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    num_levels = sum(map(len, LEVELS.values()))
    assert len(rows) == 3 + 2 * num_levels + 8
    fused = found.runs[0]
    row = next(r for r in rows if (r["run"], r["corruption"], r["level"]) == (FUSED, "snr", "-5.0"))
    assert float(row["uar"]) == pytest.approx(fused.curves["snr"].levels[0].uar.value)
    page, latex = ((tmp_path / f"robustness.{kind}").read_text() for kind in ("html", "tex"))
    assert "avser robustness ..." in page
    for words in (summary.title, switches.title, "missing frames"):
        assert words in page
        assert words in latex
    stored = json.loads((tmp_path / "robustness.json").read_text())
    assert stored["runs"][0]["split_fingerprint"] == fused.split_fingerprint
    assert stored["runs"][0]["chance"] == pytest.approx(100 / 6)
    assert stored["command"] == "avser robustness ..."


@pytest.mark.parametrize(
    ("corruptions", "levels", "advice"),
    [
        (["snt"], {}, "take one of snr, babble"),
        (["snr"], {"blur": [1.0]}, "it is not among the --corruptions snr"),
        ([], {"face_zero": [1.0]}, "either done or not"),
        ([], {"drop": [1.5]}, "not a level between 0 and 1"),
        ([], {"drop": [0.0]}, "at which something is changed"),
        ([], {"snr": [float("nan")]}, "nan is not a level"),
    ],
)
def test_plans_that_make_no_sense_are_refused(corruptions, levels, advice):
    with pytest.raises(ConfigError, match=advice):
        plan_levels(corruptions, levels)


def test_runs_that_do_not_belong_together_are_refused(tiny_ablation, tmp_path):
    fused = tiny_ablation / FUSED
    with pytest.raises(ConfigError, match="each once"):
        measure_robustness([fused, fused])
    with pytest.raises(ConfigError, match="nothing can be done to these runs: blur left out"):
        measure_robustness([tiny_ablation / AUDIO], corruptions=["blur"])
    shutil.copytree(fused, tmp_path / FUSED)
    split = json.loads((fused / "split.json").read_text())
    split["train"].append(split["test"][0])
    (tmp_path / FUSED / "split.json").write_text(json.dumps(split))
    with pytest.raises(CheckpointError, match=r"damaged|trained or validated on 1 of the 12 test clips"):
        measure_robustness([tmp_path / FUSED], corruptions=["snr"])


def test_the_door(tiny_ablation, tmp_path, monkeypatch, capsys):
    runs = [str(tiny_ablation / name) for name in (FUSED, AUDIO)]
    options = ["--out", str(tmp_path / "out"), "--corruptions", "snr,voice_missing", "--levels", "snr=10,0"]
    monkeypatch.setattr(sys, "argv", ["avser", "robustness", *runs, *options])
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr()
    assert not left.value.code, printed.err
    assert "What is left" in printed.out
    assert "White noise" in printed.out
    assert (tmp_path / "out" / "robustness.svg").is_file()
    for wrong in ("snr", "snr=a", "snr=1,"):
        monkeypatch.setattr(sys, "argv", ["avser", "robustness", *runs, "--levels", wrong])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 2
