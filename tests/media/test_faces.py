from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avser.errors import ConfigError
from avser.media.crops import Square, cut_square, face_square
from avser.media.faces import TRACKERS, CenterTracker, MediaPipeTracker, _chosen, _Face, _link, build_tracker
from avser.media.video import Frame, iterate_frames


def face_at(x: float, y: float = 100.0, size: float = 40.0) -> _Face:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2)) * size + (x, y)
    square = face_square(points, margin=0.25, align=False)
    return _Face(points.astype(np.float32), np.full(52, 0.5, np.float32), square)


def follow(*frames: list[_Face]):
    """Tracks through frames 0.1 s apart, cut as a tracker would."""
    followed = []
    for index, faces in enumerate(frames):
        _link(followed, index, index / 10, faces)
    for track in followed:
        for index, face in track.faces.items():
            track.boxes[index] = face.square.box
            track.crops[index] = np.full((8, 8, 3), round(face.square.x) % 256, np.uint8)
    return followed, np.arange(len(frames)) / 10


def test_the_center_is_cut_from_every_frame():
    images = [np.random.default_rng(k).integers(0, 255, (40, 60, 3), dtype=np.uint8) for k in range(3)]
    tracker = build_tracker("center", crop_px=20, center_size=0.5)
    track, warnings = tracker.track(Frame(0.1 * k, image) for k, image in enumerate(images))
    assert warnings == []
    assert track.found.all()
    np.testing.assert_allclose(track.times, [0, 0.1, 0.2])
    np.testing.assert_array_equal(track.boxes, [[20, 10, 40, 30]] * 3)
    np.testing.assert_array_equal(track.crops, [image[10:30, 20:40] for image in images])
    assert track.landmarks is None
    assert track.blendshapes is None


def test_without_frames_there_is_no_track():
    assert CenterTracker(8, 0.9).track([])[0] is None
    assert _chosen([], np.zeros(7), 8) == (None, ["no face in any of 7 frames"])


def test_a_face_is_followed_over_frames_that_miss_it():
    followed, times = follow([face_at(100)], [], [face_at(110)], [face_at(118)])
    track, warnings = _chosen(followed, times, 8)
    np.testing.assert_array_equal(track.found, [True, False, True, True])
    assert warnings == ["no face in 1 of 4 frames"]
    assert np.isnan(track.boxes[1]).all()
    assert np.isnan(track.landmarks[1]).all()
    assert np.isnan(track.blendshapes[1]).all()
    assert (track.crops[1] == 0).all()
    np.testing.assert_allclose(track.crops[:, 0, 0, 0], [100, 0, 110, 118], atol=2)
    np.testing.assert_allclose(track.landmarks[3].mean(axis=0), [118, 100], atol=2)


def test_two_faces_keep_their_own_tracks_whatever_their_order():
    followed, times = follow([face_at(100), face_at(300)], [face_at(305), face_at(104)], [face_at(108)])
    assert [len(t.faces) for t in followed] == [3, 2]
    track, warnings = _chosen(followed, times, 8)
    np.testing.assert_allclose(track.crops[:, 0, 0, 0], [100, 104, 108], atol=2)
    assert warnings == ["2 face tracks; took the longest, seen in 100% of the frames"]


def test_two_detections_of_one_face_do_not_share_a_track():
    followed, _ = follow([face_at(100)], [face_at(104), face_at(101)])
    assert [len(t.faces) for t in followed] == [2, 1]
    np.testing.assert_allclose(followed[0].faces[1].landmarks.mean(axis=0), [101, 100], atol=2)


def test_of_equally_long_tracks_the_largest_is_taken():
    frames = [[face_at(100, size=30), face_at(200, size=50)]] * 20
    frames[7] = [face_at(100, size=30)]  # one missed frame does not decide
    track, _ = _chosen(*follow(*frames), 8)
    np.testing.assert_allclose(track.crops[track.found][:, 0, 0, 0], 200, atol=2)


def test_a_face_elsewhere_is_another_track():
    followed, _ = follow([face_at(100)], [face_at(400)])
    assert len(followed) == 2


def test_none_means_no_faces():
    assert build_tracker("none", crop_px=8) is None


def test_unknown_tracker():
    with pytest.raises(ConfigError, match="'mediapip': allowed are mediapipe, center, none"):
        build_tracker("mediapip", crop_px=8)
    assert set(TRACKERS) == {"mediapipe", "center"}


