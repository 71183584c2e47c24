"""eNTERFACE'05 (Martin et al. 2006): 1287 videos of 43 people who react to six stories, each with one emotion.

    python -m preprocessing.enterface05 --raw DIR --out enterface05.csv

Published as "subject 7/anger/sentence 2/s7_an_2.avi". The folders are right and some names are not: all of subject 11
are named s12, many of subject 3 begin with s_3, one ends in "3avi", and two of subject 2 are swapped. So the folders
decide where these disagree, and names serve where there are no folders. Each emotion has five sentences of its own, so
the words alone tell the emotion: a good result on this corpus may be reading. Nothing tells the sexes of the people.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path, PurePosixPath

from avser.data.manifest import ClipRow
from preprocessing.adapter import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    CorpusReport,
    Expected,
    LeftOut,
    build_parser,
    compare_counts,
    find_media,
    first_of,
    run_adapter,
)
from preprocessing.emotions import disagreement, emotion_of_folder

EMOTIONS = {"an": "anger", "di": "disgust", "fe": "fear", "ha": "happiness", "sa": "sadness", "su": "surprise"}
CODES = {emotion: code for code, emotion in EMOTIONS.items()}
SUBJECTS = [str(subject) for subject in range(1, 45) if subject != 6]
SUBJECT_FOLDER = re.compile(r"(?:subject|subj|s)[_ -]*0*(\d{1,2})", re.IGNORECASE)
SENTENCE_FOLDER = re.compile(r"(?:sentence|sent)[_ -]*0*(\d)", re.IGNORECASE)
NAME = re.compile(f"s_?0*(\\d{{1,2}})_({'|'.join(EMOTIONS)})(?:_(\\d)(?:\\.?avi)?)?", re.IGNORECASE)

NEVER_PUBLISHED = {"s23_ha_1", "s23_ha_2", "s23_ha_3"}
SWAPPED = {"1": "2", "2": "1"}  # sentence in the names of subject 2's anger -> sentence in the archive's folders
CLIPS = {f"s{s}_{e}_{k}" for s, e, k in product(SUBJECTS, EMOTIONS, range(1, 6))} - NEVER_PUBLISHED
EXPECTED = Expected(1287, SUBJECTS, {e: 212 if e == "happiness" else 215 for e in EMOTIONS.values()})


def read_corpus(raw: Path) -> CorpusReport:
    """Every clip below `raw`; sound from a file of its own where there is one, else from the video.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _clip_of)
    report = CorpusReport(left_out=list(files.left_out))
    has_subject_11 = any(name.startswith("s11_") for name in files.by_name)
    for name, copies in sorted(files.by_name.items()):
        path = next(iter(copies.values()))
        if name.startswith("s12_") and not has_subject_11 and not _by_folders(PurePosixPath(path))[0]:
            reason = "subject 11 or 12? Published names of both begin with s12; keep the folders of the archive"
            report.left_out.append(LeftOut(path, "bad", reason))
        else:
            report.rows.append(_row(name, copies))
    missing = sorted(CLIPS - {row.clip_id for row in report.rows})
    report.left_out += [LeftOut(name, "missing", "no usable file of it") for name in missing]
    report.notes = compare_counts(report.rows, EXPECTED)
    return report


def _clip_of(path: PurePosixPath) -> str | LeftOut | None:
    """E.g. "s7_an_2", from the folders and the name."""
    by_folder, by_name = _by_folders(path), _by_name(path)
    if by_name is None:
        return None
    for what, told, named in zip(("subject", "emotion", "sentence"), by_folder, by_name, strict=True):
        if told and named and told != named:
            return disagreement(path, what, told, named)
    subject, code, sentence = (told or named for told, named in zip(by_folder, by_name, strict=True))
    if subject == "6":
        reason = "left out: subject 6 was published without cuts, all sentences of an emotion in one file"
        return LeftOut(str(path), "bad", reason)
    name = f"s{subject}_{code}_{sentence}"
    return name if name in CLIPS else None


def _by_folders(path: PurePosixPath) -> tuple[str, str, str]:
    """Subject, code of the emotion and sentence; empty where no folder says it."""
    folders = [folder.name for folder in path.parents]
    subject = next((match[1] for name in folders if (match := SUBJECT_FOLDER.fullmatch(name))), "")
    sentence = next((match[1] for name in folders if (match := SENTENCE_FOLDER.fullmatch(name))), "")
    return subject, CODES.get(emotion_of_folder(path), ""), sentence


def _by_name(path: PurePosixPath) -> tuple[str, str, str] | None:
    """The same by the file's name, with the mistakes of the published names put right."""
    match = NAME.fullmatch(path.stem)
    if match is None:
        return None
    subject, code, sentence = match[1], match[2].lower(), match[3] or ""
    folder_subject, _, folder_sentence = _by_folders(path)
    if (folder_subject, subject) == ("11", "12"):
        subject = "11"
    if (subject, code) == ("2", "an") and sentence in SWAPPED:
        sentence = folder_sentence if folder_sentence in SWAPPED else SWAPPED[sentence]
    return subject, code, sentence


def _row(name: str, copies: dict[str, str]) -> ClipRow:
    subject, code, sentence = name[1:].split("_")
    return ClipRow(
        name,
        "enterface05",
        speaker=subject,
        emotion=EMOTIONS[code],
        audio=first_of(copies, AUDIO_SUFFIXES + VIDEO_SUFFIXES),
        video=first_of(copies, VIDEO_SUFFIXES),
        sentence=f"{EMOTIONS[code]} {sentence}",
    )


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    options = build_parser("enterface05", "Write the manifest of eNTERFACE'05.").parse_args(arguments)
    return run_adapter(read_corpus, options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
