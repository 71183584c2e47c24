"""Bagging of ACRNNs: its bags, and options that reach the members."""

from collections import Counter

import pytest

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.systems.acrnn import Acrnn
from avser.models.systems.acrnn_augag import AcrnnAugag
from avser.models.systems.acrnn_bagging import AcrnnBagging
from avser.models.systems.acrnn_redag import AcrnnRedag

TINY = {"num_convs": 2, "first_maps": 4, "num_maps": 4, "num_linear": 8, "num_cells": 4, "num_hidden": 4}
LABELS = [0] * 9 + [1] * 4 + [2] * 6


def test_bags_are_balanced_bootstraps_and_the_same_for_every_stage():
    model = AcrnnBagging(3, num_members=8, member=TINY)
    bags = [model.stage_clips(LABELS, stage, 3) for stage in range(8)]
    assert bags == model.bags(LABELS, 3)
    assert all(Counter(LABELS[i] for i in bag) == {0: 4, 1: 4, 2: 4} for bag in bags)
    assert any(len(set(bag)) < 12 for bag in bags)
    assert len({tuple(bag) for bag in bags}) == 8
    assert bags != model.bags(LABELS, 4)


def test_options_of_the_members():
    sources = ["acrnn_bagging", f"model.options={{num_members: 2, member: {TINY}}}".replace("'", "")]
    model = build_model(load_config(sources).model, ["a", "b", "c"], sample_rate_hz=16000)
    assert [member.linear.out_features for member in model.members] == [8, 8]
    assert model.num_stages == 2


@pytest.mark.parametrize("ensemble", [AcrnnBagging, AcrnnRedag, AcrnnAugag])
def test_an_ensemble_has_the_parameters_of_its_members(ensemble):
    count = [sum(p.numel() for p in model.parameters()) for model in (ensemble(3, member=TINY), Acrnn(3, **TINY))]
    assert count[0] == 10 * count[1]


def test_an_option_that_members_do_not_have():
    config = load_config(["acrnn_bagging", "model.options.member={num_cels: 4}"]).model
    with pytest.raises(ConfigError, match="num_cels"):
        build_model(config, ["a", "b"], sample_rate_hz=16000)
