"""Pooled scores against numbers worked out by hand, and against scikit-learn's."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from avser.evaluation.pooled import (
    Pool,
    compare_pools,
    join_pools,
    mean_recall,
    mean_weighted_f1,
    recall_intervals,
    score_pool,
    score_slices,
)
from avser.evaluation.statistics import Interval


def make_pool(labels: list[int], answers: list[int], speakers: str, seeds: list[int] | None = None) -> Pool:
    """Clips are numbered anew for each seed."""
    seeds = seeds or [0] * len(labels)
    clip_ids = [f"clip{seeds[:i].count(seed)}" for i, seed in enumerate(seeds)]
    return Pool(clip_ids, list(speakers), np.array(seeds), np.array(labels), np.array(answers), np.eye(3)[answers])


# Seed 0: recalls 1/2, 1, WA 3/4. Seed 1: recalls 1, 0, WA 1/2.
TWO_SEEDS = make_pool([0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 1, 1, 0, 0, 2, 0], "abababab", [0, 0, 0, 0, 1, 1, 1, 1])


def test_scores_are_means_of_the_seeds_and_clips_count_once():
    scores = score_pool(TWO_SEEDS)
    assert scores.uar.value == pytest.approx(100 * (0.75 + 0.5) / 2)
    assert scores.wa.value == pytest.approx(100 * (0.75 + 0.5) / 2)
    assert (scores.num_clips, scores.num_speakers, scores.num_emotions) == (4, 2, 2)
    assert scores.wa.low <= scores.wa.value <= scores.wa.high


def test_recall_of_an_emotion_is_the_mean_of_the_seeds():
    assert mean_recall(TWO_SEEDS.count()[1], 0) == pytest.approx((1 / 2 + 1) / 2)
    first, second, none = recall_intervals(TWO_SEEDS)
    assert (first.value, second.value) == (pytest.approx(75), pytest.approx(50))
    assert np.isnan([none.value, none.low, none.high]).all()


def test_weighted_f1_is_that_of_scikit_learn():
    labels, answers = [0, 0, 0, 1, 1, 2, 0], [0, 1, 2, 1, 0, 0, 1]
    counts = make_pool(labels, answers, "aabbccc").count()[1]
    assert mean_weighted_f1(counts) == pytest.approx(f1_score(labels, answers, average="weighted"))


def test_one_speaker_has_scores_and_no_interval():
    scores = score_pool(make_pool([0, 1], [0, 0], "aa"))
    assert scores.uar.value == 50
    assert np.isnan([scores.uar.low, scores.uar.high]).all()


def test_slices_are_the_clips_that_share_a_value():
    pool = make_pool([0, 0, 1, 1], [0, 1, 1, 1], "abab")
    sexes = {"clip0": "female", "clip1": "male", "clip2": "female", "clip3": ""}
    slices = score_slices(pool, {"sex": sexes, "corpus": dict.fromkeys(sexes, "one")})
    assert [(s.column, s.value, s.scores.num_clips) for s in slices] == [
        ("sex", "female", 2),
        ("sex", "male", 1),
        ("sex", "not known", 1),
    ]
    female, male, _ = slices
    assert (female.scores.wa.value, female.scores.uar.value, female.scores.num_emotions) == (100, 100, 2)
    assert (male.scores.wa.value, male.scores.num_emotions, male.scores.num_speakers) == (0, 1, 1)


def test_means_of_clips_are_over_their_seeds():
    speakers, means = TWO_SEEDS.clip_means(np.arange(8.0))
    assert speakers == ["a", "b", "a", "b"]
    np.testing.assert_allclose(means, [2, 3, 4, 5])


def test_joined_pools_are_one_below_the_other():
    joined = join_pools([TWO_SEEDS.only(TWO_SEEDS.seeds == 1), TWO_SEEDS.only(TWO_SEEDS.seeds == 0)])
    assert joined.seeds.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert score_pool(joined) == score_pool(TWO_SEEDS)


def test_differences_are_paired_by_clip_and_tested_by_speakers():
    right, wrong = make_pool([0, 1, 0, 1], [0, 1, 0, 1], "abcd"), make_pool([0, 1, 0, 1], [1, 0, 1, 0], "abcd")
    found = compare_pools(right, wrong)
    assert found.wa == found.uar == Interval(100, 100, 100)
    assert found.wa_p == 2 / 2**4
    assert compare_pools(wrong, right).wa.value == -100
    assert compare_pools(right, right).wa_p == 1


def test_other_clips_cannot_be_paired():
    with pytest.raises(ValueError, match="same clips"):
        compare_pools(TWO_SEEDS, TWO_SEEDS.only(TWO_SEEDS.seeds == 0))


@pytest.mark.parametrize("changed", [{"labels": np.array([0, 1, 1, 1])}, {"speakers": list("abca")}])
def test_the_same_clips_of_other_labels_or_speakers_cannot_be_paired(changed):
    pool = make_pool([0, 1, 0, 1], [0, 1, 1, 1], "abcd")
    with pytest.raises(ValueError, match="labels and speakers"):
        compare_pools(pool, replace(pool, **changed))
