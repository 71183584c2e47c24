from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, check_files, read_manifest
from preprocessing.adapter import LeftOut
from preprocessing.ravdess import main, read_corpus


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"media")
    return root


KEY = "01-06-02-01-02-12"


def test_a_full_row(tmp_path):
    root = lay_out(tmp_path, f"Actor_12/03-{KEY}.wav", f"Video_Speech_Actor_12/Actor_12/01-{KEY}.mp4")
    (row,) = read_corpus(root).rows
    assert row == ClipRow(
        KEY,
        "ravdess",
        "12",
        "fear",
        f"Actor_12/03-{KEY}.wav",
        f"Video_Speech_Actor_12/Actor_12/01-{KEY}.mp4",
        sex="female",
        sentence="Kids are talking by the door",
        intensity="strong",
        session="speech",
    )


@pytest.mark.parametrize(
    ("files", "audio", "video"),
    [
        (["01.mp4", "02.mp4", "03.wav"], "03.wav", "01.mp4"),
        (["02.mp4", "03.wav"], "03.wav", "02.mp4"),
        (["01.mp4"], "01.mp4", "01.mp4"),
        (["01.mp4", "02.mp4"], "01.mp4", "01.mp4"),
        (["02.mp4"], "", "02.mp4"),
        (["03.flac"], "03.flac", ""),
        (["03.mp3", "03.flac", "03.wav"], "03.wav", ""),
    ],
)
def test_takes_of_one_performance_are_one_clip(tmp_path, files, audio, video):
    names = {name: f"{name[:2]}-{KEY}{name[2:]}" for name in files}
    (row,) = read_corpus(lay_out(tmp_path, *names.values())).rows
    assert (row.audio, row.video) == (names.get(audio, ""), names.get(video, ""))


def test_every_emotion_and_both_sexes(tmp_path):
    root = lay_out(tmp_path, *(f"03-01-0{e}-01-02-01-0{e}.wav" for e in range(1, 9)))
    rows = read_corpus(root).rows
    emotions = "neutral calm happiness sadness anger fear disgust surprise"
    assert [row.emotion for row in rows] == emotions.split()
    assert [row.sex for row in rows] == ["male", "female"] * 4
    assert {row.sentence for row in rows} == {"Dogs are sitting by the door"}


def test_songs_only_when_asked_for(tmp_path, capsys):
    root = lay_out(tmp_path, "03-01-03-01-01-01-01.wav", "03-02-03-01-01-01-01.wav", "01-02-03-01-01-01-01.mp4")
    report = read_corpus(root)
    assert [row.clip_id for row in report.rows] == ["01-03-01-01-01-01"]
    assert LeftOut("02-03-01-01-01-01", "unwanted", "songs; --song takes them in") in report.left_out
    assert main(["--raw", str(root), "--song"]) == 0
    rows = read_manifest(root / "manifest.csv").rows
    assert [(row.clip_id, row.session) for row in rows] == [
        ("01-03-01-01-01-01", "speech"),
        ("02-03-01-01-01-01", "song"),
    ]
    assert "song: found 1 of 1012 clips, 1 of 23 speakers; 1 with voice, 1 with picture" in capsys.readouterr().out


def test_actor_folders_that_are_there_twice(tmp_path):
    name = f"03-{KEY}.wav"
    report = read_corpus(lay_out(tmp_path, f"Actor_12/{name}", f"audio_speech_actors_01-24/Actor_12/{name}"))
    assert [row.audio for row in report.rows] == [f"Actor_12/{name}"]
    copy = f"audio_speech_actors_01-24/Actor_12/{name}"
    assert LeftOut(copy, "double", f"the same as Actor_12/{name}, which was taken") in report.left_out


def test_foreign_names_are_counted_not_taken(tmp_path):
    bad = [
        "03-01-09-01-01-01-01.wav",
        "03-01-01-01-01-01-25.wav",
        "04-01-01-01-01-01-01.wav",
        "x.mp3",
        "03-01-01-01-01-01-00.wav",
    ]
    report = read_corpus(lay_out(tmp_path, *bad, f"03-{KEY}.wav"))
    assert [row.clip_id for row in report.rows] == [KEY]
    assert sorted(entry.name for entry in report.left_out if entry.kind == "foreign") == sorted(bad)


@pytest.mark.parametrize(("song", "num"), [(False, 1440), (True, 2452)])
def test_a_complete_mirror_lacks_nothing(tmp_path, song, num):
    keys = [entry.name for entry in read_corpus(tmp_path, song=song).left_out]
    assert len(set(keys)) == num
    report = read_corpus(lay_out(tmp_path, *(f"03-{key}.wav" for key in keys)), song=song)
    assert report.left_out == []
    assert "speech: found 1440 of 1440 clips, 24 of 24 speakers; 1440 with voice, 0 with picture" in report.notes
    assert (
        "speech: clips by emotion: neutral 96 of 96, calm 192 of 192, happiness 192 of 192, sadness 192 of 192, "
        "anger 192 of 192, fear 192 of 192, disgust 192 of 192, surprise 192 of 192"
    ) in report.notes
    assert "speech: speakers by sex: male 12 of 12 (720 clips), female 12 of 12 (720 clips)" in report.notes
    sung = [note for note in report.notes if note.startswith("song: ")]
    assert sung == song * [
        "song: found 1012 of 1012 clips, 23 of 23 speakers; 1012 with voice, 0 with picture",
        "song: clips by emotion: neutral 92 of 92, calm 184 of 184, happiness 184 of 184, sadness 184 of 184, "
        "anger 184 of 184, fear 184 of 184",
        "song: speakers by sex: male 12 of 12 (528 clips), female 11 of 11 (484 clips)",
    ]


def test_a_missing_performance_is_listed(tmp_path):
    report = read_corpus(lay_out(tmp_path, f"03-{KEY}.wav"))
    missing = {entry.name for entry in report.left_out if entry.kind == "missing"}
    assert len(missing) == 1439
    assert KEY not in missing
    assert "01-06-02-01-01-12" in missing
    assert "01-01-02-01-01-12" not in missing  # neutral has no strong form


def test_nothing_found(tmp_path, capsys):
    assert main(["--raw", str(tmp_path)]) == 1
    assert "no clip found" in capsys.readouterr().err
    lay_out(tmp_path, "03-02-03-01-01-01-01.wav")
    assert main(["--raw", str(tmp_path)]) == 1
    assert "--song takes them in" in capsys.readouterr().out


@pytest.mark.real_data
def test_the_real_files(tmp_path, capsys, real_data):
    out = tmp_path / "ravdess.csv"  # the real folder is never written to
    assert main(["--raw", str(real_data / "ravdess_speech"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "speech: found 1440 of 1440 clips, 24 of 24 speakers; 1440 with voice, 0 with picture" in said
    assert not (tmp_path / "ravdess.left_out.csv").exists()
    manifest = read_manifest(out)
    check_files(manifest)
    assert len(manifest) == 1440
    assert set(Counter(row.speaker for row in manifest.rows).values()) == {60}
