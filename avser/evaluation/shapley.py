"""Shapley values: what each player of a game adds, on average over the orders in which they may come in."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import comb


def shapley_values(worth: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Each player's share of what all together are worth beyond nobody; the shares sum to exactly that.

    Shapley 1953, "A value for n-person games". With modalities as players, and the score of a model that is given them
    as worth: Hu et al. 2022, "SHAPE: a unified approach to evaluate the contribution and cooperation of individual
    modalities" (arXiv 2205.00302).

    Args:
        worth: of every set of players, the empty one included.

    Raises:
        ValueError: the worth of a set is missing.
    """
    players = sorted(frozenset[str]().union(*worth))
    sets = [frozenset(found) for size in range(len(players) + 1) for found in combinations(players, size)]
    if missing := [sorted(found) for found in sets if found not in worth]:
        raise ValueError(f"the worth of {missing[0]} is missing; a game needs that of every set of players")
    return {
        player: sum(
            (worth[others | {player}] - worth[others]) / (len(players) * comb(len(players) - 1, len(others)))
            for others in sets
            if player not in others
        )
        for player in players
    }
