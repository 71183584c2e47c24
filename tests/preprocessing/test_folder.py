from __future__ import annotations

from pathlib import Path

import pytest

from avser.data.manifest import EMOTIONS, ClipRow, read_manifest
from avser.errors import ManifestError
from preprocessing.folder import KNOWN_LABELS, main, read_folders, read_table


def lay_out(root: Path, *paths: str, table: str | None = None) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("media")
    if table is not None:
        (root / "mine.csv").write_text(table)
    return root


def folders(root: Path, speaker: str = "folder", **labels: str):
    return read_folders(root, speaker=speaker, labels=labels)


def table(root: Path, *, labels: dict[str, str] | None = None, **columns: str):
    return read_table(root, root / "mine.csv", columns=columns, labels=labels or {})


def left_out(report, kind: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.left_out if entry.kind == kind}


# --- one folder a label ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["bob/Angry/take 1", "Angry/bob/take 1"])
def test_the_speaker_is_the_other_folder(tmp_path, path):
    (row,) = folders(lay_out(tmp_path, f"{path}.wav", f"{path}.mp4")).rows
    clip_id = path.replace("/", "_").replace(" ", "-")
    assert row == ClipRow(clip_id, "folder", "bob", "anger", audio=f"{path}.wav", video=f"{path}.mp4")


def test_the_speaker_is_the_beginning_of_the_name(tmp_path):
    rows = folders(lay_out(tmp_path, "sad/ann_01.flac", "neutral/bob_x_y.avi"), "prefix").rows
    assert [(row.speaker, row.emotion, row.audio, row.video) for row in rows] == [
        ("bob", "neutral", "neutral/bob_x_y.avi", "neutral/bob_x_y.avi"),
        ("ann", "sadness", "sad/ann_01.flac", ""),
    ]
    with pytest.raises(ManifestError, match="sad/01: the name has no '_' after the speaker's"):
        folders(lay_out(tmp_path, "sad/01.wav"), "prefix")


def test_every_file_a_speaker_of_its_own_is_told(tmp_path):
    report = folders(lay_out(tmp_path, "joy/1.wav", "joy/2.wav", "ps/1.wav"), "file")
    assert [row.speaker for row in report.rows] == [row.clip_id for row in report.rows] == ["joy_1", "joy_2", "ps_1"]
    assert [row.emotion for row in report.rows] == ["happiness", "happiness", "surprise"]
    assert any("no split of these clips is speaker-independent" in note for note in report.notes)


def test_a_label_that_nobody_knows_is_an_error_that_says_what_to_do(tmp_path):
    root = lay_out(tmp_path, "bob/angryy/1.wav", "bob/angryy/2.wav", "bob/sad/1.wav", "ann/W/1.wav")
    with pytest.raises(ManifestError) as error:
        folders(root)
    message = str(error.value)
    assert "2 faults" in message
    assert "'bob' nor 'angryy' is no known label; did you mean 'angry'? Say --label angryy=anger (2 clips)" in message
    assert "'W' is no known label; say what it means, e.g. --label W=anger, or --label W= to leave it out" in message
    rows = folders(root, angryy="anger", w="anger").rows
    assert [row.emotion for row in rows] == ["anger", "anger", "anger", "sadness"]


def test_a_label_can_be_overruled_or_left_out(tmp_path):
    root = lay_out(tmp_path, "bob/happy/1.wav", "bob/noise/1.wav")
    report = folders(root, happy="excitement", noise="")
    assert [row.emotion for row in report.rows] == ["excitement"]
    assert left_out(report, "unwanted") == {"bob/noise/1": "--label noise= leaves it out"}


def test_two_folders_that_are_both_emotions(tmp_path):
    with pytest.raises(ManifestError, match="joy/sad: both names are emotions"):
        folders(lay_out(tmp_path, "joy/sad/1.wav"))


def test_other_depths_are_listed(tmp_path):
    report = folders(lay_out(tmp_path, "bob/sad/1.wav", "loose.wav", "a/bob/sad/1.wav", "sad/1.wav", "notes.txt"))
    assert [row.clip_id for row in report.rows] == ["bob_sad_1"]
    assert set(left_out(report, "foreign")) == {"loose", "a/bob/sad/1", "sad/1"}


def test_two_files_that_would_share_a_name(tmp_path):
    with pytest.raises(ManifestError, match="would both be named bob_sad_1-2; rename one"):
        folders(lay_out(tmp_path, "bob/sad/1 2.wav", "bob/sad/1+2.wav"))


