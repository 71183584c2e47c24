from __future__ import annotations

from dataclasses import replace

import pytest

from avser.data.audit import audit_split
from avser.data.manifest import ClipRow
from avser.data.splits import Split
from avser.errors import SplitError

ROWS = [ClipRow(c, "toy", c, "anger", f"{c}.wav", f"{c}.mp4") for c in "abc"]
SPLIT = Split("manifest", ["a"], ["b"], ["c"])


def changed(clip_id: str, **values: object) -> list[ClipRow]:
    return [replace(row, **values) if row.clip_id == clip_id else row for row in ROWS]  # type: ignore[arg-type]


def test_a_clean_split_has_nothing_to_say():
    assert audit_split(ROWS, SPLIT) == []


def test_shared_speakers_are_refused_unless_asked_for():
    rows = changed("c", speaker="a")
    with pytest.raises(SplitError, match=r"1 of 2 speakers.*toy/a in train and test.*allow_shared_speakers"):
        audit_split(rows, SPLIT)
    assert audit_split(rows, SPLIT, allow_shared_speakers=True) == ["speaker-dependent: 1 speakers shared"]


def test_the_same_name_in_another_corpus_is_another_speaker():
    assert audit_split(changed("c", speaker="a", corpus="other"), SPLIT) == []


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split("x", ["a"], ["b"], ["c", "a"]), "clip a is in train and again in test"),
        (Split("x", ["a", "a"], ["b"], ["c"]), "clip a is in train and again in train"),
        (Split("x", ["a"], ["b"], ["z"]), "clip z of test is not in the manifest"),
        (Split("x", ["a"], [], ["c"]), "no clips in val"),
    ],
)
def test_faulty_lists_are_refused(split, words):
    with pytest.raises(SplitError, match=words):
        audit_split(ROWS, split)


@pytest.mark.parametrize(
    "path",
    ["a.wav", "./a.wav", "x/../a.wav", "a.mp4"],
)
def test_one_recording_in_two_parts_is_refused(path):
    with pytest.raises(SplitError, match=r"clips a \(train\) and c \(test\) overlap"):
        audit_split(changed("c", audio=path), SPLIT)


def test_stretches_of_one_recording_may_touch_but_not_overlap():
    def rows(start_s: float | None, end_s: float | None) -> list[ClipRow]:
        return [
            replace(ROWS[0], audio="x.wav", start_s=1.0, end_s=2.0),
            ROWS[1],
            replace(ROWS[2], audio="x.wav", start_s=start_s, end_s=end_s),
        ]

    assert audit_split(rows(2.0, 3.0), SPLIT) == []
    assert audit_split(rows(None, 1.0), SPLIT) == []
    for overlap in [(1.5, 1.6), (1.9, None), (None, 1.1), (None, None)]:
        with pytest.raises(SplitError, match="overlap"):
            audit_split(rows(*overlap), SPLIT)


def test_an_overlap_behind_a_stretch_of_the_same_part_is_found():
    # a1 [0, 10] and a2 [1, 2] train, c [3, 4] test: the neighbour in time ends before c, the one before it does not.
    rows = [
        ClipRow("a1", "toy", "a", "anger", "x.wav", start_s=0.0, end_s=10.0),
        ClipRow("a2", "toy", "a", "anger", "x.wav", start_s=1.0, end_s=2.0),
        ClipRow("b", "toy", "b", "anger", "b.wav"),
        ClipRow("c", "toy", "c", "anger", "x.wav", start_s=3.0, end_s=4.0),
    ]
    with pytest.raises(SplitError, match=r"clips a1 \(train\) and c \(test\)"):
        audit_split(rows, Split("x", ["a1", "a2"], ["b"], ["c"]))


def test_notes_on_emotions_sentences_and_clips_left_out():
    rows = [
        ClipRow("a", "toy", "a", "anger", "a.wav", sentence="one"),
        ClipRow("b", "toy", "b", "anger", "b.wav", sentence="two"),
        ClipRow("c", "toy", "c", "fear", "c.wav", sentence="one"),
        ClipRow("d", "toy", "d", "fear", "d.wav", sentence="three"),
        ClipRow("e", "toy", "e", "fear", "e.wav"),
    ]
    assert audit_split(rows, Split("x", ["a"], ["b"], ["c", "d"])) == [
        "train has no clip of fear: never learnt",
        "val has no clip of fear: the best epoch is chosen without it",
        "test has no clip of anger: not measured",
        "1 of 2 test sentences are also said in train",
        "1 of 5 clips are in no part of the split",
    ]
