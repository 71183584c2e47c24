from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.data.manifest import (
    EMOTIONS,
    ClipRow,
    check_files,
    read_manifest,
    read_regions,
    write_manifest,
    write_regions,
)
from avser.errors import ManifestError
from avser.structures import Region

HEADER = "clip_id,corpus,speaker,emotion,audio,video"
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=8)


def written(tmp_path, *lines: str, header: str = HEADER):
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


@given(
    st.lists(
        st.builds(
            ClipRow,
            clip_id=st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,9}", fullmatch=True),
            corpus=TEXT,
            speaker=TEXT,
            emotion=st.sampled_from(EMOTIONS),
            audio=st.sampled_from(["a.wav", 'odd "name", with comma.wav']),
            sentence=st.one_of(TEXT, st.just("two\nlines"), st.just('"quoted"')),
            start_s=st.one_of(st.none(), st.integers(0, 7_200_000).map(lambda ms: ms / 1000)),
            votes_av=st.just('{"anger": 3}'),
            performance=st.one_of(st.just(""), TEXT),
            side=st.sampled_from(["", "left", "right"]),
            valence=st.one_of(st.none(), st.integers(-500, 500).map(lambda n: n / 100)),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row.clip_id,
    )
)
def test_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    write_manifest(rows, path)
    assert read_manifest(path).rows == rows


def test_paths_belong_to_the_manifests_folder(tmp_path):
    manifest = read_manifest(written(tmp_path, "x,toy,1,anger,a/b.wav,"))
    assert manifest.audio_path(manifest.rows[0]) == tmp_path.resolve() / "a" / "b.wav"
    assert manifest.video_path(manifest.rows[0]) is None
    assert len(manifest) == 1


def test_empty_columns_are_not_written(tmp_path):
    write_manifest([ClipRow("x", "toy", "1", "", "a.wav")], tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text() == f"{HEADER}\nx,toy,1,,a.wav,\n"


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text(f"\ufeff{HEADER.replace(',', ', ')}\r\nx, toy, 1, anger, a.wav,\r\n", encoding="utf-8")
    assert read_manifest(path).rows == [ClipRow("x", "toy", "1", "anger", "a.wav")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (",toy,1,anger,a.wav,", "line 2, column clip_id"),
        ("../x,toy,1,anger,a.wav,", "line 2, column clip_id"),
        (".x,toy,1,anger,a.wav,", "line 2, column clip_id"),
        ("x,toy,,anger,a.wav,", "line 2, column speaker: empty"),
        (f"{'x' * 201},toy,1,anger,a.wav,", "line 2, column clip_id: .* too long"),
        ("x,toy,1,anger,,", "line 2, column audio: neither audio nor video"),
        ("x,toy,1,joy,a.wav,", "line 2, column emotion: got 'joy'; allowed: neutral"),
        ("x,toy,1,Angr,a.wav,", "line 2, column emotion: got 'Angr'; did you mean 'anger'"),
        ("x,toy,1,anger,/etc/passwd,", "column audio: .* leaves the manifest's folder"),
        ("x,toy,1,anger,,a/../../b.mp4", "column video: .* leaves the manifest's folder"),
        ("x,toy,1,anger,..\\b.wav,", "column audio: .* leaves the manifest's folder"),
        ("x,toy,1,anger,C:/b.wav,", "column audio: .* leaves the manifest's folder"),
        ("x,toy,1,anger,a.wav", "line 2: needs 6 cells"),
        ("x,toy,1,anger,a.wav,,more", "line 2: needs 6 cells"),
        ('x,toy,1,anger,"a.wav', "not readable as CSV"),
    ],
)
def test_faulty_rows_are_named(tmp_path, line, words):
    with pytest.raises(ManifestError, match=words):
        read_manifest(written(tmp_path, line))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("x,,", "column start_s: got 'x', expected seconds"),
        ("-1,,", "column start_s: got '-1', expected seconds from 0"),
        ("nan,,", "column start_s: got 'nan'"),
        (",inf,", "column end_s: got 'inf'"),
        ("2,2,", "column end_s: 2 is not after start_s 2"),
        (",0,", "column end_s: 0 is not after start_s 0"),
        (",,dev", "column split: got 'dev', allowed: train, val, test"),
    ],
)
def test_faulty_times_and_parts_are_named(tmp_path, cells, words):
    path = written(tmp_path, f"x,toy,1,anger,a.wav,,{cells}", header=f"{HEADER},start_s,end_s,split")
    with pytest.raises(ManifestError, match=words):
        read_manifest(path)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("side", "middle", "column side: got 'middle', allowed: left, right or empty"),
        ("valence", "high", "column valence: got 'high', expected a number"),
        ("dominance", "inf", "column dominance: got 'inf', expected a number"),
        ("face_features", "/etc/passwd", "column face_features: .* leaves the manifest's folder"),
        ("votes_av", "anger", "column votes_av: got 'anger': expected JSON counts"),
        ("votes_av", "[3]", "column votes_av: .*expected JSON counts"),
        ("votes_av", "[" * 100_000, "column votes_av: .*expected JSON counts"),
        ("votes_audio", '{"joy": 3}', "column votes_audio: .*'joy' is no emotion"),
        ("votes_video", '{"anger": -1}', "column votes_video: .*number from 0 upwards"),
        ("votes_video", '{"anger": true}', "column votes_video: .*number from 0 upwards"),
        ("votes_video", '{"anger": NaN}', "column votes_video: .*number from 0 upwards"),
        ("votes_video", '{"anger": "3"}', "column votes_video: .*number from 0 upwards"),
    ],
)
def test_faults_of_the_other_columns_are_named(tmp_path, column, cell, words):
    quoted = cell.replace('"', '""')
    path = written(tmp_path, f'x,toy,1,anger,a.wav,,"{quoted}"', header=f"{HEADER},{column}")
    with pytest.raises(ManifestError, match=f"line 2, {words}"):
        read_manifest(path)


