"""TESS (Pichora-Fuller and Dupuis 2010): 2800 recordings of two women who say 200 words in 7 emotions.

    python -m preprocessing.tess --raw DIR --out tess.csv

A file is named speaker, word, emotion: OAF_back_angry.wav, in folders such as OAF_angry or OAF_Pleasant_surprise; all
of it in one folder will do. Every word is said as "Say the word ...". One file of the published corpus is misnamed,
OA_bite_neutral.wav; mirrors are known that hold the whole tree twice. With two speakers a speaker-independent test can
only be one woman against the other.
"""

from __future__ import annotations

import re
from itertools import product
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
from preprocessing.emotions import disagreement, emotion_named, emotion_of_folder

SPEAKERS = ["OAF", "YAF"]  # the older and the younger actress
CODES = {  # emotion -> as the published names end
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "ps",
}
# The four lists of the Northwestern University Auditory Test No. 6 (Tillman and Carhart 1966).
WORDS = """
    laud boat pool nag limb shout sub vine dime goose whip tough puff keen death sell take fall raise third gap fat met
    jar door love sure knock choice hash lot raid hurl moon page yes reach king home rag which week size mode bean tip
    chalk jail burn kite
    pick room nice said fail south white keep dead loaf dab numb juice chief merge wag rain witch soap young ton keg
    calm tool pike mill hush shack read rot hate live book voice gaze pad thought bought turn chair lore bite haze match
    learn shawl deep gin goal far
    base mess cause mop good luck walk youth pain date pearl search ditch talk ring germ life team lid pole road shall
    late cheek beg gun jug sheep five rush rat void wire half note when name thin tell bar mouse hire cab hit chat phone
    soup dodge seize cool
    pass doll back red wash sour bone get wheat thumb sail yearn wife such neat peg mob gas check join lease long chain
    kill hole lean tape tire dip rose came fit make vote judge food ripe have rough kick lose near perch shirt bath time
    hall mood dog should
""".split()
MISNAMED = {"OA_bite_neutral": "OAF_bite_neutral"}
NAME = re.compile(f"({'|'.join(SPEAKERS)})_({'|'.join(WORDS)})_(.+)", re.IGNORECASE)
FOLDER = re.compile(f"({'|'.join(SPEAKERS)})(?:[_ -]+(.+))?", re.IGNORECASE)

CLIPS = {f"{speaker}_{word}_{code}" for speaker, word, code in product(SPEAKERS, WORDS, CODES.values())}
EXPECTED = Expected(2800, SPEAKERS, dict.fromkeys(CODES, 400), {"female": 2})


def read_corpus(raw: Path) -> CorpusReport:
    """Every recording below `raw`.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES, _clip_of)
    rows = [_row(name, copies) for name, copies in sorted(files.by_name.items())]
    missing = sorted(CLIPS - files.by_name.keys())
    left_out = [*files.left_out, *(LeftOut(name, "missing", "no usable file of it") for name in missing)]
    return CorpusReport(rows, compare_counts(rows, EXPECTED), left_out)


def _clip_of(path: PurePosixPath) -> str | LeftOut | None:
    """The published name without suffix, e.g. "OAF_back_ps" for .../OAF_back_pleasant_surprise.wav."""
    match = NAME.fullmatch(MISNAMED.get(path.stem, path.stem))
    emotion = emotion_named(match[3]) if match else ""
    if match is None or emotion not in CODES:
        return None
    speaker = match[1].upper()
    folder_speaker, folder_emotion = _told_by_folder(path)
    if folder_speaker not in ("", speaker):
        return disagreement(path, "speaker", folder_speaker, speaker)
    if folder_emotion not in ("", emotion):
        return disagreement(path, "emotion", folder_emotion, emotion)
    return f"{speaker}_{match[2].lower()}_{CODES[emotion]}"


def _told_by_folder(path: PurePosixPath) -> tuple[str, str]:
    """Speaker and emotion as one folder says them (OAF_Pleasant_surprise) or two (OAF, fear); empty where none does."""
    told = next((match for folder in path.parents if (match := FOLDER.fullmatch(folder.name))), None)
    if told is None:
        return "", emotion_of_folder(path)
    return told[1].upper(), emotion_named(told[2] or "") or emotion_of_folder(path)


def _row(name: str, copies: dict[str, str]) -> ClipRow:
    speaker, word, code = name.split("_")
    return ClipRow(
        name,
        "tess",
        speaker=speaker,
        emotion=emotion_named(code),
        audio=first_of(copies, AUDIO_SUFFIXES),
        sex="female",
        sentence=f"Say the word {word}",
    )


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    options = build_parser("tess", "Write the manifest of TESS.").parse_args(arguments)
    return run_adapter(read_corpus, options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
