"""What the corpus adapters share: finding media files, the report, and the door that writes the manifest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from avser.data.manifest import ClipRow, write_manifest
from avser.errors import AvserError, ManifestError

LFS_HEAD = b"version https://git-lfs"


@dataclass
class CorpusReport:
    """What an adapter found in a raw corpus.

    Attributes:
        rows: one a clip, in order of clip id; paths relative to the raw folder.
        notes: sentences for the person: what is missing, what was left out and why.
    """

    rows: list[ClipRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class MediaFiles:
    """The media files of a raw corpus by name.

    Attributes:
        by_name: file name without suffix -> suffix (lower case, with dot) -> path relative to the raw folder.
        notes: what was found twice, is empty, or is a Git LFS pointer.
    """

    by_name: dict[str, dict[str, str]]
    notes: list[str]


def find_media(raw: Path, suffixes: Iterable[str]) -> MediaFiles:
    """Every usable file with one of `suffixes` at any depth, also behind linked folders.

    A name that turns up twice counts once, at the shortest path; Git LFS pointers and empty files do not count.

    Raises:
        ManifestError: `raw` is no folder.
    """
    if not raw.is_dir():
        raise ManifestError(f"{raw}: no such folder; give the folder that the corpus was unpacked into")
    wanted = {suffix.lower() for suffix in suffixes}
    paths = (path for path in _walk(raw) if path.suffix.lower() in wanted)
    by_name: dict[str, dict[str, str]] = {}
    doubles, pointers, empty = [], [], []
    for path in sorted(paths, key=lambda p: (len(p.parts), p)):
        relative = path.relative_to(raw).as_posix()
        copies = by_name.setdefault(path.stem, {})
        if path.stat().st_size == 0:
            empty.append(relative)
        elif _is_pointer(path):
            pointers.append(relative)
        elif path.suffix.lower() in copies:
            same = path.stat().st_size == (raw / copies[path.suffix.lower()]).stat().st_size
            doubles.append(relative if same else f"{relative} (of another size)")
        else:
            copies[path.suffix.lower()] = relative
    notes = [
        *_note(pointers, "Git LFS pointers instead of media; run `git lfs pull` in the corpus"),
        *_note(empty, "empty files; download them again"),
        *_note(doubles, "files that are there twice; each was taken once"),
    ]
    return MediaFiles({name: copies for name, copies in by_name.items() if copies}, notes)


def find_file(raw: Path, name: str) -> Path | None:
    """The file of that name that lies least deep, or None."""
    return min((path for path in _walk(raw) if path.name == name), key=lambda p: (len(p.parts), p), default=None)


def first_of(copies: dict[str, str], suffixes: Iterable[str]) -> str:
    """The path with the first of `suffixes` that there is, or an empty text."""
    return next((copies[suffix] for suffix in suffixes if suffix in copies), "")


def run_adapter(read_corpus: Callable[[Path], CorpusReport], raw: Path, out: Path | None) -> int:
    """Read the corpus, write its manifest, say on stdout what was found; returns the exit status."""
    try:
        report = read_corpus(raw)
        for note in report.notes:
            print(note)
        if not report.rows:
            print(f"{raw}: no clip found; nothing was written", file=sys.stderr)
            return 1
        out = raw / "manifest.csv" if out is None else out
        prefix, note = _place(raw, out)
        write_manifest([_below(prefix, row) for row in report.rows], out)
    except OSError as error:
        print(f"{error}; where the corpus is read-only, give an --out elsewhere", file=sys.stderr)
        return 1
    except AvserError as error:
        print(error, file=sys.stderr)
        return 1
    if note:
        print(note)
    print(f"{out}: {len(report.rows)} clips of {len({row.speaker for row in report.rows})} speakers")
    return 0


def build_parser(module: str, description: str) -> argparse.ArgumentParser:
    """The arguments that every adapter takes."""
    parser = argparse.ArgumentParser(prog=f"python -m preprocessing.{module}", description=description)
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="folder of the unpacked corpus")
    parser.add_argument("--out", type=Path, metavar="CSV", help="the manifest to write; default: DIR/manifest.csv")
    return parser


# --- files -------------------------------------------------------------------------------------------------------


def _walk(raw: Path) -> Iterator[Path]:
    """Every visible file once; a link back to a folder above is not followed again."""
    seen = set()
    for folder, folders, files in os.walk(raw, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (path for name in files if not name.startswith(".") and (path := Path(folder, name)).is_file())


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > 1024:
        return False
    return path.read_bytes().startswith(LFS_HEAD)


def _note(paths: list[str], what: str) -> list[str]:
    """E.g. "12 files that are there twice; each was taken once (a.wav, b.wav, c.wav, ...)"."""
    if not paths:
        return []
    return [f"{len(paths)} {what} ({', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''})"]


# --- where the manifest stands -----------------------------------------------------------------------------------


def _place(raw: Path, out: Path) -> tuple[str, str]:
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
