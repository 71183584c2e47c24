"""Which clips train, which validate, which test: by speaker, so that no voice or face is on two sides.

`make_split` proposes; `avser.data.audit` checks what any split (also one that a corpus prescribes) lets through.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from avser.config import DataConfig
from avser.data.manifest import ClipRow
from avser.errors import SplitError

PARTS = ("train", "val", "test")


@dataclass
class Split:
    """Three lists of clip ids.

    Attributes:
        protocol: how the split was made, e.g. "speaker_holdout(test=0.2,val=0.2,seed=0)"; named in every result.
        train, val, test: clip ids in the order of the manifest.
        notes: sentences for the person.
    """

    protocol: str
    train: list[str]
    val: list[str]
    test: list[str]
    notes: list[str] = field(default_factory=list)

    def parts(self) -> dict[str, list[str]]:
        return {name: getattr(self, name) for name in PARTS}

    def fingerprint(self) -> str:
        """16 hex digits that are equal exactly when the same clips are in the same parts, whatever made them so."""
        text = json.dumps([sorted(ids) for ids in self.parts().values()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fingerprint": self.fingerprint()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Split:
        """The split that `to_json` wrote.

        Raises:
            SplitError: a part is missing or no list of clip ids, or the fingerprint does not fit the clips.
        """
        if not isinstance(values, dict) or not isinstance(values.get("protocol"), str):
            raise SplitError("stored split: no 'protocol'; it was not written by avser, or is damaged")
        for name in (*PARTS, "notes"):
            ids = values.get(name)
            if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
                raise SplitError(f"stored split: {name!r} must be a list of texts; the file is damaged or incomplete")
        split = cls(values["protocol"], *(list(values[name]) for name in (*PARTS, "notes")))
        if values.get("fingerprint", split.fingerprint()) != split.fingerprint():
            raise SplitError(
                f"stored split: fingerprint {values['fingerprint']} does not fit its clips ({split.fingerprint()}); "
                "the lists were changed after writing"
            )
        return split


def make_split(rows: list[ClipRow], data: DataConfig) -> Split:
    """Divide the clips by the protocol that `data` names. The same rows in any order give the same parts.

    Raises:
        SplitError: unknown protocol, too few speakers, or a `split` column that does not do; with advice.
    """
    if data.protocol not in PROTOCOLS:
        raise SplitError(f"data.protocol={data.protocol!r}; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[data.protocol](rows, data)


def speaker_key(row: ClipRow) -> str:
    """Speakers are named within their corpus: actor 01 of one is not actor 01 of another."""
    return f"{row.corpus}/{row.speaker}"


def speaker_holdout(rows: list[ClipRow], data: DataConfig) -> Split:
    """`test_share` of all speakers test, `val_share` of the others validate; both sexes in proportion where known."""
    sexes = _sex_by_speaker(rows)
    if len(sexes) < 3:
        raise SplitError(
            f"speaker_holdout needs at least 3 speakers (train, val, test), the manifest has {len(sexes)}; "
            "add speakers, or prescribe parts in the manifest's `split` column and take data.protocol=manifest"
        )
    order = _interleave(sexes, np.random.default_rng(data.split_seed))
    num_test = _num_taken(len(order), data.test_share, "data.test_share", num_left=2)
    test, rest = set(order[:num_test]), order[num_test:]
    num_val = _num_taken(len(rest), data.val_share, "data.val_share", num_left=1)
    name = f"speaker_holdout(test={data.test_share:g},val={data.val_share:g},seed={data.split_seed})"
    return _divide(rows, name, set(rest[:num_val]), test, sexes)


def speaker_kfold(rows: list[ClipRow], data: DataConfig) -> Split:
    """Fold `data.fold` (from 0) of `data.num_folds` tests; `val_share` of the other speakers validate.

    Over all folds every speaker tests exactly once. As many folds as speakers is leave-one-speaker-out.
    """
    sexes = _sex_by_speaker(rows)
    if not 2 <= data.num_folds <= len(sexes) or len(sexes) < 3:
        raise SplitError(
            f"speaker_kfold with data.num_folds={data.num_folds} needs at least 3 speakers and from 2 folds up to one "
            f"a speaker; the manifest has {len(sexes)} speakers"
        )
    if not 0 <= data.fold < data.num_folds:
        raise SplitError(f"data.fold={data.fold}: folds count from 0 to {data.num_folds - 1}")
    test = {s for i, s in enumerate(_by_stratum(sexes, data.split_seed)) if i % data.num_folds == data.fold}
    rest = {speaker: sex for speaker, sex in sexes.items() if speaker not in test}
    if len(rest) < 2:
        raise SplitError(
            f"speaker_kfold: {len(test)} of {len(sexes)} speakers test, which leaves {len(rest)} for train and val; "
            f"raise data.num_folds (up to {len(sexes)}: leave one speaker out)"
        )
    order = _interleave(rest, np.random.default_rng([data.split_seed, data.fold]))
    num_val = _num_taken(len(order), data.val_share, "data.val_share", num_left=1)
    name = f"speaker_kfold(fold={data.fold},num_folds={data.num_folds},val={data.val_share:g},seed={data.split_seed})"
    return _divide(rows, name, set(order[:num_val]), test, sexes)


def manifest_column(rows: list[ClipRow], _data: DataConfig) -> Split:
    """The parts that the corpus prescribes in the manifest's `split` column."""
    blank = [row.clip_id for row in rows if not row.split]
    if blank:
        raise SplitError(
            f"data.protocol=manifest: {len(blank)} of {len(rows)} clips have an empty `split`, e.g. {blank[0]}; fill "
            "it with train, val or test, or take data.protocol=speaker_holdout"
        )
    split = Split("manifest", *([row.clip_id for row in rows if row.split == part] for part in PARTS))
    for part, ids in split.parts().items():
        if not ids:
            advice = "take whole speakers out of train for it" if part == "val" else "name some in the `split` column"
            raise SplitError(
                f"data.protocol=manifest: no clip has split={part}; {advice}, or take data.protocol=speaker_holdout"
            )
    return split


