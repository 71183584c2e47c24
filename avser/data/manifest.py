"""The manifest: one row a clip, and beside it the table of planted or annotated regions.

`manifest.csv` (UTF-8) has the columns of `ClipRow`; paths are relative to the folder of the manifest and may not leave
it. `regions.csv` in the same folder holds intervals with known truth: clip_id, modality, start_s, end_s.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath

from avser.errors import ManifestError
from avser.structures import MODALITIES, Region

REQUIRED = ("clip_id", "corpus", "speaker", "emotion", "audio", "video")
EMOTIONS = [
    *("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"),
    *("boredom", "contempt", "excitement", "frustration"),
]
PATHS = ("audio", "video", "face_features")
SECONDS = ("start_s", "end_s")
RATINGS = ("valence", "activation", "dominance")
VOTES = ("votes_audio", "votes_video", "votes_av")
CHOICES = {"split": ("train", "val", "test"), "side": ("left", "right")}
MAX_FAULTS = 20  # that one message lists
MAX_ID_BYTES = 200  # file systems take 255 bytes, suffixes included
MAX_VOTES = 1_000_000  # more is a mistake


@dataclass(frozen=True)
class ClipRow:
    """One clip of a corpus.

    Attributes:
        clip_id: unique in the manifest; letters, digits and `._-` only, because it names a cache file.
        corpus, speaker: `speaker` is unique within the corpus.
        emotion: a full lower-case word; empty where unknown.
        audio, video: paths relative to the manifest's folder; either may be empty, and both may name one file.
        sex, sentence, intensity, session: as the corpus has them, or empty.
        performance: clips that record one and the same performance share this name; they never part in a split.
        side: "left" or "right": the half of the picture that shows the speaker; empty for the whole of it.
        start_s, end_s: the part of the file that is the clip; None for the whole file.
        split: train, val or test where the corpus prescribes it, else empty.
        face_features: path of a table computed elsewhere, or empty.
        votes_audio, votes_video, votes_av: JSON counts of human votes by emotion, or empty.
        valence, activation, dominance: ratings on the corpus's own scale, or None.
    """

    clip_id: str
    corpus: str
    speaker: str
    emotion: str
    audio: str = ""
    video: str = ""
    sex: str = ""
    sentence: str = ""
    intensity: str = ""
    session: str = ""
    performance: str = ""
    side: str = ""
    start_s: float | None = None
    end_s: float | None = None
    split: str = ""
    face_features: str = ""
    votes_audio: str = ""
    votes_video: str = ""
    votes_av: str = ""
    valence: float | None = None
    activation: float | None = None
    dominance: float | None = None


@dataclass
class Manifest:
    """The rows of a manifest and the folder that their paths are relative to."""

    rows: list[ClipRow]
    root: Path
    regions: dict[str, dict[str, list[Region]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def audio_path(self, row: ClipRow) -> Path | None:
        return self.root / row.audio if row.audio else None

    def video_path(self, row: ClipRow) -> Path | None:
        return self.root / row.video if row.video else None

    def features_path(self, row: ClipRow) -> Path | None:
        return self.root / row.face_features if row.face_features else None


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest, and `regions.csv` beside it where there is one.

    Raises:
        ManifestError: names the file, and the row (as an editor counts lines) and the column of every fault.
    """
    path = Path(path)
    table, faults = _read_table(path, REQUIRED, [f.name for f in fields(ClipRow)])
    rows, first_seen = [], dict[str, int]()
    for line, cells in table:
        found = [(line, column, text) for column, text in find_faults(cells)]
        first = first_seen.setdefault(cells["clip_id"], line)
        if first != line:
            text = f"{cells['clip_id']!r} stands in line {first} already; every clip needs a name of its own"
            found.append((line, "clip_id", text))
        faults += found
        if not found:
            rows.append(parse_row(cells))
    _refuse(path, faults)
    if not rows:
        raise ManifestError(f"{path}: no clips; the manifest has a header and no rows")
    manifest = Manifest(rows, path.resolve().parent)
    regions = path.with_name("regions.csv")
    if regions.is_file():
        manifest.regions = read_regions(regions)
    return manifest


