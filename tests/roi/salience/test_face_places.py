"""Places of the face: the mesh's own lines, pixels by hand, and landmarks where the tracker's crops show them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from avser.media.crops import Square, cut_square
from avser.media.faces import MediaPipeTracker, build_tracker
from avser.media.video import iterate_frames
from avser.roi.salience import face_places
from avser.roi.salience.face_places import PLACES, crop_squares, fill_polygon, into_crop, place_masks, usual_masks


def test_brows_eyes_lips_and_nose_are_those_of_mediapipe() -> None:
    vision = pytest.importorskip("mediapipe.tasks.python.vision")
    mesh = vision.FaceLandmarksConnections

    def points(*names: str) -> set[int]:
        return {i for name in names for c in getattr(mesh, f"FACE_LANDMARKS_{name}") for i in (c.start, c.end)}

    assert set(face_places.LEFT_BROW) == points("RIGHT_EYEBROW")  # the person's right is on the left of the picture
    assert set(face_places.RIGHT_BROW) == points("LEFT_EYEBROW")
    assert set(face_places.LEFT_EYE) == points("RIGHT_EYE")
    assert set(face_places.RIGHT_EYE) == points("LEFT_EYE")
    assert set(face_places.NOSE) == points("NOSE")
    assert set(face_places.LIPS) < points("LIPS")
    outline = {
        frozenset(pair) for pair in zip(face_places.LIPS, face_places.LIPS[1:] + face_places.LIPS[:1], strict=True)
    }
    assert outline <= {frozenset((c.start, c.end)) for c in mesh.FACE_LANDMARKS_LIPS}  # neighbours are joined
    jaw = face_places.JAW[:15]
    oval = {frozenset((c.start, c.end)) for c in mesh.FACE_LANDMARKS_FACE_OVAL}
    assert {frozenset(pair) for pair in pairwise(jaw)} <= oval


def test_a_polygon_fills_the_pixels_whose_middle_it_holds() -> None:
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])  # middles with x + y < 4
    expected = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    assert np.array_equal(fill_polygon(triangle, 4, 5), expected)
    assert np.array_equal(fill_polygon(triangle[::-1], 4, 5), expected)
    beyond = fill_polygon(np.array([[-9.0, -9.0], [9.0, -9.0], [9.0, 1.4], [-9.0, 1.4]]), 3, 3)
    assert beyond.tolist() == [[True] * 3, [False] * 3, [False] * 3]
    assert not fill_polygon(np.zeros((0, 2)), 2, 2).any()


@pytest.mark.parametrize("square", [Square(40, 30, 20), Square(50.3, 41.7, 28, 0.4), Square(45, 40, 60, -1.2)])
def test_a_point_lies_in_the_crop_where_the_crop_shows_it(square) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        x, y = (rng.uniform(-0.3, 0.3, 2) * square.side + (square.x, square.y)).round() + 0.5  # middle of a pixel
        image = np.zeros((80, 100, 3), np.uint8)
        image[int(y), int(x)] = 255
        crop = cut_square(image, square, 40)[..., 0].astype(float)
        rows, columns = np.mgrid[:40, :40] + 0.5
        seen = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
        np.testing.assert_allclose(into_crop(np.array([x, y]), square, 40), seen, atol=0.35)


@pytest.mark.parametrize("options", [{}, {"margin": 0.1, "smooth_s": 0.0, "align": False}])
def test_squares_are_those_of_the_tracker(real_data, options) -> None:
    pytest.importorskip("mediapipe")
    tracker = build_tracker("mediapipe", crop_px=64, every=1, **options)
    assert isinstance(tracker, MediaPipeTracker)
    track, _ = tracker.track(frame for frame in iterate_frames(real_data / "clips" / "single_face.mp4", fps=4))
    assert track is not None
    found = track.found
    squares = crop_squares(track.times[found], track.landmarks[found], **options)
    np.testing.assert_allclose([s.box for s in squares], track.boxes[found], atol=0.01)
    points = into_crop(track.landmarks[found][0], squares[0], 64)
    masks = place_masks(points, 64, 64)
    assert (points > 0).all()
    assert (points < 64).all()
    middle = {name: np.argwhere(mask).mean(axis=0) for name, mask in masks.items()}
    order = [middle[name][0] for name in ("brows", "eyes", "nose", "mouth", "jaw")]
    assert order == sorted(order)  # from the top down
    if not options:  # the usual face is where a real one is
        usual = usual_masks(64, 64)
        for name in PLACES:
            assert np.abs(np.argwhere(usual[name]).mean(axis=0) - middle[name]).max() < 3


@pytest.mark.parametrize("smooth_s", [0.2, 0.0, 2.0])
def test_squares_are_those_of_the_tracker_that_knows_the_past_alone(real_data, smooth_s) -> None:
    pytest.importorskip("mediapipe")
    tracker = build_tracker("mediapipe_past", crop_px=64, smooth_s=smooth_s)
    frames = list(iterate_frames(real_data / "clips" / "single_face.mp4", fps=6))
    gone = [frame for frame in frames if not 0.8 <= frame.time_s < 2.0]  # longer than a face is waited for
    track, _ = tracker.track(iter(gone))
    assert track is not None
    found = track.found
    squares = crop_squares(track.times[found], track.landmarks[found], smooth_s=smooth_s, past=True)
    np.testing.assert_allclose([s.box for s in squares], track.boxes[found], atol=0.01)


def test_places_are_disjoint_and_alike_on_both_sides() -> None:
    usual = usual_masks(112, 112)
    assert list(usual) == list(PLACES)
    assert np.sum(list(usual.values()), axis=0).max() == 1
    for mask in usual.values():
        assert mask.any()
        assert np.array_equal(mask, mask[:, ::-1])
    points = np.random.default_rng(0).uniform(0, 30, (478, 2))  # no face at all: everything overlaps
    assert np.sum(list(place_masks(points, 30, 30).values()), axis=0).max() == 1


def test_the_brow_is_the_hull_of_its_points() -> None:
    points = np.full((478, 2), -100.0)
    corners = np.array([[2.0, 2.0], [8.0, 2.0], [8.0, 6.0], [2.0, 6.0]])
    points[list(face_places.LEFT_BROW)] = np.concatenate([corners, corners, [[5.0, 4.0], [5.0, 2.0]]])
    brows = place_masks(points, 10, 10)["brows"]
    expected = np.zeros((10, 10), bool)
    expected[2:6, 2:8] = True
    assert np.array_equal(brows, expected)