PROTOCOLS: dict[str, Callable[[list[ClipRow], DataConfig], Split]] = {
    "speaker_holdout": speaker_holdout,
    "speaker_kfold": speaker_kfold,
    "manifest": manifest_column,
}


# --- speakers ----------------------------------------------------------------------------------------------------


def _sex_by_speaker(rows: Iterable[ClipRow]) -> dict[str, str]:
    """speaker -> sex (or ""), sorted, so that the order of the rows plays no part."""
    sexes: dict[str, str] = {}
    for row in rows:
        key = speaker_key(row)
        sexes[key] = max(sexes.get(key, ""), row.sex)
    return dict(sorted(sexes.items()))


def _shuffled_strata(sexes: dict[str, str], rng: np.random.Generator) -> list[list[str]]:
    strata: dict[str, list[str]] = defaultdict(list)
    for speaker, sex in sexes.items():
        strata[sex].append(speaker)
    return [list(rng.permutation(np.array(strata[sex], dtype=object))) for sex in sorted(strata)]


def _interleave(sexes: dict[str, str], rng: np.random.Generator) -> list[str]:
    """All speakers in random order, such that every beginning of the list holds the sexes in proportion."""
    placed = []
    for stratum in _shuffled_strata(sexes, rng):
        tie_break = rng.random()
        placed += [((i + 0.5) / len(stratum), tie_break, speaker) for i, speaker in enumerate(stratum)]
    return [speaker for _, _, speaker in sorted(placed)]


def _by_stratum(sexes: dict[str, str], seed: int) -> list[str]:
    """One sex after the other; dealing this list out gives every fold its proportion of each."""
    return [speaker for stratum in _shuffled_strata(sexes, np.random.default_rng(seed)) for speaker in stratum]


def _num_taken(num_speakers: int, share: float, key: str, *, num_left: int) -> int:
    """How many of `num_speakers` a share takes: at least one, and at least `num_left` stay."""
    if not 0 < share < 1:
        raise SplitError(f"{key}={share:g}: must lie between 0 and 1, so that no part is empty; 0.2 is usual")
    return min(max(1, round(share * num_speakers)), num_speakers - num_left)


def _divide(rows: list[ClipRow], protocol: str, val: set[str], test: set[str], sexes: dict[str, str]) -> Split:
    split = Split(protocol, [], [], [])
    for row in rows:
        speaker = speaker_key(row)
        part = split.test if speaker in test else split.val if speaker in val else split.train
        part.append(row.clip_id)
    train = set(sexes) - val - test
    counts = (f"{part} {_count_sexes(names, sexes)}" for part, names in zip(PARTS, (train, val, test), strict=True))
    split.notes.append(f"speakers: {', '.join(counts)}")
    return split


def _count_sexes(speakers: set[str], sexes: dict[str, str]) -> str:
    """E.g. "18 (9 female, 9 male)"."""
    counts = Counter(sexes[s] or "unknown" for s in speakers)
    return f"{len(speakers)} ({', '.join(f'{n} {sex}' for sex, n in sorted(counts.items()))})"