def check_files(manifest: Manifest) -> None:
    """Refuse a manifest that names files which are not there.

    Raises:
        ManifestError: names the clip and the column of each.
    """
    missing = [
        f"clip {row.clip_id}, column {column}: there is no {path} below {manifest.root}"
        for row in manifest.rows
        for column in PATHS
        if (path := getattr(row, column)) and not (manifest.root / path).is_file()
    ]
    if missing:
        raise ManifestError(_listed(f"{len(missing)} files are not there", missing))


def write_manifest(rows: Iterable[ClipRow], path: str | Path) -> None:
    """Write rows as CSV; columns that are empty throughout and not required are left out."""
    rows = list(rows)
    names = [f.name for f in fields(ClipRow)]
    used = [n for n in names if n in REQUIRED or any(getattr(r, n) not in ("", None) for r in rows)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(used)
        for row in rows:
            values = (getattr(row, n) for n in used)
            writer.writerow(["" if v is None else f"{v:.9g}" if isinstance(v, float) else v for v in values])


def read_regions(path: str | Path) -> dict[str, dict[str, list[Region]]]:
    """clip_id -> modality -> regions in order of time.

    Raises:
        ManifestError: unknown modality, or an interval that is not start < end in seconds.
    """
    regions: dict[str, dict[str, list[Region]]] = defaultdict(lambda: defaultdict(list))
    table, faults = _read_table(Path(path), ("clip_id", "modality", "start_s", "end_s"), None)
    for line, cells in table:
        start, end = _number(cells["start_s"]), _number(cells["end_s"])
        if cells["modality"] not in MODALITIES:
            faults.append((line, "modality", f"got {cells['modality']!r}, allowed: {', '.join(MODALITIES)}"))
        elif start is None or start < 0:
            faults.append((line, "start_s", f"got {cells['start_s']!r}, expected seconds from 0 upwards"))
        elif end is None or end <= start:
            faults.append((line, "end_s", f"got {cells['end_s']!r}, expected seconds after start_s {start:g}"))
        else:
            regions[cells["clip_id"]][cells["modality"]].append(Region(cells["modality"], start, end))
    _refuse(Path(path), faults)
    return {
        clip: {m: sorted(found, key=lambda r: r.start_s) for m, found in by_modality.items()}
        for clip, by_modality in regions.items()
    }


def write_regions(regions: Mapping[str, Sequence[Region]], path: str | Path) -> None:
    """Write `regions.csv` from clip_id -> regions of both modalities, to the microsecond."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "modality", "start_s", "end_s"])
        for clip_id, found in regions.items():
            writer.writerows([clip_id, r.modality, f"{r.start_s:.6f}", f"{r.end_s:.6f}"] for r in found)


# --- checking ----------------------------------------------------------------------------------------------------


Faults = list[tuple[int, str, str]]  # line as an editor counts, column or empty for the whole line, what is wrong


def _read_table(
    path: Path, required: Sequence[str], known: Sequence[str] | None
) -> tuple[list[tuple[int, dict[str, str]]], Faults]:
    """(line number, column -> text) of every row that is not blank; the faults of the others."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such file; make one with `python -m preprocessing.<corpus>`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not readable as UTF-8 text ({error}); save it as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, faults = [], Faults()
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, required, known)
        for cells in reader:
            if len(cells) == len(header):
                rows.append((reader.line_num, {k: v.strip() for k, v in zip(header, cells, strict=True)}))
            elif cells:
                faults.append((reader.line_num, "", f"needs {len(header)} cells like the header, got {len(cells)}"))
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num}: not readable as CSV: {error}") from error
    return rows, faults


def _check_header(path: Path, header: list[str], required: Sequence[str], known: Sequence[str] | None) -> None:
    if missing := [repr(name) for name in required if name not in header]:
        raise ManifestError(f"{path}: column {', '.join(missing)} is missing; the header is {', '.join(header)!r}")
    if unknown := [repr(name) for name in header if known is not None and name not in known]:
        raise ManifestError(f"{path}: unknown column {', '.join(unknown)}; known are {', '.join(known or [])}")
    if twice := sorted({repr(name) for name in header if header.count(name) > 1}):
        raise ManifestError(f"{path}: column {', '.join(twice)} stands twice in the header; keep one")


