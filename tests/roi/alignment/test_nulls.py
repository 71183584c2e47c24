"""Null models: what they keep and destroy, on curves whose bond is known."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from avser.errors import AvserError, ConfigError
from avser.roi.alignment.compare import align_curves, measure_pair
from avser.roi.alignment.curve_stack import (
    LESS,
    TAILS,
    CurveStack,
    measure_as_is,
    measure_pairs,
    prepare,
    stack_pairs,
)
from avser.roi.alignment.null_calibration import MID_CLIP, unrelated_curves
from avser.roi.alignment.null_pools import phase_factors, pool_placements, pool_shifts, pool_surrogates
from avser.roi.alignment.nulls import NULLS, clip_chance, compare_with_null, p_value
from avser.roi.alignment.repairing import draw_partners, find_partners
from avser.structures import Curve


def make_stack(
    num_speakers: int = 6, clips_per_speaker: int = 10, *, world: str = "stationary", bond: float = 0.0, seed: int = 0
) -> CurveStack:
    return unrelated_curves(np.random.default_rng(seed), num_speakers, clips_per_speaker, world=world, bond=bond)


def random_pair(seed: int, duration_s: float = 2.0, controls: bool = False):
    rng = np.random.default_rng(seed)
    curves = [Curve((np.arange(n) + 0.5) * duration_s / n, rng.dirichlet(np.ones(n))) for n in (40, 60, 50)]
    return align_curves(*curves[:2], controls=curves[2:] if controls else ())


# --- stacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration_s", [0.5, 2.0, 3.1])
def test_rows_are_measured_as_pairs_are(duration_s: float) -> None:
    """On the pair's own cells every measure is that of `measure_pair`."""
    pair = random_pair(1, duration_s, controls=True)
    stack = stack_pairs([pair], ["s"], ["joy"], num_cells=len(pair.times))
    found, expected = measure_as_is(stack, list(TAILS)), measure_pair(pair)
    for measure in TAILS:
        assert found[measure][0] == pytest.approx(getattr(expected, measure), abs=1e-7), measure


def test_time_normalised_clips_keep_their_seconds() -> None:
    """Peaks 0.3 s apart, in clips of 1.5 s and of 3 s."""
    pairs = []
    for duration_s in (1.5, 3.0):
        times = (np.arange(round(100 * duration_s)) + 0.5) / 100
        voice, face = (np.exp(-0.5 * ((times - centre_s) / 0.1) ** 2) for centre_s in (0.9, 0.6))
        pairs.append(align_curves(Curve(times, voice), Curve(times, face)))
    found = measure_as_is(stack_pairs(pairs, ["a", "b"], ["", ""]), ["w1_s", "r_max"])
    np.testing.assert_allclose(found["w1_s"], 0.3, atol=0.01)
    assert (found["r_max"] > 0.98).all()


def test_pairs_measured_in_chunks_are_those_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = make_stack(2, 3)
    audio, video = prepare(stack.audio), prepare(stack.video)
    rows_a, rows_v = np.array([0, 1, 5, 2, 3]), np.array([4, 4, 0, 1, 3])
    names = [m for m in TAILS if m != "partial_r0"]
    durations_s, shifts = np.array([3.0, 0.4, 1.0, 2.5, 0.7]), np.array([0, 5, 1, 31, 16])
    monkeypatch.setattr("avser.roi.alignment.curve_stack.CHUNK", 2)
    found = measure_pairs(audio, video, rows_a, rows_v, durations_s, names, shifts)
    for k in range(5):
        rolled = np.roll(stack.video[rows_v[k]], shifts[k])
        own = CurveStack(stack.audio[rows_a[k], None], rolled[None], durations_s[k : k + 1], ["s"], [""], [""])
        for measure, value in measure_as_is(own, names).items():
            assert found[measure][k] == pytest.approx(value[0]), (measure, k)


# --- re-pairing ---------------------------------------------------------------------------------------------------


