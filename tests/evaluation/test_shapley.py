"""Shapley values: numbers worked out by hand, and that they share out all there is."""

import pytest

from avser.evaluation.shapley import shapley_values


def game(**worth: float) -> dict[frozenset[str], float]:
    """a=1, ab=3 -> the worth of {a} and of {a, b}; `none` is the empty set."""
    return {frozenset() if name == "none" else frozenset(name): value for name, value in worth.items()}


def test_two_players_by_hand():
    found = shapley_values(game(none=10, a=40, b=25, ab=60))
    assert found == {"a": pytest.approx((30 + 35) / 2), "b": pytest.approx((15 + 20) / 2)}


def test_three_players_by_hand_with_one_who_adds_nothing():
    # c changes nothing; a and b are worth 1 only together.
    found = shapley_values(game(none=0, a=0, b=0, c=0, ab=1, ac=0, bc=0, abc=1))
    assert found == {"a": pytest.approx(0.5), "b": pytest.approx(0.5), "c": pytest.approx(0)}


def test_the_values_sum_to_what_all_are_worth_beyond_nobody():
    worth = game(none=3, a=5, b=1, c=9, ab=4, ac=2, bc=11, abc=20)
    assert sum(shapley_values(worth).values()) == pytest.approx(20 - 3)


def test_a_missing_set_is_an_error():
    with pytest.raises(ValueError, match=r"the worth of \['b'\] is missing"):
        shapley_values(game(none=0, a=1, ab=2))
