"""Timbre: against librosa on a real voice, by hand where librosa has nothing alike, and blind to padding."""

import numpy as np
import pytest
import torch

from avser.features.timbre import (
    MEDIAN_FRAMES,
    Timbre,
    chroma_filters,
    contrast_edges,
    fill_unvoiced,
    harmonic_levels,
    harmonic_percussive_db,
    mirrored,
    running_median,
    spectral_contrast,
    spectral_flux,
    spectral_shape,
    tonal_centroid,
)
from avser.media.audio import decode_audio

HZ = torch.linspace(0, 8000, 257)


def all_real(waveform):
    return torch.ones_like(waveform, dtype=torch.bool)


def voice(f0_hz, duration_s=0.5, levels=(1.0, 0.5, 0.25)):
    t = torch.arange(round(16000 * duration_s)) / 16000
    return 0.1 * sum(a * torch.sin(2 * torch.pi * (i + 1) * f0_hz * t) for i, a in enumerate(levels))[None]


def column(front_end, x, name):
    return x[..., front_end.names.index(name)]


@pytest.fixture(scope="module")
def recording(real_data):
    waveform, _ = decode_audio(real_data / "cremad" / "AudioWAV" / "1001_DFA_ANG_XX.wav")
    return np.ascontiguousarray(waveform, dtype=np.float32)


@pytest.mark.real_data
def test_agrees_with_librosa_on_a_real_voice(recording):
    librosa = pytest.importorskip("librosa")
    front_end = Timbre()
    waveform = torch.from_numpy(recording)[None]
    ours = front_end(waveform, all_real(waveform))[0][0].numpy()
    settings = {"hop_length": 160, "pad_mode": "constant"}
    shape = np.abs(librosa.stft(recording, n_fft=512, win_length=400, **settings))
    tonal = np.abs(librosa.stft(recording, n_fft=1024, **settings))
    chroma = librosa.feature.chroma_stft(S=tonal**2, sr=16000, n_fft=1024, tuning=0.0)
    lasting, broad = librosa.decompose.hpss(tonal, kernel_size=MEDIAN_FRAMES)
    theirs = {
        "centroid_hz": librosa.feature.spectral_centroid(S=shape, sr=16000)[0],
        "bandwidth_hz": librosa.feature.spectral_bandwidth(S=shape, sr=16000)[0],
        "rolloff_hz": librosa.feature.spectral_rolloff(S=shape, sr=16000)[0],
        "flatness": librosa.feature.spectral_flatness(S=shape)[0],
        "harmonic_percussive_db": 10 * np.log10(((lasting**2).sum(axis=0) + 1e-10) / ((broad**2).sum(axis=0) + 1e-10)),
    }
    names = [name for name in front_end.names if name.startswith("contrast")]
    theirs |= dict(zip(names, librosa.feature.spectral_contrast(S=shape, sr=16000), strict=True))
    names = [name for name in front_end.names if name.startswith("chroma")]
    theirs |= dict(zip(names, chroma, strict=True))
    names = [name for name in front_end.names if name.startswith("tonnetz")]
    theirs |= dict(zip(names, librosa.feature.tonnetz(chroma=chroma), strict=True))
    assert len(theirs) == 5 + 7 + 12 + 6
    sounding = shape[:, : len(ours)].sum(axis=0) > 1e-3  # in digital silence librosa's floors depend on the clip
    assert sounding.sum() > 100
    for name, values in theirs.items():
        found, expected = ours[sounding, front_end.names.index(name)], values[: len(ours)][sounding]
        assert np.corrcoef(found, expected)[0, 1] > 0.99, name
        assert np.abs(found - expected).mean() < 0.02 * np.abs(expected).mean(), name


def test_chroma_filters_agree_with_librosa():
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.chroma(sr=16000, n_fft=1024)
    np.testing.assert_allclose(chroma_filters(1024, 16000).numpy(), theirs, atol=1e-5)


def test_shape_of_two_lines_by_hand():
    magnitude = torch.zeros(1, 1, 257)
    magnitude[0, 0, 32], magnitude[0, 0, 96] = 3.0, 1.0  # 1000 and 3000 Hz
    centroid, bandwidth, rolloff, _, _ = spectral_shape(magnitude, HZ)[0, 0].tolist()
    assert centroid == pytest.approx(1500)
    assert bandwidth == pytest.approx((0.75 * 500**2 + 0.25 * 1500**2) ** 0.5)
    assert rolloff == pytest.approx(3000)
    assert spectral_shape(magnitude, HZ, rolloff_share=0.7)[0, 0, 2] == pytest.approx(1000)


def test_flatness_and_slope_by_hand():
    level_db = -6.0 * HZ / 1000  # falls by 6 dB per kHz
    magnitude = torch.stack([10 ** (level_db / 20), torch.ones(257)])[None]
    flatness, slope = spectral_shape(magnitude, HZ)[0, :, 3:].unbind(dim=1)
    assert slope.tolist() == pytest.approx([-6.0, 0.0], abs=1e-3)
    power = 10 ** (level_db / 10)
    assert flatness[0] == pytest.approx(float(power.log().mean().exp() / power.mean()), rel=1e-4)
    assert flatness[1] == pytest.approx(1)


def test_flux_is_blind_to_loudness_and_sees_a_change_of_colour():
    low, high = torch.zeros(257), torch.zeros(257)
    low[10], high[100] = 1.0, 1.0
    magnitude = torch.stack([low, 5 * low, high, 0.1 * high])[None]
    assert spectral_flux(magnitude)[0].tolist() == pytest.approx([0, 0, 2**0.5, 0])


