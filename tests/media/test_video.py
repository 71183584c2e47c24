from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.errors import MediaError
from avser.media.video import _nearest_to_grid, iterate_frames, probe

VFR_S = [0.0, 0.02, 0.09, 0.1, 0.4, 0.42, 0.44, 1.0]


def grey(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Frame k is uniformly 10 + 4k (count up to 60), so that a picture tells which frame it is."""
    return [np.full((height, width, 3), 10 + 4 * k, np.uint8) for k in range(count)]


def indices(frames) -> list[int]:
    return [round((float(f.image.mean()) - 10) / 4) for f in frames]


def corner(height: int = 32, width: int = 48) -> np.ndarray:
    """Black with a white top left quarter."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255
    return image


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm"])
def test_frames_carry_their_true_times(write_media, name):
    frames = list(iterate_frames(write_media(name, images=grey(8), times_s=VFR_S)))
    np.testing.assert_allclose([f.time_s for f in frames], VFR_S, atol=0.001)
    assert indices(frames) == list(range(8))
    assert frames[0].image.shape == (32, 48, 3)
    assert frames[0].image.dtype == np.uint8


def test_colours_are_red_green_blue(write_media):
    image = np.zeros((16, 16, 3), np.uint8)
    image[:] = (200, 100, 50)
    [frame] = iterate_frames(write_media("a.mkv", images=[image]))
    np.testing.assert_array_equal(frame.image, image)


@given(
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    start_ms=st.integers(0, 500),
    fps=st.floats(1, 100),
)
def test_frames_chosen_are_the_nearest_to_the_grid(steps, start_ms, fps):
    times = (start_ms + np.cumsum([0, *steps])) / 1000
    chosen = [t for t, _ in _nearest_to_grid(((t, None) for t in times), fps)]
    end = times[-1] + (times[-1] - times[-2]) / 2
    grid = np.arange(0, end, 1 / fps)
    distance = np.abs(grid[:, None] - times)
    clear = np.sort(distance, axis=1)[:, 1] - distance.min(axis=1) > 1e-9  # a tie may go either way
    nearest = distance.argmin(axis=1)
    assert {times[i] for i in nearest[clear]} <= set(chosen)
    assert len(chosen) <= len(set(nearest)) + np.count_nonzero(~clear) + 1
    assert all(a < b for a, b in pairwise(chosen))


def test_half_the_rate_is_every_second_frame(write_media):
    path = write_media("a.mkv", images=grey(20), fps=20)
    assert indices(iterate_frames(path, fps=10)) == list(range(0, 20, 2))


def test_a_source_slower_than_asked_gives_every_frame_once(write_media):
    path = write_media("a.mkv", images=grey(10), fps=10)
    assert indices(iterate_frames(path, fps=25)) == list(range(10))


def test_the_grid_starts_at_time_zero_even_when_the_picture_starts_late(write_media):
    path = write_media("a.mkv", images=grey(8), times_s=[0.3 + k / 20 for k in range(8)], audio=np.full(16000, 0.1))
    frames = list(iterate_frames(path, fps=10))
    np.testing.assert_allclose([f.time_s for f in frames], [0.3, 0.4, 0.5, 0.6], atol=1e-6)


@pytest.mark.parametrize("fps", [0, -1.0, float("nan")])
def test_a_rate_that_is_none(write_media, fps):
    with pytest.raises(MediaError, match="fps="):
        list(iterate_frames(write_media("a.mkv", images=grey(3)), fps=fps))


@pytest.mark.parametrize(("rotation", "quarter"), [(0, (0, 0)), (90, (1, 0)), (-90, (0, 1)), (180, (1, 1))])
def test_the_picture_is_turned_upright(write_media, rotation, quarter):
    """Turned counterclockwise, the white top left quarter comes to lie at the bottom left, and so on."""
    path = write_media("a.mp4", images=[corner()] * 3, rotation=rotation)
    image = next(iter(iterate_frames(path))).image
    height, width = (48, 32) if rotation in (90, -90) else (32, 48)
    assert image.shape == (height, width, 3)
    means = image.reshape(2, height // 2, 2, width // 2, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(means.argmax(), (2, 2)) == quarter
    assert np.sort(means.ravel())[-2] < 20


def test_a_part_of_a_file(write_media):
    path = write_media("a.mp4", images=grey(60), fps=25)
    frames = list(iterate_frames(path, start_s=2.0, end_s=2.2))
    assert indices(frames) == [50, 51, 52, 53, 54]
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(5) / 25, atol=0.001)


@pytest.mark.parametrize("key_every", [20, 250])
def test_a_part_is_found_where_seeking_misses_the_key_frame(write_media, key_every):
    """An MPEG transport stream has no index: seeking lands between key frames, or behind the only one."""
    rng = np.random.default_rng(0)
    noisy = [image + rng.integers(0, 4, (64, 96, 3), np.uint8) for image in grey(60, 64, 96)]
    warnings: list[str] = []
    path = write_media("a.ts", images=noisy, fps=10, key_every=key_every)
    frames = list(iterate_frames(path, start_s=3.5, end_s=3.8, warnings=warnings))
    np.testing.assert_allclose([f.time_s for f in frames], [0, 0.1, 0.2], atol=0.001)
    for frame, image in zip(frames, noisy[35:38], strict=True):
        np.testing.assert_allclose(frame.image.mean(), image.mean(), atol=1)
    assert warnings == []


def test_a_part_that_begins_between_frames(write_media):
    path = write_media("a.mkv", images=grey(10), fps=10)
    frames = list(iterate_frames(path, start_s=0.45, end_s=0.75))
    assert indices(frames) == [5, 6, 7]
    np.testing.assert_allclose([f.time_s for f in frames], [0.05, 0.15, 0.25], atol=1e-6)


def test_a_part_behind_the_end(write_media):
    with pytest.raises(MediaError, match="no picture between 5 s and 6 s"):
        list(iterate_frames(write_media("a.mkv", images=grey(3)), start_s=5.0, end_s=6.0))


def test_a_truncated_file_gives_what_is_left_and_says_so(write_media):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(50)]
    path = write_media("a.mkv", images=images)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    warnings: list[str] = []
    frames = list(iterate_frames(path, warnings=warnings))
    assert 25 <= len(frames) <= 30
    np.testing.assert_array_equal(frames[24].image, images[24])
    assert any("truncated" in w for w in warnings)


