"""Convolutions and an LSTM over the spectrogram: sizes, the part of a clip that is read, the last step's verdict."""

import pytest
import torch

from avser.models.systems.spec_conv_lstm import SpecConvLstm, middle


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SpecConvLstm(7).eval()


def test_sizes(model):
    convolutions = sum(9 * k * maps + 3 * maps for k, maps in [(1, 32), (32, 64), (64, 128), (128, 128)])
    lstm, dense = 4 * 128 * (256 + 128) + 2 * 4 * 128, (128 * 64 + 64) + (64 * 7 + 7)
    assert sum(p.numel() for p in model.parameters()) == convolutions + lstm + dense
    assert (model.cnn.num_rows(128), model.cnn.stride) == (2, 8)


@pytest.mark.parametrize("sample_rate_hz", [8000, 16000, 44100])
def test_no_band_is_empty(sample_rate_hz):
    log_mel = SpecConvLstm(2, sample_rate_hz=sample_rate_hz, num_maps=(2, 2, 2, 2)).log_mel
    assert (log_mel.filters.sum(dim=0) > 0).all()


def test_the_last_real_step_is_the_verdict(model, make_batch):
    output = model(make_batch((40000, 9000)))
    attended = output.attended["audio"]
    assert attended.mask.sum(dim=1).tolist() == [32, 8]
    assert torch.equal(attended.weights.argmax(dim=1), torch.tensor([31, 7]))
    torch.testing.assert_close(output.logits[1], attended.step_logits[1, 7], rtol=0, atol=0)


def test_the_middle_of_a_longer_clip_is_read_and_its_times_say_so(model, make_batch):
    batch = make_batch((80000, 30000))
    output = model(batch)
    batch.waveform[0, 16000:64000] += 0.1 * torch.sin(torch.arange(48000) / 9)
    changed = model(batch)
    assert not torch.allclose(changed.logits[0], output.logits[0])
    batch = make_batch((80000, 30000))
    batch.waveform[0, :16000] = batch.waveform[0, 64000:] = 0.5
    torch.testing.assert_close(model(batch).logits, output.logits)
    attended = output.attended["audio"]
    torch.testing.assert_close(attended.times[:, 0], torch.tensor([1.0, 0.0]) + 0.035)
    torch.testing.assert_close(attended.times[0, -1], torch.tensor(1.035 + 37 * 0.08))


def test_middle():
    waveform, mask = torch.arange(1.0, 8).repeat(2, 1), torch.arange(7) < torch.tensor([[7], [2]])
    cut, real, start = middle(waveform * mask, mask, 4)
    assert cut.tolist() == [[2, 3, 4, 5], [1, 2, 0, 0]]
    assert real.sum(dim=1).tolist() == [4, 2]
    assert start.tolist() == [1, 0]
