"""MFCCs: against librosa and scipy on speech, in numbers of frames, and blind to padding."""

import math

import numpy as np
import pytest
import torch

from avser.features.cepstral import Mfcc, mfcc40_htk, mfcc_tf40
from avser.features.spectral import LogMel


@pytest.fixture(scope="module")
def speech(real_data):
    from avser.media.audio import read_audio

    voice = read_audio(min((real_data / "ravdess_speech" / "Actor_01").glob("*.flac")))
    return torch.from_numpy(voice)[None]


def all_real(waveform):
    return torch.ones_like(waveform, dtype=torch.bool)


def noise(num_samples, seed=0):
    return 0.1 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.real_data
def test_mfcc40_htk_is_librosas(speech):
    librosa = pytest.importorskip("librosa")
    x, mask = mfcc40_htk()(speech, all_real(speech))
    assert mask.all()
    reference = librosa.feature.mfcc(y=speech[0].numpy(), sr=16000, n_mfcc=40, htk=True, hop_length=160, n_fft=2048).T
    reference = reference[: x.shape[1]]
    assert x.shape == (1, *reference.shape)
    np.testing.assert_allclose(x[0], reference, atol=0.05)  # of values of some hundreds
    correlation = [np.corrcoef(x[0, :, k], reference[:, k])[0, 1] for k in range(40)]
    assert min(correlation) > 0.99


@pytest.mark.real_data
def test_the_range_below_the_loudest_band_is_librosas(speech):
    librosa = pytest.importorskip("librosa")
    quiet = speech * (torch.arange(speech.shape[1]) < 30000)  # digital silence at the end, far beyond 80 dB
    x, _ = mfcc40_htk()(quiet, all_real(quiet))
    reference = librosa.feature.mfcc(y=quiet[0].numpy(), sr=16000, n_mfcc=40, htk=True, hop_length=160, n_fft=2048).T
    np.testing.assert_allclose(x[0], reference[: x.shape[1]], atol=0.05)


@pytest.mark.real_data
def test_mfcc_tf40_against_scipy(speech):
    fft = pytest.importorskip("scipy.fft")
    x, mask = mfcc_tf40()(speech, all_real(speech))
    samples = speech[0].double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = np.stack([samples[i : i + 1024] for i in range(0, len(samples) - 1023, 256)])
    magnitude = np.abs(np.fft.rfft(frames * window))
    mel = 1127 * np.log(1 + np.linspace(0, 8000, 513) / 700)
    edges = np.linspace(*(1127 * np.log(1 + np.array([80, 7600]) / 700)), 130)
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.maximum(0, np.minimum((mel[:, None] - low) / (mid - low), (high - mel[:, None]) / (high - mid)))
    cepstrum = fft.dct(np.log(magnitude @ filters + 1e-6), type=2) / np.sqrt(2 * 128)
    assert int(mask.sum()) == len(frames)
    np.testing.assert_allclose(x[0], cepstrum[:, :40].clip(-10, 10), atol=1e-3)
    assert x.abs().max() == 10  # c0 of speech is beyond


def test_c0_of_tensorflow_is_larger_by_the_root_of_two():
    waveform = noise(16000)
    tf = mfcc_tf40()
    tf.limit = None
    x, _ = tf(waveform, all_real(waveform))
    plain, _ = Mfcc(tf.spectrogram, num_coefficients=40)(waveform, all_real(waveform))
    torch.testing.assert_close(x[..., 0], math.sqrt(2) * plain[..., 0])
    torch.testing.assert_close(x[..., 1:], plain[..., 1:])


@pytest.mark.parametrize(("seconds", "num_frames"), [(3, 184), (7, 434), (0.064, 1), (0.03, 1)])
def test_mfcc_tf40_has_the_published_number_of_frames(seconds, num_frames):
    num = round(16000 * seconds)
    x, mask = mfcc_tf40()(noise(num), torch.ones(1, num, dtype=torch.bool))
    assert x.shape == (1, num_frames, 40)
    assert mask.all()


def test_time_is_stated_in_seconds():
    for rate in (8000, 16000, 44100):
        assert mfcc_tf40(rate).hop_s == pytest.approx(0.016, rel=2e-3)
        assert mfcc_tf40(rate).offset_s == pytest.approx(0.032, rel=2e-3)
        assert mfcc40_htk(rate).hop_s == pytest.approx(0.010)
        assert mfcc40_htk(rate).offset_s == 0
    waveform = torch.zeros(1, 16000)
    waveform[0, 8000] = 1.0  # at 0.5 s
    front_end = mfcc_tf40()
    front_end.limit = None
    x, _ = front_end(waveform, all_real(waveform))
    assert front_end.offset_s + int(x[0, :, 0].argmax()) * front_end.hop_s == pytest.approx(0.5, abs=0.008)


def test_all_coefficients_hold_all_of_the_bands():
    log_mel, waveform = LogMel(num_mels=26), noise(8000)
    x, _ = Mfcc(log_mel, num_coefficients=26)(waveform, all_real(waveform))
    bands = log_mel.log_mel(waveform, all_real(waveform)).transpose(1, 2)
    torch.testing.assert_close(x.norm(dim=2), bands.norm(dim=2), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="at most"):
        Mfcc(log_mel, num_coefficients=27)


@pytest.mark.parametrize("make", [mfcc_tf40, mfcc40_htk])
@pytest.mark.parametrize("seconds", [0.3, 2.0, 15.0])
def test_no_mfcc_sees_padding_or_neighbours(make, seconds):
    num, front_end = round(seconds * 16000), make()
    short = noise(num)
    short[0, : num // 2] = 0  # further below the loudest band than any range
    padded = torch.cat([torch.nn.functional.pad(short, (0, 5432)), 10 * noise(num + 5432, seed=1)])
    mask = torch.arange(num + 5432) < torch.tensor([[num], [num + 5432]])
    short[0, -60:] += 30  # loudest in the frame after the last
    padded[0, num - 60 : num] += 30
    alone, alone_mask = front_end(short, all_real(short))
    assert alone_mask.all()
    together, together_mask = front_end(padded + 3.0 * ~mask, mask)
    assert int(together_mask[0].sum()) == alone.shape[1]
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-4, rtol=1e-5)
    assert (together[0, alone.shape[1] :] == 0).all()


@pytest.mark.parametrize("make", [mfcc_tf40, mfcc40_htk])
def test_silent_and_absent_clips_stay_finite(make):
    x, mask = make()(torch.zeros(2, 3000), torch.arange(3000) < torch.tensor([[3000], [0]]))
    assert torch.isfinite(x).all()
    assert not mask[1].any()
    x, mask = make()(noise(1), torch.ones(1, 1, dtype=torch.bool))
    assert mask.tolist() == [[True]]


@pytest.mark.parametrize("make", [mfcc_tf40, mfcc40_htk])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_of_training_measures_the_same(make, precision):
    front_end, waveform = make(), torch.sin(torch.arange(16000) / 8)[None]  # powers beyond the largest float16
    with torch.autocast("cpu", precision):
        half = front_end(waveform, all_real(waveform))[0]
    assert torch.equal(half, front_end(waveform, all_real(waveform))[0])


@pytest.mark.parametrize("make", [mfcc_tf40, mfcc40_htk])
def test_no_samples_give_no_frames(make):
    x, mask = make()(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
    assert x.shape == (2, 0, 40)
    assert mask.shape == (2, 0)
