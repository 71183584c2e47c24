"""Joins face features that another program computed (OpenFace, ...) to the clips of a manifest.

    python -m preprocessing.face_features ravdess.csv openface_mean_aus.csv --key name --match '0[123]-(.+)'
    python -m preprocessing.face_features cremad.csv openface_output/

A table has one row a clip, or a folder has one table a clip, as OpenFace leaves it. The manifest that is written beside
the old one has the column `face_features`, which `avser cache` reads (`avser.media.face_table` says what of it).

`--normalize speaker` brings every column to mean 0 and deviation 1 over all clips of its speaker, of training and test
alike; their emotions are not looked at. Faces at rest differ more between people than one face does between emotions,
and this takes the difference away. But it is transductive: a clip can only be judged together with the other clips of
its speaker, and the more evenly these show all emotions, the better it works. Say so beside results.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from avser.data.manifest import ClipRow, read_manifest, write_manifest
from avser.errors import AvserError, ManifestError
from avser.media.face_table import (
    CLIP_COLUMN,
    FACE_COLUMN,
    FOUND_COLUMN,
    TIME_COLUMN,
    FaceTable,
    read_face_table,
)
from preprocessing.adapter import place_below

ABOUT_FRAMES = ("frame", FACE_COLUMN, TIME_COLUMN, "confidence", FOUND_COLUMN, CLIP_COLUMN)  # no feature of a face
Speaker = tuple[str, str]  # corpus and name


@dataclass
class Joined:
    """The rows with their `face_features`.

    Attributes:
        clips_of: name in the table -> ids of the clips that it means; none for a name that means no clip.
    """

    rows: list[ClipRow]
    clips_of: dict[str, list[str]]


def names_of(row: ClipRow) -> list[str]:
    """What a table may call a clip: its id, or the name of one of its files."""
    return [row.clip_id, *(PurePosixPath(path).stem for path in (row.video, row.audio) if path)]


def join(rows: Iterable[ClipRow], paths: Mapping[str, str], match: str | None) -> Joined:
    """Give each row the table that is called like it.

    Args:
        paths: name in the table or of the file -> path to write into the manifest.
        match: regular expression whose first group is the clip's name within such a name; None takes it whole.

    Raises:
        ManifestError: the expression is none or has no group, or two names mean one clip.
    """
    by_clip: dict[str, str] = {}
    for name in paths:
        clip = _matched(name, match)
        if clip is None:
            continue
        if clip in by_clip:
            raise ManifestError(f"{by_clip[clip]!r} and {name!r} both mean clip {clip!r}; make --match more exact")
        by_clip[clip] = name
    joined = Joined([], {name: [] for name in paths})
    for row in rows:
        partner = next((by_clip[alias] for alias in names_of(row) if alias in by_clip), None)
        joined.rows.append(replace(row, face_features="" if partner is None else paths[partner]))
        if partner is not None:
            joined.clips_of[partner].append(row.clip_id)
    return joined


def write_clip_table(
    table: FaceTable,
    key: str,
    clips_of: Mapping[str, Sequence[str]],
    path: Path,
    *,
    speaker_of: Mapping[str, Speaker] | None = None,
) -> None:
    """The rows of a table that belong to clips, under their clip ids, and of its columns those that hold numbers.

    Args:
        speaker_of: clip id -> speaker, over whose clips each column is scaled; None leaves the table's own text.
    """
    index = table.columns.index(key)
    numeric = [i for i in range(len(table.columns)) if i != index and all(_is_number(c[i]) for _, c in table.lines)]
    rows = {clip_id: [cells[i] for i in numeric] for _, cells in table.lines for clip_id in clips_of[cells[index]]}
    if speaker_of is not None:
        clips = defaultdict(list)
        for clip_id in rows:
            clips[speaker_of[clip_id]].append(clip_id)
        for theirs in clips.values():
            values = np.array([rows[clip_id] for clip_id in theirs], float)
            rows.update(zip(theirs, _written(to_common_scale(values, values)), strict=True))
    _write_table(path, [CLIP_COLUMN, *(table.columns[i] for i in numeric)], ([k, *cells] for k, cells in rows.items()))


def write_frame_tables(source: Path, files_of: Mapping[Speaker, Sequence[Path]], folder: Path) -> None:
    """Copies of tables of frames, every column of numbers scaled over all frames of its speaker that show the face.

    What a table says of its frames (time, success, ...) stays as it is, and so do columns that hold other things.

    Args:
        files_of: speaker -> tables, below `source`.

    Raises:
        ManifestError: the tables of a speaker have different columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for files in files_of.values():
        tables = [read_face_table(source / path) for path in files]
        if other := next((table for table in tables if table.columns != tables[0].columns), None):
            raise ManifestError(f"{other.path} and {tables[0].path}: other columns for one speaker; measure them alike")
        cells = [np.array([cells for _, cells in table.lines], dtype=object) for table in tables]
        numeric = [
            i
            for i, name in enumerate(tables[0].columns)
            if name not in ABOUT_FRAMES and all(_is_number(text or "nan") for rows in cells for text in rows[:, i])
        ]
        values = [np.where(rows == "", "nan", rows)[:, numeric].astype(float) for rows in cells]
        shown = [x[_shows_face(table, rows)] for x, table, rows in zip(values, tables, cells, strict=True)]
        for path, rows, x in zip(files, cells, values, strict=True):
            rows[:, numeric] = _written(to_common_scale(x, np.concatenate(shown)))
            _write_table(folder / path.name, tables[0].columns, rows.tolist())


