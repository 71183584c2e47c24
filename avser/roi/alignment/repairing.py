"""Re-pairing: the voice of one clip with the face of another of the same emotion and sentence, by another speaker.

The main null model: it keeps what all clips of an emotion and a sentence have in common (that both curves peak
mid-clip, that a sentence has its stress somewhere) and takes away that the two were one moment of one person.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, inf

import numpy as np

from avser.errors import AvserError
from avser.roi.alignment.curve_stack import CurveStack

MAX_GROUP = 200  # clips; larger groups are cut, so that the work grows with the clips and not with their square


@dataclass
class Group:
    """Clips that may exchange their faces.

    Attributes:
        clips: (K,) rows of the stack, sorted by speaker.
        speakers: (K,) number of the speaker of each.
    """

    clips: np.ndarray
    speakers: np.ndarray

    @property
    def others(self) -> np.ndarray:
        """(K, K) bool: which pairs are of two speakers."""
        return self.speakers[:, None] != self.speakers


@dataclass
class Partners:
    """Who may be paired with whom.

    Attributes:
        groups: each of at least two speakers.
        num_speakers: in the whole stack; they are numbered in it.
        by_sentence: whether partners speak the same sentence.
        notes: what could not be had, in sentences.
    """

    groups: list[Group]
    num_speakers: int
    by_sentence: bool
    notes: list[str]

    @property
    def num_distinct(self) -> float:
        """How many different re-pairings of speakers there are."""
        num = max(len(np.unique(group.speakers)) for group in self.groups)
        return float(factorial(num - 1)) if num < 20 else inf


def find_partners(stack: CurveStack, generator: np.random.Generator, max_group: int = MAX_GROUP) -> Partners:
    """Groups of the same emotion and sentence; of the same emotion alone if most clips would find nobody otherwise.

    Raises:
        AvserError: no emotion was acted by two speakers.
    """
    names, speakers = np.unique(np.asarray(stack.speakers), return_inverse=True)
    notes = []
    by_sentence = any(stack.sentences)
    groups = _groups(list(zip(stack.emotions, stack.sentences, strict=True)), speakers) if by_sentence else []
    if sum(len(g.clips) for g in groups) < len(stack) / 2:
        why = "most clips share their sentence with no other speaker" if by_sentence else "the corpus has no sentences"
        notes.append(f"partners share the emotion but not the sentence: {why}")
        by_sentence, groups = False, _groups([(emotion,) for emotion in stack.emotions], speakers)
    if not groups:
        raise AvserError(
            f"re-pairing needs two speakers of one emotion; {len(stack)} clips of {len(names)} speakers have none"
        )
    num_left = len(stack) - sum(len(g.clips) for g in groups)
    if num_left:
        what = "emotion and sentence" if by_sentence else "emotion"
        notes.append(f"{num_left} of {len(stack)} clips are left out: no other speaker has their {what}")
    parts = [part for group in groups for part in _cut(group, max_group, generator)]
    return Partners(parts, len(names), by_sentence, notes)


def draw_partners(group: Group, orders: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, K) places in the group: whose face each clip gets in each permutation.

    The speakers stand in a circle, and each gets the faces of the next one in it who is in the group: nobody gets his
    or her own, nobody is left over, and all clips of a speaker go to the same other speaker, so that what the clips of
    a speaker have in common stays together. Clips of the same speaker are dealt out in turn, from a random one on.

    Args:
        orders: (P, S) numbers of all speakers of the stack in the order of each permutation's circle.
    """
    present, own, counts = np.unique(group.speakers, return_inverse=True, return_counts=True)
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.full(int(orders.max()) + 1, -1)
    place[present] = np.arange(len(present))
    circle = place[orders]
    circle = circle[circle >= 0].reshape(len(orders), len(present))  # each row keeps its order
    follows = np.empty_like(circle)
    np.put_along_axis(follows, circle, np.roll(circle, -1, axis=1), axis=1)
    partner = follows[:, own]  # (P, K)
    turn = np.arange(len(own)) - firsts[own] + generator.integers(counts.max(), size=(len(orders), 1))
    return firsts[partner] + turn % counts[partner]


def _groups(keys: list[tuple[str, ...]], speakers: np.ndarray) -> list[Group]:
    """Clips of the same key, where two speakers have it."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    found = []
    for some in rows.values():
        clips = np.array(some)[np.argsort(speakers[some], kind="stable")]
        if len(np.unique(speakers[clips])) > 1:
            found.append(Group(clips, speakers[clips]))
    return found


def _cut(group: Group, max_group: int, generator: np.random.Generator) -> list[Group]:
    """Parts of whole speakers, drawn at random, of about `max_group` clips; each has at least two speakers."""
    names = generator.permutation(np.unique(group.speakers))
    num_parts = min(-(-len(group.clips) // max_group), len(names) // 2)
    if num_parts < 2:
        return [group]
    parts = (np.isin(group.speakers, some) for some in np.array_split(names, num_parts))
    return [Group(group.clips[part], group.speakers[part]) for part in parts]
