"""Dynamics, mixture, fusion, band and disagreement of hand-made evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avser.errors import AvserError
from avser.roi.dynamics import (
    band_courses,
    emotion_dynamics,
    find_disagreement,
    fuse_evidence,
    mixture,
    summarise_dynamics,
)
from avser.structures import Attended, Curve


def make_attended(weights: list[float], evidence: list[list[float]], step_s: float = 0.1) -> Attended:
    w, p = torch.tensor([weights]), torch.tensor([evidence])
    times = (torch.arange(len(weights)) + 0.5)[None] * step_s
    mask = torch.ones(1, len(weights), dtype=torch.bool)
    return Attended(torch.zeros(1, len(weights), 2), w, p.log(), times, mask, torch.zeros(1, 2), torch.zeros(1, 2))


ATTENDED = make_attended([0.5, 0.3, 0.2], [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])


def test_unsmoothed_dynamics_are_attention_times_evidence() -> None:
    times, dynamics = emotion_dynamics(ATTENDED, 0, smooth_s=0)
    np.testing.assert_allclose(times, [0.05, 0.15, 0.25], atol=1e-6)
    np.testing.assert_allclose(dynamics, [[0.45, 0.05], [0.06, 0.24], [0.1, 0.1]], atol=1e-6)


def test_smoothed_dynamics_still_sum_to_one_and_vary_less() -> None:
    _, raw = emotion_dynamics(ATTENDED, 0, smooth_s=0)
    _, smooth = emotion_dynamics(ATTENDED, 0)
    assert smooth.sum() == pytest.approx(1)
    assert (np.ptp(smooth, axis=0) < np.ptp(raw, axis=0)).all()


def test_mixture_by_hand() -> None:
    np.testing.assert_allclose(mixture(ATTENDED, 0), [0.61, 0.39], atol=1e-6)


def test_summary_by_hand() -> None:
    # leaders 0, 1, 1, 0, 1; evidence so far: [3 0] [3 1] [3 3] [4 3] [4 7], so the last step decides
    dynamics = np.array([[3, 0], [0, 1], [0, 2], [1, 0], [0, 4.0]])
    summary = summarise_dynamics((np.arange(5) + 0.5) / 10, dynamics)
    assert summary.num_switches == 3
    np.testing.assert_allclose(summary.dwell_s, [0.2, 0.3])
    assert summary.onset_s == pytest.approx(0.45)


def test_a_decision_that_never_wavers_begins_at_the_first_step() -> None:
    summary = summarise_dynamics(np.array([0.05, 0.15, 0.25]), np.array([[1, 0], [1, 0], [1, 0.0]]))
    assert (summary.num_switches, summary.onset_s) == (0, pytest.approx(0.05))
    with pytest.raises(AvserError, match="no steps"):
        summarise_dynamics(np.zeros(0), np.zeros((0, 2)))


def test_fused_evidence_weighs_by_attention() -> None:
    """In the middle of a second of voice and face, attention as densities 3 : 1 decides the mix."""
    num_a, num_v = 40, 20
    times = {"audio": (np.arange(num_a) + 0.5) / num_a, "video": (np.arange(num_v) + 0.5) / num_v}
    evidence = {
        "audio": (times["audio"], np.tile([1.0, 0.0], (num_a, 1))),
        "video": (times["video"], np.tile([0.0, 1.0], (num_v, 1))),
    }
    salience = {
        "audio": Curve(times["audio"], np.full(num_a, 3 / num_a)),
        "video": Curve(times["video"], np.full(num_v, 1 / num_v)),
    }
    grid, fused = fuse_evidence(evidence, salience)
    assert grid[0] == pytest.approx(0.01)
    np.testing.assert_allclose(fused, np.tile([0.75, 0.25], (len(grid), 1)), atol=1e-9)


def test_one_modality_alone_is_its_own_fusion() -> None:
    times = (np.arange(10) + 0.5) / 10
    empty = np.zeros(0), np.zeros((0, 2))
    evidence = {"audio": (times, np.tile([0.3, 0.7], (10, 1))), "video": empty}
    grid, fused = fuse_evidence(evidence, {"audio": Curve(times, np.full(10, 0.1)), "video": Curve(*empty)})
    np.testing.assert_allclose(fused, np.tile([0.3, 0.7], (len(grid), 1)))
    with pytest.raises(AvserError, match="no modality has steps"):
        fuse_evidence({"video": empty}, {"video": Curve(*empty)})


# --- several models ----------------------------------------------------------------------------------------------


def steps(num: int, step_s: float) -> np.ndarray:
    return (np.arange(num) + 0.5) * step_s


def test_the_band_of_two_models_by_hand() -> None:
    """Levels 0.2 and 0.6 of a model with 100 ms steps and one with 50 ms steps: mean 0.4, sd sqrt(2) * 0.2."""
    coarse = steps(10, 0.1), np.tile([0.2, 0.8], (10, 1))
    fine = steps(30, 0.05), np.tile([0.6, 0.4], (30, 1))
    band = band_courses([coarse, fine])
    assert band.num_models == 2
    np.testing.assert_allclose(band.times, steps(50, 0.02))  # the 1 s that both cover
    np.testing.assert_allclose(band.mean, np.tile([0.4, 0.6], (50, 1)))
    np.testing.assert_allclose(band.sd, np.sqrt(0.08))


def test_shares_of_the_clip_become_shares_a_second() -> None:
    coarse = steps(10, 0.1), np.full((10, 2), 1 / 20)
    fine = steps(20, 0.05), np.full((20, 2), 1 / 40)
    band = band_courses([coarse, fine], are_shares=True)
    np.testing.assert_allclose(band.mean, 0.5)
    np.testing.assert_allclose(band.sd, 0, atol=1e-12)


def test_one_model_has_no_spread_and_strangers_no_band() -> None:
    one = steps(10, 0.1), np.tile([0.2, 0.8], (10, 1))
    assert np.isnan(band_courses([one]).sd).all()
    with pytest.raises(AvserError, match=r"0\.00 s in common"):
        band_courses([one, (one[0] + 1.0, one[1])])
    with pytest.raises(AvserError, match="no steps"):
        band_courses([one, (np.zeros(0), np.zeros((0, 2)))])
    with pytest.raises(AvserError, match="no course"):
        band_courses([])


def test_the_band_keeps_holes_of_any_model() -> None:
    holey = np.delete(steps(20, 0.1), np.arange(8, 14))
    band = band_courses([(steps(20, 0.1), np.ones((20, 2))), (holey, np.ones((14, 2)))])
    assert not ((band.times > 0.96) & (band.times < 1.24)).any()


# --- disagreement ------------------------------------------------------------------------------------------------


def spoken(*stretches: tuple[float, list[float]], step_s: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Evidence that keeps each distribution for so many seconds."""
    rows = np.concatenate([np.tile(p, (round(seconds / step_s), 1)) for seconds, p in stretches])
    return steps(len(rows), step_s), rows


