"""Spoiled batches by hand: ratios, shares and shifts are what was asked for, and no clip depends on its company."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from avser.data.clip_pool import ClipPool
from avser.data.corruptions import CORRUPTIONS, SWITCH, corrupt
from avser.data.voice_corruptions import NUM_TALKERS
from avser.errors import ConfigError
from avser.structures import AUDIO, VIDEO, Batch

RATE_HZ, SIZE_PX, NUM_FEATURES = 1000, 20, 3
LENGTHS, STEPS = (900, 2000, 1400, 700, 1800, 1100), (8, 20, 12, 6, 16, 10)
SPEAKERS = ["a", "a", "b", "b", "c", "c"]
LABELS = [0, 1, 0, 1, 0, 0]
NAMES = [f"clip{i}" for i in range(6)]


def one_clip(index: int) -> Batch:
    """Frames at 10 Hz, of which the second has no face; features at 5 Hz; a voice whose loudness is its own."""
    draw = torch.Generator().manual_seed(index)
    num, steps = LENGTHS[index], STEPS[index]
    mask = torch.ones(1, steps, dtype=torch.bool)
    mask[0, 1] = False
    frames = torch.randint(60, 180, (1, steps, 3, SIZE_PX, SIZE_PX), generator=draw).to(torch.uint8)
    features = torch.randn(1, steps // 2, NUM_FEATURES, generator=draw) * torch.tensor([1.0, 10.0, 0.1])
    return Batch(
        [NAMES[index]],
        torch.randn(1, num, generator=draw) * 0.05 * (index + 1),
        torch.ones(1, num, dtype=torch.bool),
        RATE_HZ,
        frames * mask[:, :, None, None, None],
        torch.arange(steps)[None] / 10,
        mask,
        landmarks=torch.rand(1, steps, 4, 2, generator=draw) * mask[:, :, None, None],
        face_features=features,
        feature_times=torch.arange(steps // 2)[None] / 5,
        feature_mask=torch.ones(1, steps // 2, dtype=torch.bool),
        labels=torch.tensor([LABELS[index]]),
    )


def pad(values: Tensor, num: int, *, repeat: bool = False) -> Tensor:
    """(1, T, ...) to (1, num, ...), with zeros or with the last value."""
    more = num - values.shape[1]
    last = values[:, -1:] if repeat else torch.zeros_like(values[:, -1:])
    return torch.cat([values, last.expand(-1, more, *values.shape[2:])], dim=1)


def batch_of(indices) -> Batch:
    clips = [one_clip(i) for i in indices]
    joined = Batch([c.clip_ids[0] for c in clips], sample_rate_hz=RATE_HZ)
    for name in (f.name for f in fields(Batch)):
        values = [getattr(clip, name) for clip in clips]
        if not isinstance(values[0], Tensor):
            continue
        if name != "labels":
            longest = max(value.shape[1] for value in values)
            values = [pad(value, longest, repeat=name.endswith("times")) for value in values]
        setattr(joined, name, torch.cat(values))
    return joined


@pytest.fixture
def pool() -> ClipPool:
    return ClipPool(NAMES, SPEAKERS, LABELS, batch_of)


def level_of(name: str) -> float:
    levels = CORRUPTIONS[name].levels
    return levels[len(levels) // 2] if levels else SWITCH


def same(one: Batch, other: Batch, clip: int = 0, other_clip: int = 0) -> bool:
    """Whether two clips are equal where they are real; their paddings may differ in length."""
    for name in (f.name for f in fields(Batch)):
        values = getattr(one, name), getattr(other, name)
        if name == "labels" or not any(isinstance(value, Tensor) for value in values):
            continue
        if any(value is None for value in values):
            return False
        own, theirs = values[0][clip], values[1][other_clip]
        num = min(len(own), len(theirs))
        rest = [value[num:] for value in (own, theirs)]
        if not torch.equal(own[:num], theirs[:num]):
            return False
        if not name.endswith("times") and any(part.any() for part in rest):  # only padding may be left
            return False
    return True


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_clip_is_spoiled_the_same_alone_and_in_company(name, pool):
    together = corrupt(batch_of([3, 1, 0]), name, level_of(name), seed=4, pool=pool)
    for place, index in enumerate([3, 1, 0]):
        alone = corrupt(batch_of([index]), name, level_of(name), seed=4, pool=pool)
        assert same(together, alone, place)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_batch_is_not_touched_and_something_changes_in_one_modality_only(name, pool):
    batch, before = batch_of([0, 1]), batch_of([0, 1])
    spoiled = corrupt(batch, name, level_of(name), seed=4, pool=pool)
    assert same(batch, before)
    assert same(batch, before, 1, 1)
    other = VIDEO if CORRUPTIONS[name].modality == AUDIO else AUDIO
    assert same(spoiled.without(CORRUPTIONS[name].modality), before.without(CORRUPTIONS[name].modality))
    assert not same(spoiled.without(other), before.without(other))
    assert spoiled.clip_ids == before.clip_ids
    assert torch.equal(spoiled.labels, before.labels)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_padding_and_frames_without_a_face_stay_empty(name, pool):
    spoiled = corrupt(batch_of([0, 1]), name, level_of(name), seed=4, pool=pool)
    for values, mask in (("waveform", "waveform_mask"), ("frames", "frame_mask"), ("face_features", "feature_mask")):
        if (numbers := getattr(spoiled, values)) is not None:
            assert not numbers[~getattr(spoiled, mask)].any()


@pytest.mark.parametrize("name", ["snr", "babble", "occlusion", "drop", "face_noise", "voice_swap_other"])
def test_the_seed_decides(name, pool):
    one, again = (corrupt(batch_of([1]), name, level_of(name), seed=1, pool=pool) for _ in range(2))
    assert same(one, again)
    others = [corrupt(batch_of([1]), name, level_of(name), seed=s, pool=pool) for s in range(2, 8)]
    assert not all(same(one, other) for other in others)


def test_what_cannot_be_done_is_refused(pool):
    voice = batch_of([0]).without(VIDEO)
    with pytest.raises(ConfigError, match="blur cannot be done to these clips: they have no frames"):
        corrupt(voice, "blur", 2.0, seed=0, pool=pool)
    with pytest.raises(ConfigError, match="take one of snr, babble"):
        corrupt(voice, "smear", 2.0, seed=0, pool=pool)
    with pytest.raises(ConfigError, match=r"level 1\.5 is not between 0 and 1"):
        corrupt(batch_of([0]), "drop", 1.5, seed=0, pool=pool)
    features = replace(batch_of([0]), frames=None, frame_times=None, frame_mask=None, landmarks=None)
    single = replace(features, **{n: getattr(features, n)[:, :1] for n in ("face_features", "feature_times")})
    single.feature_mask = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ConfigError, match="one step a clip"):
        corrupt(single, "sync", 0.5, seed=0, pool=pool)


# --- voice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["snr", "babble"])
@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_the_ratio_over_real_samples_is_what_was_asked_for(name, snr_db, pool):
    clean = batch_of([0, 1, 4])
    spoiled = corrupt(clean, name, snr_db, seed=0, pool=pool)
    for i, mask in enumerate(clean.waveform_mask):
        voice, noise = clean.waveform[i, mask], (spoiled.waveform - clean.waveform)[i, mask]
        measured = 10 * math.log10(voice.square().mean() / noise.square().mean())
        assert measured == pytest.approx(snr_db, abs=0.1)


def test_noise_differs_between_levels_in_loudness_alone(pool):
    clean = batch_of([1])
    quiet, loud = (corrupt(clean, "snr", snr, seed=0, pool=pool).waveform - clean.waveform for snr in (20.0, 0.0))
    assert torch.allclose(10 * quiet, loud, atol=1e-5)


def test_babble_is_a_sum_of_other_speakers_voices(pool):
    """Every voice is a constant of its own here: equally loud each, and the clip's own speaker is not among them."""
    signs = {"a": 1.0, "b": -1.0, "c": -1.0}

    def read(indices):
        batch = batch_of(indices)
        for row, i in enumerate(indices):
            batch.waveform[row, batch.waveform_mask[row]] = signs[SPEAKERS[i]] * (i + 1)
        return batch

    clean = batch_of([0])
    others = ClipPool(NAMES, SPEAKERS, LABELS, read)
    babble = (corrupt(clean, "babble", 0.0, seed=0, pool=others).waveform - clean.waveform)[0]
    assert torch.allclose(babble, babble[0].expand_as(babble))
    assert babble[0] < 0
    assert len(others.talkers("clip0", "a", NUM_TALKERS, torch.Generator())) == 4
    assert sorted(ClipPool(NAMES, ["a"] * 6, LABELS, read).talkers("clip0", "a", 9, torch.Generator())) == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_the_voice_moves_by_whole_samples(pool):
    clean = batch_of([0, 1])
    later = corrupt(clean, "voice_shift", 0.3, seed=0, pool=pool).waveform
    assert torch.equal(later[0, 300:900], clean.waveform[0, :600])
    assert torch.equal(later[1, 300:], clean.waveform[1, :-300])
    assert not later[:, :300].any()
    earlier = corrupt(clean, "voice_shift", -0.3, seed=0, pool=pool).waveform
    assert torch.equal(earlier[0, :600], clean.waveform[0, 300:900])
    assert not earlier[0, 600:].any()
    for shift_s in (5.0, -5.0):
        assert not corrupt(clean, "voice_shift", shift_s, seed=0, pool=pool).waveform.any()


