from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, check_files, read_manifest
from preprocessing.cremad import EXPECTED, main, read_corpus

DEMOGRAPHICS = (
    '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n1076,25,"Female","x","y"\n'
)
VOTES = (
    '"","A","D","F","H","N","S","fileName","numResponses"\n'
    '"100001",1,0,0,2,8,0,"1001_IEO_HAP_LO",11\n'
    '"200001",0,0,0,9,1,0,"1001_IEO_HAP_LO",10\n'
    '"300001",0,0,0,9,0,0,"1001_IEO_HAP_LO",9\n'
)


def lay_out(root: Path, *paths: str, tables: bool = True) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"media")
    if tables:
        (root / "processedResults").mkdir(parents=True)
        (root / "processedResults" / "tabulatedVotes.csv").write_text(VOTES)
        (root / "VideoDemographics.csv").write_text(DEMOGRAPHICS)
    return root


def left_out(report, kind: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.left_out if entry.kind == kind}


def test_a_full_row(tmp_path):
    name = "1001_IEO_HAP_LO"
    root = lay_out(tmp_path, f"VideoFlash/{name}.flv", f"AudioWAV/{name}.wav", f"AudioMP3/{name}.mp3")
    (row,) = read_corpus(root).rows
    votes = {column: json.loads(getattr(row, column)) for column in ("votes_audio", "votes_video", "votes_av")}
    assert votes["votes_audio"] == {"anger": 1, "disgust": 0, "fear": 0, "happiness": 2, "neutral": 8, "sadness": 0}
    assert votes["votes_video"]["happiness"] == 9
    assert votes["votes_video"]["neutral"] == 1
    assert votes["votes_av"]["neutral"] == 0
    assert row == ClipRow(
        name,
        "cremad",
        "1001",
        "happiness",
        f"AudioWAV/{name}.wav",
        f"VideoFlash/{name}.flv",
        sex="male",
        sentence="It's eleven o'clock",
        intensity="low",
        votes_audio=row.votes_audio,
        votes_video=row.votes_video,
        votes_av=row.votes_av,
    )


@pytest.mark.parametrize(
    ("suffixes", "audio", "video"),
    [
        (("wav", "mp3", "flv"), "wav", "flv"),
        (("mp3", "flv"), "mp3", "flv"),
        (("flv",), "flv", "flv"),
        (("mp4", "wav"), "wav", "mp4"),
        (("mp4", "flv"), "flv", "flv"),
        (("wav",), "wav", ""),
    ],
)
def test_sound_comes_from_the_best_file_in_a_flattened_mirror(tmp_path, suffixes, audio, video):
    name = "1001_DFA_ANG_XX"
    report = read_corpus(lay_out(tmp_path, *(f"{name}.{suffix}" for suffix in suffixes)))
    (row,) = report.rows
    assert (row.audio, row.video) == (f"{name}.{audio}", f"{name}.{video}" if video else "")
    assert any("no WAV or MP3" in note for note in report.notes) == (audio == video)


def test_every_emotion_and_level(tmp_path):
    names = [
        "1001_IEO_ANG_HI",
        "1001_IEO_DIS_MD",
        "1001_IEO_FEA_LO",
        "1001_DFA_HAP_XX",
        "1001_DFA_NEU_XX",
        "1001_DFA_SAD_XX",
    ]
    rows = {row.clip_id: row for row in read_corpus(lay_out(tmp_path, *(f"{name}.wav" for name in names))).rows}
    emotions = ["anger", "disgust", "fear", "happiness", "neutral", "sadness"]
    assert [rows[name].emotion for name in names] == emotions
    assert [rows[name].intensity for name in names] == ["high", "medium", "low", "", "", ""]


def test_known_bad_clips_are_left_out_with_the_reason(tmp_path):
    bad = ["1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD", "1076_MTI_NEU_XX"]
    root = lay_out(tmp_path, *(f"VideoFlash/{name}.flv" for name in bad), *(f"AudioWAV/{name}.wav" for name in bad))
    report = read_corpus(root)
    (row,) = report.rows
    assert (row.clip_id, row.audio, row.video) == ("1076_MTI_NEU_XX", "AudioWAV/1076_MTI_NEU_XX.wav", "")
    assert row.sex == "female"
    reasons = left_out(report, "bad")
    assert list(reasons) == sorted(bad)
    assert all(reasons[name].startswith("left out: ") for name in bad[:3])
    assert "only its WAV is used" in reasons["1076_MTI_NEU_XX"]
    assert not set(bad) & left_out(report, "missing").keys()