def test_contrast_bands_reach_half_the_sampling_rate():
    assert contrast_edges(16000) == [0, 200, 400, 800, 1600, 3200, 6400]
    assert contrast_edges(8000) == [0, 200, 400, 800, 1600, 3200]
    magnitude = torch.ones(1, 1, 257)
    magnitude[0, 0, 140] = 100.0  # 4375 Hz
    contrast = spectral_contrast(magnitude, 31.25, contrast_edges(16000))[0, 0]
    # 2 % of the 104 bins from one below 3200 Hz to 6400 Hz are two: the mean of 100 and 1
    assert contrast.tolist() == pytest.approx([0, 0, 0, 0, 0, 10 * np.log10(50.5), 0], abs=1e-4)


def test_tonal_centroid_of_one_class():
    chroma = torch.zeros(1, 2, 12)
    chroma[0, 0, 3] = 2.0
    angles = [np.pi * 7 / 6 * 3, np.pi * 3 / 2 * 3, np.pi * 2 / 3 * 3]
    expected = [f(a) * r for a, r in zip(angles, (1, 1, 0.5), strict=True) for f in (np.sin, np.cos)]
    assert tonal_centroid(chroma)[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert tonal_centroid(chroma)[0, 1].abs().max() == 0


def test_running_median_is_the_median():
    x = torch.rand(60 + MEDIAN_FRAMES - 1, 40, generator=torch.Generator().manual_seed(0))
    expected = x.unfold(0, MEDIAN_FRAMES, 1).median(dim=-1).values
    assert torch.equal(running_median(x, 60), expected)


def test_mirrored_by_hand():
    assert mirrored(torch.arange(-3, 6), 3).tolist() == [2, 1, 0, 0, 1, 2, 2, 1, 0]
    assert mirrored(torch.arange(-2, 3), 1).tolist() == [0] * 5


def test_lasting_tones_are_harmonic_and_clicks_are_percussive():
    front_end = Timbre()
    clicks = torch.zeros(1, 8000)
    clicks[0, 4000] = 1.0
    ratios = [column(front_end, front_end(w, all_real(w))[0], "harmonic_percussive_db") for w in (voice(200), clicks)]
    assert ratios[0][0, 25] > 20
    assert ratios[1][0, 25] < -20
    assert harmonic_percussive_db(torch.zeros(1, 5, 513), torch.ones(1, 5, dtype=torch.bool)).abs().max() == 0


def test_levels_of_known_harmonics():
    front_end = Timbre()
    waveform = voice(200.0, levels=(1.0, 0.5, 0.25))
    x, _ = front_end(waveform, all_real(waveform))
    assert column(front_end, x, "log_f0")[0, 25].exp() == pytest.approx(200, rel=0.01)
    assert column(front_end, x, "voiced")[0, 25] == 1
    assert column(front_end, x, "h1_h2_db")[0, 25] == pytest.approx(6.02, abs=0.3)
    third = column(front_end, x, "h1_db") - column(front_end, x, "h3_db")
    assert third[0, 25] == pytest.approx(12.04, abs=0.3)
    power = torch.full((1, 1, 65), 0.0)
    power[0, 0, 10], power[0, 0, 19], power[0, 0, 30] = 4.0, 2.0, 2.0  # the second harmonic is a bin off
    levels = harmonic_levels(power, torch.tensor([[100.0]]), 10.0)[0, 0]
    assert levels.tolist() == pytest.approx([10 * np.log10(share) for share in (0.5, 0.25, 0.25)], abs=1e-4)


def test_unvoiced_frames_take_the_mean_of_voiced_ones():
    values = torch.tensor([[[1.0], [9.0], [3.0]], [[5.0], [6.0], [7.0]]])
    voiced = torch.tensor([[True, False, True], [False] * 3])
    assert fill_unvoiced(values, voiced, -1.0)[..., 0].tolist() == [[1, 2, 3], [-1, -1, -1]]


@pytest.mark.parametrize("sample_rate_hz", [16000, 8000])
def test_padding_and_company_change_nothing(sample_rate_hz):
    front_end = Timbre(sample_rate_hz=sample_rate_hz)
    assert len(set(front_end.names)) == front_end.num_features == (39 if sample_rate_hz == 16000 else 38)
    noise = 0.02 * torch.randn(1, 12000, generator=torch.Generator().manual_seed(0))
    short = (voice(150) + noise[:, :8000])[:, :7000]
    together = torch.cat([torch.nn.functional.pad(short, (0, 5000)), noise])
    mask = torch.arange(12000) < torch.tensor([[7000], [12000]])
    alone, alone_mask = front_end(short, all_real(short))
    both, both_mask = front_end(together + 5.0 * ~mask, mask)
    num = alone.shape[1]
    assert num == alone_mask.sum() == both_mask[0].sum()
    torch.testing.assert_close(both[0, :num], alone[0], atol=2e-3, rtol=1e-3)
    assert both[0, num:].abs().max() == 0


def test_silence_and_tiny_clips_stay_finite():
    front_end = Timbre()
    mask = torch.arange(4000) < torch.tensor([[4000], [1], [0]])
    x, frame_mask = front_end(torch.zeros(3, 4000), mask)
    assert torch.isfinite(x).all()
    assert frame_mask.sum(dim=1).tolist() == [25, 1, 0]
    x, _ = front_end(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert x.shape == (1, 1, 39)
    assert torch.isfinite(x).all()
