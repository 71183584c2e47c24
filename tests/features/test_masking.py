"""Masking and warping of planes: only while training, never too much, and to the right frequency."""

import torch

from avser.features.masking import FrequencyWarp, SpecAugment
from avser.features.spectral import LogMel


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


def test_warping_moves_a_tone_to_the_scaled_frequency():
    front_end = LogMel(num_mels=64, normalize="none")
    warp = FrequencyWarp(num_mels=64, min_hz=50.0, max_hz=8000.0, limit=0.2)
    t = torch.arange(16000) / 16000

    def planes(hz):
        waveform = torch.sin(2 * torch.pi * hz * t)[None]
        return front_end(waveform, torch.ones_like(waveform, dtype=torch.bool))[0]

    moved = warp.warp(planes(1000.0), torch.tensor([[1.2]]))[0, 0].mean(dim=1)
    assert abs(int(moved.argmax()) - int(planes(1200.0)[0, 0].mean(dim=1).argmax())) <= 1


def test_a_warp_of_one_changes_nothing_and_none_happens_outside_training():
    warp = FrequencyWarp(num_mels=64, min_hz=50.0, max_hz=8000.0, limit=0.2)
    planes = torch.randn(2, 3, 64, 10)
    torch.testing.assert_close(warp.warp(planes, torch.ones(2, 1)), planes, atol=2e-4, rtol=1e-3)
    assert warp.eval()(planes) is planes
    assert not torch.allclose(warp.train()(planes), planes)
