"""Which of our emotions a folder or file name means, however people spell it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from preprocessing.report import LeftOut

# Lower case. Single letters are not here: F is fear in one corpus and happiness (Freude) in another.
SYNONYMS = {
    "neutral": "neutral neu neut",
    "calm": "calm cal calmness",
    "happiness": "happiness happy hap joy joyful",
    "sadness": "sadness sad",
    "anger": "anger angry ang",
    "fear": "fear fearful fea afraid scared",
    "disgust": "disgust disgusted dis",
    "surprise": "surprise surprised sur pleasant_surprise pleasant_surprised pleasantsurprise pleasantsurprised ps",
    "boredom": "boredom bored bor",
    "contempt": "contempt contemptuous con",
    "excitement": "excitement excited exc",
    "frustration": "frustration frustrated fru",
}
KNOWN_LABELS = {word: emotion for emotion, words in SYNONYMS.items() for word in words.split()}


def plain_label(word: str) -> str:
    """A label in the form that `KNOWN_LABELS` has it: "Pleasant Surprise" -> "pleasant_surprise"."""
    return re.sub(r"[\s_-]+", "_", word.strip().lower())


def emotion_named(word: str) -> str:
    """The emotion that a label means; empty where it means none."""
    return KNOWN_LABELS.get(plain_label(word), "")


def emotion_of_folder(path: PurePosixPath) -> str:
    """The emotion that the nearest folder named after one means; empty where none is."""
    return next((emotion for folder in path.parents if (emotion := emotion_named(folder.name))), "")


def disagreement(path: PurePosixPath, what: str, by_folder: str, by_name: str) -> LeftOut:
    """For a file whose folder says one thing and whose name another, so that nobody can tell which is right."""
    return LeftOut(str(path), "bad", f"its folder says {what} {by_folder}, its name {by_name}; put one of them right")
