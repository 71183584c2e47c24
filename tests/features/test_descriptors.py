"""Descriptors: by hand, against the configuration of their authors on real voices, and blind to padding."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.features.descriptors import DESCRIPTORS, cepstrum, frame_means, smooth, zero_crossings
from avser.media.audio import read_audio

RATE_HZ = 16000
VOICES = ((1, 5, 2), (2, 4, 1), (5, 3, 2), (8, 1, 1), (11, 6, 2), (14, 7, 1), (17, 2, 1), (20, 8, 2))


def noise(num_samples, seed=0):
    return 0.1 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(seed))


def buzz(hz, seconds=1.0, level=0.1):
    t = torch.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return level * sum(torch.cos(2 * math.pi * hz * k * t + k * k) / k for k in range(1, int(4000 / hz) + 1))[None]


def all_real(waveform):
    return torch.ones_like(waveform, dtype=torch.bool)


def column(front_end, x, name):
    return x[..., front_end.names.index(name)]


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_thirty_two_named_columns(name):
    front_end = DESCRIPTORS[name]()
    x, frame_mask = front_end(noise(8000), all_real(noise(8000)))
    assert x.shape == (1, 50, 32)
    assert frame_mask.all()
    assert len(set(front_end.names)) == front_end.num_features == 32
    assert front_end.names[16:] == tuple(f"delta_{static}" for static in front_end.names[:16])
    assert (front_end.hop_s, front_end.offset_s) == (0.010, 0.0)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_padding_and_company_change_nothing(name):
    front_end = DESCRIPTORS[name]().eval()
    alone = buzz(150, 0.7) + 0.3 * noise(11200)
    batch = torch.cat([torch.nn.functional.pad(alone, (0, 6000), value=2.0), noise(17200, seed=1)])
    mask = torch.arange(17200) < torch.tensor([[11200], [17200]])
    (one, one_mask), (two, two_mask) = front_end(alone, all_real(alone)), front_end(batch, mask)
    assert two_mask.sum(dim=1).tolist() == [int(one_mask.sum()), 108] == [70, 108]
    torch.testing.assert_close(two[:1, :70], one, atol=1e-3, rtol=1e-4)
    assert (two[0, 70:] == 0).all()


@pytest.mark.parametrize("name", DESCRIPTORS)
@pytest.mark.parametrize("num_samples", [1, 161, 4800, 240000])
def test_any_length(name, num_samples):
    waveform = buzz(200, 15.0)[:, :num_samples]
    x, frame_mask = DESCRIPTORS[name]()(waveform, all_real(waveform))
    assert x.shape == (1, -(-num_samples // 160), 32)
    assert frame_mask.all()
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_mixed_precision_of_training_measures_the_same(name):
    front_end, waveform = DESCRIPTORS[name](), buzz(150, 0.5) + 0.01 * noise(8000)
    with torch.autocast("cpu", torch.bfloat16):
        half = front_end(waveform, all_real(waveform))[0]
    assert torch.equal(half, front_end(waveform, all_real(waveform))[0])


def test_a_clip_without_sound_and_one_without_samples_stay_finite():
    for front_end in (make() for make in DESCRIPTORS.values()):
        mask = torch.tensor([[True], [False]]).expand(2, 4000)
        x, frame_mask = front_end(torch.zeros(2, 4000), mask)
        assert torch.isfinite(x).all()
        assert frame_mask.sum(dim=1).tolist() == [25, 0]


def test_values_of_a_known_sound():
    waveform = buzz(200, level=0.2)
    inner = slice(5, -5)
    front_end = DESCRIPTORS["lld32_lt"]()
    x = front_end(waveform, all_real(waveform))[0][0, inner]
    assert column(front_end, x, "f0_hz").mean() == pytest.approx(200, abs=1)
    assert column(front_end, x, "voicing").min() > 0.95
    assert column(front_end, x, "voicing").equal(x[:, front_end.VOICING])
    assert column(front_end, x, "log_energy").mean() == pytest.approx(float(waveform.square().mean().log()), abs=0.05)
    front_end = DESCRIPTORS["lld32"]()
    x = front_end(waveform, all_real(waveform))[0][0, inner]
    emphasized = waveform[:, 1:] - 0.97 * waveform[:, :-1]
    assert column(front_end, x, "rms").mean() == pytest.approx(float(emphasized.square().mean().sqrt()), rel=0.02)
    crossings = (waveform[:, 1:] * waveform[:, :-1] < 0).float().mean()
    assert column(front_end, x, "zcr").mean() == pytest.approx(float(crossings), rel=0.05)
    assert column(front_end, x, "hnr_db").min() > 20


def test_lld32_is_smoothed_and_the_other_is_not():
    waveform = torch.cat([buzz(200, 0.5), torch.zeros(1, 8000)], dim=1)
    for name, num_between in (("lld32", True), ("lld32_lt", False)):
        front_end = DESCRIPTORS[name]()
        f0_hz = column(front_end, front_end(waveform, all_real(waveform))[0], "f0_hz")[0]
        assert ((f0_hz > 20) & (f0_hz < 180)).any() == num_between


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_deltas_are_those_of_the_columns(name):
    front_end = DESCRIPTORS[name]()
    waveform = buzz(180, 0.5) + 0.5 * noise(8000)
    static, delta = front_end(waveform, all_real(waveform))[0][0].split(16, dim=1)
    by_hand = (static[3:-1] - static[1:-3] + 2 * (static[4:] - static[:-4])) / 10
    torch.testing.assert_close(delta[2:-2], by_hand, atol=1e-3, rtol=1e-4)


def test_zero_crossings_by_hand():
    waveform = torch.tensor([[1.0, 2.0, -1.0, -2.0, 0.0, 3.0, -1.0]])
    assert zero_crossings(waveform).tolist() == [[0, 0, 1, 0, 1, 0, 1]]


def test_means_of_frames_are_over_real_samples_around_their_time():
    values = torch.arange(1000.0)[None, None]
    mask = torch.arange(1000)[None] < 810
    means = frame_means(values, mask, window_length=400, hop_length=160)[0, 0]
    begins, ends = [max(0, 160 * t - 200) for t in range(7)], [min(810, 160 * t + 200) for t in range(7)]
    expected = [(begin + end - 1) / 2 for begin, end in zip(begins, ends, strict=True)]
    assert means[:6].tolist() == pytest.approx(expected[:6])


def test_smoothing_is_over_real_neighbours():
    x = torch.tensor([[[3.0, 6.0, 0.0, 9.0, 100.0]]])
    mask = torch.tensor([[True, True, True, True, False]])
    assert smooth(x, mask)[0, 0, :4].tolist() == pytest.approx([4.5, 3.0, 5.0, 4.5])


def test_cepstrum_by_hand():
    log_mel = torch.tensor([[[1.0], [2.0], [4.0]]])
    plain = [
        math.sqrt(2 / 3) * sum(v * math.cos(math.pi * c / 3 * (m + 0.5)) for m, v in enumerate((1, 2, 4)))
        for c in (1, 2)
    ]
    expected = [value * (1 + 11 * math.sin(math.pi * c / 22)) for c, value in enumerate(plain, start=1)]
    assert cepstrum(log_mel, num_coefficients=2)[0, :, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_lld32_agrees_with_the_configuration_of_its_authors_on_real_voices(real_data):
    opensmile = pytest.importorskip("opensmile")
    config = Path(opensmile.__file__).parent / "core" / "config" / "is09-13" / "IS09_emotion.conf"
    smile = {level: opensmile.Smile(feature_set=str(config), feature_level=level) for level in ("lld", "lld_de")}
    theirs_of = {"zcr": "pcm_zcr_sma", "rms": "pcm_RMSenergy_sma"}
    theirs_of |= {f"mfcc_{order}": f"pcm_fftMag_mfcc_sma[{order}]" for order in range(1, 13)}
    theirs_of |= {f"delta_{our}": their.replace("_sma", "_sma_de") for our, their in theirs_of.items()}
    front_end = DESCRIPTORS["lld32"]().eval()
    ours, theirs = {name: [] for name in theirs_of}, {name: [] for name in theirs_of}
    for actor, emotion, intensity in VOICES:
        name = f"Actor_{actor:02d}/03-01-{emotion:02d}-0{intensity}-01-01-{actor:02d}.flac"
        waveform = read_audio(real_data / "ravdess_speech" / name)
        static, delta = (smile[level].process_signal(waveform, RATE_HZ) for level in ("lld", "lld_de"))
        length = min(len(static), len(delta)) - 2
        later = torch.from_numpy(waveform)[
            None, 40:
        ]  # the middle of its frames, 12.5 ms after t * 10 ms, is where ours t + 1 are
        x = front_end(later, all_real(later))[0][0].numpy()[1 : 1 + length]
        voiced = column(front_end, x, "f0_hz") > 0
        for our, their in theirs_of.items():
            ours[our].append(column(front_end, x, our)[voiced])
            theirs[our].append((delta if "_de" in their else static)[their].to_numpy()[:length][voiced])
    agreement = {name: np.corrcoef(np.concatenate(ours[name]), np.concatenate(theirs[name]))[0, 1] for name in ours}
    assert sum(map(len, ours["zcr"])) > 1000
    assert min(agreement.values()) > 0.99, agreement
