"""Names of files for clips whose ids may hold anything."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

MAX_NAME_BYTES = 100
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(10))}  # of Windows


def file_names(clip_ids: Iterable[str]) -> dict[str, str]:
    """Clip id -> name of a file without suffix: inside its folder, and no two alike, not even where case is one.

    Letters, digits, '_', '-' and '.' stay; an id that has others, or that is long, hidden or a device of Windows, gets
    the beginning of its SHA-256 behind what is left of it.
    """
    names, taken = dict[str, str](), set[str]()
    for clip_id in sorted(set(clip_ids)):
        kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in unicodedata.normalize("NFC", clip_id))
        if kept.startswith(".") or not kept or kept.partition(".")[0].upper() in DEVICES:
            kept = f"_{kept}"
        kept = kept.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
        name = kept if kept == clip_id else f"{kept}-{hashlib.sha256(clip_id.encode()).hexdigest()[:8]}"
        while (folded := unicodedata.normalize("NFKC", name).casefold()) in taken:
            name = f"{kept}-{hashlib.sha256(f'{name}/{clip_id}'.encode()).hexdigest()[:8]}"
        taken.add(folded)
        names[clip_id] = name
    return names
