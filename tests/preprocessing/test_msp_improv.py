from __future__ import annotations

import json
from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, read_manifest
from preprocessing.msp_improv import EXPECTED, TYPES, main, read_corpus

EVALUATION = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.000000; V:2.500000; D:3.200000 ; N:4.000000;
rater-1; Neutral; Neutral, Happy; A:3.0; V:3.0; D:3.0; N:4.0;
rater_2; Angry; Angry,Frustrated; A:2.0; V:2.0; D:NaN; N:NaN;
rater_2; Angry; Angry,Frustrated; A:2.0; V:2.0; D:NaN; N:NaN;
rater3; Other; (bored; tired: A:B); A:2.0; V:2.0; D:3.0; N:4.0;

UTD-IMPROV-S20H-M06-T-MF02.avi; H; A:2.000000; V:4.000000; D:NaN ; N:NaN;
rater-1; Happy; Happy; A:2.0; V:4.0; D:NaN; N:NaN;

UTD-IMPROV-S02S-M03-R-MM01.avi; X; A:3.0; V:3.0; D:3.0 ; N:3.0;
UTD-IMPROV-S02S-F03-S-FM12.avi; O; A:3.0; V:3.0; D:3.0 ; N:3.0;
"""
CLIPS = ("S01A-F01-P-FM01", "S20H-M06-T-MF02", "S02S-M03-R-MM01", "S02S-F03-S-FM12")


def path_of(clip: str, suffix: str, prefix: str = "MSP") -> str:
    scene, speaker, kind, _ = clip.split("-")
    return f"session{speaker[2]}/{scene}/{kind}/{prefix}-IMPROV-{clip}.{suffix}"


def lay_out(root: Path, *paths: str, evaluation: str | None = EVALUATION) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("media")
    if evaluation is not None:
        (root / "Evaluation.txt").write_text(evaluation)
    return root


def left_out(report, kind: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.left_out if entry.kind == kind}


def test_full_rows(tmp_path):
    root = lay_out(tmp_path, *(path_of(clip, suffix) for clip in CLIPS for suffix in ("avi", "wav")))
    talk, target = read_corpus(root).rows
    assert talk == ClipRow(
        "MSP-IMPROV-S01A-F01-P-FM01",
        "msp_improv",
        "F01",
        "neutral",  # perceived; A in the name is what the scene was written for
        "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
        "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.avi",
        sex="female",
        session="session1",
        votes_av=talk.votes_av,
        valence=2.5,
        activation=3.0,
        dominance=3.2,
    )
    assert (target.speaker, target.sex, target.session, target.sentence) == ("M06", "male", "session6", "S20")
    assert (target.emotion, target.valence, target.activation, target.dominance) == ("happiness", 4.0, 2.0, None)


def test_a_rater_who_stands_there_twice_counts_once(tmp_path):
    (row,) = read_corpus(lay_out(tmp_path, path_of(CLIPS[0], "wav"))).rows
    assert json.loads(row.votes_av) == {"anger": 1, "happiness": 0, "neutral": 1, "sadness": 0}


@pytest.mark.parametrize(
    ("suffixes", "audio", "video"),
    [(("avi",), "avi", "avi"), (("wav",), "wav", ""), (("flac", "mp4"), "flac", "mp4")],
)
def test_flattened_mirrors(tmp_path, suffixes, audio, video):
    name = f"MSP-IMPROV-{CLIPS[0]}"
    (row,) = read_corpus(lay_out(tmp_path, *(f"{name}.{suffix}" for suffix in suffixes))).rows
    assert (row.audio, row.video) == (f"{name}.{audio}", f"{name}.{video}" if video else "")


def test_both_prefixes_are_one_clip(tmp_path):
    wav, avi = path_of(CLIPS[0], "wav"), path_of(CLIPS[0], "avi", "UTD")
    (row,) = read_corpus(lay_out(tmp_path, wav, avi)).rows
    assert (row.clip_id, row.audio, row.video) == (f"MSP-IMPROV-{CLIPS[0]}", wav, avi)


def test_clips_without_an_emotion_a_file_or_a_label(tmp_path):
    paths = [path_of(clip, "wav") for clip in (*CLIPS[1:], "S03N-F02-S-FM01")]
    report = read_corpus(lay_out(tmp_path, *paths, "session1/x.wav", "MSP-IMPROV-S21A-F01-P-FM01.wav"))
    assert [row.clip_id for row in report.rows] == [f"MSP-IMPROV-{CLIPS[1]}"]
    unlabelled = left_out(report, "unlabelled")
    assert "did not agree" in unlabelled[f"MSP-IMPROV-{CLIPS[2]}"]
    assert "'other'" in unlabelled[f"MSP-IMPROV-{CLIPS[3]}"]
    assert unlabelled["MSP-IMPROV-S03N-F02-S-FM01"] == "Evaluation.txt does not name it"
    assert left_out(report, "missing") == {f"MSP-IMPROV-{CLIPS[0]}": "no file of it"}
    assert set(left_out(report, "foreign")) == {"session1/x.wav", "MSP-IMPROV-S21A-F01-P-FM01.wav"}
    kept = {row.clip_id[11:]: row for row in read_corpus(tmp_path, unlabelled=True).rows}
    assert kept[CLIPS[2]].emotion == kept[CLIPS[3]].emotion == ""
    assert (kept[CLIPS[2]].sentence, kept[CLIPS[3]].sentence) == (
        "S02",
        "",
    )  # read: the words are fixed; S: they are not


def test_types_of_recording_can_be_chosen(tmp_path, capsys):
    root = lay_out(tmp_path, *(path_of(clip, "wav") for clip in CLIPS))
    report = read_corpus(root, types="TR")
    assert [row.clip_id[11:] for row in report.rows] == [CLIPS[1]]
    assert set(left_out(report, "unwanted")) == {f"MSP-IMPROV-{clip}" for clip in (CLIPS[0], CLIPS[3])}
    with pytest.raises(SystemExit):
        main(["--raw", str(root), "--types", "TQ"])
    assert "letters out of TRSP" in capsys.readouterr().err


def test_lines_that_cannot_be_understood_are_listed_and_cost_nothing_else(tmp_path):
    broken = EVALUATION.replace("; H; A:2.000000", "; H; A:2.0.0").replace("; X;", "; Q;")
    broken += "what is this\n" + EVALUATION.splitlines()[0]
    report = read_corpus(lay_out(tmp_path, *(path_of(clip, "wav") for clip in CLIPS), evaluation=broken))
    assert [row.clip_id[11:] for row in report.rows] == [CLIPS[0]]
    assert json.loads(report.rows[0].votes_av)["happiness"] == 0  # votes of a broken clip do not slide to another
    assert set(left_out(report, "bad")) == {f"Evaluation.txt, line {n}" for n in (7, 10, 12)}
    assert list(left_out(report, "double")) == ["Evaluation.txt, line 13"]


def test_without_the_labels(tmp_path, capsys):
    root = lay_out(tmp_path, path_of(CLIPS[0], "wav"), evaluation=None)
    assert main(["--raw", str(root)]) == 1
    assert "Evaluation.txt is not there" in capsys.readouterr().out


def test_activation_that_counts_downwards_is_told(tmp_path):
    lines = [f"UTD-IMPROV-{CLIPS[0]}.avi; A; A:1.5; V:2.0; D:3.0 ; N:4.0;"]
    lines.append(f"UTD-IMPROV-{CLIPS[1]}.avi; S; A:3.5; V:2.0; D:3.0 ; N:4.0;")
    root = lay_out(tmp_path, *(path_of(clip, "wav") for clip in CLIPS[:2]), evaluation="\n".join(lines))
    report = read_corpus(root)
    assert any("counts downwards (anger 1.5, sadness 3.5" in note for note in report.notes)
    assert [row.activation for row in report.rows] == [1.5, 3.5]
    lay_out(tmp_path, evaluation="\n".join(lines).replace("A:1.5", "A:4.5"))
    assert not any("downwards" in note for note in read_corpus(tmp_path).notes)


def test_found_against_what_should_be(tmp_path):
    assert EXPECTED.clips == sum(EXPECTED.emotions.values()) == sum(TYPES.values()) == 7798
    notes = read_corpus(lay_out(tmp_path, path_of(CLIPS[0], "wav"))).notes
    assert notes[0] == "found 1 of 7798 clips, 1 of 12 speakers; 1 with voice, 0 with picture"
    assert "with an emotion, by type: T 0 of 640, R 0 of 578, S 0 of 3940, P 1 of 2640" in notes


def test_the_door_writes_a_manifest_that_can_be_read(tmp_path):
    root = lay_out(tmp_path / "raw", *(path_of(clip, "avi") for clip in CLIPS))
    out = tmp_path / "msp.csv"
    assert main(["--raw", str(root), "--out", str(out)]) == 0
    manifest = read_manifest(out)
    assert len(manifest) == 2
    assert all(manifest.video_path(row).is_file() for row in manifest.rows)
    assert len(out.with_name("msp.left_out.csv").read_text().splitlines()) == 3
