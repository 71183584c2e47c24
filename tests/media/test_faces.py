from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avser.config import load_config
from avser.errors import ConfigError
from avser.media.audio import read_audio
from avser.media.crops import Square, cut_square
from avser.media.faces import TRACKERS, CenterTracker, MediaPipeTracker, build_tracker, kept_open
from avser.media.jpeg import JpegCrops, decode_jpeg, encode_jpeg
from avser.media.landmarker import FaceLandmarker, _closer_looks
from avser.media.speaker import measure_loudness
from avser.media.video import Frame, iterate_frames


def test_the_center_is_cut_from_every_frame():
    images = [np.random.default_rng(k).integers(0, 255, (40, 60, 3), dtype=np.uint8) for k in range(3)]
    tracker = build_tracker("center", crop_px=20, center_size=0.5)
    track, warnings = tracker.track(Frame(0.1 * k, image) for k, image in enumerate(images))
    assert warnings == []
    assert track.found.all()
    np.testing.assert_allclose(track.times, [0, 0.1, 0.2])
    np.testing.assert_array_equal(track.boxes, [[20, 10, 40, 30]] * 3)
    assert isinstance(track.crops, JpegCrops)
    np.testing.assert_array_equal(track.crops, [decode_jpeg(encode_jpeg(image[10:30, 20:40])) for image in images])
    assert track.landmarks is None
    assert track.blendshapes is None


def test_without_frames_there_is_no_track():
    assert CenterTracker(8, 0.9).track([]) == (None, ["no frames"])


