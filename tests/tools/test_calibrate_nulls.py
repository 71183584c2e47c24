"""Calibration from the command line, in few trials."""

import json

from tools.calibrate_nulls import main


def test_rates_are_written_with_their_command(tmp_path, capsys):
    assert main(["--trials", "3", "--nulls", "placement", "--out", str(tmp_path)]) == 0
    stored = json.loads((tmp_path / "calibration.json").read_text())
    assert stored["command"].startswith("python -m tools.calibrate_nulls --trials 3")
    assert {test["measure"] for test in stored["tests"]} == {"iou"}
    assert {test["num_trials"] for test in stored["tests"]} == {3}
    assert "placement: iou" in (tmp_path / "calibration.md").read_text()
    assert "False positives" in capsys.readouterr().out
