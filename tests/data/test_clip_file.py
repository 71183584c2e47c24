from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from avser.data.clip_file import read_about, read_clip_file, read_fingerprint, write_clip
from avser.data.fingerprint import fingerprint_audio
from avser.errors import CacheError, MediaError
from avser.media.jpeg import JpegCrops, encode_jpeg
from avser.structures import Clip, FaceTrack, FeatureTrack


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
    values = np.where(found[:, None], rng.random((num_frames, 2), np.float32), 0)
    features = FeatureTrack(np.arange(num_frames) / 5, values, found, ["AU01_r", "AU12_r"])
    return Clip("x", 0.5, waveform, 8000, face, features, ["two faces; took the longest track"])


def test_round_trip(tmp_path):
    clip = some_clip()
    write_clip(tmp_path / "x", clip, key="k", partial="p")
    back = read_clip_file(tmp_path / "x")
    assert (back.clip_id, back.duration_s, back.sample_rate_hz, back.warnings) == ("x", 0.5, 8000, clip.warnings)
    np.testing.assert_allclose(back.waveform, clip.waveform, atol=0.51 / 32768)
    for name in ("times", "found", "boxes", "landmarks", "blendshapes"):
        np.testing.assert_array_equal(getattr(back.face, name), getattr(clip.face, name))
    assert np.abs(back.face.crops[:].astype(int) - clip.face.crops).max() <= 3  # plain colours
    assert not back.face.crops[1].any()
    for name in ("times", "values", "found", "names"):
        np.testing.assert_array_equal(getattr(back.face_features, name), getattr(clip.face_features, name))
    about = read_about(tmp_path / "x")
    assert (about["key"], about["partial"]) == ("k", "p")
    assert about["parts"] == ["audio", "video", "landmarks", "blendshapes", "face_features"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("part", ["landmarks", "blendshapes"])
def test_measures_of_the_face_come_with_their_track(tmp_path, part):
    write_clip(tmp_path / "x", some_clip())
    face = read_clip_file(tmp_path / "x", [part]).face
    assert [name for name in ("landmarks", "blendshapes") if getattr(face, name) is not None] == [part]
    assert len(face.times) == 5


@pytest.mark.parametrize("parts", [["audio"], ["video"], ["face_features"], ["audio", "face_features"], []])
def test_only_the_parts_asked_for_are_read(tmp_path, parts):
    write_clip(tmp_path / "x", some_clip())
    clip = read_clip_file(tmp_path / "x", parts)
    there = {"audio": clip.waveform, "video": clip.face, "face_features": clip.face_features}
    assert [part for part, value in there.items() if value is not None] == parts
    assert clip.duration_s == 0.5


def test_landmarks_stay_on_the_disk_where_nobody_wants_them(tmp_path):
    write_clip(tmp_path / "x", some_clip())
    face = read_clip_file(tmp_path / "x", parts=("audio", "video")).face
    assert (face.landmarks, face.blendshapes) == (None, None)
    assert len(face.crops) == len(face.boxes) == 5


def test_crops_that_are_jpeg_already_are_written_as_they_are(tmp_path):
    clip = some_clip()
    images = [
        encode_jpeg(crop, 40) if seen else b"" for crop, seen in zip(clip.face.crops, clip.face.found, strict=True)
    ]
    clip.face.crops = JpegCrops.from_images(images, 16)
    write_clip(tmp_path / "x", clip)
    back = read_clip_file(tmp_path / "x").face.crops
    assert back.data.tobytes() == b"".join(images)
    np.testing.assert_array_equal(back[:], clip.face.crops[:])


def test_a_face_without_landmarks(tmp_path):
    clip = some_clip()
    clip.face.landmarks = clip.face.blendshapes = None
    write_clip(tmp_path / "x", clip)
    assert read_clip_file(tmp_path / "x").face.landmarks is None


@given(arrays(np.int16, 50))
def test_sixteen_bit_samples_survive_exactly(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("clip") / "x"
    write_clip(path, Clip("x", 1.0, samples.astype(np.float32) / 32768))
    np.testing.assert_array_equal(read_clip_file(path).waveform * 32768, samples)


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    write_clip(tmp_path / "x", Clip("x", 1.0, np.array([1.5, -1.5, 1.0], np.float32)))
    np.testing.assert_allclose(read_clip_file(tmp_path / "x").waveform, [1, -1, 1], atol=1e-4)


def test_others_may_read_the_file_as_they_may_read_any(tmp_path):
    (tmp_path / "any").touch()
    write_clip(tmp_path / "x", some_clip())
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "any").stat().st_mode


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
    "landmarks too few": {"landmarks": np.zeros((2, 478, 2), np.float32)},
    "no bounds of the crops": {"crop_offsets": np.zeros(0, np.int64)},
    "a feature too few": {"feature_values": np.zeros((5, 1), np.float32)},
    "feature times too few": {"feature_times": np.zeros(4)},
    "feature not finite": {"feature_values": np.full((5, 2), np.nan, np.float32)},
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


@pytest.mark.parametrize("crop", [b"no image", encode_jpeg(np.zeros((8, 8, 3), np.uint8))], ids=["no JPEG", "small"])
def test_a_damaged_crop_shows_when_it_is_looked_at(tmp_path, crop):
    clip = some_clip()
    images = [encode_jpeg(image) for image in clip.face.crops]
    images[2] = crop
    clip.face.crops = JpegCrops.from_images(images, 16)
    write_clip(tmp_path / "x", clip)
    crops = read_clip_file(tmp_path / "x").face.crops
    np.testing.assert_array_equal(crops[:2].shape, (2, 16, 16, 3))
    with pytest.raises(MediaError):
        crops[1:3]


@pytest.mark.parametrize("about", ["", "[]", json.dumps({"clip_id": "x"})])
def test_metadata_that_does_not_do_is_damage(tmp_path, about):
    path = tmp_path / "x"
    save_file({"waveform": np.zeros(3, np.int16)}, path, metadata={"clip": about})
    with pytest.raises(CacheError, match="damaged"):
        read_clip_file(path)


def test_the_fingerprint_is_that_of_the_stored_voice(tmp_path):
    waveform = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    write_clip(tmp_path / "x", Clip("x", 1.0, waveform, 16000))
    codes = read_fingerprint(tmp_path / "x")
    np.testing.assert_array_equal(codes, fingerprint_audio(read_clip_file(tmp_path / "x").waveform, 16000))
    assert codes.any()
    write_clip(tmp_path / "x", Clip("x", 1.0, None))
    assert read_fingerprint(tmp_path / "x").shape == (0,)


def test_damaged_fingerprints_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_fingerprint(tmp_path / "x")
    voice = {"waveform": np.zeros(9, np.int16)}
    for tensors in (voice, voice | {"fingerprint": np.zeros(9, np.int64)}):
        save_file(tensors, tmp_path / "x", metadata={"clip": "{}"})
        with pytest.raises(CacheError, match=r"damaged .*fingerprint.*delete it and run `avser cache` again"):
            read_fingerprint(tmp_path / "x")
