"""One clip of the cache as a safetensors file: its writer and its reader.

The file holds `waveform` (N,) int16; the face as `times`, `found`, `boxes`, perhaps `landmarks` and `blendshapes`;
and `crops`, one run of JPEG bytes cut by `crop_offsets` (T+1,); a frame without a face has no bytes.
Everything else (duration, warnings, the key of its sources) is JSON in the file's metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from avser.errors import CacheError, MediaError
from avser.media.jpeg import decode_jpeg, encode_jpeg
from avser.structures import AUDIO, MODALITIES, VIDEO, Clip, FaceTrack


def write_clip(path: Path, clip: Clip, *, key: str = "", partial: str = "") -> None:
    """Write a clip, whole or not at all.

    Args:
        key: names the sources and settings it came from.
        partial: what is missing of it, or empty.

    Raises:
        MediaError: the voice holds values that are not finite.
    """
    tensors: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {"clip_id": clip.clip_id, "duration_s": float(clip.duration_s), "key": key}
    about |= {"sample_rate_hz": clip.sample_rate_hz, "warnings": clip.warnings, "partial": partial, "modalities": []}
    if clip.waveform is not None:
        if not np.isfinite(clip.waveform).all():
            raise MediaError("the decoded voice holds values that are not finite")
        tensors["waveform"] = np.clip(np.round(clip.waveform * 32768.0), -32768, 32767).astype(np.int16)
        about["modalities"].append(AUDIO)
    if clip.face is not None:
        tensors |= _pack_face(clip.face)
        about["modalities"].append(VIDEO)
        about["crop_shape"] = clip.face.crops.shape[1:]
    write_atomically(path, save(tensors, metadata={"clip": json.dumps(about)}))


def read_clip_file(path: Path, modalities: Sequence[str] = MODALITIES) -> Clip:
    """The clip as it was written, but for rounding to 16 bits and JPEG; modalities not asked for are None.

    Raises:
        FileNotFoundError: no such file.
        CacheError: damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["clip"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return _unpack(about, tensors, modalities)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, MediaError) as error:
        raise CacheError(f"{path}: damaged ({error}); delete it and run `avser cache` again") from error


def read_about(path: Path) -> dict[str, Any]:
    """A clip file's metadata (key, partial, warnings, modalities, duration_s); empty where there is no whole file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(json.loads(file.metadata()["clip"]))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError):
        return {}


def write_atomically(path: Path, data: bytes) -> None:
    """All or nothing, also when the process is killed: the name appears only when the bytes are on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# --- packing -----------------------------------------------------------------------------------------------------


def _pack_face(face: FaceTrack) -> dict[str, np.ndarray]:
    images = [encode_jpeg(crop) if seen else b"" for crop, seen in zip(face.crops, face.found, strict=True)]
    packed = {
        "times": np.asarray(face.times, np.float64),
        "found": np.asarray(face.found, bool),
        "boxes": np.asarray(face.boxes, np.float32),
        "crops": np.frombuffer(b"".join(images), np.uint8),
        "crop_offsets": np.cumsum([0, *map(len, images)], dtype=np.int64),
    }
    for name in ("landmarks", "blendshapes"):
        if (values := getattr(face, name)) is not None:
            packed[name] = np.asarray(values, np.float32)
    return packed


def _unpack(about: dict[str, Any], tensors: dict[str, np.ndarray], modalities: Sequence[str]) -> Clip:
    clip = Clip(about["clip_id"], about["duration_s"], None, about["sample_rate_hz"], warnings=about["warnings"])
    if AUDIO in modalities and "waveform" in tensors:
        if tensors["waveform"].dtype != np.int16 or tensors["waveform"].ndim != 1:
            raise ValueError(f"waveform of {tensors['waveform'].dtype}, expected (N,) int16")
        clip.waveform = tensors["waveform"].astype(np.float32) / 32768.0
    if VIDEO in modalities and "crops" in tensors:
        clip.face = _unpack_face(tensors, tuple(about["crop_shape"]))
    return clip


def _unpack_face(tensors: dict[str, np.ndarray], shape: tuple[int, ...]) -> FaceTrack:
    times, found, offsets = tensors["times"], tensors["found"], tensors["crop_offsets"]
    lengths = {len(times), len(found), len(offsets) - 1, len(tensors["boxes"])}
    lengths |= {len(tensors[name]) for name in ("landmarks", "blendshapes") if name in tensors}
    if len(lengths) > 1 or offsets[0] != 0 or offsets[-1] != tensors["crops"].size:
        raise ValueError("times, boxes and crops do not fit each other")
    if not np.isfinite(times).all():
        raise ValueError("a frame time is not finite")
    crops = np.zeros((len(times), *shape), np.uint8)
    for i in np.flatnonzero(np.diff(offsets)):
        crops[i] = decode_jpeg(tensors["crops"][offsets[i] : offsets[i + 1]])
    return FaceTrack(times, crops, found, tensors["boxes"], tensors.get("landmarks"), tensors.get("blendshapes"))