# --- face --------------------------------------------------------------------------------------------------------


def test_the_face_moves_in_seconds_and_what_leaves_the_clip_is_missing(pool):
    clean = batch_of([0])  # 0.9 s of voice; frames until 0.7 s, of which that at 0.1 s shows no face
    late = corrupt(clean, "sync", 0.35, seed=0, pool=pool)
    assert torch.allclose(late.frame_times, clean.frame_times + 0.35)
    assert late.frame_mask[0].tolist() == [True, False, True, True, True, True, False, False]
    assert not late.frames[0, 6:].any()
    assert torch.equal(late.frames[0, :6], clean.frames[0, :6])
    assert late.feature_mask[0].tolist() == [True, True, True, False]
    early = corrupt(clean, "sync", -0.35, seed=0, pool=pool)
    assert early.frame_mask[0].tolist() == [False] * 4 + [True] * 4
    assert torch.equal(early.waveform, clean.waveform)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_block_covers_the_share_and_grows_around_itself(share, pool):
    clean = batch_of([1])
    real = clean.frame_mask[0]
    clean.frames[0, real] = 60  # nothing is grey beforehand
    covered = corrupt(clean, "occlusion", share, seed=3, pool=pool).frames[0, real] == 128
    side = round(math.sqrt(share) * SIZE_PX)
    assert covered[0, 0].sum() == side**2
    assert covered.float().mean() == pytest.approx(share, abs=2 / SIZE_PX)
    assert torch.equal(covered, covered[:1, :1].expand_as(covered))  # one place in all frames and colours
    smaller = corrupt(clean, "occlusion", 0.05, seed=3, pool=pool).frames[0, real] == 128
    assert (covered | ~smaller).all()