def test_the_bad_clip_without_its_wav_is_left_out(tmp_path):
    report = read_corpus(lay_out(tmp_path, "1076_MTI_NEU_XX.flv", "1076_MTI_NEU_XX.mp3"))
    assert report.rows == []
    assert "no WAV" in left_out(report, "bad")["1076_MTI_NEU_XX"]


def test_sound_of_a_video_that_was_mute_for_years_is_doubted(tmp_path):
    once, never = "1071_WSI_ANG_XX", "1071_WSI_SAD_XX"
    report = read_corpus(lay_out(tmp_path, f"{once}.flv", f"{never}.flv"))
    assert [row.clip_id for row in report.rows] == [once, never]
    assert list(left_out(report, "bad")) == [once]
    assert "2 clips have no WAV or MP3; their sound comes from the video" in report.notes
    lay_out(tmp_path, f"{once}.wav", f"{never}.wav", tables=False)
    assert left_out(read_corpus(tmp_path), "bad") == {}


def test_foreign_names_are_counted_not_taken(tmp_path):
    report = read_corpus(
        lay_out(tmp_path, "1001_DFA_ANG_XX.wav", "1092_DFA_ANG_XX.wav", "1001_DFA_JOY_XX.wav", "x.mp4")
    )
    assert [row.clip_id for row in report.rows] == ["1001_DFA_ANG_XX"]
    assert sorted(left_out(report, "foreign")) == ["1001_DFA_JOY_XX.wav", "1092_DFA_ANG_XX.wav", "x.mp4"]


def test_found_against_what_should_be(tmp_path):
    report = read_corpus(lay_out(tmp_path, "1001_DFA_ANG_XX.wav", "1001_DFA_NEU_XX.wav", "1001_DFA_NEU_XX.flv"))
    assert report.notes[:4] == [
        "found 2 of 7442 clips, 1 of 91 speakers; 2 with voice, 1 with picture",
        "clips by emotion: anger 1 of 1271, disgust 0 of 1271, fear 0 of 1271, happiness 0 of 1271, "
        "neutral 1 of 1087, sadness 0 of 1271",
        "speakers by sex: male 1 of 48 (2 clips), female 0 of 43 (0 clips)",
        "no clip of 90 speakers: 1002, 1003, 1004, 1005, 1006, ...",
    ]
    missing = left_out(report, "missing")
    assert len(missing) == 7440
    assert missing["1001_DFA_SAD_XX"] == "no usable file of it"
    assert not {"1001_DFA_ANG_XX", "1008_WSI_ANG_XX", "1001_IEO_NEU_LO", "1001_DFA_ANG_LO"} & missing.keys()


def test_a_complete_mirror_lacks_nothing(tmp_path):
    names = left_out(read_corpus(lay_out(tmp_path, tables=False)), "missing")
    lay_out(tmp_path, *(f"{name}.wav" for name in names), tables=False)
    report = read_corpus(tmp_path)
    assert len(report.rows) == EXPECTED.clips - 3  # the known bad ones
    assert left_out(report, "missing") == {}
    assert report.notes[2].startswith("found 7439 of 7442 clips, 91 of 91 speakers")
    assert "anger 1271 of 1271, disgust 1270 of 1271" in report.notes[3]
    assert "neutral 1087 of 1087, sadness 1269 of 1271" in report.notes[3]


def test_without_the_tables_their_columns_stay_empty(tmp_path):
    report = read_corpus(lay_out(tmp_path, "1001_IEO_HAP_LO.wav", tables=False))
    assert (report.rows[0].sex, report.rows[0].votes_audio) == ("", "")
    assert "speakers by sex: male 0 of 48 (0 clips), female 0 of 43 (0 clips), unknown 1" in report.notes
    assert "VideoDemographics.csv is not there: what it tells stays empty" in report.notes
    assert "tabulatedVotes.csv is not there: what it tells stays empty" in report.notes


