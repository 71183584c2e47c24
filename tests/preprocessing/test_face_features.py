from __future__ import annotations

import numpy as np
import pytest

from avser.config import load_config
from avser.data.cache import ClipCache, build_cache
from avser.data.manifest import ClipRow, read_manifest, write_manifest
from avser.media.face_table import read_face_features
from preprocessing.face_features import main
from preprocessing.ravdess import main as ravdess

TABLE = "AU01_r;AU12_r;speech;name;path\n0.5;1;0.1;01-x;p\n0.7;2;0.1;01-y;p\n0.9;3;0.1;01-z;p\n"


@pytest.fixture
def manifest(tmp_path):
    write_manifest(
        [ClipRow(name, "toy", "s", "anger", f"audio/03-{name}.wav") for name in ("x", "y", "w")], tmp_path / "toy.csv"
    )
    return tmp_path / "toy.csv"


def test_a_table_with_one_row_a_clip(manifest, tmp_path, capsys):
    table = tmp_path / "elsewhere" / "means.csv"
    table.parent.mkdir()
    table.write_text(TABLE)
    assert main([str(manifest), str(table), "--match", "0[123]-(.+)"]) == 0
    rows = read_manifest(tmp_path / "toy_features.csv").rows
    assert [row.face_features for row in rows] == ["toy_features_table.csv", "toy_features_table.csv", ""]
    written = (tmp_path / "toy_features_table.csv").read_text()
    assert written == "clip_id,AU01_r,AU12_r,speech\nx,0.5,1,0.1\ny,0.7,2,0.1\n"
    said = capsys.readouterr().out
    assert "1 clips have no face features: w" in said
    assert "1 names mean no clip: 01-z" in said
    assert "2 of 3 clips have face features" in said


def test_a_folder_with_one_table_a_clip(manifest, tmp_path, capsys):
    folder = tmp_path / "openface"
    folder.mkdir()
    (folder / "03-x.csv").write_text("timestamp, AU01_r\n0, 1\n0.1, 2\n")  # named like the recording
    (folder / "w.csv").write_text("timestamp, AU01_r\n0, 1\n")  # named like the clip
    assert main([str(manifest), str(folder), "--out", str(tmp_path / "joined.csv")]) == 0
    rows = read_manifest(tmp_path / "joined.csv").rows
    assert [row.face_features for row in rows] == ["openface/03-x.csv", "", "openface/w.csv"]


