"""A clip's regions as the tiers of an annotation document: a TextGrid of Praat, or an .eaf of ELAN.

Both show regions inside the clip, whose edges a first or last region may overhang by half a step.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from avser.errors import ManifestError
from avser.structures import AUDIO, FUSED, VIDEO, Region

TIERS = {AUDIO: "voice", VIDEO: "face", FUSED: "both"}
MICROSECONDS, MILLISECONDS = 10**6, 10**3  # a second

XSI = "http://www.w3.org/2001/XMLSchema-instance"
SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
DATE = "2000-01-01T00:00:00+00:00"  # the schema asks for one; the same regions give the same file
CONSTRAINTS = {  # the stereotypes of dependent tiers, which ELAN has in every document
    "Time_Subdivision": "The children fill their parent's interval without gaps",
    "Symbolic_Subdivision": "The children divide their parent in an order, without times of their own",
    "Symbolic_Association": "One child for one parent",
    "Included_In": "The children lie within their parent's interval, and gaps are allowed",
}
MIME_TYPES = {
    ".wav": "audio/x-wav",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".mov": "video/quicktime",
    **dict.fromkeys((".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"), "audio/*"),
    **dict.fromkeys((".avi", ".mkv", ".flv", ".webm", ".wmv"), "video/*"),
}


@dataclass
class ClipRegions:
    """One clip's regions and what is known beside them.

    Attributes:
        regions: modality -> regions in order of time.
        source: the salience they were read from, e.g. "attention".
        media: the recording.
        labels: name of a tier -> (start, end, text) in seconds, of tiers that stand above those of the regions.
    """

    clip_id: str
    regions: dict[str, list[Region]]
    duration_s: float | None = None
    emotion: str = ""
    source: str = ""
    media: Path | None = None
    labels: Mapping[str, Sequence[tuple[float, float, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A region on a tier, in whole units of time."""

    start: int
    end: int
    peak: int | None
    label: str


# --- TextGrid ----------------------------------------------------------------------------------------------------


def textgrid(clip: ClipRegions) -> str:
    """The text of a TextGrid: interval tiers "voice" and "face" with empty labels between regions; points "peaks".

    The format is the long one of "TextGrid file formats" in Praat's manual: seconds with a decimal point, texts in
    double quotes, quotes within them doubled. The intervals of a tier cover 0..duration.

    Raises:
        ManifestError: no duration; regions that overlap, have no length, or lie outside the clip.
    """
    if clip.duration_s is None:
        raise ManifestError(f"clip {clip.clip_id!r}: no duration is known, and a TextGrid needs one; pass `durations`")
    end = round(clip.duration_s * MICROSECONDS)
    tiers, peaks = list[list[str]](), dict[int, list[str]]()
    for name, spans in _tiers(clip, MICROSECONDS):
        cells, at = list[list[str]](), 0
        for span in spans:
            if span.start > at:
                cells.append(_interval(at, span.start, ""))
            cells.append(_interval(span.start, span.end, span.label))
            at = span.end
            if span.peak is not None:
                peaks.setdefault(span.peak, []).append(name)
        if at < end:
            cells.append(_interval(at, end, ""))
        tiers.append(_tier("IntervalTier", name, "intervals", end, cells))
    # a tier of Praat has no two points at one time
    points = [[f"number = {_clock(at)} ", f'mark = "{", ".join(peaks[at])}" '] for at in sorted(peaks)]
    tiers.append(_tier("TextTier", "peaks", "points", end, points))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {_clock(end)} "]
    lines = [*head, "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, tier in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", *(f"        {line}" for line in tier)]
    return "\n".join(lines) + "\n"


def _interval(start: int, end: int, label: str) -> list[str]:
    text = label.replace('"', '""')
    return [f"xmin = {_clock(start)} ", f"xmax = {_clock(end)} ", f'text = "{text}" ']


