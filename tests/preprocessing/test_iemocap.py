from __future__ import annotations

import json
from pathlib import Path

import pytest

from avser.config import load_config
from avser.data.manifest import ClipRow, read_manifest
from preprocessing.iemocap import BEYOND_THE_PICTURE, EXPECTED, FOUR_CLASS_SESSIONS, main, read_corpus

DIALOGUE = "Ses01F_impro01"
EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 3.0000, 3.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral; Frustration;\t(a bit; annoyed)
C-E4:\tOther;\t()
C-F1:\tAnger;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.0000, 4.0000, 4.0000]
C-E2:\tExcited;\t()
C-E3:\tNeutral state;\t()

[12.0000 - 13.0000]\tSes01F_impro01_F002\txxx\t[2.0000, 3.0000, 3.0000]
C-E2:\tAnger;\t()

[14.0000 - 15.0000]\tSes01F_impro01_M003\toth\t[2.0000, 3.0000, 3.0000]
"""
SPOKEN = """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
M: [LAUGHTER]
Ses01F_impro01_M001 [010.0100-011.3925]: Do you have your forms?
"""
FULL = {
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": EVALUATION,
    "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt": "resource fork",
    "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt": "Ses01F_impro01_F000 :Anger; ()",
    "Session1/dialog/transcriptions/Ses01F_impro01.txt": SPOKEN,
    "Session1/dialog/avi/DivX/Ses01F_impro01.avi": "media",
    "Session1/dialog/avi/DivX/._Ses01F_impro01.avi": "resource fork",
    "Session1/dialog/wav/Ses01F_impro01.wav": "media",
    **{
        f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_{turn}.wav": "media" for turn in ("F000", "M001", "F002", "M003")
    },
}


def lay_out(root: Path, texts: dict[str, str]) -> Path:
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def without(*parts: str) -> dict[str, str]:
    return {path: text for path, text in FULL.items() if not any(part in path for part in parts)}


def evaluation(*turns: str, emotion: str = "ang") -> str:
    return "\n".join(f"[{i}.0 - {i}.9]\t{turn}\t{emotion}\t[2.0, 3.0, 4.0]" for i, turn in enumerate(turns))


def left_out(report, kind: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.left_out if entry.kind == kind}


def test_a_full_row(tmp_path):
    woman, man = read_corpus(lay_out(tmp_path, FULL)).rows
    assert woman == ClipRow(
        "Ses01F_impro01_F000",
        "iemocap",
        "1F",
        "neutral",
        "Session1/dialog/wav/Ses01F_impro01.wav",
        "Session1/dialog/avi/DivX/Ses01F_impro01.avi",
        sex="female",
        sentence="Excuse me.",
        session="session1",
        side="left",
        start_s=6.2901,
        end_s=8.2357,
        votes_av=woman.votes_av,
        valence=2.5,
        activation=3.0,
        dominance=3.5,
    )
    assert (man.speaker, man.sex, man.side, man.emotion) == ("1M", "male", "right", "excitement")
    assert man.sentence == "Do you have your forms?"


def test_votes_of_others_on_the_turn_not_of_the_actor(tmp_path):
    rows = read_corpus(lay_out(tmp_path, FULL), unlabelled=True).rows
    votes = {row.clip_id[-4:]: {e: n for e, n in json.loads(row.votes_av or "{}").items() if n} for row in rows}
    assert votes == {
        "F000": {"neutral": 2, "frustration": 1},
        "M001": {"excitement": 1, "neutral": 1},
        "F002": {"anger": 1},
        "M003": {},
    }


@pytest.mark.parametrize(
    ("recording", "turn", "speaker", "side"),
    [
        ("Ses03F_impro01", "F000", "3F", "left"),
        ("Ses03F_impro01", "M000", "3M", "right"),
        ("Ses05M_script01_1b", "M010", "5M", "left"),
        ("Ses05M_script01_1b", "F010", "5F", "right"),
        ("Ses03M_impro05a", "MXX0", "3M", "left"),
    ],
)
def test_the_speaker_is_who_speaks_and_the_half_where_they_sit(tmp_path, recording, turn, speaker, side):
    texts = {f"{recording}.txt": evaluation(f"{recording}_{turn}"), f"{recording}.avi": "media"}
    (row,) = read_corpus(lay_out(tmp_path, texts)).rows
    assert (row.speaker, row.side) == (speaker, side)


@pytest.mark.parametrize(
    ("gone", "audio", "video", "cut"),
    [
        ((), "dialog/wav/", "avi", True),
        (("dialog/wav",), "dialog/avi/", "avi", True),
        (("dialog/avi",), "sentences/wav/", "", False),
        (("dialog/avi", "dialog/wav"), "sentences/wav/", "", False),
        (("dialog/avi", "sentences"), "dialog/wav/", "", True),
    ],
)
def test_one_pair_of_times_serves_both_files(tmp_path, gone, audio, video, cut):
    report = read_corpus(lay_out(tmp_path, without(*gone)))
    assert len(report.rows) == 2
    for row in report.rows:
        assert audio in row.audio
        assert row.video.endswith(video) if video else row.video == ""
        assert (row.start_s is not None) == (row.end_s is not None) == cut
        assert bool(row.side) == bool(row.video)
    assert any("their sound from the file of the picture" in note for note in report.notes) == (gone == ("dialog/wav",))


def test_voice_only_takes_the_wav_of_the_turn(tmp_path):
    row = read_corpus(lay_out(tmp_path, FULL), voice_only=True).rows[0]
    assert row.audio == f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_F000.wav"
    assert (row.video, row.side, row.start_s) == ("", "", None)


def test_flattened_mirror_with_flac(tmp_path):
    texts = {"labels/Ses01F_impro01.txt": EVALUATION, "clips/Ses01F_impro01_F000.flac": "media"}
    report = read_corpus(lay_out(tmp_path, texts))
    assert [(row.clip_id, row.audio) for row in report.rows] == [
        ("Ses01F_impro01_F000", "clips/Ses01F_impro01_F000.flac")
    ]
    assert left_out(report, "missing") == {"Ses01F_impro01_M001": "neither sound nor picture of it"}


def test_turns_cut_to_files_of_their_own(tmp_path):
    texts = {"Ses01F_impro01.txt": EVALUATION, "Ses01F_impro01_M001.mp4": "media", "Ses01F_impro01_M001.wav": "media"}
    report = read_corpus(lay_out(tmp_path, texts))
    (row,) = report.rows
    assert (row.audio, row.video, row.side) == ("Ses01F_impro01_M001.wav", "Ses01F_impro01_M001.mp4", "right")
    assert row.start_s is None
    assert any("picture file of their own" in note for note in report.notes)


def test_turns_without_an_emotion(tmp_path):
    report = read_corpus(lay_out(tmp_path, FULL))
    reasons = left_out(report, "unlabelled")
    assert "did not agree" in reasons["Ses01F_impro01_F002"]
    assert "agreed on 'other'" in reasons["Ses01F_impro01_M003"]
    kept = {row.clip_id: row.emotion for row in read_corpus(tmp_path, unlabelled=True).rows}
    assert kept["Ses01F_impro01_F002"] == kept["Ses01F_impro01_M003"] == ""
    assert len(kept) == 4


def test_scripted_dialogues_can_be_left_out(tmp_path):
    scripted = {"Ses02F_script01_1.txt": evaluation("Ses02F_script01_1_F000"), "Ses02F_script01_1.wav": "media"}
    root = lay_out(tmp_path, FULL | scripted)
    assert "Ses02F_script01_1_F000" in {row.clip_id for row in read_corpus(root).rows}
    report = read_corpus(root, improvised=True)
    assert {row.session for row in report.rows} == {"session1"}
    assert list(left_out(report, "unwanted")) == ["Ses02F_script01_1_F000"]


def test_turns_beyond_the_end_of_the_picture(tmp_path):
    turn = "Ses01F_impro04_M036"
    texts = {"Ses01F_impro04.txt": evaluation("Ses01F_impro04_F000", turn), "Ses01F_impro04.avi": "media"}
    report = read_corpus(lay_out(tmp_path, texts))
    assert [row.clip_id for row in report.rows] == ["Ses01F_impro04_F000"]  # the avi's sound ends there too
    assert turn in left_out(report, "missing")
    (tmp_path / "Ses01F_impro04.wav").write_text("media")
    report = read_corpus(tmp_path)
    assert "ends before this turn" in left_out(report, "bad")[turn]
    row = report.rows[1]
    assert (row.audio, row.video, row.side, row.start_s) == ("Ses01F_impro04.wav", "", "", 1.0)
    assert len(BEYOND_THE_PICTURE) == 18


def test_files_that_no_evaluation_names(tmp_path):
    texts = {"Ses01F_impro01_F099.wav": "media", "Ses04M_impro02.wav": "media", "other.wav": "media"}
    report = read_corpus(lay_out(tmp_path, FULL | texts))
    foreign = left_out(report, "foreign")
    assert set(foreign) == {"Ses01F_impro01_F099.wav", "other.wav"}
    assert "no line of EmoEvaluation" in foreign["Ses01F_impro01_F099.wav"]
    assert "no EmoEvaluation/Ses04M_impro02.txt" in left_out(report, "missing")["Ses04M_impro02"]


def test_without_any_evaluation(tmp_path, capsys):
    root = lay_out(tmp_path, {"Ses01F_impro01_F000.wav": "media"})
    assert main(["--raw", str(root)]) == 1
    output = capsys.readouterr()
    assert "no EmoEvaluation/Ses*.txt with labels was found" in output.out
    assert "no clip found" in output.err


def test_lines_that_cannot_be_understood_are_listed_and_cost_nothing_else(tmp_path):
    broken = EVALUATION.replace("[10.0100 - 11.3925]", "[11.5 - 11.3925]").replace("\toth\t", "\tabc\t")
    report = read_corpus(lay_out(tmp_path, without("EmoEvaluation/Ses") | {"Ses01F_impro01.txt": broken}))
    assert [row.clip_id for row in report.rows] == ["Ses01F_impro01_F000"]
    assert json.loads(report.rows[0].votes_av)["excitement"] == 0  # votes of a broken turn do not slide to another
    assert set(left_out(report, "bad")) == {"Ses01F_impro01.txt, line 10", "Ses01F_impro01.txt, line 17"}


def test_a_corpus_that_is_there_twice(tmp_path):
    other = FULL["Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"].replace("\tneu\t", "\tang\t")
    again = {f"copy/{path}": text for path, text in FULL.items()}
    again["copy/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"] = other
    report = read_corpus(lay_out(tmp_path, FULL | again))
    assert [row.emotion for row in report.rows] == ["neutral", "excitement"]
    doubles = left_out(report, "double")
    assert doubles["copy/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"].startswith(
        "4 of its turns are labelled already, 1 of them differently"
    )
    assert len(doubles) == 7


def test_labels_that_git_lfs_did_not_fetch(tmp_path):
    pointer = {"Ses01F_impro01.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"}
    report = read_corpus(lay_out(tmp_path, pointer))
    assert list(left_out(report, "pointer")) == ["Ses01F_impro01.txt"]


def test_expected_counts_are_those_of_the_literature(tmp_path):
    assert EXPECTED.clips == 7529 == 10039 - 2507 - 3
    four = sum(EXPECTED.emotions[e] for e in ("anger", "happiness", "excitement", "sadness", "neutral"))
    assert four == 5531 == sum(FOUR_CLASS_SESSIONS.values())
    notes = read_corpus(lay_out(tmp_path, FULL)).notes
    assert notes[0] == "found 2 of 7529 clips, 2 of 10 speakers; 2 with voice, 2 with picture"
    assert any(
        note.startswith("four classes, excitement as happiness: 2 of 5531; session1 2 of 1085") for note in notes
    )


def test_the_door_writes_a_manifest_that_can_be_read(tmp_path):
    root = lay_out(tmp_path / "raw", FULL)
    out = tmp_path / "out" / "iemocap.csv"
    assert main(["--raw", str(root), "--out", str(out), "--unlabelled"]) == 0
    manifest = read_manifest(out)
    assert len(manifest) == 4
    assert all(manifest.audio_path(row).is_file() and manifest.video_path(row).is_file() for row in manifest.rows)
    assert main(["--raw", str(root), "--out", str(out)]) == 0
    assert "unlabelled" in out.with_name("iemocap.left_out.csv").read_text()


def test_the_configuration_makes_the_usual_classes_and_can_be_told_otherwise():
    data = load_config(["av_roi", "iemocap"]).data
    assert set(data.emotions) | set(data.merge) == {"anger", "happiness", "excitement", "neutral", "sadness"}
    assert load_config(["av_roi", "iemocap", "data.merge={}"]).data.merge == {}