def test_nothing_is_guessed(manifest, tmp_path, capsys):
    table = tmp_path / "means.csv"
    table.write_text(TABLE)
    assert main([str(manifest), str(table)]) == 1  # 01-x is not x
    assert "nothing could be joined; say by --match" in capsys.readouterr().err
    assert not (tmp_path / "toy_features.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["--key", "clip"], TABLE, "no column 'clip'"),
        (["--match", "01-.+"], TABLE, "needs one group in brackets"),
        (["--match", "("], TABLE, "needs one group in brackets"),
        (["--match", "0(1)-.+"], TABLE, "'01-x' and '01-y' both mean clip '1'"),
        ([], TABLE + "0.1;1;0.1;01-x;p\n", "'01-x' is there twice"),
        ([], "name;AU01_r\nx;1;2\n", "3 cells under 2 columns"),
    ],
)
def test_what_cannot_be_joined_is_refused(manifest, tmp_path, capsys, arguments, text, words):
    table = tmp_path / "means.csv"
    table.write_text(text)
    assert main([str(manifest), str(table), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_the_new_manifest_stands_beside_the_old_one(manifest, tmp_path, capsys):
    table = tmp_path / "means.csv"
    table.write_text(TABLE)
    assert main([str(manifest), str(table), "--out", str(tmp_path / "sub" / "x.csv")]) == 1
    assert "must stand beside" in capsys.readouterr().err


def z_score(values):
    return (np.array(values) - np.mean(values)) / np.std(values)


def by_speaker(tmp_path, speakers, source):
    """Clips x, y, z, ... of these speakers, joined to `source` by --normalize speaker."""
    clips = [ClipRow(f"{'xyzuvw'[i]}", "toy", name, "anger", f"audio/{i}.wav") for i, name in enumerate(speakers)]
    write_manifest(clips, tmp_path / "toy.csv")
    return main([str(tmp_path / "toy.csv"), str(source), "--normalize", "speaker"])


def test_a_table_is_scaled_over_the_clips_of_each_speaker(tmp_path, capsys):
    table = tmp_path / "means.csv"
    table.write_text("name,AU1,AU2,AU3\nx,1,5,1\ny,3,5,nan\nz,8,5,3\nu,10,1,1\nv,14,4,1\nq,99,9,9\n")
    assert by_speaker(tmp_path, ["a", "a", "a", "b", "b"], table) == 0
    assert "judge a clip only together with the others of its speaker" in capsys.readouterr().out
    header, *lines = (tmp_path / "toy_features_table.csv").read_text().splitlines()
    assert header == "clip_id,AU1,AU2,AU3"
    assert [line.split(",")[0] for line in lines] == list("xyzuv")
    got = np.array([line.split(",")[1:] for line in lines], float)
    np.testing.assert_allclose(got[:, 0], [*z_score([1, 3, 8]), -1, 1], rtol=1e-6)
    np.testing.assert_array_equal(got[:, 1], [0, 0, 0, -1, 1])
    np.testing.assert_array_equal(got[:, 2], [-1, np.nan, 1, 0, 0])


def test_frames_are_scaled_over_those_of_their_speaker_that_show_the_face(tmp_path, capsys):
    folder = tmp_path / "openface"
    folder.mkdir()
    head = "frame, timestamp, face_id, success, AU1, note\n"
    (folder / "x.csv").write_text(head + "1, 0.0, 0, 1, 1, p\n2, 0.1, 0, 1, 3, p\n3, 0.2, 0, 0, 50, p\n")
    (folder / "y.csv").write_text(head + "1, 0.0, 0, 1, 8, q\n2, 0.1, 0, 1, 4, q\n2, 0.1, 1, 1, 70, q\n")
    (folder / "z.csv").write_text(head + "1, 0.0, 0, 1, 10, r\n2, 0.1, 0, 1, , r\n3, 0.2, 0, 1, 14, r\n")
    assert by_speaker(tmp_path, ["a", "a", "b"], folder) == 0
    rows = read_manifest(tmp_path / "toy_features.csv").rows
    assert [row.face_features for row in rows] == [f"toy_features_tables/{name}.csv" for name in "xyz"]
    frames = {row.clip_id: read_face_features(tmp_path / row.face_features, row.clip_id, ["AU*"])[0] for row in rows}
    expected = z_score([1, 3, 8, 4])
    np.testing.assert_allclose(frames["x"].values[:2, 0], expected[:2], rtol=1e-6)
    np.testing.assert_array_equal(frames["x"].found, [True, True, False])
    np.testing.assert_allclose(frames["y"].values[:, 0], expected[2:], rtol=1e-6)
    np.testing.assert_allclose(frames["y"].times, [0, 0.1])
    np.testing.assert_allclose(frames["z"].values[:, 0], [-1, 0, 1])
    np.testing.assert_array_equal(frames["z"].found, [True, False, True])
    assert (tmp_path / "toy_features_tables" / "x.csv").read_text().splitlines()[1].endswith(",p")


def test_clips_without_a_speaker_are_not_scaled(tmp_path, capsys):
    (tmp_path / "means.csv").write_text("name,AU1\nx,1\ny,2\n")
    assert by_speaker(tmp_path, ["a", ""], tmp_path / "means.csv") == 1
    assert "line 3, column speaker: empty" in capsys.readouterr().err
    assert not (tmp_path / "toy_features.csv").exists()


def test_speakers_of_one_name_in_two_corpora_are_two(tmp_path):
    (tmp_path / "means.csv").write_text("name,AU1\nx,1\ny,2\nz,10\nu,20\n")
    clips = [ClipRow(c, name, "s", "anger", f"audio/{c}.wav") for c, name in zip("xyzu", "ppqq", strict=True)]
    write_manifest(clips, tmp_path / "two.csv")
    assert main([str(tmp_path / "two.csv"), str(tmp_path / "means.csv"), "--normalize", "speaker"]) == 0
    assert (tmp_path / "two_features_table.csv").read_text() == "clip_id,AU1\nx,-1\ny,1\nz,-1\nu,1\n"


def test_tables_of_frames_that_cannot_be_scaled_are_refused(tmp_path, capsys):
    folder = tmp_path / "openface"
    folder.mkdir()
    (folder / "x.csv").write_text("timestamp,AU1\n0,1\n")
    (folder / "y.csv").write_text("timestamp,AU2\n0,1\n")
    assert by_speaker(tmp_path, ["a", "a"], folder) == 1
    assert "other columns for one speaker" in capsys.readouterr().err
    rows = [ClipRow(f"x{i}", "toy", f"s{i}", "anger", video="video/x.mp4", start_s=i, end_s=i + 1) for i in (0, 1)]
    write_manifest(rows, tmp_path / "both.csv")
    assert main([str(tmp_path / "both.csv"), str(folder), "--normalize", "speaker"]) == 1
    assert "serves clips of 2 speakers" in capsys.readouterr().err


@pytest.mark.real_data
def test_the_action_units_of_ravdess_join_its_recordings(real_data, tmp_path):
    out = tmp_path / "ravdess.csv"
    assert ravdess(["--raw", str(real_data / "ravdess_speech"), "--out", str(out)]) == 0
    table = real_data / "ravdess_face" / "openface_mean_aus.csv"
    assert main([str(out), str(table), "--match", "0[123]-(.+)"]) == 0
    manifest = read_manifest(tmp_path / "ravdess_features.csv")
    assert sum(bool(row.face_features) for row in manifest.rows) == 1440
    manifest.rows = [row for row in manifest.rows if row.clip_id.endswith("-02-08")][:4]
    report = build_cache(manifest, tmp_path / "cache", load_config(["media.faces.tracker=none"]).media, progress=False)
    assert not report.failures
    assert not report.partial
    clip = ClipCache(tmp_path / "cache").load("01-01-01-01-02-08")
    assert len(clip.face_features.names) == 35
    assert clip.face_features.times == pytest.approx([clip.duration_s / 2])
    assert clip.face_features.values[0, 0] == np.float32(0.10100917431192662)
    assert clip.waveform is not None
