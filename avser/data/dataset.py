"""Cached clips as batches: examples, padding, and batches of clips of like length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avser.config import ModelConfig
from avser.data.cache import ClipCache
from avser.data.clip_file import BLENDSHAPES, CLIP_PARTS, FACE_FEATURES, LANDMARKS
from avser.data.manifest import ClipRow
from avser.errors import CacheError, ManifestError, MediaError
from avser.structures import AUDIO, VIDEO, Batch, Clip, FaceTrack, FeatureTrack

MEMORY_BYTES = 4 * 2**30  # of decoded clips that one dataset keeps; the rest is read from the cache every time
POOL_BATCHES = 16  # batches that are sorted by length together: enough to save padding, few enough to stay random


@dataclass
class Example:
    """One clip, the index of its emotion in the label set (None where unknown), and its soft label (C,) or None."""

    clip_id: str
    clip: Clip
    label: int | None
    target: np.ndarray | None = None


def parts_of(model: ModelConfig) -> tuple[str, ...]:
    """Which parts of a clip a model reads; of the face, what `face_input` says."""
    faces: dict[str, tuple[str, ...]] = {
        "crops": (VIDEO,),
        "landmarks": (LANDMARKS,),
        "blendshapes": (BLENDSHAPES,),
        "features": (FACE_FEATURES,),
        "crops_and_features": (VIDEO, FACE_FEATURES),
    }
    face = (FACE_FEATURES,) if model.video.num_features else faces[model.face_input]
    return tuple(part for m in model.modalities for part in (face if m == VIDEO else (m,)))


def cached_rows(
    rows: list[ClipRow], cache: ClipCache, *, parts: Sequence[str] = CLIP_PARTS
) -> tuple[list[ClipRow], list[str]]:
    """The rows whose clip the cache holds in at least one of `parts`, and notes on what is left out or lacking.

    Raises:
        CacheError: nothing is left.
    """
    held = {row.clip_id: set(cache.parts(row.clip_id)) for row in rows}
    kept = [row for row in rows if held[row.clip_id] & set(parts)]
    if not kept:
        raise CacheError(f"{cache.folder} holds none of the {len(rows)} clips with {' or '.join(parts)}")
    notes = []
    if lost := sorted({row.clip_id for row in rows} - {row.clip_id for row in kept}):
        names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        notes.append(f"{len(lost)} of {len(rows)} clips are not in the cache with {' or '.join(parts)}: {names}")
    for part in parts:
        if num_lacking := sum(part not in held[row.clip_id] for row in kept):
            notes.append(f"{num_lacking} of {len(kept)} clips are in the cache without {part}: they do without it")
    return kept, notes


class ClipDataset(Dataset[Example]):
    """Clips of a cache with their labels.

    Args:
        rows: one a clip; `avser.data.labels.label_clips` and `cached_rows` prepare them.
        emotions: the label set, in order.
        targets: clip id -> soft label (C,); empty where labels are hard.
        keep_in_memory: keep decoded clips, as far as `MEMORY_BYTES` reaches.
        max_duration_s: longer clips are cut to their first seconds, voice and face alike.
        num_frames: face crops of a clip, evenly spaced; None for all.
        parts: which ones to read, see `parts_of`.

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
        targets: Mapping[str, np.ndarray] = {},
        keep_in_memory: bool = True,
        max_duration_s: float | None = None,
        num_frames: int | None = None,
        parts: Sequence[str] = CLIP_PARTS,
    ) -> None:
        self.cache = cache
        self.clip_ids = [row.clip_id for row in rows]
        self.labels = [_label(row, emotions) for row in rows]
        self.targets = [targets.get(row.clip_id) for row in rows]
        self.max_duration_s = max_duration_s
        self.num_frames = num_frames
        self.parts = tuple(parts)
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
        clip = self.cache.load(self.clip_ids[index], parts=self.parts)
        try:
            clip = _trim(clip, self.max_duration_s, self.num_frames, crops=VIDEO in self.parts)
        except MediaError as error:
            raise CacheError(
                f"clip {clip.clip_id} in {self.cache.folder}: {error}; delete its file and run `avser cache` again"
            ) from error
        example = Example(clip.clip_id, clip, self.labels[index], self.targets[index])
        if self._memory is not None and (size := _num_bytes(example.clip)) <= self._memory_left:
            self._memory[index] = example
            self._memory_left -= size
        return example

    def durations_s(self) -> list[float]:
        """Length of every clip, after the cut; reads only the heads of the files."""
        longest = np.inf if self.max_duration_s is None else self.max_duration_s
        return [min(self.cache.duration_s(clip_id), longest) for clip_id in self.clip_ids]


