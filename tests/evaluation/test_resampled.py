"""One set of draws for many statistics: the same as a bootstrap of each."""

import numpy as np
import pytest

from avser.evaluation.pooled import mean_uar
from avser.evaluation.resampled import resampled_interval, resampled_uars
from avser.evaluation.statistics import clustered_interval


@pytest.fixture
def counts():
    """Seven speakers, two sets of answers, two seeds, three emotions, of which two speakers lack one."""
    found = np.random.default_rng(1).integers(0, 9, size=(7, 2, 2, 3, 3)).astype(float)
    found[:2, :, :, 2] = 0
    return found


def test_what_was_observed_comes_first(counts):
    uars = resampled_uars(counts, num_resamples=5)
    assert uars.shape == (6, 2)
    assert uars[0].tolist() == pytest.approx([mean_uar(counts[:, k]) for k in range(2)])


def test_intervals_are_those_of_the_bootstrap(counts):
    names = [f"s{i}" for i in range(7)]
    uars = resampled_uars(counts)
    for values, statistic in (
        (uars[:, 1], lambda c: mean_uar(c[:, 1])),
        (uars[:, 1] - uars[:, 0], lambda c: mean_uar(c[:, 1]) - mean_uar(c[:, 0])),
    ):
        found, known = resampled_interval(values, 7), clustered_interval(counts, names, statistic)
        assert found.value == pytest.approx(known.value)
        assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=0.01)


def test_one_speaker_has_no_interval(counts):
    found = resampled_interval(resampled_uars(counts[2:3])[:, 0], 1)
    assert found.value == pytest.approx(mean_uar(counts[2:3, 0]))
    assert np.isnan([found.low, found.high]).all()
