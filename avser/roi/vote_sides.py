"""Where people hear one emotion and see another: with which of the two do they side who hear and see, and the model?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avser.evaluation.statistics import Interval, clustered_interval

VOICE, FACE, NEITHER = 0, 1, 2
TIED = -1


@dataclass
class Sides:
    """People and a model on clips whose voice and face were voted to show different emotions.

    Attributes:
        num_clips: with votes of all three kinds.
        num_tied: of those, how many have no majority for the voice or for the face, and are left out.
        num_conflicts: how many are left in which the two majorities differ.
        table: (3, 3) counts of those; rows: with whom the majority of those who heard and saw sides, columns: the
            model; each in the order voice, face, neither. A tie of the people who heard and saw is "neither".
        kappa: Cohen's kappa (1960) of people and model over the clips in which both side with voice or face; 0 is the
            agreement of two who choose independently. Its interval is clustered by speaker; NaN where there are no such
            clips, or either always chooses the same.
    """

    num_clips: int
    num_tied: int
    num_conflicts: int
    table: np.ndarray
    kappa: Interval

    @property
    def counts(self) -> np.ndarray:
        """(2, 2) of the clips in which both take a side: rows people, columns model; voice, face."""
        return self.table[:NEITHER, :NEITHER]


def compare_sides(
    votes_audio: np.ndarray,
    votes_video: np.ndarray,
    votes_av: np.ndarray,
    answers: np.ndarray,
    speakers: Sequence[str],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Sides:
    """With whom people and a model side.

    Args:
        votes_audio, votes_video, votes_av: (N, C) counts or shares of those who only heard, only saw, and did both.
        answers: (N,) index of the model's answer to the whole clip.
        speakers: N names.

    Raises:
        ValueError: lengths that differ.
    """
    if len({len(votes_audio), len(votes_video), len(votes_av), len(answers), len(speakers)}) > 1:
        raise ValueError("votes of three kinds, an answer and a speaker are needed for every clip")
    heard, seen, both = (majorities(votes) for votes in (votes_audio, votes_video, votes_av))
    is_clear = (heard != TIED) & (seen != TIED)
    conflict = is_clear & (heard != seen)
    people, model = (side_of(x[conflict], heard[conflict], seen[conflict]) for x in (both, np.asarray(answers)))
    table = np.zeros((3, 3), dtype=int)
    np.add.at(table, (people, model), 1)
    taken = (people != NEITHER) & (model != NEITHER)
    sides = np.stack([people, model], axis=1)[taken]
    kappa = Interval(float("nan"), float("nan"), float("nan"))
    if len(sides) and np.isfinite(cohens_kappa(sides)):
        whose = np.asarray(speakers)[conflict][taken].tolist()
        kappa = clustered_interval(sides, whose, cohens_kappa, num_resamples=num_resamples, seed=seed)
    return Sides(len(heard), int((~is_clear).sum()), int(conflict.sum()), table, kappa)


def majorities(votes: np.ndarray) -> np.ndarray:
    """(N,) index of the emotion with most votes of (N, C); -1 where the first place is shared, or nobody voted."""
    votes = np.asarray(votes, dtype=float)
    most = votes.max(axis=1, keepdims=True)
    is_clear = (votes >= most - 1e-9).sum(axis=1) == 1
    return np.where(is_clear, votes.argmax(axis=1), TIED)


def side_of(chosen: np.ndarray, heard: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(N,) VOICE where what was chosen is what was heard, FACE where it is what was seen, else NEITHER."""
    return np.where(chosen == heard, VOICE, np.where(chosen == seen, FACE, NEITHER))


def cohens_kappa(pairs: np.ndarray) -> float:
    """Agreement of two judges beyond chance, from (N, 2) verdicts; NaN where chance alone makes them agree."""
    kinds = np.unique(pairs)
    shares = np.stack([(pairs == kind).mean(axis=0) for kind in kinds])  # (K, 2)
    by_chance = float((shares[:, 0] * shares[:, 1]).sum())
    observed = float((pairs[:, 0] == pairs[:, 1]).mean())
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 - 1e-9 else float("nan")
