"""A study of alignment finds the bond and the lead that curves were made with, and says so in numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from avser.data.manifest import ClipRow
from avser.errors import AvserError
from avser.evaluation.statistics import Interval
from avser.experiments.alignment.study import ALL, AlignmentStudy, Lead, Stratum, find_leads, study_alignment
from avser.experiments.alignment.words import _by_measures, describe_alignment
from avser.roi.alignment.compare import measure_alignment
from avser.structures import Curve

EMOTIONS = ("anger", "fear")


def make_clips(
    num_speakers: int = 8, *, aligned: tuple[str, ...] = EMOTIONS, lead_s: float = 0.1, seed: int = 0
) -> tuple[dict[str, tuple[Curve, Curve]], dict[str, ClipRow]]:
    """Two peaks a clip in the voice; the face has them `lead_s` earlier in `aligned` emotions, elsewhere in others."""
    rng = np.random.default_rng(seed)
    curves, rows = {}, {}
    times = (np.arange(60) + 0.5) / 30  # 2 s

    def bumps(centres_s: np.ndarray) -> Curve:
        return Curve(times, sum(np.exp(-0.5 * ((times - c) / 0.1) ** 2) for c in centres_s) + 0.02)

    for speaker in range(num_speakers):
        for emotion in EMOTIONS:
            for take in range(4):
                name, centres_s = f"{speaker}_{emotion}_{take}", rng.uniform(0.3, 1.8, 2)
                other_s = centres_s - lead_s if emotion in aligned else rng.uniform(0.2, 1.7, 2)
                curves[name] = bumps(centres_s), bumps(other_s)
                intensity = "strong" if take % 2 else "normal"
                rows[name] = ClipRow(name, "c", str(speaker), emotion, sentence=f"s{take // 2}", intensity=intensity)
    return curves, rows


def study(*args, **options) -> AlignmentStudy:
    return study_alignment(*args, num_permutations=199, num_resamples=100, **options)


def test_alignment_and_lead_of_all_clips_are_found_and_said() -> None:
    curves, rows = make_clips()
    found = study(curves, rows)
    assert set(found.nulls) == {"re-pairing", "circular shift", "placement", "surrogates"}
    assert found.nulls["re-pairing"].results["r_max"].p_value == pytest.approx(1 / 200)
    assert max(found.holm_p.values()) <= 7 / 256 + 1e-9  # 8 speakers, 7 measures
    lag = next(x for x in found.leads if (x.measure, x.emotion) == ("lag_s", ALL))
    assert lag.seconds.value == pytest.approx(0.1, abs=0.02)
    assert lag.p_value == pytest.approx(2 / 256)
    assert lag.face_first > 0.9
    text = describe_alignment(found)
    assert text[0].startswith("Voice and face are more aligned than re-paired clips by 7 of 7 measures (64 clips of 8")
    assert any(s.startswith("The face leads by 0.") and "shift of the best correlation" in s for s in text)
    assert found.clips["0_anger_0"] == measure_alignment(*curves["0_anger_0"])


def test_unrelated_curves_are_said_to_be_no_more_aligned() -> None:
    found = study(*make_clips(aligned=()), nulls=["re-pairing"])
    text = describe_alignment(found)
    assert text[0].startswith(
        "Voice and face are no more aligned than re-paired clips (64 clips of 8 speakers); closest"
    )
    assert any(s.startswith("By emotion, none of 2 is more aligned") for s in text)
    assert min(found.holm_p.values()) > 0.05


def test_strata_tell_the_emotion_that_is_aligned_from_the_one_that_is_not() -> None:
    curves, rows = make_clips(aligned=("fear",))
    correct = {clip_id: row.emotion == "fear" for clip_id, row in rows.items()}
    found = study(curves, rows, nulls=["re-pairing"], correct=correct)
    by_key = {(s.kind, s.value, s.measure): s for s in found.strata}
    assert {s.kind for s in found.strata} == {"emotion", "intensity", "sentence", "answer"}
    assert by_key["emotion", "fear", "r_max"].q_value < 0.05 < by_key["emotion", "anger", "r_max"].q_value
    fear, right = by_key["emotion", "fear", "js"], by_key["answer", "right", "js"]
    assert (fear.observed, fear.chance, fear.p_value) == (right.observed, right.chance, right.p_value)
    assert fear.difference.high < 0  # a divergence: less is more aligned
    assert fear.num_clips == 32
    assert {s.value for s in found.strata if s.kind == "intensity"} == {"normal", "strong"}
    # 14 tests of two emotions: the smallest p, 1 / 256, is shared by k of them, so q = 14 / (256 k)
    smallest = [s for s in found.strata if s.kind == "emotion" and s.p_value == 1 / 256]
    assert smallest[0].q_value == pytest.approx(14 / 256 / len(smallest))
    assert any(
        s.startswith("By emotion, more aligned than re-paired clips in 1 of 2: fear (")
        for s in describe_alignment(found)
    )


def test_kinds_without_two_values_are_left_out() -> None:
    curves, rows = make_clips(4)
    rows = {c: replace(row, intensity="", sentence="the only one") for c, row in rows.items()}
    found = study(curves, rows, nulls=["re-pairing"])
    assert {s.kind for s in found.strata} == {"emotion"}


def test_too_few_speakers_are_said_to_be_too_few() -> None:
    found = study(*make_clips(3), nulls=["re-pairing"])
    assert "too few speakers" in describe_alignment(found)[0]


def test_clips_that_cannot_be_compared_and_nulls_that_cannot_be_applied_are_named() -> None:
    curves, rows = make_clips(1)
    curves["0_fear_0"] = (Curve(np.zeros(0), np.zeros(0)), curves["0_fear_0"][1])
    found = study(curves, rows)
    assert "common" in found.left_out["0_fear_0"]
    assert "re-pairing" not in found.nulls
    assert found.strata == []
    assert any("could not be compared with re-paired clips" in s for s in describe_alignment(found))
    with pytest.raises(AvserError, match="none of 1 clips"):
        study({"0_fear_0": curves["0_fear_0"]}, rows)


def test_leads_count_clips_with_a_best_correlation_and_come_with_their_sign() -> None:
    curves, rows = make_clips(6, lead_s=-0.15)
    clips = {c: measure_alignment(*pair) for c, pair in curves.items()}
    weak = [c for c in clips if c.startswith("0_")]
    for c in weak:
        clips[c].r_max = 0.29
    leads = {(x.measure, x.emotion): x for x in find_leads(clips, rows, num_resamples=100)}
    assert leads["lag_s", ALL].num_clips == 40
    assert leads["lag_s", ALL].num_speakers == 5
    assert leads["centroid_difference_s", ALL].num_clips == 48
    assert leads["lag_s", ALL].seconds.value == pytest.approx(-0.15, abs=0.02)
    assert leads["lag_s", ALL].face_first < 0.1
    assert leads["lag_s", "fear"].q_value is not None
    assert leads["lag_s", ALL].q_value is None


def test_sentences_of_leads() -> None:
    some = measure_alignment(*make_clips(1)[0]["0_fear_0"])

    def sentence(value: float, low: float, high: float, p: float) -> str:
        lead = Lead("lag_s", ALL, Interval(value, low, high), 0.25, p, None, 30, 8)
        return describe_alignment(AlignmentStudy({str(i): some for i in range(40)}, leads=[lead]))[0]

    assert sentence(-0.04, -0.06, -0.01, 0.01) == (
        "The voice leads by 0.040 [0.010, 0.060] s, p = 0.010 (by shift of the best correlation; 30 of 40 clips, "
        "8 speakers), in 75 % of the clips in which either does."
    )
    assert sentence(0.04, 0.01, 0.06, 0.01).startswith("The face leads by 0.040 [0.010, 0.060] s, p = 0.010")
    assert sentence(0.04, -0.01, 0.06, 0.2).startswith("Neither leads: voice minus face is +0.040 [-0.010, +0.060] s")


def test_the_result_is_plain() -> None:
    found = study(*make_clips(4), nulls=["re-pairing", "placement"])
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["num_clips"] == 32
    assert plain["nulls"]["placement"]["results"]["iou"]["tail"] == "greater"
    assert len(plain["strata"]) == 7 * (2 + 2 + 2)
    assert plain["strata"][0]["difference"].keys() == {"value", "low", "high"}


def test_a_sentence_names_two_measures_and_counts_more() -> None:
    def aligned(*measures: str, q: float) -> list[Stratum]:
        share = Interval(0.1, 0.0, 0.2)
        return [Stratum("emotion", "fear", m, "greater", 0.3, 0.2, share, q / 2, q, 9, 3) for m in measures]

    assert _by_measures(aligned("r0", "js", q=0.0001)) == "correlation q < 0.001, Jensen-Shannon divergence q < 0.001"
    many = [*aligned("r0", "rho0", q=0.0001), *aligned("iou", q=0.012)]
    assert _by_measures(many) == "3 measures, the weakest q = 0.012"
