from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from avser.data.manifest import EMOTIONS
from preprocessing.emotions import KNOWN_LABELS, emotion_named, emotion_of_folder


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("Angry", "anger"),
        (" fear ", "fear"),
        ("Pleasant_surprise", "surprise"),
        ("pleasant surprised", "surprise"),
        ("PS", "surprise"),
        ("wav", ""),
        ("a", ""),
        ("", ""),
    ],
)
def test_labels_as_people_spell_them(word, emotion):
    assert emotion_named(word) == emotion


def test_every_label_means_one_of_our_emotions():
    assert set(KNOWN_LABELS.values()) == set(EMOTIONS)


def test_the_nearest_folder_tells():
    assert emotion_of_folder(PurePosixPath("Sad/wav/x.wav")) == "sadness"
    assert emotion_of_folder(PurePosixPath("sad/happy/x.wav")) == "happiness"
    assert emotion_of_folder(PurePosixPath("wav/sad.wav")) == ""
