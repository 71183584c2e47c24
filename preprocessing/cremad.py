"""CREMA-D (Cao et al. 2014): 7442 clips of 91 actors who say 12 sentences in 6 emotions, with human votes.

    python -m preprocessing.cremad --raw DIR --out cremad.csv

Takes the corpus as published (VideoFlash, AudioWAV, AudioMP3 and its tables) and flattened mirrors of it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from avser.data.manifest import ClipRow
from avser.errors import ManifestError
from preprocessing.adapter import CorpusReport, MediaFiles, build_parser, find_file, find_media, first_of, run_adapter

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
CLIPS_PER_EMOTION = {emotion: 1087 if emotion == "neutral" else 1271 for emotion in EMOTIONS.values()}

AUDIO_SUFFIXES = (".wav", ".mp3")  # the flv comes last: 28 of them had no sound before December 2020
VIDEO_SUFFIXES = (".flv", ".mp4")

# From the corpus's README.
BAD_CLIPS = {
    "1076_MTI_SAD_XX": "no sound, and an error message for a picture",
    "1064_TIE_SAD_XX": "no duration in the video and MP3 files",
    "1064_IEO_DIS_MD": "a minute with all emotions instead of one clip",
}
BAD_EXCEPT_WAV = {"1076_MTI_NEU_XX": "the video and MP3 files are cut short and have no sound"}

VOTE_EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
VOTE_COLUMNS = {"1": "votes_audio", "2": "votes_video", "3": "votes_av"}  # by the first digit of a row's number


def read_corpus(raw: Path) -> CorpusReport:
    """Every clip below `raw`, with what the corpus's own tables say about it.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES)
    report = CorpusReport(notes=list(files.notes))
    sexes = _read_sexes(raw, report.notes)
    votes = _read_votes(raw, report.notes)
    rows = _read_rows(files, sexes, votes, report.notes)
    report.rows = sorted(rows, key=lambda row: row.clip_id)
    report.notes += _compare(report.rows)
    return report


def _read_rows(
    files: MediaFiles, sexes: dict[str, str], votes: dict[str, dict[str, str]], notes: list[str]
) -> list[ClipRow]:
    rows, foreign = [], []
    for name, copies in files.by_name.items():
        match = NAME.fullmatch(name)
        if match is None or match[1] not in ACTORS:
            foreign.append(name)
            continue
        if name in BAD_EXCEPT_WAV:
            use = "only its WAV is used" if ".wav" in copies else "left out, for there is no WAV"
            notes.append(f"{name}: {BAD_EXCEPT_WAV[name]}; {use}")
            copies = {suffix: path for suffix, path in copies.items() if suffix == ".wav"}
        if name in BAD_CLIPS:
            notes.append(f"{name}: left out: {BAD_CLIPS[name]}")
        elif copies:
            actor, sentence, emotion, level = match.groups()
            rows.append(
                ClipRow(
                    name,
                    "cremad",
                    speaker=actor,
                    emotion=EMOTIONS[emotion],
                    audio=first_of(copies, AUDIO_SUFFIXES + VIDEO_SUFFIXES),
                    video=first_of(copies, VIDEO_SUFFIXES),
                    sex=sexes.get(actor, ""),
                    sentence=SENTENCES[sentence],
                    intensity=INTENSITIES[level],
                    **votes.get(name, {}),  # type: ignore[arg-type]
                )
            )
    if foreign:
        notes.append(
            f"{len(foreign)} media files are not named like CREMA-D clips and were left out ({foreign[0]}, ...)"
        )
    return rows


def _compare(rows: list[ClipRow]) -> list[str]:
    """What was found against the 7442 clips that there are."""
    if not rows:
        return []
    total = sum(CLIPS_PER_EMOTION.values())
    counts = Counter(row.emotion for row in rows)
    actors = {row.speaker for row in rows}
    notes = [
        f"found {len(rows)} of {total} clips ({total - len(rows)} missing), {len(actors)} of {len(ACTORS)} actors, "
        f"{sum(bool(row.video) for row in rows)} clips with video",
        "by emotion: " + ", ".join(f"{emotion} {counts[emotion]} of {n}" for emotion, n in CLIPS_PER_EMOTION.items()),
    ]
    if missing := [actor for actor in ACTORS if actor not in actors]:
        notes.append(f"no clip of {len(missing)} actors: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}")
    if borrowed := sum(row.audio == row.video for row in rows):
        notes.append(
            f"{borrowed} clips have no WAV or MP3; their sound comes from the video; old copies of 28 are mute"
        )
    return notes


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
