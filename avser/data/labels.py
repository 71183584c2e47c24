"""Which emotion a clip counts as: what the actor meant or what people perceived, within one label set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from avser.config import DataConfig
from avser.data.manifest import EMOTIONS, ClipRow
from avser.errors import ConfigError, ManifestError

VOTES = {"perceived_audio": "votes_audio", "perceived_video": "votes_video", "perceived_av": "votes_av"}


@dataclass
class Labels:
    """The labelled clips of a corpus.

    Attributes:
        emotions: the label set, in order.
        rows: the clips that belong to it, their `emotion` merged and of the wanted target; empty where the votes are
            tied, which only happens with soft labels: such a clip can train, but not be scored.
        targets: clip id -> (C,) float32, the shares of the votes; empty unless soft labels are wanted.
        notes: sentences on what was left out.
    """

    emotions: list[str]
    rows: list[ClipRow]
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def label_clips(rows: list[ClipRow], data: DataConfig) -> Labels:
    """Give every clip the label that `data` asks for.

    `data.target=intended` takes the manifest's emotion; `perceived_*` the one that most people chose when they heard,
    saw, or heard and saw the clip. Clips without votes are left out and counted. Clips whose first place is tied have
    no perceived emotion: left out, or with `data.soft_labels` kept for training alone. `data.merge` applies to votes
    before they are counted.

    Raises:
        ConfigError: soft labels of a target that nobody voted on.
        ManifestError: a clip without emotion, an emotion outside the label set (unless `data.drop_other_emotions`), an
            emotion of the set that no clip shows, fewer than two emotions, a merge that makes no sense, or no votes.
    """
    _check_words(data)
    notes: list[str] = []
    votes: dict[str, Counter[str]] = {}
    if data.target == "intended":
        if data.soft_labels:
            raise ConfigError(f"data.soft_labels needs votes; set data.target to one of {', '.join(VOTES)}")
        merged = _intended(rows, data)
    else:
        notes.append(f"labels: {data.target}, the {'shares' if data.soft_labels else 'majority'} of the votes")
        merged, votes = _perceived(rows, data, notes)
    counts = Counter(row.emotion for row in merged if row.emotion)
    emotions = list(data.emotions) or sorted(counts)
    kept = [row for row in merged if not row.emotion or row.emotion in emotions]
    _check_label_set(emotions, counts, data)
    targets = {}
    if data.soft_labels:
        targets = {row.clip_id: _shares(votes[row.clip_id], emotions) for row in kept}
        if empty := [clip_id for clip_id, shares in targets.items() if not shares.any()]:
            notes.append(f"{len(empty)} clips have no vote for any emotion of the label set and were left out")
            kept = [row for row in kept if row.clip_id not in set(empty)]
            targets = {row.clip_id: targets[row.clip_id] for row in kept}
    return Labels(emotions, kept, targets, notes)


def _intended(rows: list[ClipRow], data: DataConfig) -> list[ClipRow]:
    unlabelled = [row.clip_id for row in rows if not row.emotion]
    if unlabelled:
        raise ManifestError(
            f"{len(unlabelled)} of {len(rows)} clips have no emotion, e.g. {unlabelled[0]}; fill the column or remove "
            "the rows: they cannot train or be scored"
        )
    return [replace(row, emotion=data.merge.get(row.emotion, row.emotion)) for row in rows]


def _perceived(
    rows: list[ClipRow], data: DataConfig, notes: list[str]
) -> tuple[list[ClipRow], dict[str, Counter[str]]]:
    """The rows with the majority's emotion ("" where tied and soft), and the merged votes by clip id."""
    column = VOTES[data.target]
    votes = {row.clip_id: _read_votes(getattr(row, column), data.merge) for row in rows}
    without = [row.clip_id for row in rows if not votes[row.clip_id].total()]
    if len(without) == len(rows):
        raise ManifestError(
            f"data.target={data.target}: no clip has {column}; take data.target=intended, or a manifest with votes "
            "(python -m preprocessing.cremad reads them from tabulatedVotes.csv)"
        )
    winners = {clip_id: _majority(counts) for clip_id, counts in votes.items() if counts.total()}
    tied = [clip_id for clip_id, emotion in winners.items() if not emotion]
    if without:
        notes.append(f"{len(without)} of {len(rows)} clips have no {column} and were left out, e.g. {without[0]}")
    if tied:
        fate = "only train" if data.soft_labels else "were left out"
        notes.append(f"{len(tied)} clips have no majority in {column} and {fate}, e.g. {tied[0]}")
    kept = [row for row in rows if winners.get(row.clip_id) or (data.soft_labels and row.clip_id in winners)]
    return [replace(row, emotion=winners[row.clip_id]) for row in kept], votes


def _read_votes(text: str, merge: Mapping[str, str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for emotion, number in (json.loads(text) if text else {}).items():
        counts[merge.get(emotion, emotion)] += number
    return counts


def _majority(counts: Counter[str]) -> str:
    """The emotion with most votes; empty where two share the first place."""
    (first, most), *others = counts.most_common(2)
    return "" if others and others[0][1] == most else first


def _shares(counts: Counter[str], emotions: list[str]) -> np.ndarray:
    """(C,) float32, sums to 1; all zero where nobody voted for any emotion of the set."""
    votes = np.array([counts[emotion] for emotion in emotions], np.float32)
    return votes / max(float(votes.sum()), 1e-9)


# --- checking ----------------------------------------------------------------------------------------------------


def _check_words(data: DataConfig) -> None:
    words = {"data.emotions": data.emotions, "data.merge": [*data.merge, *data.merge.values()]}
    for key, used in words.items():
        if unknown := [word for word in used if word not in EMOTIONS]:
            raise ManifestError(f"{key}: {unknown[0]!r} is no emotion; allowed: {', '.join(EMOTIONS)}")
    if len(set(data.emotions)) < len(data.emotions):
        raise ManifestError(f"data.emotions={data.emotions} names an emotion twice")
    if gone := [word for word in data.merge if word in (*data.emotions, *data.merge.values())]:
        raise ManifestError(
            f"data.merge turns {gone[0]} into {data.merge[gone[0]]}, so no clip of {gone[0]} is left; take it out "
            "of data.emotions and of the right-hand sides of data.merge"
        )


def _check_label_set(emotions: list[str], counts: Counter[str], data: DataConfig) -> None:
    others = {emotion: n for emotion, n in sorted(counts.items()) if emotion not in emotions}
    if others and not data.drop_other_emotions:
        raise ManifestError(
            f"emotions outside data.emotions={emotions}: {_listed(others)} clips. Add them to data.emotions, map them "
            "by data.merge, or leave their clips out by data.drop_other_emotions=true"
        )
    if absent := [emotion for emotion in emotions if not counts[emotion]]:
        raise ManifestError(
            f"no clip shows {', '.join(absent)} of data.emotions={emotions}; the manifest has {_listed(counts)}. "
            "Take it out of data.emotions"
        )
    if len(emotions) < 2:
        raise ManifestError(f"the label set is {emotions}; telling emotions apart needs at least two")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{emotion} {n}" for emotion, n in sorted(counts.items()))
