"""MELD (Poria et al. 2019): 13708 utterances of dialogues from the series Friends, in the official train, dev and test.

    python -m preprocessing.meld --raw DIR --out meld.csv [--keep-bad]

Takes the raw archive (train_splits, dev_splits_complete, output_repeated_splits_test) and mirrors with folders train,
dev and test or extracted sound. Ids repeat across the parts, so a clip is named by its part too: `dev_dia0_utt3`. Two
warnings: the parts share speakers (the official split is speaker-dependent), and no file says which of the several
faces in a picture speaks.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from avser.data.manifest import ClipRow
from avser.errors import ManifestError
from preprocessing.adapter import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    CorpusReport,
    Expected,
    LeftOut,
    build_parser,
    compare_counts,
    find_file,
    find_media,
    first_of,
    run_adapter,
)

SPLITS = {"train": "train", "dev": "val", "test": "test"}
EMOTIONS = {
    "neutral": "neutral",
    "surprise": "surprise",
    "fear": "fear",
    "sadness": "sadness",
    "joy": "happiness",
    "disgust": "disgust",
    "anger": "anger",
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def _expected(num_speakers: int, *counts: int) -> Expected:
    return Expected(sum(counts), num_speakers, dict(zip(EMOTIONS.values(), counts, strict=True)))


EXPECTED = {
    "train": _expected(260, 4710, 1205, 268, 683, 1743, 271, 1109),
    "dev": _expected(47, 470, 150, 40, 111, 163, 22, 153),
    "test": _expected(100, 1256, 281, 50, 208, 402, 68, 345),
}

FOLDER = re.compile(r"(train|dev|val|test)(?:[\W_].*)?|output_repeated_splits_(test).*", re.IGNORECASE)
NAME = re.compile(r"(?:(train|dev|val|test)_)?(final_videos_test)?dia(\d+)_utt(\d+)", re.IGNORECASE)

# The numbers are those of issues in the corpus's repository, declare-lab/MELD.
TOO_SHORT = "less than a tenth of a second is left of it"
BAD_CLIPS = {
    "train_dia125_utt3": "the video cannot be decoded (39, 52)",
    "train_dia309_utt0": "wrongly cut: 41 s (20)",
    "test_dia38_utt4": "wrongly cut: 305 s (20)",
    "test_dia220_utt0": "wrongly cut: 235 s of another scene (20)",
    **dict.fromkeys(("train_dia71_utt0", "train_dia179_utt8", "train_dia312_utt9", "train_dia332_utt1"), TOO_SHORT),
    **dict.fromkeys(("train_dia406_utt2", "train_dia523_utt10", "dev_dia99_utt3", "dev_dia108_utt5"), TOO_SHORT),
}
NEVER_PUBLISHED = {"dev_dia110_utt7": "the archive never held it (22, 27)"}


def read_corpus(raw: Path, *, keep_bad: bool = False) -> CorpusReport:
    """Every utterance that the corpus's tables name and that there is a file of.

    Of 132 test clips the archive holds a second cut, `final_videos_test...`; several teams found that this one fits
    the table and the plain one does not, so it is taken and the plain one listed as bad.

    Args:
        keep_bad: take clips that are known to be bad too, for whoever has repaired the files.

    Raises:
        ManifestError: `raw` is no folder, or a table cannot be read or lacks a column.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _name_of)
    report = CorpusReport(left_out=list(files.left_out))
    copies = _better_cuts(files.by_name, report.left_out)
    unnamed = set(copies)
    for part in SPLITS:
        rows = []
        for name, cells in _read_table(raw, part, report).items():
            unnamed.discard(name)
            recut = f"final:{name}" in files.by_name
            if name not in copies:
                reason = NEVER_PUBLISHED.get(name, "no file of it")
                report.left_out.append(LeftOut(name, "missing", reason))
            elif name in BAD_CLIPS and not keep_bad and not recut:
                report.left_out.append(LeftOut(name, "bad", f"left out: {BAD_CLIPS[name]}; --keep-bad takes it"))
            else:
                rows.append(_row(name, part, cells, copies[name]))
        report.rows += rows
        report.notes += compare_counts(rows, EXPECTED[part], label=part)
    report.left_out += [
        LeftOut(path, "foreign", "no row of the tables names it")
        for name in sorted(unnamed)
        for path in copies[name].values()
    ]
    report.rows.sort(key=lambda row: row.clip_id)
    report.notes += _describe(report.rows)
    return report


