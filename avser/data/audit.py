"""Does a split keep its promise? Shared speakers, shared recordings and lopsided labels, found before training."""

from __future__ import annotations

import math
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable

from avser.data.cache import ClipCache
from avser.data.fingerprint import Duplicate, find_duplicates
from avser.data.manifest import ClipRow
from avser.data.splits import PARTS, Split, speaker_key
from avser.errors import SplitError

MAX_PAIRS = 5  # that one message lists


def audit_split(rows: list[ClipRow], split: Split, *, allow_shared_speakers: bool = False) -> list[str]:
    """Check a split against the manifest it divides.

    Args:
        rows: the clips that the split is about; clips that it leaves out are noted.
        allow_shared_speakers: accept speakers on two sides; the first note then says "speaker-dependent", and every
            result made with this split must carry it.

    Returns:
        Sentences that belong beside the results, the gravest first.

    Raises:
        SplitError: an empty part, an unknown clip, a clip in two parts, one recording or one performance in two parts,
            or (unless allowed) a speaker in two parts.
    """
    part_of = _part_by_clip(rows, split)
    inside = [row for row in rows if row.clip_id in part_of]
    _refuse_shared_recordings(inside, part_of)
    _refuse_shared_performances(inside, part_of)
    notes = _shared_speakers(inside, part_of, allow_shared_speakers)
    notes += _missing_emotions(inside, part_of)
    notes += _shared_sentences(inside, part_of)
    if len(inside) < len(rows):
        notes.append(f"{len(rows) - len(inside)} of {len(rows)} clips are in no part of the split")
    return notes


def audit_duplicates(rows: list[ClipRow], split: Split, cache: ClipCache) -> list[str]:
    """Find recordings that are in a corpus twice under different names, by their sound; see `avser.data.fingerprint`.

    Copies at another rate, level or codec and pieces of one another are found; files and speakers are not looked at.

    Returns:
        A sentence for each part that holds copies.

    Raises:
        SplitError: two parts hold the same recording.
        CacheError: a clip is not in the cache, or its file is damaged.
    """
    part_of = _part_by_clip(rows, split)
    found = find_duplicates({clip_id: cache.fingerprint(clip_id) for clip_id in part_of})
    if across := [pair for pair in found if part_of[pair.first] != part_of[pair.second]]:
        raise SplitError(
            f"{len(across)} {'pair' if len(across) == 1 else 'pairs'} of clips hold the same recording on two sides of "
            f"the split, going by the sound: {_list_pairs(across, part_of)}. A model would be tested on what it has "
            "learnt. Listen to them; then remove one of each pair from the manifest, or keep both in one part (by the "
            "same `speaker`, or by `split` where the manifest prescribes it)"
        )
    inside = {part: [pair for pair in found if part_of[pair.first] == part] for part in PARTS}
    return [
        f"{part} holds {len(pairs)} {'recording' if len(pairs) == 1 else 'recordings'} twice, going by the sound: "
        f"{_list_pairs(pairs, part_of)}"
        for part, pairs in inside.items()
        if pairs
    ]


def _list_pairs(pairs: list[Duplicate], part_of: dict[str, str]) -> str:
    described = [
        f"{pair.first} ({part_of[pair.first]}) and {pair.second} ({part_of[pair.second]}) share {pair.shared_s:.1f} s"
        for pair in pairs[:MAX_PAIRS]
    ]
    return "; ".join(described) + ("; ..." if len(pairs) > MAX_PAIRS else "")


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
    """One stretch of one file must not be on two sides, whatever its clips are called.

    The left and the right half of a split screen show two people: as pictures they are two recordings.
    """
    uses: dict[str, list[tuple[float, float, str, ClipRow]]] = defaultdict(list)
    for row in rows:
        start = row.start_s or 0.0
        end = math.inf if row.end_s is None else row.end_s
        for path, side in {(row.audio, ""), (row.video, row.side)}:
            if path:
                uses[posixpath.normpath(path.replace("\\", "/"))].append((start, end, side, row))
    for path, stretches in uses.items():
        stretches.sort(key=lambda stretch: stretch[:2])
        ends: dict[tuple[str, str], tuple[float, ClipRow]] = {}  # part, side -> the furthest end so far
        for start, end, side, row in stretches:
            part = part_of[row.clip_id]
            for (other_part, other_side), (other_end, other) in ends.items():
                apart = side and other_side and side != other_side
                if other_part != part and start < other_end and not apart:
                    raise SplitError(
                        f"{path}: clips {other.clip_id} ({other_part}) and {row.clip_id} ({part}) overlap in it; "
                        "keep them in one part, or remove one of them"
                    )
            if (part, side) not in ends or end > ends[part, side][0]:
                ends[part, side] = (end, row)


def _refuse_shared_performances(rows: Iterable[ClipRow], part_of: dict[str, str]) -> None:
    """Two recordings of one moment (with picture and without, from two cameras) are copies of each other."""
    first: dict[tuple[str, str], ClipRow] = {}
    for row in rows:
        if row.performance:
            other = first.setdefault((row.corpus, row.performance), row)
            if part_of[other.clip_id] != part_of[row.clip_id]:
                raise SplitError(
                    f"clips {other.clip_id} ({part_of[other.clip_id]}) and {row.clip_id} ({part_of[row.clip_id]}) "
                    f"record one performance, {row.performance}; keep them in one part, or remove one of them"
                )


def _shared_speakers(rows: Iterable[ClipRow], part_of: dict[str, str], allowed: bool) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        parts[speaker_key(row)].add(part_of[row.clip_id])
    shared = {speaker: found for speaker, found in parts.items() if len(found) > 1}
    if not shared:
        return []
    tested = [speaker for speaker, found in shared.items() if "test" in found]
    if not allowed:
        speaker = (tested or list(shared))[0]
        raise SplitError(
            f"{len(shared)} of {len(parts)} speakers are in more than one part, e.g. {speaker} in "
            f"{' and '.join(p for p in PARTS if p in shared[speaker])}: a model could know emotions by the speaker. "
            "Take data.protocol=speaker_holdout, or data.allow_shared_speakers=true to report "
            f"{'speaker-dependent results' if tested else 'a model chosen on voices that it knows'}"
        )
    if not tested:
        return [f"train and val share {len(shared)} speakers, and nobody of them tests"]
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
