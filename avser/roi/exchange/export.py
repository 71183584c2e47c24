"""Regions as files that annotation tools open: CSV, JSON, TextGrid for Praat, .eaf for ELAN; CSV and JSON are read too.

CSV and JSON hold regions as they were found, to the microsecond; the other two show them inside the clip.
"""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from avser.errors import ConfigError, ManifestError
from avser.roi.exchange.csv_lines import read_columns, read_lines, read_number, read_text
from avser.roi.exchange.file_names import file_names
from avser.roi.exchange.tiers import TIERS, ClipRegions, eaf, textgrid
from avser.structures import Region

Regions = Mapping[str, Mapping[str, Sequence[Region]]]  # clip id -> modality -> regions

COLUMNS = ("clip_id", "modality", "onset_s", "offset_s", "peak_s", "mass", "source", "emotion")
FILE_NAME = "found_regions"  # not regions.csv, which beside a manifest is the truth
JSON_FORMAT = "avser regions 1"
DECIMALS = 6  # microseconds


@dataclass
class RegionTable:
    """Regions read from a file, by clip and modality in order of time, and what stood beside them by clip."""

    regions: dict[str, dict[str, list[Region]]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    emotions: dict[str, str] = field(default_factory=dict)
    source: str = ""


def write_regions(
    path: str | Path,
    regions: Regions,
    durations: Mapping[str, float] | None = None,
    *,
    format: str,
    media: Mapping[str, Path] | None = None,
    emotions: Mapping[str, str] | None = None,
    source: str = "",
) -> dict[str, Path]:
    """Write the regions of one clip or of many.

    Args:
        path: for "csv" and "json" a file of that suffix, or a folder, which gets `found_regions.csv`; for "textgrid"
            and "eaf" a folder, which gets a file a clip, or for a single clip a file of that suffix.
        durations: clip id -> seconds; TextGrid needs them.
        format: one of FORMATS.
        media: clip id -> recording, for ELAN to open with its tiers.
        emotions: clip id -> the emotion that the regions speak for.
        source: the salience that the regions were read from.

    Returns:
        Clip id -> the file that holds it.

    Raises:
        ConfigError: an unknown format, or one file for several clips where each needs its own.
        ManifestError: a region without start < end in seconds, a peak outside its region, an unknown modality, a text
            that is no UTF-8; for TextGrid and ELAN regions of a tier that overlap or lie outside the clip.
    """
    if format not in FORMATS:
        raise ConfigError(f"format={format!r}: allowed are {', '.join(FORMATS)}")
    durations, media, emotions = durations or {}, media or {}, emotions or {}
    clips = [
        _checked(
            ClipRegions(
                clip_id,
                {m: sorted(by_modality[m], key=_rounded) for m in _ordered(by_modality, clip_id)},
                durations.get(clip_id),
                emotions.get(clip_id, ""),
                source,
                media.get(clip_id),
            )
        )
        for clip_id, by_modality in regions.items()
    ]
    return FORMATS[format](clips, Path(path))


def read_regions(path: str | Path, *, source: str | None = None) -> RegionTable:
    """Read a CSV or JSON file that `write_regions` wrote; a CSV file holds no durations and no clips without regions.

    Args:
        source: the one to read where a CSV file holds regions of several.

    Raises:
        ManifestError: no such file, or a fault in it, with its place.
    """
    path = Path(path)
    table = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path, source)
    if source is not None and table.source != source:
        raise ManifestError(f"{path}: has regions from {table.source!r}, none from {source!r}")
    for clip_id, by_modality in table.regions.items():
        for found in by_modality.values():
            found.sort(key=_rounded)
        _checked(ClipRegions(clip_id, by_modality, table.durations.get(clip_id)), f"{path}, ")
    return table


# --- CSV and JSON ------------------------------------------------------------------------------------------------


