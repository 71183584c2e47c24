"""Joins face features that another program computed (OpenFace, ...) to the clips of a manifest.

    python -m preprocessing.face_features ravdess.csv openface_mean_aus.csv --key name --match '0[123]-(.+)'
    python -m preprocessing.face_features cremad.csv openface_output/

A table has one row a clip, or a folder has one table a clip, as OpenFace leaves it. The manifest that is written beside
the old one has the column `face_features`, which `avser cache` reads (`avser.media.face_table` says what of it).
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from avser.data.manifest import ClipRow, read_manifest, write_manifest
from avser.errors import AvserError, ManifestError
from avser.media.face_table import CLIP_COLUMN, FaceTable, read_face_table
from preprocessing.adapter import place_below


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


def write_clip_table(table: FaceTable, key: str, clips_of: Mapping[str, Sequence[str]], path: Path) -> None:
    """The rows of a table that belong to clips, under their clip ids, and of its columns those that hold numbers."""
    index = table.columns.index(key)
    numeric = [i for i in range(len(table.columns)) if i != index and all(_is_number(c[i]) for _, c in table.lines)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([CLIP_COLUMN, *(table.columns[i] for i in numeric)])
        for _, cells in table.lines:
            writer.writerows([clip_id, *(cells[i] for i in numeric)] for clip_id in clips_of[cells[index]])


def join_table(manifest: Path, source: Path, key: str, match: str | None, out: Path) -> Joined:
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
    write_clip_table(table, key, joined.clips_of, copy)
    return joined


def join_folder(manifest: Path, source: Path, match: str | None, out: Path) -> Joined:
    """Join the CSV files of a folder, one a clip, by their names."""
    prefix, note = place_below(source, out)
    if note:
        print(note)
    files = sorted(path.relative_to(source) for path in source.rglob("*.csv") if not path.name.startswith("."))
    paths = {path.stem: PurePosixPath(prefix, path.as_posix()).as_posix() for path in files}
    if len(paths) < len(files):
        raise ManifestError(f"{source}: two files in it have one name; give the folder that has each clip once")
    return join(read_manifest(manifest).rows, paths, match)


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
    options = parser.parse_args(arguments)
    out = options.out or options.manifest.with_name(f"{options.manifest.stem}_features.csv")
    try:
        if out.resolve().parent != options.manifest.resolve().parent:
            raise ManifestError(f"--out {out}: must stand beside {options.manifest}, whose paths it keeps")
        if options.source.is_dir():
            joined = join_folder(options.manifest, options.source, options.match, out)
        else:
            joined = join_table(options.manifest, options.source, options.key, options.match, out)
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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
