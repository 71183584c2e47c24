"""Distances between shares, against numbers worked out by hand."""

import numpy as np
import pytest

from avser.evaluation.soft_labels import FEWEST, cross_entropy_bits, entropy_bits, jensen_shannon


def test_entropy_by_hand():
    np.testing.assert_allclose(entropy_bits(np.array([[0.5, 0.5, 0], [1, 0, 0], [0.5, 0.25, 0.25]])), [1, 0, 1.5])


def test_jensen_shannon_by_hand():
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    expected = 0.5 * np.log2(1 / 0.75) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25))
    assert jensen_shannon(p, q) == pytest.approx(expected)
    assert jensen_shannon(p, q) == jensen_shannon(q, p)
    np.testing.assert_allclose(jensen_shannon(np.eye(2), np.array([[1, 0], [1.0, 0]])), [0, 1])


def test_cross_entropy_by_hand():
    votes = np.array([[0.5, 0.5], [1, 0]])
    posteriors = np.array([[0.25, 0.75], [0.25, 0.75]])
    np.testing.assert_allclose(cross_entropy_bits(votes, posteriors), [0.5 * 2 + 0.5 * np.log2(4 / 3), 2])
    np.testing.assert_allclose(cross_entropy_bits(votes, votes), entropy_bits(votes))


def test_a_posterior_of_zero_costs_much_and_not_everything():
    assert cross_entropy_bits(np.array([1.0, 0]), np.array([0.0, 1])) == pytest.approx(-np.log2(FEWEST))
