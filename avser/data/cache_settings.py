"""The settings that a cache was made with: `cache.json`, and the refusal of other ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avser.config import MediaConfig
from avser.data.clip_file import write_atomically
from avser.errors import CacheError, ConfigError

FORMAT_VERSION = 2


def cache_settings(media: MediaConfig) -> dict[str, Any]:
    """The settings as a cache stores them: plain values, the face model by its SHA-256 rather than its path."""
    settings = asdict(media)
    settings["faces"]["model"] = _model_digest(media)
    return settings


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write `cache.json`."""
    about = {"format_version": FORMAT_VERSION, "settings": settings, "settings_hash": hash_settings(settings)}
    write_atomically(folder / "cache.json", json.dumps(about, indent=2).encode())


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in `cache.json`.

    Raises:
        CacheError: missing, damaged, changed by hand or of another format.
    """
    path = folder / "cache.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        version, settings = about["format_version"], dict(about["settings"])
        intact = about["settings_hash"] == hash_settings(settings)
    except FileNotFoundError as error:
        raise CacheError(f"{folder}: no cache there; make it with `avser cache MANIFEST --out {folder}`") from error
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise CacheError(f"{path}: damaged ({error}); build the cache anew in another folder") from error
    if version != FORMAT_VERSION:
        raise CacheError(f"{path}: format {version}, this avser reads {FORMAT_VERSION}; build the cache anew")
    if not intact:
        raise CacheError(f"{path}: the settings were changed by hand; build a cache with other settings elsewhere")
    return settings


def refuse_differences(folder: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise CacheError, naming every differing key and both values, unless the settings are the same."""
    have, want = dict(_dotted(stored, "media")), dict(_dotted(wanted, "media"))
    if want.get("media.faces.model") is None:  # reading needs no model; without its file there is nothing to compare
        want["media.faces.model"] = have.get("media.faces.model")
    differences = [
        f"{key} is {have.get(key)} in the cache, {want.get(key)} asked for"
        for key in sorted({*have, *want})
        if have.get(key) != want.get(key)
    ]
    if differences:
        raise CacheError(
            f"{folder} was made with other settings: {'; '.join(differences)}. "
            "Ask for the cache's settings, or build another cache in another folder"
        )


def _dotted(part: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", value


def hash_settings(settings: dict[str, Any]) -> str:
    """16 hex digits, equal for 15 and 15.0, which are one setting."""
    plain = {k: float(v) if isinstance(v, int) else v for k, v in _dotted(settings, "media")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _model_digest(media: MediaConfig) -> str | None:
    """SHA-256 of the face model's file; None where no model is used or it is not on this machine."""
    from avser.media.faces import find_model

    if media.faces.tracker not in ("mediapipe", "mediapipe_past"):
        return None
    try:
        return hashlib.sha256(find_model(media.faces.model).read_bytes()).hexdigest()
    except (ConfigError, OSError):
        return None
