"""Mixtures against votes: temperatures with known optima, divergences by hand, and tests that respect speakers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avser.errors import AvserError
from avser.roi.votes import (
    HIGHEST,
    LOWEST,
    MIXTURE,
    ONE_HOT,
    PRIOR,
    SCALED_MIXTURE,
    SCALED_SOFTMAX,
    SOFTMAX,
    Calibration,
    Evidence,
    calibrate,
    compare_with_votes,
    estimate_votes,
    fit_mixture_temperature,
    fit_temperature,
    mix,
    rank_correlation,
    redraw_votes,
    softmax,
)


def js(p: list[float], q: list[float]) -> float:
    """Jensen-Shannon divergence in bits, by its definition."""
    total = 0.0
    for a, b in ((p, q), (q, p)):
        total += sum(x * math.log2(x / ((x + y) / 2)) for x, y in zip(a, b, strict=True) if x > 0) / 2
    return total


# --- temperatures ------------------------------------------------------------------------------------------------


def test_the_temperature_of_a_closed_form():
    """Logits (z, 0) that are right in 3 of 4 clips: at the optimum softmax gives 3/4, so T = z / ln 3."""
    logits = np.tile([6.0, 0.0], (4, 1))
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(6 / math.log(3))
    assert fit_temperature(logits, np.tile([0.75, 0.25], (4, 1))) == pytest.approx(6 / math.log(3))
    assert fit_temperature(logits / 60, np.array([0, 0, 0, 1])) == pytest.approx(0.1 / math.log(3))
    assert fit_temperature(logits + 1e4, np.array([0, 0, 0, 1])) == pytest.approx(6 / math.log(3))


def test_temperatures_end_where_logits_are_always_right_or_say_nothing():
    assert fit_temperature(np.tile([6.0, 0.0], (3, 1)), np.array([0, 0, 0])) == LOWEST
    assert fit_temperature(np.tile([6.0, 0.0], (3, 1)), np.array([1, 1, 0])) == HIGHEST
    with pytest.raises(ValueError, match="at least one clip"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="one clip a row"):
        fit_temperature(np.zeros((3, 2)), np.zeros((3, 4)))


def test_the_fitted_temperature_has_the_smallest_loss():
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(200, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits, 2.5)])
    best = fit_temperature(logits, labels)
    assert best == pytest.approx(2.5, rel=0.25)

    def loss(temperature):
        return -np.log(softmax(logits, temperature)[np.arange(200), labels]).mean()

    assert loss(best) < min(loss(1.03 * best), loss(best / 1.03))


def test_the_temperature_of_steps():
    """Two steps, each sure of its own emotion, weigh 0.9 and 0.1; 0.9 p + 0.1 (1 - p) is the votes' 0.8 at p = 7/8."""
    clip = Evidence(np.zeros(2), np.array([0.9, 0.1]), np.array([[4.0, 0.0], [0.0, 4.0]]))
    found = fit_mixture_temperature([clip, clip], np.tile([0.8, 0.2], (2, 1)))
    assert found == pytest.approx(4 / math.log(7), rel=1e-3)
    np.testing.assert_allclose(mix(clip, found), [0.8, 0.2], atol=1e-4)


def test_calibration_says_what_it_is_from():
    steps = Evidence(np.array([6.0, 0.0]), np.array([1.0]), np.array([[3.0, 0.0]]))
    found = calibrate([steps] * 4, np.array([0, 0, 0, 1]), source="labels of 4 validation clips")
    assert found.softmax == pytest.approx(6 / math.log(3))
    assert found.mixture == pytest.approx(3 / math.log(3), rel=1e-3)
    np.testing.assert_allclose(found.prior, [0.75, 0.25])
    assert found.source == "labels of 4 validation clips"
    given = calibrate([Evidence(np.array([6.0, 0.0]))] * 4, np.array([0, 0, 0, 1]), prior=np.array([0.5, 0.5]))
    assert given.mixture is None
    np.testing.assert_allclose(given.prior, 0.5)


# --- estimates ---------------------------------------------------------------------------------------------------

LOG = np.log
CLIP = Evidence(LOG([0.9, 0.1]), np.array([0.5, 0.5]), LOG([[0.9, 0.1], [0.3, 0.7]]))


def test_a_mixture_by_hand():
    np.testing.assert_allclose(mix(CLIP), [0.6, 0.4])
    np.testing.assert_allclose(mix(CLIP, 1e9), [0.5, 0.5])
    with pytest.raises(AvserError, match="single steps"):
        mix(Evidence(np.zeros(2)))


def test_every_estimate_by_hand():
    found = estimate_votes([CLIP], Calibration(0.5, 0.5, np.array([0.2, 0.8])))
    assert list(found) == [MIXTURE, SCALED_MIXTURE, SOFTMAX, SCALED_SOFTMAX, PRIOR, ONE_HOT]
    np.testing.assert_allclose(found[MIXTURE], [[0.6, 0.4]])
    np.testing.assert_allclose(found[SOFTMAX], [[0.9, 0.1]])
    np.testing.assert_allclose(found[SCALED_SOFTMAX], [[81 / 82, 1 / 82]])
    np.testing.assert_allclose(found[PRIOR], [[0.2, 0.8]])
    np.testing.assert_allclose(found[ONE_HOT], [[1, 0]])
    sharper = (81 / 82 + 9 / 58) / 2  # steps 9 : 1 and 3 : 7, squared
    np.testing.assert_allclose(found[SCALED_MIXTURE], [[sharper, 1 - sharper]])
    assert list(estimate_votes([CLIP], Calibration())) == [MIXTURE, SOFTMAX, ONE_HOT]
    assert list(estimate_votes([CLIP, Evidence(np.zeros(2))], Calibration(1.0, 1.0))) == [
        *(SOFTMAX, SCALED_SOFTMAX, ONE_HOT)
    ]


