"""A film has every picture at its time and the sound of the recording; it is there whole or not at all."""

import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.audio import decode_audio, iterate_audio
from avser.media.film import write_film
from avser.media.video import Frame, iterate_frames, probe


def test_pictures_and_both_channels_keep_their_times(write_media, tmp_path):
    rate, times = 48000, [0.0, 0.04, 0.1, 0.5, 0.9, 1.4]
    t = np.arange(rate * 3 // 2) / rate
    stereo = 0.4 * np.stack([np.sin(2 * np.pi * 300 * t) * (t > 0.7), np.sin(2 * np.pi * 500 * t) * (t < 0.7)])
    sound = write_media("sound.wav", audio=stereo, rate_hz=rate)
    frames = [Frame(s, np.full((48, 64, 3), 20 + 30 * i, np.uint8)) for i, s in enumerate(times)]
    path = tmp_path / "folder" / "film.mp4"
    write_film(path, iter(frames), sound)
    assert probe(path).num_channels == 2
    read = list(iterate_frames(path))
    assert [frame.time_s for frame in read] == pytest.approx(times, abs=0.002)
    assert [int(frame.image.mean()) for frame in read] == pytest.approx([20 + 30 * i for i in range(6)], abs=6)
    for channel in (0, 1):
        heard = np.concatenate(list(iterate_audio(path, sample_rate_hz=rate, channel=channel)))[: len(t)]
        assert np.corrcoef(heard, stereo[channel][: len(heard)])[0, 1] > 0.98
    assert list(path.parent.iterdir()) == [path]


def test_a_silent_film_and_none_at_all(write_media, tmp_path):
    frames = [Frame(i / 10, np.zeros((32, 32, 3), np.uint8)) for i in range(5)]
    write_film(tmp_path / "a.mp4", frames, None)
    assert not probe(tmp_path / "a.mp4").has_audio
    with pytest.raises(MediaError, match="no audio"):
        decode_audio(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="no pictures"):
        write_film(tmp_path / "b.mp4", [], None)

    def failing():
        yield frames[0]
        raise MediaError("the recording is damaged")

    with pytest.raises(MediaError, match="damaged"):
        write_film(tmp_path / "b.mp4", failing(), None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
