from __future__ import annotations

from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, check_files, read_manifest
from preprocessing.adapter import LeftOut
from preprocessing.emodb import CLIPS, main, read_corpus


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"media")
    return root


def left_out(report, kind: str) -> list[str]:
    return [entry.name for entry in report.left_out if entry.kind == kind]


def test_a_full_row(tmp_path):
    (row,) = read_corpus(lay_out(tmp_path, "wav/03a01Fa.wav")).rows
    assert row == ClipRow(
        *("03a01Fa", "emodb", "03", "happiness", "wav/03a01Fa.wav"),
        sex="male",
        sentence="Der Lappen liegt auf dem Eisschrank.",
    )


def test_every_letter_is_the_german_word(tmp_path):
    names = ["03a01Wa", "08a01Lc", "09a01Ea", "10a01Ac", "11a02Fb", "16b03Ta", "15a01Nb"]
    rows = read_corpus(lay_out(tmp_path, *(f"{name}.wav" for name in names))).rows
    emotions = {row.clip_id: row.emotion for row in rows}
    assert [emotions[name] for name in names] == [
        *("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral")
    ]


def test_a_complete_copy_lacks_nothing(tmp_path):
    report = read_corpus(lay_out(tmp_path, *(f"{name}.wav" for name in CLIPS)))
    assert report.left_out == []
    assert report.notes == [
        "found 535 of 535 clips, 10 of 10 speakers; 535 with voice, 0 with picture",
        "clips by emotion: anger 127 of 127, boredom 81 of 81, disgust 46 of 46, fear 69 of 69, happiness 71 of 71, "
        "sadness 62 of 62, neutral 79 of 79",
        "speakers by sex: male 5 of 5 (233 clips), female 5 of 5 (302 clips)",
    ]
    by_speaker = [sum(row.speaker == speaker for row in report.rows) for speaker in "03 08 09 10 11 12 13 14".split()]
    assert by_speaker == [49, 58, 43, 38, 55, 35, 61, 69]
    assert [row.clip_id for row in report.rows] == sorted(CLIPS)


def test_some_names_of_the_published_list():
    real = "08a04Ff 11b10Ae 16b10Td 15b10Nc 08b02Ff 09a07Wd 03a04Ad 12b02Wd 14a07Ld 16a04Tc 10a05Ld 13b03Ed 08b03Tc"
    assert set(real.split()) < CLIPS
    never = "03a01Wb 08a01Ea 10a01Ta 16a04Tb 12a04La 03b09Fa 15a07Wa"
    assert not set(never.split()) & CLIPS


@pytest.mark.parametrize("path", ["03a01Fa.WAV", "03A01FA.flac", "a/b/03a01fa.mp3", "happy/03a01Fa.ogg"])
def test_mirrors(tmp_path, path):
    report = read_corpus(lay_out(tmp_path, path))
    assert [(row.clip_id, row.audio) for row in report.rows] == [("03a01Fa", path)]
    assert len(left_out(report, "missing")) == 534


def test_several_formats_of_one_recording_are_one_clip(tmp_path):
    report = read_corpus(lay_out(tmp_path, "mp3/03a01Fa.mp3", "wav/03a01Fa.wav"))
    assert [row.audio for row in report.rows] == ["wav/03a01Fa.wav"]


def test_a_folder_that_says_another_emotion_is_a_fault(tmp_path):
    report = read_corpus(lay_out(tmp_path, "anger/03a01Fa.wav", "anger/03a01Wa.wav"))
    assert [row.clip_id for row in report.rows] == ["03a01Wa"]
    reason = "its folder says emotion anger, its name happiness; put one of them right"
    assert LeftOut("anger/03a01Fa.wav", "bad", reason) in report.left_out


def test_foreign_names_are_listed_not_taken(tmp_path):
    names = ["04a01Fa", "03a03Fa", "03a01Xa", "03a01Fab", "x03a01Fa", "03a01Fa (1)"]
    report = read_corpus(lay_out(tmp_path, "03a01Fa.wav", *(f"{name}.wav" for name in names)))
    assert len(report.rows) == 1
    assert left_out(report, "foreign") == sorted(f"{name}.wav" for name in names)


def test_recordings_beyond_the_selection_only_when_asked_for(tmp_path, capsys):
    lay_out(tmp_path, "03a01Fa.wav", "03a01Fb.wav", "03a01F.wav")
    assert left_out(read_corpus(tmp_path), "unwanted") == ["03a01F", "03a01Fb"]
    assert main(["--raw", str(tmp_path), "--all"]) == 0
    assert [row.clip_id for row in read_manifest(tmp_path / "manifest.csv").rows] == ["03a01F", "03a01Fa", "03a01Fb"]
    said = capsys.readouterr().out
    assert "found 1 of 535 clips" in said
    assert "2 recordings beyond the published 535" in said


def test_the_door(tmp_path, capsys):
    raw = lay_out(tmp_path / "raw", "wav/03a01Fa.wav")
    (raw / "wav" / "03a01Nc.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 9\n")
    assert main(["--raw", str(raw), "--out", str(tmp_path / "emodb.csv")]) == 0
    check_files(read_manifest(tmp_path / "emodb.csv"))
    lines = (tmp_path / "emodb.left_out.csv").read_text().splitlines()
    assert len(lines) == 1 + 1 + 534
    assert lines[1].startswith("wav/03a01Nc.wav,pointer,")
    assert "Git LFS" in capsys.readouterr().out
    assert main(["--raw", str(tmp_path / "gone")]) == 1
