"""Orders of moments: by a curve, by chance, by loudness and motion, by hand."""

import numpy as np
import pytest
import torch

from avser.roi.trust.controls import CONTROLS, cell_values, control_curves, control_ranks, curve_ranks, rank_cells
from avser.structures import AUDIO, VIDEO, Batch, Curve

RATE = 1000


def voice(levels, *, cell_s=0.02) -> Batch:
    """A clip whose samples in cell k are all +-levels[k]."""
    size = round(cell_s * RATE)
    samples = torch.tensor(levels).repeat_interleave(size) * torch.tensor([1.0, -1.0]).repeat(len(levels) * size // 2)
    return Batch(["a"], samples[None], torch.ones(1, len(samples), dtype=torch.bool), RATE)


def face(values, mask=None) -> Batch:
    """Face features (T, F), a step every 20 ms."""
    x = torch.tensor(values, dtype=torch.float32)[None]
    there = torch.ones(1, x.shape[1], dtype=torch.bool) if mask is None else torch.tensor([mask])
    return Batch(["a"], face_features=x, feature_times=torch.arange(x.shape[1])[None] * 0.02, feature_mask=there)


def everywhere(num_cells: int, num_clips: int = 1) -> np.ndarray:
    return np.ones((num_clips, num_cells), dtype=bool)


def test_a_cell_is_the_mean_of_its_steps_and_lies_on_a_line_where_it_has_none():
    fine = Curve(np.arange(6) * 0.01 + 0.005, np.array([1.0, 3, 5, 5, 0, 8]))
    np.testing.assert_allclose(cell_values(fine, 3, 0.02), [2, 5, 4])
    coarse = Curve(np.array([0.03, 0.11]), np.array([2.0, 10]))
    np.testing.assert_allclose(cell_values(coarse, 7, 0.02), [2, 2, 4, 6, 8, 10, 10])  # level beyond the outer steps
    assert not cell_values(Curve(np.zeros(0), np.zeros(0)), 4, 0.02).any()
    holed = Curve(np.arange(3) * 0.02, np.array([1.0, np.nan, 4.0]))
    np.testing.assert_allclose(cell_values(holed, 3, 0.02), [1, 1, 4])


def test_the_highest_goes_first_and_empty_cells_never():
    occupied = np.array([True, False, True, True])
    rank = rank_cells(np.array([-1.0, 9, 0.5, -3]), occupied, np.random.default_rng(0))
    assert rank.tolist() == [1, 4, 0, 2]


def test_ties_fall_by_chance_and_rounding_breaks_none():
    values = np.array([1.0, 1.0 + 1e-12, 1.0 - 1e-12, 0.0])
    firsts = [
        rank_cells(values, np.ones(4, dtype=bool), np.random.default_rng(seed)).tolist().index(0) for seed in range(60)
    ]
    assert set(firsts) == {0, 1, 2}
    assert min(firsts.count(i) for i in range(3)) >= 8


def test_a_clip_has_the_same_order_in_any_company():
    flat = Curve(np.arange(8) * 0.02, np.ones(8))
    both = curve_ranks([flat, flat], ["a", "b"], everywhere(8, 2), cell_s=0.02)
    assert both.shape == (1, 2, 8)
    alone = curve_ranks([flat], ["b"], everywhere(8), cell_s=0.02)
    assert both[0, 1].tolist() == alone[0, 0].tolist() != both[0, 0].tolist()


@pytest.mark.parametrize("name", CONTROLS)
def test_every_order_names_every_occupied_cell_once(name):
    occupied = np.array([[True] * 5 + [False] * 2 + [True] * 6])
    ranks = control_ranks(voice([0.1] * 13), AUDIO, occupied, cell_s=0.02, controls=[name], num_draws=3)[name]
    assert ranks.shape == ((1 if name in ("loudness", "centre") else 3), 1, 13)
    for draw in ranks[:, 0]:
        assert sorted(draw[occupied[0]]) == list(range(11))
        assert (draw[~occupied[0]] == 13).all()


def draws(name: str, num_cells: int, num_draws: int) -> np.ndarray:
    batch = voice([0.1] * num_cells)
    return control_ranks(
        batch, AUDIO, everywhere(num_cells), cell_s=0.02, controls=[name], num_draws=num_draws, seed=3
    )[name][:, 0]


def test_a_random_stretch_stays_one_as_it_grows_and_lies_anywhere_alike():
    ranks = draws("interval", 10, 4000)
    for n in range(1, 11):
        starts = np.argmax(ranks < n, axis=1)
        assert all((row < n)[start : start + n].all() for row, start in zip(ranks[:200], starts, strict=False))
        counts = np.bincount(starts, minlength=10)
        assert (counts[: 11 - n] > 0.75 * 4000 / (11 - n)).all()
        assert counts.sum() == counts[: 11 - n].sum()


def test_evenly_spread_moments_leave_even_gaps():
    for row in draws("uniform", 64, 20):
        for n in (4, 8, 16):
            assert set(np.diff(np.flatnonzero(row < n))) == {64 // n}
    for row in draws("uniform", 50, 20):  # not a power of two: as even as can be
        assert np.diff(np.flatnonzero(row < 13)).max() <= 8
    assert len({row.argmin() for row in draws("uniform", 64, 200)}) > 40


def test_random_cells_differ_from_draw_to_draw():
    ranks = draws("random", 10, 2000)
    np.testing.assert_allclose((ranks < 3).mean(axis=0), 0.3, atol=0.05)


def test_the_loudest_comes_first():
    levels = [0.1, 0.4, 0.2, 0.05, 0.3]
    ranks = control_ranks(voice(levels), AUDIO, everywhere(5), cell_s=0.02, controls=["loudness"])["loudness"]
    assert ranks[0, 0].tolist() == [3, 0, 2, 4, 1]


def test_loudness_is_that_of_real_samples_alone():
    batch = voice([0.1, 0.4, 0.2])
    batch.waveform_mask[0, 30:] = False  # half of the second cell, and all of the third
    occupied = np.array([[True, True, False]])
    ranks = control_ranks(batch, AUDIO, occupied, cell_s=0.02, controls=["loudness"])["loudness"]
    assert ranks[0, 0].tolist() == [1, 0, 3]


def test_a_face_that_moves_comes_first():
    # The second column jumps by 100 units, but that is its own unit: half as often as the first one, over deviation.
    still, smile = [0.0, 0.0], [1.0, 0.0]
    ranks = control_ranks(face([still, still, still, smile, smile, smile]), VIDEO, everywhere(6), cell_s=0.02)
    assert set(ranks["loudness"][0, 0][2:4]) == {0, 1}
    pixels = torch.zeros(1, 6, 3, 2, 2, dtype=torch.uint8)
    pixels[0, 4:] = 200
    batch = Batch(["a"], frames=pixels, frame_times=torch.arange(6)[None] * 0.02, frame_mask=torch.ones(1, 6).bool())
    assert set(control_ranks(batch, VIDEO, everywhere(6), cell_s=0.02)["loudness"][0, 0][3:5]) == {0, 1}


def test_units_of_face_features_do_not_count():
    wide = np.zeros((12, 2))
    wide[:, 0] = [0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]  # moves four times
    wide[:, 1] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 500, 500]  # moves once
    ranks = control_ranks(face(wide.tolist()), VIDEO, everywhere(12), cell_s=0.02, controls=["loudness"])["loudness"]
    assert set(np.flatnonzero(ranks[0, 0] < 3)) == {4, 5, 6}


def test_motion_skips_frames_without_a_face():
    values = [[0.0], [0.0], [99.0], [0.0], [1.0], [1.0]]
    mask = [True, True, False, True, True, True]
    occupied = np.array([mask])
    ranks = control_ranks(face(values, mask), VIDEO, occupied, cell_s=0.02, controls=["loudness"])["loudness"]
    assert set(np.flatnonzero(ranks[0, 0] < 2)) == {3, 4}


def test_the_centre_is_that_of_the_clip():
    occupied = np.array([[True] * 5 + [False] * 4])
    ranks = control_ranks(voice([0.1] * 9), AUDIO, occupied, cell_s=0.02, controls=["centre"])["centre"][0, 0]
    assert ranks[2] == 0
    assert set(ranks[[1, 3]]) == {1, 2}
    assert set(ranks[[0, 4]]) == {3, 4}


# --- curves ---------------------------------------------------------------------------------------------------------


def curve_of(batch, modality, control, times) -> np.ndarray:
    (curve,) = control_curves(batch, modality, control, [np.asarray(times)])
    np.testing.assert_array_equal(curve.times, times)
    return curve.values


def test_loudness_is_in_db_of_just_the_samples_of_each_step():
    """Steps of 40 ms that begin 20 ms late, over cells of 20 ms: a shift by half a step would change every value."""
    levels = [0.5, 0.1, 0.1, 0.4, 0.4, 0.01, 0.01, 0.2, 0.2, 0.9]
    found = curve_of(voice(levels), AUDIO, "loudness", [0.04, 0.08, 0.12, 0.16])
    np.testing.assert_allclose(found, 20 * np.log10(np.array([0.1, 0.4, 0.01, 0.2]) / 0.01), atol=1e-3)
    mixed = curve_of(voice([0.3, 0.1, 0.1, 0.1]), AUDIO, "loudness", [0.02, 0.06])
    assert mixed[0] == pytest.approx(10 * np.log10((0.09 + 0.01) / 2 / 0.01), abs=1e-3)  # power is averaged, not level


def test_curves_are_those_of_real_samples_in_any_company():
    one, other = voice([0.1, 0.4, 0.2]), voice([0.3, 0.2, 0.1])
    batch = Batch(["a", "b"], torch.cat([one.waveform, other.waveform]), torch.ones(2, 60).bool(), RATE)
    batch.waveform_mask[0, 40:] = False
    found = control_curves(batch, AUDIO, "loudness", [np.array([0.01, 0.03]), np.array([0.01, 0.03, 0.05])])
    np.testing.assert_allclose(found[0].values, [0, 20 * np.log10(4)], atol=1e-3)
    np.testing.assert_allclose(found[1].values, 20 * np.log10([3, 2, 1]), atol=1e-3)
    assert len(control_curves(batch, AUDIO, "loudness", [np.zeros(0), np.array([0.01])])[0]) == 0
    late = curve_of(voice([0.1, 0.4]), AUDIO, "loudness", [0.01, 0.03, 0.05, 0.07])  # steps past the last sample
    np.testing.assert_allclose(late[2:], late[1], atol=1e-6)


def test_motion_is_that_of_the_frames_of_each_step():
    pixels = torch.zeros(1, 8, 3, 2, 2, dtype=torch.uint8)
    pixels[0, 5:] = 200
    batch = Batch(["a"], frames=pixels, frame_times=torch.arange(8)[None] * 0.02, frame_mask=torch.ones(1, 8).bool())
    by_frame = curve_of(batch, VIDEO, "loudness", np.arange(8) * 0.02)
    np.testing.assert_allclose(by_frame, [0, 0, 0, 0, 100, 100, 0, 0])
    by_two = curve_of(batch, VIDEO, "loudness", np.arange(4) * 0.04 + 0.01)
    np.testing.assert_allclose(by_two, [0, 0, 100, 0])
    between = curve_of(batch, VIDEO, "loudness", np.arange(15) * 0.01)  # steps without a frame lie on a line
    np.testing.assert_allclose(between[7:13], [50, 100, 100, 100, 50, 0], atol=1e-4)


def test_the_middle_is_highest_and_both_ends_are_nought():
    found = curve_of(voice([0.1] * 9), AUDIO, "centre", [0.1, 0.2, 0.4, 0.5])
    np.testing.assert_allclose(found, [0, 0.1, 0.1, 0], atol=1e-12)