def test_a_missing_model_is_explained(tmp_path, monkeypatch):
    monkeypatch.delenv("AVSER_MODELS", raising=False)
    with pytest.raises(ConfigError, match=r"face_landmarker.task.*model card.*media.faces.model=.*\$AVSER_MODELS"):
        build_tracker("mediapipe", crop_px=8)
    monkeypatch.setenv("AVSER_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match=f"there is no {tmp_path / 'face_landmarker.task'}"):
        build_tracker("mediapipe", crop_px=8)


def test_a_file_that_is_no_model_is_refused_before_any_clip(tmp_path):
    path = tmp_path / "face_landmarker.task"
    for content in (b"", b"not a model"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is not a FaceLandmarker model"):
            build_tracker("mediapipe", crop_px=8, model=str(path))


@pytest.mark.parametrize(
    ("package", "library"), [("mediapipe", "libGLESv2.so.2"), ("mediapipe", "libEGL.so.1"), ("cv2", "libGL.so.1")]
)
def test_a_missing_system_library_is_named_with_its_package(tmp_path, package, library):
    (tmp_path / f"{package}.py").write_text(f'raise ImportError("{library}: cannot open shared object file")')
    (tmp_path / "face_landmarker.task").touch()
    program = f"""
import numpy as np
from avser.errors import ConfigError
from avser.media.faces import build_tracker
from avser.media.video import Frame
try:
    tracker = build_tracker({"mediapipe" if package == "mediapipe" else "center"!r}, crop_px=8, model={str(tmp_path)!r})
    tracker.track([Frame(0.0, np.zeros((16, 16, 3), np.uint8))])
except ConfigError as error:
    print(error)
"""
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    [line] = done.stdout.splitlines()
    assert library in line
    assert "apt-get install libgl1 libegl1 libgles2" in line


def test_trackers_travel_to_other_processes():
    tracker = MediaPipeTracker(112, Path("a.task"), 3, 0.25, 0.2, True)
    assert pickle.loads(pickle.dumps(tracker)) == tracker


def test_neither_opencv_nor_mediapipe_is_imported_before_a_face_is_wanted():
    program = "import sys, avser.media.clip; sys.exit(bool({'cv2', 'mediapipe'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


# --- with the real detector ---------------------------------------------------------------------------------------


@pytest.fixture
def tracker(real_data):
    return build_tracker("mediapipe", crop_px=112, model=str(real_data / "models" / "face_landmarker.task"))


@pytest.fixture
def angry(real_data):
    return list(iterate_frames(real_data / "cremad" / "VideoFlash" / "1001_DFA_ANG_XX.flv", fps=15))


@pytest.mark.real_data
def test_the_model_is_found_by_the_environment(real_data, monkeypatch):
    monkeypatch.setenv("AVSER_MODELS", str(real_data / "models"))
    assert build_tracker("mediapipe", crop_px=8).model == real_data / "models" / "face_landmarker.task"


@pytest.mark.real_data
def test_every_frame_of_the_real_clips_shows_a_face(real_data, tracker):
    tracks = [tracker.track(iterate_frames(p)) for p in sorted((real_data / "cremad" / "VideoFlash").glob("*.flv"))]
    assert sum(int(track.found.sum()) for track, _ in tracks) == 379
    assert not any(warnings for _, warnings in tracks)
    track = tracks[0][0]
    assert track.crops.shape == (67, 112, 112, 3)
    assert track.landmarks.shape == (67, 478, 2)
    assert track.blendshapes.shape == (67, 52)
    assert 0 <= track.blendshapes.min() < track.blendshapes.max() <= 1
    inside = (track.landmarks >= track.boxes[:, None, :2]) & (track.landmarks <= track.boxes[:, None, 2:])
    assert inside.mean() > 0.999


@pytest.mark.real_data
def test_nothing_of_one_clip_is_left_for_the_next(real_data, tracker, angry):
    first, _ = tracker.track(angry)
    tracker.track(iterate_frames(real_data / "clips" / "single_face.mp4", fps=10))
    again, _ = tracker.track(angry)
    np.testing.assert_array_equal(first.crops, again.crops)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)


@pytest.mark.real_data
def test_smoothing_takes_the_jitter_out_of_the_crops(tracker, angry):
    def jitter(track):
        return np.abs(np.diff(track.boxes, 2, axis=0)).mean()

    rough, _ = replace(tracker, smooth_s=0.0).track(angry)
    smooth, _ = tracker.track(angry)
    assert jitter(smooth) < jitter(rough) / 5


@pytest.mark.real_data
def test_smoothing_does_not_lag_behind_a_face_that_moves(tracker, angry):
    """The picture moves 75 px a second; a mean over the past alone would trail by some 10 px."""
    moving = [Frame(f.time_s, np.roll(f.image, 5 * k, axis=1)) for k, f in enumerate(angry[:24])]
    track, _ = tracker.track(moving)
    offset = track.landmarks[:, :, 0].mean(axis=1) - track.boxes[:, [0, 2]].mean(axis=1)
    still, _ = tracker.track(angry[:24])
    usual = still.landmarks[:, :, 0].mean(axis=1) - still.boxes[:, [0, 2]].mean(axis=1)
    assert abs((offset - usual)[8:-8].mean()) < 2


@pytest.mark.real_data
@pytest.mark.parametrize("degrees", [-20, 20])
def test_a_tilted_head_is_levelled(tracker, angry, degrees):
    height, width = angry[0].image.shape[:2]
    view = Square(width / 2, height / 2, height, np.deg2rad(degrees))
    tilted = [Frame(f.time_s, cut_square(f.image, view, height)) for f in angry[:8]]
    upright = [Frame(f.time_s, cut_square(f.image, replace(view, angle=0.0), height)) for f in angry[:8]]
    level, _ = tracker.track(tilted)
    crooked, _ = replace(tracker, align=False).track(tilted)
    expected, _ = tracker.track(upright)

    def difference(track):
        middle = slice(30, 82)
        return np.abs(track.crops[:, middle, middle].astype(float) - expected.crops[:, middle, middle]).mean()

    assert difference(level) < 0.5 * difference(crooked)


@pytest.mark.real_data
def test_of_two_faces_the_larger_is_followed_and_both_are_counted(tracker, angry):
    def double(frame):
        image = np.zeros((360, 760, 3), np.uint8)
        image[:, :480] = frame.image
        image[45:315, 490:760] = cut_square(frame.image, Square(240, 180, 360), 270)
        return Frame(frame.time_s, image)

    track, [warning] = tracker.track(double(f) for f in angry)
    assert warning.startswith("2 face tracks")
    assert (track.boxes[track.found, 2] < 480).all()


@pytest.mark.real_data
def test_frames_closer_than_a_millisecond_and_tiny_ones_do_no_harm(tracker, angry):
    close = [Frame(k * 1e-4, f.image) for k, f in enumerate(angry[:5])]
    assert tracker.track(close)[0].found.all()
    assert tracker.track([Frame(0.0, np.zeros((1, 1, 3), np.uint8))])[0] is None
