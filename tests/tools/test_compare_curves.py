"""The comparison of voice and face from the command line: runs against runs, runs against another tool's curves."""

import csv
import json

import numpy as np
import pytest

from avser.experiments.alignment.collected_curves import collect_curves
from avser.structures import AUDIO, VIDEO
from tools.compare_curves import main


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


def read_clips(folder):
    return list(csv.DictReader((folder / "clips.csv").open()))


def test_two_runs_are_compared(tiny_ablation, tmp_path, capsys):
    sides = "--voice", tiny_ablation / AUDIO, "--face", tiny_ablation / VIDEO
    code, printed = run(capsys, *sides, "--permutations", 19, "--out", tmp_path)
    assert code == 0
    assert "12 clips of 2 speakers: too few speakers" in printed.out
    assert json.loads((tmp_path / "alignment.json").read_text())["num_clips"] == 12
    assert "python -m tools.compare_curves --voice" in (tmp_path / "alignment.md").read_text()
    rows = read_clips(tmp_path)
    assert (len(rows), len({row["speaker"] for row in rows})) == (12, 2)


def test_curves_of_another_tool_join_by_name(tiny_ablation, tmp_path, capsys):
    own = collect_curves([tiny_ablation / VIDEO], VIDEO, salience="attention")
    table = tmp_path / "other.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "time_s", "weight"])
        for clip_id, curve in own.curves.items():
            writer.writerows([f"x-{clip_id}", *pair] for pair in zip(curve.times, curve.values, strict=True))
    faces = {
        "imported": ["--face-curves", table, "--rename", "x-(.+)"],
        "asked": ["--face", tiny_ablation / VIDEO],
    }
    for out, face in faces.items():
        arguments = ["--voice", tiny_ablation / AUDIO, *face, "--salience", "attention", "--permutations", 9]
        assert run(capsys, *arguments, "--out", tmp_path / out)[0] == 0
    one, other = (read_clips(tmp_path / out) for out in faces)
    assert [row["clip_id"] for row in one] == [row["clip_id"] for row in other]
    np.testing.assert_allclose([float(row["r0"]) for row in one], [float(row["r0"]) for row in other], atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--voice", "RUN"], "the face: give either"),
        (["--voice", "RUN", "--face", "RUN"], "no salience of video"),
        (["--voice-curves", "a.csv", "--face-curves", "b.csv"], "give runs on one side"),
        (["--voice", "RUN", "RUN", "--face-curves", "b.csv"], "test clip of an earlier run"),
    ],
)
def test_wrong_usage_is_told(tiny_ablation, tmp_path, capsys, arguments, words):
    arguments = [tiny_ablation / AUDIO if word == "RUN" else word for word in arguments]
    code, printed = run(capsys, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert words in printed.err
    assert not (tmp_path / "out").exists()
