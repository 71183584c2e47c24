from __future__ import annotations

from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, check_files, read_manifest
from preprocessing.adapter import LeftOut
from preprocessing.tess import WORDS, main, read_corpus

# Folders of the widespread archive, and how names in them end.
FOLDERS = dict(
    pair.split("/")
    for pair in """
    OAF_angry/angry OAF_disgust/disgust OAF_Fear/fear OAF_happy/happy OAF_neutral/neutral OAF_Pleasant_surprise/ps
    OAF_Sad/sad YAF_angry/angry YAF_disgust/disgust YAF_fear/fear YAF_happy/happy YAF_neutral/neutral
    YAF_pleasant_surprised/ps YAF_sad/sad
    """.split()
)


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"media")
    return root


def left_out(report, kind: str) -> list[str]:
    return [entry.name for entry in report.left_out if entry.kind == kind]


def published_tree() -> list[str]:
    paths = [f"{folder}/{folder[:3]}_{word}_{code}.wav" for folder, code in FOLDERS.items() for word in WORDS]
    return [path.replace("OAF_neutral/OAF_bite", "OAF_neutral/OA_bite") for path in paths]


def test_a_full_row(tmp_path):
    (row,) = read_corpus(lay_out(tmp_path, "OAF_Pleasant_surprise/OAF_back_ps.wav")).rows
    assert row == ClipRow(
        *("OAF_back_ps", "tess", "OAF", "surprise", "OAF_Pleasant_surprise/OAF_back_ps.wav"),
        sex="female",
        sentence="Say the word back",
    )


@pytest.mark.parametrize("flat", [False, True])
def test_a_complete_copy_lacks_nothing(tmp_path, flat):
    paths = published_tree()
    report = read_corpus(lay_out(tmp_path, *(path.split("/")[1] if flat else path for path in paths)))
    assert report.left_out == []
    assert report.notes == [
        "found 2800 of 2800 clips, 2 of 2 speakers; 2800 with voice, 0 with picture",
        "clips by emotion: anger 400 of 400, disgust 400 of 400, fear 400 of 400, happiness 400 of 400, "
        "neutral 400 of 400, sadness 400 of 400, surprise 400 of 400",
        "speakers by sex: female 2 of 2 (2800 clips)",
    ]
    assert sum(row.speaker == "OAF" for row in report.rows) == 1400
    assert len({row.sentence for row in report.rows}) == 200


def test_the_misnamed_file(tmp_path):
    (row,) = read_corpus(lay_out(tmp_path, "OAF_neutral/OA_bite_neutral.wav")).rows
    assert (row.clip_id, row.speaker) == ("OAF_bite_neutral", "OAF")
    assert row.audio == "OAF_neutral/OA_bite_neutral.wav"


@pytest.mark.parametrize(
    ("path", "clip_id"),
    [
        ("YAF_back_pleasant_surprise.flac", "YAF_back_ps"),
        ("YAF_back_pleasant_surprised.mp3", "YAF_back_ps"),
        ("YAF_pleasant_surprised/yaf_back_ps.WAV", "YAF_back_ps"),
        ("YAF/Pleasant Surprise/YAF_back_ps.ogg", "YAF_back_ps"),
        ("surprise/YAF_back_ps.wav", "YAF_back_ps"),
        ("OAF_Sad/OAF_youth_Sad.wav", "OAF_youth_sad"),
        ("TESS data/TESS data/OAF_angry/OAF_back_angry.wav", "OAF_back_angry"),
    ],
)
def test_mirrors(tmp_path, path, clip_id):
    report = read_corpus(lay_out(tmp_path, path))
    assert [(row.clip_id, row.audio) for row in report.rows] == [(clip_id, path)]
    assert len(left_out(report, "missing")) == 2799


def test_a_tree_that_is_there_twice(tmp_path):
    report = read_corpus(lay_out(tmp_path, "OAF_Sad/OAF_back_sad.wav", "TESS/OAF_Sad/OAF_back_sad.wav"))
    assert [row.audio for row in report.rows] == ["OAF_Sad/OAF_back_sad.wav"]
    reason = "the same as OAF_Sad/OAF_back_sad.wav, which was taken"
    assert LeftOut("TESS/OAF_Sad/OAF_back_sad.wav", "double", reason) in report.left_out


def test_disagreements_are_faults(tmp_path):
    names = ["YAF_Sad/OAF_back_sad.wav", "OAF_Sad/OAF_back_angry.wav", "OAF/fear/OAF_back_happy.wav"]
    report = read_corpus(lay_out(tmp_path, *names, "YAF_neutral/OA_bite_neutral.wav"))
    assert report.rows == []
    reasons = {entry.name: entry.reason for entry in report.left_out if entry.kind == "bad"}
    assert reasons == {
        names[0]: "its folder says speaker YAF, its name OAF; put one of them right",
        names[1]: "its folder says emotion sadness, its name anger; put one of them right",
        names[2]: "its folder says emotion fear, its name happiness; put one of them right",
        "YAF_neutral/OA_bite_neutral.wav": "its folder says speaker YAF, its name OAF; put one of them right",
    }


def test_foreign_names_are_listed_not_taken(tmp_path):
    names = ["OAF_zebra_sad.wav", "OA_back_sad.wav", "XAF_back_sad.wav", "OAF_back_bored.wav", "OAF_back.wav", "x.wav"]
    report = read_corpus(lay_out(tmp_path, "OAF_back_sad.wav", *names))
    assert [row.clip_id for row in report.rows] == ["OAF_back_sad"]
    assert left_out(report, "foreign") == sorted(names)


def test_the_door(tmp_path):
    raw = lay_out(tmp_path / "raw", *published_tree()[:3])
    assert main(["--raw", str(raw), "--out", str(tmp_path / "tess.csv")]) == 0
    check_files(read_manifest(tmp_path / "tess.csv"))
    assert len((tmp_path / "tess.left_out.csv").read_text().splitlines()) == 1 + 2797
    assert main(["--raw", str(tmp_path / "gone")]) == 1
