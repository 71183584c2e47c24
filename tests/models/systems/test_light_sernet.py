"""LIGHT-SERNET: its published size to the last parameter, its fixed length, and where its moments lie."""

import numpy as np
import pytest
import torch
from torch import nn

from avser.models.systems.light_sernet import LightSernet, fixed_length, later_convolutions, set_gain
from avser.training.losses import TrainingLoss


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LightSernet(4).eval()


def test_it_has_exactly_the_published_number_of_parameters(model):
    trainable = sum(p.numel() for p in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert trainable == 460_740
    assert trainable + sum(m.running_mean.numel() + m.running_var.numel() for m in norms) == 462_468


@pytest.mark.parametrize(("clip_s", "num_frames", "num_steps"), [(3.0, 184, 6), (7.0, 434, 14)])
def test_the_published_grid_comes_out_whatever_the_clips_length(make_batch, clip_s, num_frames, num_steps):
    model = LightSernet(4, clip_s=clip_s).eval()
    seen = []
    model.network.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].shape, output[0].shape)))
    with torch.no_grad():
        model(make_batch(num_samples=(9000, 130_000)))
    assert seen == [((2, 1, 40, num_frames), (2, 320, 5, num_steps))]


def test_poolings_round_up_and_do_not_average_what_is_beyond_the_edge():
    pools = [m for m in later_convolutions(96, (4, 4, 4, 4, 4), 0.1) if isinstance(m, nn.AvgPool2d)]
    planes, shapes = torch.ones(1, 1, 20, 217), []
    for pool in pools:
        planes = pool(planes)
        shapes.append(tuple(planes.shape[2:]))
        assert torch.equal(planes, torch.ones_like(planes))
    assert shapes == [(10, 109), (5, 55), (5, 28), (5, 14)]


def test_clips_are_cut_and_filled_up_equally_on_both_sides():
    waveform = torch.arange(1.0, 9).repeat(2, 1)
    mask = torch.arange(8) < torch.tensor([8, 2])[:, None]
    cut, real, start = fixed_length(waveform, mask, 5)
    assert cut.tolist() == [[2, 3, 4, 5, 6], [0, 1, 2, 0, 0]]  # the odd sample is lost, or added, behind
    assert real.sum(dim=1).tolist() == [5, 2]
    assert start.tolist() == [1, -1]


@pytest.mark.parametrize("num_samples", [1, 700, 4000])
def test_the_gain_is_the_percentile_of_the_real_samples(num_samples):
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(4000)[None] < num_samples
    clip = waveform[0, :num_samples].numpy()
    expected = np.clip(clip / np.percentile(np.abs(clip), 99.9), -1, 1)
    np.testing.assert_allclose(set_gain(waveform * mask, mask, 99.9)[0, :num_samples], expected, rtol=1e-4)


def test_the_zeros_around_a_clip_do_not_count_for_its_gain(model, make_batch):
    heard = []
    hook = model.mfcc.register_forward_hook(lambda _, inputs, output: heard.append(inputs[0]))
    with torch.no_grad():
        model(make_batch(num_samples=(32_000, 20_000)))
    hook.remove()
    # One sample in a thousand is louder than the percentile.
    assert (heard[0].abs() >= 1).sum(dim=1).tolist() == [32, 20]


def test_silence_stays_silence():
    assert not set_gain(torch.zeros(1, 50), torch.ones(1, 50, dtype=torch.bool), 99.9).any()


def test_the_network_averages_over_the_zeros_too_and_its_steps_add_up_to_that(model, make_batch):
    batch = make_batch(num_samples=(32_000, 20_000))
    features = []
    hook = model.network.register_forward_hook(lambda _, inputs, output: features.append(output[0]))
    with torch.no_grad():
        output = model(batch)
    hook.remove()
    expected = model.readout.evidence(features[0].mean(dim=(2, 3)))
    torch.testing.assert_close(output.logits, expected)
    part = output.attended["audio"]
    assert part.mask.sum(dim=1).tolist() == [4, 2]
    torch.testing.assert_close((part.weights[..., None] * part.step_logits).sum(dim=1), expected)


def test_steps_lie_where_they_are_in_the_clip(model, make_batch):
    with torch.no_grad():
        part = model(make_batch(num_samples=(32_000, 144_000))).attended["audio"]
    # Step i of the window: the mean of 32 frames of 64 ms every 16 ms. 2 s have 2.5 s of zeros before them.
    window = 0.032 + 0.016 * (15.5 + 32 * torch.arange(14))
    inside = (window >= 2.5) & (window < 4.5)
    torch.testing.assert_close(part.times[0][part.mask[0]], window[inside] - 2.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(part.times[1], window + 1.0, atol=1e-4, rtol=0)  # 9 s lose 1 s on either side


def test_what_a_step_says_follows_the_voice(model, make_batch):
    batch = make_batch(num_samples=(64_000,), num_frames=(1,))
    louder = make_batch(num_samples=(64_000,), num_frames=(1,))
    louder.waveform[0, 40_000:43_000] *= -0.2  # around 2.6 s
    with torch.no_grad():
        one, other = model(batch).attended["audio"], model(louder).attended["audio"]
    change = (one.sequence - other.sequence).norm(dim=2)[0]
    assert abs(one.times[0, change.argmax()] - 2.6) < 0.4


def test_a_clip_of_20_ms_has_a_step_within_it(model, make_batch):
    with torch.no_grad():
        part = model(make_batch(num_samples=(320,), num_frames=(1,))).attended["audio"]
    assert part.mask.sum() == 1
    assert 0 <= part.times[part.mask].item() <= 0.02
    assert part.weights.sum() == 1


def test_a_clip_without_a_voice_says_nothing(model, make_batch):
    with torch.no_grad():
        output = model(make_batch(num_samples=(16_000, 0)))
    assert output.logits[0].any()
    assert not output.logits[1].any()


def test_the_loss_has_the_penalty_of_the_five_kernels_without_bias(make_batch):
    model = LightSernet(3, l2=0.5).eval()
    batch = make_batch()
    output = model(batch)
    kernels = [m.weight for m in model.network.layers[1] if isinstance(m, nn.Conv2d)]
    assert [k.shape[0] for k in kernels] == [64, 96, 128, 160, 320]
    penalty = model.training_loss(output, batch, TrainingLoss()) - TrainingLoss()(output, batch)
    torch.testing.assert_close(penalty, 0.5 * sum(k.square().sum() for k in kernels), rtol=1e-4, atol=1e-4)
