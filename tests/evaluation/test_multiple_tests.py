"""Adjusted p-values and sign flips, by hand and against the tests' own promises."""

from __future__ import annotations

import numpy as np
import pytest

from avser.evaluation.multiple_tests import benjamini_hochberg, holm, sign_flip


def test_benjamini_hochberg_by_hand() -> None:
    # Sorted: .01 * 4, .02 * 4/2, .03 * 4/3, .5 * 1; the smallest from behind is taken
    np.testing.assert_allclose(benjamini_hochberg([0.02, 0.5, 0.01, 0.03]), [0.04, 0.5, 0.04, 0.04])
    np.testing.assert_allclose(benjamini_hochberg([0.9, 0.8]), [0.9, 0.9])


def test_holm_by_hand() -> None:
    # Sorted: .01 * 3, .02 * 2, .03 * 1; none may be smaller than the one before
    np.testing.assert_allclose(holm([0.02, 0.03, 0.01]), [0.04, 0.04, 0.03])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])


@pytest.mark.parametrize("adjust", [benjamini_hochberg, holm])
def test_tests_that_could_not_be_made_are_not_counted(adjust) -> None:
    adjusted = adjust([0.02, np.nan, 0.01])
    assert np.isnan(adjusted[1])
    np.testing.assert_allclose(adjusted[[0, 2]], adjust([0.02, 0.01]))
    assert len(adjust([])) == 0


def test_sign_flips_of_few_speakers_are_enumerated() -> None:
    # Means 1, 2, -1: sums over all signs are 4, 2, 2, 0 and their opposites; observed 2
    values, speakers = np.array([1.0, 3.0, 1.0, -1.0]), ["a", "b", "b", "c"]
    assert sign_flip(values, speakers, tail="greater") == 3 / 8
    assert sign_flip(values, speakers, tail="less") == 7 / 8
    assert sign_flip(values, speakers) == 6 / 8
    assert sign_flip(np.ones(50), ["one speaker"] * 50, tail="greater") == 0.5  # more clips do not help


def test_many_speakers_are_sampled_with_a_seed() -> None:
    rng = np.random.default_rng(0)
    values, speakers = rng.normal(0.3, 1, 40), [str(i) for i in range(40)]
    exact = sign_flip(values[:13], speakers[:13], num_flips=2**13)
    assert sign_flip(values[:13], speakers[:13], num_flips=2**13 - 1) == pytest.approx(exact, abs=0.02)
    assert sign_flip(values, speakers, seed=1) == sign_flip(values, speakers, seed=1)
    assert sign_flip(np.ones(40), speakers, num_flips=99, tail="greater") == 1 / 100


def test_sign_flips_reject_a_true_null_as_often_as_they_say() -> None:
    """Also where clips of a speaker agree, which a test over clips would take for many findings."""
    rng = np.random.default_rng(1)
    speakers = [str(i) for i in np.repeat(np.arange(8), 10)]
    p = [sign_flip(np.repeat(rng.normal(size=8), 10), speakers) for _ in range(600)]
    assert 0.025 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        sign_flip(np.array([1.0, np.nan]), ["a", "b"])
    with pytest.raises(ValueError, match="as many of both"):
        sign_flip(np.ones(2), ["a"])
    with pytest.raises(ValueError, match="tail"):
        sign_flip(np.ones(2), ["a", "b"], tail="upper")
