from __future__ import annotations

from pathlib import Path

import pytest

from avser.data.manifest import ClipRow, read_manifest
from avser.errors import ManifestError
from preprocessing.meld import BAD_CLIPS, EXPECTED, main, read_corpus

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def line(dialogue: int, utterance: int, emotion: str = "joy", speaker: str = "Ross", text: str = '"Oh, hi!"') -> str:
    return f'1,{text},{speaker},{emotion},positive,{dialogue},{utterance},4,7,"00:20:57,256","00:21:00,049"\n'


def lay_out(root: Path, *paths: str, **tables: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"media {path}")
    for part, lines in tables.items():
        (root / f"{part}_sent_emo.csv").write_text(HEADER + lines, encoding="utf-8")
    return root


def left_out(report, kind: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.left_out if entry.kind == kind}


def test_ids_repeat_across_the_parts(tmp_path):
    paths = [f"{part}/{folder}/dia0_utt0.mp4" for part, folder in FOLDERS.items()]
    root = lay_out(tmp_path, *paths, train=line(0, 0), dev=line(0, 0, "sadness", "Phoebe"), test=line(0, 0, "fear"))
    rows = read_corpus(root).rows
    assert rows[2] == ClipRow(
        "train_dia0_utt0",
        "meld",
        "Ross",
        "happiness",
        "train/train_splits/dia0_utt0.mp4",
        "train/train_splits/dia0_utt0.mp4",
        sentence="Oh, hi!",
        session="train_dia0",
        split="train",
    )
    assert [(row.clip_id, row.split, row.emotion, row.speaker) for row in rows[:2]] == [
        ("dev_dia0_utt0", "val", "sadness", "Phoebe"),
        ("test_dia0_utt0", "test", "fear", "Ross"),
    ]


@pytest.mark.parametrize(
    ("path", "clip"),
    [
        ("MELD.Raw/train_splits/dia3_utt1.mp4", "train_dia3_utt1"),
        ("audio/val/dia3_utt1.wav", "dev_dia3_utt1"),
        ("archive/dev/dia3_utt1.flac", "dev_dia3_utt1"),
        ("test_splits_wav/dia3_utt1.wav", "test_dia3_utt1"),
        ("flat/test_dia3_utt1.wav", "test_dia3_utt1"),
        ("train/test/dia3_utt1.wav", "test_dia3_utt1"),  # the folder nearest to the file counts
        ("final_videos_testdia3_utt1.mp4", "test_dia3_utt1"),
    ],
)
def test_layouts(tmp_path, path, clip):
    root = lay_out(tmp_path, path, train=line(3, 1), dev=line(3, 1), test=line(3, 1))
    (row,) = read_corpus(root).rows
    assert (row.clip_id, row.audio, row.video) == (clip, path, path if path.endswith("mp4") else "")


def test_extracted_sound_is_taken_before_the_track_of_the_video(tmp_path):
    root = lay_out(tmp_path, "train/dia0_utt0.mp4", "train/dia0_utt0.wav", train=line(0, 0))
    (row,) = read_corpus(root).rows
    assert (row.audio, row.video) == ("train/dia0_utt0.wav", "train/dia0_utt0.mp4")


def test_a_file_of_no_part_is_not_guessed(tmp_path):
    report = read_corpus(lay_out(tmp_path, "clips/dia0_utt0.mp4", train=line(0, 0)))
    assert report.rows == []
    assert "ids repeat" in left_out(report, "foreign")["clips/dia0_utt0.mp4"]


def test_the_second_cut_of_a_test_clip_is_the_right_one(tmp_path):
    folder = FOLDERS["test"]
    paths = [f"{folder}/{name}.mp4" for name in ("dia93_utt6", "final_videos_testdia93_utt6", "dia38_utt4")]
    recut = f"{folder}/final_videos_testdia38_utt4.mp4"
    root = lay_out(tmp_path, *paths, recut, test=line(93, 6) + line(38, 4))
    report = read_corpus(root)
    assert [row.video for row in report.rows] == [recut, paths[1]]  # also in place of a plain cut known to be bad
    assert set(left_out(report, "bad")) == {paths[0], paths[2]}
    assert "the second cut" in left_out(report, "bad")[paths[0]]


def test_files_without_a_row_and_rows_without_a_file(tmp_path):
    foreign = [f"dev_splits_complete/dia{name}.mp4" for name in ("49_utt4", "49_utt5", "66_utt9", "66_utt10")]
    foreign += [f"{FOLDERS['test']}/{name}.mp4" for name in ("dia108_utt2", "final_videos_testdia101_utt0")]
    root = lay_out(tmp_path, *foreign, "dev_splits_complete/._dia1_utt1.mp4", dev=line(110, 7) + line(1, 1), test="")
    report = read_corpus(root)
    assert report.rows == []
    assert set(left_out(report, "foreign")) == set(foreign)
    missing = left_out(report, "missing")
    assert missing == {"dev_dia110_utt7": "the archive never held it (22, 27)", "dev_dia1_utt1": "no file of it"}


