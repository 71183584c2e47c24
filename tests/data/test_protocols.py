"""Protocols that any manifest can follow, beyond what test_splits.py holds of holdout and k-fold by speaker."""

from __future__ import annotations

import pytest

from avser.config import GENERAL_PROTOCOLS, DataConfig
from avser.data.groups import natural_order
from avser.data.manifest import ClipRow
from avser.data.protocols import PROTOCOLS
from avser.data.splits import Split, Verdict, make_split
from avser.errors import SplitError

# Five sessions of two people, who say three sentences each.
ROWS = [
    ClipRow(
        f"{session}{letter}_{sentence}",
        "duo",
        f"{session}{letter}",
        "anger",
        f"{session}{letter}_{sentence}.wav",
        sex={"F": "female", "M": "male"}[letter],
        sentence=sentence,
        session=f"s{session}",
    )
    for session in range(8, 13)
    for letter in "FM"
    for sentence in "pqr"
]


def split_of(protocol: str, **settings: object) -> Split:
    return make_split(ROWS, DataConfig(protocol=protocol, **settings))  # type: ignore[arg-type]


def column(split: Split, part: str, name: str) -> set[str]:
    return {getattr(row, name) for row in ROWS if row.clip_id in split.parts()[part]}


def test_the_configuration_knows_every_general_protocol():
    assert tuple(PROTOCOLS) == GENERAL_PROTOCOLS


def test_leave_one_speaker_out_tests_each_in_order_of_name():
    tested = [column(split_of("loso", fold=fold), "test", "speaker") for fold in range(10)]
    assert tested == [{name} for name in ["8F", "8M", "9F", "9M", "10F", "10M", "11F", "11M", "12F", "12M"]]
    split = split_of("loso", fold=4)
    assert split.protocol == "loso(fold=4,val=0.2,seed=0)"
    assert "fold 4 of 10: speaker duo/10F tests" in split.notes
    assert split.verdict == Verdict(True, False, True)
    assert len(column(split, "val", "speaker")) == 2
    with pytest.raises(SplitError, match=r"fold=10: folds count from 0 to 9 in loso"):
        split_of("loso", fold=10)


def test_leave_one_session_out():
    for fold, session in enumerate(["s8", "s9", "s10", "s11", "s12"]):
        split = split_of("session_kfold", fold=fold)
        assert column(split, "test", "session") == {session}
        assert len(split.test) == 6
        assert column(split, "test", "speaker") == {f"{session[1:]}F", f"{session[1:]}M"}
        assert len(column(split, "val", "session")) == 1
        assert column(split, "val", "session").isdisjoint(column(split, "train", "session"))
        assert split.verdict == Verdict(True, False, True)


@pytest.mark.parametrize("group_by", ["speaker", "session", "sentence"])
def test_grouped_folds_keep_groups_together_and_test_each_once(group_by):
    tested: list[str] = []
    for fold in range(3):
        split = split_of("group_kfold", group_by=group_by, num_folds=3, fold=fold)
        assert sorted(split.train + split.val + split.test) == sorted(row.clip_id for row in ROWS)
        groups = column(split, "test", group_by)
        assert groups.isdisjoint(column(split, "train", group_by) | column(split, "val", group_by))
        assert column(split, "train", group_by).isdisjoint(column(split, "val", group_by))
        tested += groups
        assert split.protocol == f"group_kfold(by={group_by},fold={fold},num_folds=3,val=0.2,seed=0)"
        assert split.verdict == Verdict(group_by != "sentence", group_by == "sentence", True)
    assert sorted(tested) == sorted({getattr(row, group_by) for row in ROWS})


def test_grouped_by_sentence_validates_on_a_sentence_of_its_own():
    split = split_of("group_kfold", group_by="sentence", num_folds=3)
    said = [column(split, part, "sentence") for part in ("train", "val", "test")]
    assert [len(sentences) for sentences in said] == [1, 1, 1]
    assert set().union(*said) == {"p", "q", "r"}


def test_grouped_by_speaker_is_speaker_kfold():
    by_group = split_of("group_kfold", num_folds=4, fold=1)
    assert by_group.fingerprint() == split_of("speaker_kfold", num_folds=4, fold=1).fingerprint()


@pytest.mark.parametrize(
    ("settings", "rows", "words"),
    [
        ({"protocol": "session_kfold"}, [*ROWS, ClipRow("x", "duo", "x", "", "x")], "1 of 31 clips have none.*e.g. x"),
        ({"protocol": "loso"}, ROWS[:3], "loso needs at least 2 speakers, the manifest has 1"),
        ({"protocol": "loso"}, ROWS[:6], "leaves 1 speaker for train and val"),
        ({"protocol": "group_kfold", "group_by": "sentence"}, ROWS, "num_folds=5 needs.*3 sentences"),
        ({"protocol": "split_file"}, ROWS, r"needs data\.split_file, a CSV"),
    ],
)
def test_what_the_manifest_cannot_give_is_refused(settings, rows, words):
    with pytest.raises(SplitError, match=words):
        make_split(rows, DataConfig(**settings))


def test_numbers_in_names_are_ordered_by_size():
    assert sorted(["s10", "s9", "a", "10", "9", "s9b"], key=natural_order) == ["9", "10", "a", "s9", "s9b", "s10"]