def _tier(kind: str, name: str, unit: str, end: int, cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [f'class = "{kind}" ', f'name = "{name}" ', "xmin = 0 ", f"xmax = {_clock(end)} "]
    lines.append(f"{unit}: size = {len(cells)} ")
    for number, cell in enumerate(cells, 1):
        lines += [f"{unit} [{number}]:", *(f"    {line}" for line in cell)]
    return lines


def _clock(microseconds: int) -> str:
    """Seconds without an exponent."""
    return f"{microseconds // MICROSECONDS}.{microseconds % MICROSECONDS:06d}".rstrip("0").rstrip(".")


# --- ELAN --------------------------------------------------------------------------------------------------------


def eaf(clip: ClipRegions, folder: Path) -> Element:
    """The document of one clip by the schema EAF 3.0, in milliseconds; `folder` is where it will stand.

    The tiers "voice" and "face" hold the regions. A peak is an annotation of one millisecond on a tier below, since
    ELAN has no points. Every annotation has time slots of its own, so that moving one in ELAN moves no other.

    Raises:
        ManifestError: regions that overlap, have no length, or lie outside the clip.
    """
    root = Element("ANNOTATION_DOCUMENT", AUTHOR="avser", DATE=DATE, FORMAT="3.0", VERSION="3.0")
    root.set(f"{{{XSI}}}noNamespaceSchemaLocation", SCHEMA)
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    order = SubElement(root, "TIME_ORDER")
    annotations = list[tuple[int, int, Element]]()
    for name, spans in _tiers(clip, MILLISECONDS):
        tier = SubElement(root, "TIER", LINGUISTIC_TYPE_REF="region", TIER_ID=name)
        below = SubElement(root, "TIER", LINGUISTIC_TYPE_REF="peak", PARENT_REF=name, TIER_ID=f"{name} peaks")
        for span in spans:
            annotations.append((span.start, span.end, _annotation(tier, f"a{len(annotations) + 1}", span.label)))
            if span.peak is not None:
                at = min(span.peak, span.end - 1)
                annotations.append((at, at + 1, _annotation(below, f"a{len(annotations) + 1}", "peak")))
    slots = [(at, which, a) for a in annotations for at, which in ((a[0], "TIME_SLOT_REF1"), (a[1], "TIME_SLOT_REF2"))]
    for number, (at, which, (_, _, element)) in enumerate(sorted(slots, key=lambda slot: slot[0]), 1):
        SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(at))
        element.set(which, f"ts{number}")
    if clip.media is not None:
        SubElement(header, "MEDIA_DESCRIPTOR", _media(clip.media, folder))
    SubElement(header, "PROPERTY", NAME="clip_id").text = one_line(clip.clip_id)
    SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(len(annotations))
    for kind, limits in (("region", {}), ("peak", {"CONSTRAINTS": "Included_In"})):
        attributes = {"LINGUISTIC_TYPE_ID": kind, "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false", **limits}
        SubElement(root, "LINGUISTIC_TYPE", attributes)
    for stereotype, text in CONSTRAINTS.items():
        SubElement(root, "CONSTRAINT", STEREOTYPE=stereotype, DESCRIPTION=text)
    return root


def _annotation(tier: Element, name: str, label: str) -> Element:
    element = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", ANNOTATION_ID=name)
    SubElement(element, "ANNOTATION_VALUE").text = label
    return element


def _media(media: Path, folder: Path) -> dict[str, str]:
    """The recording's absolute place, and the one relative to the document."""
    media = Path(media).resolve()
    attributes = {"MEDIA_URL": media.as_uri(), "MIME_TYPE": MIME_TYPES.get(media.suffix.lower(), "unknown")}
    try:
        relative = Path(relpath(media, folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return attributes
    return {**attributes, "RELATIVE_MEDIA_URL": f"./{quote(relative)}"}


# --- regions in whole units of time ------------------------------------------------------------------------------


def _tiers(clip: ClipRegions, per_s: int) -> Iterator[tuple[str, list[Span]]]:
    """Voice and face always, so that tiers have the same numbers in every file; "both" where there is such a curve."""
    for name, labels in clip.labels.items():
        spans = [Span(round(start * per_s), round(end * per_s), None, one_line(text)) for start, end, text in labels]
        yield name, [span for span in spans if span.start < span.end]
    for modality, name in TIERS.items():
        if modality != FUSED or modality in clip.regions:
            yield name, _spans(clip, modality, per_s)


def _spans(clip: ClipRegions, modality: str, per_s: int) -> list[Span]:
    """A tier's regions cut to the clip, in order, without overlap."""
    spans, at = list[Span](), 0
    last = math.inf if clip.duration_s is None else round(clip.duration_s * per_s)
    for r in clip.regions.get(modality, ()):
        place = f"clip {clip.clip_id!r}, {TIERS[modality]}: region {r.start_s:g}..{r.end_s:g} s"
        start, end = round(r.start_s * per_s), int(min(round(r.end_s * per_s), last))
        if start == at - 1:  # neighbours that were rounded towards each other
            start = at
        if start < at:
            raise ManifestError(f"{place} overlaps the one before it; merge them, or write CSV or JSON")
        if end <= start:
            length = "" if clip.duration_s is None else f", or outside the clip of {clip.duration_s:g} s"
            raise ManifestError(f"{place} is shorter than {1 / per_s:g} s{length}; leave it out")
        peak = None if r.peak_s is None else min(max(round(r.peak_s * per_s), start), end)
        label = "; ".join(one_line(part) for part in (clip.emotion, clip.source, f"mass {r.mass:.3f}") if part)
        spans.append(Span(start, end, peak, label))
        at = end
    return spans


def one_line(text: str) -> str:
    """Text on one line, without characters that XML forbids."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in "\ufffe\uffff" else c for c in text)