def disagreement(voice, face, **options):
    return find_disagreement(voice, face, **{"smooth_s": 0, **options})


def test_a_planted_disagreement_is_found_with_its_emotions() -> None:
    voice = spoken((0.6, [0.8, 0.1, 0.1]), (0.4, [0.7, 0.2, 0.1]), (1.0, [0.8, 0.1, 0.1]))
    face = spoken((0.6, [0.6, 0.2, 0.2]), (0.4, [0.1, 0.3, 0.6]), (1.0, [0.6, 0.2, 0.2]), step_s=0.04)
    found = disagreement(voice, face)
    (episode,) = found.episodes
    assert (episode.start_s, episode.end_s) == (pytest.approx(0.6, abs=0.011), pytest.approx(1.0, abs=0.011))
    assert (episode.voice_emotion, episode.face_emotion) == (0, 2)
    assert episode.voice_share == pytest.approx(0.7, abs=0.01)
    assert episode.face_share == pytest.approx(0.6, abs=0.02)
    assert found.compared_s == pytest.approx(2.0)
    assert found.share == pytest.approx(0.2, abs=0.011)
    # Jensen-Shannon of (.7 .2 .1) and (.1 .3 .6): H(.4 .25 .35) - (H(.7 .2 .1) + H(.1 .3 .6)) / 2 bits
    assert episode.divergence == pytest.approx(1.558872 - (1.156780 + 1.295462) / 2, abs=0.01)
    inside = (found.divergence.times > 0.65) & (found.divergence.times < 0.95)
    np.testing.assert_allclose(found.divergence.values[inside], 0.332751, atol=1e-4)


