from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avser.config import AugmentConfig
from avser.data.augment import augment_batch
from avser.errors import ConfigError
from avser.structures import Batch

OFF = AugmentConfig(mixup=0, flip=0, brightness=0, contrast=0, shift=0, gain_db=0, noise_snr_db=None)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_batch(num_clips: int = 4, num_frames: int = 5, size_px: int = 16) -> Batch:
    """Lengths differ; the last clip has no voice, the one before no face, and frame 1 of clip 0 no face."""
    generator = seeded(9)
    waveform = torch.randn(num_clips, 4000, generator=generator) * 0.1
    waveform_mask = torch.ones(num_clips, 4000, dtype=torch.bool)
    waveform_mask[1, 2500:] = False
    waveform_mask[-1] = False
    frames = torch.randint(60, 180, (num_clips, num_frames, 3, size_px, size_px), generator=generator).to(torch.uint8)
    frame_mask = torch.ones(num_clips, num_frames, dtype=torch.bool)
    frame_mask[0, 1] = False
    frame_mask[1, 3:] = False
    frame_mask[-2] = False
    times = (torch.arange(num_frames) / 10).repeat(num_clips, 1)
    times[1, 3:] = 0.2
    times[-2] = 0
    return Batch(
        [str(i) for i in range(num_clips)],
        waveform * waveform_mask,
        waveform_mask,
        16000,
        frames * frame_mask[:, :, None, None, None],
        times,
        frame_mask,
        labels=torch.arange(num_clips) % 3,
    )


def test_everything_off_is_the_batch_itself():
    batch = some_batch()
    changed = augment_batch(batch, OFF, 3, seeded())
    for name, value in vars(batch).items():
        assert getattr(changed, name) is value


