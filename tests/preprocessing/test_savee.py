from __future__ import annotations

from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, check_files, read_manifest
from preprocessing.adapter import LeftOut
from preprocessing.savee import main, read_corpus

CODES = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
TAKES = [f"{code}{take:02d}" for code, num in CODES.items() for take in range(1, num + 1)]


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"media")
    return root


def left_out(report, kind: str) -> list[str]:
    return [entry.name for entry in report.left_out if entry.kind == kind]


def test_voice_and_face_of_one_take_are_one_clip(tmp_path):
    (row,) = read_corpus(lay_out(tmp_path, "AudioData/DC/sa01.wav", "AudioVisualClip/DC/sa1.avi")).rows
    assert row == ClipRow(
        *("DC_sa01", "savee", "DC", "sadness", "AudioData/DC/sa01.wav", "AudioVisualClip/DC/sa1.avi"), sex="male"
    )


def test_without_the_wav_the_sound_is_that_of_the_video(tmp_path):
    (row,) = read_corpus(lay_out(tmp_path, "AudioVisualClip/KL/n30.avi")).rows
    assert (row.audio, row.video) == ("AudioVisualClip/KL/n30.avi",) * 2


@pytest.mark.parametrize(
    ("code", "emotion"),
    [
        *[("a", "anger"), ("d", "disgust"), ("f", "fear"), ("h", "happiness"), ("n", "neutral")],
        *[("sa", "sadness"), ("su", "surprise")],
    ],
)
@pytest.mark.parametrize("pattern", ["JE/{}03.wav", "JE_{}03.flac", "ALL/JE{}03.mp3", "je-{}3.ogg", "x/je/{}3.WAV"])
def test_mirrors(tmp_path, code, emotion, pattern):
    (row,) = read_corpus(lay_out(tmp_path, pattern.format(code))).rows
    assert (row.clip_id, row.speaker, row.emotion) == (f"JE_{code}03", "JE", emotion)


@pytest.mark.parametrize("pattern", ["AudioData/{}/{}.wav", "ALL/{}_{}.wav", "AudioVisualClip/{}/{}.avi"])
def test_a_complete_copy_lacks_nothing(tmp_path, pattern):
    paths = [pattern.format(speaker, take) for speaker in ("DC", "JE", "JK", "KL") for take in TAKES]
    report = read_corpus(lay_out(tmp_path, *paths))
    assert report.left_out == []
    picture = 480 if pattern.endswith("avi") else 0
    assert report.notes == [
        f"found 480 of 480 clips, 4 of 4 speakers; 480 with voice, {picture} with picture",
        "clips by emotion: sadness 60 of 60, surprise 60 of 60, anger 60 of 60, disgust 60 of 60, fear 60 of 60, "
        "happiness 60 of 60, neutral 120 of 120",
        "speakers by sex: male 4 of 4 (480 clips)",
    ]
    assert {row.sentence for row in report.rows} == {""}


def test_missing_takes_are_listed(tmp_path):
    report = read_corpus(lay_out(tmp_path, *(f"DC/{take}.wav" for take in TAKES if take != "su15")))
    missing = left_out(report, "missing")
    assert len(missing) == 361
    assert missing[0] == "DC_su15"
    assert "no clip of 3 speakers: JE, JK, KL" in report.notes


def test_a_tree_that_is_there_twice(tmp_path):
    report = read_corpus(lay_out(tmp_path, "DC_a01.wav", "AudioData/DC/a01.wav"))
    assert [row.audio for row in report.rows] == ["DC_a01.wav"]
    assert LeftOut("AudioData/DC/a01.wav", "double", "the same as DC_a01.wav, which was taken") in report.left_out


def test_disagreements_are_faults(tmp_path):
    report = read_corpus(lay_out(tmp_path, "JE/DC_a01.wav", "fear/DC_a02.wav", "angry/DC_a03.wav"))
    assert [row.clip_id for row in report.rows] == ["DC_a03"]
    reasons = {entry.name: entry.reason for entry in report.left_out if entry.kind == "bad"}
    assert reasons == {
        "JE/DC_a01.wav": "its folder says speaker JE, its name DC; put one of them right",
        "fear/DC_a02.wav": "its folder says emotion fear, its name anger; put one of them right",
    }


def test_foreign_names_are_listed_not_taken(tmp_path):
    names = ["DC_a16.wav", "DC_a00.wav", "DC_n31.wav", "DC_s01.wav", "XX_a01.wav", "DC_a001.wav", "DC_a01_.wav"]
    report = read_corpus(lay_out(tmp_path, "DC_a01.wav", *names))
    assert [row.clip_id for row in report.rows] == ["DC_a01"]
    assert left_out(report, "foreign") == sorted(names)


def test_a_take_of_nobody_is_not_guessed(tmp_path):
    report = read_corpus(lay_out(tmp_path, "wav/a01.wav"))
    assert report.rows == []
    (entry,) = (entry for entry in report.left_out if entry.kind == "foreign")
    assert (entry.name, entry.reason[:17]) == ("wav/a01.wav", "whose voice is it")


def test_the_door(tmp_path):
    raw = lay_out(tmp_path / "raw", "AudioData/DC/a01.wav", "AudioVisualClip/DC/a1.avi")
    assert main(["--raw", str(raw), "--out", str(tmp_path / "savee.csv")]) == 0
    check_files(read_manifest(tmp_path / "savee.csv"))
    assert len((tmp_path / "savee.left_out.csv").read_text().splitlines()) == 480
    assert main(["--raw", str(tmp_path / "gone")]) == 1
