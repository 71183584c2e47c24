"""A corpus of your own: one folder a label, or a table with a row a clip.

    python -m preprocessing.folder --raw DIR --speaker folder --out mine.csv [--label NAME=EMOTION ...]
    python -m preprocessing.folder --raw DIR --table my.csv --out mine.csv [--column COLUMN=NAME ...]

Without a table the folder of a file is its emotion, and you say where the speaker stands: `--speaker folder`
(DIR/SPEAKER/EMOTION/x.wav or DIR/EMOTION/SPEAKER/x.wav), `prefix` (DIR/EMOTION/SPEAKER_x.wav) or `file`
(DIR/EMOTION/x.wav; nobody knows, so every file counts as a speaker of its own). A voice and a picture with one name
side by side are one clip. With a table (CSV or TSV) the columns are those of the manifest, by name or through
`--column emotion=label`; its paths are relative to DIR. Nothing is guessed: a label or a column that is not known is
an error that says what it may be.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path, PurePosixPath

from avser.data.manifest import EMOTIONS, PATHS, ClipRow, find_faults, parse_row
from avser.errors import ManifestError
from preprocessing.adapter import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    CorpusReport,
    LeftOut,
    build_parser,
    find_media,
    first_of,
    run_adapter,
)
from preprocessing.emotions import KNOWN_LABELS, plain_label

COLUMNS = [f.name for f in fields(ClipRow)]
MAX_FAULTS = 20  # that one message lists

LAYOUTS = {
    "folder": "DIR/SPEAKER/EMOTION/x.wav or DIR/EMOTION/SPEAKER/x.wav",
    "prefix": "DIR/EMOTION/SPEAKER_x.wav",
    "file": "DIR/EMOTION/x.wav",
}


def read_folders(raw: Path, *, speaker: str, labels: Mapping[str, str], corpus: str = "folder") -> CorpusReport:
    """Every clip that lies in a folder with the name of an emotion.

    Args:
        speaker: where the speaker's name stands: "folder", "prefix" or "file".
        labels: folder's name -> emotion, or empty to leave the folder out; they go before the known synonyms.

    Raises:
        ManifestError: `raw` is no folder; a folder's name is no known label; a clip has no name that can be used.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, lambda path: str(path.with_suffix("")))
    report = CorpusReport(left_out=list(files.left_out))
    faults, first = Counter[str](), dict[str, str]()
    for name, copies in sorted(files.by_name.items()):
        placed = _place(PurePosixPath(name), speaker, labels)
        if isinstance(placed, str):
            faults[placed] += 1
        elif isinstance(placed, LeftOut):
            report.left_out.append(placed)
        else:
            cells = {"clip_id": _clip_id(name), "corpus": corpus, "emotion": placed[0], "speaker": placed[1]}
            cells["audio"] = first_of(copies, AUDIO_SUFFIXES + VIDEO_SUFFIXES)
            cells["video"] = first_of(copies, VIDEO_SUFFIXES)
            if (earlier := first.setdefault(cells["clip_id"], name)) != name:
                faults[f"{name} and {earlier} would both be named {cells['clip_id']}; rename one"] += 1
            faults.update(f"{name}: {column}: {text}" for column, text in find_faults(cells))
            report.rows.append(parse_row(cells))
    _refuse(raw, [f"{fault} ({num} clips)" for fault, num in faults.items()])
    report.notes += _describe(report.rows)
    if speaker == "file":
        report.notes.append(
            "every file counts as a speaker of its own: no split of these clips is speaker-independent, and no result "
            "on them may be called so"
        )
    return report


