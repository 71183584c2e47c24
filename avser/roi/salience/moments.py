"""The steps of one modality in a batch: which cell of time each lies in, and rows of clips picked out of the batch.

Time is divided into cells of `cell_s` seconds from 0; cell k covers [k * cell_s, (k + 1) * cell_s), and a sample or
frame belongs to the cell of its time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avser.structures import AUDIO, MODALITIES, VIDEO, Batch

ROUNDING = 1e-4  # of a cell: times in float32 fall short of an edge by less, samples lie further from it
# What a batch says of a modality: the field -> where its times are (None: the sample rate says) and where its mask is.
STREAMS: dict[str, dict[str, tuple[str | None, str]]] = {
    AUDIO: {"waveform": (None, "waveform_mask")},
    VIDEO: {
        "frames": ("frame_times", "frame_mask"),
        "landmarks": ("frame_times", "frame_mask"),
        "blendshapes": ("frame_times", "frame_mask"),
        "face_features": ("feature_times", "feature_mask"),
    },
}


@dataclass
class Stream:
    """One tensor of a batch that runs along time.

    Attributes:
        name: its field in `Batch`.
        clip_ids: B names.
        values: (B, T, ...).
        times: (B, T) seconds, or (1, T) where all clips share them.
        mask: (B, T) bool.
        sample_rate_hz: of a waveform; 0 for the face.
    """

    name: str
    clip_ids: list[str]
    values: Tensor
    times: Tensor
    mask: Tensor
    sample_rate_hz: int = 0

    @property
    def is_voice(self) -> bool:
        return self.sample_rate_hz > 0


def streams_of(batch: Batch, modality: str) -> list[Stream]:
    """Everything that a batch holds of a modality; nothing where it lacks the modality.

    Raises:
        ValueError: an unknown modality.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality={modality!r}: allowed are {' and '.join(MODALITIES)}")
    streams = []
    for name, (times_name, mask_name) in STREAMS[modality].items():
        values, mask = getattr(batch, name), getattr(batch, mask_name)
        if values is None:
            continue
        if times_name is None:
            times = torch.arange(values.shape[1], device=values.device, dtype=torch.float64)[None]
            times = times / batch.sample_rate_hz
        else:
            times = getattr(batch, times_name)
        rate_hz = batch.sample_rate_hz if modality == AUDIO else 0
        streams.append(Stream(name, batch.clip_ids, values, times, mask, rate_hz))
    return streams


def with_stream(batch: Batch, stream: Stream) -> Batch:
    """The batch with that stream in the place of its own."""
    modality = AUDIO if stream.is_voice else VIDEO
    times_name, mask_name = STREAMS[modality][stream.name]
    changed: dict[str, Any] = {stream.name: stream.values, mask_name: stream.mask}
    if times_name is not None:
        changed[times_name] = stream.times
    return replace(batch, **changed)


def cell_of(times: Tensor, cell_s: float) -> Tensor:
    """The cell in which each of `times` (any shape, seconds) lies; times before 0 belong to the first.

    Raises:
        ValueError: cells without length.
    """
    if not cell_s > 0:
        raise ValueError(f"cell_s={cell_s}: a cell must last longer than 0 seconds")
    return (times.double() / cell_s + ROUNDING).floor().clamp(min=0).long()


def stream_cells(stream: Stream, cell_s: float, num_cells: int | None = None) -> Tensor:
    """(B, K) bool: the cells in which a clip has a real step; K as given, or as far as the longest clip reaches."""
    cells = cell_of(stream.times, cell_s).expand(stream.mask.shape)
    if num_cells is None:
        num_cells = int(cells[stream.mask].max()) + 1 if stream.mask.any() else 0
    occupied = stream.mask.new_zeros(len(stream.mask), num_cells + 1)
    occupied.scatter_(1, torch.where(stream.mask, cells, num_cells).clamp(max=num_cells), True)
    return occupied[:, :num_cells]


def occupied_cells(batch: Batch, modality: str, *, cell_s: float) -> Tensor:
    """(B, K) bool: the cells in which a clip has a sample, or a frame with a face; K up to the end of the longest.

    A row without any belongs to a clip that lacks the modality. A face at few frames a second leaves cells empty.
    """
    parts = [stream_cells(stream, cell_s) for stream in streams_of(batch, modality)]
    num_cells = max((part.shape[1] for part in parts), default=0)
    device = parts[0].device if parts else None
    occupied = torch.zeros(len(batch), num_cells, dtype=torch.bool, device=device)
    for part in parts:
        occupied[:, : part.shape[1]] |= part
    return occupied


def pick_clips(batch: Batch, rows: Tensor, *, tight: bool = False) -> Batch:
    """The clips of those rows (R,), in that order and as often as they are named.

    Args:
        tight: leave out what is padding in all of them.
    """
    picked: dict[str, Any] = {"clip_ids": [batch.clip_ids[i] for i in rows.tolist()]}
    for name in (f.name for f in fields(batch)):
        value = getattr(batch, name)
        if isinstance(value, Tensor):
            picked[name] = value[rows.to(value.device)]
    if tight:
        for streams in STREAMS.values():
            for mask_name in {mask for _, mask in streams.values()}:
                along = {n for name, (times, mask) in streams.items() if mask == mask_name for n in (name, times) if n}
                _cut_padding(picked, mask_name, along)
    return replace(batch, **picked)


def _cut_padding(picked: dict[str, Any], mask_name: str, along: set[str]) -> None:
    """End a mask, and all that runs along it, with the last real step of any clip; one step stays in any case."""
    if mask_name not in picked:
        return
    reached = torch.nonzero(picked[mask_name].any(dim=0))
    length = int(reached[-1]) + 1 if len(reached) else 1
    for name in (along | {mask_name}) & picked.keys():
        picked[name] = picked[name][:, :length]


def clip_generator(seed: int, clip_id: str, purpose: str) -> np.random.Generator:
    """Random numbers that depend on the seed, the clip and what they are for, and on nothing else in the batch."""
    digest = hashlib.sha256(f"{purpose}\0{clip_id}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
