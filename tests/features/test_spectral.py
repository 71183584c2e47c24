"""Log-mel planes: against librosa, by hand, and blind to padding."""

import numpy as np
import pytest
import torch

from avser.features.spectral import FrequencyWarp, LogMel, SpecAugment, regression_delta, standardize


def noise(num_samples, seed=0):
    return 0.1 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(seed))


def all_real(waveform):
    return torch.ones_like(waveform, dtype=torch.bool)


def test_log_mel_agrees_with_librosa():
    librosa = pytest.importorskip("librosa")
    front_end = LogMel(num_mels=40, max_hz=8000, min_hz=50)
    waveform = noise(16000)
    ours = front_end.log_mel(waveform, all_real(waveform))[0].numpy()
    reference = librosa.feature.melspectrogram(
        y=waveform[0].numpy(), sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=50, fmax=8000,
        power=2.0, htk=True, norm="slaney", pad_mode="constant",
    )  # fmt: skip
    theirs = np.log(reference[:, : ours.shape[1]] + 1e-6)
    assert np.abs(ours - theirs).max() < 0.02


def test_a_sine_shows_in_the_band_that_holds_its_frequency():
    front_end = LogMel(num_mels=64)
    t = torch.arange(16000) / 16000
    waveform = torch.sin(2 * torch.pi * 1000 * t)[None]
    band = front_end.log_mel(waveform, all_real(waveform))[0].mean(dim=1).argmax()
    centres = front_end.filters.argmax(dim=0) * 16000 / front_end.fft_length
    assert abs(centres[band] - 1000) < 60


def test_a_click_shows_at_its_time():
    front_end = LogMel()
    waveform = torch.zeros(1, 16000)
    waveform[0, 8000] = 1.0  # at 0.5 s
    energy = front_end.log_mel(waveform, all_real(waveform))[0].sum(dim=0)
    assert energy.argmax() * front_end.hop_s == pytest.approx(0.5)


def test_regression_delta_by_hand():
    x = torch.tensor([[0.0, 1.0, 4.0, 9.0, 16.0]])
    # t = 2: (1 * (9 - 1) + 2 * (16 - 0)) / 10; t = 0 with repeated edge: (1 * (1 - 0) + 2 * (4 - 0)) / 10
    delta = regression_delta(x)
    assert delta[0, 2] == pytest.approx(4.0)
    assert delta[0, 0] == pytest.approx(0.9)


def test_padding_changes_nothing():
    front_end = LogMel()
    short = noise(9000)
    padded = torch.nn.functional.pad(short, (0, 5000))
    mask = torch.arange(14000)[None] < 9000
    alone, alone_mask = front_end(short, all_real(short))
    together, together_mask = front_end(padded, mask)
    num = int(alone_mask.sum())
    assert num == int(together_mask.sum()) == 57  # ceil(9000 / 160)
    torch.testing.assert_close(together[..., :num], alone[..., :num], atol=1e-5, rtol=1e-4)
    assert together[..., num:].abs().max() == 0


def test_what_lies_in_the_padding_does_not_matter():
    front_end, mask = LogMel(), torch.arange(12000)[None] < 8000
    clean = noise(12000) * mask
    torch.testing.assert_close(front_end(clean, mask), front_end(clean + 5.0 * ~mask, mask))


def test_standardize_by_clip_removes_gain():
    front_end = LogMel()
    waveform = noise(16000)
    quiet, _ = front_end(waveform, all_real(waveform))
    loud, _ = front_end(4 * waveform, all_real(waveform))
    torch.testing.assert_close(quiet, loud, atol=0.02, rtol=0)
    assert quiet[:, 0].mean().abs() < 1e-4
    assert quiet[:, 0].std() == pytest.approx(1, abs=0.01)


def test_a_clip_without_sound_stays_finite():
    planes, mask = LogMel()(torch.zeros(2, 4000), torch.zeros(2, 4000, dtype=torch.bool))
    assert torch.isfinite(planes).all()
    assert not mask.any()
    assert torch.isfinite(standardize(torch.zeros(1, 3, 4, 5), torch.zeros(1, 5, dtype=torch.bool))).all()


def test_spec_augment_masks_only_while_training():
    augment, planes = SpecAugment(), torch.ones(8, 3, 64, 200)
    mask = torch.ones(8, 200, dtype=torch.bool)
    torch.manual_seed(0)
    assert (augment.train()(planes, mask) == 0).any()
    assert (augment.eval()(planes, mask) == planes).all()


def test_spec_augment_never_hides_more_than_two_fifths_of_the_time():
    augment, planes = SpecAugment(max_steps=1000).train(), torch.ones(64, 1, 64, 50)
    mask = torch.ones(64, 50, dtype=torch.bool)
    torch.manual_seed(0)
    hidden = (augment(planes, mask) == 0).all(dim=2).float().mean(dim=2)
    assert hidden.max() <= 0.4 + 1e-6
    assert hidden.max() > 0.1


def test_normalising_each_band_removes_the_colour_of_the_channel():
    front_end = LogMel(normalize="band")
    waveform = noise(16000)
    plain, mask = front_end(waveform, all_real(waveform))
    assert mask.all()
    torch.testing.assert_close(plain[:, 0].mean(dim=2), torch.zeros(1, 64), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain[:, 0].std(dim=2, correction=0), torch.ones(1, 64), atol=1e-3, rtol=0)


def test_warping_moves_a_tone_to_the_scaled_frequency():
    front_end = LogMel(num_mels=64, normalize="none")
    warp = FrequencyWarp(num_mels=64, min_hz=50.0, max_hz=8000.0, limit=0.2)
    t = torch.arange(16000) / 16000

    def planes(hz):
        waveform = torch.sin(2 * torch.pi * hz * t)[None]
        return front_end(waveform, all_real(waveform))[0]

    moved = warp.warp(planes(1000.0), torch.tensor([[1.2]]))[0, 0].mean(dim=1)
    assert abs(int(moved.argmax()) - int(planes(1200.0)[0, 0].mean(dim=1).argmax())) <= 1


def test_a_warp_of_one_changes_nothing_and_none_happens_outside_training():
    warp = FrequencyWarp(num_mels=64, min_hz=50.0, max_hz=8000.0, limit=0.2)
    planes = torch.randn(2, 3, 64, 10)
    torch.testing.assert_close(warp.warp(planes, torch.ones(2, 1)), planes, atol=2e-4, rtol=1e-3)
    assert warp.eval()(planes) is planes
    assert not torch.allclose(warp.train()(planes), planes)
