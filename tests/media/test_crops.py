from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.media.crops import (
    LEFT_EYE,
    RIGHT_EYE,
    Square,
    cut_square,
    face_square,
    overlap,
    smooth_square,
    square_between,
)


def face(angle: float = 0.0, centre: tuple[float, float] = (200.0, 150.0)) -> np.ndarray:
    """(478, 2): points in a rectangle of 80 by 120 px, eyes level; the whole turned clockwise by `angle` radians."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-40, -60], [40, 60], (478, 2))
    points[0], points[1] = (-40, -60), (40, 60)
    points[list(LEFT_EYE)] = [(-30, -20), (-10, -20)]
    points[list(RIGHT_EYE)] = [(10, -20), (30, -20)]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + centre


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_square_surrounds_the_landmarks_and_the_margin():
    square = face_square(face(), margin=0.25, align=False)
    assert (square.x, square.y, square.angle) == (pytest.approx(200), pytest.approx(150), 0)
    assert square.side == pytest.approx(120 * 1.5)
    np.testing.assert_allclose(square.box, [110, 60, 290, 240], atol=1e-3)


@pytest.mark.parametrize("degrees", [-120, -30, 0, 10, 90, 179])
def test_the_square_turns_with_the_eyes(degrees):
    angle = np.deg2rad(degrees)
    square = face_square(face(angle), margin=0.0, align=True)
    assert square.angle == pytest.approx(angle, abs=1e-9)
    assert square.side == pytest.approx(120)
    assert (square.x, square.y) == (pytest.approx(200), pytest.approx(150))


def test_a_square_on_the_pixel_grid_is_cut_unchanged():
    image = picture()
    np.testing.assert_array_equal(cut_square(image, Square(30, 25, 20), 20), image[15:35, 20:40])


def test_a_quarter_turn_is_undone():
    image = picture()
    turned = np.rot90(image, -1)  # clockwise: what a face does whose square has the angle +90 degrees
    crop = cut_square(np.ascontiguousarray(turned), Square(60 - 25, 30, 20, np.pi / 2), 20)
    np.testing.assert_array_equal(crop, image[15:35, 20:40])


def test_beyond_the_edge_is_black():
    crop = cut_square(np.full((40, 40, 3), 200, np.uint8), Square(0, 20, 40), 40)
    np.testing.assert_array_equal(crop[:, :20], 0)
    np.testing.assert_array_equal(crop[:, 20:], 200)


def test_a_large_square_is_averaged_not_sampled():
    image = picture(64, 64)
    crop = cut_square(image, Square(32, 32, 64), 16)
    expected = image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(crop, expected, atol=1)


@pytest.mark.parametrize(("size", "crop_px"), [(100, 48), (160, 112), (320, 112)])
def test_a_whole_picture_keeps_its_edges_and_its_detail(size, crop_px):
    """Against an area average of the whole: sampling a picture that was averaged too coarsely would blur it."""
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(40, 255, (size // 4, size // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    crop = cut_square(image, Square(size / 2, size / 2, size), crop_px)
    cv2 = pytest.importorskip("cv2")
    expected = cv2.resize(image, (crop_px, crop_px), interpolation=cv2.INTER_AREA)
    assert np.abs(crop.astype(float) - expected).mean() < 8
    assert crop.min() >= 35  # no black edge


def test_half_way_between_two_squares():
    middle = square_between(Square(0, 10, 20, 0.1), Square(4, 20, 10, 0.3), 0.25)
    assert (middle.x, middle.y, middle.side, middle.angle) == pytest.approx((1, 12.5, 17.5, 0.15))
    turned = square_between(Square(0, 0, 1, np.deg2rad(170)), Square(0, 0, 1, np.deg2rad(-170)), 0.5)
    assert abs(np.rad2deg(turned.angle)) == pytest.approx(180)


def test_a_small_square_is_enlarged():
    crop = cut_square(picture(), Square(30, 25, 5), 20)
    assert crop.shape == (20, 20, 3)


def test_smoothing_keeps_what_does_not_move():
    squares = [Square(3, 4, 5, 0.3)] * 9
    smooth = smooth_square(0.4, np.arange(9) / 10, squares, 0.2)
    assert (smooth.x, smooth.y, smooth.side, smooth.angle) == pytest.approx((3, 4, 5, 0.3))


def test_smoothing_does_not_lag_behind_a_steady_move():
    times = np.arange(21) / 20
    squares = [Square(100 * t, 0, 10) for t in times]
    assert smooth_square(0.5, times, squares, 0.1).x == pytest.approx(50)


def test_smoothing_is_gaussian():
    times = np.array([0.0, 0.2])
    smooth = smooth_square(0.0, times, [Square(0, 0, 1), Square(1, 0, 1)], 0.2)
    assert smooth.x == pytest.approx(np.exp(-0.5) / (1 + np.exp(-0.5)))


def test_angles_are_averaged_on_the_circle():
    squares = [Square(0, 0, 1, np.deg2rad(a)) for a in (179, -179)]
    smooth = smooth_square(0.0, np.array([-0.1, 0.1]), squares, 0.2)
    assert abs(np.rad2deg(smooth.angle)) == pytest.approx(180)


def test_no_smoothing():
    squares = [Square(0, 0, 1), Square(9, 9, 2)]
    assert smooth_square(0.1, np.array([0.0, 0.1]), squares, 0) == squares[1]


def test_overlap_by_hand():
    a = np.array([0.0, 0, 2, 2])
    assert overlap(a, np.array([1.0, 0, 3, 2])) == pytest.approx(2 / 6)
    assert overlap(a, a) == 1
    assert overlap(a, np.array([2.0, 0, 3, 2])) == 0
    assert overlap(a[[0, 0, 0, 0]], a[[0, 0, 0, 0]]) == 0


@given(st.lists(st.floats(0, 100), min_size=8, max_size=8))
def test_overlap_is_symmetric_and_a_share(numbers):
    a, b = (np.array(sorted(n[:2]) + sorted(n[2:]))[[0, 2, 1, 3]] for n in (numbers[:4], numbers[4:]))
    assert overlap(a, b) == pytest.approx(overlap(b, a))
    assert 0 <= overlap(a, b) <= 1 + 1e-9
