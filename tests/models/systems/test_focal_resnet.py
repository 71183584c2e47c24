"""The residual network: identity where it should be, steps where the voice is, and no more than 6 s of it."""

import pytest
import torch

from avser.config import load_config
from avser.models.systems.focal_resnet import FocalResnet, ResidualBlock


def small(**options):
    torch.manual_seed(0)
    return FocalResnet(3, **{"num_mels": 40, "channels": (4, 6), "strides": (1, 2), "blocks": 1, **options}).eval()


def test_a_block_adds_to_its_input():
    block = ResidualBlock(3, 3, 1).eval()
    torch.nn.init.zeros_(block.second[3].weight)
    planes = torch.randn(1, 3, 5, 7)
    assert torch.equal(block(planes), planes)
    halved = ResidualBlock(3, 8, 2).eval()(planes)
    assert halved.shape == (1, 8, 3, 4)


def test_the_stages_are_two_blocks_each_and_a_step_is_16_frames():
    model = FocalResnet(4)
    blocks = [m for m in model.network.layers if isinstance(m, ResidualBlock)]
    assert [b.second[0].out_channels for b in blocks] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert (model.network.stride, model.network.offset) == (16, 0)
    assert model.log_mel.hop_s == pytest.approx(512 / 22050, rel=2e-3)  # rounded to samples


def test_its_parameters_by_hand():
    def block(num_in, num_out, *, is_first):
        norms = 2 * num_in + 2 * num_out
        return norms + 9 * num_in * num_out + 9 * num_out * num_out + (num_in * num_out if is_first else 0)

    stages = sum(block(i, o, is_first=i != o) + block(o, o, is_first=False) for i, o in WIDTHS)
    stem, last_norm, head = 7 * 7 * 32, 2 * 256, 256 * 4 + 4
    assert sum(p.numel() for p in FocalResnet(4).parameters()) == stem + stages + last_norm + head == 2_795_876


WIDTHS = [(32, 32), (32, 64), (64, 128), (128, 256)]


def test_the_verdict_is_the_head_on_the_mean_over_frequency_and_real_time(make_batch):
    model, batch = small(), make_batch(num_samples=(48_000, 20_000))
    with torch.no_grad():
        output = model(batch)
        features, mask = model.network(*model.planes(batch.waveform, batch.waveform_mask))
        for i in range(2):
            pooled = features[i, :, :, mask[i]].mean(dim=(1, 2))
            torch.testing.assert_close(output.logits[i], model.readout.evidence(pooled))
    assert mask[0].sum() > mask[1].sum()


def test_what_changes_in_the_voice_changes_the_step_of_that_time(make_batch):
    model, batch = small(), make_batch(num_samples=(80_000,), num_frames=(1,))
    other = make_batch(num_samples=(80_000,), num_frames=(1,))
    other.waveform[0, 47_000:49_000] = 0  # around 3 s
    with torch.no_grad():
        one, two = model(batch).attended["audio"], model(other).attended["audio"]
    change = (one.sequence - two.sequence).norm(dim=2)[0]
    assert abs(one.times[0, change.argmax()] - 3.0) < 0.15


def test_no_more_than_the_first_6_s_are_read_unless_asked_for(make_batch):
    batch, cut = make_batch(num_samples=(120_000,), num_frames=(1,)), make_batch(num_samples=(96_000,), num_frames=(1,))
    cut.waveform[:] = batch.waveform[:, :96_000]
    with torch.no_grad():
        torch.testing.assert_close(small()(batch).logits, small()(cut).logits)
        whole = small(clip_s=None)(batch).attended["audio"]
    assert whole.times[0, -1] > 7


def test_dropout_takes_a_feature_at_all_steps(make_batch):
    model = small(dropout=0.5).train()
    torch.nn.init.constant_(model.network.layers[-2].bias, 10.0)  # no feature is 0 but by dropout
    sequence = model(make_batch(num_samples=(48_000, 48_000))).attended["audio"].sequence
    gone = sequence == 0
    assert torch.equal(gone.all(dim=1), gone.any(dim=1))
    assert 0.1 < gone.all(dim=1).float().mean() < 0.9


def test_mfccs_instead_of_log_mels(make_batch):
    model, batch = small(features="mfcc", num_coefficients=13), make_batch()
    planes, mask = model.planes(batch.waveform, batch.waveform_mask)
    assert planes.shape[:3] == (2, 1, 13)
    for i in range(2):  # each coefficient has mean 0 and variance 1 over its clip
        clip = planes[i, 0][:, mask[i]]
        torch.testing.assert_close(clip.mean(dim=1), torch.zeros(13), atol=1e-4, rtol=0)
        torch.testing.assert_close(clip.std(dim=1, correction=0), torch.ones(13), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="logmel or mfcc"):
        small(features="plp")


def test_it_is_trained_with_the_focal_loss():
    training = load_config(["focal_resnet"]).training
    assert (training.loss, training.focal_gamma, training.label_smoothing) == ("focal", 2.0, 0.0)
