"""The lag from boxes: exact where both curves have one, guided by the other curve and the limit where one has not."""

import numpy as np
import pytest

from avser.roi.alignment.box_lag import box_lag_s, box_profile
from avser.structures import Curve

STEPS = {"audio": 0.04, "video": 0.08}


def bump(step_s, start_s, end_s, *, duration_s=2.8, height=1.0, noise=0.0, seed=0):
    times = np.arange(step_s / 2, duration_s, step_s)
    drawn = np.random.default_rng(seed).normal(0, noise, len(times)) if noise else 0
    return Curve(times, 0.1 + height * ((times > start_s) & (times < end_s)) + drawn)


def test_a_box_explains_itself_and_nothing_else_does_so_well():
    centres, shares = box_profile(bump(0.02, 1.0, 1.6), smooth_s=0)
    assert shares.max() == pytest.approx(1, abs=1e-9)
    assert centres[shares.argmax()] == pytest.approx(1.3, abs=0.011)
    assert (shares[np.abs(centres - 1.3) > 0.1] < 0.9).all()
    assert centres[0] == pytest.approx(0.1)
    assert centres[-1] == pytest.approx(2.7, abs=0.011)


def test_a_dip_is_no_box():
    dip = bump(0.02, 1.0, 1.6)
    centres, shares = box_profile(Curve(dip.times, 2 - dip.values), smooth_s=0)
    assert shares[np.abs(centres - 1.3) < 0.02].max() < 0.2


@pytest.mark.parametrize("lag_s", [-0.3, -0.04, 0.0, 0.12, 0.38])
def test_the_lag_of_two_boxes_is_found_at_any_step(lag_s):
    face = bump(STEPS["video"], 1.0, 1.7, noise=0.05, seed=1)
    voice = bump(STEPS["audio"], 1.05 + lag_s, 1.65 + lag_s, noise=0.05, seed=2)
    assert box_lag_s(voice, face, sharpness=40) == pytest.approx(lag_s, abs=0.03)
    assert box_lag_s(face, voice, sharpness=40) == pytest.approx(-lag_s, abs=0.03)


def test_a_stronger_box_that_is_too_far_away_is_passed_over():
    face = bump(STEPS["video"], 0.4, 1.0)
    voice = bump(STEPS["audio"], 0.5, 1.1, height=0.8)
    voice = Curve(voice.times, voice.values + bump(STEPS["audio"], 2.0, 2.6).values)
    assert box_lag_s(voice, face, sharpness=40) == pytest.approx(0.1, abs=0.05)
    assert box_lag_s(voice, face, max_lag_s=2.0, sharpness=40) == pytest.approx(1.6, abs=0.1)


def test_an_unclear_curve_draws_the_lag_towards_none():
    face = bump(STEPS["video"], 1.0, 1.6)
    clear, unclear = (bump(STEPS["audio"], 1.3, 1.9, noise=noise, seed=3) for noise in (0.02, 1.0))
    assert (
        abs(box_lag_s(unclear, face, sharpness=5)) < box_lag_s(clear, face, sharpness=5) == pytest.approx(0.3, abs=0.1)
    )


def test_flat_or_missing_curves_have_no_lag():
    face, flat = bump(0.08, 1.0, 1.6), Curve(np.arange(0.02, 2, 0.04), np.ones(50))
    for voice in (flat, Curve(np.zeros(0), np.zeros(0)), Curve(face.times, np.full(len(face), np.nan))):
        assert np.isnan(box_lag_s(voice, face))
