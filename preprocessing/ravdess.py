"""RAVDESS (Livingstone and Russo 2018): 24 actors who speak and sing two sentences in 8 emotions.

    python -m preprocessing.ravdess --raw DIR --out ravdess.csv [--song]

A file is named modality-channel-emotion-intensity-statement-repetition-actor. The audio-visual (01), the silent (02)
and the audio-only (03) file with the same last six fields are one performance, and one clip.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

from avser.data.manifest import ClipRow
from preprocessing.adapter import CorpusReport, build_parser, find_media, first_of, run_adapter

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
CHANNELS = {"01": "speech", "02": "song"}
NAME = re.compile(r"(0[123])-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4]))")

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3")
VIDEO_SUFFIXES = (".mp4", ".avi", ".flv", ".mkv", ".mov")

NUM_ACTORS = 24
NUM_CLIPS = {"speech": 1440, "song": 1012}  # actor 18 did not sing
SPEECH_PER_EMOTION = {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS.values()}


def read_corpus(raw: Path, *, song: bool = False) -> CorpusReport:
    """Every performance below `raw`: speech, and with `song` the songs too.

    The picture comes from the 01 or else the 02 file, the sound from the 03 or else the 01 file.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES)
    report = CorpusReport(notes=list(files.notes))
    takes: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)  # last six fields -> modality -> suffix -> path
    foreign, sung = [], set()
    for name, copies in files.by_name.items():
        match = NAME.fullmatch(name)
        if match is None:
            foreign.append(name)
        elif CHANNELS[match[3]] == "song" and not song:
            sung.add(match[2])
        else:
            takes[match[2]][match[1]] = copies
    report.rows = [_row(key, by_modality) for key, by_modality in sorted(takes.items())]
    if foreign:
        report.notes.append(
            f"{len(foreign)} media files are not named like RAVDESS and were left out ({foreign[0]}, ...)"
        )
    if sung:
        report.notes.append(f"{len(sung)} songs were left out; --song takes them in")
    report.notes += _compare(report.rows, song)
    return report


def _row(key: str, by_modality: dict[str, dict[str, str]]) -> ClipRow:
    channel, emotion, intensity, statement, _, actor = key.split("-")
    both, silent, voice = (by_modality.get(modality, {}) for modality in ("01", "02", "03"))
    return ClipRow(
        key,
        "ravdess",
        speaker=actor,
        emotion=EMOTIONS[emotion],
        audio=first_of(voice, AUDIO_SUFFIXES + VIDEO_SUFFIXES) or first_of(both, AUDIO_SUFFIXES + VIDEO_SUFFIXES),
        video=first_of(both, VIDEO_SUFFIXES) or first_of(silent, VIDEO_SUFFIXES),
        sex="male" if int(actor) % 2 else "female",
        sentence=STATEMENTS[statement],
        intensity=INTENSITIES[intensity],
        session=CHANNELS[channel],
    )


def _compare(rows: list[ClipRow], song: bool) -> list[str]:
    """What was found against what there is."""
    notes = []
    for channel, total in NUM_CLIPS.items():
        found = [row for row in rows if row.session == channel]
        if rows and (channel == "speech" or song):
            notes.append(
                f"{channel}: found {len(found)} of {total} clips ({total - len(found)} missing), "
                f"{len({row.speaker for row in found})} of {NUM_ACTORS - (channel == 'song')} actors; "
                f"{sum(bool(r.audio) for r in found)} with voice, {sum(bool(r.video) for r in found)} with face"
            )
        if found and channel == "speech":
            counts = Counter(row.emotion for row in found)
            notes.append(
                "speech by emotion: " + ", ".join(f"{e} {counts[e]} of {n}" for e, n in SPEECH_PER_EMOTION.items())
            )
    return notes


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("ravdess", "Write the manifest of RAVDESS.")
    parser.add_argument("--song", action="store_true", help="take the songs in too")
    options = parser.parse_args(arguments)
    return run_adapter(partial(read_corpus, song=options.song), options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
