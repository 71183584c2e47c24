"""Test clips that a run has seen, and runs that cannot tell, are refused."""

import json

import pytest

from avser.data.splits import Split
from avser.errors import CheckpointError
from avser.experiments.unseen import check_unseen


@pytest.fixture
def run(tmp_path):
    split = Split("manual", train=["a", "b"], val=["c"], test=["d"])
    (tmp_path / "split.json").write_text(json.dumps(split.to_json()))
    return tmp_path


def test_unseen_clips_pass_whether_or_not_they_were_the_test_split(run):
    check_unseen(run, ["d", "e"])
    with pytest.raises(CheckpointError, match=r"2 of the 4 test clips, e\.g\. b"):
        check_unseen(run, ["d", "b", "e", "c"])
    check_unseen(run, [])


@pytest.mark.parametrize("seen", ["a", "c"])
def test_trained_and_validated_clips_are_refused(run, seen):
    with pytest.raises(CheckpointError, match=f"1 of the 2 test clips, e.g. {seen}; compare runs of one"):
        check_unseen(run, ["d", seen])


def test_a_run_without_a_readable_split_is_refused(run):
    for text in ("{", "[]", '{"protocol": "x"}'):
        (run / "split.json").write_text(text)
        with pytest.raises(CheckpointError, match="damaged"):
            check_unseen(run, ["d"])
    (run / "split.json").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        check_unseen(run, ["d"])