def collate(examples: Sequence[Example], *, parts: Sequence[str] = CLIP_PARTS) -> Batch:
    """Pad clips to the longest: samples and frames with zeros, times with the clip's last one.

    `labels` is None as soon as one clip has none; so is `targets`.

    Raises:
        CacheError: clips of different sample rates, crop sizes or face features.
    """
    clips = [example.clip for example in examples]
    rates = {clip.sample_rate_hz for clip in clips}
    if len(rates) > 1:
        raise CacheError(f"clips of {sorted(rates)} Hz do not fit in one batch; take them from one cache")
    batch = Batch([example.clip_id for example in examples], sample_rate_hz=rates.pop())
    if AUDIO in parts and any(clip.waveform is not None for clip in clips):
        batch.waveform, batch.waveform_mask = _pad_voices(clips)
    if any(clip.face is not None for clip in clips) and {VIDEO, LANDMARKS, BLENDSHAPES} & set(parts):
        batch.frame_times, batch.frame_mask = _pad_times([clip.face for clip in clips])
        if VIDEO in parts:
            batch.frames = _pad_crops(clips, batch.frame_mask.shape[1])
        for part in {LANDMARKS, BLENDSHAPES} & set(parts):
            if any(clip.face is not None and getattr(clip.face, part) is not None for clip in clips):
                setattr(batch, part, _pad_points(clips, part, batch.frame_mask))
    if FACE_FEATURES in parts and any(clip.face_features is not None for clip in clips):
        batch.face_features, batch.feature_times, batch.feature_mask = _pad_features(clips)
    labels = [example.label for example in examples]
    if None not in labels:
        batch.labels = torch.tensor(labels, dtype=torch.int64)
    targets = [example.target for example in examples if example.target is not None]
    if len(targets) == len(examples):
        batch.targets = torch.from_numpy(np.stack(targets))
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


# --- clips to tensors --------------------------------------------------------------------------------------------


def _label(row: ClipRow, emotions: Sequence[str]) -> int | None:
    if not row.emotion:
        return None
    if row.emotion not in emotions:
        raise ManifestError(
            f"clip {row.clip_id}: {row.emotion} is not in the label set {list(emotions)}; see avser.data.labels"
        )
    return list(emotions).index(row.emotion)


def _trim(clip: Clip, max_duration_s: float | None, num_frames: int | None, *, crops: bool) -> Clip:
    """The clip's first seconds, without what a batch cannot carry; with `crops` the face's pictures are decoded."""
    longest = clip.duration_s if max_duration_s is None else min(clip.duration_s, max_duration_s)
    waveform, face, features = clip.waveform, clip.face, clip.face_features
    if max_duration_s is not None and waveform is not None:
        waveform = waveform[: max(1, round(max_duration_s * clip.sample_rate_hz))].copy()
    if face is not None:
        kept = spread_evenly(_num_before(face.times, max_duration_s), num_frames)
        pictures = face.crops[kept] if crops else np.zeros((len(kept), 0, 0, 3), np.uint8)
        points = [None if values is None else values[kept] for values in (face.landmarks, face.blendshapes)]
        face = FaceTrack(face.times[kept], pictures, face.found[kept], face.boxes[kept], *points)
    if features is not None:
        num = _num_before(features.times, max_duration_s)
        features = FeatureTrack(features.times[:num], features.values[:num], features.found[:num], features.names)
    return replace(clip, duration_s=longest, waveform=waveform, face=face, face_features=features)


