"""CREMA-D (Cao et al. 2014): 7442 clips of 91 actors who say 12 sentences in 6 emotions, with human votes.

    python -m preprocessing.cremad --raw DIR --out cremad.csv

Takes the corpus as published (VideoFlash, AudioWAV, AudioMP3 and its tables) and flattened mirrors of it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
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

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": ""}
NAME = re.compile(f"(1\\d{{3}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_({'|'.join(INTENSITIES)})")
ACTORS = [str(actor) for actor in range(1001, 1092)]
EXPECTED = Expected(
    7442, ACTORS, {e: 1087 if e == "neutral" else 1271 for e in EMOTIONS.values()}, {"male": 48, "female": 43}
)

ORIGINAL_FIRST = (".flv", *VIDEO_SUFFIXES)  # the corpus is published as flv; any other picture is somebody's copy

# Sentences that an actor has not said: they are in none of the corpus's tables.
NEVER_RECORDED = {
    *("1002_TIE_NEU_XX", "1076_ITS_NEU_XX"),
    *(f"{actor}_{emotion}_XX" for actor, emotion in product(("1008_WSI", "1009_MTI", "1019_ITH"), EMOTIONS)),
}
# From the corpus's README.
BAD_CLIPS = {
    "1076_MTI_SAD_XX": "no sound, and an error message for a picture",
    "1064_TIE_SAD_XX": "no duration in the video and MP3 files",
    "1064_IEO_DIS_MD": "a minute with all emotions instead of one clip",
}
BAD_EXCEPT_WAV = {"1076_MTI_NEU_XX": "the video and MP3 files are cut short and have no sound"}
MUTE_UNTIL_2020 = """
    1005_IWW_DIS_XX 1007_IWL_HAP_XX 1037_DFA_ANG_XX 1037_WSI_DIS_XX 1037_WSI_FEA_XX 1037_WSI_SAD_XX 1039_IWL_SAD_XX
    1039_WSI_SAD_XX 1045_ITS_HAP_XX 1045_WSI_DIS_XX 1046_TIE_HAP_XX 1058_IEO_SAD_HI 1061_TIE_ANG_XX 1063_IEO_DIS_HI
    1067_IEO_FEA_LO 1068_IEO_SAD_MD 1070_IWL_SAD_XX 1071_WSI_ANG_XX 1072_WSI_ANG_XX 1073_MTI_SAD_XX 1075_IWW_DIS_XX
    1075_WSI_DIS_XX 1076_ITH_HAP_XX 1076_ITH_NEU_XX 1076_TAI_NEU_XX 1079_IWL_ANG_XX 1079_TAI_DIS_XX 1091_IWW_FEA_XX
""".split()

VOTE_EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
VOTE_COLUMNS = {"1": "votes_audio", "2": "votes_video", "3": "votes_av"}  # by the first digit of a row's number


def read_corpus(raw: Path) -> CorpusReport:
    """Every clip below `raw`, with what the corpus's own tables say about it.

    Raises:
        ManifestError: `raw` is no folder, or a vote in its tables is no number.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _clip_of)
    report = CorpusReport(left_out=list(files.left_out))
    sexes = _read_sexes(raw, report.notes)
    votes = _read_votes(raw, report.notes)
    for name, copies in sorted(files.by_name.items()):
        usable, fault = _usable(name, copies)
        if fault is not None:
            report.left_out.append(fault)
        if usable:
            report.rows.append(_row(name, usable, sexes, votes.get(name, {})))
    missing = [name for name in _all_clips() if name not in files.by_name]
    report.left_out += [LeftOut(name, "missing", "no usable file of it") for name in missing]
    report.notes += [*compare_counts(report.rows, EXPECTED), *_describe_votes(votes)]
    if borrowed := [row.clip_id for row in report.rows if row.audio == row.video]:
        mute = [name for name in borrowed if name in MUTE_UNTIL_2020]
        report.notes.append(f"{len(borrowed)} clips have no WAV or MP3; their sound comes from the video")
        report.left_out += [
            LeftOut(name, "bad", "taken, but its flv was mute until December 2020; get the WAV") for name in mute
        ]
    return report