def test_divergence_is_zero_for_one_opinion_and_one_for_two_certainties() -> None:
    certain = spoken((1.0, [1.0, 0.0]))
    np.testing.assert_allclose(disagreement(certain, certain).divergence.values, 0, atol=1e-12)
    found = disagreement(certain, spoken((1.0, [0.0, 1.0])))
    np.testing.assert_allclose(found.divergence.values, 1)
    assert found.share == pytest.approx(1)
    assert disagreement(certain, certain).episodes == []


def test_near_ties_do_not_flicker() -> None:
    """The face wavers between 0 and 1 by less than the margin, while the voice says 0."""
    wavering = spoken(*[(0.2, p) for p in ([0.51, 0.49], [0.49, 0.51])] * 5)
    sure = spoken((2.0, [0.9, 0.1]))
    assert disagreement(sure, wavering).episodes == []
    assert len(disagreement(sure, wavering, margin=0).episodes) == 5


def test_a_tie_between_two_others_is_still_a_disagreement() -> None:
    torn = spoken(*[(0.2, p) for p in ([0.1, 0.46, 0.44], [0.1, 0.44, 0.46], [0.1, 0.46, 0.44])] * 2)
    found = disagreement(spoken((1.2, [0.9, 0.05, 0.05])), torn)
    (episode,) = found.episodes
    assert episode.duration_s == pytest.approx(1.2)
    assert (episode.voice_emotion, episode.face_emotion) == (0, 1)  # the pair of four stretches of six


def test_two_thresholds_keep_one_episode_whole() -> None:
    """The face's preference sinks below the margin for a while, but not below half of it."""
    sure = spoken((1.2, [0.9, 0.1]))
    swaying = spoken((0.4, [0.4, 0.6]), (0.4, [0.47, 0.53]), (0.4, [0.4, 0.6]))
    assert len(disagreement(sure, swaying, margin=0.1).episodes) == 1
    assert len(disagreement(sure, swaying, margin=0.15).episodes) == 2
    assert disagreement(sure, spoken((1.2, [0.47, 0.53])), margin=0.1).episodes == []  # nowhere the whole margin


def test_short_stretches_are_left_out() -> None:
    voice = spoken((2.0, [0.9, 0.1]))
    face = spoken((0.5, [0.9, 0.1]), (0.06, [0.1, 0.9]), (0.5, [0.9, 0.1]), (0.2, [0.1, 0.9]), (0.74, [0.9, 0.1]))
    (episode,) = disagreement(voice, face, min_duration_s=0.1).episodes
    assert episode.start_s == pytest.approx(1.06, abs=0.011)
    assert len(disagreement(voice, face, min_duration_s=0.05).episodes) == 2
    assert len(disagreement(voice, face, min_duration_s=0.05, smooth_s=0.1).episodes) == 1


def test_a_hole_in_the_face_ends_an_episode_and_is_not_compared() -> None:
    voice = spoken((2.0, [0.9, 0.1]))
    times, evidence = spoken((2.0, [0.1, 0.9]))
    seen = (times < 0.8) | (times > 1.2)
    found = disagreement(voice, (times[seen], evidence[seen]))
    assert len(found.episodes) == 2
    assert found.compared_s == pytest.approx(1.6, abs=0.05)
    assert found.share == pytest.approx(1)
    assert not ((found.divergence.times > 0.83) & (found.divergence.times < 1.17)).any()


def test_what_cannot_be_compared_is_refused() -> None:
    empty = np.zeros(0), np.zeros((0, 2))
    with pytest.raises(AvserError, match="in common"):
        find_disagreement(spoken((1.0, [0.5, 0.5])), empty)
    with pytest.raises(AvserError, match="one label set"):
        find_disagreement(spoken((1.0, [0.5, 0.5])), spoken((1.0, [0.5, 0.3, 0.2])))
