"""What the corpus adapters share: finding media files below a raw folder, and the door that writes the manifest."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath

from avser.data.manifest import ClipRow, write_manifest
from avser.errors import AvserError, ManifestError
from preprocessing.report import (
    CorpusReport,
    Expected,
    Kind,
    LeftOut,
    compare_counts,
    summarise_left_out,
    write_left_out,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "VIDEO_SUFFIXES",
    "CorpusReport",
    "Expected",
    "LeftOut",
    "MediaFiles",
    "build_parser",
    "compare_counts",
    "find_file",
    "find_media",
    "first_of",
    "run_adapter",
]

# In order of preference where a clip has several: what loses nothing comes first.
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
VIDEO_SUFFIXES = (".avi", ".mp4", ".mov", ".mkv", ".flv", ".mpg", ".mpeg", ".wmv", ".webm")
LFS_HEAD = b"version https://git-lfs"


@dataclass
class MediaFiles:
    """The media files of a raw corpus by clip.

    Attributes:
        by_name: clip's name -> suffix (lower case, with dot) -> path relative to the raw folder.
        left_out: files that do not count, with the reason.
    """

    by_name: dict[str, dict[str, str]]
    left_out: list[LeftOut]


def stem_of(path: PurePosixPath) -> str:
    """The clip's name where the file name alone says it: the name without suffix."""
    return path.stem


def find_media(
    raw: Path, suffixes: Iterable[str], name_of: Callable[[PurePosixPath], str | LeftOut | None] = stem_of
) -> MediaFiles:
    """Every usable file with one of `suffixes` at any depth, also behind linked folders.

    A name that turns up twice counts once, at the shortest path; Git LFS pointers, dead links, empty and unreadable
    files do not count.

    Args:
        suffixes: with dot; upper and lower case are alike.
        name_of: path relative to `raw` -> name of the clip; None for a file that is none ("foreign"), a LeftOut where
            the path itself shows a fault. Files of one clip with different suffixes (voice and picture) share a name.

    Raises:
        ManifestError: `raw` is no folder.
    """
    if not raw.is_dir():
        raise ManifestError(f"{raw}: no such folder; give the folder that the corpus was unpacked into")
    wanted = {suffix.lower() for suffix in suffixes}
    unreadable: list[OSError] = []
    paths = [path for path in _walk(raw, unreadable.append) if path.suffix.lower() in wanted]
    left_out = [
        LeftOut(_printable(Path(error.filename).relative_to(raw)), "bad", f"cannot be read: {error.strerror}")
        for error in unreadable
    ]
    by_name: dict[str, dict[str, str]] = {}
    for path in sorted(paths, key=lambda p: (len(p.parts), p)):
        relative = PurePosixPath(path.relative_to(raw).as_posix())
        name = name_of(relative) if _is_text(relative) else _unnameable(relative)
        if name is None:
            left_out.append(LeftOut(str(relative), "foreign", "not named like a clip of this corpus"))
        elif isinstance(name, LeftOut):
            left_out.append(name)
        elif fault := _why_not(path):
            left_out.append(LeftOut(str(relative), *fault))
        elif earlier := by_name.get(name, {}).get(path.suffix.lower()):
            same = _digest(path) == _digest(raw / earlier)
            reason = f"{'the same as' if same else 'differs from'} {earlier}, which was taken"
            left_out.append(LeftOut(str(relative), "double", reason))
        else:
            by_name.setdefault(name, {})[path.suffix.lower()] = str(relative)
    return MediaFiles(by_name, left_out)


def find_file(raw: Path, name: str) -> Path | None:
    """The file of that name that lies least deep, or None."""
    found = (path for path in _walk(raw) if path.name == name and path.is_file())
    return min(found, key=lambda p: (len(p.parts), p), default=None)


def first_of(copies: dict[str, str], suffixes: Iterable[str]) -> str:
    """The path with the first of `suffixes` that there is, or an empty text."""
    return next((copies[suffix] for suffix in suffixes if suffix in copies), "")


