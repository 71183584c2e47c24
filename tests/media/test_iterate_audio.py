"""A voice read piece by piece is the voice read at once."""

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.audio import decode_audio, iterate_audio, resample


@pytest.mark.parametrize(("name", "rate_hz"), [("a.wav", 44100), ("a.mp4", 48000), ("a.mp3", 16000), ("a.webm", 48000)])
def test_pieces_joined_are_the_whole(write_media, name, rate_hz):
    samples = 0.4 * np.sin(np.arange(rate_hz * 3) * 2 * np.pi * 220 / rate_hz)[None]
    path = write_media(name, audio=samples, rate_hz=rate_hz)
    whole, told = decode_audio(path, sample_rate_hz=16000)
    warnings = []
    pieces = list(iterate_audio(path, sample_rate_hz=16000, warnings=warnings))
    assert len(pieces) > 5
    assert (np.concatenate(pieces) == whole).all()
    assert warnings == told


def test_gaps_and_late_starts_are_silence(write_media):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    images = [np.zeros((32, 32, 3), np.uint8)] * 100
    path = write_media("a.mkv", audio=noise, audio_starts=[0.5, 3.0], images=images)
    whole, told = decode_audio(path)
    warnings = []
    pieces = list(iterate_audio(path, warnings=warnings))
    assert (np.concatenate(pieces) == whole).all()
    assert any("gaps" in warning for warning in warnings)
    assert warnings == told
    assert max(map(len, pieces)) <= 16000


def test_one_channel_of_two(write_media):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16000))
    path = write_media("a.wav", audio=noise)
    left, right = (np.concatenate(list(iterate_audio(path, channel=c))) for c in (0, 1))
    assert left == pytest.approx(noise[0], abs=1e-4)
    assert right == pytest.approx(noise[1], abs=1e-4)


def test_what_is_no_voice_is_refused(tmp_path, write_media):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing")
    with pytest.raises(MediaError, match="not readable"):
        list(iterate_audio(broken))
    with pytest.raises(MediaError, match="no audio track"):
        list(iterate_audio(write_media("silent.mp4", images=[np.zeros((32, 32, 3), np.uint8)] * 5)))


def test_samples_at_another_rate():
    tone = np.sin(np.arange(44100) * 2 * np.pi * 440 / 44100)
    changed = resample(tone, 44100, 16000)
    assert len(changed) == pytest.approx(16000, abs=2)
    expected = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)
    assert np.corrcoef(changed[2000:14000], expected[2000:14000])[0, 1] > 0.999
    assert (resample(tone, 16000, 16000) == tone.astype(np.float32)).all()
    with pytest.raises(MediaError, match="sampling rate"):
        resample(tone, 0, 16000)
