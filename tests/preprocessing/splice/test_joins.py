from __future__ import annotations

import numpy as np
import pytest

from preprocessing.splice.joins import (
    CARRIER,
    LAYOUTS,
    MAX_GAIN_DB,
    REGION,
    Limits,
    Piece,
    join,
    match_takes,
    plan_pieces,
)
from preprocessing.splice.voice import HOP_S, Voice

RATE = 16000
LIMITS = Limits(0.7, (0.4, 1.0), 0.3)


def matched(voice, **kind):
    return match_takes(voice(1), voice(2, **kind), np.random.default_rng(0))


def test_loudness_of_the_speech_becomes_one(voice):
    carrier, region, gain_db = matched(voice, level=0.4)
    assert gain_db == pytest.approx(-12, abs=1.5)
    assert region.loudness_db == pytest.approx(carrier.loudness_db, abs=0.1)


def test_loudness_may_stay_and_the_gain_is_bounded(voice):
    soft, loud = voice(1, level=0.001, noise=1e-5), voice(2, level=0.2)
    rng = np.random.default_rng(0)
    assert match_takes(soft, loud, rng, keep_loudness=True)[2] == 0
    assert match_takes(soft, loud, rng)[2] == -MAX_GAIN_DB
    assert np.abs(match_takes(loud, soft, rng)[1].waveform).max() <= 1


@pytest.mark.parametrize("noises", [(1e-3, 4e-3), (4e-3, 1e-3)])
def test_the_background_becomes_one(voice, noises):
    carrier, region, _ = match_takes(voice(1, noise=noises[0]), voice(2, noise=noises[1]), np.random.default_rng(0))
    apart_db = 10 * np.log10(carrier.noise.reshape(-1, 7).mean(1) / region.noise.reshape(-1, 7).mean(1))
    assert np.abs(apart_db).max() < 2


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_pieces_keep_the_limits(voice, layout):
    carrier, region, _ = matched(voice)
    plan = plan_pieces(carrier, region, layout, LIMITS)
    assert plan is not None
    assert tuple(piece.source for piece in plan.pieces) == LAYOUTS[layout]
    begin, end = carrier.speech_s
    for n, piece in enumerate(plan.pieces):
        last = n == len(plan.pieces) - 1
        speech_s = len(piece) / RATE - (0.2 if n == 0 else 0) - (0.2 if last else 0)
        least, most = (LIMITS.carrier_s, end - begin) if piece.source == CARRIER else LIMITS.region_s
        assert least - 0.06 <= speech_s <= most + 0.06
    assert plan.pieces[0].start < plan.pieces[0].stop
    if layout == "middle":
        assert plan.pieces[2].start > plan.pieces[0].stop  # the carrier is never heard twice


def test_cuts_are_quiet(voice):
    carrier, region, _ = matched(voice)
    plan = plan_pieces(carrier, region, "middle", LIMITS)
    takes = (carrier, region)
    cuts = [(p.source, at) for p in plan.pieces for at in (p.start, p.stop)][1:-1]
    for source, at in cuts:
        assert takes[source].level_db[round(at / RATE / HOP_S)] < takes[source].loudness_db - 6


def test_impossible_limits_give_nothing(voice):
    carrier, region, _ = matched(voice)
    assert plan_pieces(carrier, region, "end", Limits(5.5, (5, 6), 0.3)) is None
    assert plan_pieces(carrier, region, "end", Limits(0.7, (0.4, 1.0), 9.0)) is None
    steady = Voice(0.1 * np.random.default_rng(0).normal(size=RATE), RATE)  # never quiet
    assert plan_pieces(steady, region, "end", LIMITS) is None


def test_a_take_joined_to_itself_where_it_was_cut_is_the_take():
    sound = np.random.default_rng(0).normal(size=RATE)
    takes = (Voice(sound, RATE), Voice(sound, RATE))
    joined = join(takes, [Piece(CARRIER, 0, 8000), Piece(REGION, 8000, RATE)])
    assert np.allclose(joined, sound, atol=1e-6)


def test_samples_away_from_the_cross_fade_stay_in_place(voice):
    takes = (voice(1), voice(2))
    joined = join(takes, [Piece(CARRIER, 1000, 9000), Piece(REGION, 12000, 20000)])
    assert len(joined) == 16000
    assert np.array_equal(joined[:7500], takes[0].waveform[1000:8500])
    assert np.array_equal(joined[8500:], takes[1].waveform[12500:20000])


def test_unrelated_noises_keep_their_power_through_the_cross_fade():
    rng = np.random.default_rng(0)
    takes = [(Voice(rng.normal(size=4000), RATE), Voice(rng.normal(size=4000), RATE)) for _ in range(300)]
    middles = [join(pair, [Piece(CARRIER, 0, 2000), Piece(REGION, 2000, 4000)])[1960:2040] for pair in takes]
    assert np.mean(np.square(middles)) == pytest.approx(1, abs=0.08)
