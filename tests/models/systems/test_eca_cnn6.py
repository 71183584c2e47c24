"""Efficient channel attention by hand, and log-mels of eight resolutions that agree on when something was."""

import pytest
import torch

from avser.models.systems.eca_cnn6 import ChannelAttention, EcaCnn6, resize_time
from avser.training.losses import TrainingLoss


def small(**options):
    torch.manual_seed(0)
    settings = {"num_mels": 16, "num_columns": 64, "channels": (4, 4, 4, 4, 8, 8), **options}
    return EcaCnn6(3, **settings)


@pytest.mark.parametrize(("num_channels", "size"), [(32, 3), (64, 3), (128, 5), (256, 5)])
def test_the_kernel_over_channels_grows_with_their_number(num_channels, size):
    assert ChannelAttention(num_channels).over_channels.weight.shape == (1, 1, size)


def test_channel_attention_by_hand():
    attention = ChannelAttention(32)
    with torch.no_grad():
        attention.over_channels.weight[:] = torch.tensor([1.0, 2.0, 0.0])  # the channel before, and twice itself
    planes = torch.zeros(1, 32, 2, 2)
    planes[0, 4], planes[0, 5] = 0.25, torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # mean 0.5
    gates = torch.sigmoid(torch.tensor([2 * 0.25, 0.25 + 2 * 0.5]))
    torch.testing.assert_close(attention(planes)[0, 4], gates[0] * planes[0, 4])
    torch.testing.assert_close(attention(planes)[0, 5], gates[1] * planes[0, 5])


def test_there_are_two_attentions_after_the_fifth_and_sixth_convolution():
    names = [type(layer).__name__ for layer in EcaCnn6(4).network]
    layers = "".join({"Conv2d": "c", "ChannelAttention": "a", "MaxPool2d": "p"}.get(name, "") for name in names)
    assert layers == "ccpccpcacap"


def test_its_parameters_by_hand():
    kernels = 9 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    norms = 2 * (32 + 32 + 64 + 64 + 128 + 128)
    head = 128 * 4 + 4
    assert sum(p.numel() for p in EcaCnn6(4).parameters()) == kernels + norms + 2 * 5 + head == 287_406


def test_time_is_resized_from_the_first_real_frame_to_the_last():
    planes = torch.tensor([[0.0, 2.0, 4.0, 99.0], [1.0, 99.0, 99.0, 99.0]])[:, None, None]
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    resized, place = resize_time(planes, mask, 5)
    torch.testing.assert_close(resized[:, 0, 0], torch.tensor([[0.0, 1, 2, 3, 4], [1, 1, 1, 1, 1]]))
    torch.testing.assert_close(place, torch.tensor([[0.0, 0.5, 1, 1.5, 2], [0, 0, 0, 0, 0]]))


def test_all_eight_settings_see_a_click_at_its_time():
    model = EcaCnn6(3).eval()
    windows_s = [0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.045, 0.050]
    assert [setting.hop_s for setting in model.settings] == pytest.approx([window_s / 2 for window_s in windows_s])
    waveform = torch.zeros(8, 32_000)
    waveform[:, 20_000] = 1.0  # at 1.25 s
    pictures, times = model.pictures(waveform, torch.ones_like(waveform, dtype=torch.bool), torch.arange(8))
    assert pictures.shape == (8, 1, 128, 256)
    loudest = pictures[:, 0].mean(dim=1).argmax(dim=1)
    found = times.gather(1, loudest[:, None])[:, 0]
    assert (found - 1.25).abs().max() < 0.026
    torch.testing.assert_close(times[:, 0], torch.zeros(8))


def test_a_longer_window_tells_two_close_tones_apart():
    model = EcaCnn6(3).eval()
    t = torch.arange(16_000) / 16_000
    tones = 0.1 * (torch.sin(2 * torch.pi * 200 * t) + torch.sin(2 * torch.pi * 290 * t))
    waveform = tones.expand(2, -1)
    pictures, _ = model.pictures(waveform, torch.ones_like(waveform, dtype=torch.bool), torch.tensor([0, 7]))
    low = pictures[:, 0, :20, 100:150].mean(dim=2)  # bands up to about 500 Hz

    def dips(band):
        return int(((band[1:-1] < band[:-2]) & (band[1:-1] < band[2:])).sum())

    assert dips(low[1]) > dips(low[0])


def drawn(model, batch, steps):
    """The settings that were used, step by step."""
    seen = []
    pictures = model.pictures
    model.pictures = lambda waveform, mask, setting: seen.append(setting.tolist()) or pictures(waveform, mask, setting)
    with torch.no_grad():
        for _ in range(steps):
            model(batch)
    return seen


def test_a_setting_is_drawn_for_each_clip_at_each_step_of_training(make_batch):
    seen = drawn(small().train(), make_batch(num_samples=(4000, 3000)), 40)
    assert {setting for step in seen for setting in step} == set(range(8))
    assert any(one != other for one, other in seen)


@pytest.mark.parametrize(("options", "setting"), [({}, 7), ({"test_window_s": 0.025}, 2)])
def test_other_clips_are_seen_with_the_longest_window_or_the_chosen_one(make_batch, options, setting):
    assert drawn(small(**options).eval(), make_batch(num_samples=(4000, 3000)), 2) == [[setting] * 2] * 2
    untouched = small(multi_stft="none", **options).train()
    assert drawn(untouched, make_batch(num_samples=(4000, 3000)), 1) == [[setting] * 2]


def test_the_full_augmentation_learns_from_every_clip_in_all_settings(make_batch):
    model, batch = small(multi_stft="all").train(), make_batch(num_samples=(4000, 3000))
    output = model(batch)
    logits, owner = output.extra["all_logits"], output.extra["owner"]
    assert logits.shape == (16, 3)
    assert torch.bincount(owner).tolist() == [8, 8]
    torch.testing.assert_close(logits[:2], output.logits)
    expected = torch.nn.functional.cross_entropy(logits, batch.labels[owner])
    torch.testing.assert_close(model.training_loss(output, batch, TrainingLoss()), expected)
    assert "all_logits" not in model.eval()(batch).extra


def test_steps_share_their_clip_equally(make_batch):
    with torch.no_grad():
        part = small().eval()(make_batch(num_samples=(16_000, 8000))).attended["audio"]
    assert part.times.shape == (2, 8)
    assert part.times[0].diff().std() < 1e-4
    assert part.times[0].mean() == pytest.approx(0.5, abs=0.02)
    assert part.times[1].mean() == pytest.approx(0.25, abs=0.02)


def test_columns_that_fill_no_step_move_no_other(make_batch):
    model, batch = small(num_columns=60).eval(), make_batch(num_samples=(16_000,), num_frames=(1,))
    with torch.no_grad():
        part = model(batch).attended["audio"]
    _, times = model.pictures(batch.waveform, batch.waveform_mask, torch.tensor([7]))
    torch.testing.assert_close(part.times, times[:, :56].view(1, 7, 8).mean(dim=2))


def test_what_it_does_not_know_is_refused():
    with pytest.raises(ValueError, match="multi_stft"):
        small(multi_stft="some")
    with pytest.raises(ValueError, match="test_window_s"):
        small(test_window_s=0.1)
