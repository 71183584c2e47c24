"""The door to comparisons of runs: what it prints, what it leaves, how it exits."""

import json
from pathlib import Path

import pytest

from avser.errors import CheckpointError, ConfigError
from tools import read_count, read_names, tell
from tools.compare_runs import main


def test_the_runs_of_an_ablation_are_compared(tiny_ablation, tmp_path, capsys):
    runs = [str(tiny_ablation / name) for name in ("audio", "video", "fused")]
    assert main([*runs, "--reference", runs[2], "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "Runs on the same test clips",
        "Minus the reference, run 3",
        "['audio', 'video']",
        "speakers disjoint: yes",
    ):
        assert words in printed
    stored = json.loads((tmp_path / "runs.json").read_text())
    assert stored["command"].startswith("python -m tools.compare_runs ")
    for run, row in zip(runs, stored["runs"], strict=True):
        stored_alone = json.loads(Path(run, "metrics.json").read_text())
        assert row["uar"] == stored_alone["test"]["uar"]["value"]


def test_exit_codes_tell_faulty_runs_from_wrong_usage(tiny_ablation, tmp_path, capsys):
    run = str(tiny_ablation / "audio")
    assert main([run, str(tmp_path)]) == 1
    assert "not a complete run" in capsys.readouterr().err
    assert main([run, run]) == 2
    assert "given twice" in capsys.readouterr().err


def test_what_all_doors_share(capsys):
    """An error may quote a file from elsewhere: nothing in it is for the terminal to obey."""
    assert tell(ConfigError("a\x1b[2J:\n  b")) == 2
    assert tell(CheckpointError("c")) == 1
    assert capsys.readouterr().err == "error: a?[2J:\n  b\nerror: c\n"
    assert read_names(" a, b,") == ["a", "b"]
    assert read_count("3") == 3
    for wrong in ("0", "-1", "x", "1.5"):
        with pytest.raises(ValueError, match=wrong):
            read_count(wrong)
