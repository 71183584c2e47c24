from __future__ import annotations

from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, check_files, read_manifest
from preprocessing.enterface05 import main, read_corpus

EMOTIONS = {"an": "anger", "di": "disgust", "fe": "fear", "ha": "happiness", "sa": "sadness", "su": "surprise"}


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"media")
    return root


def reasons(report, kind: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.left_out if entry.kind == kind}


def published_name(subject: int, code: str, sentence: int) -> str:
    """As the archive has it, mistakes included."""
    if (subject, code) == (2, "an") and sentence in (1, 2):
        sentence = 3 - sentence
    stem = {11: "s12", 3: "s3" if code in ("an", "di") else "s_3"}.get(subject, f"s{subject}")
    return f"{stem}_{code}_{sentence}" + ("avi" if (subject, code, sentence) == (16, "su", 3) else "")


def published_tree() -> list[str]:
    paths = [f"subject 6/{emotion}/s6_{code}.avi" for code, emotion in EMOTIONS.items()]
    for subject in range(1, 45):
        for code, emotion in EMOTIONS.items():
            for sentence in range(1, 6):
                if subject != 6 and not ((subject, code) == (23, "ha") and sentence <= 3):
                    name = published_name(subject, code, sentence)
                    paths.append(f"subject {subject}/{emotion}/sentence {sentence}/{name}.avi")
    return paths


def test_a_full_row(tmp_path):
    path = "enterface database/subject 7/anger/sentence 2/s7_an_2.avi"
    (row,) = read_corpus(lay_out(tmp_path, path)).rows
    assert row == ClipRow("s7_an_2", "enterface05", "7", "anger", path, path, sentence="anger 2")


def test_a_complete_copy_lacks_nothing(tmp_path):
    paths = published_tree()
    assert len(paths) == 1293
    report = read_corpus(lay_out(tmp_path, *paths))
    assert {entry.kind for entry in report.left_out} == {"bad"}
    assert sorted(reasons(report, "bad")) == sorted(path for path in paths if path.startswith("subject 6/"))
    assert all("without cuts" in reason for reason in reasons(report, "bad").values())
    assert report.notes == [
        "found 1287 of 1287 clips, 43 of 43 speakers; 1287 with voice, 1287 with picture",
        "clips by emotion: anger 215 of 215, disgust 215 of 215, fear 215 of 215, happiness 212 of 212, "
        "sadness 215 of 215, surprise 215 of 215",
    ]
    for row in report.rows:  # the folders are right throughout
        subject, emotion, sentence = row.video.split("/")[:3]
        assert subject == f"subject {row.speaker}"
        assert (emotion, sentence) == (row.emotion, f"sentence {row.sentence[-1]}")


@pytest.mark.parametrize(
    ("path", "clip_id"),
    [
        ("subject 11/fear/sentence 4/s12_fe_4.avi", "s11_fe_4"),
        ("subject 11/fear/sentence 4/s11_fe_4.avi", "s11_fe_4"),
        ("subject 12/fear/sentence 4/s12_fe_4.avi", "s12_fe_4"),
        ("subject 3/sadness/sentence 1/s_3_sa_1.avi", "s3_sa_1"),
        ("subject 16/surprise/sentence 3/s16_su_3avi.avi", "s16_su_3"),
        ("subject 16/surprise/sentence 3/s16_su_3.avi.avi", "s16_su_3"),
        ("subject 2/anger/sentence 1/s2_an_2.avi", "s2_an_1"),
        ("subject 2/anger/sentence 2/s2_an_1.avi", "s2_an_2"),
        ("subject 2/anger/sentence 1/s2_an_1.avi", "s2_an_1"),  # somebody has put the names right
        ("subject 2/anger/s2_an_1.avi", "s2_an_2"),
        ("subject 2/anger/s2_an_3.avi", "s2_an_3"),
        ("subject 2/fear/sentence 1/s2_fe_1.avi", "s2_fe_1"),
    ],
)
def test_known_mistakes_of_the_names(tmp_path, path, clip_id):
    (row,) = read_corpus(lay_out(tmp_path, path)).rows
    assert row.clip_id == clip_id
    assert row.speaker == clip_id[1:].split("_")[0]