def test_a_whole_file_has_no_warnings(write_media):
    for name in ("a.mkv", "a.mp4", "a.avi", "a.webm"):
        warnings: list[str] = []
        assert len(list(iterate_frames(write_media(name, images=grey(30)), warnings=warnings))) == 30
        assert warnings == []


def test_no_video_track(write_media):
    with pytest.raises(MediaError, match="no video track"):
        list(iterate_frames(write_media("a.wav", audio=np.full(1600, 0.1))))


def test_a_cover_picture_is_no_video(write_media):
    path = write_media("a.mp3", audio=np.full(48000, 0.1), rate_hz=48000, cover=corner())
    info = probe(path)
    assert info.has_audio
    assert not info.has_video
    with pytest.raises(MediaError, match="no video track"):
        list(iterate_frames(path))


def test_pictures_too_large(write_media):
    path = write_media("a.mkv", images=[np.zeros((16, 8200, 3), np.uint8)])
    with pytest.raises(MediaError, match="8200x16 px; at most 8192"):
        list(iterate_frames(path))
    with pytest.raises(MediaError, match="8200x16 px"):
        probe(path)


def test_frames_are_not_hoarded(write_media):
    path = write_media("a.mkv", images=grey(60, 256, 256))
    tracemalloc.start()
    assert sum(1 for _ in iterate_frames(path, fps=20)) > 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 256 * 256 * 3


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", bytes(range(256)) * 40])
def test_files_that_are_no_media(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    for read in (probe, lambda p: list(iterate_frames(p))):
        with pytest.raises(MediaError, match=r"a\.mp4"):
            read(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm"])
def test_damaged_bytes_never_crash(write_media, name):
    rng = np.random.default_rng(0)
    path = write_media(name, images=[rng.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(12)])
    whole = path.read_bytes()
    for _ in range(25):
        damaged = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, len(damaged), rng.integers(1, 40))
        damaged[where] = rng.integers(0, 256, len(where))
        path.write_bytes(damaged[: rng.integers(len(damaged) // 2, len(damaged) + 1)].tobytes())
        try:
            times = [f.time_s for f in iterate_frames(path)]
        except MediaError:
            continue
        assert all(a < b for a, b in pairwise(times))


def test_probe(write_media):
    info = probe(write_media("a.mp4", images=grey(50), audio=np.full((2, 88200), 0.1), rate_hz=44100))
    assert info.duration_s == pytest.approx(2, abs=0.05)
    assert info.fps == pytest.approx(25)
    assert (info.has_audio, info.has_video) == (True, True)
    assert (info.width_px, info.height_px) == (48, 32)
    assert (info.sample_rate_hz, info.num_channels) == (44100, 2)


@pytest.mark.real_data
def test_every_frame_of_real_clips(real_data):
    clips = sorted((real_data / "cremad" / "VideoFlash").glob("*.flv"))
    frames = [list(iterate_frames(clip)) for clip in clips]
    assert sum(map(len, frames)) == 379
    for clip in frames:
        steps = np.diff([f.time_s for f in clip])
        assert steps.min() > 0.03
        assert steps.max() < 0.07