def read_table(
    raw: Path, table: Path, *, columns: Mapping[str, str], labels: Mapping[str, str], corpus: str = "folder"
) -> CorpusReport:
    """Every clip that a table names and that there are files of.

    Args:
        columns: column of the manifest -> column of the table, where the names differ.
        labels: word of the table -> emotion, or empty to leave the clip out; they go before the known synonyms.

    Raises:
        ManifestError: the table cannot be read, lacks a column, or has faults, each of which is named by line and
            column; `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, str)
    unusable = {entry.name: entry for entry in files.left_out}
    header, lines, faults = _read_lines(table)
    sources = _sources(table, header, columns)
    report = CorpusReport()
    named, first = set[str](), dict[str, int]()
    for line, texts in lines:
        cells = {"corpus": corpus, "audio": "", "video": ""} | {c: texts[source] for c, source in sources.items()}
        cells |= {column: _relative(cells[column], raw) for column in PATHS if cells.get(column)}
        path = next((cells[column] for column in ("audio", "video", "face_features") if cells.get(column)), "")
        cells.setdefault("clip_id", _clip_id(path.removesuffix(PurePosixPath(path).suffix)))
        word, cells["emotion"] = cells["emotion"], _emotion(cells["emotion"], labels) or ""
        found = list(find_faults(cells))
        if word and _emotion(word, labels) is None:
            found.append(("emotion", _unknown(word)))
        if (earlier := first.setdefault(cells["clip_id"], line)) != line:
            found.append(("clip_id", f"{cells['clip_id']!r} is the clip of line {earlier} already"))
        faults += [f"line {line}, column {sources.get(column, column)}: {text}" for column, text in found]
        named.update(cells[column] for column in PATHS if cells.get(column))
        if found:
            continue
        if loss := _loss(cells, word, line, raw, unusable):
            report.left_out.append(loss)
        else:
            report.rows.append(parse_row(cells))
    _refuse(table, faults)
    report.left_out += [entry for entry in files.left_out if entry.name not in named]
    unnamed = sorted(set(files.by_name) - named)
    report.left_out += [LeftOut(path, "foreign", f"no line of {table.name} names it") for path in unnamed]
    if unused := [name for name in header if name not in sources.values()]:
        report.notes.append(f"columns of {table.name} that were not used: {', '.join(unused)}")
    report.notes += _describe(report.rows)
    return report


def _describe(rows: Sequence[ClipRow]) -> list[str]:
    emotions = ", ".join(f"{emotion} {n}" for emotion, n in sorted(Counter(row.emotion for row in rows).items()))
    voices, pictures = sum(bool(row.audio) for row in rows), sum(bool(row.video) for row in rows)
    speakers = len({row.speaker for row in rows})
    found = f"found {len(rows)} clips, {speakers} speakers; {voices} with voice, {pictures} with picture"
    return [found, f"clips by emotion: {emotions}"] if rows else []


def _refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise one ManifestError that lists the faults."""
    if faults:
        more = [f"... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise ManifestError("\n  ".join([f"{path}: {len(faults)} faults", *faults[:MAX_FAULTS], *more]))


# --- folders -----------------------------------------------------------------------------------------------------


def _place(path: PurePosixPath, speaker: str, labels: Mapping[str, str]) -> tuple[str, str] | LeftOut | str:
    """Emotion and speaker of a file; a LeftOut where it does not count, a text where that is a fault."""
    folders = path.parts[:-1]
    if len(folders) != (2 if speaker == "folder" else 1):
        reason = f"--speaker {speaker} expects {LAYOUTS[speaker]}; for anything else write a table"
        return LeftOut(str(path), "foreign", reason)
    emotions = [_emotion(folder, labels) for folder in folders]
    known = [i for i, emotion in enumerate(emotions) if emotion is not None]
    if not known:
        return f"folder {'/'.join(folders)}: {_unknown(*folders)}"
    if len(known) > 1:
        return f"folder {'/'.join(folders)}: both names are emotions; rename the one that is a speaker"
    emotion = emotions[known[0]]
    if not emotion:
        return LeftOut(str(path), "unwanted", f"--label {folders[known[0]]}= leaves it out")
    if speaker == "folder":
        return emotion, folders[1 - known[0]]
    if speaker == "file":
        return emotion, _clip_id(str(path))
    prefix, underscore, _ = path.name.partition("_")
    return (emotion, prefix) if prefix and underscore else f"{path}: the name has no '_' after the speaker's"


def _clip_id(path: str) -> str:
    """bob/angry/take 1 -> bob_angry_take-1: names of files repeat from folder to folder."""
    return re.sub(r"[^\w.-]", "-", path.replace("/", "_"))


def _emotion(word: str, labels: Mapping[str, str]) -> str | None:
    """The emotion that a label means, empty for one that is to be left out, None for one that nobody knows."""
    plain = plain_label(word)
    return labels.get(plain, KNOWN_LABELS.get(plain))


def _unknown(*words: str) -> str:
    """That none of these words is a label, and what to do about it."""
    what = f"{' nor '.join(map(repr, words))} is no known label"
    for word in words:
        if near := difflib.get_close_matches(plain_label(word), KNOWN_LABELS, n=1, cutoff=0.75):
            return f"{what}; did you mean {near[0]!r}? Say --label {word}={KNOWN_LABELS[near[0]]}"
    return f"{what}; say what it means, e.g. --label {words[-1]}=anger, or --label {words[-1]}= to leave it out"


# --- tables ------------------------------------------------------------------------------------------------------


def _read_lines(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[str]]:
    """Header, (line number, column -> text) of every line that is not blank, and the faults of the others."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{table}: not readable as UTF-8 text ({error}); save it as CSV in UTF-8") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines, faults = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for name, num in Counter(header).items() if num > 1]:
            raise ManifestError(f"{table}: column {twice[0]!r} stands twice in the header; keep one")
        for cells in reader:
            if len(cells) == len(header):
                lines.append((reader.line_num, {k: v.strip() for k, v in zip(header, cells, strict=True)}))
            elif cells:
                faults.append(f"line {reader.line_num}: needs {len(header)} cells like the header, got {len(cells)}")
    except csv.Error as error:
        raise ManifestError(f"{table}, line {reader.line_num}: not readable as a table: {error}") from error
    return header, lines, faults


def _sources(table: Path, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Column of the manifest -> column of the table."""
    for column, source in columns.items():
        if column not in COLUMNS:
            raise ManifestError(f"--column {column}={source}: a manifest has no {column!r}, but {', '.join(COLUMNS)}")
        if source not in header:
            raise ManifestError(f"--column {column}={source}: {table} has no {source!r}, but {', '.join(header)}")
    sources = {column: column for column in COLUMNS if column in header} | dict(columns)
    missing = [column for column in ("speaker", "emotion") if column not in sources]
    missing += [] if {"audio", "video"} & set(sources) else ["audio"]
    if missing:
        raise ManifestError(
            f"{table}: no column {missing[0]!r}; say which one it is with --column {missing[0]}=NAME; there are "
            f"{', '.join(header)}"
        )
    return sources


def _relative(path: str, raw: Path) -> str:
    """With forward slashes, and from `raw` on where it is a full path below it."""
    posix = PurePosixPath(path.replace("\\", "/"))
    root = raw.absolute().as_posix()
    return str(posix.relative_to(root) if posix.is_relative_to(root) else posix)


def _loss(cells: Mapping[str, str], word: str, line: int, raw: Path, unusable: Mapping[str, LeftOut]) -> LeftOut | None:
    """Why a line without faults makes no clip; None where it does."""
    if not word:
        return LeftOut(cells["clip_id"], "unlabelled", f"line {line}: no label")
    if not cells["emotion"]:
        return LeftOut(cells["clip_id"], "unwanted", f"--label {word}= leaves it out")
    for path in (cells[column] for column in PATHS if cells.get(column)):
        if path in unusable:
            return LeftOut(cells["clip_id"], unusable[path].kind, f"line {line}: {path}: {unusable[path].reason}")
        if not (raw / path).is_file():
            return LeftOut(cells["clip_id"], "missing", f"line {line}: there is no {path} below {raw}")
    return None


# --- the door ----------------------------------------------------------------------------------------------------


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


def _label(text: str) -> tuple[str, str]:
    word, emotion = _pair(text)
    if emotion and emotion not in EMOTIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: {emotion!r} is no emotion; allowed: {', '.join(EMOTIONS)}")
    return plain_label(word), emotion


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("folder", "Write the manifest of a corpus of your own.")
    parser.add_argument("--corpus", default="folder", metavar="NAME", help="its name in the manifest")
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        type=_label,
        metavar="NAME=EMOTION",
        help="what a label means; NAME= drops",
    )
    parser.add_argument("--speaker", choices=LAYOUTS, help="without a table: where the speaker's name stands")
    parser.add_argument("--table", type=Path, metavar="CSV", help="one row a clip; paths relative to --raw")
    parser.add_argument(
        "--column", action="append", default=[], type=_pair, metavar="COLUMN=NAME", help="the table's name of a column"
    )
    options = parser.parse_args(arguments)
    labels = dict(options.label)
    if (options.table is None) == (options.speaker is None):
        layouts = "; ".join(f"{name}: {layout}" for name, layout in LAYOUTS.items())
        parser.error(f"give either --table or --speaker ({layouts})")
    if options.table is None:
        reader = partial(read_folders, speaker=options.speaker, labels=labels, corpus=options.corpus)
    else:
        named = {"columns": dict(options.column), "labels": labels, "corpus": options.corpus}
        reader = partial(read_table, table=options.table, **named)
    return run_adapter(reader, options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
