"""Unrelated curves are called aligned as often as the level says, and the tests that err are known to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from avser.roi.alignment.null_calibration import (
    MID_CLIP,
    STATIONARY,
    FalsePositives,
    calibrate_nulls,
    calibration_table,
    join_trials,
    unrelated_curves,
)


def test_re_pairing_keeps_its_level_wherever_curves_peak() -> None:
    """Speakers share a third of their curves' variance here: tests that took clips for independent would fail."""
    found = calibrate_nulls(50, 3, nulls=["re-pairing"], num_speakers=12, clips_per_speaker=5, num_cells=24)
    highest = binom.ppf(0.999, 50, 0.05) / 50
    assert {f.world for f in found} == {STATIONARY, MID_CLIP}
    assert len(found) == 2 * 7 * 2
    assert max(f.rate for f in found) <= highest
    assert np.mean([f.rate for f in found]) == pytest.approx(0.05, abs=0.03)


def test_the_other_null_models_keep_it_for_stationary_curves_alone() -> None:
    nulls = ["circular shift", "surrogates", "placement"]
    found = calibrate_nulls(20, 5, nulls=nulls, num_speakers=12, clips_per_speaker=5, num_cells=24)
    for f in found:
        if f.world == MID_CLIP:
            assert f.rate > 0.9, f
            assert f.verdict == "anti-conservative"
        else:
            assert f.rate <= binom.ppf(0.999, 20, 0.05) / 20, f


def test_unrelated_curves_are_unrelated_and_shared_by_speakers() -> None:
    stack = unrelated_curves(np.random.default_rng(0), 40, 10, speaker_share=0.5)
    voice, face = (np.log(x + 1e-9) for x in (stack.audio, stack.video))

    def mean_r(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]))

    assert mean_r(voice, face) == pytest.approx(0, abs=0.06)
    assert mean_r(voice[0::10], voice[1::10]) > 0.25
    assert mean_r(voice[:-10:10], voice[10::10]) == pytest.approx(0, abs=0.15)


def test_verdicts() -> None:
    def verdict(rate: float) -> str:
        return FalsePositives(STATIONARY, "re-pairing", "r0", "permutations", round(400 * rate), 400, 0.05).verdict

    assert [verdict(r) for r in (0.01, 0.05, 0.09)] == ["conservative", "calibrated", "anti-conservative"]


def test_trials_in_parts_are_those_of_one_go():
    small = {
        "nulls": ["re-pairing"],
        "num_speakers": 8,
        "clips_per_speaker": 5,
        "num_cells": 24,
        "num_permutations": 49,
    }
    whole = calibrate_nulls(6, 1, **small)
    parts = [calibrate_nulls(4, 1, **small), calibrate_nulls(2, 1, first_trial=4, **small)]
    assert join_trials(parts) == whole
    table = calibration_table(whole)
    assert len(table.rows) == len({f.measure for f in whole})
    assert all(len(row) == len(table.columns) for row in table.rows)
