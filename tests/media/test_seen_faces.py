"""A stream of faces gives the very tracks that a clip gives, with no more in memory than a stretch of it."""

import numpy as np
import pytest

from avser.media.faces import build_tracker
from avser.media.jpeg import encode_jpeg
from avser.media.seen_faces import SeenFace, SeenFrame, tracks_between
from avser.media.video import Frame, iterate_frames

CROP = encode_jpeg(np.zeros((8, 8, 3), np.uint8))


def seen(time_s, *numbers):
    return SeenFrame(time_s, {n: SeenFace(np.full(4, n, np.float32), CROP) for n in numbers})


def test_tracks_of_a_stretch_the_longest_first():
    frames = [seen(5.0), seen(5.1, 2), seen(5.2, 1, 2), seen(5.3, 1, 2, 9), seen(5.4, 2), seen(5.5, 2)]
    tracks = tracks_between(frames, 5.0, 8)
    assert list(tracks) == [2, 1]  # 9 is in a single frame
    assert tracks[1].times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert tracks[1].found.tolist() == [False, False, True, True, False, False]
    assert tracks[1].crops[:].shape == (6, 8, 8, 3)
    assert np.isnan(tracks[1].boxes[0]).all()
    assert tracks[1].boxes[2].tolist() == [1, 1, 1, 1]
    assert tracks[1].landmarks is None
    assert list(tracks_between(frames, 5.0, 8, min_share=0.5)) == [2]
    assert tracks_between([seen(0.0)], 0.0, 8) == {}


def test_the_centre_streams_as_it_tracks():
    rng = np.random.default_rng(0)
    frames = [Frame(i / 10, rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for i in range(7)]
    tracker = build_tracker("center", crop_px=16)
    whole, _ = tracker.track(frames)
    streamed = tracks_between(list(tracker.stream(frames)), 0.0, 16)[1]
    assert (streamed.crops[:] == whole.crops[:]).all()
    assert (streamed.boxes == whole.boxes).all()


def test_a_real_face_streams_as_it_is_tracked(real_data):
    tracker = build_tracker("mediapipe", crop_px=64, model=str(real_data / "models" / "face_landmarker.task"))
    for path in (real_data / "clips" / "single_face.mp4", real_data / "clips" / "face_noface.mov"):
        frames = list(iterate_frames(path, fps=15))
        whole, _ = tracker.track(frames)
        streamed = tracks_between(list(tracker.stream(frames)), 0.0, 64)
        one = streamed[next(iter(streamed))]
        assert (one.found == whole.found).all()
        assert (one.crops[:] == whole.crops[:]).all()
        assert one.boxes == pytest.approx(whole.boxes, nan_ok=True)
        assert one.landmarks == pytest.approx(whole.landmarks, nan_ok=True, abs=1e-3)
        assert one.blendshapes == pytest.approx(whole.blendshapes, nan_ok=True, abs=1e-6)


def test_looks_are_forgotten_on_the_way(real_data, monkeypatch):
    from avser.media import faces

    kept = []
    forget = faces.Following.forget

    def counting(self, *arguments):
        forget(self, *arguments)
        kept.append(max(len(track.squares) for track in self.tracks) if self.tracks else 0)

    monkeypatch.setattr(faces.Following, "forget", counting)
    tracker = build_tracker("mediapipe", crop_px=32, model=str(real_data / "models" / "face_landmarker.task"))
    image = next(iter(iterate_frames(real_data / "clips" / "single_face.mp4"))).image
    for _ in tracker.stream(Frame(i / 15, image) for i in range(120)):
        pass
    assert max(kept) < 30