def _num_before(times: np.ndarray, max_duration_s: float | None) -> int:
    """How many steps begin before that time; at least one."""
    return len(times) if max_duration_s is None else max(1, int(np.searchsorted(times, max_duration_s)))


def spread_evenly(total: int, wanted: int | None) -> np.ndarray:
    """The middles of `wanted` equal stretches of `total` frames; all frames where there are no more than wanted."""
    if wanted is None or total <= wanted:
        return np.arange(total)
    return ((np.arange(wanted) + 0.5) * total / wanted).astype(int)


def _num_bytes(clip: Clip) -> int:
    arrays = [clip.waveform]
    if clip.face is not None:
        arrays += [clip.face.crops[:], clip.face.landmarks, clip.face.blendshapes]
    if clip.face_features is not None:
        arrays.append(clip.face_features.values)
    return sum(array.nbytes for array in arrays if array is not None)


def _pad_voices(clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
    voices = [np.zeros(0, np.float32) if clip.waveform is None else clip.waveform for clip in clips]
    waveform = torch.zeros(len(clips), max(map(len, voices)))
    mask = torch.zeros(waveform.shape, dtype=torch.bool)
    for i, voice in enumerate(voices):
        waveform[i, : len(voice)] = torch.from_numpy(voice)
        mask[i, : len(voice)] = True
    return waveform, mask


def _pad_times(tracks: Sequence[FaceTrack | FeatureTrack | None]) -> tuple[Tensor, Tensor]:
    """Times (B, T) and mask (B, T): the clip's last time is repeated, steps without a face are masked."""
    num_steps = max(len(track) for track in tracks if track is not None)
    times = torch.zeros(len(tracks), num_steps)
    mask = torch.zeros(len(tracks), num_steps, dtype=torch.bool)
    for i, track in enumerate(tracks):
        if track is not None and len(track):
            times[i] = float(track.times[-1])
            times[i, : len(track)] = torch.from_numpy(track.times)
            mask[i, : len(track)] = torch.from_numpy(track.found)
    return times, mask


def _pad_crops(clips: Sequence[Clip], num_frames: int) -> Tensor:
    faces = [clip.face for clip in clips]
    shapes = {face.crops.shape[1:3] for face in faces if face is not None}
    if len(shapes) > 1:
        raise CacheError(f"face crops of {sorted(shapes)} px do not fit in one batch; take them from one cache")
    frames = torch.zeros(len(clips), num_frames, 3, *shapes.pop(), dtype=torch.uint8)
    for i, face in enumerate(faces):
        if face is not None:
            frames[i, : len(face)] = torch.from_numpy(face.crops[:]).permute(0, 3, 1, 2)
    return frames


def _pad_points(clips: Sequence[Clip], name: str, mask: Tensor) -> Tensor:
    """Landmarks or blendshapes (B, T, ...), zero where no face was found."""
    values = [None if clip.face is None else getattr(clip.face, name) for clip in clips]
    if lacking := [c.clip_id for c, v in zip(clips, values, strict=True) if v is None and c.face is not None]:
        raise CacheError(
            f"clip {lacking[0]} has a face without {name}; cache with media.faces.tracker=mediapipe (and "
            "media.faces.every=1, so that every frame is measured)"
        )
    padded = torch.zeros(*mask.shape, *next(v.shape[1:] for v in values if v is not None))
    for i, points in enumerate(values):
        if points is not None:
            padded[i, : len(points)] = torch.from_numpy(points).nan_to_num()
    return padded * mask.view(*mask.shape, *[1] * (padded.ndim - 2))


def _pad_features(clips: Sequence[Clip]) -> tuple[Tensor, Tensor, Tensor]:
    tracks = [clip.face_features for clip in clips]
    names = {tuple(track.names) for track in tracks if track is not None}
    if len(names) > 1:
        raise CacheError(f"face features of {sorted(map(len, names))} columns do not fit in one batch; use one cache")
    times, mask = _pad_times(tracks)
    features = torch.zeros(*mask.shape, len(names.pop()))
    for i, track in enumerate(tracks):
        if track is not None:
            features[i, : len(track)] = torch.from_numpy(track.values)
    return features, times, mask
