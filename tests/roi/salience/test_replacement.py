"""Moments taken out of small batches, against values that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from avser.features.spectral import LogMel
from avser.roi.salience.moments import cell_of, occupied_cells, pick_clips
from avser.roi.salience.replacement import DEFAULT_OPERATORS, OPERATORS, operators_of, replace_moments
from avser.structures import Batch

RATE = 16000
PAIRS = [(m, o) for m in ("audio", "video") for o in operators_of(m)]


def make_batch(seconds=(1.0, 0.6), *, extra=0, seed=0) -> Batch:
    """Noise that grows louder, and all four forms of a face at 20 frames a second; the second frame has no face."""
    generator = torch.Generator().manual_seed(seed)
    num_samples, num_frames = [round(RATE * s) for s in seconds], [round(20 * s) for s in seconds]
    n, t = max(num_samples) + 1600 * extra, max(num_frames) + extra
    batch = Batch([f"clip{i}" for i in range(len(seconds))], sample_rate_hz=RATE)
    batch.waveform = torch.zeros(len(seconds), n)
    batch.frames = torch.zeros(len(seconds), t, 3, 4, 4, dtype=torch.uint8)
    batch.landmarks, batch.blendshapes = torch.zeros(len(seconds), t, 5, 2), torch.zeros(len(seconds), t, 3)
    batch.face_features = torch.zeros(len(seconds), t, 2)
    batch.waveform_mask = torch.arange(n) < torch.tensor(num_samples)[:, None]
    batch.frame_mask = torch.arange(t) < torch.tensor(num_frames)[:, None]
    batch.feature_mask = batch.frame_mask.clone()
    batch.frame_mask[:, 1] = False
    times = torch.arange(t) * 0.05 + 0.025
    batch.frame_times = torch.stack([times.clamp(max=float(times[k - 1])) for k in num_frames])
    batch.feature_times = batch.frame_times.clone()
    for i, (samples, frames) in enumerate(zip(num_samples, num_frames, strict=True)):
        ramp = torch.linspace(0.01, 0.2, samples)
        batch.waveform[i, :samples] = ramp * torch.randn(samples, generator=generator)
        real = batch.frame_mask[i, :frames]
        batch.frames[i, :frames] = torch.randint(0, 256, (frames, 3, 4, 4), generator=generator, dtype=torch.uint8)
        batch.landmarks[i, :frames] = 100 + 20 * torch.randn(frames, 5, 2, generator=generator)
        batch.blendshapes[i, :frames] = torch.rand(frames, 3, generator=generator)
        batch.face_features[i, :frames] = torch.randn(frames, 2, generator=generator)
        for values in (batch.frames, batch.landmarks, batch.blendshapes):
            values[i, :frames][~real] = 0
    return batch


def drop_cells(*cells: int, num_cells: int = 20, num_clips: int = 2) -> torch.Tensor:
    drop = torch.zeros(num_clips, num_cells, dtype=torch.bool)
    drop[:, list(cells)] = True
    return drop


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {f.name: v for f in fields(batch) if isinstance(v := getattr(batch, f.name), torch.Tensor)}


def ramp_face(num_frames: int = 10) -> Batch:
    """One clip whose face has a single feature that counts the frames: 0, 1, 2, ..."""
    values = torch.arange(num_frames, dtype=torch.float32)[None, :, None]
    times = torch.arange(num_frames)[None] * 0.05 + 0.025
    return Batch(["a"], face_features=values, feature_times=times, feature_mask=torch.ones(1, num_frames).bool())


def voice(samples: torch.Tensor, clip_id: str = "a") -> Batch:
    return Batch([clip_id], waveform=samples[None], waveform_mask=torch.ones(1, len(samples)).bool())


# --- cells --------------------------------------------------------------------------------------------------------


def test_a_time_belongs_to_the_cell_that_begins_with_it():
    times = torch.tensor([0.0, 0.049999, 0.05, 0.15, 0.35, 0.349937, 7.05, -0.01])
    assert cell_of(times, 0.05).tolist() == [0, 1 if 0.05 - 0.049999 < 5e-6 else 0, 1, 3, 7, 6, 141, 0]
    samples = torch.arange(RATE * 20, dtype=torch.float64) / RATE
    assert torch.equal(cell_of(samples, 0.05), torch.arange(RATE * 20) // 800)
    with pytest.raises(ValueError, match="longer than 0"):
        cell_of(times, 0.0)


def test_cells_without_a_face_are_empty():
    batch = make_batch()
    batch.face_features = None
    occupied = occupied_cells(batch, "video", cell_s=0.05)
    assert occupied[0].tolist() == [True, False] + [True] * 18
    assert occupied[1].tolist() == [True, False] + [True] * 10 + [False] * 8
    assert occupied_cells(batch.without("audio"), "audio", cell_s=0.05).shape == (2, 0)


def test_picked_clips_lose_shared_padding_only():
    batch = make_batch(extra=3)
    short = pick_clips(batch, torch.tensor([1, 1]), tight=True)
    assert short.clip_ids == ["clip1", "clip1"]
    assert short.waveform.shape == (2, 9600)
    assert short.frames.shape[:2] == short.landmarks.shape[:2] == short.frame_times.shape == (2, 12)
    assert torch.equal(short.blendshapes[0], batch.blendshapes[1, :12])
    assert pick_clips(batch, torch.tensor([1])).waveform.shape == (1, 16000 + 4800)


# --- what holds for every operator --------------------------------------------------------------------------------


def donors_for(operator: str) -> Batch | None:
    return make_batch(seconds=(0.9, 0.7), seed=5) if operator == "neutral" else None


@pytest.mark.parametrize(("modality", "operator"), PAIRS)
def test_the_batch_stays_as_it_was_and_so_does_what_is_kept(modality, operator):
    batch = make_batch()
    before = {name: value.clone() for name, value in tensors(batch).items()}
    drop = drop_cells(4, 5, 9)
    after = replace_moments(batch, modality, drop, cell_s=0.05, operator=operator, donors=donors_for(operator))
    for name, value in tensors(batch).items():
        assert torch.equal(value, before[name]), name
    own = ("waveform",) if modality == "audio" else ("frames", "landmarks", "blendshapes", "face_features")
    for name, value in tensors(after).items():
        if not name.startswith(own) and operator != "excise":
            assert torch.equal(value, before[name]), name
    if operator == "excise":
        return
    for name in own:
        cells = torch.arange(before[name].shape[1]) // (800 if modality == "audio" else 1)
        gone = drop[:, cells.clamp(max=19)]
        assert torch.equal(getattr(after, name)[~gone], before[name][~gone]), name
        real = before["waveform_mask" if name == "waveform" else "frame_mask"]
        assert not torch.equal(getattr(after, name)[gone & real], before[name][gone & real]), name
        assert not getattr(after, name)[~real & (cells >= 12)].any(), name


@pytest.mark.parametrize(("modality", "operator"), PAIRS)
def test_a_clip_does_not_depend_on_its_company_or_padding(modality, operator):
    batch, donors = make_batch(extra=4), donors_for(operator)
    drop = drop_cells(0, 4, 5, 9, 11)
    drop[0, 12:15] = True
    together = replace_moments(batch, modality, drop, cell_s=0.05, operator=operator, donors=donors, seed=3)
    row = torch.tensor([1])
    alone = replace_moments(
        pick_clips(batch, row, tight=True),
        modality,
        drop[1:, :12],
        cell_s=0.05,
        operator=operator,
        donors=None if donors is None else pick_clips(donors, row, tight=True),
        seed=3,
    )
    both = pick_clips(together, row, tight=True), pick_clips(alone, row * 0, tight=True)
    for name, value in tensors(both[0]).items():
        torch.testing.assert_close(value, tensors(both[1])[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("modality", "operator"), PAIRS)
def test_nothing_taken_is_nothing_changed(modality, operator):
    batch = make_batch(extra=2)
    after = replace_moments(batch, modality, drop_cells(), cell_s=0.05, operator=operator, donors=donors_for(operator))
    for name, value in tensors(batch).items():
        assert torch.equal(value, tensors(after)[name]), name


@pytest.mark.parametrize("operator", ["noise", "mean"])
def test_chance_comes_from_the_seed_and_the_clip(operator):
    batch = make_batch(seconds=(0.5, 0.5))
    batch.waveform[1] = batch.waveform[0]
    drop = drop_cells(*range(10))
    first, again = (replace_moments(batch, "audio", drop, cell_s=0.05, operator=operator) for _ in range(2))
    other = replace_moments(batch, "audio", drop, cell_s=0.05, operator=operator, seed=1)
    assert torch.equal(first.waveform, again.waveform)
    assert not torch.allclose(first.waveform, other.waveform, atol=1e-3)
    assert not torch.allclose(first.waveform[0], first.waveform[1], atol=1e-3)  # the same samples under another name


def test_defaults_are_two_operators_that_the_modality_has():
    for modality, pair in DEFAULT_OPERATORS.items():
        assert len(set(pair) & set(operators_of(modality))) == 2
    assert all(operator.__doc__ for operator in OPERATORS.values())


# --- voice --------------------------------------------------------------------------------------------------------


def test_silence_fades_within_the_gap_and_is_zero_inside():
    after = replace_moments(
        voice(torch.ones(4800)), "audio", drop_cells(2, 3, num_cells=6, num_clips=1), cell_s=0.05, operator="silence"
    ).waveform[0]
    fade = torch.cos(torch.arange(1, 81) * math.pi / 2 / 81)  # 5 ms
    torch.testing.assert_close(after[1600:1680], fade)
    torch.testing.assert_close(after[3120:3200], fade.flip(0))
    assert (after[1680:3120] == 0).all()
    assert (after[:1600] == 1).all()
    assert (after[3200:] == 1).all()
    assert after.diff().abs().max() < 0.03


def test_the_ends_of_a_clip_have_no_edge():
    drop = drop_cells(0, 5, num_cells=6, num_clips=1)
    after = replace_moments(voice(torch.ones(4800)), "audio", drop, cell_s=0.05, operator="silence").waveform[0]
    assert (after[:720] == 0).all()
    assert (after[4080:] == 0).all()
    assert after[799] > 0.9


def test_noise_has_the_spectrum_and_level_of_the_clip():
    for length in (16000, 9601):
        batch = make_batch(seconds=(length / RATE,))
        drop = drop_cells(*range(20), num_clips=1)
        after = replace_moments(batch, "audio", drop, cell_s=0.05, operator="noise").waveform[0]
        torch.testing.assert_close(
            torch.fft.rfft(after).abs(), torch.fft.rfft(batch.waveform[0]).abs(), atol=2e-3, rtol=0
        )
        torch.testing.assert_close(after.square().mean(), batch.waveform.square().mean(), rtol=1e-4, atol=0)
        assert abs(np.corrcoef(after, batch.waveform[0])[0, 1]) < 0.05
        halves = after[: length // 2].std(), after[length // 2 :].std()
        assert max(halves) / min(halves) < 1.15  # the growing loudness of the clip is gone


def log_mel(waveform: torch.Tensor) -> torch.Tensor:
    return LogMel(normalize="none", num_channels=1).log_mel(waveform[None], torch.ones(1, len(waveform)).bool())[0]


def speech_like(seconds: float = 2.0) -> torch.Tensor:
    """Harmonics of 150 Hz in bursts, over a faint hiss."""
    time = torch.arange(round(RATE * seconds)) / RATE
    tone = sum(torch.sin(2 * math.pi * 150 * k * time) / k for k in range(1, 20))
    return 0.1 * tone * (torch.sin(2 * math.pi * 2 * time) > 0) + 0.003 * torch.randn(
        len(time), generator=torch.Generator().manual_seed(0)
    )


def test_the_mean_voice_sounds_like_the_average_frame_all_along():
    clip = speech_like()
    drop = drop_cells(*range(40), num_cells=40, num_clips=1)
    after = replace_moments(voice(clip), "audio", drop, cell_s=0.05, operator="mean").waveform[0]
    before_db, after_db = log_mel(clip), log_mel(after)
    difference = after_db.mean(dim=1) - before_db.mean(dim=1)
    assert difference.abs().mean() < 0.3
    assert abs(difference.mean()) < 0.1
    course = after_db.mean(dim=0)[2:-2]
    assert course.std() < 0.1 * before_db.mean(dim=0)[2:-2].std()
    assert after.std() < 0.7 * clip.std()  # softer than the clip's RMS


def test_the_mean_voice_of_donors():
    donors = voice(0.1 * speech_like())
    drop = drop_cells(*range(40), num_cells=40, num_clips=1)
    after = replace_moments(voice(speech_like()), "audio", drop, cell_s=0.05, operator="mean", donors=donors).waveform[
        0
    ]
    assert abs((log_mel(after) - log_mel(donors.waveform[0])).mean()) < 0.1


def test_the_mean_of_silence_is_silence():
    drop = drop_cells(1, 2, num_cells=6, num_clips=1)
    after = replace_moments(voice(torch.zeros(4800)), "audio", drop, cell_s=0.05, operator="mean").waveform
    assert not after.any()


def test_excised_voices_join_and_get_shorter():
    samples = torch.arange(6400, dtype=torch.float32)
    batch = voice(samples)
    after = replace_moments(
        batch, "audio", drop_cells(2, 3, 7, num_cells=8, num_clips=1), cell_s=0.05, operator="excise"
    )
    assert after.waveform.shape == after.waveform_mask.shape == (1, 4000)
    assert after.waveform_mask.all()
    assert torch.equal(after.waveform[0, :1600], samples[:1600])
    assert torch.equal(after.waveform[0, 1680:], samples[3280:5600])
    way = torch.arange(1, 81) * math.pi / 2 / 81
    joint = samples[3200:3280] * way.sin() + samples[1600:1680] * way.cos()
    torch.testing.assert_close(after.waveform[0, 1600:1680], joint)


def test_rows_of_unlike_gaps_are_excised_each_for_itself():
    batch = make_batch(seconds=(0.5, 0.4))
    drop = drop_cells(num_cells=10)
    drop[0, [0, 1]], drop[1, 7] = True, True
    after = replace_moments(batch, "audio", drop, cell_s=0.05, operator="excise")
    assert after.waveform_mask.sum(dim=1).tolist() == [6400, 5600]
    assert torch.equal(after.waveform[0, :6400], batch.waveform[0, 1600:8000])
    assert torch.equal(after.waveform[1, :5600], batch.waveform[1, :5600])
    assert not after.waveform[1, 5600:].any()


def test_a_voice_without_anything_left_is_lacking():
    drop = drop_cells(*range(20))
    drop[0, 0] = False
    after = replace_moments(make_batch(), "audio", drop, cell_s=0.05, operator="excise")
    assert after.waveform_mask.sum(dim=1).tolist() == [800, 0]
    nothing = replace_moments(make_batch(), "audio", drop_cells(*range(20)), cell_s=0.05, operator="excise")
    assert nothing.waveform.shape == (2, 1)
    assert not nothing.waveform_mask.any()


def test_the_neutral_voice_comes_from_the_same_place():
    clip, take = voice(-torch.ones(8000)), voice(torch.arange(16000, dtype=torch.float32))
    drop = drop_cells(2, 3, num_cells=10, num_clips=1)
    after = replace_moments(clip, "audio", drop, cell_s=0.05, operator="neutral", donors=take).waveform[0]
    # The gap's middle is sample 2400 of 8000, so that of the piece is 4800 of 16000.
    assert torch.equal(after[1680:3120], torch.arange(4000 + 80, 4000 + 1520, dtype=torch.float32))
    ends = replace_moments(
        clip, "audio", drop_cells(0, 9, num_cells=10, num_clips=1), cell_s=0.05, operator="neutral", donors=take
    ).waveform[0]
    assert torch.equal(ends[:720], torch.arange(400, 1120, dtype=torch.float32))
    assert ends[7999] == 15200 + 399
    short = voice(torch.arange(1000, dtype=torch.float32))
    repeated = replace_moments(clip, "audio", drop, cell_s=0.05, operator="neutral", donors=short).waveform[0]
    assert torch.equal(repeated[1680:3120], (torch.arange(80, 1520) % 1000).float())


# --- face ---------------------------------------------------------------------------------------------------------


def test_the_frozen_face_is_the_last_kept_one_or_the_first_after():
    drop = drop_cells(0, 1, 5, 6, num_cells=10, num_clips=1)
    after = replace_moments(ramp_face(), "video", drop, cell_s=0.05, operator="freeze").face_features[0, :, 0]
    assert after.tolist() == [2, 2, 2, 3, 4, 4, 4, 7, 8, 9]
    whole = replace_moments(ramp_face(), "video", drop_cells(*range(10), num_clips=1), cell_s=0.05, operator="freeze")
    assert whole.face_features[0, :, 0].tolist() == [4.5] * 10


def test_the_face_does_not_freeze_to_a_frame_without_a_face():
    batch = ramp_face()
    batch.feature_mask[0, 3] = False
    after = replace_moments(batch, "video", drop_cells(4, num_cells=10, num_clips=1), cell_s=0.05, operator="freeze")
    assert after.face_features[0, :, 0].tolist() == [0, 1, 2, 3, 2, 5, 6, 7, 8, 9]


def test_the_mean_face_is_that_of_real_frames():
    batch = ramp_face()
    batch.feature_mask[0, 0] = False
    batch.face_features[0, 0] = -1
    drop = drop_cells(0, 1, num_cells=10, num_clips=1)
    after = replace_moments(batch, "video", drop, cell_s=0.05, operator="mean").face_features[0, :, 0]
    assert after.tolist() == [-1, 5, 2, 3, 4, 5, 6, 7, 8, 9]  # a masked step is nobody's face
    donors = replace(ramp_face(), face_features=torch.full((1, 10, 1), 7.0))
    after = replace_moments(batch, "video", drop, cell_s=0.05, operator="mean", donors=donors).face_features
    assert after[0, :2, 0].tolist() == [-1, 7]
    crops = make_batch()
    mean = crops.frames[0][crops.frame_mask[0]].float().mean(dim=0).round()
    after = replace_moments(crops, "video", drop_cells(4), cell_s=0.05, operator="mean").frames
    assert after.dtype == torch.uint8
    assert torch.equal(after[0, 4].float(), mean)


def test_noisy_faces_keep_mean_and_deviation_and_stay_in_range():
    batch = make_batch(seconds=(40.0,))
    batch.face_features = batch.face_features * torch.tensor([1.0, 5.0]) + torch.tensor([3.0, -2.0])
    drop = drop_cells(*range(800), num_cells=800, num_clips=1)
    after = replace_moments(batch, "video", drop, cell_s=0.05, operator="noise")
    new, old = after.face_features[0], batch.face_features[0]
    torch.testing.assert_close(new.mean(dim=0), old.mean(dim=0), atol=0.5, rtol=0)
    torch.testing.assert_close(new.std(dim=0), old.std(dim=0), rtol=0.1, atol=0)
    assert abs(np.corrcoef(new[:, 0], old[:, 0])[0, 1]) < 0.15
    assert after.blendshapes.min() == 0
    assert after.blendshapes.max() == 1
    assert after.frames.dtype == torch.uint8
    assert abs(after.frames[0, 2:].float().mean() - 127.5) < 3


def test_excised_faces_keep_their_times():
    after = replace_moments(ramp_face(), "video", drop_cells(0, 4, 5, num_clips=1), cell_s=0.05, operator="excise")
    assert after.face_features[0, :, 0].tolist() == [1, 2, 3, 6, 7, 8, 9]
    np.testing.assert_allclose(after.feature_times[0], [0.075, 0.125, 0.175, 0.325, 0.375, 0.425, 0.475], atol=1e-6)
    assert after.feature_mask.all()
    batch = make_batch()
    drop = drop_cells(num_cells=20)
    drop[0, 5:] = True
    cut = replace_moments(batch, "video", drop, cell_s=0.05, operator="excise")
    assert (
        cut.frames.shape[1] == cut.frame_mask.shape[1] == cut.blendshapes.shape[1] == 20
    )  # clip1 and its padding stay
    assert cut.frame_mask.sum(dim=1).tolist() == [4, 11]
    assert (cut.frame_times[0, 4:] == batch.frame_times[0, 4]).all()  # padding repeats the last time


def test_the_neutral_face_comes_from_the_same_place():
    take = ramp_face(19)
    take.face_features = take.face_features + 100
    after = replace_moments(
        ramp_face(), "video", drop_cells(0, 3, 9, num_clips=1), cell_s=0.05, operator="neutral", donors=take
    ).face_features[0, :, 0]
    assert after.tolist() == [100, 1, 2, 106, 4, 5, 6, 7, 8, 118]


def test_neutral_landmarks_are_put_where_the_head_is():
    batch, take = make_batch(seconds=(1.0,)), make_batch(seconds=(1.0,))
    take.landmarks = torch.where(take.frame_mask[..., None, None], take.landmarks * 3 + 50, 0)
    batch.blendshapes = batch.frames = batch.face_features = None
    after = replace_moments(
        batch, "video", drop_cells(*range(20), num_clips=1), cell_s=0.05, operator="neutral", donors=take
    )
    torch.testing.assert_close(after.landmarks, batch.landmarks, atol=1e-3, rtol=0)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused():
    batch, drop = make_batch(), drop_cells(1)
    with pytest.raises(ValueError, match="'blur': allowed are noise, mean"):
        replace_moments(batch, "video", drop, cell_s=0.05, operator="blur")
    with pytest.raises(ValueError, match="cannot stand still"):
        replace_moments(batch, "audio", drop, cell_s=0.05, operator="freeze")
    with pytest.raises(ValueError, match="'fused': allowed are audio and video"):
        replace_moments(batch, "fused", drop, cell_s=0.05, operator="mean")
    with pytest.raises(ValueError, match="needs donors"):
        replace_moments(batch, "audio", drop, cell_s=0.05, operator="neutral")
    with pytest.raises(ValueError, match="1 donors for 2 clips"):
        replace_moments(batch, "audio", drop, cell_s=0.05, operator="neutral", donors=make_batch(seconds=(1.0,)))
    mute = make_batch()
    mute.waveform_mask[1] = False
    with pytest.raises(ValueError, match="donor of clip1 has no waveform"):
        replace_moments(batch, "audio", drop, cell_s=0.05, operator="neutral", donors=mute)
    with pytest.raises(ValueError, match="have no waveform"):
        replace_moments(batch, "audio", drop, cell_s=0.05, operator="mean", donors=make_batch().without("audio"))
    with pytest.raises(ValueError, match="must agree"):
        replace_moments(batch, "audio", drop, cell_s=0.05, operator="mean", donors=replace(batch, sample_rate_hz=8000))
