"""RAVDESS (Livingstone and Russo 2018): 24 actors who speak and sing two sentences in 8 emotions.

    python -m preprocessing.ravdess --raw DIR --out ravdess.csv [--song]

A file is named modality-channel-emotion-intensity-statement-repetition-actor. The audio-visual (01), the silent (02)
and the audio-only (03) file with the same last six fields are one performance, and one clip.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
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

ACTORS = [f"{actor:02d}" for actor in range(1, 25)]
SPEECH = Expected(
    1440, ACTORS, {e: 96 if e == "neutral" else 192 for e in EMOTIONS.values()}, {"male": 12, "female": 12}
)
SONG = Expected(  # actor 18 did not sing, and nobody sang disgust or surprise
    1012,
    [actor for actor in ACTORS if actor != "18"],
    {e: 92 if e == "neutral" else 184 for e in EMOTIONS.values() if e not in ("disgust", "surprise")},
    {"male": 12, "female": 11},
)


def read_corpus(raw: Path, *, song: bool = False) -> CorpusReport:
    """Every performance below `raw`: speech, and with `song` the songs too.

    The picture comes from the 01 or else the 02 file, the sound from the 03 or else the 01 file.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _take_of)
    report = CorpusReport(left_out=list(files.left_out))
    takes: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)  # last six fields -> modality -> suffix -> path
    for name, copies in files.by_name.items():
        modality, _, key = name.partition("-")
        takes[key][modality] = copies
    wanted = {key for key in takes if song or CHANNELS[key[:2]] == "speech"}
    songs = sorted(takes.keys() - wanted)
    report.left_out += [LeftOut(key, "unwanted", "songs; --song takes them in") for key in songs]
    report.rows = [_row(key, takes[key]) for key in sorted(wanted)]
    found = {row.clip_id for row in report.rows}
    report.left_out += [LeftOut(key, "missing", "no usable file of it") for key in _all_keys(song) if key not in found]
    for channel, expected in (("speech", SPEECH), ("song", SONG)):
        report.notes += compare_counts([row for row in report.rows if row.session == channel], expected, label=channel)
    return report


def _take_of(path: PurePosixPath) -> str | None:
    return path.stem if NAME.fullmatch(path.stem) else None


def _all_keys(song: bool) -> Iterator[str]:
    """The last six fields of every performance that there is."""
    for channel in ("01", "02") if song else ("01",):
        emotions = [e for e in EMOTIONS if channel == "01" or EMOTIONS[e] in SONG.emotions]
        for emotion, intensity, statement, take, actor in product(emotions, ("01", "02"), "12", "12", ACTORS):
            if (emotion, intensity) != ("01", "02") and (channel, actor) != ("02", "18"):  # no strong neutral
                yield f"{channel}-{emotion}-{intensity}-0{statement}-0{take}-{actor}"


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


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("ravdess", "Write the manifest of RAVDESS.")
    parser.add_argument("--song", action="store_true", help="take the songs in too")
    options = parser.parse_args(arguments)
    return run_adapter(partial(read_corpus, song=options.song), options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
