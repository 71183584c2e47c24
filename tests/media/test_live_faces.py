"""One face followed while its pictures come in."""

import os
from dataclasses import replace

import numpy as np
import pytest

from avser.media.faces import CenterTracker, build_tracker
from avser.media.live_faces import LiveFace
from avser.media.past_faces import PastTracker
from avser.media.video import Frame, iterate_frames


def test_a_fixed_square_is_cut_as_in_a_whole_clip(tiny_corpus) -> None:
    frames = list(iterate_frames(tiny_corpus / "media" / "s01_fear_01.mp4", fps=10))
    tracker = CenterTracker(32, 0.9)
    whole, _ = tracker.track(frames)
    live = LiveFace(tracker)
    parts = [live.follow(frames[:3]), live.follow(frames[3:])]
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate([part.crops[:] for part in parts]), whole.crops[:])
    np.testing.assert_array_equal(np.concatenate([part.times for part in parts]), whole.times)


@pytest.fixture
def frames(real_data) -> list[Frame]:
    return list(iterate_frames(sorted(real_data.glob("cremad/VideoFlash/*.flv"))[0], fps=15))


@pytest.fixture
def live(real_data):
    face = LiveFace(build_tracker("mediapipe", crop_px=64))  # type: ignore[arg-type]
    yield face
    face.close()


@pytest.mark.real_data
def test_a_real_face_is_cut_about_as_in_a_whole_clip(frames, live) -> None:
    tracker = build_tracker("mediapipe", crop_px=64)
    assert tracker is not None
    whole, _ = tracker.track(frames)
    assert whole is not None
    parts = [live.follow(frames[i : i + 2]) for i in range(0, len(frames), 2)]
    boxes = np.concatenate([part.boxes for part in parts])
    assert all(part.found.all() for part in parts)
    side = float(np.diff(whole.boxes[:, [0, 2]]).mean())
    assert np.abs(boxes - whole.boxes).mean() < 0.05 * side
    crops = np.concatenate([part.crops[:] for part in parts]).astype(int)
    assert np.abs(crops - whole.crops[:]).mean() < 15
    assert np.isfinite(parts[0].landmarks).all()  # type: ignore[arg-type]


@pytest.mark.real_data
def test_from_the_past_alone_a_recording_is_cut_as_live(frames) -> None:
    """Whole, in chunks of any size, and broken off: the very same crops, places and points."""
    tracker = build_tracker("mediapipe_past", crop_px=64)
    assert isinstance(tracker, PastTracker)
    frames = [*frames[:9], *(replace(frame, image=np.zeros_like(frame.image)) for frame in frames[9:12]), *frames[12:]]
    whole, _ = tracker.track(frames)
    assert whole is not None
    assert whole.found.tolist() == [not 9 <= i < 12 for i in range(len(frames))]
    live = LiveFace(tracker)
    parts = [live.follow(frames[i : i + 3]) for i in range(0, len(frames), 3)]
    live.close()
    begun, _ = tracker.track(frames[:11])
    assert begun is not None
    for name in ("times", "crops", "found", "boxes", "landmarks", "blendshapes"):
        wanted = getattr(whole, name)[:]
        np.testing.assert_array_equal(np.concatenate([getattr(part, name)[:] for part in parts]), wanted)
        np.testing.assert_array_equal(getattr(begun, name)[:], wanted[:11])


@pytest.mark.real_data
def test_without_a_face_there_is_no_track(real_data) -> None:
    tracker = build_tracker("mediapipe_past", crop_px=64)
    assert tracker is not None
    nobody = [Frame(i / 10, np.zeros((96, 96, 3), np.uint8)) for i in range(3)]
    assert tracker.track(nobody) == (None, ["no face in any of 3 frames"])
    assert [frame.faces for frame in tracker.stream(nobody)] == [{}, {}, {}]


@pytest.mark.real_data
def test_a_face_is_kept_while_another_is_there_and_lost_for_a_second_only(frames, live) -> None:
    """Two people side by side: whoever was followed stays, however large the other becomes."""
    image = frames[0].image
    blank = np.zeros_like(image)
    alone, pair = np.hstack([image, blank]), np.hstack([image, image])
    other = np.hstack([blank, image])
    at = iter(np.arange(0, 10, 0.4).tolist())

    def look(picture: np.ndarray) -> tuple[bool, float]:
        track = live.follow([Frame(next(at), picture)])
        return bool(track.found[0]), float(np.nanmean(track.boxes[0, [0, 2]]) if track.found[0] else np.nan)

    half = image.shape[1]
    assert look(alone)[1] < half
    assert look(pair)[1] < half
    assert look(other) == (False, pytest.approx(np.nan, nan_ok=True))  # 0.4 s: nobody takes the place
    assert look(pair)[1] < half
    assert [look(other)[0] for _ in range(3)] == [False, False, True]  # after more than a second somebody does
    assert look(pair)[1] > half


def test_the_model_has_to_be_there(tmp_path, monkeypatch) -> None:
    from avser.errors import ConfigError

    monkeypatch.setitem(os.environ, "AVSER_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"face_landmarker\.task"):
        build_tracker("mediapipe", crop_px=32)
