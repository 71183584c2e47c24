"""Augagging of ACRNNs: the last member hears everything, and how much its vote counts."""

from collections import Counter

import pytest

from avser.models.systems.acrnn_augag import AcrnnAugag

TINY = {"num_convs": 1, "first_maps": 2, "num_linear": 4, "num_cells": 2, "num_hidden": 2}
LABELS = [0] * 9 + [1] * 4 + [-1] + [2] * 6


def test_the_last_member_learns_from_all_oversampled_and_the_others_from_bags():
    model = AcrnnAugag(3, num_members=4, member=TINY)
    *bags, everything = [model.stage_clips(LABELS, stage, 3) for stage in range(4)]
    assert all(Counter(LABELS[i] for i in bag) == {0: 4, 1: 4, 2: 4} for bag in bags)
    assert all(len(set(bag)) == 12 for bag in bags)
    assert Counter(LABELS[i] for i in everything) == {0: 9, 1: 9, 2: 9}
    assert set(everything) == {i for i, label in enumerate(LABELS) if label >= 0}


def test_votes_of_the_oversampling_member():
    assert AcrnnAugag(3, num_members=3, member=TINY).member_votes.tolist() == [1, 1, 1]
    assert AcrnnAugag(3, num_members=3, oversampler_votes=2, member=TINY).member_votes.tolist() == [1, 1, 2]


@pytest.mark.parametrize("options", [{"num_members": 1}, {"bag_size": "max"}])
def test_options_that_make_no_sense(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AcrnnAugag(3, member=TINY, **options)
