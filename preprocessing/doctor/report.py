"""Write `doctor.html`: one page that works offline, with the findings, the corpus in tables and a sheet of faces."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from avser.data.manifest import EMOTIONS, VOTES, ClipRow
from preprocessing.doctor.corpus_rules import describe_format
from preprocessing.doctor.diagnosis import Diagnosis
from preprocessing.doctor.findings import KINDS, LIMITS, Finding

MAX_THUMBNAILS = 200
MAX_LISTED = 100  # findings of one code that the page lists; doctor.json has them all
MIN_BINS, MAX_BINS = 6, 30
CHART_WIDTH, CHART_HEIGHT = 300, 90


@dataclass
class Histogram:
    """Counts of a measurement, ready to draw.

    Attributes:
        bars: (x, height, count, label) of each bin, in units of the drawing.
        ticks: (x, label) below the bars.
    """

    title: str
    bars: list[tuple[float, float, int, str]]
    ticks: list[tuple[float, str]]
    caption: str


def write_page(diagnosis: Diagnosis, path: Path, *, title: str) -> None:
    """Write one HTML file without any outside resource or script; everything from the manifest is escaped."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(jpeg_uri=jpeg_uri)
    source = resources.files("preprocessing.doctor").joinpath("report.html").read_text(encoding="utf-8")
    rows = diagnosis.manifest.rows
    page = environment.from_string(source).render(
        title=title,
        diagnosis=diagnosis,
        num_affected=len({finding.clip_id for finding in diagnosis.findings} - {""}),
        groups=group_findings(diagnosis.findings),
        max_listed=MAX_LISTED,
        facts=_corpus_facts(rows),
        heat=_emotions_by_speaker(rows),
        formats=_formats(diagnosis),
        histograms=_histograms(diagnosis),
        chart={"width": CHART_WIDTH, "height": CHART_HEIGHT},
        sheet=[_tile(diagnosis, row) for row in choose_tiles(diagnosis)],
        limits=LIMITS,
    )
    path.write_text(page.encode(errors="replace").decode(), encoding="utf-8")


def jpeg_uri(data: bytes) -> str:
    """A JPEG as a URI that needs no file beside the page."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def group_findings(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings of each code, in their order."""
    by_code: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_code[finding.code].append(finding)
    return [{"code": code, "kind": KINDS[code], "findings": found} for code, found in by_code.items()]


def choose_tiles(diagnosis: Diagnosis) -> list[ClipRow]:
    """The clips of the contact sheet: all, or the faulty ones and then each speaker's in turn, up to a limit."""
    rows = [row for row in diagnosis.manifest.rows if row.clip_id in diagnosis.thumbnails]
    if len(rows) <= MAX_THUMBNAILS:
        return rows
    faulty = {finding.clip_id for finding in diagnosis.findings if finding.severity == "fault"}
    doubtful = {finding.clip_id for finding in diagnosis.findings if finding.column == "video"}
    turn: Counter[str] = Counter()
    ranks = {}
    for row in rows:
        grave = 0 if row.clip_id in faulty else 1 if row.clip_id in doubtful else 2
        ranks[row.clip_id] = (grave, turn[row.speaker])
        turn[row.speaker] += 1
    chosen = {row.clip_id for row in sorted(rows, key=lambda row: ranks[row.clip_id])[:MAX_THUMBNAILS]}
    return [row for row in rows if row.clip_id in chosen]


def _tile(diagnosis: Diagnosis, row: ClipRow) -> dict[str, Any]:
    found = [finding for finding in diagnosis.findings if finding.clip_id == row.clip_id]
    return {
        "row": row,
        "jpeg": diagnosis.thumbnails[row.clip_id],
        "severity": found[0].severity if found else "",
        "titles": "; ".join(dict.fromkeys(KINDS[finding.code].title for finding in found)),
    }


