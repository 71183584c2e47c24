"""What stays together in a split: groups of clips (the speakers, as a rule), a fold of them, and how they are drawn."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from avser.config import DataConfig, ProtocolConfig
from avser.data.manifest import ClipRow
from avser.errors import SplitError

PARTS = ("train", "val", "test")


def speaker_key(row: ClipRow) -> str:
    """Speakers are named within their corpus: actor 01 of one is not actor 01 of another."""
    return f"{row.corpus}/{row.speaker}"


def _session_key(row: ClipRow) -> str:
    return f"{row.corpus}/{row.session}" if row.session else ""


GROUPS: dict[str, Callable[[ClipRow], str]] = {
    "speaker": speaker_key,
    "session": _session_key,
    "sentence": lambda row: row.sentence,
}


@dataclass(frozen=True)
class Fold:
    """One fold of a protocol.

    Attributes:
        protocol: its name.
        settings: what else the fold depends on, e.g. {"fold": 2}.
        group_of: the group that a clip belongs to.
        test, val, train: groups. Without `val` a share of what trains is drawn for it; without `train` every other
            group trains.
        val_by: what is drawn for `val`: whole speakers, sessions or sentences.
        published: what its publication says of it, or None.
        notes: sentences for the person.
    """

    protocol: str
    settings: Mapping[str, float | str]
    group_of: Callable[[ClipRow], str]
    test: frozenset[str]
    val: frozenset[str] = frozenset()
    train: frozenset[str] = frozenset()
    val_by: str = "speaker"
    published: ProtocolConfig | None = None
    notes: list[str] = field(default_factory=list)

    def part_of(self, row: ClipRow) -> str | None:
        """train, val or test; None for a clip that the protocol leaves out."""
        group = self.group_of(row)
        if group in self.test:
            return "test"
        if group in self.val:
            return "val"
        return "train" if not self.train or group in self.train else None


def group_names(rows: list[ClipRow], column: str) -> list[str]:
    """Every group of the manifest, numbers in them in order of size."""
    blank = [row.clip_id for row in rows if not getattr(row, column)]
    if blank:
        raise SplitError(
            f"the protocol divides by {column}, but {len(blank)} of {len(rows)} clips have none in the manifest, e.g. "
            f"{blank[0]}; fill the column `{column}`, or take another protocol"
        )
    return sorted({GROUPS[column](row) for row in rows}, key=natural_order)


def natural_order(name: str) -> list[tuple[int, str]]:
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in re.split(r"(\d+)", name)]


def check_fold(data: DataConfig, num_folds: int) -> None:
    if not 0 <= data.fold < num_folds:
        raise SplitError(f"data.fold={data.fold}: folds count from 0 to {num_folds - 1} in {data.protocol}")


def sex_by_speaker(rows: Iterable[ClipRow]) -> dict[str, str]:
    """speaker -> sex (or ""), sorted, so that the order of the rows plays no part."""
    sexes: dict[str, str] = {}
    for row in rows:
        key = speaker_key(row)
        sexes[key] = max(sexes.get(key, ""), row.sex)
    return dict(sorted(sexes.items()))


def interleave(sexes: dict[str, str], rng: np.random.Generator) -> list[str]:
    """All speakers in random order, such that every beginning of the list holds the sexes in proportion."""
    placed = []
    for stratum in _shuffled_strata(sexes, rng):
        tie_break = rng.random()
        placed += [((i + 0.5) / len(stratum), tie_break, speaker) for i, speaker in enumerate(stratum)]
    return [speaker for _, _, speaker in sorted(placed)]


def num_taken(num_groups: int, share: float, key: str, *, num_left: int) -> int:
    """How many of `num_groups` a share takes: at least one, and at least `num_left` stay."""
    if not 0 < share < 1:
        raise SplitError(f"{key}={share:g}: must lie between 0 and 1, so that no part is empty; 0.2 is usual")
    return min(max(1, round(share * num_groups)), num_groups - num_left)


def deal_order(sexes: dict[str, str], seed: int) -> list[str]:
    """One sex after the other; dealing this list out gives every fold its proportion of each."""
    return [speaker for stratum in _shuffled_strata(sexes, np.random.default_rng(seed)) for speaker in stratum]


def _shuffled_strata(sexes: dict[str, str], rng: np.random.Generator) -> list[list[str]]:
    strata: dict[str, list[str]] = defaultdict(list)
    for speaker, sex in sexes.items():
        strata[sex].append(speaker)
    return [list(rng.permutation(np.array(strata[sex], dtype=object))) for sex in sorted(strata)]
