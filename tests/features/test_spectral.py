"""Log-mel planes: against librosa, by hand, and blind to padding."""

import numpy as np
import pytest
import torch

from avser.features.spectral import LogMel, LogSpectrogram, log_mel_3d, regression_delta, standardize


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


def test_normalising_each_band_removes_the_colour_of_the_channel():
    front_end = LogMel(normalize="band")
    waveform = noise(16000)
    plain, mask = front_end(waveform, all_real(waveform))
    assert mask.all()
    torch.testing.assert_close(plain[:, 0].mean(dim=2), torch.zeros(1, 64), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain[:, 0].std(dim=2, correction=0), torch.ones(1, 64), atol=1e-3, rtol=0)


def speech(real_data, seconds=None):
    """(1, N) samples at 16 kHz of a real recording."""
    from avser.media.audio import read_audio

    voice = read_audio(min((real_data / "ravdess_speech" / "Actor_01").glob("*.flac")))
    return torch.from_numpy(voice)[None, : None if seconds is None else round(16000 * seconds)]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"mel_scale": "slaney", "window": "hamming"}, {"htk": False, "window": "hamming"}),
        ({"filter_norm": None, "power": 1.0, "fft_length": 1024}, {"norm": None, "power": 1.0, "n_fft": 1024}),
        ({"preemphasis": 0.97}, {"preemphasis": 0.97}),
    ],
)
def test_every_option_agrees_with_librosa_on_speech(real_data, options, theirs):
    librosa = pytest.importorskip("librosa")
    waveform = speech(real_data)
    ours = LogMel(num_mels=40, max_hz=8000, log="log10", log_floor=1e-4, **options).log_mel(
        waveform, all_real(waveform)
    )
    settings = {
        "sr": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "fmin": 50, "htk": True, **theirs
    }  # fmt: skip
    y = waveform[0].numpy()
    if (amount := settings.pop("preemphasis", None)) is not None:
        y = librosa.effects.preemphasis(y, coef=amount, zi=[0.0])
    reference = np.log10(librosa.feature.melspectrogram(y=y, **settings)[:, : ours.shape[2]] + 1e-4)
    assert np.abs(ours[0].numpy() - reference).max() < 0.01
    assert np.corrcoef(ours.flatten(), reference.flatten())[0, 1] > 0.999


@pytest.mark.real_data
def test_decibels_are_those_of_librosa(real_data):
    librosa = pytest.importorskip("librosa")
    waveform = speech(real_data)
    power = LogMel(log="db", log_floor=1e-8).log_mel(waveform, all_real(waveform))[0]
    plain = (LogMel(log_floor=0.0).log_mel(waveform, all_real(waveform))[0]).exp().numpy()
    np.testing.assert_allclose(power, librosa.power_to_db(plain, amin=1e-8, top_db=None), atol=1e-3)
    magnitude = LogMel(log="db", power=1.0, log_floor=1e-4).log_mel(waveform, all_real(waveform))[0]
    plain = (LogMel(log_floor=0.0, power=1.0).log_mel(waveform, all_real(waveform))[0]).exp().numpy()
    np.testing.assert_allclose(magnitude, librosa.amplitude_to_db(plain, amin=1e-4, top_db=None), atol=1e-3)


@pytest.mark.parametrize("options", [{"window": "hanning"}, {"log": "log2"}, {"power": 3.0}, {"num_channels": 2},
                                     {"triangles": "bark"}, {"fft_length": 256}])  # fmt: skip
def test_what_is_not_offered_is_refused(options):
    with pytest.raises(ValueError, match="take"):
        LogMel(**options)


def test_one_channel_is_the_static_plane():
    waveform = noise(8000)
    three, _ = LogMel(normalize="none")(waveform, all_real(waveform))
    one, _ = LogMel(normalize="none", num_channels=1)(waveform, all_real(waveform))
    assert one.shape == (1, 1, 64, 50)
    torch.testing.assert_close(one, three[:, :1])


def test_another_window_may_be_put_in_place():
    front_end, waveform = LogMel(), noise(4000)
    before = front_end.log_mel(waveform, all_real(waveform))
    front_end.window = torch.ones(400)
    assert not torch.allclose(front_end.log_mel(waveform, all_real(waveform)), before, atol=0.1)


def test_frames_that_are_not_centred_hold_only_the_clip():
    front_end = LogMel(centered=False, normalize="none", num_channels=1)
    assert front_end.offset_s == pytest.approx(0.0125)
    assert LogMel().offset_s == 0.0
    waveform = torch.zeros(1, 16000)
    waveform[0, 8200] = 1.0  # the middle of frame 50, which covers 8000 to 8399
    planes, mask = front_end(waveform, all_real(waveform))
    assert int(mask.sum()) == planes.shape[3] == 98  # 1 + (16000 - 400) // 160
    assert planes[0, 0].sum(dim=0).argmax() == 50
    short, mask = front_end(noise(100), torch.ones(1, 100, dtype=torch.bool))
    assert mask.tolist() == [[True]]
    assert short.abs().max() > 0


def test_mel_triangles_are_straight_over_mel_and_blind_to_0_hz():
    filters = LogMel(triangles="mel", min_hz=0.0, num_mels=4, fft_length=1024).filters
    hz = torch.arange(513) * 16000 / 1024
    mel = 2595 * torch.log10(1 + hz / 700)
    spacing = 2595 * np.log10(1 + 8000 / 700) / 5
    by_hand = torch.minimum(mel / spacing - 1, 3 - mel / spacing).clamp(min=0)  # of the second of the four bands
    torch.testing.assert_close(filters[:, 1], by_hand, atol=1e-4, rtol=0)
    assert (LogMel(triangles="mel", min_hz=-20.0, num_mels=4).filters[0] == 0).all()


