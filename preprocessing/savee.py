"""SAVEE (Haq and Jackson 2009): 480 clips of 4 men who say English sentences in 7 emotions, voice and face.

    python -m preprocessing.savee --raw DIR --out savee.csv

Takes the two archives as published, AudioData/DC/a01.wav and AudioVisualClip/DC/a1.avi (one clip where both are
there), and flattened mirrors (DC_a01.wav, DCa01.wav). The column `sentence` stays empty: three sentences were said in
every emotion, and two of each emotion in neutral too, but the file names do not tell which. With names such as a01 for
sentences, a split by sentence would share some without anybody noticing.
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

SPEAKERS = ["DC", "JE", "JK", "KL"]
EMOTIONS = {
    "sa": "sadness",
    "su": "surprise",
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
}
NUM_TAKES = {code: 30 if code == "n" else 15 for code in EMOTIONS}  # of each speaker
NAME = re.compile(f"(?:({'|'.join(SPEAKERS)})[_ -]?)?({'|'.join(EMOTIONS)})(\\d{{1,2}})", re.IGNORECASE)
CLIPS = {f"{s}_{e}{take:02d}" for s, e in product(SPEAKERS, EMOTIONS) for take in range(1, NUM_TAKES[e] + 1)}
EXPECTED = Expected(480, SPEAKERS, {e: 4 * NUM_TAKES[code] for code, e in EMOTIONS.items()}, {"male": 4})


def read_corpus(raw: Path) -> CorpusReport:
    """Every take below `raw`; sound from the WAV or else from the video.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _clip_of)
    rows = [_row(name, copies) for name, copies in sorted(files.by_name.items())]
    missing = sorted(CLIPS - files.by_name.keys())
    left_out = [*files.left_out, *(LeftOut(name, "missing", "no usable file of it") for name in missing)]
    return CorpusReport(rows, compare_counts(rows, EXPECTED), left_out)


def _clip_of(path: PurePosixPath) -> str | LeftOut | None:
    """E.g. "DC_a01"; the speaker stands in the name or in a folder."""
    match = NAME.fullmatch(path.stem)
    if match is None:
        return None
    by_folder = next((folder.name.upper() for folder in path.parents if folder.name.upper() in SPEAKERS), "")
    speaker = (match[1] or by_folder).upper()
    name = f"{speaker}_{match[2].lower()}{int(match[3]):02d}"
    if not speaker:
        return LeftOut(str(path), "foreign", "whose voice is it? Neither its name nor a folder says DC, JE, JK or KL")
    if name not in CLIPS:
        return None
    if by_folder not in ("", speaker):
        return disagreement(path, "speaker", by_folder, speaker)
    emotion, folder_emotion = EMOTIONS[match[2].lower()], emotion_of_folder(path)
    if folder_emotion not in ("", emotion):
        return disagreement(path, "emotion", folder_emotion, emotion)
    return name


def _row(name: str, copies: dict[str, str]) -> ClipRow:
    speaker, take = name.split("_")
    return ClipRow(
        name,
        "savee",
        speaker=speaker,
        emotion=EMOTIONS[take[:-2]],
        audio=first_of(copies, AUDIO_SUFFIXES + VIDEO_SUFFIXES),
        video=first_of(copies, VIDEO_SUFFIXES),
        sex="male",
    )


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    options = build_parser("savee", "Write the manifest of SAVEE.").parse_args(arguments)
    return run_adapter(read_corpus, options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