def test_pointers_of_a_clone_without_lfs(tmp_path, capsys):
    root = lay_out(tmp_path)
    (root / "1001_DFA_ANG_XX.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert main(["--raw", str(root)]) == 1
    out, err = capsys.readouterr()
    assert "1 Git LFS pointers or dead links instead of media; run `git lfs pull`" in out
    assert "no clip found" in err
    assert not (root / "manifest.csv").exists()


def test_a_table_that_is_a_pointer_is_as_good_as_none(tmp_path):
    root = lay_out(tmp_path, "1001_DFA_ANG_XX.wav")
    (root / "VideoDemographics.csv").write_text("version https://git-lfs.github.com/spec/v1\n")
    report = read_corpus(root)
    assert report.rows[0].sex == ""
    assert any(note.startswith("VideoDemographics.csv lacks the column 'ActorID'") for note in report.notes)


def test_a_vote_that_is_no_number_is_an_error(tmp_path, capsys):
    root = lay_out(tmp_path, "1001_DFA_ANG_XX.wav")
    (root / "processedResults" / "tabulatedVotes.csv").write_text(VOTES.replace("1,0,0,2,8,0", "1,0,x,2,8,0"))
    assert main(["--raw", str(root)]) == 1
    assert "row 100001: a vote is no number" in capsys.readouterr().err


def test_ties_of_the_votes_are_counted(tmp_path):
    root = lay_out(tmp_path, "1001_IEO_HAP_LO.wav")
    (root / "processedResults" / "tabulatedVotes.csv").write_text(VOTES.replace("1,0,0,2,8,0", "4,0,0,4,2,0"))
    notes = read_corpus(root).notes
    assert "votes on the voice: 1 clips, 1 of them tied" in notes
    assert "votes on the face: 1 clips, 0 of them tied" in notes


def test_the_door(tmp_path, capsys):
    root = lay_out(tmp_path / "raw", "AudioWAV/1001_DFA_ANG_XX.wav")
    assert main(["--raw", str(root)]) == 0
    assert len(read_manifest(root / "manifest.csv")) == 1
    assert main(["--raw", str(tmp_path / "gone")]) == 1
    assert "no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        main([])
    assert wrong.value.code == 2


@pytest.mark.real_data
def test_the_real_files(tmp_path, real_data, run_module):
    out = tmp_path / "cremad.csv"  # the real folder is never written to
    said = run_module("preprocessing.cremad", "--raw", real_data / "cremad", "--out", out, cwd=tmp_path)
    assert "found 12 of 7442 clips, 2 of 91 speakers; 12 with voice, 6 with picture" in said
    assert (
        "clips by emotion: anger 2 of 1271, disgust 2 of 1271, fear 2 of 1271, happiness 2 of 1271, neutral 2 of "
        in said
    )
    assert "speakers by sex: male 1 of 48 (6 clips), female 1 of 43 (6 clips)" in said
    for heard, num_tied in (("the voice", 644), ("the face", 470), ("both", 420)):
        assert f"votes on {heard}: 7442 clips, {num_tied} of them tied" in said
    manifest = read_manifest(out)
    check_files(manifest)
    assert len(manifest) == 12
    assert sum(bool(row.video) for row in manifest.rows) == 6
    assert {row.speaker: row.sex for row in manifest.rows} == {"1001": "male", "1002": "female"}
    for row in manifest.rows:
        assert row.audio.endswith(".wav")
        for votes in (row.votes_audio, row.votes_video, row.votes_av):
            assert 4 <= sum(json.loads(votes).values()) <= 15


@pytest.mark.real_data
def test_the_clips_that_should_be_there_are_those_of_the_corpus_itself(tmp_path, real_data):
    report = read_corpus(real_data / "cremad")
    with (real_data / "cremad" / "SentenceFilenames.csv").open(newline="") as file:
        names = {row["Filename"] for row in csv.DictReader(file)}
    assert len(names) == 7442
    assert {row.clip_id for row in report.rows} | left_out(report, "missing").keys() == names
    assert len(left_out(report, "missing")) == 7430
    assert Counter(entry.kind for entry in report.left_out) == {"missing": 7430}