def test_blur_is_gaussian(pool):
    clean = batch_of([1])
    clean.frames[:] = 0
    clean.frames[0, 0, :, 10, 10] = 255
    blurred = corrupt(clean, "blur", 1.0, seed=0, pool=pool).frames[0, 0, 0].float()
    assert blurred[10, 10] == pytest.approx(255 / (2 * math.pi), abs=1)
    assert blurred[10, 12] == pytest.approx(255 / (2 * math.pi) * math.exp(-2), abs=1)
    assert blurred[10, 12] == blurred[12, 10] == blurred[8, 10]
    clean.frames[:] = 90
    assert (corrupt(clean, "blur", 4.0, seed=0, pool=pool).frames[0, clean.frame_mask[0]] == 90).all()


def test_a_growing_share_of_the_steps_is_missing(pool):
    clean = batch_of([1, 4])
    before = clean.frame_mask
    for share in (0.25, 0.5, 0.9, 1.0):
        spoiled = corrupt(clean, "drop", share, seed=0, pool=pool)
        for clip in range(2):
            for mask in ("frame_mask", "feature_mask"):
                num, left = getattr(clean, mask)[clip].sum(), getattr(spoiled, mask)[clip].sum()
                assert abs((1 - share) * num - left) < 1
        assert not (spoiled.frame_mask & ~before).any()  # what is missing stays missing
        before = spoiled.frame_mask
        assert torch.equal(spoiled.frames[spoiled.frame_mask], clean.frames[spoiled.frame_mask])
        assert not spoiled.landmarks[~spoiled.frame_mask].any()


