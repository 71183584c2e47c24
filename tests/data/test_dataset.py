from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avser.config import ModelConfig
from avser.data import dataset as module
from avser.data.cache import ClipCache, build_cache
from avser.data.dataset import (
    ClipDataset,
    Example,
    cached_rows,
    collate,
    length_bucketed_batches,
    parts_of,
    spread_evenly,
)
from avser.data.manifest import ClipRow
from avser.errors import CacheError, ManifestError
from avser.structures import Clip, FaceTrack, FeatureTrack


def rows(*emotions: str) -> list[ClipRow]:
    return [ClipRow(str(i), "toy", "1", emotion, f"{i}.wav") for i, emotion in enumerate(emotions)]


def example(clip_id: str, num_samples: int | None, num_frames: int | None, label: int | None = 0) -> Example:
    waveform = None if num_samples is None else np.full(num_samples, 0.5, np.float32)
    face = None
    if num_frames is not None:
        found = np.ones(num_frames, bool)
        found[0] = False
        crops = np.zeros((num_frames, 4, 6, 3), np.uint8)
        crops[..., 1] = 7  # green
        face = FaceTrack(0.1 * np.arange(1, num_frames + 1), crops, found, np.zeros((num_frames, 4), np.float32))
    return Example(clip_id, Clip(clip_id, 1.0, waveform, 16000, face), label)


# --- collate ---


def test_padding_and_masks():
    batch = collate([example("a", 5, 2, label=1), example("b", 3, 4, label=0)])
    assert batch.clip_ids == ["a", "b"]
    assert batch.waveform.tolist() == [[0.5] * 5, [0.5] * 3 + [0] * 2]
    assert batch.waveform_mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert batch.frames.shape == (2, 4, 3, 4, 6)
    assert batch.frames.dtype == torch.uint8
    assert (batch.frames[0, :2, 1] == 7).all()
    assert not batch.frames[0, 2:].any()
    assert not batch.frames[:, :, 0].any()
    assert batch.frame_mask.tolist() == [[False, True, False, False], [False, True, True, True]]
    torch.testing.assert_close(batch.frame_times, torch.tensor([[0.1, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]]))
    assert batch.labels.tolist() == [1, 0]
    assert batch.sample_rate_hz == 16000


def test_a_clip_without_a_modality_is_masked_throughout():
    batch = collate([example("a", 5, None), example("b", None, 4)])
    assert batch.waveform_mask.any(1).tolist() == [True, False]
    assert batch.frame_mask.any(1).tolist() == [False, True]
    assert torch.isfinite(batch.frame_times).all()


def test_a_modality_that_nobody_has_or_wants_is_none():
    batch = collate([example("a", 5, None), example("b", 3, None)])
    assert batch.frames is batch.frame_times is batch.frame_mask is None
    batch = collate([example("a", 5, 2)], parts=["video"])
    assert batch.waveform is batch.waveform_mask is None
    assert batch.frames is not None


def test_one_unknown_label_leaves_the_batch_without():
    assert collate([example("a", 5, None, label=1), example("b", 3, None, label=None)]).labels is None


def test_clips_of_two_caches_do_not_mix():
    other = example("b", 3, 2)
    other.clip.sample_rate_hz = 8000
    with pytest.raises(CacheError, match=r"\[8000, 16000\] Hz"):
        collate([example("a", 5, 2), other])
    other = example("b", 3, 2)
    other.clip.face.crops = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(CacheError, match=r"\(4, 6\), \(8, 8\)"):
        collate([example("a", 5, 2), other])


# --- dataset ---


@pytest.fixture
def cache(corpus, media, tmp_path):
    build_cache(corpus, tmp_path / "cache", media, progress=False)
    return ClipCache(tmp_path / "cache")


def test_examples(corpus, cache):
    clips = ClipDataset(corpus.rows, cache, ["fear", "anger"])
    assert len(clips) == 4
    assert [(clips[i].clip_id, clips[i].label) for i in range(4)] == [("a", 1), ("b", 0), ("c", 1), ("d", 0)]
    assert len(clips[0].clip.waveform) == 8000
    assert len(clips[0].clip.face) == 6
    assert clips.durations_s() == pytest.approx([0.5, 0.8, 0.3, 1 / 3], abs=0.05)


def test_rows_without_emotion_and_with_one_of_another_label_set(corpus, cache):
    blank = [replace(corpus.rows[0], emotion=""), *corpus.rows[1:]]
    assert ClipDataset(blank, cache, ["anger", "fear"]).labels == [None, 1, 0, 1]
    with pytest.raises(ManifestError, match=r"clip b: fear is not in the label set \['anger'\]"):
        ClipDataset(corpus.rows, cache, ["anger"])


