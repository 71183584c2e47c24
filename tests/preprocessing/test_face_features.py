from __future__ import annotations

import numpy as np
import pytest

from avser.config import load_config
from avser.data.cache import ClipCache, build_cache
from avser.data.manifest import ClipRow, read_manifest, write_manifest
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
