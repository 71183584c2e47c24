from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.clip import read_clip
from avser.media.face_table import read_face_features

# As OpenFace writes it: blanks after the commas, a row a frame.
OPENFACE = """frame, face_id, timestamp, confidence, success, pose_Tx, AU01_r, AU12_r, AU01_c
1, 0, 0.0, 0.98, 1, 10, 0.5, 1.0, 1
2, 0, 0.1, 0.98, 1, 11, 0.6, 2.0, 1
3, 0, 0.2, 0.01, 0, 12, 9.9, 9.9, 1
4, 0, 0.3, 0.98, 1, 13, 0.8, 4.0, 0
"""
AUS = ["AU*_r", "AU*_c"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_frames_of_openface(tmp_path):
    path = write(tmp_path / "a.csv", OPENFACE)
    track, warnings = read_face_features(path, "a", AUS)
    assert track.names == ["AU01_r", "AU12_r", "AU01_c"]
    assert track.times.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert track.found.tolist() == [True, True, False, True]
    assert track.values[1] == pytest.approx([0.6, 2.0, 1.0])
    assert track.values[2].tolist() == [0, 0, 0]  # no face: no number of it is believed
    assert warnings == ["a.csv: no face features in 1 of 4 steps"]
    assert read_face_features(path, "a", ["pose_*"])[0].names == ["pose_Tx"]


def test_a_part_of_the_recording_has_its_own_time_zero(tmp_path):
    path = write(tmp_path / "a.csv", OPENFACE)
    track, _ = read_face_features(path, "a", AUS, start_s=0.1, end_s=0.3)
    assert track.times == pytest.approx([0.0, 0.1])
    assert track.values[0] == pytest.approx([0.6, 2.0, 1.0])
    with pytest.raises(MediaError, match=r"no row of clip a between 5\.0 s and 6\.0 s"):
        read_face_features(path, "a", AUS, start_s=5.0, end_s=6.0)


@pytest.mark.parametrize(("fps", "kept"), [(30, 30), (10, 10), (15, 15), (100, 30), (1, 1)])
def test_rows_are_thinned_to_the_nearest(tmp_path, fps, kept):
    times = np.arange(30) / 30 + 0.004
    rows = "\n".join(f"{t:.6f},{i}" for i, t in enumerate(times))
    path = write(tmp_path / "a.csv", f"timestamp,AU01_r\n{rows}\n")
    track, _ = read_face_features(path, "a", AUS, fps=fps)
    grid = np.arange(0, times[-1] + 1e-9, 1 / fps)
    nearest = sorted({int(np.abs(times - t).argmin()) for t in grid})
    assert track.values[:, 0].astype(int).tolist() == nearest
    assert len(track) == pytest.approx(kept, abs=1)


def test_one_table_of_a_whole_corpus_one_step_a_clip(tmp_path):
    path = write(tmp_path / "all.csv", "clip_id;AU01_r;AU12_r\na;1;2\nb;3;\n")
    track, warnings = read_face_features(path, "a", AUS, duration_s=3.0)
    assert (track.times.tolist(), track.values.tolist(), warnings) == ([1.5], [[1, 2]], [])
    track, warnings = read_face_features(path, "b", AUS, duration_s=3.0, start_s=7.0, end_s=10.0, fps=15)
    assert (track.times.tolist(), track.found.tolist()) == ([1.5], [False])
    assert warnings == ["all.csv: no face features in 1 of 1 steps"]
    with pytest.raises(MediaError, match="has no row of clip c"):
        read_face_features(path, "c", AUS)


def test_the_face_that_is_there_most_often(tmp_path):
    path = write(tmp_path / "a.csv", "timestamp,face_id,AU01_r\n0,0,1\n0,1,5\n0.1,1,6\n")
    track, warnings = read_face_features(path, "a", AUS)
    assert track.values[:, 0].tolist() == [5, 6]
    assert warnings == ["a.csv: 2 faces; took face_id 1, which has most rows"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timestamp,AU01_r\n0,x\n", r"line 2, column AU01_r: 'x' is no number"),
        ("timestamp,AU01_r\n0,1\n0.1,2,3\n", r"line 3: 3 cells under 2 columns"),
        ("timestamp,AU01_r\n0,1\n0.1\n", r"line 3: 1 cells under 2 columns"),
        ("timestamp,AU01_r\n0.1,1\n0.1,2\n", "must increase"),
        ("timestamp,AU01_r\n,1\n", "must increase"),
        ("timestamp,gaze\n0,1\n", r"no column is called AU\*_r or AU\*_c; the table has timestamp, gaze"),
        ("AU01_r\n1\n2\n", "2 rows for one clip, and no column 'timestamp'"),
        ("AU01_r,AU01_r\n1,2\n", "two columns are called 'AU01_r'"),
        ("AU01_r\n", "no table"),
        ("", "no table"),
    ],
)
def test_faulty_tables_are_refused_with_line_and_column(tmp_path, text, words):
    with pytest.raises(MediaError, match=words):
        read_face_features(write(tmp_path / "a.csv", text), "a", AUS)


def test_what_is_no_text_or_not_there(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(MediaError, match="not readable as text"):
        read_face_features(tmp_path / "a.csv", "a", AUS)
    with pytest.raises(MediaError, match="no such file"):
        read_face_features(tmp_path / "gone.csv", "a", AUS)


def test_a_clip_of_features_alone_and_one_that_has_nothing(tmp_path):
    path = write(tmp_path / "a.csv", OPENFACE)
    clip = read_clip("a", audio=None, video=None, tracker=None, face_features=path, feature_columns=AUS)
    assert (clip.waveform, clip.face, len(clip.face_features), clip.duration_s) == (None, None, 4, 0.3)
    assert clip.warnings == ["a.csv: no face features in 1 of 4 steps"]
    with pytest.raises(MediaError, match=r"no face features: .*no column is called gaze"):
        read_clip("a", audio=None, video=None, tracker=None, face_features=path, feature_columns=["gaze"])