def test_partners_share_emotion_and_sentence_and_are_others() -> None:
    stack = make_stack(6, 10)
    rng = np.random.default_rng(0)
    partners = find_partners(stack, rng)
    assert partners.by_sentence
    assert partners.notes == []
    assert partners.num_distinct == factorial(5)
    assert sorted(np.concatenate([g.clips for g in partners.groups])) == list(range(60))
    orders = rng.permuted(np.tile(np.arange(6), (50, 1)), axis=1)
    for group in partners.groups:
        drawn = draw_partners(group, orders, rng)
        assert (np.sort(drawn, axis=1) == np.arange(len(group.clips))).all()  # every face is used once
        for mine, theirs in zip(group.clips, group.clips[drawn].T, strict=True):
            assert {stack.emotions[i] for i in theirs} == {stack.emotions[mine]}
            assert {stack.sentences[i] for i in theirs} == {stack.sentences[mine]}
            assert stack.speakers[mine] not in {stack.speakers[i] for i in theirs}
            assert len({stack.speakers[i] for i in theirs}) == 5  # anybody else may be drawn


def test_all_clips_of_a_speaker_go_to_one_other_speaker() -> None:
    """Also where groups lack speakers: then to the next one in the circle."""
    stack = make_stack(5, 10).keep(np.flatnonzero(np.random.default_rng(3).random(50) < 0.7))
    rng = np.random.default_rng(0)
    partners = find_partners(stack, rng)
    order = rng.permutation(5)[None]
    names = np.unique(stack.speakers)
    for group in partners.groups:
        drawn = draw_partners(group, order, rng)[0]
        present = [s for s in order[0] if s in group.speakers]
        for speaker, other in zip(group.speakers, group.speakers[drawn], strict=True):
            assert other == present[(present.index(speaker) + 1) % len(present)]
            assert names[other] != names[speaker]


def test_without_sentences_partners_share_the_emotion_and_the_result_says_so() -> None:
    stack = make_stack(4, 10)
    for sentences, why in (([""] * 40, "has no sentences"), ([str(i) for i in range(40)], "no other speaker")):
        stack.sentences = sentences
        test = compare_with_null(stack, measures=["r0"], num_permutations=99, num_resamples=50)
        assert any("emotion but not the sentence" in note and why in note for note in test.notes)
        assert len(test.clips) == 40


def test_clips_without_a_partner_are_left_out_and_counted() -> None:
    stack = make_stack(4, 10)
    stack.emotions = ["unique", *stack.emotions[1:]]
    test = compare_with_null(stack, measures=["r0"], num_permutations=99, num_resamples=50)
    assert 0 not in test.clips
    assert len(test.clips) == 39
    assert any("1 of 40 clips" in note for note in test.notes)
    stack.emotions = [f"{s} {e}" for s, e in zip(stack.speakers, stack.emotions, strict=True)]
    with pytest.raises(AvserError, match="two speakers of one emotion"):
        compare_with_null(stack, num_permutations=9)


def test_large_groups_are_cut_between_speakers() -> None:
    stack = make_stack(12, 10)
    stack.sentences, stack.emotions = [""] * 120, ["joy"] * 120
    partners = find_partners(stack, np.random.default_rng(0), max_group=40)
    assert sorted(len(g.clips) for g in partners.groups) == [40, 40, 40]
    assert all(len(set(g.speakers)) == 4 for g in partners.groups)


def test_few_speakers_cannot_show_anything() -> None:
    """3 speakers can be re-paired in 2 ways, whatever the number of draws."""
    test = compare_with_null(make_stack(3, 10, bond=0.9), measures=["r0"], num_permutations=999, num_resamples=50)
    assert test.results["r0"].p_value == pytest.approx(1 / 3)
    assert test.results["r0"].p_speakers == pytest.approx(1 / 8)


def test_the_chance_of_a_clip_is_that_of_its_voice_and_its_face_among_strangers() -> None:
    """Additive by hand, in one group of three speakers with a clip each."""
    stack = make_stack(3, 1)
    test = compare_with_null(stack, measures=["js"], num_permutations=99, num_resamples=50)
    audio, video = prepare(stack.audio), prepare(stack.video)
    i, j = np.indices((3, 3)).reshape(2, 9)
    js = measure_pairs(audio, video, i, j, stack.durations_s[i], ["js"])["js"].reshape(3, 3)
    off = js[~np.eye(3, dtype=bool)].mean()
    expected = (js[0, 1] + js[0, 2]) / 2 + (js[1, 0] + js[2, 0]) / 2 - off
    assert test.chance["js"][0] == pytest.approx(expected)
    assert test.results["js"].observed == pytest.approx(js.trace() / 3)
    assert test.results["js"].chance == pytest.approx(off)