def test_memory_spares_the_second_reading(corpus, cache, monkeypatch):
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"])
    assert clips[0] is clips[0]
    assert ClipDataset(corpus.rows, cache, ["anger", "fear"], keep_in_memory=False)[0] is not clips[0]
    monkeypatch.setattr(module, "MEMORY_BYTES", 60_000)  # a has 32000 + 18432 bytes, c 19200
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"])
    assert clips[0] is clips[0]
    assert clips[2] is not clips[2]


def test_memory_counts_whatever_a_clip_holds():
    points = np.zeros((5, 478, 2), np.float32)
    face = FaceTrack(np.arange(5.0), np.zeros((5, 4, 6, 3), np.uint8), np.ones(5, bool), np.zeros((5, 4)), points)
    clip = Clip("a", 1.0, np.zeros(100, np.float32), 16000, face, face_features=features([0.0, 0.1, 0.2], num=7))
    assert module._num_bytes(clip) == 400 + 5 * 4 * 6 * 3 + 5 * 478 * 2 * 4 + 3 * 7 * 4


def test_long_clips_are_cut_in_both_modalities(corpus, cache):
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"], max_duration_s=0.25)
    clip = clips[0].clip
    assert len(clip.waveform) == 4000
    assert clip.face.times.max() < 0.25
    assert len(clip.face) == len(clip.face.crops) == len(clip.face.found) == 3  # at 0, 1/12 and 2/12 s
    assert clip.duration_s == 0.25
    assert clips.durations_s() == [0.25] * 4
    assert len(clips[2].clip.waveform) == 4000


def test_a_few_frames_evenly_spaced(corpus, cache):
    clip = ClipDataset(corpus.rows, cache, ["anger", "fear"], num_frames=3)[0].clip
    whole = cache.load("a").face
    assert clip.face.times == pytest.approx(whole.times[[1, 3, 5]])
    assert np.array_equal(clip.face.crops, whole.crops[[1, 3, 5]])
    assert len(clip.waveform) == 8000
    assert spread_evenly(4, 9).tolist() == [0, 1, 2, 3]
    assert spread_evenly(100, 4).tolist() == [12, 37, 62, 87]


def test_soft_labels_reach_the_batch(corpus, cache):
    targets = {clip_id: np.array([0.25, 0.75], np.float32) for clip_id in "abcd"}
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"], targets=targets)
    assert collate([clips[0], clips[1]]).targets.tolist() == [[0.25, 0.75]] * 2
    hard = ClipDataset(corpus.rows, cache, ["anger", "fear"])
    assert collate([clips[0], hard[1]]).targets is None


def test_a_damaged_crop_names_the_clip_and_what_to_do(corpus, cache):
    path = cache.folder / "clips" / "a.safetensors"
    data = bytearray(path.read_bytes())
    place = data.rindex(b"\xff\xd8\xff")  # the last crop's head
    data[place : place + 3] = b"\0\0\0"
    path.write_bytes(data)
    with pytest.raises(CacheError, match=r"clip a in .*not a JPEG.*run `avser cache` again"):
        ClipDataset(corpus.rows, cache, ["anger", "fear"])[0]


def test_only_the_parts_asked_for_are_decoded(corpus, cache):
    clip = ClipDataset(corpus.rows, cache, ["anger", "fear"], parts=["audio"])[0].clip
    assert clip.face is None
    assert clip.waveform is not None


def test_missing_clips_are_an_error_and_can_be_left_out(corpus, cache):
    more = [*corpus.rows, ClipRow("gone", "toy", "9", "fear", "gone.wav")]
    with pytest.raises(CacheError, match=r"1 of 5 clips are not in .*, e.g. gone.*cached_rows"):
        ClipDataset(more, cache, ["anger", "fear"])
    kept, notes = cached_rows(more, cache, parts=["audio", "video"])
    assert kept == corpus.rows
    assert notes == [
        "1 of 5 clips are not in the cache with audio or video: gone",
        "1 of 4 clips are in the cache without audio: they do without it",
        "1 of 4 clips are in the cache without video: they do without it",
    ]
    assert cached_rows(corpus.rows[:1], cache, parts=["audio", "video"]) == (corpus.rows[:1], [])
    assert [row.clip_id for row in cached_rows(more, cache, parts=["video"])[0]] == ["a", "b", "d"]
    with pytest.raises(CacheError, match="none of the 1 clips"):
        cached_rows(more[-1:], cache)