@pytest.mark.parametrize(
    ("path", "clip_id"),
    [
        ("s7_an_2.mp4", "s7_an_2"),
        ("S07_AN_2.MKV", "s7_an_2"),
        ("subject_07/Angry/sentence_2/s7_an_2.mov", "s7_an_2"),
        ("subject-7/anger/s7_an_2.avi", "s7_an_2"),
        ("anger/s_3_an_2.flv", "s3_an_2"),
        ("wav/s16_su_3avi.wav", "s16_su_3"),
    ],
)
def test_mirrors(tmp_path, path, clip_id):
    report = read_corpus(lay_out(tmp_path, path))
    assert [row.clip_id for row in report.rows] == [clip_id]
    assert [row.audio for row in report.rows] == [path]
    assert len(reasons(report, "missing")) == 1286


def test_sound_in_a_file_of_its_own_goes_before_the_videos(tmp_path):
    folder = "subject 7/anger/sentence 2"
    (row,) = read_corpus(lay_out(tmp_path, f"{folder}/s7_an_2.avi", f"{folder}/s7_an_2.wav")).rows
    assert (row.audio, row.video) == (f"{folder}/s7_an_2.wav", f"{folder}/s7_an_2.avi")


def test_subject_11_or_12_is_not_guessed(tmp_path):
    report = read_corpus(lay_out(tmp_path, "s12_fe_4.avi", "s13_fe_4.avi"))
    assert [row.clip_id for row in report.rows] == ["s13_fe_4"]
    assert reasons(report, "bad")["s12_fe_4.avi"].startswith("subject 11 or 12?")
    assert {"s11_fe_4", "s12_fe_4"} <= reasons(report, "missing").keys()


def test_with_names_put_right_s12_is_subject_12(tmp_path):
    report = read_corpus(lay_out(tmp_path, "s11_fe_4.avi", "s12_fe_4.avi"))
    assert [row.speaker for row in report.rows] == ["11", "12"]


def test_disagreements_are_faults(tmp_path):
    paths = [
        "subject 7/anger/sentence 2/s8_an_2.avi",
        "subject 12/anger/sentence 2/s11_an_2.avi",
        "subject 7/anger/sentence 2/s7_fe_2.avi",
        "subject 7/anger/sentence 2/s7_an_3.avi",
        "subject 2/anger/sentence 3/s2_an_1.avi",
    ]
    report = read_corpus(lay_out(tmp_path, *paths))
    assert report.rows == []
    told = [("subject", "7", "8"), ("subject", "12", "11"), ("emotion", "an", "fe"), ("sentence", "2", "3")]
    told.append(("sentence", "3", "2"))
    assert reasons(report, "bad") == {
        path: f"its folder says {what} {folder}, its name {name}; put one of them right"
        for path, (what, folder, name) in zip(paths, told, strict=True)
    }


def test_foreign_names_are_listed_not_taken(tmp_path):
    names = ["subject 7/anger/sentence 2/x.avi", "s45_an_1.avi", "s0_an_1.avi", "s7_xx_1.avi", "s7_an.avi"]
    names += ["s7_an_6.avi", "s23_ha_1.avi"]  # the archive has no happiness 1 to 3 of subject 23
    report = read_corpus(lay_out(tmp_path, "s7_an_1.avi", *names))
    assert [row.clip_id for row in report.rows] == ["s7_an_1"]
    assert sorted(reasons(report, "foreign")) == sorted(names)


def test_the_door(tmp_path):
    raw = lay_out(tmp_path / "raw", *published_tree()[:10])
    assert main(["--raw", str(raw), "--out", str(tmp_path / "enterface05.csv")]) == 0
    check_files(read_manifest(tmp_path / "enterface05.csv"))
    assert len((tmp_path / "enterface05.left_out.csv").read_text().splitlines()) == 1 + 6 + 1283
    assert main(["--raw", str(tmp_path / "gone")]) == 1