@pytest.mark.parametrize("null", list(NULLS))
def test_related_curves_are_found_on_the_aligned_side(null: str) -> None:
    test = compare_with_null(make_stack(8, 10, bond=0.5), null, num_permutations=199, num_resamples=100)
    for measure, result in test.results.items():
        assert result.p_value == pytest.approx(1 / 200), measure
        assert result.p_speakers < 0.01
        aligned = -1 if TAILS[measure] == LESS else 1
        assert aligned * result.difference.value > 0
        assert aligned * result.difference.low > 0 or result.difference.high < 0
        assert result.difference.value == pytest.approx(result.observed - result.chance)


@pytest.mark.parametrize("null", list(NULLS))
def test_opposite_curves_are_not(null: str) -> None:
    """The other tail: faces that peak where the voice does not."""
    stack = make_stack(8, 10, bond=0.0)
    opposite = stack.audio.max(axis=-1, keepdims=True) * 1.05 - stack.audio
    stack.video = opposite / opposite.sum(axis=-1, keepdims=True)
    test = compare_with_null(stack, null, num_permutations=99, num_resamples=50)
    for measure in set(test.results) - {"r_max", "dtw_cost"}:  # a shift brings opposite curves together too
        assert test.results[measure].p_value > 0.9, measure


def test_curves_that_both_peak_mid_clip_are_aligned_for_every_null_model_but_re_pairing() -> None:
    stack = make_stack(12, 10, world=MID_CLIP, seed=4)
    p = {null: compare_with_null(stack, null, num_permutations=199, num_resamples=50).results for null in NULLS}
    assert min(result.p_value for result in p["re-pairing"].values()) > 0.05
    assert min(result.p_speakers for result in p["re-pairing"].values()) > 0.05
    for null in set(NULLS) - {"re-pairing"}:
        assert max(result.p_value for result in p[null].values()) <= 0.01, null


def test_one_seed_gives_one_result() -> None:
    stack = make_stack()
    for null in NULLS:
        one, same, other = (
            compare_with_null(stack, null, num_permutations=199, num_resamples=50, seed=s).to_dict() for s in (1, 1, 2)
        )
        assert one == same
        assert one != other


# --- what a clip's own curves turn into ---------------------------------------------------------------------------


def test_every_shift_of_at_least_a_fifth_of_a_second_is_tried() -> None:
    stack = make_stack(1, 3)
    stack.durations_s = np.array([3.2, 1.6, 0.3])  # 32 cells of 0.1 s, of 0.05 s; too short
    pools = pool_shifts(stack, ["r0"], np.random.default_rng(0))
    assert pools.clips.tolist() == [0, 1]
    assert pools.counts.tolist() == [29, 25]  # 2 ... 30 cells, 4 ... 28 cells
    for clip, first in ((0, 2), (1, 4)):
        for k in range(pools.counts[clip]):
            r = np.corrcoef(stack.audio[clip], np.roll(stack.video[clip], first + k))[0, 1]
            assert pools.values["r0"][clip, k] == pytest.approx(r)
    test = compare_with_null(stack, "circular shift", measures=["r0"], num_permutations=99, num_resamples=50)
    assert any("1 of 3 clips" in note for note in test.notes)
    every = [pools.values["r0"][k, :count] for k, count in enumerate(pools.counts)]
    np.testing.assert_allclose(test.chance["r0"], [values.mean() for values in every])
    places = np.linspace(0, 1, 5000, endpoint=False)  # both clips are one speaker's: the same place in each pool
    possible = np.unique(sum(values[(places * len(values)).astype(int)] for values in every) / 2)
    assert np.abs(test.means["r0"][:, None] - possible).min(axis=1).max() < 1e-9


def test_one_clip_can_be_shifted_in_so_many_ways_and_no_more() -> None:
    stack = make_stack(1, 1, bond=0.99)
    stack.durations_s = np.array([1.6])  # 25 shifts
    test = compare_with_null(stack, "circular shift", measures=["r0"], num_permutations=999, num_resamples=50)
    assert test.results["r0"].p_value == pytest.approx(1 / 26)


