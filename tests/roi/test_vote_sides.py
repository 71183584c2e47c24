"""With whom people and a model side, on votes whose majorities are plain to see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avser.evaluation.statistics import clustered_interval
from avser.roi.vote_sides import FACE, VOICE, cohens_kappa, compare_sides, majorities

A, B, C = [5, 1, 0], [1, 5, 0], [0, 1, 5]
TIE = [3, 3, 0]


def test_majorities_by_hand():
    assert majorities(np.array([A, B, TIE, C, [0, 0, 0]])).tolist() == [0, 1, -1, 2, -1]


def test_sides_by_hand():
    #                heard, seen, both, answer
    clips = [
        (A, B, A, 0, "s1"),  # voice, voice
        (A, B, B, 1, "s1"),  # face, face
        (B, A, A, 1, "s2"),  # face, voice
        (A, C, A, 0, "s2"),  # voice, voice
        (A, B, C, 1, "s1"),  # neither, face
        (A, B, TIE, 2, "s1"),  # neither, neither
        (A, A, A, 0, "s1"),  # no conflict
        (TIE, A, A, 0, "s1"),  # no majority
    ]
    heard, seen, both, answers, speakers = zip(*clips, strict=True)
    sides = compare_sides(*(np.array(v) for v in (heard, seen, both, answers)), speakers, num_resamples=50)
    assert (sides.num_clips, sides.num_tied, sides.num_conflicts) == (8, 1, 6)
    assert sides.table.tolist() == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert sides.counts.tolist() == [[2, 0], [1, 1]]
    assert sides.kappa.value == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))


def test_kappa_is_over_clips_in_which_both_take_a_side():
    clips = [(A, B, A, 0), (A, B, B, 1), (A, B, A, 2), (A, B, A, 2), (A, B, C, 0)]  # the last three: one says neither
    heard, seen, both, answers = (np.array(values) for values in zip(*clips, strict=True))
    sides = compare_sides(heard, seen, both, answers, ["s", "s", "t", "t", "t"], num_resamples=50)
    assert sides.table.tolist() == [[1, 0, 2], [0, 1, 0], [1, 0, 0]]
    assert sides.kappa.value == pytest.approx(1)
    assert math.isnan(sides.kappa.low)  # both of the clips that count are of one speaker


def test_the_interval_of_kappa_resamples_the_speakers_of_the_clips_that_count():
    """Speakers that alternate with what is left out, so that any shift of the names changes the interval."""
    clips = [
        (A, A, A, 0, "s1"),  # no conflict
        (A, B, A, 0, "s2"),
        (TIE, A, A, 0, "s3"),  # no majority
        (A, B, B, 1, "s2"),
        (A, B, C, 1, "s4"),  # neither
        (A, B, A, 1, "s3"),
        (B, A, A, 1, "s3"),
        (A, B, A, 2, "s1"),  # neither
        (A, B, A, 0, "s4"),
        (A, B, B, 1, "s4"),
        (A, B, B, 1, "s1"),
    ]
    heard, seen, both, answers, speakers = zip(*clips, strict=True)
    sides = compare_sides(*(np.array(v) for v in (heard, seen, both, answers)), speakers, num_resamples=300, seed=1)
    counted = np.array([[VOICE, VOICE], [FACE, FACE], [VOICE, FACE], [FACE, VOICE], [VOICE, VOICE], [FACE, FACE]])
    counted = np.concatenate([counted, [[FACE, FACE]]])
    whose = ["s2", "s2", "s3", "s3", "s4", "s4", "s1"]
    assert sides.kappa == clustered_interval(counted, whose, cohens_kappa, num_resamples=300, seed=1)
    by_clip = clustered_interval(counted, list("abcdefg"), cohens_kappa, num_resamples=300, seed=1)
    assert sides.kappa.high - sides.kappa.low != pytest.approx(by_clip.high - by_clip.low)


def test_kappa_by_hand():
    agreeing = np.array([[0, 0]] * 20 + [[1, 1]] * 15 + [[0, 1]] * 5 + [[1, 0]] * 10)
    assert cohens_kappa(agreeing) == pytest.approx(0.4)  # the example of every textbook: 0.7 observed, 0.5 by chance
    assert cohens_kappa(np.array([[0, 1], [1, 0]])) == pytest.approx(-1)
    assert math.isnan(cohens_kappa(np.array([[0, 0], [0, 0]])))


def test_where_nobody_sides_there_is_no_kappa():
    one = np.array([A])
    nothing = compare_sides(one, one, one, np.array([0]), ["s"])
    assert nothing.num_conflicts == 0
    assert math.isnan(nothing.kappa.value)
    alike = compare_sides(one, np.array([B]), one, np.array([0]), ["s"])
    assert alike.counts.tolist() == [[1, 0], [0, 0]]
    assert math.isnan(alike.kappa.value)
    with pytest.raises(ValueError, match="for every clip"):
        compare_sides(one, one, one, np.array([0, 1]), ["s"])