def _name_of(path: PurePosixPath) -> str | LeftOut | None:
    """E.g. "test_dia3_utt0"; with "final:" before it for a second cut."""
    match = NAME.fullmatch(path.stem)
    if match is None:
        return None
    folders = (FOLDER.fullmatch(folder) for folder in reversed(path.parts[:-1]))
    of_folder = next((found[1] or found[2] for found in folders if found), None)
    part = match[1] or of_folder or ("test" if match[2] else None)
    if part is None:
        advice = "neither its name nor a folder tells train, dev or test, and ids repeat; put it into a folder so named"
        return LeftOut(str(path), "foreign", advice)
    part = {"val": "dev"}.get(part.lower(), part.lower())
    return f"{'final:' if match[2] else ''}{part}_dia{int(match[3])}_utt{int(match[4])}"


def _better_cuts(by_name: Mapping[str, dict[str, str]], left_out: list[LeftOut]) -> dict[str, dict[str, str]]:
    """Name -> suffix -> path, the second cut where there is one."""
    copies = {name: paths for name, paths in by_name.items() if not name.startswith("final:")}
    for name, paths in by_name.items():
        plain = name.removeprefix("final:")
        if name != plain:
            reason = f"does not fit the table; the second cut {next(iter(paths.values()))} was taken"
            left_out += [LeftOut(path, "bad", reason) for path in copies.get(plain, {}).values()]
            copies[plain] = paths
    return copies


def _row(name: str, part: str, cells: dict[str, str], copies: dict[str, str]) -> ClipRow:
    return ClipRow(
        name,
        "meld",
        speaker=cells["Speaker"],
        emotion=EMOTIONS[cells["Emotion"].lower()],
        audio=first_of(copies, AUDIO_SUFFIXES + VIDEO_SUFFIXES),
        video=first_of(copies, VIDEO_SUFFIXES),
        sentence=cells["Utterance"],
        session=name.rpartition("_")[0],  # the dialogue
        split=SPLITS[part],
    )


def _describe(rows: list[ClipRow]) -> Iterator[str]:
    if shared := {r.speaker for r in rows if r.split == "train"} & {r.speaker for r in rows if r.split == "test"}:
        of_them = sum(row.split == "test" and row.speaker in shared for row in rows)
        yield (
            f"the official split is speaker-dependent: {len(shared)} speakers of test, with {of_them} of its clips, "
            "are in train too; a role without a name (All, Man, Woman ...) may be several people"
        )


# --- the corpus's tables -----------------------------------------------------------------------------------------


def _read_table(raw: Path, part: str, report: CorpusReport) -> dict[str, dict[str, str]]:
    """Clip's name -> cells of every usable row; the others are listed."""
    path = find_file(raw, f"{part}_sent_emo.csv") or find_file(raw, f"{part}.csv")
    if path is None:
        report.notes.append(f"{part}_sent_emo.csv is not there: nothing of {part} can be labelled")
        return {}
    reader = csv.DictReader(io.StringIO(_decode(path.read_bytes()), newline=""), restval="")
    rows: dict[str, dict[str, str]] = {}
    try:
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
            raise ManifestError(f"{path}: lacks the column {missing[0]!r}; is it the table of MELD, and fetched?")
        for row in reader:
            cells = {column: (row[column] or "").strip() for column in COLUMNS}
            name = f"{part}_dia{cells['Dialogue_ID']}_utt{cells['Utterance_ID']}"
            where = f"{path.name}, line {reader.line_num}"
            if fault := _fault(cells):
                report.left_out.append(LeftOut(where, "bad", fault))
            elif name in rows:
                report.left_out.append(LeftOut(where, "double", f"{name} stands above already; the first row counts"))
            else:
                rows[name] = cells
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num}: not readable as CSV: {error}") from error
    return rows


def _fault(cells: dict[str, str]) -> str:
    """What is wrong with a row; empty where nothing."""
    for column in ("Dialogue_ID", "Utterance_ID"):
        if not re.fullmatch(r"[0-9]+", cells[column]):
            return f"column {column}: got {cells[column]!r}, expected a number"
    if cells["Emotion"].lower() not in EMOTIONS:
        return f"column Emotion: got {cells['Emotion']!r}, known are {', '.join(EMOTIONS)}"
    return "" if cells["Speaker"] else "column Speaker: empty"


def _decode(text: bytes) -> str:
    """UTF-8, or Windows' own code; characters of that code that were taken over into UTF-8 as they were are mended."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        decoded = text.decode("cp1252", errors="replace")
    return re.sub("[\x80-\x9f]", lambda c: c[0].encode("latin-1").decode("cp1252", errors="ignore"), decoded)


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("meld", "Write the manifest of MELD.")
    parser.add_argument("--keep-bad", action="store_true", help="take clips too that are known to be bad")
    options = parser.parse_args(arguments)
    return run_adapter(partial(read_corpus, keep_bad=options.keep_bad), options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
