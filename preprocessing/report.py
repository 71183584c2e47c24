"""What an adapter tells: the clips it found, every clip it left out and why, and both against the complete corpus."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Literal

from avser.data.manifest import ClipRow

Kind = Literal["missing", "bad", "pointer", "empty", "double", "unlabelled", "foreign", "unwanted"]
MAX_BAD = 12  # known faults that the summary lists one by one


@dataclass(frozen=True)
class LeftOut:
    """A clip or file that is not in the manifest, or a clip that is there without one of its files.

    Attributes:
        name: clip id as far as it is known, else the path relative to the raw folder.
        kind: "missing" (the corpus should hold it), "bad" (known to be broken, or broken in itself), "pointer" (a
            link to content that was not fetched, such as Git LFS's), "empty" (0 bytes), "double" (the same file
            again), "unlabelled" (no usable label), "foreign" (not named like the corpus), "unwanted" (left out by an
            option).
        reason: for the person; what to do about it.
    """

    name: str
    kind: Kind
    reason: str


@dataclass
class CorpusReport:
    """What an adapter found in a raw corpus.

    Attributes:
        rows: one a clip, in order of clip id; paths relative to the raw folder.
        notes: sentences for the person, the counts first.
        left_out: every clip or file of the corpus that the rows do not hold, with the reason.
    """

    rows: list[ClipRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Expected:
    """What a complete corpus holds, for `compare_counts`.

    Attributes:
        clips: number of clips.
        speakers: their names, or only their number where names vary.
        emotions: emotion -> number of clips; empty where nobody knows.
        sexes: sex -> number of speakers; empty where the corpus does not tell.
    """

    clips: int
    speakers: Sequence[str] | int
    emotions: Mapping[str, int] = field(default_factory=dict)
    sexes: Mapping[str, int] = field(default_factory=dict)


def compare_counts(rows: Sequence[ClipRow], expected: Expected, *, label: str = "") -> list[str]:
    """Sentences on what was found against what there is: clips, speakers, per emotion, per sex; none without rows.

    Args:
        label: put before the sentences, e.g. "speech".
    """
    if not rows:
        return []
    names = {row.speaker for row in rows}
    num_speakers = expected.speakers if isinstance(expected.speakers, int) else len(expected.speakers)
    notes = [
        f"found {len(rows)} of {expected.clips} clips, {len(names)} of {num_speakers} speakers; "
        f"{sum(bool(row.audio) for row in rows)} with voice, {sum(bool(row.video) for row in rows)} with picture"
    ]
    if expected.emotions:
        counts = Counter(row.emotion for row in rows)
        of_all = [f"{emotion} {counts[emotion]} of {n}" for emotion, n in expected.emotions.items()]
        others = [f"{e or 'without emotion'} {n}" for e, n in sorted(counts.items()) if e not in expected.emotions]
        notes.append(f"clips by emotion: {', '.join(of_all + others)}")
    if expected.sexes:
        clips = Counter(row.sex for row in rows)
        speakers = Counter(sex for _, sex in {(row.speaker, row.sex) for row in rows})
        of_all = [f"{sex} {speakers[sex]} of {n} ({clips[sex]} clips)" for sex, n in expected.sexes.items()]
        others = [f"{sex or 'unknown'} {n}" for sex, n in sorted(speakers.items()) if sex not in expected.sexes]
        notes.append(f"speakers by sex: {', '.join(of_all + others)}")
    if not isinstance(expected.speakers, int) and (missing := [s for s in expected.speakers if s not in names]):
        notes.append(f"no clip of {len(missing)} speakers: {_first_few(missing, 5)}")
    return [f"{label}: {note}" if label else note for note in notes]


SUMMARIES: dict[Kind, str] = {
    "missing": "clips that the corpus should hold are missing",
    "bad": "clips or files are known to be bad",
    "pointer": "Git LFS pointers or dead links instead of media; run `git lfs pull` or `git annex get` in the corpus",
    "empty": "empty files; download them again",
    "double": "files are there twice; each was taken once",
    "unlabelled": "clips have no usable label",
    "foreign": "media files are not named like clips of this corpus and were left out",
}


def summarise_left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """E.g. "12 files are there twice; each was taken once (a.wav, b.wav, c.wav, ...)"; a few bad ones one by one."""
    for kind, what in SUMMARIES.items():
        found = [entry for entry in left_out if entry.kind == kind]
        if kind == "bad" and len(found) <= MAX_BAD:
            yield from (f"{entry.name}: {entry.reason}" for entry in found)
        elif found:
            yield f"{len(found)} {what} ({_first_few([entry.name for entry in found], 3)})"
    options = Counter(entry.reason for entry in left_out if entry.kind == "unwanted")
    yield from (f"{num} clips were left out: {reason}" for reason, num in options.items())


def write_left_out(left_out: Sequence[LeftOut], manifest: Path) -> Path | None:
    """Write `<manifest stem>.left_out.csv` beside the manifest; with nothing to tell, one of an earlier run goes."""
    path = manifest.with_name(f"{manifest.stem}.left_out.csv")
    if not left_out:
        path.unlink(missing_ok=True)
        return None
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "kind", "reason"])
        writer.writerows(astuple(entry) for entry in left_out)
    return path


def _first_few(names: Sequence[str], num: int) -> str:
    return ", ".join(names[:num]) + (", ..." if len(names) > num else "")