def write_csv(clips: Sequence[ClipRegions], path: Path) -> dict[str, Path]:
    """One row a region; a clip without regions has no row."""
    path = _one_file(path, ".csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n")  # so that a lone carriage return in a name is quoted
        writer.writerow(COLUMNS)
        for clip in clips:
            for modality, found in clip.regions.items():
                for r in found:
                    peak = "" if r.peak_s is None else _decimal(r.peak_s)
                    numbers = (_decimal(r.start_s), _decimal(r.end_s), peak, _decimal(r.mass))
                    writer.writerow([clip.clip_id, modality, *numbers, clip.source, clip.emotion])
    return {clip.clip_id: path for clip in clips}


def _read_csv(path: Path, source: str | None) -> RegionTable:
    lines = read_lines(path)
    columns = read_columns(path, lines)
    if missing := [name for name in COLUMNS[:6] if name not in columns]:
        raise ManifestError(f"{path}: column {', '.join(missing)} is missing; the header is {', '.join(columns)!r}")
    rows = [(number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]]
    sources = list(dict.fromkeys(row.get("source", "") for _, row in rows))
    if source is None and len(sources) > 1:
        raise ManifestError(f"{path}: regions from {', '.join(sources)}; say by `source` which of them to read")
    table = RegionTable(source=source if source is not None and source in sources else next(iter(sources), ""))
    for number, row in rows:
        if row.get("source", "") != table.source:
            continue
        start, end, mass = (
            read_number(row[c], f"{path}, line {number}, column {c}") for c in ("onset_s", "offset_s", "mass")
        )
        peak = read_number(row["peak_s"], f"{path}, line {number}, column peak_s") if row["peak_s"].strip() else None
        by_modality = table.regions.setdefault(row["clip_id"], {})
        region = _checked_region(Region(row["modality"], start, end, mass, peak), f"{path}, line {number}")
        by_modality.setdefault(row["modality"], []).append(region)
        if row.get("emotion"):
            table.emotions[row["clip_id"]] = row["emotion"]
    return table


def write_json(clips: Sequence[ClipRegions], path: Path) -> dict[str, Path]:
    """One object with a list of clips; a modality without regions keeps its empty list."""
    path = _one_file(path, ".json")
    source = clips[0].source if clips else ""
    written = {"format": JSON_FORMAT, "source": source, "clips": [_clip_object(clip) for clip in clips]}
    _write(path, json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return {clip.clip_id: path for clip in clips}


def _clip_object(clip: ClipRegions) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "duration_s": None if clip.duration_s is None else round(clip.duration_s, DECIMALS),
        "emotion": clip.emotion or None,
        "regions": {
            modality: [
                {
                    "onset_s": round(r.start_s, DECIMALS),
                    "offset_s": round(r.end_s, DECIMALS),
                    "peak_s": None if r.peak_s is None else round(r.peak_s, DECIMALS),
                    "mass": round(r.mass, DECIMALS),
                }
                for r in found
            ]
            for modality, found in clip.regions.items()
        },
    }


def _read_json(path: Path) -> RegionTable:
    text = read_text(path)
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(whole, dict) or whole.get("format") != JSON_FORMAT:
        raise ManifestError(f'{path}: not a file of regions; its object needs "format": "{JSON_FORMAT}"')
    try:
        table = RegionTable(source=str(whole["source"]))
        for number, clip in enumerate(whole["clips"], 1):
            _add_clip(table, clip, f"{path}, clip {number}")
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ManifestError(f"{path}: damaged ({type(error).__name__}: {error}); write it again") from error
    return table


def _add_clip(table: RegionTable, clip: dict[str, Any], place: str) -> None:
    clip_id = clip["clip_id"]
    if not isinstance(clip_id, str) or clip_id in table.regions:
        raise ManifestError(f"{place}: clip_id {clip_id!r} is no text, or stands there twice")
    table.regions[clip_id] = {
        modality: [
            _checked_region(
                Region(
                    modality,
                    float(r["onset_s"]),
                    float(r["offset_s"]),
                    float(r["mass"]),
                    None if r["peak_s"] is None else float(r["peak_s"]),
                ),
                place,
            )
            for r in found
        ]
        for modality, found in clip["regions"].items()
    }
    if clip["duration_s"] is not None:
        table.durations[clip_id] = float(clip["duration_s"])
    if clip["emotion"]:
        table.emotions[clip_id] = str(clip["emotion"])