def test_empty_files_and_pointers_are_listed(tmp_path):
    root = lay_out(tmp_path, "bob/sad/1.wav", "bob/sad/2.wav", "bob/sad/3.wav")
    (root / "bob/sad/2.wav").write_text("")
    (root / "bob/sad/3.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    report = folders(root)
    assert len(report.rows) == 1
    assert (set(left_out(report, "empty")), set(left_out(report, "pointer"))) == ({"bob/sad/2.wav"}, {"bob/sad/3.wav"})


def test_synonyms_mean_words_of_the_manifest_and_no_single_letter():
    assert set(KNOWN_LABELS.values()) == set(EMOTIONS)
    assert min(map(len, KNOWN_LABELS)) > 1


# --- a table -----------------------------------------------------------------------------------------------------


def test_a_table_with_the_manifests_own_columns(tmp_path):
    text = "clip_id,speaker,emotion,audio,start_s,end_s,valence\nx,bob,Happy,a/1.wav,0.5,2,3.5\n"
    (row,) = table(lay_out(tmp_path, "a/1.wav", table=text)).rows
    assert row == ClipRow("x", "folder", "bob", "happiness", "a/1.wav", start_s=0.5, end_s=2.0, valence=3.5)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_by_other_names(tmp_path, delimiter):
    lines = [["who", "label", "file", "comment"], ["bob", "ANG", "./a\\1.mp4", "x"]]
    root = lay_out(tmp_path, "a/1.mp4", table="\n".join(map(delimiter.join, lines)))
    report = table(root, speaker="who", emotion="label", video="file")
    (row,) = report.rows
    assert row == ClipRow("a_1", "folder", "bob", "anger", "", "a/1.mp4")
    assert report.notes[0] == "columns of mine.csv that were not used: comment"


def test_full_paths_below_the_raw_folder(tmp_path):
    root = lay_out(tmp_path, "a/1.wav", table=f"speaker,emotion,audio\nbob,sad,{tmp_path}/a/1.wav\n")
    assert table(root).rows[0].audio == "a/1.wav"


def test_every_fault_is_named_by_line_and_column(tmp_path):
    text = "speaker,label,audio,start_s,end_s\n"
    text += "bob,sad,1.wav,0,1\n,sad,2.wav,0,1\nbob,sadd,3.wav,0,1\nbob,sad,../4.wav,0,1\nbob,sad,5.wav,2,1\n"
    text += "bob,sad,1.wav,0,1\nbob,sad,,0,1\nbob,sad\n"
    with pytest.raises(ManifestError) as error:
        table(lay_out(tmp_path, "1.wav", table=text), emotion="label")
    message = str(error.value)
    assert "mine.csv: 9 faults" in message
    for fault in (
        "line 3, column speaker: empty",
        "line 4, column label: 'sadd' is no known label; did you mean 'sad'?",
        "line 5, column audio: '../4.wav' leaves",
        "line 6, column end_s: 1 is not after start_s 2",
        "line 7, column clip_id: '1' is the clip of line 2 already",
        "line 8, column audio: neither audio nor video",
        "line 9: needs 5 cells like the header, got 2",
    ):
        assert fault in message


def test_lost_clips_of_a_table_are_listed_and_the_rest_goes_on(tmp_path):
    text = "speaker,emotion,audio\nbob,sad,1.wav\nbob,sad,gone.wav\nbob,,3.wav\nbob,other,4.wav\nbob,sad,5.wav\n"
    root = lay_out(tmp_path, *(f"{i}.wav" for i in (1, 3, 4, 6)), table=text)
    (root / "5.wav").write_text("")
    report = table(root, labels={"other": ""})
    assert [row.clip_id for row in report.rows] == ["1"]
    assert "line 3: there is no gone.wav" in left_out(report, "missing")["gone"]
    assert left_out(report, "unlabelled") == {"3": "line 4: no label"}
    assert left_out(report, "unwanted") == {"4": "--label other= leaves it out"}
    assert "line 6: 5.wav: 0 bytes" in left_out(report, "empty")["5"]
    assert left_out(report, "foreign") == {"6.wav": "no line of mine.csv names it"}
    assert len(report.left_out) == 5


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (
            "who,emotion,audio\n",
            {},
            "no column 'speaker'; say which one it is with --column speaker=NAME; there are who",
        ),
        ("speaker,emotion\n", {}, "no column 'audio'"),
        ("speaker,emotion,audio\n", {"emotion": "label"}, "--column emotion=label: .* has no 'label', but speaker"),
        ("speaker,emotion,audio\n", {"feeling": "audio"}, "a manifest has no 'feeling'"),
        ("speaker,speaker,audio\n", {}, "column 'speaker' stands twice"),
        ('speaker,emotion,audio\nbob,sad,"x\n', {}, "not readable as a table"),
        ("", {}, "no column 'speaker'"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, columns, message):
    with pytest.raises(ManifestError, match=message):
        table(lay_out(tmp_path, table=text), **columns)


def test_a_table_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ManifestError, match=r"mine\.csv: not readable"):
        table(tmp_path)
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="save it as CSV in UTF-8"):
        table(tmp_path)


# --- the door ----------------------------------------------------------------------------------------------------


def test_the_door_writes_a_manifest_that_can_be_read(tmp_path, capsys):
    root = lay_out(tmp_path / "raw", "bob/sad/1.wav", "ann/Pleasant Surprise/1.wav", "ann/zorn/1.wav")
    out = tmp_path / "mine.csv"
    arguments = ["--raw", str(root), "--out", str(out), "--speaker", "folder", "--corpus", "mine"]
    assert main(arguments) == 1
    assert "'zorn' is no known label" in capsys.readouterr().err
    assert main([*arguments, "--label", "Zorn=anger"]) == 0
    rows = read_manifest(out).rows
    assert [(row.corpus, row.speaker, row.emotion) for row in rows] == [
        ("mine", "ann", "surprise"),
        ("mine", "ann", "anger"),
        ("mine", "bob", "sadness"),
    ]
    assert "found 3 clips, 2 speakers; 3 with voice, 0 with picture" in capsys.readouterr().out


def test_the_door_takes_a_table(tmp_path):
    root = lay_out(tmp_path, "1.wav", table="who,emotion,audio\nbob,sad,1.wav\n")
    arguments = ["--raw", str(root), "--table", str(root / "mine.csv"), "--column", "speaker=who"]
    assert main(arguments) == 0
    assert len(read_manifest(root / "manifest.csv")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --table or --speaker"),
        (["--speaker", "file", "--table", "x.csv"], "give either --table or --speaker"),
        (["--speaker", "file", "--label", "x=wrath"], "'wrath' is no emotion; allowed: neutral"),
        (["--speaker", "file", "--label", "x"], "expected NAME=VALUE"),
    ],
)
def test_wrong_usage(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        main(["--raw", str(tmp_path), *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err