def test_all_columns_are_read(tmp_path):
    values = {"performance": "p", "side": "left", "valence": "2.5", "activation": "-1", "votes_av": '"{""fear"": 2.5}"'}
    path = written(tmp_path, f"x,toy,1,anger,a.wav,,{','.join(values.values())}", header=",".join([HEADER, *values]))
    (row,) = read_manifest(path).rows
    assert row == ClipRow(
        *("x", "toy", "1", "anger", "a.wav"),
        performance="p",
        side="left",
        valence=2.5,
        activation=-1.0,
        votes_av='{"fear": 2.5}',
    )


def test_one_error_lists_every_fault_in_order_of_lines(tmp_path):
    path = written(tmp_path, "x,toy,,joy,a.wav,", "y,toy,1", "z,toy,1,anger,a.wav,", "z,toy,1,anger,../a.wav,")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 5 faults"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [
        "line 2, column emotion",
        "line 2, column speaker",
        "line 3",
        "line 5, column audio",
        "line 5, column clip_id",
    ]


def test_a_flood_of_faults_is_cut(tmp_path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path, *(f"x{i},toy,1,joy,a.wav," for i in range(50))))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("50 faults")
    assert len(lines) == 22
    assert lines[-1].strip() == "... and 30 more"


def test_files_that_are_not_there_are_named(tmp_path):
    manifest = read_manifest(written(tmp_path, "x,toy,1,anger,a.wav,a.mp4", "y,toy,1,anger,.,"))
    (tmp_path / "a.mp4").write_bytes(b"media")
    root = tmp_path.resolve()
    with pytest.raises(ManifestError) as error:
        check_files(manifest)
    assert str(error.value).splitlines() == [
        "2 files are not there",
        f"  clip x, column audio: there is no a.wav below {root}",
        f"  clip y, column audio: there is no . below {root}",
    ]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_no_table_crashes_the_reader(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    path.write_text(f"{HEADER},votes_av,start_s\n{text}\nx,toy,1,anger,a.wav,,{text}", encoding="utf-8", newline="")
    with contextlib.suppress(ManifestError):
        assert read_manifest(path).rows


def test_faulty_tables(tmp_path):
    with pytest.raises(ManifestError, match="no such file; make one"):
        read_manifest(tmp_path / "gone.csv")
    with pytest.raises(ManifestError, match="a header and no rows"):
        read_manifest(written(tmp_path))
    with pytest.raises(ManifestError, match="column 'video' is missing"):
        read_manifest(written(tmp_path, "x", header="clip_id,corpus,speaker,emotion,audio"))
    with pytest.raises(ManifestError, match="unknown column 'gender', 'age'"):
        read_manifest(written(tmp_path, "x", header=f"{HEADER},gender,age"))
    with pytest.raises(ManifestError, match="column 'audio' stands twice"):
        read_manifest(written(tmp_path, "x", header=f"{HEADER},audio"))
    twice = "x,toy,1,anger,a.wav,"
    with pytest.raises(ManifestError, match="line 3, column clip_id: 'x' stands in line 2 already"):
        read_manifest(written(tmp_path, twice, twice))
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not readable as UTF-8"):
        read_manifest(tmp_path / "manifest.csv")


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = written(tmp_path, 'x,toy,1,anger,a.wav,,"two\nlines"', "y,toy,1,joy,a.wav,,", header=f"{HEADER},sentence")
    with pytest.raises(ManifestError, match="line 4, column emotion"):
        read_manifest(path)


def test_regions_beside_the_manifest(tmp_path):
    path = written(tmp_path, "x,toy,1,anger,a.wav,")
    regions = [Region("audio", 1.0, 1.5), Region("audio", 0.25, 0.5), Region("video", 0.0, 0.75)]
    write_regions({"x": regions}, tmp_path / "regions.csv")
    found = read_manifest(path).regions["x"]
    assert found["audio"] == [Region("audio", 0.25, 0.5), Region("audio", 1.0, 1.5)]
    assert found["video"] == [Region("video", 0.0, 0.75)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x,text,0,1", "line 2, column modality: got 'text'"),
        ("x,audio,1,1", "line 2, column end_s: got '1', expected seconds after start_s 1"),
        ("x,audio,1,nan", "line 2, column end_s: got 'nan'"),
        ("x,audio,,1", "line 2, column start_s: got '', expected seconds from 0 upwards"),
        ("x,audio,-1,1", "line 2, column start_s: got '-1'"),
        ("x,audio,a,1", "line 2, column start_s: got 'a'"),
        ("x,audio,1", "line 2: needs 4 cells like the header, got 3"),
    ],
)
def test_faulty_regions_are_named(tmp_path, line, words):
    (tmp_path / "regions.csv").write_text(f"clip_id,modality,start_s,end_s\n{line}\n")
    with pytest.raises(ManifestError, match=words):
        read_regions(tmp_path / "regions.csv")
