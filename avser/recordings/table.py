"""A recording's answer as rows of a table for people: one for every stretch of every face."""

from __future__ import annotations

from collections.abc import Sequence

from avser.recordings.result import Recording, Stretch
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import MODALITIES, Region

MOMENTS = 2  # regions that a cell names; the others are in the files
SPEAKS = {True: "yes", False: "no", None: ""}


def answer_table(recordings: Sequence[Recording]) -> ReportTable:
    """Of all recordings; where one shows several faces, each has rows of its own, and columns say who it is."""
    several = any(recording.faces for recording in recordings)
    rows: list[Sequence[Cell]] = []
    for recording in recordings:
        stretches = [s for n in sorted(recording.faces) for s in recording.faces[n]] or recording.timeline
        for stretch in sorted(stretches, key=lambda s: (s.start_s, s.face or 0)):
            rows.append(_row(recording, stretch, several))
    who = ["face", "speaks"] if several else []
    columns = ["recording", "seconds", *who, "emotion", "%", "voice stands out", "face stands out"]
    return ReportTable("", columns, rows, _caption(recordings))


def _row(recording: Recording, s: Stretch, several: bool) -> list[Cell]:
    regions = recording.summary.regions
    leads = not recording.faces or any(
        t.face == s.face and t.start_s < s.end_s and s.start_s < t.end_s for t in recording.timeline
    )
    voice, face = (_moments(regions.get(modality, ()), s) if leads else "" for modality in MODALITIES)
    return [
        recording.name,
        f"{s.start_s:.1f}-{s.end_s:.1f}",
        *(["" if s.face is None else str(s.face), SPEAKS[s.speaks]] if several else []),
        s.emotion or f"({s.remark})",
        None if s.emotion is None else f"{100 * s.probabilities[s.emotion]:.0f}",
        voice,
        face,
    ]


def _moments(regions: Sequence[Region], s: Stretch) -> str:
    inside = [r for r in regions if s.start_s <= r.centre_s < s.end_s]
    strongest = sorted(sorted(inside, key=lambda r: -r.mass)[:MOMENTS], key=lambda r: r.start_s)
    more = f" +{len(inside) - MOMENTS}" if len(inside) > MOMENTS else ""
    return ", ".join(f"{r.start_s:.1f}-{r.end_s:.1f}" for r in strongest) + more


def _caption(recordings: Sequence[Recording]) -> str:
    long = [r for r in recordings if len(r.timeline) > 1 and r.summary.emotion]
    if not long:
        return ""
    wholes = [f"{r.name} {r.summary.emotion} {100 * r.summary.probabilities[r.summary.emotion]:.0f} %" for r in long]
    return "Mean over time: " + "; ".join(wholes) + "."
