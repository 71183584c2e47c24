from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from avser.data.clip_file import read_about, read_clip_file, write_clip
from avser.errors import CacheError, MediaError
from avser.structures import Clip, FaceTrack


def some_clip(num_frames: int = 5) -> Clip:
    rng = np.random.default_rng(0)
    found = np.ones(num_frames, bool)
    found[1] = False
    crops = np.broadcast_to(rng.integers(0, 256, (num_frames, 1, 1, 3)), (num_frames, 16, 16, 3)).astype(np.uint8)
    crops[~found] = 0
    face = FaceTrack(
        np.arange(num_frames) / 10,
        crops,
        found,
        rng.random((num_frames, 4), np.float32),
        rng.random((num_frames, 478, 2), np.float32),
        rng.random((num_frames, 52), np.float32),
    )
    waveform = rng.uniform(-1, 1, 800).astype(np.float32)
    return Clip("x", 0.5, waveform, 8000, face, ["two faces; took the longest track"])


def test_round_trip(tmp_path):
    clip = some_clip()
    write_clip(tmp_path / "x", clip, key="k", partial="p")
    back = read_clip_file(tmp_path / "x")
    assert (back.clip_id, back.duration_s, back.sample_rate_hz, back.warnings) == ("x", 0.5, 8000, clip.warnings)
    np.testing.assert_allclose(back.waveform, clip.waveform, atol=0.51 / 32768)
    for name in ("times", "found", "boxes", "landmarks", "blendshapes"):
        np.testing.assert_array_equal(getattr(back.face, name), getattr(clip.face, name))
    assert np.abs(back.face.crops.astype(int) - clip.face.crops).max() <= 3  # plain colours
    assert not back.face.crops[1].any()
    about = read_about(tmp_path / "x")
    assert (about["key"], about["partial"], about["modalities"]) == ("k", "p", ["audio", "video"])
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@given(arrays(np.int16, 50))
def test_sixteen_bit_samples_survive_exactly(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("clip") / "x"
    write_clip(path, Clip("x", 1.0, samples.astype(np.float32) / 32768))
    np.testing.assert_array_equal(read_clip_file(path).waveform * 32768, samples)


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    write_clip(tmp_path / "x", Clip("x", 1.0, np.array([1.5, -1.5, 1.0], np.float32)))
    np.testing.assert_allclose(read_clip_file(tmp_path / "x").waveform, [1, -1, 1], atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voice_that_is_not_finite_is_not_written(tmp_path, value):
    with pytest.raises(MediaError, match="not finite"):
        write_clip(tmp_path / "x", Clip("x", 1.0, np.array([0, value], np.float32)))
    assert list(tmp_path.iterdir()) == []


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_clip_file(tmp_path / "x")
    assert read_about(tmp_path / "x") == {}


DAMAGE = {
    "float voice": {"waveform": np.full(8, np.nan, np.float32)},
    "two-dimensional voice": {"waveform": np.zeros((2, 4), np.int16)},
    "time not finite": {"times": np.array([0, 1, np.nan, 3, 4])},
    "times too few": {"times": np.zeros(4)},
    "boxes too few": {"boxes": np.zeros((4, 4), np.float32)},
    "offsets beyond the bytes": {"crop_offsets": np.array([0, 1, 2, 3, 4, 10**9])},
    "offsets run back": {"crop_offsets": np.array([0, 9, 3, 9, 9, 9]), "crops": np.zeros(9, np.uint8)},
    "no JPEG": {"crops": np.zeros(5, np.uint8), "crop_offsets": np.arange(6)},
    "landmarks too few": {"landmarks": np.zeros((2, 478, 2), np.float32)},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_parts_that_do_not_fit_are_damage(tmp_path, damage):
    path = tmp_path / "x"
    write_clip(path, some_clip())
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    save_file(load_file(path) | damage, path, metadata=metadata)
    with pytest.raises(CacheError, match=r"x: damaged .*avser cache"):
        read_clip_file(path)


@pytest.mark.parametrize("about", ["", "[]", json.dumps({"clip_id": "x"})])
def test_metadata_that_does_not_do_is_damage(tmp_path, about):
    path = tmp_path / "x"
    save_file({"waveform": np.zeros(3, np.int16)}, path, metadata={"clip": about})
    with pytest.raises(CacheError, match="damaged"):
        read_clip_file(path)
