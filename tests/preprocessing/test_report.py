from __future__ import annotations

from avser.data.manifest import ClipRow
from preprocessing.report import Expected, LeftOut, compare_counts, summarise_left_out

ROWS = [
    ClipRow("a", "toy", "1", "anger", "a.wav", "a.mp4", sex="male"),
    ClipRow("b", "toy", "1", "fear", "b.wav", sex="male"),
    ClipRow("c", "toy", "2", "anger", "", "c.mp4", sex="female"),
    ClipRow("d", "toy", "2", "", "d.wav", sex="female"),
]


def test_found_against_what_should_be():
    expected = Expected(8, ["1", "2", "3"], {"anger": 4, "fear": 4}, {"male": 1, "female": 2})
    assert compare_counts(ROWS, expected) == [
        "found 4 of 8 clips, 2 of 3 speakers; 3 with voice, 2 with picture",
        "clips by emotion: anger 2 of 4, fear 1 of 4, without emotion 1",
        "speakers by sex: male 1 of 1 (2 clips), female 1 of 2 (2 clips)",
        "no clip of 1 speakers: 3",
    ]


def test_what_nobody_knows_is_not_said():
    assert compare_counts(ROWS[:2], Expected(8, 3), label="part") == [
        "part: found 2 of 8 clips, 1 of 3 speakers; 2 with voice, 1 with picture"
    ]
    assert compare_counts([], Expected(8, 3)) == []


def test_speakers_of_unknown_sex_are_counted():
    rows = [*ROWS, ClipRow("e", "toy", "3", "fear", "e.wav")]
    assert compare_counts(rows, Expected(8, 3, {}, {"male": 1, "female": 2}))[1] == (
        "speakers by sex: male 1 of 1 (2 clips), female 1 of 2 (2 clips), unknown 1"
    )


def test_every_kind_is_summarised():
    left_out = [
        *[LeftOut(name, "missing", "no file") for name in "abcd"],
        LeftOut("e", "bad", "left out: cut short"),
        LeftOut("f.wav", "pointer", "?"),
        LeftOut("g.wav", "empty", "?"),
        LeftOut("h.wav", "double", "?"),
        LeftOut("i", "unlabelled", "?"),
        LeftOut("j.wav", "foreign", "?"),
        *[LeftOut(name, "unwanted", "songs; --song takes them in") for name in "kl"],
        LeftOut("m", "unwanted", "scripted"),
    ]
    assert list(summarise_left_out(left_out)) == [
        "4 clips that the corpus should hold are missing (a, b, c, ...)",
        "e: left out: cut short",
        "1 Git LFS pointers or dead links instead of media; run `git lfs pull` or `git annex get` in the corpus "
        "(f.wav)",
        "1 empty files; download them again (g.wav)",
        "1 files are there twice; each was taken once (h.wav)",
        "1 clips have no usable label (i)",
        "1 media files are not named like clips of this corpus and were left out (j.wav)",
        "2 clips were left out: songs; --song takes them in",
        "1 clips were left out: scripted",
    ]


def test_many_known_faults_are_counted():
    left_out = [LeftOut(str(i), "bad", "broken") for i in range(13)]
    assert list(summarise_left_out(left_out)) == ["13 clips or files are known to be bad (0, 1, 2, ...)"]
