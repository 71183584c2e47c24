"""EMO-DB (Burkhardt et al. 2005): 535 recordings of 10 speakers who say 10 German sentences in 7 emotions.

    python -m preprocessing.emodb --raw DIR --out emodb.csv [--all]

A file is named speaker, sentence, emotion (the first letter of the German word), take: 03a01Fa.wav. The corpus as
everybody uses it is the 535 recordings that passed a listening test; EmoDB 2.0 holds the others too.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath

from avser.data.manifest import ClipRow
from preprocessing.adapter import (
    AUDIO_SUFFIXES,
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

EMOTIONS = {
    "W": "anger",  # Wut, Ärger
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
SEXES = dict.fromkeys("03 10 11 12 15".split(), "male") | dict.fromkeys("08 09 13 14 16".split(), "female")
NAME = re.compile(f"({'|'.join(SEXES)})({'|'.join(SENTENCES)})([{''.join(EMOTIONS)}])([a-z]?)", re.IGNORECASE)

# Emotion, speaker, and sentence with the letters of its takes, of every recording that passed the listening test.
SELECTED = """
W 03 a01a a02bc a04c a05ab a07c b01ac b02b b03c b09a b10bc
W 08 a01ac a02c a04c a05a a07c b01a b02d b03d b09ac b10a
W 09 a01b a02b a04a a05bc a07bd b01b b02cd b03b b09a b10a
W 10 a01a a02a a04ab a05b a07b b02b b03b b09b b10a
W 11 a01c a02c a04c a05d a07c b01d b02b b03ab b09a b10a
W 12 a01c a02ac a04c a05b a07a b01a b02abd b09c b10a
W 13 a01b a02a a04c a05ac a07b b01a b02a b03c b09a b10ac
W 14 a01ac a02ac a04bc a05ab a07c b01c b02bd b03b b09ac b10c
W 15 a01a a02bd a04ab a05a b01c b02ac b03ab b09b b10a
W 16 a01b a02b a04bc a05bc a07a b01ab b02b b03b b09b b10ab
L 03 a04c a07a b01b b02a b09a
L 08 a01c a02a a04a a05c a07a b01b b02a b03c b09c b10a
L 09 a02a a04a a05c b03b
L 10 a02b a05d a07a b01b b02a b03a b09b b10c
L 11 a01d a02d a05c a07d b01b b03c b09d b10d
L 12 a01b a05b a07a b03a b10d
L 13 a01b a02c a04b a05c a07b b01d b02c b03b b09a b10a
L 14 a02a a04b a05b a07cd b03b b09b b10b
L 15 a01a a02a a05b a07d b01b b02b b03c b09a b10c
L 16 a01b a02b a04ac a05a a07ab b01ac b02b b03a b09ab b10b
E 03 b10c
E 09 a01a a02ab a05d a07b b01a b03d b09a
E 10 b01a
E 11 a02c b01b
E 12 a02c b02a
E 13 a01ac a02c a05a b01c b03d b09c b10c
E 14 a01a a02a a04d a07b b01b b03d b09a b10b
E 15 a01a a02a a05b a07b b01c
E 16 a01c a02ac a04a a05a a07a b01b b02b b03a b09b b10b
A 03 a04d a05a b02a b10b
A 08 a01b a02bc b01a b09b b10a
A 09 b10a
A 10 a01c a02b a05a a07ad b01a b02a b09d
A 11 a01ab a04c a05d a07c b01b b02b b09d b10de
A 12 a02c a05b a07c b02d b09c b10c
A 13 a01c a02d a04c a05a b01b b03c b09b
A 14 a01ac a02b a04a a05ac a07a b01c b02a b03d b09c b10d
A 15 a02c a04bc a07c b02a b03a b09c b10c
A 16 a04b a05b b01a b02a b03d b09b b10a
F 03 a01a a02c a04d a05c a07ab b01a
F 08 a01d a02e a04f a05e a07d b01de b02f b03e b09d b10d
F 09 a01a a04d b03ad
F 10 a02a a04d b01a b10c
F 11 a02b a04d a05bc b01c b02d b03c b09d
F 12 a01b b02b
F 13 a01d a02a a04c a07d b01c b02b b03d b09bc b10a
F 14 a02d a05ab a07d b01ac b02b b09c
F 15 a01b a04d a05b a07ab b09a
F 16 a01c a04a a05c a07ab b01a b02d b03ad b09b b10b
N 03 a01c a02c a04c a05d a07c b01b b02a b03b b09c b10ac
N 08 a01a a02a a04c a05b a07a b01a b02b b03b b09b b10c
N 09 a01b a04b a05b a07a b01a b02a b03b b09d b10d
N 10 a01b a02a a04b b02a
N 11 a01d a02c a04d a05a b01c b02a b03b b09a b10c
N 12 a01b a02b a05d b02a
N 13 a01b a02c a05b a07a b01c b02b b03a b09a b10c
N 14 a01a a02c a05a a07a b01a b02a b10b
N 15 a01b a02a a04c a05a a07c b01a b02d b03b b09b b10bc
N 16 a01c a02b a04c a07b b03b
T 03 a02a a04a a05c b01d b02b b03c b09c
T 08 a02b a04b a05a a07ab b02c b03c b09b b10c
T 09 a05b a07a b02b b03a
T 10 a05b a07a b03b
T 11 a02c a05d a07a b02d b03d b09d b10d
T 12 a05a b01a b03a b09d
T 13 a02a a04a a05c a07c b03d
T 14 a02b a04bc a05ac a07c b02c b03a b09d b10c
T 15 a02a b02c b03c b09a
T 16 a01b a02c a04c a05b a07d b01b b03a b10bd
"""
CLIPS = {
    f"{speaker}{group[:3]}{emotion}{take}"
    for emotion, speaker, *groups in map(str.split, SELECTED.strip().splitlines())
    for group in groups
    for take in group[3:]
}
EXPECTED = Expected(
    535,
    sorted(SEXES),
    {"anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "sadness": 62, "neutral": 79},
    {"male": 5, "female": 5},
)


def read_corpus(raw: Path, *, beyond: bool = False) -> CorpusReport:
    """The published 535 recordings below `raw`, and with `beyond` those that EmoDB 2.0 adds.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES, _clip_of)
    report = CorpusReport(left_out=list(files.left_out))
    others = sorted(files.by_name.keys() - CLIPS)
    wanted = files.by_name if beyond else CLIPS & files.by_name.keys()
    report.rows = [_row(name, files.by_name[name]) for name in sorted(wanted)]
    missing = sorted(CLIPS - files.by_name.keys())
    report.left_out += [LeftOut(name, "missing", "no usable file of it") for name in missing]
    report.notes = compare_counts([row for row in report.rows if row.clip_id in CLIPS], EXPECTED)
    if beyond:
        report.notes.append(f"{len(others)} recordings beyond the published 535")
    else:
        reason = "not among the published 535 (EmoDB 2.0 has it); --all takes it in"
        report.left_out += [LeftOut(name, "unwanted", reason) for name in others]
    return report


def _clip_of(path: PurePosixPath) -> str | LeftOut | None:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, sentence, letter, take = match.groups()
    emotion, by_folder = EMOTIONS[letter.upper()], emotion_of_folder(path)
    if by_folder not in ("", emotion):
        return disagreement(path, "emotion", by_folder, emotion)
    return f"{speaker}{sentence.lower()}{letter.upper()}{take.lower()}"


def _row(name: str, copies: dict[str, str]) -> ClipRow:
    return ClipRow(
        name,
        "emodb",
        speaker=name[:2],
        emotion=EMOTIONS[name[5]],
        audio=first_of(copies, AUDIO_SUFFIXES),
        sex=SEXES[name[:2]],
        sentence=SENTENCES[name[2:5]],
    )


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("emodb", "Write the manifest of EMO-DB.")
    parser.add_argument("--all", action="store_true", help="take the recordings in too that only EmoDB 2.0 holds")
    options = parser.parse_args(arguments)
    return run_adapter(partial(read_corpus, beyond=options.all), options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
