"""Which clips train, which validate, which test, and what such a split keeps apart.

`make_split` proposes; `avser.data.audit` checks what any split (also one that a corpus prescribes) lets through.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from avser.config import DataConfig, ProtocolConfig
from avser.data.groups import GROUPS, PARTS, Fold, group_names, interleave, num_taken, sex_by_speaker, speaker_key
from avser.data.manifest import ClipRow
from avser.data.protocols import find_fold
from avser.errors import SplitError

__all__ = ["PARTS", "Split", "Verdict", "judge_split", "make_split", "speaker_key"]


@dataclass(frozen=True)
class Verdict:
    """What a split keeps apart; None: the manifest does not tell.

    Attributes:
        speakers_disjoint: nobody in test is heard or seen in train or val.
        sentences_disjoint: no sentence of test is said in train or val.
        val_apart_from_test: no clip and no performance of test is in val, so the test chose nothing.
    """

    speakers_disjoint: bool | None
    sentences_disjoint: bool | None
    val_apart_from_test: bool | None

    def __str__(self) -> str:
        """One line: "speakers disjoint: yes; sentences disjoint: no; validation apart from test: yes"."""
        return "; ".join(f"{words}: {yes_or_no(getattr(self, name))}" for name, words in VERDICTS.items())


VERDICTS = {
    "speakers_disjoint": "speakers disjoint",
    "sentences_disjoint": "sentences disjoint",
    "val_apart_from_test": "validation apart from test",
}


def yes_or_no(answer: bool | None, *, unknown: str = "not known") -> str:
    return unknown if answer is None else "yes" if answer else "no"


@dataclass
class Split:
    """Three lists of clip ids.

    Attributes:
        protocol: how the split was made, e.g. "speaker_holdout(test=0.2,val=0.2,seed=0)"; named in every result.
        train, val, test: clip ids in the order of the manifest.
        notes: sentences for the person.
        verdict: what it keeps apart, found out from the clips; None for a split that nobody judged.
    """

    protocol: str
    train: list[str]
    val: list[str]
    test: list[str]
    notes: list[str] = field(default_factory=list)
    verdict: Verdict | None = None

    def parts(self) -> dict[str, list[str]]:
        return {name: getattr(self, name) for name in PARTS}

    def describe(self) -> str:
        """The protocol, and in the same line what it keeps apart."""
        return f"{self.protocol}; {self.verdict}" if self.verdict else self.protocol

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
        train, val, test, notes = (list(values[name]) for name in (*PARTS, "notes"))
        split = cls(values["protocol"], train, val, test, notes, _read_verdict(values.get("verdict")))
        if values.get("fingerprint", split.fingerprint()) != split.fingerprint():
            raise SplitError(
                f"stored split: fingerprint {values['fingerprint']} does not fit its clips ({split.fingerprint()}); "
                "the lists were changed after writing"
            )
        return split


def make_split(rows: list[ClipRow], data: DataConfig) -> Split:
    """Divide the clips by the protocol that `data` names. The same rows in any order give the same parts.

    Where the protocol names nobody for validation, `data.val_share` of the training speakers (sessions, sentences)
    validate: never the test clips. What differs from the publication is noted.

    Raises:
        SplitError: unknown protocol, one made for another corpus, too few speakers, or a part without clips; with
            advice.
    """
    fold = find_fold(rows, data)
    parts: dict[str, list[ClipRow]] = {part: [] for part in PARTS}
    for row in rows:
        if part := fold.part_of(row):
            parts[part].append(row)
    settings, notes = dict(fold.settings), list(fold.notes)
    _refuse_empty(parts, fold.protocol, ("train", "test"))
    if not parts["val"]:
        parts["train"], parts["val"] = _draw_validation(parts["train"], fold, data)
        settings |= {"val": data.val_share, "seed": data.split_seed}
    if data.test_sentences:
        notes += _hold_out(rows, parts, data.test_sentences)
        settings["test_sentences"] = len(data.test_sentences)
        _refuse_empty(parts, f"{fold.protocol} with data.test_sentences", PARTS)
    name = ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items())
    train, val, test = ([row.clip_id for row in parts[part]] for part in PARTS)
    split = Split(f"{fold.protocol}({name})" if name else fold.protocol, train, val, test)
    split.verdict = judge_split(rows, split)
    if fold.published:
        notes += _differences(fold.published, split.verdict, data.val_share if "val" in settings else None)
    split.notes = [_count_speakers(rows, parts), *notes]
    return split


def judge_split(rows: list[ClipRow], split: Split) -> Verdict:
    """What a split keeps apart, from the rows themselves and not from what its name promises."""
    part_of = {clip_id: part for part, ids in split.parts().items() for clip_id in ids}
    test = [row for row in rows if part_of.get(row.clip_id) == "test"]
    others = [row for row in rows if part_of.get(row.clip_id) in ("train", "val")]
    sentences: bool | None = {row.sentence for row in test if row.sentence}.isdisjoint(row.sentence for row in others)
    if sentences and not all(row.sentence for row in (*test, *others)):
        sentences = None  # those that are not known may be shared
    val = [row for row in others if part_of[row.clip_id] == "val"]
    return Verdict(
        speakers_disjoint={speaker_key(row) for row in test}.isdisjoint(map(speaker_key, others)),
        sentences_disjoint=sentences,
        val_apart_from_test=set(split.val).isdisjoint(split.test)
        and {_performance(row) for row in test}.isdisjoint(map(_performance, val)),
    )


def _performance(row: ClipRow) -> str:
    return f"{row.corpus}/{row.performance}" if row.performance else row.clip_id


# --- dividing ----------------------------------------------------------------------------------------------------


def _refuse_empty(parts: dict[str, list[ClipRow]], protocol: str, needed: Iterable[str]) -> None:
    for part in needed:
        if not parts[part]:
            raise SplitError(
                f"data.protocol={protocol}: no clip of the manifest is in {part}; is it the complete corpus that the "
                "protocol was made for?"
            )


def _draw_validation(rows: list[ClipRow], fold: Fold, data: DataConfig) -> tuple[list[ClipRow], list[ClipRow]]:
    """What trains and what validates: `val_share` of the speakers in `rows`, or of their sessions or sentences."""
    group_of = GROUPS[fold.val_by]
    groups = sex_by_speaker(rows) if fold.val_by == "speaker" else dict.fromkeys(group_names(rows, fold.val_by), "")
    if len(groups) < 2:
        raise SplitError(
            f"data.protocol={fold.protocol} leaves {len(groups)} {fold.val_by} for train and val, 2 are needed; raise "
            f"data.num_folds where the protocol has it (up to one fold a {fold.val_by}), or take another protocol"
        )
    order = interleave(groups, np.random.default_rng([data.split_seed, data.fold]))
    val = set(order[: num_taken(len(order), data.val_share, "data.val_share", num_left=1)])
    return [row for row in rows if group_of(row) not in val], [row for row in rows if group_of(row) in val]


def _hold_out(rows: list[ClipRow], parts: dict[str, list[ClipRow]], sentences: list[str]) -> list[str]:
    """Leave in test only what says one of these sentences, and in train and val what says another; changes `parts`."""
    known = {row.sentence for row in rows}
    if "" in known:
        raise SplitError(
            f"data.test_sentences: {sum(not row.sentence for row in rows)} clips have no `sentence` in the manifest, "
            "so nobody knows whether they say one of them; fill the column"
        )
    for sentence in sentences:
        if sentence not in known:
            near = difflib.get_close_matches(sentence, sorted(known), n=1, cutoff=0)
            raise SplitError(f"data.test_sentences: nobody says {sentence!r}; did you mean {near[0]!r}?")
    before = sum(map(len, parts.values()))
    for part in PARTS:
        parts[part] = [row for row in parts[part] if (row.sentence in sentences) == (part == "test")]
    left_out = before - sum(map(len, parts.values()))
    return [f"test says only {', '.join(map(repr, sentences))}, train and val never: {left_out} clips are left out"]


def _differences(published: ProtocolConfig, found: Verdict, drawn_share: float | None) -> list[str]:
    """Where this split is not what the publication has; `drawn_share` of what trains there validates here."""
    notes = []
    for name, words in VERDICTS.items():
        theirs, ours = getattr(published, name), getattr(found, name)
        if None not in (theirs, ours) and theirs != ours:
            notes.append(f"as published, {words}: {yes_or_no(theirs)}; here: {yes_or_no(ours)}")
    if drawn_share is not None:
        whose = f"{100 * drawn_share:g} % of the training {published.val_by}s validate"
        notes.append(f"published without a validation set of its own; here {whose}, never test clips")
    return notes


def _count_speakers(rows: list[ClipRow], parts: dict[str, list[ClipRow]]) -> str:
    """E.g. "speakers: train 18 (9 female, 9 male), val ..."."""
    sexes = sex_by_speaker(rows)
    found = {part: {speaker_key(row) for row in parts[part]} for part in PARTS}
    counts = {part: Counter(sexes[speaker] or "unknown" for speaker in found[part]) for part in PARTS}
    return "speakers: " + ", ".join(
        f"{part} {len(found[part])} ({', '.join(f'{n} {sex}' for sex, n in sorted(counts[part].items()))})"
        for part in PARTS
    )


def _read_verdict(stored: object) -> Verdict | None:
    if stored is None:  # written before splits were judged
        return None
    names = [f.name for f in fields(Verdict)]
    if isinstance(stored, dict) and set(stored) == set(names) and all(stored[n] in (True, False, None) for n in names):
        return Verdict(**stored)
    raise SplitError(f"stored split: 'verdict' must say yes, no or null of {', '.join(names)}; the file is damaged")