@pytest.mark.parametrize("num_mels", [40, 64])
def test_log_mel_3d_gives_three_planes_as_they_are(num_mels):
    front_end = log_mel_3d(num_mels=num_mels)
    waveform = noise(16000)
    planes, mask = front_end(waveform, all_real(waveform))
    assert planes.shape == (1, 3, num_mels, 100)
    assert mask.all()
    by_hand = planes[0, :, :, 10:15]
    delta = (by_hand[0, :, 3] - by_hand[0, :, 1] + 2 * (by_hand[0, :, 4] - by_hand[0, :, 0])) / 10
    torch.testing.assert_close(planes[0, 1, :, 12], delta, atol=1e-5, rtol=0)
    delta = planes[0, 1, :, 10:15]
    delta = (delta[:, 3] - delta[:, 1] + 2 * (delta[:, 4] - delta[:, 0])) / 10
    torch.testing.assert_close(planes[0, 2, :, 12], delta, atol=1e-5, rtol=0)
    assert front_end.num_features == num_mels
    assert (front_end.filters.max(dim=0).values > 0.3).all()  # triangles of height 1, none between the bins


def test_durations_scale_with_the_sampling_rate():
    for make in (log_mel_3d, lambda rate: LogSpectrogram(sample_rate_hz=rate)):
        for rate in (8000, 16000, 48000):
            front_end = make(rate)
            planes, mask = front_end(*[f(1, rate) for f in (torch.rand, lambda *s: torch.ones(s, dtype=torch.bool))])
            assert front_end.hop_s == pytest.approx(0.010)
            assert planes.shape[3] == int(mask.sum()) == 100


@pytest.mark.real_data
def test_the_log_spectrogram_is_that_of_librosa(real_data):
    librosa = pytest.importorskip("librosa")
    waveform = speech(real_data)
    planes, mask = LogSpectrogram(preemphasis=0.97)(waveform, all_real(waveform))
    assert mask.all()
    y = librosa.effects.preemphasis(waveform[0].numpy(), zi=[0.0])
    magnitude = np.abs(librosa.stft(y, n_fft=800, win_length=640, hop_length=160, window="hamming"))
    reference = librosa.amplitude_to_db(magnitude, ref=np.max)[:200, : planes.shape[3]]
    assert planes.shape == (1, 1, 200, reference.shape[1])
    np.testing.assert_allclose(planes[0, 0], reference, atol=0.01)
    assert planes.min() >= -80


def test_the_log_spectrogram_peaks_at_a_tone_and_ignores_gain():
    waveform = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    front_end = LogSpectrogram()
    planes, _ = front_end(0.1 * waveform, all_real(waveform))
    assert (planes[0, 0, :, 5:-5].argmax(dim=0) == 50).all()  # 20 Hz a bin
    assert planes.max() == pytest.approx(0, abs=1e-4)
    louder, _ = front_end(waveform, all_real(waveform))
    torch.testing.assert_close(louder, planes, atol=0.02, rtol=0)


@pytest.mark.parametrize("make", [LogSpectrogram, log_mel_3d, lambda: LogMel(centered=False, preemphasis=0.97)])
@pytest.mark.parametrize("seconds", [0.3, 1.01, 15.0])
def test_no_front_end_sees_padding_or_neighbours(make, seconds):
    num, front_end = round(seconds * 16000), make()
    short = noise(num)
    short[0, -20:] += 30  # loudest in the frame after the last
    alone, alone_mask = front_end(short, all_real(short))
    assert alone_mask.all()
    padded = torch.cat([torch.nn.functional.pad(short, (0, 4321)), 10 * noise(num + 4321, seed=1)])
    mask = torch.arange(num + 4321) < torch.tensor([[num], [num + 4321]])
    together, together_mask = front_end(padded + 3.0 * ~mask, mask)
    assert int(together_mask[0].sum()) == alone.shape[3]
    torch.testing.assert_close(together[:1, ..., : alone.shape[3]], alone, atol=1e-4, rtol=0)
    assert (together[0, ..., alone.shape[3] :] == 0).all()


@pytest.mark.parametrize("make", [LogSpectrogram, log_mel_3d, lambda: LogMel(centered=False)])
def test_the_shortest_and_the_silent_clip(make):
    front_end = make()
    planes, mask = front_end(noise(1), torch.ones(1, 1, dtype=torch.bool))
    assert mask.tolist() == [[True]]
    assert torch.isfinite(planes).all()
    planes, mask = front_end(torch.zeros(2, 3000), torch.arange(3000) < torch.tensor([[3000], [0]]))
    assert torch.isfinite(planes).all()
    assert not mask[1].any()


@pytest.mark.parametrize("make", [LogMel, log_mel_3d, LogSpectrogram])
def test_mixed_precision_of_training_measures_the_same(make):
    front_end, waveform = make(), torch.sin(torch.arange(8000) / 20)[None]
    with torch.autocast("cpu", torch.bfloat16):
        half = front_end(waveform, all_real(waveform))[0]
    assert torch.equal(half, front_end(waveform, all_real(waveform))[0])


@pytest.mark.parametrize("make", [LogMel, log_mel_3d, LogSpectrogram])
@pytest.mark.parametrize(("num_clips", "num_samples", "num_frames"), [(2, 0, 0), (0, 4000, 25)])
def test_no_samples_and_no_clips_give_empty_planes(make, num_clips, num_samples, num_frames):
    mask = torch.zeros(num_clips, num_samples, dtype=torch.bool)
    planes, frame_mask = make()(torch.zeros(num_clips, num_samples), mask)
    assert planes.shape[0] == frame_mask.shape[0] == num_clips
    assert planes.shape[3] == frame_mask.shape[1] == num_frames