def to_common_scale(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 of each column among the rows (N, F) that count; constant columns become 0.

    Values that are no finite numbers do not count, and stay NaN.
    """
    values, among = (np.where(np.isfinite(x), x, np.nan) for x in (values, among))
    count = np.isfinite(among).sum(axis=0)
    mean = np.nansum(among, axis=0) / np.maximum(count, 1)
    deviation = np.sqrt(np.nansum((among - mean) ** 2, axis=0) / np.maximum(count, 1))
    moves = np.nanmax(among, axis=0, initial=-np.inf) > np.nanmin(among, axis=0, initial=np.inf)
    return np.where(moves, (values - mean) / np.where(moves, deviation, 1.0), 0.0 * values)


def join_table(
    manifest: Path, source: Path, key: str, match: str | None, out: Path, *, by_speaker: bool = False
) -> Joined:
    """Join a table with one row a clip; a cleaned copy under clip ids is written beside `out`.

    Raises:
        ManifestError: no such column, or a name twice in it.
    """
    table = read_face_table(source)
    if key not in table.columns:
        raise ManifestError(
            f"{source}: no column {key!r}; name the one with the clips' names by --key: {table.columns}"
        )
    names = [cells[table.columns.index(key)] for _, cells in table.lines]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ManifestError(f"{source}, column {key}: {twice!r} is there twice; a clip has one row in such a table")
    copy = out.with_name(f"{out.stem}_table.csv")
    joined = join(read_manifest(manifest).rows, dict.fromkeys(names, copy.name), match)
    speaker_of = _speakers(joined) if by_speaker else None
    write_clip_table(table, key, joined.clips_of, copy, speaker_of=speaker_of)
    return joined


def join_folder(manifest: Path, source: Path, match: str | None, out: Path, *, by_speaker: bool = False) -> Joined:
    """Join the CSV files of a folder, one a clip, by their names; `by_speaker` joins scaled copies beside `out`.

    Raises:
        ManifestError: two files of one name, or with `by_speaker` a file that serves clips of several speakers.
    """
    prefix, note = place_below(source, out)
    if note and not by_speaker:
        print(note)
    files = sorted(path.relative_to(source) for path in source.rglob("*.csv") if not path.name.startswith("."))
    paths = {path.stem: PurePosixPath(prefix, path.as_posix()).as_posix() for path in files}
    if len(paths) < len(files):
        raise ManifestError(f"{source}: two files in it have one name; give the folder that has each clip once")
    if not by_speaker:
        return join(read_manifest(manifest).rows, paths, match)
    folder = out.with_name(f"{out.stem}_tables")
    joined = join(read_manifest(manifest).rows, {path.stem: f"{folder.name}/{path.name}" for path in files}, match)
    speaker_of = _speakers(joined)
    files_of: dict[Speaker, list[Path]] = defaultdict(list)
    for path in files:
        speakers = {speaker_of[clip_id] for clip_id in joined.clips_of[path.stem]}
        if len(speakers) > 1:
            raise ManifestError(
                f"{source / path}: serves clips of {len(speakers)} speakers, whose frames cannot be told apart; cut it "
                "into one table a clip, or leave out --normalize speaker"
            )
        for speaker in speakers:
            files_of[speaker].append(path)
    write_frame_tables(source, files_of, folder)
    return joined


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, join, print."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocessing.face_features", description="Join face features made elsewhere to a manifest."
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("source", type=Path, metavar="TABLE|FOLDER", help="one row a clip, or one CSV a clip")
    parser.add_argument("--key", default="name", help="column of TABLE that names the clip; default: name")
    parser.add_argument("--match", metavar="REGEX", help="its first group is the clip's name within the table's name")
    parser.add_argument("--out", type=Path, metavar="CSV", help="beside MANIFEST; default: <manifest>_features.csv")
    parser.add_argument(
        "--normalize",
        choices=("none", "speaker"),
        default="none",
        help="speaker: every column z-scored over all clips of its speaker, those of the test too; default: none",
    )
    options = parser.parse_args(arguments)
    by_speaker = options.normalize == "speaker"
    out = options.out or options.manifest.with_name(f"{options.manifest.stem}_features.csv")
    try:
        if out.resolve().parent != options.manifest.resolve().parent:
            raise ManifestError(f"--out {out}: must stand beside {options.manifest}, whose paths it keeps")
        if options.source.is_dir():
            joined = join_folder(options.manifest, options.source, options.match, out, by_speaker=by_speaker)
        else:
            names = options.key, options.match
            joined = join_table(options.manifest, options.source, *names, out, by_speaker=by_speaker)
        if by_speaker:
            print("scaled over all clips of each speaker: judge a clip only together with the others of its speaker")
        return _finish(joined, out)
    except (AvserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _finish(joined: Joined, out: Path) -> int:
    without = [row.clip_id for row in joined.rows if not row.face_features]
    unused = [name for name, clips in joined.clips_of.items() if not clips]
    num_joined = len(joined.rows) - len(without)
    for names, what in ((without, "clips have no face features"), (unused, "names mean no clip")):
        if names:
            print(f"{len(names)} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    if not num_joined:
        print("nothing could be joined; say by --match how a name holds the clip's id", file=sys.stderr)
        return 1
    write_manifest(joined.rows, out)
    print(f"{out}: {num_joined} of {len(joined.rows)} clips have face features")
    return 0


def _matched(name: str, match: str | None) -> str | None:
    if match is None:
        return name
    try:
        found = re.fullmatch(match, name)
        return found[1] if found else None
    except (re.error, IndexError) as error:
        raise ManifestError(f"--match {match!r}: needs one group in brackets, e.g. '01-(.+)' ({error})") from error


def _speakers(joined: Joined) -> dict[str, Speaker]:
    """Clip id -> speaker, whom every row of a manifest has."""
    return {row.clip_id: (row.corpus, row.speaker) for row in joined.rows}


def _shows_face(table: FaceTable, rows: np.ndarray) -> np.ndarray:
    """(rows,) bool: the face was found, and is the one that is there most often."""
    shown = np.ones(len(rows), bool)
    if (index := table.column(FACE_COLUMN)) is not None:
        shown &= rows[:, index] == Counter(rows[:, index]).most_common(1)[0][0]
    if (index := table.column(FOUND_COLUMN)) is not None:
        shown &= np.array([_is_number(text) and float(text) > 0 for text in rows[:, index]])
    return shown


def _written(values: np.ndarray) -> list[list[str]]:
    return [[f"{value:.9g}" for value in row] for row in values]


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