def test_of_single_steps_the_share_of_clips_is_missing():
    num = 400
    ones = torch.ones(num, 1, dtype=torch.bool)
    names = [f"n{i}" for i in range(num)]
    batch = Batch(names, face_features=ones[..., None].float(), feature_times=ones.float(), feature_mask=ones)
    nobody = ClipPool([], [], [], batch_of)
    missing = ~corrupt(batch, "drop", 0.25, seed=0, pool=nobody).feature_mask
    assert missing.float().mean() == pytest.approx(0.25, abs=0.07)


def test_face_noise_is_in_units_of_the_deviation(pool):
    deviation = torch.cat([one_clip(i).face_features[0] for i in range(6)]).std(dim=0, correction=0)
    assert torch.allclose(pool.feature_deviation, deviation)
    names = [0, 1, 2, 3, 4, 5]
    clean = batch_of(names)
    noise = corrupt(clean, "face_noise", 2.0, seed=0, pool=pool).face_features - clean.face_features
    found = noise[clean.feature_mask].std(dim=0)
    assert torch.allclose(found / deviation, torch.full((3,), 2.0), atol=0.6)
    pixels = corrupt(clean, "face_noise", 0.5, seed=0, pool=pool).frames[1].float() - clean.frames[1].float()
    unit = clean.frames[1, clean.frame_mask[1]].float().std()
    assert pixels[clean.frame_mask[1]].std() / unit == pytest.approx(0.5, abs=0.03)


# --- swaps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_same", [True, False])
@pytest.mark.parametrize("modality", ["voice", "face"])
def test_a_swap_takes_another_clip_of_the_right_emotion_and_speaker(modality, is_same, pool):
    field = "waveform" if modality == "voice" else "face_features"
    name = f"{modality}_swap_{'same' if is_same else 'other'}"
    for seed in range(8):
        spoiled = corrupt(batch_of(range(6)), name, seed=seed, pool=pool)
        for i in range(6):
            mask = spoiled.waveform_mask if modality == "voice" else spoiled.feature_mask
            values = getattr(spoiled, field)[i, mask[i]]
            (donor,) = [
                j
                for j in range(6)
                if torch.equal(getattr(one_clip(j), field)[0], values)
            ]  # fmt: skip
            assert donor != i
            assert (LABELS[donor] == LABELS[i]) == is_same
            assert SPEAKERS[donor] != SPEAKERS[i]
        kept = "frames" if modality == "voice" else "waveform"
        assert torch.equal(getattr(spoiled, kept), getattr(batch_of(range(6)), kept))


def test_a_swap_falls_back_to_the_own_speaker_and_refuses_without_a_partner():
    alone = ClipPool(NAMES, ["a"] * 6, LABELS, batch_of)
    spoiled = corrupt(batch_of([1]), "voice_swap_same", seed=0, pool=alone)
    assert torch.equal(spoiled.waveform, one_clip(3).waveform)  # the only other clip of its emotion
    lonely = ClipPool(NAMES, SPEAKERS, [0, 1, 2, 3, 4, 5], batch_of)
    with pytest.raises(ConfigError, match="clip1: the split has no other clip of its emotion"):
        corrupt(batch_of([1]), "voice_swap_same", seed=0, pool=lonely)