def _corpus_facts(rows: Sequence[ClipRow]) -> list[tuple[str, str]]:
    """(what, how many) of the manifest as a whole."""
    sexes = Counter(sex or "unknown" for _, _, sex in {(row.corpus, row.speaker, row.sex) for row in rows})
    splits = Counter(row.split for row in rows if row.split)
    votes = {name: sum(bool(getattr(row, name)) for row in rows) for name in VOTES}
    facts = [
        ("corpora", ", ".join(sorted({row.corpus for row in rows}))),
        ("speakers", f"{len({(row.corpus, row.speaker) for row in rows})} ({_counted(sexes)})"),
        ("clips with a voice", str(sum(bool(row.audio) for row in rows))),
        ("clips with a picture", str(sum(bool(row.video) for row in rows))),
        ("prescribed splits", _counted(splits)),
        ("human votes", _counted({name.removeprefix("votes_"): num for name, num in votes.items() if num})),
    ]
    return [(name, value or "none") for name, value in facts]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{num} {name}" for name, num in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _emotions_by_speaker(rows: Sequence[ClipRow]) -> dict[str, Any]:
    """Clips of each speaker by emotion, with sums and the strength (0 to 1) that a cell is drawn in."""
    emotions = [e for e in EMOTIONS if any(row.emotion == e for row in rows)]
    if any(not row.emotion for row in rows):
        emotions.append("")
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.corpus, row.speaker][row.emotion] += 1
    most = max(max(counter.values()) for counter in counts.values())
    several = len({corpus for corpus, _ in counts}) > 1
    lines = [
        {
            "name": f"{corpus}/{speaker}" if several else speaker,
            "cells": [(counter[e], counter[e] / most) for e in emotions],
            "sum": sum(counter.values()),
        }
        for (corpus, speaker), counter in sorted(counts.items())
    ]
    totals = Counter(row.emotion for row in rows)
    return {"emotions": emotions, "lines": lines, "totals": [totals[e] for e in emotions], "sum": len(rows)}


def _formats(diagnosis: Diagnosis) -> list[tuple[str, str, int]]:
    """(column, format, number of clips), the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for clip in diagnosis.clips:
        counts.update((column, describe_format(track)) for column, track in clip.tracks())
    return [(column, name, num) for (column, name), num in sorted(counts.items(), key=lambda p: (p[0][0], -p[1], p[0]))]


def _histograms(diagnosis: Diagnosis) -> list[Histogram]:
    voices = [clip.voice for clip in diagnosis.clips if clip.voice is not None and not clip.voice.silent]
    sides = [clip.face.side_px for clip in diagnosis.clips if clip.face is not None and clip.face.side_px is not None]
    measured = [
        ("length", "s", [clip.duration_s for clip in diagnosis.clips if clip.duration_s is not None], ""),
        ("level of the voice", "dBFS", [voice.voice_dbfs for voice in voices], "95th percentile of blocks of 20 ms"),
        (
            "level of the noise",
            "dBFS",
            [voice.floor_dbfs for voice in voices],
            "10th percentile, digital silence aside",
        ),
        ("size of the face", "px", sides, "side of the square that is cut, margin included"),
    ]
    return [build_histogram(f"{name}, {unit}", values, note) for name, unit, values, note in measured if values]


def build_histogram(title: str, values: Sequence[float], note: str = "") -> Histogram:
    """Bins of equal width over nearly all of the values; the first and the last take what lies beyond.

    Args:
        values: at least one.
    """
    low, high = np.percentile(values, [0.5, 99.5]).tolist()
    margin = max(0.05 * (high - low), 0.01 * abs(high), 1e-6)
    low, high = max(low - margin, min(values)), min(high + margin, max(values))
    if high - low < 1e-9:
        low, high = low - margin, high + margin
    num_bins = int(np.clip(2 * np.sqrt(len(values)), MIN_BINS, MAX_BINS))
    edges = np.linspace(low, high, num_bins + 1).tolist()
    counts = np.histogram(np.clip(values, low, high), edges)[0].tolist()
    bars = [
        (i * CHART_WIDTH / num_bins, CHART_HEIGHT * count / max(counts), count, f"{edges[i]:.3g} to {edges[i + 1]:.3g}")
        for i, count in enumerate(counts)
    ]
    ticks = [(CHART_WIDTH * place, f"{low + place * (high - low):.3g}") for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    beyond = sum(not low <= value <= high for value in values)
    parts = [f"median {np.median(values):.3g}, from {min(values):.3g} to {max(values):.3g}", note]
    if beyond:
        parts.append(f"beyond the axis, in the outermost bars: {beyond}")
    return Histogram(title, bars, ticks, "; ".join(part for part in parts if part))
