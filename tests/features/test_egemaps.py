"""eGeMAPS by openSMILE: a column for each name, frames in their places, and nothing of padding."""

import copy
import math

import pytest
import torch

from avser.features.egemaps import EgemapsDescriptors

pytest.importorskip("opensmile")
HZ = 16000


def vowel(f0_hz, duration_s, formants_hz=(700, 1200, 2500)):
    """(N,) a buzz whose harmonics of F0 fall by 6 dB an octave, and stand out near the formants."""
    seconds = torch.arange(round(duration_s * HZ)) / HZ
    orders = range(1, int(4000 / f0_hz))
    levels = [(0.1 + sum(1 / (1 + ((k * f0_hz - f) / 80) ** 2) for f in formants_hz)) / k for k in orders]
    buzz = sum(a * torch.sin(2 * torch.pi * k * f0_hz * seconds) for k, a in zip(orders, levels, strict=True))
    return 0.3 * buzz / buzz.abs().max()


def padded(*voices, extra=0):
    longest = max(map(len, voices)) + extra
    mask = torch.arange(longest) < torch.tensor([len(v) for v in voices])[:, None]
    return torch.stack([torch.cat([v, torch.full((longest - len(v),), 0.5)]) for v in voices]), mask


def test_columns_are_what_their_names_say():
    features = EgemapsDescriptors()
    x, _ = features(*padded(vowel(150, 1.0)))
    middle = dict(zip(features.names, x[0, 30:60].median(dim=0).values.tolist(), strict=True))
    assert middle["f0_semitones"] == pytest.approx(12 * math.log2(150 / 27.5), abs=0.1)
    assert middle["f2_hz"] == pytest.approx(1200, rel=0.1)
    assert middle["f3_hz"] == pytest.approx(2500, rel=0.1)
    assert middle["hnr_db"] > 5
    assert middle["jitter"] < 0.01
    assert features.num_features == x.shape[2] == 25
    quiet = features(*padded(0.1 * vowel(150, 1.0)))[0]
    assert (quiet[0, 30:60, 0] < x[0, 30:60, 0]).all()  # loudness


def test_names_are_in_the_order_of_opensmile():
    import opensmile

    from avser.features.egemaps import _smile

    theirs = [name.partition("_sma3")[0] for name in _smile().feature_names]
    assert isinstance(_smile(), opensmile.Smile)
    assert theirs[:4] == ["Loudness", "alphaRatio", "hammarbergIndex", "slope0-500"]
    assert theirs[6:16:3] == ["mfcc1", "mfcc4", "shimmerLocaldB", "logRelF0-H1-A3"]
    assert theirs[16:] == [f"F{n}{what}" for n in (1, 2, 3) for what in ("frequency", "bandwidth", "amplitudeLogRelF0")]


def test_a_clip_is_measured_alone_whatever_it_is_padded_with():
    long, short, blip, none = vowel(120, 0.5), vowel(220, 0.3), vowel(200, 0.01), torch.zeros(0)
    features = copy.deepcopy(EgemapsDescriptors())
    x, mask = features(*padded(long, short, blip, none, extra=700))
    assert mask.sum(dim=1).tolist() == [46, 26, 1, 0]
    assert (x[~mask] == 0).all()
    assert torch.isfinite(x).all()
    alone, _ = features(*padded(short))
    assert torch.equal(x[1, :26], alone[0])


def test_a_sound_is_found_at_its_time():
    silence = torch.zeros(round(0.4 * HZ))
    features = EgemapsDescriptors()
    x, _ = features(*padded(torch.cat([silence, vowel(150, 0.2), silence])))
    loud = (x[0, :, 0] > x[0, :, 0].max() / 2).nonzero()[:, 0] * features.hop_s + features.offset_s
    assert loud[0].item() == pytest.approx(0.4, abs=0.03)
    assert loud[-1].item() == pytest.approx(0.6, abs=0.05)