def test_real_batches_through_a_data_loader(corpus, cache):
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"])
    batches = length_bucketed_batches(clips.durations_s(), 2, torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(clips, batch_sampler=batches, collate_fn=collate)
    assert sorted(clip_id for batch in loader for clip_id in batch.clip_ids) == list("abcd")


# --- face features ---


def features(times: list[float], num: int = 2, found: list[bool] | None = None) -> FeatureTrack:
    values = np.arange(len(times) * num, dtype=np.float32).reshape(len(times), num)
    names = [f"f{i}" for i in range(num)]
    return FeatureTrack(np.array(times), values, np.array(found or [True] * len(times)), names)


def test_features_are_padded_on_their_own_axis():
    one = Example("a", Clip("a", 2.0, np.ones(5, np.float32), face_features=features([0.5, 1.0, 1.5])), 0)
    other = Example("b", Clip("b", 2.0, None, face_features=features([1.0])), 1)
    batch = collate([one, other])
    assert batch.face_features.shape == (2, 3, 2)
    assert batch.face_features[1].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert batch.feature_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.feature_times[1].tolist() == [1.0, 1.0, 1.0]
    assert batch.frames is None
    assert collate([one, other], parts=["audio"]).face_features is None


def test_features_of_other_columns_do_not_fit():
    one = Example("a", Clip("a", 2.0, face_features=features([0.5])), 0)
    other = Example("b", Clip("b", 2.0, face_features=features([0.5], num=3)), 0)
    with pytest.raises(CacheError, match="do not fit in one batch"):
        collate([one, other])


def test_what_a_model_reads_of_a_clip():
    model = ModelConfig()
    assert parts_of(model) == ("audio", "video")
    model.video.num_features = 35
    assert parts_of(model) == ("audio", "face_features")
    model.modalities = ["audio"]
    assert parts_of(model) == ("audio",)
    for face_input, parts in {"landmarks": ("landmarks",), "crops_and_features": ("video", "face_features")}.items():
        assert parts_of(ModelConfig(modalities=["video"], face_input=face_input)) == parts


# --- batches of like length ---


@given(st.lists(st.floats(0.5, 10), max_size=200), st.integers(1, 20), st.integers(0, 5))
def test_every_clip_once_an_epoch(durations: Sequence[float], batch_size: int, seed: int):
    batches = length_bucketed_batches(durations, batch_size, torch.Generator().manual_seed(seed))
    assert sorted(i for batch in batches for i in batch) == list(range(len(durations)))
    assert sum(len(batch) < batch_size for batch in batches) <= 1
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert batches == length_bucketed_batches(durations, batch_size, torch.Generator().manual_seed(seed))


def test_like_lengths_go_together_and_epochs_differ():
    durations = np.random.default_rng(0).uniform(1, 9, 640).tolist()
    epochs = [length_bucketed_batches(durations, 16, torch.Generator().manual_seed(seed)) for seed in range(2)]
    assert epochs[0] != epochs[1]
    for batches in epochs:
        spreads = [max(durations[i] for i in batch) - min(durations[i] for i in batch) for batch in batches]
        assert np.mean(spreads) < 1  # unsorted batches spread over 7 s
        means = [np.mean([durations[i] for i in batch]) for batch in batches]
        assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4  # no order from short to long


def test_landmarks_and_blendshapes_share_the_axis_of_the_frames():
    rng = np.random.default_rng(0)

    def clip(num_frames):
        found = np.arange(num_frames) != 1
        points, shapes = rng.random((num_frames, 478, 2), np.float32), rng.random((num_frames, 52), np.float32)
        crops = np.zeros((num_frames, 8, 8, 3), np.uint8)
        face = FaceTrack(np.arange(num_frames) / 10, crops, found, np.zeros((num_frames, 4)), points, shapes)
        return Clip(f"c{num_frames}", 1.0, face=face)

    clips = [clip(3), clip(5), Clip("voice", 1.0, np.zeros(9, np.float32))]
    batch = collate([Example(c.clip_id, c, 0) for c in clips], parts=("landmarks", "blendshapes"))
    assert batch.frames is None
    assert batch.landmarks.shape == (3, 5, 478, 2)
    assert batch.frame_mask.tolist() == [
        [True, False, True, False, False],
        [True, False, True, True, True],
        [False] * 5,
    ]
    np.testing.assert_array_equal(batch.landmarks[1, 4].numpy(), clips[1].face.landmarks[4])
    assert not batch.blendshapes[~batch.frame_mask].any()
    clips[0].face.blendshapes = None
    with pytest.raises(CacheError, match="tracker=mediapipe"):
        collate([Example(c.clip_id, c, 0) for c in clips], parts=("blendshapes",))
