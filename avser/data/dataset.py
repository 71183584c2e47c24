"""Cached clips as batches: the label set, examples, padding, and batches of clips of like length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avser.config import DataConfig
from avser.data.cache import ClipCache
from avser.data.manifest import EMOTIONS, ClipRow
from avser.errors import CacheError, ManifestError
from avser.structures import AUDIO, MODALITIES, VIDEO, Batch, Clip, FaceTrack

MEMORY_BYTES = 4 * 2**30  # of decoded clips that one dataset keeps; the rest is read from the cache every time
POOL_BATCHES = 16  # batches that are sorted by length together: enough to save padding, few enough to stay random


@dataclass
class Example:
    """One clip and the index of its emotion in the label set (None where unknown)."""

    clip_id: str
    clip: Clip
    label: int | None


def label_index(rows: list[ClipRow], data: DataConfig) -> tuple[list[str], list[ClipRow]]:
    """The label set in order, and the rows that belong to it with their emotions merged.

    Raises:
        ManifestError: a clip without emotion, an emotion outside the set (unless `data.drop_other_emotions`), an
            emotion of the set that no clip shows, fewer than two emotions, or a merge that makes no sense.
    """
    _check_words(data)
    unlabelled = [row.clip_id for row in rows if not row.emotion]
    if unlabelled:
        raise ManifestError(
            f"{len(unlabelled)} of {len(rows)} clips have no emotion, e.g. {unlabelled[0]}; fill the column or remove "
            "the rows: they cannot train or be scored"
        )
    merged = [replace(row, emotion=data.merge.get(row.emotion, row.emotion)) for row in rows]
    counts = Counter(row.emotion for row in merged)
    emotions = list(data.emotions) or sorted(counts)
    others = {emotion: n for emotion, n in sorted(counts.items()) if emotion not in emotions}
    if others and not data.drop_other_emotions:
        raise ManifestError(
            f"emotions outside data.emotions={emotions}: {_listed(others)} clips. Add them to data.emotions, map them "
            "by data.merge, or leave their clips out by data.drop_other_emotions=true"
        )
    if absent := [emotion for emotion in emotions if not counts[emotion]]:
        raise ManifestError(
            f"no clip shows {', '.join(absent)} of data.emotions={emotions}; the manifest has {_listed(counts)}. "
            "Take it out of data.emotions"
        )
    if len(emotions) < 2:
        raise ManifestError(f"the label set is {emotions}; telling emotions apart needs at least two")
    return emotions, [row for row in merged if row.emotion not in others]


def cached_rows(
    rows: list[ClipRow], cache: ClipCache, *, modalities: Sequence[str] = MODALITIES
) -> tuple[list[ClipRow], list[str]]:
    """The rows whose clip the cache holds in at least one of `modalities`, and a note on those left out.

    Raises:
        CacheError: nothing is left.
    """
    kept = [row for row in rows if set(cache.modalities(row.clip_id)) & set(modalities)]
    if not kept:
        raise CacheError(f"{cache.folder} holds none of the {len(rows)} clips with {' or '.join(modalities)}")
    if len(kept) == len(rows):
        return kept, []
    lost = sorted({row.clip_id for row in rows} - {row.clip_id for row in kept})
    names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
    return kept, [f"{len(lost)} of {len(rows)} clips are not in the cache with {' or '.join(modalities)}: {names}"]


class ClipDataset(Dataset[Example]):
    """Clips of a cache with their labels.

    Landmarks and blendshapes stay in the cache: a batch has no place for them.

    Args:
        rows: one a clip; `label_index` and `cached_rows` prepare them.
        emotions: the label set, in order.
        merge: emotion -> emotion of the label set, for rows that are not merged yet.
        keep_in_memory: keep decoded clips, as far as `MEMORY_BYTES` reaches.
        max_duration_s: longer clips are cut to their first seconds, voice and face alike.
        modalities: which ones to decode.

    Raises:
        ManifestError: an emotion outside the label set.
        CacheError: clips that the cache does not hold.
    """

    def __init__(
        self,
        rows: Sequence[ClipRow],
        cache: ClipCache,
        emotions: Sequence[str],
        *,
        merge: Mapping[str, str] = {},
        keep_in_memory: bool = True,
        max_duration_s: float | None = None,
        modalities: Sequence[str] = MODALITIES,
    ) -> None:
        self.cache = cache
        self.clip_ids = [row.clip_id for row in rows]
        self.labels = [_label(row, emotions, merge) for row in rows]
        self.max_duration_s = max_duration_s
        self.modalities = tuple(modalities)
        self._memory: dict[int, Example] | None = {} if keep_in_memory else None
        self._memory_left = MEMORY_BYTES
        if missing := [clip_id for clip_id in self.clip_ids if clip_id not in cache]:
            raise CacheError(
                f"{len(missing)} of {len(rows)} clips are not in {cache.folder}, e.g. {missing[0]}; run `avser cache`, "
                "see failures.csv there for those that fail, and leave these out with avser.data.dataset.cached_rows"
            )

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getitem__(self, index: int) -> Example:
        if self._memory is not None and index in self._memory:
            return self._memory[index]
        clip = self.cache.load(self.clip_ids[index], modalities=self.modalities)
        example = Example(clip.clip_id, _trim(clip, self.max_duration_s), self.labels[index])
        if self._memory is not None and (size := _num_bytes(example.clip)) <= self._memory_left:
            self._memory[index] = example
            self._memory_left -= size
        return example

    def durations_s(self) -> list[float]:
        """Length of every clip, after the cut; reads only the heads of the files."""
        longest = np.inf if self.max_duration_s is None else self.max_duration_s
        return [min(self.cache.duration_s(clip_id), longest) for clip_id in self.clip_ids]


def collate(examples: Sequence[Example], *, modalities: Sequence[str] = MODALITIES) -> Batch:
    """Pad clips to the longest: samples and frames with zeros, frame times with the clip's last one.

    `labels` is None as soon as one clip has none.

    Raises:
        CacheError: clips of different sample rates or crop sizes.
    """
    clips = [example.clip for example in examples]
    rates = {clip.sample_rate_hz for clip in clips}
    if len(rates) > 1:
        raise CacheError(f"clips of {sorted(rates)} Hz do not fit in one batch; take them from one cache")
    batch = Batch([example.clip_id for example in examples], sample_rate_hz=rates.pop())
    if AUDIO in modalities and any(clip.waveform is not None for clip in clips):
        batch.waveform, batch.waveform_mask = _pad_voices(clips)
    if VIDEO in modalities and any(clip.face is not None for clip in clips):
        batch.frames, batch.frame_times, batch.frame_mask = _pad_faces(clips)
    labels = [example.label for example in examples]
    if None not in labels:
        batch.labels = torch.tensor(labels, dtype=torch.int64)
    return batch


def length_bucketed_batches(durations: Sequence[float], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Every index once, in batches of clips of like length: random pools, sorted within, their batches shuffled.

    Seed `generator` anew for each epoch. One batch may be smaller than the others.
    """
    order = torch.randperm(len(durations), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), batch_size * POOL_BATCHES):
        pool = sorted(order[start : start + batch_size * POOL_BATCHES], key=lambda i: durations[i])
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