def test_a_strangers_face_is_stretched_to_the_duration_of_the_voice() -> None:
    stack = make_stack(3, 1)
    stack.durations_s = np.array([1.0, 2.0, 4.0])
    test = compare_with_null(stack, measures=["w1_s"], num_permutations=9, num_resamples=50)
    audio, video = prepare(stack.audio), prepare(stack.video)
    i, j = np.indices((3, 3)).reshape(2, 9)
    w1 = measure_pairs(audio, video, i, j, stack.durations_s[i], ["w1_s"])["w1_s"].reshape(3, 3)
    off = w1[~np.eye(3, dtype=bool)].mean()
    assert test.results["w1_s"].chance == pytest.approx(off)
    assert test.chance["w1_s"][2] == pytest.approx((w1[2, 0] + w1[2, 1]) / 2 + (w1[0, 2] + w1[1, 2]) / 2 - off)


def test_placed_regions_overlap_as_often_as_counting_all_places_says() -> None:
    """A voice on cells 0-9 and a face with one region of 10 cells of 50: overlap o = max(0, 10 - start)."""
    stack = make_stack(1, 1)
    voice, face = np.full((2, 1, 50), 1.0)
    voice[0, :10], face[0, 30:40] = 2, 2
    stack.audio, stack.video = (x / x.sum() for x in (voice, face))
    pools = pool_placements(stack, ["iou"], np.random.default_rng(0), 20_000)
    start = np.linspace(0, 40, 400_001)
    both = np.clip(10 - start, 0, None)
    assert pools.values["iou"].mean() == pytest.approx((both / (20 - both)).mean(), abs=0.004)
    assert pools.values["iou"].max() <= 1


def test_several_regions_are_placed_without_overlap() -> None:
    """If they overlapped, voice regions that fill all but two cells could be missed."""
    stack = make_stack(1, 1)
    face = np.full((1, 40), 1.0)
    face[0, [3, 4, 10, 20, 21, 22, 30, 31]] = 2  # 8 cells: one fifth, in regions of 2, 1, 3 and 2
    stack.audio, stack.video = np.roll(face, 5) / face.sum(), face / face.sum()
    values = pool_placements(stack, ["iou"], np.random.default_rng(0), 5000).values["iou"]
    assert (values >= 0).all()
    assert (values <= 1 + 1e-9).all()
    assert values.mean() == pytest.approx(1 / 9, abs=0.015)


def test_surrogates_keep_the_spectrum_and_pay_for_the_search() -> None:
    """For white noise the best of 1 + 2 * 5 lags under the null model is far above 0, as it is in the clips."""
    rng = np.random.default_rng(0)
    stack = make_stack(1, 1)
    stack.audio, stack.video = rng.dirichlet(np.ones(50), (2, 200))
    stack.durations_s = np.full(200, 5.0)
    stack.speakers = [str(i) for i in range(200)]
    stack.emotions = stack.sentences = [""] * 200
    pools = pool_surrogates(stack, ["r_max"], rng, 20)
    observed = measure_as_is(stack, ["r_max"])["r_max"]
    assert observed.mean() > 0.2
    assert pools.values["r_max"].mean() == pytest.approx(observed.mean(), abs=0.02)


@pytest.mark.parametrize(("pool", "measure"), [(pool_surrogates, "r_max"), (pool_placements, "iou")])
def test_every_speaker_has_draws_of_his_own(pool, measure: str) -> None:
    stack = make_stack(2, 1).keep(np.array([0, 0, 0]))
    stack.speakers = ["a", "a", "b"]
    values = pool(stack, [measure], np.random.default_rng(0), 20).values[measure]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).mean() > 0.5