def test_the_generator_decides_and_the_batch_is_left_alone():
    batch, untouched = some_batch(), some_batch()
    augment = AugmentConfig(mixup=0.4)
    one, same, other = (augment_batch(batch, augment, 3, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one.waveform, same.waveform)
    assert torch.equal(one.frames, same.frames)
    assert not torch.equal(one.waveform, other.waveform)
    assert not torch.equal(one.frames, other.frames)
    assert torch.equal(batch.waveform, untouched.waveform)
    assert torch.equal(batch.frames, untouched.frames)


def test_gain_is_one_factor_a_clip_within_its_range():
    batch = some_batch()
    for seed in range(20):
        changed = augment_batch(batch, replace(OFF, gain_db=6.0), 3, seeded(seed))
        gains = [20 * torch.log10(changed.waveform[i, :9] / batch.waveform[i, :9]) for i in range(3)]
        assert all(torch.allclose(gain, gain[0].expand(9), atol=1e-3) for gain in gains)
        assert all(-6 <= gain[0] <= 6 for gain in gains)
    assert len({round(float(gain[0]), 3) for gain in gains}) == 3


def test_noise_has_the_asked_for_level_over_real_samples_only():
    batch = some_batch()
    snrs = []
    for seed in range(40):
        changed = augment_batch(batch, replace(OFF, noise_snr_db=20.0), 3, seeded(seed))
        noise = changed.waveform - batch.waveform
        assert not noise[~batch.waveform_mask].any()
        for i in range(2):
            real = batch.waveform_mask[i]
            snrs.append(
                float(10 * torch.log10(batch.waveform[i, real].square().mean() / noise[i, real].square().mean()))
            )
    assert 19 < min(snrs) < 23
    assert 37 < max(snrs) < 41


def test_mirror_turns_all_frames_of_a_clip():
    batch = some_batch()
    changed = augment_batch(batch, replace(OFF, flip=1.0), 3, seeded())
    assert torch.equal(changed.frames, batch.frames.flip(-1))
    shares = [
        (augment_batch(batch, replace(OFF, flip=0.5), 3, seeded(seed)).frames[1] != batch.frames[1]).any()
        for seed in range(40)
    ]
    assert 10 < sum(shares) < 30


def test_shift_moves_whole_pixels_alike_in_all_frames_and_repeats_the_border():
    batch = some_batch(size_px=20)
    moved = set()
    for seed in range(20):
        changed = augment_batch(batch, replace(OFF, shift=0.1), 3, seeded(seed)).frames
        assert changed.dtype == torch.uint8
        padded = torch.nn.functional.pad(batch.frames[1].float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(changed[1], padded[..., 2 - down : 22 - down, 2 - right : 22 - right])
        ]
        assert len(fits) == 1
        moved.update(fits)
    assert len(moved) > 8


def test_brightness_and_contrast_are_the_clips_own_and_spare_missing_frames():
    batch = some_batch()
    brighter = augment_batch(batch, replace(OFF, brightness=0.2), 3, seeded()).frames
    for i in (0, 1, 3):
        real = batch.frame_mask[i]
        ratio = brighter[i][real].float() / batch.frames[i][real].float()
        assert 0.79 < ratio.median() < 1.21
        assert (ratio - ratio.median()).abs().max() < 0.02  # rounding
    contrast = augment_batch(batch, replace(OFF, contrast=0.5), 3, seeded()).frames
    for i in (0, 1, 3):
        real = batch.frame_mask[i]
        before, after = batch.frames[i][real].float(), contrast[i][real].float()
        assert after.mean() == pytest.approx(float(before.mean()), abs=0.5)
        assert 0.49 < after.std() / before.std() < 1.51
        assert abs(after.std() / before.std() - 1) > 0.01
    for frames in (brighter, contrast):
        assert not frames[~batch.frame_mask].any()


def test_brightness_saturates_rather_than_wrapping():
    batch = some_batch()
    batch.frames[:] = 250
    frames = augment_batch(batch, replace(OFF, brightness=0.9), 3, seeded(3)).frames
    assert set(frames[batch.frame_mask].unique().tolist()) & {255}
    assert (frames[batch.frame_mask] > 20).all()


def test_mixup_is_the_convex_combination_that_its_targets_name():
    batch = some_batch()
    batch.labels = torch.arange(4)  # so that a target tells both partners
    for seed in range(10):
        mixed = augment_batch(batch, replace(OFF, mixup=0.5), 4, seeded(seed))
        torch.testing.assert_close(mixed.targets.sum(1), torch.ones(4))
        assert torch.equal(mixed.labels, batch.labels)
        for i in range(4):
            torch.testing.assert_close(mixed.waveform[i], mixed.targets[i] @ batch.waveform)
            j = partner_of(mixed.targets[i], i)
            assert torch.equal(mixed.waveform_mask[i], batch.waveform_mask[i] | batch.waveform_mask[j])
            assert torch.equal(mixed.frame_mask[i], batch.frame_mask[i] | batch.frame_mask[j])
            longer = max((i, j), key=lambda k: batch.frame_times[k, -1])
            torch.testing.assert_close(mixed.frame_times[i], batch.frame_times[longer])
            for t in range(5):
                share = mixed.targets[i, i] if j != i else torch.tensor(1.0)
                own, other = batch.frame_mask[i, t], batch.frame_mask[j, t]
                share = share if own == other else own.float()
                expected = share * batch.frames[i, t] + (1 - share) * batch.frames[j, t]
                assert (mixed.frames[i, t].float() - expected).abs().max() <= 0.51
        for tensor in (mixed.waveform, mixed.targets, mixed.frame_times):
            assert torch.isfinite(tensor).all()


def partner_of(target: torch.Tensor, own: int) -> int:
    others = [int(k) for k in target.nonzero() if k != own]
    return others[0] if others else own


def test_mixup_of_soft_targets_and_of_one_modality():
    batch = some_batch()
    soft = replace(batch, labels=None, targets=torch.full((4, 2), 0.5), frames=None, frame_times=None, frame_mask=None)
    mixed = augment_batch(soft, replace(OFF, mixup=1.0), 2, seeded())
    torch.testing.assert_close(mixed.targets, soft.targets)
    assert mixed.frames is None


def test_mixup_without_labels_is_refused():
    with pytest.raises(ConfigError, match="mixup mixes labels"):
        augment_batch(replace(some_batch(), labels=None), replace(OFF, mixup=1.0), 3, seeded())


def test_silent_clips_and_clips_without_a_face_stay_finite():
    batch = some_batch()
    batch.waveform.zero_()
    batch.waveform_mask[:] = False
    batch.frame_mask[:] = False
    batch.frames.zero_()
    changed = augment_batch(batch, AugmentConfig(mixup=0.2), 3, seeded())
    assert not changed.waveform.any()
    assert not changed.frames.any()


def test_mixup_of_features_keeps_what_only_one_clip_has():
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    values = torch.arange(9.0).reshape(3, 3, 1) + 1
    times = torch.tensor([[0.1, 0.2, 0.2], [0.1, 0.1, 0.1], [0.1, 0.2, 0.3]])
    batch = Batch(
        list("abc"),
        face_features=values,
        feature_times=times,
        feature_mask=mask,
        labels=torch.arange(3),
    )
    mixed = augment_batch(batch, replace(OFF, mixup=0.4), 3, seeded(3))
    for i in range(3):
        partner = int((mixed.targets[i] - torch.eye(3)[i]).argmax()) if mixed.targets[i].max() < 1 else i
        share = float(mixed.targets[i, i])
        assert torch.equal(mixed.feature_mask[i], mask[i] | mask[partner])
        both = mask[i] & mask[partner]
        expected = share * values[i] + (1 - share) * values[partner]
        torch.testing.assert_close(mixed.face_features[i][both], expected[both])
        only = mask[i] & ~mask[partner]
        assert torch.equal(mixed.face_features[i][only], values[i][only])


def test_speed_changes_voice_and_face_together():
    batch = some_batch()
    changed = augment_batch(batch, replace(OFF, speed=0.2), 3, seeded())
    heard = torch.arange(3)  # the last clip has no voice to be measured
    factors = batch.waveform_mask.sum(dim=1)[heard] / changed.waveform_mask.sum(dim=1)[heard]
    assert len(set(factors.tolist())) == 3
    assert ((factors > 0.79) & (factors < 1.21)).all()
    there = changed.frame_times[heard] * factors[:, None]
    torch.testing.assert_close(there, batch.frame_times[heard], rtol=1e-3, atol=1e-3)
    assert not changed.waveform[-1].any()


def test_blendshapes_are_mixed_and_landmarks_refused():
    batch = some_batch()
    shapes = torch.arange(4.0)[:, None, None].expand(4, 5, 52) * batch.frame_mask[..., None]
    augment = replace(OFF, mixup=0.4)
    mixed = augment_batch(replace(batch, frames=None, blendshapes=shapes), augment, 3, seeded())
    with_frames = augment_batch(replace(batch, blendshapes=shapes), augment, 3, seeded())
    assert not torch.equal(mixed.blendshapes, shapes)
    torch.testing.assert_close(mixed.blendshapes, with_frames.blendshapes)
    assert torch.equal(mixed.frame_mask, with_frames.frame_mask)
    with pytest.raises(ConfigError, match="landmarks"):
        augment_batch(replace(batch, landmarks=torch.zeros(4, 5, 478, 2)), augment, 3, seeded())