def run_adapter(read_corpus: Callable[[Path], CorpusReport], raw: Path, out: Path | None) -> int:
    """Read the corpus, write its manifest, say on stdout what was found; returns the exit status.

    What was left out stands, clip by clip, in `<manifest stem>.left_out.csv` beside the manifest.
    """
    try:
        report = read_corpus(raw)
        for note in [*report.notes, *summarise_left_out(report.left_out)]:
            print(note)
        if not report.rows:
            print(f"{raw}: no clip found; nothing was written", file=sys.stderr)
            return 1
        out = raw / "manifest.csv" if out is None else out
        prefix, note = place_below(raw, out)
        write_manifest([_below(prefix, row) for row in report.rows], out)
        left_out = write_left_out(report.left_out, out)
    except OSError as error:
        print(f"{error}; where the corpus is read-only, give an --out elsewhere", file=sys.stderr)
        return 1
    except AvserError as error:
        print(error, file=sys.stderr)
        return 1
    if note:
        print(note)
    if left_out:
        print(f"{left_out}: {len(report.left_out)} lines on what was left out")
    print(f"{out}: {len(report.rows)} clips of {len({row.speaker for row in report.rows})} speakers")
    return 0


def build_parser(module: str, description: str) -> argparse.ArgumentParser:
    """The arguments that every adapter takes."""
    parser = argparse.ArgumentParser(prog=f"python -m preprocessing.{module}", description=description)
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of the unpacked corpus")
    parser.add_argument("--out", type=Path, metavar="CSV", help="the manifest to write; default: DIR/manifest.csv")
    return parser


# --- files -------------------------------------------------------------------------------------------------------


def _walk(raw: Path, onerror: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """Every visible file and dead link once; a link back to a folder above is not followed again."""
    seen = set()
    for folder, folders, files in os.walk(raw, onerror=onerror, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def _why_not(path: Path) -> tuple[Kind, str] | None:
    """Kind and reason where a file cannot be media; None where it may be."""
    try:
        if not path.exists():
            return "pointer", "a link to content that is not there; run `git annex get`, or mend the link"
        if not path.is_file():
            return "bad", "not a plain file"
        with path.open("rb") as file:
            head = file.read(len(LFS_HEAD))
    except OSError as error:
        return "bad", f"cannot be read: {error.strerror}"
    if not head:
        return "empty", "0 bytes; download it again"
    if head == LFS_HEAD:
        return "pointer", "a Git LFS pointer instead of media; run `git lfs pull` in the corpus"
    return None


def _is_text(path: PurePath) -> bool:
    """Whether a path is UTF-8, as a manifest needs it; others hold what Python calls surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def _unnameable(path: PurePath) -> LeftOut:
    return LeftOut(_printable(path), "bad", "its path is no UTF-8 text, so a manifest cannot name it; rename it")


def _printable(path: PurePath) -> str:
    return str(path).encode(errors="replace").decode()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


# --- where the manifest stands -----------------------------------------------------------------------------------


def place_below(raw: Path, out: Path) -> tuple[str, str]:
    """The path from the manifest's folder to the raw one, by a link where the manifest stands elsewhere; and a note."""
    out.parent.mkdir(parents=True, exist_ok=True)
    root = out.resolve().parent
    for folder in (raw.absolute(), raw.resolve()):
        if folder.is_relative_to(root):
            return folder.relative_to(root).as_posix(), ""
    link = out.parent / f"{out.stem}_raw"
    if link.resolve() != raw.resolve():
        if link.is_symlink() or link.exists():
            raise ManifestError(
                f"{link} is in the way: the manifest's paths go through a link of this name to {raw}. Remove it, "
                "or give --out another name"
            )
        try:
            link.symlink_to(raw.resolve(), target_is_directory=True)
        except OSError as error:
            raise ManifestError(
                f"{link}: cannot be linked to {raw} ({error}); give an --out in or above {raw}, so that the "
                "manifest's paths stay below its folder"
            ) from error
    return link.name, f"{link} links to {raw.resolve()}: a manifest names files below its own folder"


def _below(prefix: str, row: ClipRow) -> ClipRow:
    if prefix == ".":
        return row
    paths = {name: f"{prefix}/{path}" for name in ("audio", "video", "face_features") if (path := getattr(row, name))}
    return replace(row, **paths)  # type: ignore[arg-type]