def parse_row(cells: dict[str, str]) -> ClipRow:
    """The row of a manifest that the texts of its cells are; `find_faults` must have found none."""
    numbers = {column: float(cells[column]) if cells.get(column) else None for column in (*SECONDS, *RATINGS)}
    return ClipRow(**{**cells, **numbers})  # type: ignore[arg-type]


def find_faults(cells: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong with it) of every fault in a row."""
    clip_id = cells["clip_id"]
    if not clip_id or not all(c.isalnum() or c in "._-" for c in clip_id) or clip_id.startswith("."):
        yield "clip_id", f"got {clip_id!r}; use letters, digits, '_', '-' and '.' (not first)"
    elif len(clip_id.encode()) > MAX_ID_BYTES:
        yield "clip_id", f"{clip_id[:20]!r}... is too long to name a file; use at most {MAX_ID_BYTES} bytes"
    if not cells["speaker"]:
        yield "speaker", "empty; without it no speaker-independent split can be made"
    if not (cells["audio"] or cells["video"] or cells.get("face_features")):
        yield "audio", "neither audio nor video is given; a clip needs at least one file"
    if cells["emotion"] and cells["emotion"] not in EMOTIONS:
        near = difflib.get_close_matches(cells["emotion"].lower(), EMOTIONS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        yield "emotion", f"got {cells['emotion']!r}; {hint}allowed: {', '.join(EMOTIONS)}"
    for column, allowed in CHOICES.items():
        if cells.get(column, "") not in ("", *allowed):
            yield column, f"got {cells[column]!r}, allowed: {', '.join(allowed)} or empty"
    yield from _number_faults(cells)
    for column in VOTES:
        if cells.get(column) and (wrong := _vote_fault(cells[column])):
            yield column, f"got {cells[column][:60]!r}: {wrong}"
    for column in PATHS:
        if _leaves(cells.get(column, "")):
            yield column, f"{cells[column]!r} leaves the manifest's folder; give a path below it, without '..'"


def _number_faults(cells: dict[str, str]) -> Iterator[tuple[str, str]]:
    for column in (*SECONDS, *RATINGS):
        text = cells.get(column, "")
        value = _number(text)
        if text and (value is None or (column in SECONDS and value < 0)):
            yield column, f"got {text!r}, expected {'seconds from 0 upwards' if column in SECONDS else 'a number'}"
    start, end = (_number(cells.get(column, "")) for column in SECONDS)
    if end is not None and end <= (start or 0.0):
        yield "end_s", f"{cells['end_s']} is not after start_s {cells.get('start_s') or 0}"


def _number(text: str) -> float | None:
    """The finite number that a text is, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _vote_fault(text: str) -> str:
    """What is wrong with a cell of votes; empty where nothing."""
    try:
        votes = json.loads(text)
    except (ValueError, RecursionError):
        votes = None
    if not isinstance(votes, dict):
        return 'expected JSON counts by emotion, e.g. {"anger": 3, "neutral": 1}'
    if unknown := [emotion for emotion in votes if emotion not in EMOTIONS]:
        return f"{unknown[0]!r} is no emotion; allowed: {', '.join(EMOTIONS)}"
    if not all(type(n) in (int, float) and 0 <= n <= MAX_VOTES for n in votes.values()):
        return "every count must be a number from 0 upwards"
    return ""


def _leaves(path: str) -> bool:
    """A manifest may come from anywhere: its paths stay below its own folder, on every system."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "\0" in path or ".." in parts or (bool(parts) and (parts[0] == "/" or ":" in parts[0]))


def _refuse(path: Path, faults: Faults) -> None:
    """Raise one ManifestError that lists the faults in order of lines."""
    if not faults:
        return
    texts = [f"line {line}, column {c}: {text}" if c else f"line {line}: {text}" for line, c, text in sorted(faults)]
    if len(texts) == 1:
        raise ManifestError(f"{path}, {texts[0]}")
    raise ManifestError(_listed(f"{path}: {len(texts)} faults", texts))


def _listed(head: str, texts: list[str]) -> str:
    """A heading and the first of many sentences, one a line."""
    more = [f"... and {len(texts) - MAX_FAULTS} more"] if len(texts) > MAX_FAULTS else []
    return "\n  ".join([head, *texts[:MAX_FAULTS], *more])
