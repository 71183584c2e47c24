from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, read_manifest
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
    assert "1 songs were left out; --song takes them in" in report.notes
    assert main(["--raw", str(root), "--song"]) == 0
    rows = read_manifest(root / "manifest.csv").rows
    assert [(row.clip_id, row.session) for row in rows] == [
        ("01-03-01-01-01-01", "speech"),
        ("02-03-01-01-01-01", "song"),
    ]
    assert "song: found 1 of 1012 clips (1011 missing), 1 of 23 actors" in capsys.readouterr().out


def test_actor_folders_that_are_there_twice(tmp_path):
    name = f"03-{KEY}.wav"
    report = read_corpus(lay_out(tmp_path, f"Actor_12/{name}", f"audio_speech_actors_01-24/Actor_12/{name}"))
    assert [row.audio for row in report.rows] == [f"Actor_12/{name}"]
    assert any("there twice" in note for note in report.notes)


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
    assert any(note.startswith("5 media files are not named like RAVDESS") for note in report.notes)


def test_nothing_found(tmp_path, capsys):
    assert main(["--raw", str(tmp_path)]) == 1
    assert "no clip found" in capsys.readouterr().err
    lay_out(tmp_path, "03-02-03-01-01-01-01.wav")
    assert main(["--raw", str(tmp_path)]) == 1
    assert "--song takes them in" in capsys.readouterr().out


@pytest.mark.real_data
def test_the_real_files(tmp_path, capsys):
    folder = os.environ.get("AVSER_REAL_DATA")
    if not folder:
        pytest.skip("AVSER_REAL_DATA is unset")
    out = tmp_path / "ravdess.csv"  # the real folder is never written to
    assert main(["--raw", str(Path(folder) / "ravdess_speech"), "--out", str(out)]) == 0
    assert "speech: found 1440 of 1440 clips (0 missing), 24 of 24 actors; 1440 with voice, 0 with face" in (
        capsys.readouterr().out
    )
    manifest = read_manifest(out)
    assert len(manifest) == 1440
    assert set(Counter(row.speaker for row in manifest.rows).values()) == {60}
    counts = Counter(row.emotion for row in manifest.rows)
    assert counts.pop("neutral") == 96
    assert set(counts.values()) == {192}
    assert all(manifest.audio_path(row).is_file() for row in manifest.rows)
