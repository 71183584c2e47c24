from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.data.manifest import EMOTIONS, ClipRow, read_manifest, read_regions, write_manifest, write_regions
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
        ("x,toy,1,anger,,", "line 2: neither audio nor video"),
        ("x,toy,1,joy,a.wav,", "line 2, column emotion: got 'joy', allowed: neutral"),
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
        ("2,2,", "column end_s: 2.0 is not after start_s 2.0"),
        (",,dev", "column split: got 'dev', allowed: train, val, test"),
    ],
)
def test_faulty_times_and_parts_are_named(tmp_path, cells, words):
    path = written(tmp_path, f"x,toy,1,anger,a.wav,,{cells}", header=f"{HEADER},start_s,end_s,split")
    with pytest.raises(ManifestError, match=words):
        read_manifest(path)


def test_faulty_tables(tmp_path):
    with pytest.raises(ManifestError, match="no such file; make one"):
        read_manifest(tmp_path / "gone.csv")
    with pytest.raises(ManifestError, match="a header and no rows"):
        read_manifest(written(tmp_path))
    with pytest.raises(ManifestError, match="column 'video' is missing"):
        read_manifest(written(tmp_path, "x", header="clip_id,corpus,speaker,emotion,audio"))
    with pytest.raises(ManifestError, match="unknown column 'gender'"):
        read_manifest(written(tmp_path, "x", header=f"{HEADER},gender"))
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
        ("x,audio,1,1", "line 2: needs start_s < end_s"),
        ("x,audio,,1", "line 2: needs start_s < end_s"),
        ("x,audio,a,1", "line 2, column start_s: got 'a'"),
    ],
)
def test_faulty_regions_are_named(tmp_path, line, words):
    (tmp_path / "regions.csv").write_text(f"clip_id,modality,start_s,end_s\n{line}\n")
    with pytest.raises(ManifestError, match=words):
        read_regions(tmp_path / "regions.csv")
