"""Draws of clips: equal shares of emotions, no clip twice in a bag, every clip used alike."""

from collections import Counter

import numpy as np
import pytest
import torch

from avser.models.bags import balanced_bootstraps, oversample, permutation_bags, settle_ties

LABELS = [0] * 7 + [1] * 3 + [2] * 5 + [-1]


def generator():
    return torch.Generator().manual_seed(0)


def emotions(bag):
    return Counter(LABELS[i] for i in bag)


def test_oversampling_fills_up_the_rarer_emotions_evenly():
    clips = [100 + i for i in range(len(LABELS))]
    drawn = Counter(oversample(clips, LABELS, generator()))
    assert sum(drawn.values()) == 21
    assert [drawn[100 + i] for i in range(7)] == [1] * 7
    assert sorted(drawn[100 + i] for i in (7, 8, 9)) == [2, 2, 3]
    assert drawn[115] == 0


def test_a_bootstrap_is_balanced_and_repeats():
    bags = balanced_bootstraps(LABELS, 20, generator())
    assert all(emotions(bag) == {0: 3, 1: 3, 2: 3} for bag in bags)
    assert any(len(set(bag)) < len(bag) for bag in bags)


@pytest.mark.parametrize(("size", "counts"), [("min", {0: 3, 1: 3, 2: 3}), ("median", {0: 5, 1: 3, 2: 5})])
def test_permutation_bags_hold_no_clip_twice_and_use_all_alike(size, counts):
    bags = permutation_bags(LABELS, 10, generator(), size=size)
    assert all(emotions(bag) == counts for bag in bags)
    assert all(len(set(bag)) == len(bag) for bag in bags)
    used = Counter(i for bag in bags for i in bag)
    for kind in range(3):
        times = [used[i] for i in range(15) if LABELS[i] == kind]
        assert max(times) - min(times) <= 1


def test_a_tied_clip_counts_as_the_rarest_of_the_emotions_that_lead_it():
    tied = np.array([0.4, 0.4, 0.2], np.float32)
    clear = np.array([0.2, 0.3, 0.5], np.float32)  # its emotion may lie outside the label set, and this one lead in it
    settled = settle_ties([0, 0, 1, -1, -1, -1, -1, 2, -1], [None, None, tied, tied, tied, clear, tied, clear, None])
    assert settled == [0, 0, 1, 1, 0, 2, 1, 2, -1]
