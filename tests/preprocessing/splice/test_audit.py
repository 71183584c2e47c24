"""The join itself cannot be found: classifiers try on real voices, and find naive joins, so that the test can fail."""

from __future__ import annotations

import numpy as np
import pytest

from avser.data.manifest import read_manifest
from avser.errors import ManifestError
from preprocessing.ravdess import main as ravdess
from preprocessing.splice.audit import collect_windows, describe, measure
from preprocessing.splice.voice import Voice

UNDETECTABLE = 0.58


def test_a_jump_shows_in_the_features(voice):
    take = voice(0)
    at = 16000
    jump = Voice(np.concatenate([take.waveform[:at], 0.3 + take.waveform[at:]]), 16000)
    assert not np.allclose(describe(jump, at), describe(take, at), atol=1)


def test_too_few_speakers_are_an_error(toy):
    with pytest.raises(ManifestError, match="0 speakers have two neutral takes"):
        collect_windows(read_manifest(toy("a_neutral_1", "a_anger_1")), rounds=1)


@pytest.mark.real_data
def test_joins_of_real_voices_cannot_be_found_but_naive_ones_can(real_data, tmp_path):
    ravdess(["--raw", str(real_data / "ravdess_speech"), "--out", str(tmp_path / "ravdess.csv")])
    manifest = read_manifest(tmp_path / "ravdess.csv")
    manifest.rows = [row for row in manifest.rows if row.emotion == "neutral"]
    windows = collect_windows(manifest, rounds=8)
    for name, area in measure(*windows["spliced"]).items():
        assert area.low <= 0.5 or area.value < UNDETECTABLE, f"{name}: {area:.3f}"
    for name, area in measure(*windows["naive"]).items():
        assert area.low > 0.8, f"{name}: {area:.3f}"