@pytest.mark.parametrize("num", [8, 9])
def test_random_phases_keep_the_power_of_every_frequency(num: int) -> None:
    """Of the curves that come back, so that what a real curve cannot hold is no way to lose power."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.normal(size=num) + 3)
    curves = np.fft.irfft(spectrum * phase_factors(num, (3, 20_000), rng), num)
    power = (np.abs(np.fft.rfft(curves)) ** 2).mean(axis=(0, 1))
    np.testing.assert_allclose(power[1:], np.abs(spectrum[1:]) ** 2, rtol=0.02)
    np.testing.assert_allclose(curves.mean(axis=-1), 0, atol=1e-12)
    assert np.abs(np.corrcoef(curves[0, :2000, 0], curves[0, 1:2001, 0])[0, 1]) < 0.1


def test_what_is_drawn_is_drawn_for_a_speaker() -> None:
    """Clips of a speaker that are copies stay copies in every permutation, so they do not count as more evidence."""
    stack = make_stack(3, 1)
    copies = stack.keep(np.repeat(np.arange(3), 40))
    for null, measure in (("circular shift", "r0"), ("surrogates", "r_max"), ("placement", "iou")):
        draw = NULLS[null].draw
        few, many = (draw(s, [measure], 400, np.random.default_rng(0)) for s in (stack, copies))
        (few_means,), (many_means,) = few.means.values(), many.means.values()
        assert many_means.std() == pytest.approx(few_means.std(), rel=0.25)


# --- p-values -----------------------------------------------------------------------------------------------------


def test_p_values_by_hand() -> None:
    draws = np.array([0.1, 0.2, 0.3, 0.4])
    assert p_value(0.3, draws, "greater") == 3 / 5  # ties count
    assert p_value(0.3, draws, "less") == 4 / 5
    assert p_value(0.9, draws, "greater") == 1 / 5
    assert p_value(0.9, draws, "greater", num_distinct=2) == 1 / 3


def test_a_clip_against_its_own_null_models() -> None:
    times = (np.arange(300) + 0.5) / 100
    bumps = [np.exp(-0.5 * ((times - c) / 0.08) ** 2) for c in (0.4, 1.1, 2.5)]
    aligned = align_curves(Curve(times, sum(bumps)), Curve(times, sum(bumps) + 0.01))
    chance, p = clip_chance(aligned)
    assert set(chance) == set(p) == set(TAILS) - {"partial_r0"}
    assert max(p.values()) < 0.05
    assert chance["iou"] == pytest.approx(1 / 9, abs=0.05)
    apart = align_curves(Curve(times, bumps[0] + 0.01), Curve(times, bumps[2] + 0.01))
    assert min(clip_chance(apart)[1][m] for m in ("r0", "js", "w1_s", "iou")) > 0.5
    flat = align_curves(Curve(times, np.ones(300)), Curve(times, bumps[0]))
    assert clip_chance(flat) == ({}, {})
    short = align_curves(*(Curve(times[:30], np.arange(30.0) ** k) for k in (1, 2)))
    assert set(clip_chance(short)[0]) == {"iou", "r_max"}


def test_flat_curves_are_left_out() -> None:
    stack = make_stack(4, 10)
    stack.audio[7] = 1 / 32
    test = compare_with_null(stack, measures=["r0", "js"], num_permutations=99, num_resamples=50)
    assert 7 not in test.clips
    assert all(np.isfinite(values).all() for values in test.observed.values())
    assert any("flat" in note for note in test.notes)
    stack.audio[:] = 1 / 32
    with pytest.raises(AvserError, match="shape"):
        compare_with_null(stack)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="re-pairing"):
        compare_with_null(make_stack(), "frame shuffling")
    with pytest.raises(ConfigError, match="iou"):
        compare_with_null(make_stack(), "placement", measures=["r0"])
    with pytest.raises(ConfigError, match="partial_r0"):
        compare_with_null(make_stack(), measures=["partial_r0"])
    with pytest.raises(ValueError, match="as many"):
        stack_pairs([random_pair(0)], ["a", "b"], ["joy"])


def test_controls_are_taken_out_of_re_paired_curves() -> None:
    """Voice and face that both follow the clip's own loudness are aligned, but not once that is taken out."""
    rng = np.random.default_rng(2)
    times = (np.arange(100) + 0.5) / 50
    pairs, speakers = [], []
    for speaker in range(8):
        for _ in range(4):
            loud, own_a, own_v = rng.uniform(size=(3, 100))
            curves = [Curve(times, x) for x in (2 * loud + own_a, 2 * loud + own_v, loud)]
            pairs.append(align_curves(*curves[:2], controls=curves[2:]))
            speakers.append(str(speaker))
    test = compare_with_null(stack_pairs(pairs, speakers, ["joy"] * 32), num_permutations=199, num_resamples=100)
    assert test.results["r0"].p_value <= 0.01
    assert test.results["r0"].observed > 0.7
    assert abs(test.results["partial_r0"].observed) < 0.1
