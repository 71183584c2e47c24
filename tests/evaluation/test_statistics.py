"""Intervals that resample speakers."""

import numpy as np
import pytest

from avser.evaluation.statistics import Interval, clustered_interval, paired_difference, paired_permutation


def test_clustering_widens_the_interval_when_speakers_differ():
    rng = np.random.default_rng(0)
    level = rng.normal(size=10)
    values = np.repeat(level, 50) + 0.1 * rng.normal(size=500)
    speakers = [str(i) for i in np.repeat(np.arange(10), 50)]
    clustered = clustered_interval(values, speakers)
    as_if_independent = clustered_interval(values, [str(i) for i in range(500)])
    assert clustered.high - clustered.low > 4 * (as_if_independent.high - as_if_independent.low)
    assert clustered.value == pytest.approx(values.mean())


@pytest.mark.parametrize("num_speakers", [6, 20])
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(num_speakers):
    rng = np.random.default_rng(1)
    speakers = [str(i) for i in np.repeat(np.arange(num_speakers), 3)]
    hits = 0
    for _ in range(300):
        level = rng.normal(size=num_speakers)
        found = clustered_interval(np.repeat(level, 3), speakers, num_resamples=500)
        hits += found.low <= 0 <= found.high
    assert 0.91 <= hits / 300 <= 0.98


def test_one_speaker_gives_no_interval():
    found = clustered_interval(np.arange(5.0), ["a"] * 5)
    assert found.value == 2
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_one_seed_gives_one_interval():
    values, speakers = np.random.default_rng(0).normal(size=40), [str(i // 2) for i in range(40)]
    assert clustered_interval(values, speakers, seed=3) == clustered_interval(values, speakers, seed=3)
    assert clustered_interval(values, speakers, seed=3) != clustered_interval(values, speakers, seed=4)


def test_a_paired_difference_is_surer_than_its_parts():
    rng = np.random.default_rng(2)
    level = np.repeat(rng.normal(size=12), 10)
    speakers = [str(i) for i in np.repeat(np.arange(12), 10)]
    a, b = level + 0.2 + 0.05 * rng.normal(size=120), level + 0.05 * rng.normal(size=120)
    difference = paired_difference(a, b, speakers)
    assert difference.low > 0.15
    assert difference.high < 0.25
    assert paired_permutation(a, b, speakers) == 2 / 2**12


def test_no_difference_has_no_interval_around_it_and_p_is_one():
    values, speakers = np.array([0.0, 1.0] * 20), [str(i) for i in range(40)]
    assert paired_difference(values, values, speakers) == Interval(0.0, 0.0, 0.0)
    assert paired_permutation(values, values, speakers) == 1


def test_swapping_speakers_counts_every_way_where_they_are_few():
    a, b = np.array([3.0, 2.0, 1.0]), np.zeros(3)
    # Of the eight ways to sign 3, 2, 1 only +++ and --- sum to 6 or more.
    assert paired_permutation(a, b, ["x", "y", "z"]) == 2 / 8
    # Clips of one speaker are swapped together.
    assert paired_permutation(np.repeat(a, 4), np.repeat(b, 4), list("xxxxyyyyzzzz")) == 2 / 8
    assert paired_permutation(a, a, ["x", "y", "z"]) == 1
    assert paired_permutation(a, b, ["x"] * 3) == 1


def test_swapping_speakers_at_random_agrees_with_every_way():
    rng = np.random.default_rng(4)
    a, b, speakers = rng.normal(0.5, 1, (12, 2)), rng.normal(0, 1, (12, 2)), [str(i) for i in range(12)]
    exact = paired_permutation(a, b, speakers)
    assert paired_permutation(a, b, speakers, num_permutations=4000) == pytest.approx(exact, abs=0.02)
    assert paired_permutation(a + 9, b, speakers, num_permutations=400) == pytest.approx(1 / 401, abs=0.01)


def test_four_speakers_never_show_a_difference():
    rng = np.random.default_rng(5)
    speakers = [str(i) for i in range(4)]
    found = [paired_permutation(rng.normal(size=4), rng.normal(size=4), speakers) for _ in range(100)]
    assert min(found) >= 2 / 2**4


def test_a_statistic_that_is_not_a_number_shows_no_difference():
    assert paired_permutation(np.full(3, np.nan), np.zeros(3), ["x", "y", "z"]) == 1

    def small_sum(values):
        return values.sum() if values.sum() < 3 else np.nan

    # 2 + 0 and 0 + 1 are defined; with one speaker swapped, 2 + 1 is not.
    assert paired_permutation(np.array([2.0, 0.0]), np.array([0.0, 1.0]), ["x", "y"], small_sum) == 1


def test_nothing_to_resample_is_an_error():
    with pytest.raises(ValueError, match="no clips"):
        clustered_interval(np.array([]), [])
    with pytest.raises(ValueError, match="cluster names"):
        clustered_interval(np.arange(3.0), ["a"])
    with pytest.raises(ValueError, match="a pair for every clip"):
        paired_difference(np.arange(3.0), np.arange(2.0), ["a"] * 3)
    with pytest.raises(ValueError, match="a pair for every clip"):
        paired_permutation(np.arange(3.0), np.arange(2.0), ["a"] * 3)


def test_intervals_print_with_their_value_first():
    assert f"{Interval(1.234, 1.0, 1.5):.2f}" == "1.23 [1.00, 1.50]"