# --- comparison --------------------------------------------------------------------------------------------------


def test_divergences_and_differences_by_hand():
    calibration = Calibration(2.0, 1.0, np.array([0.5, 0.5]), "votes on 9 validation clips")
    other = Evidence(LOG([0.2, 0.8]), np.array([1.0]), LOG([[0.5, 0.5]]))
    found = compare_with_votes([CLIP, other], np.array([[6, 4], [1, 9]]), ["a", "b"], calibration, num_resamples=20)
    expected = {MIXTURE: [0, js([0.5, 0.5], [0.1, 0.9])], ONE_HOT: [js([1, 0], [0.6, 0.4]), js([0, 1], [0.1, 0.9])]}
    for name, values in expected.items():
        np.testing.assert_allclose(found.per_clip[name], values, atol=1e-9)
        assert found.divergence[name].value == pytest.approx(np.mean(values))
    told = found.difference(MIXTURE, ONE_HOT)
    assert told.value.value == pytest.approx(np.mean(expected[MIXTURE]) - np.mean(expected[ONE_HOT]))
    assert told.p_value == pytest.approx(1.0)  # the speakers disagree: of four ways to swap none gives less
    assert (found.num_clips, found.num_speakers, found.calibration.source) == (2, 2, "votes on 9 validation clips")
    assert found.difference(SOFTMAX, ONE_HOT) is None


def speaking(num_speakers: int, *, mixture_is_better: bool) -> tuple[list[Evidence], np.ndarray, list[str]]:
    """Clips voted 60 : 40 or 80 : 20; one of mixture and softmax is right, the other one is 95 : 5."""
    evidence, votes, speakers = [], [], []
    for i in range(4 * num_speakers):
        right, wrong = LOG([[0.6, 0.4], [0.8, 0.2]][i % 2]), LOG([0.95, 0.05])
        step, whole = (right, wrong) if mixture_is_better else (wrong, right)
        evidence.append(Evidence(whole, np.array([1.0]), step[None]))
        votes.append([[6, 4], [8, 2]][i % 2])
        speakers.append(f"s{i % num_speakers}")
    return evidence, np.array(votes), speakers


@pytest.mark.parametrize("mixture_is_better", [True, False])
def test_the_better_one_is_told_apart_over_speakers(mixture_is_better):
    evidence, votes, speakers = speaking(8, mixture_is_better=mixture_is_better)
    found = compare_with_votes(evidence, votes, speakers, Calibration(1.0, 1.0), num_resamples=200)
    told = found.difference(MIXTURE, SCALED_SOFTMAX)
    assert told.p_value == pytest.approx(2 / 2**8)
    if mixture_is_better:
        assert told.value.high < 0
    else:
        assert told.value.low > 0
    better = found.entropy_correlation[MIXTURE if mixture_is_better else SOFTMAX]
    assert better.value == pytest.approx(1)
    assert math.isnan(found.entropy_correlation[SOFTMAX if mixture_is_better else MIXTURE].value)
    assert ONE_HOT not in found.entropy_correlation


def test_one_speaker_has_values_and_no_certainty():
    evidence, votes, speakers = speaking(1, mixture_is_better=True)
    found = compare_with_votes(evidence, votes, speakers, Calibration(1.0), num_resamples=50)
    told = found.difference(MIXTURE, SCALED_SOFTMAX)
    assert told.value.value < 0
    assert math.isnan(told.p_value)
    assert math.isnan(told.value.low)
    assert math.isnan(found.divergence[MIXTURE].high)


def test_clips_without_votes_are_refused():
    with pytest.raises(ValueError, match="at least one vote"):
        compare_with_votes([CLIP], np.zeros((1, 2)), ["a"], Calibration())
    with pytest.raises(ValueError, match="at least one"):
        compare_with_votes([], np.zeros((0, 2)), [], Calibration())


def test_rank_correlation_by_hand():
    pairs = np.array([[1, 10], [2, 30], [3, 20], [4, 40.0]])
    assert rank_correlation(pairs) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert rank_correlation(pairs * [1, -1]) == pytest.approx(-0.8)
    assert math.isnan(rank_correlation(np.array([[1, 1], [1, 2.0]])))
    assert math.isnan(rank_correlation(np.array([[1, 1.0]])))


def test_votes_drawn_anew_are_as_far_as_chance_says():
    """Two voters of two minds: half of the draws repeat them, half agree, at js((1, 0), (1/2, 1/2)) from them."""
    expected = 0.5 * js([1, 0], [0.5, 0.5])
    assert redraw_votes(np.array([[1.0, 1.0]]), num_draws=20000) == pytest.approx(expected, abs=0.005)
    assert redraw_votes(np.array([[10.0, 0.0]])) == 0
    assert math.isnan(redraw_votes(np.array([[0.5, 0.5]])))
    assert math.isnan(redraw_votes(np.array([[1.0, 0.0], [0.0, 1.0]])))  # one voter each: no draw can differ
    many = redraw_votes(np.array([[1.0, 1.0], [500.0, 500.0]]), num_draws=20000)
    assert many == pytest.approx(expected / 2, abs=0.003)  # each clip is drawn with its own number of votes
