"""Which clips a learner gets to see: oversampling, and the bags of ensembles.

Everything draws clips by index; a label below 0 marks a clip without one emotion, which no bag takes (`settle_ties`
gives it one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator


def oversample(clips: Sequence[int], labels: Sequence[int], generator: Generator) -> list[int]:
    """All clips, those of rarer emotions repeated at random up to the number of the commonest.

    Args:
        clips, labels: one label a clip.

    Returns:
        clips, grouped by emotion; each is in it floor or ceil of the same number of times as others of its emotion.
    """
    groups = clips_by_label(labels)
    most = max((len(group) for group in groups), default=0)
    return [clips[i] for group in groups for i in _permutation_stream(group, most, generator)]


def settle_ties(labels: Sequence[int], shares: Sequence[np.ndarray | None]) -> list[int]:
    """The labels, and for clips that have none the emotion with most of their votes, so that a draw can count them.

    Of several emotions with as many votes a clip counts as the one that has fewest clips so far, which keeps the
    emotions as even as they can be; nothing is left to chance, so every epoch counts a clip alike.

    Args:
        labels: -1 where a clip has no single emotion.
        shares: (C,) soft label of each clip; a clip with neither stays at -1.
    """
    settled = list(labels)
    counts = Counter(label for label in labels if label >= 0)
    for i, (label, share) in enumerate(zip(labels, shares, strict=True)):
        if label < 0 and share is not None:
            leading = np.flatnonzero(share == share.max()).tolist()
            settled[i] = min(leading, key=lambda emotion: counts[emotion])
            counts[settled[i]] += 1
    return settled


def balanced_bootstraps(labels: Sequence[int], num_bags: int, generator: Generator) -> list[list[int]]:
    """Bagging: every bag draws, with replacement, as many clips of each emotion as the rarest has (indices)."""
    groups = clips_by_label(labels)
    size = min(map(len, groups))
    bags = []
    for _ in range(num_bags):
        draws = [torch.randint(len(group), (size,), generator=generator).tolist() for group in groups]
        bags.append([group[i] for group, draw in zip(groups, draws, strict=True) for i in draw])
    return bags


def permutation_bags(
    labels: Sequence[int], num_bags: int, generator: Generator, *, size: str = "min"
) -> list[list[int]]:
    """Redagging: bags cut from a stream of random permutations of each emotion's clips.

    Ai et al. 2020 generate bootstrap samples "from permutations of observations"; this algorithm is our reading. No bag
    holds a clip twice, and over all bags every clip of an emotion is used equally often, but for one.

    Args:
        size: of each emotion in a bag: "min", as the rarest emotion has, or "median" of the emotions' sizes (an emotion
            that has fewer clips gives all of them).
    """
    groups = clips_by_label(labels)
    sizes = sorted(map(len, groups))
    wanted = {"min": sizes[0], "median": sizes[len(sizes) // 2]}[size]
    bags: list[list[int]] = [[] for _ in range(num_bags)]
    for group in groups:
        queue: list[int] = []
        for bag in bags:
            bag += _next_without_repeats(queue, group, min(wanted, len(group)), generator)
    return bags


def clips_by_label(labels: Sequence[int]) -> list[list[int]]:
    """Indices of the clips of each emotion that occurs, in the order of the labels."""
    return [[i for i, label in enumerate(labels) if label == kind] for kind in sorted({k for k in labels if k >= 0})]


def _permutation_stream(group: Sequence[int], count: int, generator: Generator) -> list[int]:
    """The first `count` of one random permutation of the group after the other."""
    stream: list[int] = []
    while len(stream) < count:
        stream += [group[i] for i in torch.randperm(len(group), generator=generator).tolist()]
    return stream[:count]


def _next_without_repeats(queue: list[int], group: Sequence[int], count: int, generator: Generator) -> list[int]:
    """Take `count` different clips from the front of the queue, which is refilled by permutations.

    A clip that the bag has already is passed over and stays in the queue, first in line for the next bag.
    """
    taken: list[int] = []
    place = 0
    while len(taken) < count:
        if place == len(queue):
            queue += [group[i] for i in torch.randperm(len(group), generator=generator).tolist()]
        if queue[place] in taken:
            place += 1
        else:
            taken.append(queue.pop(place))
    return taken
