"""Speed, noise and vocal tract: what each does to a tone, and that padding stays out of it."""

import numpy as np
import pytest
import torch

from avser.features.perturb import add_noise, speed_perturb, vtlp_warp

RATE = 16000


def tone(hz, num_samples=RATE):
    return torch.sin(2 * torch.pi * hz * torch.arange(num_samples, dtype=torch.float64) / RATE)[None].float()


def all_real(waveform):
    return torch.ones_like(waveform, dtype=torch.bool)


def peak_hz(waveform):
    window = torch.hann_window(len(waveform), dtype=waveform.dtype)
    return torch.fft.rfft(waveform * window).abs().argmax().item() * RATE / len(waveform)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_shortens_a_clip_and_raises_its_tone(factor):
    faster, mask = speed_perturb(tone(3000), all_real(tone(3000)), torch.tensor([factor]))
    assert int(mask.sum()) == faster.shape[1] == round(RATE / factor)
    assert peak_hz(faster[0]) == pytest.approx(3000 * factor, abs=1.5)
    middle = slice(200, -200)
    expected = tone(3000 * factor, faster.shape[1])
    assert (faster - expected)[:, middle].abs().max() < 0.003


def test_what_would_fold_back_is_cut_off():
    faster, _ = speed_perturb(tone(7500), all_real(tone(7500)), torch.tensor([1.25]))  # 9375 Hz do not exist
    assert faster[:, 200:-200].abs().max() < 0.05


def test_a_factor_of_one_changes_nothing():
    waveform = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4000) < torch.tensor([[4000], [1234]])
    same, same_mask = speed_perturb(waveform, mask, torch.ones(2))
    torch.testing.assert_close(same, waveform * mask, atol=1e-5, rtol=0)
    assert torch.equal(same_mask, mask)


def test_each_clip_has_its_own_speed_and_none_sees_padding():
    waveform = torch.randn(3, 9000, generator=torch.Generator().manual_seed(0))
    num = torch.tensor([9000, 4000, 0])
    mask = torch.arange(9000) < num[:, None]
    factor = torch.tensor([0.8, 1.2, 1.0])
    together, together_mask = speed_perturb(waveform, mask, factor)
    assert together_mask.sum(dim=1).tolist() == [11250, 3333, 0]
    alone, _ = speed_perturb(waveform[1:2, :4000], mask[1:2, :4000], factor[1:2])
    torch.testing.assert_close(together[1:2, :3333], alone, atol=1e-4, rtol=0)
    assert (together[~together_mask] == 0).all()


def test_long_clips_keep_their_time():
    waveform = tone(6000, 30 * RATE)
    slower, _ = speed_perturb(waveform, all_real(waveform), torch.tensor([0.9]))
    factor = float(torch.tensor(0.9))
    end = torch.arange(slower.shape[1] - 1000, slower.shape[1] - 500, dtype=torch.float64)
    expected = torch.sin(2 * torch.pi * 6000 * factor * end / RATE)
    assert (slower[0, -1000:-500] - expected).abs().max() < 0.02


def test_speeds_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        speed_perturb(tone(100), all_real(tone(100)), torch.tensor([0.0]))


def test_noise_has_the_ratio_that_was_asked_for():
    waveform = tone(440, 30000).repeat(3, 1) * torch.tensor([[1.0], [0.01], [0.5]])
    mask = torch.arange(30000) < torch.tensor([[30000], [20000], [9000]])
    wanted = torch.tensor([20.0, 0.0, -5.0])
    noisy = add_noise(waveform, mask, wanted, torch.Generator().manual_seed(0))
    assert (noisy[~mask] == 0).all()
    for clip, num in enumerate((30000, 20000, 9000)):
        clean, noise = waveform[clip, :num], (noisy - waveform)[clip, :num]
        measured = 10 * np.log10(clean.square().mean() / noise.square().mean())
        assert measured == pytest.approx(wanted[clip].item(), abs=0.2)
        spectrum = torch.fft.rfft(noise).abs().square()
        assert spectrum[: num // 4].mean() / spectrum[num // 4 :].mean() == pytest.approx(1, abs=0.1)


def test_noise_repeats_with_its_generator_and_spares_silence():
    waveform, mask = torch.cat([tone(440), torch.zeros(1, RATE)]), torch.ones(2, RATE, dtype=torch.bool)
    first, second = (add_noise(waveform, mask, torch.zeros(2), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert (first[1] == 0).all()
    assert not torch.equal(first[0], add_noise(waveform, mask, torch.zeros(2))[0])


def spectrum_with_peaks(*hz, num_bins=401, top_hz=8000.0):
    """(1, F, 3) with a narrow bump at each frequency."""
    bins = torch.linspace(0, top_hz, num_bins)
    return sum(torch.exp(-(((bins - f) / 40) ** 2)) for f in hz)[None, :, None].repeat(1, 1, 3)


@pytest.mark.parametrize(
    ("factor", "hz", "expected"),
    [
        (1.1, 2000, 2200),
        (0.9, 2000, 1800),
        (1.1, 4000, 4400),  # below the knee, which is at 4800 / 1.1
        (1.1, 6000, 8000 - (8000 - 4800) / (8000 - 4800 / 1.1) * 2000),
        (0.9, 6000, 8000 - (8000 - 4320) / (8000 - 4800) * 2000),
    ],
)
def test_the_vocal_tract_moves_formants_along_two_lines(factor, hz, expected):
    warped = vtlp_warp(spectrum_with_peaks(hz), torch.tensor([factor]), sample_rate_hz=RATE)
    assert warped.shape == (1, 401, 3)
    assert (warped[0].argmax(dim=0) * 20 - expected).abs().max() <= 20


def test_the_ends_of_the_spectrum_stay_and_one_changes_nothing():
    spectrum = torch.rand(2, 257, 4, generator=torch.Generator().manual_seed(0))
    warped = vtlp_warp(spectrum, torch.tensor([0.8, 1.2]), sample_rate_hz=RATE)
    torch.testing.assert_close(warped[:, [0, -1]], spectrum[:, [0, -1]], atol=1e-3, rtol=0)
    torch.testing.assert_close(vtlp_warp(spectrum, torch.ones(2), sample_rate_hz=RATE), spectrum, atol=1e-3, rtol=0)


def test_a_spectrum_may_end_below_half_the_sampling_rate():
    spectrum = spectrum_with_peaks(2000, num_bins=200, top_hz=3980.0)
    warped = vtlp_warp(spectrum, torch.tensor([1.1]), sample_rate_hz=RATE, top_hz=3980.0)
    assert abs(int(warped[0, :, 0].argmax()) * 20 - 2200) <= 20
    with pytest.raises(ValueError, match="half the sampling rate"):
        vtlp_warp(spectrum, torch.tensor([1.1]), sample_rate_hz=8000)