# --- documents of annotation tools -------------------------------------------------------------------------------


def write_textgrids(clips: Sequence[ClipRegions], path: Path) -> dict[str, Path]:
    """A TextGrid a clip, for Praat."""
    files = _files(clips, path, ".TextGrid")
    for clip in clips:
        _write(files[clip.clip_id], textgrid(clip))
    return files


def write_eafs(clips: Sequence[ClipRegions], path: Path) -> dict[str, Path]:
    """An .eaf a clip, for ELAN."""
    files = _files(clips, path, ".eaf")
    for clip in clips:
        tree = eaf(clip, files[clip.clip_id].parent)
        ElementTree.indent(tree, "    ")
        _write(files[clip.clip_id], ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True).decode() + "\n")
    return files


FORMATS: dict[str, Callable[[Sequence[ClipRegions], Path], dict[str, Path]]] = {
    "csv": write_csv,
    "json": write_json,
    "textgrid": write_textgrids,
    "eaf": write_eafs,
}


# --- places of files ---------------------------------------------------------------------------------------------


def _files(clips: Sequence[ClipRegions], path: Path, suffix: str) -> dict[str, Path]:
    if path.suffix.lower() == suffix.lower() and not path.is_dir():
        if len(clips) != 1:
            raise ConfigError(f"{path}: one file cannot hold {len(clips)} clips in this format; give a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return {clips[0].clip_id: path}
    path.mkdir(parents=True, exist_ok=True)
    return {clip_id: path / f"{name}{suffix}" for clip_id, name in file_names(c.clip_id for c in clips).items()}


def _one_file(path: Path, suffix: str) -> Path:
    if path.suffix.lower() != suffix or path.is_dir():
        path = path / f"{FILE_NAME}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


# --- checking and rounding ---------------------------------------------------------------------------------------


def _checked(clip: ClipRegions, before: str = "") -> ClipRegions:
    place = f"{before}clip {clip.clip_id!r}"
    for text in (clip.clip_id, clip.emotion, clip.source):
        if any(unicodedata.category(c) == "Cs" for c in text):
            raise ManifestError(f"{place}: {text!r} cannot be written as UTF-8; rename it")
    if clip.duration_s is not None and not 0 < clip.duration_s < math.inf:
        raise ManifestError(f"{place}: lasts {clip.duration_s!r} s; give seconds above 0")
    for modality, found in clip.regions.items():
        for r in found:
            _checked_region(r, place)
            if r.modality != modality:
                raise ManifestError(f"{place}: a region of {r.modality!r} stands under {modality!r}")
    return clip


def _checked_region(r: Region, place: str) -> Region:
    if r.modality not in TIERS:
        raise ManifestError(f"{place}: modality {r.modality!r}; allowed are {', '.join(TIERS)}")
    if not 0 <= r.start_s < math.inf or not r.start_s + 10**-DECIMALS <= r.end_s < math.inf:
        raise ManifestError(f"{place}: region {r.start_s}..{r.end_s} s; expected 0 <= start < end, in seconds")
    if r.peak_s is not None and not r.start_s - 1e-4 <= r.peak_s <= r.end_s + 1e-4:
        raise ManifestError(f"{place}: peak at {r.peak_s} s, outside its region {r.start_s}..{r.end_s} s")
    if not math.isfinite(r.mass):
        raise ManifestError(f"{place}: region {r.start_s}..{r.end_s} s has mass {r.mass}; expected a finite number")
    return r


def _ordered(by_modality: Mapping[str, Sequence[Region]], clip_id: str) -> list[str]:
    if unknown := [m for m in by_modality if m not in TIERS]:
        raise ManifestError(f"clip {clip_id!r}: modality {unknown[0]!r}; allowed are {', '.join(TIERS)}")
    return [m for m in TIERS if m in by_modality]


def _rounded(r: Region) -> tuple[float, float]:
    return round(r.start_s, DECIMALS), round(r.end_s, DECIMALS)


def _decimal(value: float) -> str:
    """Without an exponent."""
    return f"{value:z.{DECIMALS}f}".rstrip("0").rstrip(".")