def test_many_frames_take_little_memory():
    """2000 crops of 64 px are 25 MB as pixels; of a plain picture they are less than 2 MB as JPEG."""
    image = np.full((128, 128, 3), 90, np.uint8)
    tracker = build_tracker("center", crop_px=64)
    tracker.track([Frame(0.0, image)])
    tracemalloc.start()
    track, _ = tracker.track(Frame(k / 30, image.copy()) for k in range(2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(track) == 2000
    assert peak < 5e6


def test_none_means_no_faces():
    assert build_tracker("none", crop_px=8) is None


def test_unknown_choice():
    with pytest.raises(ConfigError, match="choose='middle': allowed are longest, largest, left, right, speaking"):
        build_tracker("center", crop_px=8, choose="middle")


@pytest.mark.parametrize("setting", ["every=0", "every=-1", "detect_px=-1", "choose=middle"])
def test_settings_out_of_range_are_refused_by_the_configuration(setting):
    with pytest.raises(ConfigError, match=f"media.faces.{setting.split('=')[0]}"):
        load_config([f"media.faces.{setting}"])


def test_unknown_tracker():
    with pytest.raises(ConfigError, match="'mediapip': allowed are mediapipe, mediapipe_past, center, none"):
        build_tracker("mediapip", crop_px=8)
    assert set(TRACKERS) == {"mediapipe", "mediapipe_past", "center"}


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
        tracker = build_tracker("mediapipe", crop_px=8, model=str(path))
        with pytest.raises(ConfigError, match="is not a FaceLandmarker model"), kept_open(tracker):
            pass
        with pytest.raises(ConfigError, match="is not a FaceLandmarker model"):
            tracker.track([Frame(0.0, np.zeros((16, 16, 3), np.uint8))])


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
    tracker = MediaPipeTracker(112, Path("a.task"), 3, 0.25, 0.2, True, 3, 640, "longest")
    assert pickle.loads(pickle.dumps(tracker)) == tracker


def test_neither_opencv_nor_mediapipe_is_imported_before_a_face_is_wanted():
    program = "import sys, avser.media.clip; sys.exit(bool({'cv2', 'mediapipe'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


# --- with the real detector ---------------------------------------------------------------------------------------


def mediapipe(real_data: Path, **settings) -> MediaPipeTracker:
    return build_tracker("mediapipe", crop_px=112, model=str(real_data / "models"), **settings)


@pytest.fixture(scope="module")
def tracker():
    folder = os.environ.get("AVSER_REAL_DATA")
    if not folder:
        pytest.skip("AVSER_REAL_DATA is not set")
    return mediapipe(Path(folder))


@pytest.fixture
def angry(real_data):
    return list(iterate_frames(real_data / "cremad" / "VideoFlash" / "1001_DFA_ANG_XX.flv", fps=15))


class Counting:
    """Hands frames on and counts those that the detector looks at."""

    def __init__(self, monkeypatch):
        self.times: list[float] = []
        detect = FaceLandmarker.detect
        self._detect = lambda landmarker, frame, px: (self.times.append(frame.time_s), detect(landmarker, frame, px))[1]
        monkeypatch.setattr(FaceLandmarker, "detect", self._detect)


def eye_distances(landmarks: np.ndarray) -> np.ndarray:
    return np.linalg.norm(landmarks[:, 33] - landmarks[:, 263], axis=1)


@pytest.mark.real_data
def test_the_model_is_found_by_the_environment(real_data, monkeypatch):
    monkeypatch.setenv("AVSER_MODELS", str(real_data / "models"))
    assert build_tracker("mediapipe", crop_px=8).model == real_data / "models" / "face_landmarker.task"


@pytest.mark.real_data
def test_a_tracker_in_use_travels_to_other_processes(tracker, angry):
    with tracker:
        there = pickle.loads(pickle.dumps(tracker))
    np.testing.assert_array_equal(there.track(angry[:2])[0].landmarks, tracker.track(angry[:2])[0].landmarks)


@pytest.mark.real_data
def test_the_model_is_loaded_once_for_many_clips(tracker, angry, monkeypatch):
    opened = []
    opening = FaceLandmarker._open
    monkeypatch.setattr(FaceLandmarker, "_open", lambda landmarker: (opened.append(1), opening(landmarker))[1])
    alone = [tracker.track(angry[:2])[0] for _ in range(2)]
    assert len(opened) == 2
    with kept_open(tracker):
        together = [tracker.track(angry[:2])[0] for _ in range(2)]
    assert len(opened) == 3
    np.testing.assert_array_equal(alone[0].landmarks, together[1].landmarks)
    with kept_open(None), kept_open(CenterTracker(8, 0.9)):
        pass


@pytest.mark.real_data
def test_every_frame_of_the_real_clips_shows_a_face(real_data, tracker):
    tracks = [tracker.track(iterate_frames(p)) for p in sorted((real_data / "cremad" / "VideoFlash").glob("*.flv"))]
    assert sum(int(track.found.sum()) for track, _ in tracks) == 379
    assert not any(warnings for _, warnings in tracks)
    track = tracks[0][0]
    assert isinstance(track.crops, JpegCrops)
    assert track.crops.shape == (67, 112, 112, 3)
    assert track.landmarks.shape == (67, 478, 2)
    assert track.blendshapes.shape == (67, 52)
    assert 0 <= track.blendshapes.min() < track.blendshapes.max() <= 1
    inside = (track.landmarks >= track.boxes[:, None, :2]) & (track.landmarks <= track.boxes[:, None, 2:])
    assert inside.mean() > 0.999


@pytest.mark.real_data
def test_the_detector_looks_at_some_frames_and_at_both_ends(tracker, angry, monkeypatch):
    looks = Counting(monkeypatch)
    track, warnings = replace(tracker, every=5).track(angry[:13])
    assert looks.times == [angry[k].time_s for k in (0, 5, 10, 12)]
    assert (track.found.all(), warnings) == (True, [])
    every = replace(tracker, every=1).track(angry[:13])[0]
    np.testing.assert_array_equal(track.landmarks[[0, 5, 10, 12]], every.landmarks[[0, 5, 10, 12]])
    share = (track.times[2] - track.times[0]) / (track.times[5] - track.times[0])
    between = (1 - share) * track.landmarks[0] + share * track.landmarks[5]
    np.testing.assert_allclose(track.landmarks[2], between, atol=0.01)


@pytest.mark.real_data
def test_only_the_frames_of_the_window_are_held(tracker, angry):
    """0.4 s ahead at 15 fps and those since the last look: 6 + 5, and the one that is just read."""
    alive: list[weakref.ref] = []
    most = 0

    def frames():
        nonlocal most
        for frame in angry:
            image = frame.image.copy()
            alive.append(weakref.ref(image))
            most = max(most, sum(ref() is not None for ref in alive))
            yield Frame(frame.time_s, image)
            del image

    assert tracker.track(frames())[0].found.all()
    assert 8 <= most <= 14


@pytest.mark.real_data
def test_looking_seldom_changes_little(real_data, tracker):
    errors = []
    for path in sorted((real_data / "cremad" / "VideoFlash").glob("*.flv")):
        frames = list(iterate_frames(path, fps=15))
        seldom, often = tracker.track(frames)[0], replace(tracker, every=1, detect_px=0).track(frames)[0]
        difference = np.linalg.norm(seldom.landmarks - often.landmarks, axis=2).mean(axis=1)
        errors.append(difference / eye_distances(often.landmarks))
        assert np.abs(seldom.boxes - often.boxes).mean() < 1.5
    assert np.median(np.concatenate(errors)) < 0.01


@pytest.mark.real_data
@pytest.mark.parametrize(("detect_px", "error"), [(240, 0.02), (320, 0.01), (480, 0.0), (0, 0.0)])
def test_the_picture_that_the_detector_sees_may_be_smaller(tracker, angry, detect_px, error):
    small, whole = (replace(tracker, every=4, detect_px=px).track(angry[:5])[0].landmarks for px in (detect_px, 4000))
    difference = np.linalg.norm(small - whole, axis=2).mean(axis=1) / eye_distances(whole)
    assert difference.mean() <= error
    assert (difference.mean() > 0) == (detect_px in (240, 320))


@pytest.mark.real_data
def test_where_a_face_leaves_the_frames_between_are_looked_at(real_data, tracker, monkeypatch):
    path = real_data / "clips" / "face_noface.mov"
    frames = list(iterate_frames(path, fps=15))
    often, often_said = replace(tracker, every=1).track(frames)
    looks = Counting(monkeypatch)
    seldom, seldom_said = replace(tracker, every=6).track(frames)
    np.testing.assert_array_equal(seldom.found, often.found)
    assert seldom_said == often_said
    assert len(looks.times) < 0.6 * len(frames)
    edge = int(np.flatnonzero(np.diff(often.found.astype(int)))[0])
    assert {frames[edge].time_s, frames[edge + 1].time_s} <= set(looks.times)


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

    rough, _ = replace(tracker, smooth_s=0.0, every=1).track(angry)
    smooth, _ = replace(tracker, every=1).track(angry)
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
        return np.abs(track.crops[:][:, middle, middle].astype(float) - expected.crops[:][:, middle, middle]).mean()

    assert difference(level) < 0.5 * difference(crooked)


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two CREMA-D pictures, cut to their middle: the detector finds no face that is small in the whole picture."""
    return np.hstack([left[:, 90:390], right[:, 90:390]])


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("how", "right", "words"),
    [("longest", 0, "longest"), ("left", 0, "one on the left"), ("right", 1, "one on the right")],
)
def test_of_two_faces_the_one_that_is_asked_for_is_followed(tracker, angry, how, right, words):
    """The one on the left is larger."""
    smaller = Square(240, 180, 440)
    both = [
        Frame(f.time_s, beside(f.image, np.pad(cut_square(f.image, smaller, 360), ((0, 0), (60, 60), (0, 0)))))
        for f in angry
    ]
    track, [warning] = replace(tracker, choose=how).track(both[:9])
    assert warning == f"2 face tracks; took the {words}, seen in 100% of the frames"
    assert set((track.landmarks[:, 0, 0] > 300).tolist()) == {bool(right)}


@pytest.mark.real_data
@pytest.mark.parametrize("speaker", ["left", "right"])
@pytest.mark.parametrize("name", ["1001_DFA_ANG_XX", "1001_DFA_HAP_XX", "1001_DFA_SAD_XX"])
def test_of_two_faces_the_one_that_moves_with_the_voice_speaks(real_data, tracker, monkeypatch, name, speaker):
    """Side by side: a clip with its own voice, and the same clip later by half its length."""
    path = real_data / "cremad" / "VideoFlash" / f"{name}.flv"
    frames = list(iterate_frames(path, fps=15))
    voice = measure_loudness(read_audio(path), 16000)
    late = np.roll(np.arange(len(frames)), len(frames) // 2)
    pairs = [(frames[k].image, frames[late[k]].image) for k in range(len(frames))]
    both = [Frame(f.time_s, beside(*(p if speaker == "left" else p[::-1]))) for f, p in zip(frames, pairs, strict=True)]
    looks = Counting(monkeypatch)
    track, [warning] = replace(tracker, choose="speaking").track(both, voice)
    assert warning.startswith("2 face tracks; took the one whose mouth moves with the voice")
    assert set((track.landmarks[:, 0, 0] > 300).tolist()) == {speaker == "right"}
    assert sorted(looks.times) == [f.time_s for f in frames]  # mouths are compared in every frame


@pytest.mark.real_data
def test_frames_closer_than_a_millisecond_and_tiny_ones_do_no_harm(tracker, angry):
    close = [Frame(k * 1e-4, f.image) for k, f in enumerate(angry[:5])]
    assert tracker.track(close)[0].found.all()
    assert tracker.track([Frame(0.0, np.zeros((1, 1, 3), np.uint8))])[0] is None


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_small_face_in_a_wide_picture_is_found(tracker, angry, scale):
    """A face of 16 and 8 % of the picture's height, as films show it: too small for one look at the whole."""
    cv2 = pytest.importorskip("cv2")
    small = cv2.resize(angry[0].image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    wide = np.full((720, 1280, 3), 100, np.uint8)
    wide[200 : 200 + len(small), 700 : 700 + small.shape[1]] = small
    alone, _ = tracker.track([angry[0]])
    found, warnings = tracker.track([Frame(0.0, wide)])
    assert warnings == []
    where = alone.landmarks[0] * scale + (700, 200)
    eyes = np.linalg.norm(where[33] - where[263])
    assert np.median(np.linalg.norm(found.landmarks[0] - where, axis=1)) < 0.05 * eyes


def test_windows_cover_the_picture():
    for height, width in [(720, 1280), (1280, 720), (360, 480), (270, 480), (1080, 1920), (481, 482)]:
        for windows in _closer_looks(height, width):
            seen = np.zeros((height, width), int)
            for x, y, side in windows:
                assert 0 <= x <= width - side
                assert 0 <= y <= height - side
                seen[y : y + side, x : x + side] += 1
            assert seen.min() >= 1
    assert list(_closer_looks(200, 200)) == []  # half of it would be too small
