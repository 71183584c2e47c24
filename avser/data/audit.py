"""Does a split keep its promise? Shared speakers, shared recordings and lopsided labels, found before training."""

from __future__ import annotations

import math
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable

from avser.data.manifest import ClipRow
from avser.data.splits import PARTS, Split, speaker_key
from avser.errors import SplitError


def audit_split(rows: list[ClipRow], split: Split, *, allow_shared_speakers: bool = False) -> list[str]:
    """Check a split against the manifest it divides.

    Args:
        rows: the clips that the split is about; clips that it leaves out are noted.
        allow_shared_speakers: accept speakers on two sides; the first note then says "speaker-dependent", and every
            result made with this split must carry it.

    Returns:
        Sentences that belong beside the results, the gravest first.

    Raises:
        SplitError: an empty part, an unknown clip, a clip in two parts, one recording in two parts, or (unless allowed)
            a speaker in two parts.
    """
    part_of = _part_by_clip(rows, split)
    inside = [row for row in rows if row.clip_id in part_of]
    _refuse_shared_recordings(inside, part_of)
    notes = _shared_speakers(inside, part_of, allow_shared_speakers)
    notes += _missing_emotions(inside, part_of)
    notes += _shared_sentences(inside, part_of)
    if len(inside) < len(rows):
        notes.append(f"{len(rows) - len(inside)} of {len(rows)} clips are in no part of the split")
    return notes


def _part_by_clip(rows: list[ClipRow], split: Split) -> dict[str, str]:
    known = {row.clip_id for row in rows}
    part_of: dict[str, str] = {}
    for part, ids in split.parts().items():
        if not ids:
            raise SplitError(f"the split has no clips in {part}; every part needs some, so that results mean something")
        for clip_id in ids:
            if clip_id in part_of:
                raise SplitError(
                    f"clip {clip_id} is in {part_of[clip_id]} and again in {part}; name it in one part only"
                )
            if clip_id not in known:
                raise SplitError(
                    f"clip {clip_id} of {part} is not in the manifest; the split belongs to another corpus"
                )
            part_of[clip_id] = part
    return part_of


def _refuse_shared_recordings(rows: Iterable[ClipRow], part_of: dict[str, str]) -> None:
    """One stretch of one file must not be on two sides, whatever its clips are called."""
    uses: dict[str, list[tuple[float, float, ClipRow]]] = defaultdict(list)
    for row in rows:
        start = row.start_s or 0.0
        end = math.inf if row.end_s is None else row.end_s
        for path in {posixpath.normpath(p.replace("\\", "/")) for p in (row.audio, row.video) if p}:
            uses[path].append((start, end, row))
    for path, stretches in uses.items():
        stretches.sort(key=lambda stretch: stretch[:2])
        ends: dict[str, tuple[float, ClipRow]] = {}  # part -> the furthest end so far
        for start, end, row in stretches:
            part = part_of[row.clip_id]
            for other_part, (other_end, other) in ends.items():
                if other_part != part and start < other_end:
                    raise SplitError(
                        f"{path}: clips {other.clip_id} ({other_part}) and {row.clip_id} ({part}) overlap in it; "
                        "keep them in one part, or remove one of them"
                    )
            if part not in ends or end > ends[part][0]:
                ends[part] = (end, row)


def _shared_speakers(rows: Iterable[ClipRow], part_of: dict[str, str], allowed: bool) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        parts[speaker_key(row)].add(part_of[row.clip_id])
    shared = {speaker: found for speaker, found in parts.items() if len(found) > 1}
    if not shared:
        return []
    if not allowed:
        speaker, found = next(iter(shared.items()))
        raise SplitError(
            f"{len(shared)} of {len(parts)} speakers are in more than one part, e.g. {speaker} in "
            f"{' and '.join(p for p in PARTS if p in found)}: a model could know emotions by the speaker. Take "
            "data.protocol=speaker_holdout, or data.allow_shared_speakers=true to report speaker-dependent results"
        )
    return [f"speaker-dependent: {len(shared)} speakers shared"]


def _missing_emotions(rows: Iterable[ClipRow], part_of: dict[str, str]) -> list[str]:
    counts = {part: Counter[str]() for part in PARTS}
    for row in rows:
        if row.emotion:
            counts[part_of[row.clip_id]][row.emotion] += 1
    everything = sorted(set().union(*counts.values()))
    notes = []
    consequences = {
        "train": "never learnt",
        "val": "the best epoch is chosen without it",
        "test": "not measured",
    }
    for part in PARTS:
        if missing := [emotion for emotion in everything if not counts[part][emotion]]:
            notes.append(f"{part} has no clip of {', '.join(missing)}: {consequences[part]}")
    return notes


def _shared_sentences(rows: Iterable[ClipRow], part_of: dict[str, str]) -> list[str]:
    said: dict[str, set[str]] = {part: set() for part in PARTS}
    for row in rows:
        if row.sentence:
            said[part_of[row.clip_id]].add(row.sentence)
    shared = said["train"] & said["test"]
    return [f"{len(shared)} of {len(said['test'])} test sentences are also said in train"] if shared else []
