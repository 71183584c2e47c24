from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avser.config import DataConfig
from avser.data import dataset as module
from avser.data.cache import ClipCache, build_cache
from avser.data.dataset import ClipDataset, Example, cached_rows, collate, label_index, length_bucketed_batches
from avser.data.manifest import ClipRow
from avser.errors import CacheError, ManifestError
from avser.structures import Clip, FaceTrack


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


# --- labels ---


def test_label_set_from_the_manifest_is_sorted():
    emotions, kept = label_index(rows("sadness", "anger", "sadness"), DataConfig())
    assert emotions == ["anger", "sadness"]
    assert len(kept) == 3


def test_label_set_keeps_the_order_asked_for_and_merges():
    data = DataConfig(emotions=["neutral", "anger"], merge={"calm": "neutral"})
    emotions, kept = label_index(rows("calm", "anger", "neutral"), data)
    assert emotions == ["neutral", "anger"]
    assert [row.emotion for row in kept] == ["neutral", "anger", "neutral"]
    assert label_index(rows("calm", "anger"), DataConfig(merge={"calm": "neutral"}))[0] == ["anger", "neutral"]


def test_other_emotions_are_dropped_only_when_asked_for():
    clips = rows("anger", "fear", "fear", "calm", "neutral")
    with pytest.raises(ManifestError, match=r"outside data.emotions=.*calm 1, fear 2 clips.*drop_other_emotions=true"):
        label_index(clips, DataConfig(emotions=["anger", "neutral"]))
    data = DataConfig(emotions=["anger", "neutral"], drop_other_emotions=True)
    assert [row.clip_id for row in label_index(clips, data)[1]] == ["0", "4"]


@pytest.mark.parametrize(
    ("emotions", "data", "words"),
    [
        (["anger", "", ""], DataConfig(), "2 of 3 clips have no emotion, e.g. 1"),
        (["anger", "anger"], DataConfig(), "needs at least two"),
        (["anger", "fear"], DataConfig(emotions=["anger", "fear", "calm"]), "no clip shows calm"),
        (["anger", "fear"], DataConfig(emotions=["anger", "feer"]), "data.emotions: 'feer' is no emotion"),
        (["anger", "fear"], DataConfig(merge={"fear": "angst"}), "data.merge: 'angst' is no emotion"),
        (["anger", "fear"], DataConfig(emotions=["anger", "anger"]), "names an emotion twice"),
        (["anger", "fear"], DataConfig(emotions=["anger", "fear"], merge={"fear": "anger"}), "no clip of fear is left"),
        (["anger", "fear"], DataConfig(merge={"fear": "calm", "calm": "anger"}), "no clip of calm is left"),
    ],
)
def test_impossible_label_sets_are_refused(emotions, data, words):
    with pytest.raises(ManifestError, match=words):
        label_index(rows(*emotions), data)


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
    batch = collate([example("a", 5, 2)], modalities=["video"])
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


def test_rows_not_merged_yet_and_without_emotion(corpus, cache):
    blank = [replace(corpus.rows[0], emotion=""), *corpus.rows[1:]]
    clips = ClipDataset(blank, cache, ["anger"], merge={"fear": "anger"})
    assert clips.labels == [None, 0, 0, 0]
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


def test_long_clips_are_cut_in_both_modalities(corpus, cache):
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"], max_duration_s=0.25)
    clip = clips[0].clip
    assert len(clip.waveform) == 4000
    assert clip.face.times.max() < 0.25
    assert len(clip.face) == len(clip.face.crops) == len(clip.face.found) == 3  # at 0, 1/12 and 2/12 s
    assert clip.duration_s == 0.25
    assert clips.durations_s() == [0.25] * 4
    assert len(clips[2].clip.waveform) == 4000


def test_only_the_modalities_asked_for_are_decoded(corpus, cache):
    clip = ClipDataset(corpus.rows, cache, ["anger", "fear"], modalities=["audio"])[0].clip
    assert clip.face is None
    assert clip.waveform is not None


def test_missing_clips_are_an_error_and_can_be_left_out(corpus, cache):
    more = [*corpus.rows, ClipRow("gone", "toy", "9", "fear", "gone.wav")]
    with pytest.raises(CacheError, match=r"1 of 5 clips are not in .*, e.g. gone.*cached_rows"):
        ClipDataset(more, cache, ["anger", "fear"])
    kept, notes = cached_rows(more, cache)
    assert kept == corpus.rows
    assert notes == ["1 of 5 clips are not in the cache with audio or video: gone"]
    assert cached_rows(corpus.rows, cache) == (corpus.rows, [])
    assert [row.clip_id for row in cached_rows(more, cache, modalities=["video"])[0]] == ["a", "b", "d"]
    with pytest.raises(CacheError, match="none of the 1 clips"):
        cached_rows(more[-1:], cache)


def test_real_batches_through_a_data_loader(corpus, cache):
    clips = ClipDataset(corpus.rows, cache, ["anger", "fear"])
    batches = length_bucketed_batches(clips.durations_s(), 2, torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(clips, batch_sampler=batches, collate_fn=collate)
    assert sorted(clip_id for batch in loader for clip_id in batch.clip_ids) == list("abcd")


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
