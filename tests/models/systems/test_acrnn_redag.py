"""Redagging of ACRNNs: bags without repeats that use all utterances alike."""

from collections import Counter

import pytest

from avser.models.systems.acrnn_redag import AcrnnRedag

TINY = {"num_convs": 1, "first_maps": 2, "num_linear": 4, "num_cells": 2, "num_hidden": 2}
LABELS = [0] * 9 + [1] * 4 + [2] * 6


@pytest.mark.parametrize(("bag_size", "counts"), [("min", {0: 4, 1: 4, 2: 4}), ("median", {0: 6, 1: 4, 2: 6})])
def test_no_bag_holds_an_utterance_twice(bag_size, counts):
    model = AcrnnRedag(3, num_members=9, bag_size=bag_size, member=TINY)
    bags = [model.stage_clips(LABELS, stage, 3) for stage in range(9)]
    assert all(Counter(LABELS[i] for i in bag) == counts for bag in bags)
    assert all(len(set(bag)) == len(bag) for bag in bags)
    used = Counter(i for bag in bags for i in bag)
    assert [used[i] for i in range(9)] == [counts[0]] * 9


def test_unknown_size_of_bags():
    with pytest.raises(ValueError, match="bag_size"):
        AcrnnRedag(3, num_members=2, bag_size="max", member=TINY)
