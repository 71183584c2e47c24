"""One clip of the cache as a safetensors file: its writer and its reader.

The file holds `waveform` (N,) int16 and its `fingerprint` (T,) uint32 (see `avser.data.fingerprint`); the face as
`times`, `found`, `boxes`, perhaps `landmarks` and `blendshapes`; and `crops`, one run of JPEG bytes cut by
`crop_offsets` (T+1,); a frame without a face has no bytes. What another program measured on the face are
`feature_times`, `feature_values` (T, F) and `feature_found`.
Everything else (duration, warnings, the key of its sources) is JSON in the file's metadata.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from avser.data.fingerprint import fingerprint_audio
from avser.errors import CacheError, MediaError
from avser.media.jpeg import JpegCrops, encode_jpeg
from avser.structures import AUDIO, VIDEO, Clip, FaceTrack, FeatureTrack

FACE_FEATURES, LANDMARKS, BLENDSHAPES = "face_features", "landmarks", "blendshapes"
TRACK = ("times", "found", "boxes", "crops", "crop_offsets")
TENSORS = {
    AUDIO: ("waveform",),
    VIDEO: TRACK,
    LANDMARKS: (*TRACK, LANDMARKS),
    BLENDSHAPES: (*TRACK, BLENDSHAPES),
    FACE_FEATURES: ("feature_times", "feature_values", "feature_found"),
}
CLIP_PARTS = tuple(TENSORS)
BLOCK = 2**20  # samples that are converted at once


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
    about |= {"sample_rate_hz": clip.sample_rate_hz, "warnings": clip.warnings, "partial": partial}
    if clip.waveform is not None:
        tensors["waveform"] = _to_int16(clip.waveform)
        tensors["fingerprint"] = fingerprint_audio(clip.waveform, clip.sample_rate_hz)
    if clip.face is not None:
        tensors |= _pack_face(clip.face)
        about["crop_px"] = clip.face.crops.shape[1]
    if (features := clip.face_features) is not None:
        tensors["feature_times"] = np.asarray(features.times, np.float64)
        tensors["feature_values"] = np.asarray(features.values, np.float32)
        tensors["feature_found"] = np.asarray(features.found, bool)
        about["feature_names"] = features.names
    with _whole_or_not_at_all(path) as temporary:
        save_file(tensors, temporary, metadata={"clip": json.dumps(about)})


def read_clip_file(path: Path, parts: Sequence[str] = CLIP_PARTS) -> Clip:
    """The clip as it was written, but for rounding to 16 bits.

    Args:
        parts: of `CLIP_PARTS`; those not asked for are None, and are not read from the disk (but that landmarks and
            blendshapes bring their face track along).

    Raises:
        FileNotFoundError: no such file.
        CacheError: damaged. (A damaged face crop shows only when it is looked at, as a MediaError.)
    """
    wanted = {name for part in parts for name in TENSORS[part]}
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["clip"])
            tensors = {name: file.get_tensor(name) for name in wanted.intersection(file.keys())}
        return _unpack(about, tensors)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, MediaError) as error:
        raise CacheError(f"{path}: damaged ({error}); delete it and run `avser cache` again") from error


def read_fingerprint(path: Path) -> np.ndarray:
    """(T,) uint32, the fingerprint of the clip's voice; empty for a clip without one. Reads nothing else of the file.

    Raises:
        FileNotFoundError: no such file.
        CacheError: damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            codes = file.get_tensor("fingerprint") if "waveform" in names else np.zeros(0, np.uint32)
        if codes.dtype != np.uint32 or codes.ndim != 1:
            raise ValueError(f"fingerprint of {codes.dtype}, expected (T,) uint32")
        return np.asarray(codes)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise CacheError(f"{path}: damaged ({error}); delete it and run `avser cache` again") from error


def read_about(path: Path) -> dict[str, Any]:
    """A clip file's metadata (key, partial, warnings, duration_s), and which of `CLIP_PARTS` its tensors make up as
    "parts"; empty where there is no whole file."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            parts = [part for part, needed in TENSORS.items() if names.issuperset(needed)]
            return {**json.loads(file.metadata()["clip"]), "parts": parts}
    except (SafetensorError, OSError, LookupError, TypeError, ValueError):
        return {}


def write_atomically(path: Path, data: bytes) -> None:
    """All or nothing, also when the process is killed."""
    with _whole_or_not_at_all(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """A file to write to instead: the name appears only when the bytes are on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file of its own in the place, that nobody else may read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# --- packing -----------------------------------------------------------------------------------------------------


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    """(N,) int16, block by block: a recording may be hours long."""
    samples = np.empty(len(waveform), np.int16)
    for i in range(0, len(waveform), BLOCK):
        block = waveform[i : i + BLOCK]
        if not np.isfinite(block).all():
            raise MediaError("the decoded voice holds values that are not finite")
        samples[i : i + BLOCK] = np.clip(np.round(block * 32768.0), -32768, 32767)
    return samples


def _pack_face(face: FaceTrack) -> dict[str, np.ndarray]:
    crops = face.crops
    if not isinstance(crops, JpegCrops):
        images = [encode_jpeg(crop) if seen else b"" for crop, seen in zip(crops[:], face.found, strict=True)]
        crops = JpegCrops.from_images(images, crops.shape[1])
    packed = {
        "times": np.asarray(face.times, np.float64),
        "found": np.asarray(face.found, bool),
        "boxes": np.asarray(face.boxes, np.float32),
        "crops": crops.data,
        "crop_offsets": crops.offsets,
    }
    for name in ("landmarks", "blendshapes"):
        if (values := getattr(face, name)) is not None:
            packed[name] = np.asarray(values, np.float32)
    return packed


def _unpack(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> Clip:
    clip = Clip(about["clip_id"], about["duration_s"], None, about["sample_rate_hz"], warnings=about["warnings"])
    if "waveform" in tensors:
        if tensors["waveform"].dtype != np.int16 or tensors["waveform"].ndim != 1:
            raise ValueError(f"waveform of {tensors['waveform'].dtype}, expected (N,) int16")
        clip.waveform = tensors["waveform"].astype(np.float32) / 32768.0
    if "crops" in tensors:
        clip.face = _unpack_face(tensors, about["crop_px"])
    if "feature_values" in tensors:
        clip.face_features = _unpack_features(tensors, about["feature_names"])
    return clip


def _unpack_face(tensors: dict[str, np.ndarray], crop_px: int) -> FaceTrack:
    times, found = tensors["times"], tensors["found"]
    crops = JpegCrops(tensors["crops"], tensors["crop_offsets"], crop_px)
    lengths = {len(times), len(found), len(crops), len(tensors["boxes"])}
    lengths |= {len(tensors[name]) for name in ("landmarks", "blendshapes") if name in tensors}
    if len(lengths) > 1:
        raise ValueError("times, boxes and crops do not fit each other")
    if not np.isfinite(times).all():
        raise ValueError("a frame time is not finite")
    return FaceTrack(times, crops, found, tensors["boxes"], tensors.get("landmarks"), tensors.get("blendshapes"))


def _unpack_features(tensors: dict[str, np.ndarray], names: list[str]) -> FeatureTrack:
    times, values, found = (tensors[f"feature_{name}"] for name in ("times", "values", "found"))
    if values.shape != (len(times), len(names)) or len(found) != len(times):
        raise ValueError("times, values and names of the face features do not fit each other")
    if not (np.isfinite(times).all() and np.isfinite(values).all()):
        raise ValueError("a face feature is not finite")
    return FeatureTrack(times, values, found, names)