def test_known_bad_clips_are_left_out_with_the_reason(tmp_path):
    paths, tables = [], {"train": "", "dev": "", "test": ""}
    for name in BAD_CLIPS:
        part, dialogue, utterance = name.split("_")
        paths.append(f"{FOLDERS[part]}/{dialogue}_{utterance}.mp4")
        tables[part] += line(int(dialogue[3:]), int(utterance[3:]))
    report = read_corpus(lay_out(tmp_path, *paths, **tables))
    assert report.rows == []
    assert set(left_out(report, "bad")) == set(BAD_CLIPS)
    assert len(BAD_CLIPS) == 12
    assert "cannot be decoded" in left_out(report, "bad")["train_dia125_utt3"]
    assert len(read_corpus(tmp_path, keep_bad=True).rows) == 12


def test_typographic_characters_in_three_encodings(tmp_path):
    root = lay_out(tmp_path, "train/dia0_utt0.mp4", "dev/dia0_utt0.mp4", "test/dia0_utt0.mp4")
    said = "He\u2019s lost it\u2026"
    row = HEADER + line(0, 0, text=said)
    (root / "train_sent_emo.csv").write_bytes(row.encode("utf-8-sig"))
    (root / "dev_sent_emo.csv").write_bytes(row.encode("cp1252"))
    (root / "test_sent_emo.csv").write_bytes(row.encode("cp1252").decode("latin-1").encode())  # as published in part
    assert {r.sentence for r in read_corpus(root).rows} == {said}


def test_faults_of_a_table_are_listed_by_line_and_column(tmp_path):
    lines = line(0, 0) + line(0, 1, "happy") + line(0, 2, speaker="") + line(0, 0, "anger")
    lines += line(0, 3).replace(",0,3,", ",x,3,") + "1,short\n"
    root = lay_out(tmp_path, *(f"train/dia0_utt{i}.mp4" for i in range(4)), train=lines)
    report = read_corpus(root)
    assert [(row.clip_id, row.emotion) for row in report.rows] == [("train_dia0_utt0", "happiness")]
    bad = left_out(report, "bad")
    assert bad["train_sent_emo.csv, line 3"].startswith("column Emotion: got 'happy'")
    assert bad["train_sent_emo.csv, line 4"] == "column Speaker: empty"
    assert bad["train_sent_emo.csv, line 6"].startswith("column Dialogue_ID: got 'x'")
    assert "train_sent_emo.csv, line 7" in bad
    assert left_out(report, "double") == {
        "train_sent_emo.csv, line 5": "train_dia0_utt0 stands above already; the first row counts"
    }
    assert len(left_out(report, "foreign")) == 3


def test_a_table_that_is_none(tmp_path):
    root = lay_out(tmp_path, "train/dia0_utt0.mp4")
    (root / "train_sent_emo.csv").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ManifestError, match=r"lacks the column 'Utterance'.*fetched"):
        read_corpus(root)


def test_missing_tables_are_told(tmp_path):
    report = read_corpus(lay_out(tmp_path, "dev/dia0_utt0.mp4", train=""))
    assert "dev_sent_emo.csv is not there: nothing of dev can be labelled" in report.notes
    assert list(left_out(report, "foreign")) == ["dev/dia0_utt0.mp4"]


def test_found_against_what_should_be_and_shared_speakers(tmp_path):
    assert [expected.clips for expected in EXPECTED.values()] == [9989, 1109, 2610]
    root = lay_out(tmp_path, "train/dia0_utt0.mp4", "test/dia0_utt0.mp4", train=line(0, 0), test=line(0, 0))
    notes = read_corpus(root).notes
    assert "train: found 1 of 9989 clips, 1 of 260 speakers; 1 with voice, 1 with picture" in notes
    assert any("test: clips by emotion: neutral 0 of 1256" in note and "happiness 1 of 402" in note for note in notes)
    assert any("speaker-dependent: 1 speakers of test, with 1 of its clips" in note for note in notes)


def test_the_door_writes_a_manifest_that_can_be_read(tmp_path, capsys):
    root = lay_out(tmp_path / "raw", "train/dia125_utt3.mp4", "train/dia0_utt0.mp4", train=line(0, 0) + line(125, 3))
    assert main(["--raw", str(root)]) == 0
    assert [row.clip_id for row in read_manifest(root / "manifest.csv").rows] == ["train_dia0_utt0"]
    assert "train_dia125_utt3: left out: the video cannot be decoded" in capsys.readouterr().out
    assert main(["--raw", str(root), "--keep-bad"]) == 0
    assert len(read_manifest(root / "manifest.csv")) == 2