def _clip_of(path: PurePosixPath) -> str | None:
    match = NAME.fullmatch(path.stem)
    return path.stem if match and match[1] in ACTORS else None


def _all_clips() -> Iterator[str]:
    """The names of all 7442 clips: only the sentence IEO was said in three levels, and never so in neutral."""
    for actor, sentence, emotion in product(ACTORS, SENTENCES, EMOTIONS):
        levels = ("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",)
        names = (f"{actor}_{sentence}_{emotion}_{level}" for level in levels)
        yield from (name for name in names if name not in NEVER_RECORDED)


def _usable(name: str, copies: dict[str, str]) -> tuple[dict[str, str], LeftOut | None]:
    """The files of a clip that are not known to be broken, and what is to be said of the others."""
    if name in BAD_CLIPS:
        return {}, LeftOut(name, "bad", f"left out: {BAD_CLIPS[name]}")
    if name in BAD_EXCEPT_WAV:
        sound = {suffix: path for suffix, path in copies.items() if suffix in (".wav", ".flac")}
        use = "only its WAV is used" if sound else "left out, for there is no WAV"
        return sound, LeftOut(name, "bad", f"{BAD_EXCEPT_WAV[name]}; {use}")
    return copies, None


def _row(name: str, copies: dict[str, str], sexes: dict[str, str], votes: dict[str, str]) -> ClipRow:
    actor, sentence, emotion, level = name.split("_")
    return ClipRow(
        name,
        "cremad",
        speaker=actor,
        emotion=EMOTIONS[emotion],
        audio=first_of(copies, AUDIO_SUFFIXES + ORIGINAL_FIRST),
        video=first_of(copies, ORIGINAL_FIRST),
        sex=sexes.get(actor, ""),
        sentence=SENTENCES[sentence],
        intensity=INTENSITIES[level],
        **votes,  # type: ignore[arg-type]
    )


# --- the corpus's tables -----------------------------------------------------------------------------------------


def _read_sexes(raw: Path, notes: list[str]) -> dict[str, str]:
    table = _read_table(raw, "VideoDemographics.csv", ("ActorID", "Sex"), notes)
    return {row["ActorID"]: row["Sex"].lower() for row in table}


def _read_votes(raw: Path, notes: list[str]) -> dict[str, dict[str, str]]:
    """clip id -> column of the manifest -> JSON counts."""
    votes: dict[str, dict[str, str]] = defaultdict(dict)
    for row in _read_table(raw, "tabulatedVotes.csv", ("", "fileName", *VOTE_EMOTIONS), notes):
        if column := VOTE_COLUMNS.get(row[""][:1]):
            try:
                counts = {emotion: int(row[letter]) for letter, emotion in VOTE_EMOTIONS.items()}
            except ValueError as error:
                raise ManifestError(f"tabulatedVotes.csv, row {row['']}: a vote is no number ({error})") from error
            votes[row["fileName"]][column] = json.dumps(counts)
    return votes


def _describe_votes(votes: dict[str, dict[str, str]]) -> list[str]:
    """How many clips people voted on, and how many votes are tied: those have no perceived emotion."""
    notes = []
    for column, heard in zip(VOTE_COLUMNS.values(), ("the voice", "the face", "both"), strict=True):
        found = [json.loads(columns[column]) for columns in votes.values() if column in columns]
        tied = sum(sorted(counts.values())[-2:] == 2 * [max(counts.values())] for counts in found)
        if found:
            notes.append(f"votes on {heard}: {len(found)} clips, {tied} of them tied")
    return notes


def _read_table(raw: Path, name: str, columns: Sequence[str], notes: list[str]) -> list[dict[str, str]]:
    """Rows of one of the corpus's tables, wherever it lies; where it cannot be used a note says so."""
    path = find_file(raw, name)
    if path is None:
        notes.append(f"{name} is not there: what it tells stays empty")
        return []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, restval="")
        if missing := [column for column in columns if column not in (reader.fieldnames or [])]:
            notes.append(f"{name} lacks the column {missing[0]!r} (a Git LFS pointer?): what it tells stays empty")
            return []
        return list(reader)


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    options = build_parser("cremad", "Write the manifest of CREMA-D.").parse_args(arguments)
    return run_adapter(read_corpus, options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