# --- labels ------------------------------------------------------------------------------------------------------


def _check_words(data: DataConfig) -> None:
    words = {"data.emotions": data.emotions, "data.merge": [*data.merge, *data.merge.values()]}
    for key, used in words.items():
        if unknown := [word for word in used if word not in EMOTIONS]:
            raise ManifestError(f"{key}: {unknown[0]!r} is no emotion; allowed: {', '.join(EMOTIONS)}")
    if len(set(data.emotions)) < len(data.emotions):
        raise ManifestError(f"data.emotions={data.emotions} names an emotion twice")
    if gone := [word for word in data.merge if word in (*data.emotions, *data.merge.values())]:
        raise ManifestError(
            f"data.merge turns {gone[0]} into {data.merge[gone[0]]}, so no clip of {gone[0]} is left; take it out "
            "of data.emotions and of the right-hand sides of data.merge"
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{emotion} {n}" for emotion, n in sorted(counts.items()))


def _label(row: ClipRow, emotions: Sequence[str], merge: Mapping[str, str]) -> int | None:
    if not row.emotion:
        return None
    emotion = merge.get(row.emotion, row.emotion)
    if emotion not in emotions:
        raise ManifestError(f"clip {row.clip_id}: {emotion} is not in the label set {list(emotions)}; see label_index")
    return emotions.index(emotion)


# --- clips to tensors --------------------------------------------------------------------------------------------


def _trim(clip: Clip, max_duration_s: float | None) -> Clip:
    """The clip's first seconds, without what a batch cannot carry."""
    longest = clip.duration_s if max_duration_s is None else min(clip.duration_s, max_duration_s)
    waveform, face = clip.waveform, clip.face
    if max_duration_s is not None and waveform is not None:
        waveform = waveform[: max(1, round(max_duration_s * clip.sample_rate_hz))].copy()
    if face is not None:
        kept = len(face) if max_duration_s is None else max(1, int(np.searchsorted(face.times, max_duration_s)))
        face = FaceTrack(face.times[:kept], face.crops[:kept].copy(), face.found[:kept], face.boxes[:kept])
    return replace(clip, duration_s=longest, waveform=waveform, face=face)


def _num_bytes(clip: Clip) -> int:
    voice = 0 if clip.waveform is None else clip.waveform.nbytes
    return voice + (0 if clip.face is None else clip.face.crops.nbytes)


def _pad_voices(clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
    voices = [np.zeros(0, np.float32) if clip.waveform is None else clip.waveform for clip in clips]
    waveform = torch.zeros(len(clips), max(map(len, voices)))
    mask = torch.zeros(waveform.shape, dtype=torch.bool)
    for i, voice in enumerate(voices):
        waveform[i, : len(voice)] = torch.from_numpy(voice)
        mask[i, : len(voice)] = True
    return waveform, mask


def _pad_faces(clips: Sequence[Clip]) -> tuple[Tensor, Tensor, Tensor]:
    faces = [clip.face for clip in clips]
    shapes = {face.crops.shape[1:3] for face in faces if face is not None}
    if len(shapes) > 1:
        raise CacheError(f"face crops of {sorted(shapes)} px do not fit in one batch; take them from one cache")
    num_frames = max(len(face) for face in faces if face is not None)
    frames = torch.zeros(len(clips), num_frames, 3, *shapes.pop(), dtype=torch.uint8)
    times = torch.zeros(len(clips), num_frames)
    mask = torch.zeros(len(clips), num_frames, dtype=torch.bool)
    for i, face in enumerate(faces):
        if face is not None:
            frames[i, : len(face)] = torch.from_numpy(face.crops).permute(0, 3, 1, 2)
            times[i] = float(face.times[-1])
            times[i, : len(face)] = torch.from_numpy(face.times)
            mask[i, : len(face)] = torch.from_numpy(face.found)
    return frames, times, mask
