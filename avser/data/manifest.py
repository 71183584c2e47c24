"""The manifest: one row a clip, and beside it the table of planted or annotated regions.

`manifest.csv` (UTF-8) has the columns of `ClipRow`; paths are relative to the folder of the manifest and may not leave
it. `regions.csv` in the same folder holds intervals with known truth: clip_id, modality, start_s, end_s.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath

from avser.errors import ManifestError
from avser.structures import MODALITIES, Region

REQUIRED = ("clip_id", "corpus", "speaker", "emotion", "audio", "video")
EMOTIONS = [
    *("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"),
    *("boredom", "contempt", "excitement", "frustration"),
]


@dataclass(frozen=True)
class ClipRow:
    """One clip of a corpus.

    Attributes:
        clip_id: unique in the manifest; letters, digits and `._-` only, because it names a cache file.
        corpus, speaker: `speaker` is unique within the corpus.
        emotion: a full lower-case word; empty where unknown.
        audio, video: paths relative to the manifest's folder; either may be empty, and both may name one file.
        sex, sentence, intensity, session: as the corpus has them, or empty.
        start_s, end_s: the part of the file that is the clip; None for the whole file.
        split: train, val or test where the corpus prescribes it, else empty.
        face_features: path of a table computed elsewhere, or empty.
        votes_audio, votes_video, votes_av: JSON counts of human votes, or empty.
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
    start_s: float | None = None
    end_s: float | None = None
    split: str = ""
    face_features: str = ""
    votes_audio: str = ""
    votes_video: str = ""
    votes_av: str = ""


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


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest, and `regions.csv` beside it where there is one.

    Raises:
        ManifestError: names the file, the row (as an editor counts lines) and the column of the first fault.
    """
    path = Path(path)
    table = _read_table(path, REQUIRED, [f.name for f in fields(ClipRow)])
    rows, first_seen = [], dict[str, int]()
    for line, cells in table:
        row = _parse_row(cells, f"{path}, line {line}")
        if row.clip_id in first_seen:
            raise ManifestError(
                f"{path}, line {line}, column clip_id: {row.clip_id!r} stands in line {first_seen[row.clip_id]} "
                "already; every clip needs a name of its own"
            )
        first_seen[row.clip_id] = line
        rows.append(row)
    if not rows:
        raise ManifestError(f"{path}: no clips; the manifest has a header and no rows")
    manifest = Manifest(rows, path.resolve().parent)
    regions = path.with_name("regions.csv")
    if regions.is_file():
        manifest.regions = read_regions(regions)
    return manifest


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
    for line, cells in _read_table(Path(path), ("clip_id", "modality", "start_s", "end_s"), None):
        where = f"{path}, line {line}"
        if cells["modality"] not in MODALITIES:
            raise ManifestError(f"{where}, column modality: got {cells['modality']!r}, allowed: {MODALITIES}")
        start, end = (_parse_seconds(cells[c], f"{where}, column {c}") for c in ("start_s", "end_s"))
        if start is None or end is None or not start < end:
            raise ManifestError(f"{where}: needs start_s < end_s, got {cells['start_s']!r} and {cells['end_s']!r}")
        regions[cells["clip_id"]][cells["modality"]].append(Region(cells["modality"], start, end))
    return {
        clip: {m: sorted(found, key=lambda r: r.start_s) for m, found in by_modality.items()}
        for clip, by_modality in regions.items()
    }


def write_regions(regions: Mapping[str, Sequence[Region]], path: str | Path) -> None:
    """Write `regions.csv` from clip_id -> regions of both modalities."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "modality", "start_s", "end_s"])
        for clip_id, found in regions.items():
            writer.writerows([clip_id, r.modality, f"{r.start_s:.4f}", f"{r.end_s:.4f}"] for r in found)


# --- checking ----------------------------------------------------------------------------------------------------


def _read_table(path: Path, required: Sequence[str], known: Sequence[str] | None) -> list[tuple[int, dict[str, str]]]:
    """(line number, column -> text) of every row that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such file; make one with `python -m preprocessing.<corpus>`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not readable as UTF-8 text ({error}); save it as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        missing = [name for name in required if name not in header]
        if missing:
            raise ManifestError(f"{path}: column {missing[0]!r} is missing; the header is {', '.join(header)!r}")
        unknown = [name for name in header if known is not None and name not in known]
        if unknown:
            raise ManifestError(f"{path}: unknown column {unknown[0]!r}; known are {', '.join(known or [])}")
        for cells in reader:
            if None in cells or None in cells.values():
                raise ManifestError(f"{path}, line {reader.line_num}: needs {len(header)} cells like the header")
            rows.append((reader.line_num, {k: v.strip() for k, v in cells.items()}))
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num}: not readable as CSV: {error}") from error
    return rows


def _parse_row(cells: dict[str, str], where: str) -> ClipRow:
    values: dict[str, object] = dict(cells)
    for column in ("start_s", "end_s"):
        values[column] = _parse_seconds(cells.get(column, ""), f"{where}, column {column}")
    row = ClipRow(**values)  # type: ignore[arg-type]
    if not row.clip_id or not all(c.isalnum() or c in "._-" for c in row.clip_id) or row.clip_id.startswith("."):
        raise ManifestError(
            f"{where}, column clip_id: got {row.clip_id!r}; use letters, digits, '_', '-' and '.' (not first)"
        )
    if not row.speaker:
        raise ManifestError(f"{where}, column speaker: empty; without it no speaker-independent split can be made")
    if not row.audio and not row.video:
        raise ManifestError(f"{where}: neither audio nor video is given; a clip needs at least one file")
    if row.emotion and row.emotion not in EMOTIONS:
        raise ManifestError(f"{where}, column emotion: got {row.emotion!r}, allowed: {', '.join(EMOTIONS)}")
    if row.split not in ("", "train", "val", "test"):
        raise ManifestError(f"{where}, column split: got {row.split!r}, allowed: train, val, test or empty")
    if row.start_s is not None and row.end_s is not None and row.end_s <= row.start_s:
        raise ManifestError(f"{where}, column end_s: {row.end_s} is not after start_s {row.start_s}")
    for column in ("audio", "video", "face_features"):
        _check_inside(getattr(row, column), f"{where}, column {column}")
    return row


def _parse_seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError as error:
        raise ManifestError(f"{where}: got {text!r}, expected seconds") from error
    if not math.isfinite(seconds) or seconds < 0:
        raise ManifestError(f"{where}: got {text!r}, expected seconds from 0 upwards")
    return seconds


def _check_inside(path: str, where: str) -> None:
    """A manifest may come from anywhere: its paths stay below its own folder, on every system."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if path and (parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in path):
        raise ManifestError(f"{where}: {path!r} leaves the manifest's folder; give a path below it, without '..'")
