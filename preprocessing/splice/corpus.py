"""Writes the corpus of joined takes: media, manifest, true regions, and what every clip was made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from avser.data.manifest import ClipRow, Manifest, write_manifest, write_regions
from avser.errors import ManifestError, MediaError
from avser.structures import AUDIO, VIDEO, Region
from preprocessing.encoding import write_flac, write_mp4
from preprocessing.report import LeftOut
from preprocessing.splice.joins import LAYOUTS, REGION
from preprocessing.splice.pairing import NEUTRAL, Settings, Slot, Splice, Take, cast_takes, deal_slots, make_splices
from preprocessing.splice.picture import Stretch, first_frame_s, join_frames


@dataclass(frozen=True)
class Made:
    """A clip on disk: its row, its regions (none for a control), and what it was made of."""

    row: ClipRow
    regions: list[Region]
    facts: dict[str, Any]


@dataclass
class SpliceReport:
    """What was made, what could not be and why, and sentences for the person."""

    rows: list[ClipRow] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_splices(
    manifest: Manifest,
    out: str | Path,
    settings: Settings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SpliceReport:
    """Write media/, regions.csv, splice.json and, last of all, manifest.csv; a folder without it is unfinished.

    Neutral takes spliced into neutral ones are controls: their emotion is neutral, and regions.csv has no row of them.

    Args:
        workers: processes; each makes the clips of one speaker.
        progress: called with (clips made or given up, clips in all).

    Raises:
        ManifestError: settings out of range, nothing to splice, or `out` holds the manifest of something else.
    """
    out = Path(out)
    _check(out, settings, workers)
    cast = cast_takes(manifest)
    slots = deal_slots(cast, settings)
    if not slots:
        reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in cast.left_out[:3])
        raise ManifestError(f"nothing to splice: needs neutral and other takes of one speaker ({reasons})")
    (out / "media").mkdir(parents=True, exist_ok=True)
    for name in ("manifest.csv", "regions.csv", "splice.json"):
        (out / name).unlink(missing_ok=True)
    rate, total = cast.sample_rate_hz, sum(map(len, slots.values()))
    jobs = (
        joblib.delayed(_write_speaker)(manifest, out / "media", cast.takes[speaker], slots[speaker], settings, rate)
        for speaker in slots
    )
    report, clips, done = SpliceReport(left_out=cast.left_out), list[Made](), 0
    results = joblib.Parallel(n_jobs=workers, return_as="generator")(jobs)
    for speaker, (made, failed) in zip(slots, results, strict=True):
        clips += made
        report.left_out += failed
        done += len(slots[speaker])
        if progress:
            progress(done, total)
    if not clips:
        raise ManifestError(f"no clip could be made; the first reason: {report.left_out[0].reason}")
    clips.sort(key=lambda clip: clip.row.clip_id)
    report.rows, report.notes = [clip.row for clip in clips], _notes(clips)
    write_regions({clip.row.clip_id: clip.regions for clip in clips if clip.regions}, out / "regions.csv")
    described = {"settings": asdict(settings), "sample_rate_hz": rate, "clips": {c.row.clip_id: c.facts for c in clips}}
    (out / "splice.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    write_manifest(report.rows, out / "manifest.csv")
    return report


def _check(out: Path, settings: Settings, workers: int) -> None:
    shortest, longest = settings.region_s
    if settings.seed < 0 or workers < 1 or (settings.count is not None and settings.count < 1):
        raise ManifestError(
            f"got {settings} and workers={workers}: count and workers must be 1 or more, seed 0 or more"
        )
    if not (0.1 <= shortest < longest and settings.carrier_s >= 0.1):
        raise ManifestError(
            f"got region_s={settings.region_s}, carrier_s={settings.carrier_s}: the shortest region must be below the "
            "longest, and nothing below 0.1 s"
        )
    if (out / "manifest.csv").exists() and not (out / "splice.json").exists():
        raise ManifestError(f"{out}: holds the manifest of another corpus; name an empty folder")


def _write_speaker(
    manifest: Manifest,
    folder: Path,
    takes: Mapping[str, Sequence[Take]],
    slots: Sequence[Slot],
    settings: Settings,
    rate: int,
) -> tuple[list[Made], list[LeftOut]]:
    """The clips of one speaker, and what could not be made."""
    made, sources, failed = list[Made](), [], []
    for splice in make_splices(manifest, takes, slots, settings, rate):
        if isinstance(splice, LeftOut):
            failed.append(splice)
            continue
        try:
            made.append(_write_clip(manifest, folder, splice, rate))
            sources.append([take.row for take in splice.takes])
        except MediaError as error:
            failed.append(LeftOut(f"clip {splice.slot.number + 1}", "bad", str(error)))
    names = _performances(sources)
    return [replace(m, row=replace(m.row, performance=name)) for m, name in zip(made, names, strict=True)], failed


def _write_clip(manifest: Manifest, folder: Path, splice: Splice, rate: int) -> Made:
    """Encode one clip: FLAC, or MP4 (with the sound as FLAC in it) where the takes have a picture."""
    clip_id = f"{splice.slot.number + 1:05d}_{splice.slot.emotion}"
    waveform, edges = splice.waveform, [0, *splice.joins, len(splice.waveform)]
    fps = None if (rate_fps := splice.takes[0].fps) is None else Fraction(rate_fps).limit_denominator(1001)
    if fps is None:
        name = f"{clip_id}.flac"
        write_flac(folder / name, waveform, rate)
    else:
        name = f"{clip_id}.mp4"
        num_frames = int(len(waveform) / rate * fps)
        edges[-1] = round(num_frames / fps * rate)  # both tracks end together
        frames = join_frames(_stretches(manifest, splice, rate), float(fps), num_frames)
        write_mp4(folder / name, waveform[: edges[-1]], frames, sample_rate_hz=rate, fps=fps, lossless=True)
    edges_s = [edge / rate for edge in edges]
    regions = [] if splice.slot.emotion == NEUTRAL else _regions(splice, edges_s, fps)
    return Made(_row(splice, clip_id, f"media/{name}"), regions, _facts(splice, edges_s, rate))


def _stretches(manifest: Manifest, splice: Splice, rate: int) -> list[Stretch]:
    stretches = []
    for piece in splice.plan.pieces:
        row = splice.takes[piece.source].row
        path = manifest.video_path(row)
        assert path is not None
        stretches.append(Stretch(path, (row.start_s or 0.0) + piece.start / rate, len(piece) / rate))
    return stretches


def _regions(splice: Splice, edges_s: list[float], fps: Fraction | None) -> list[Region]:
    """Between the middles of the cross-fades; in the picture, from the first frame of the emotional take on."""
    n = [piece.source for piece in splice.plan.pieces].index(REGION)
    start_s, end_s = edges_s[n], edges_s[n + 1]
    regions = [Region(AUDIO, start_s, end_s)]
    if fps is not None:
        last = n == len(splice.plan.pieces) - 1
        regions.append(Region(VIDEO, first_frame_s(start_s, fps), end_s if last else first_frame_s(end_s, fps)))
    return regions


def _row(splice: Splice, clip_id: str, media: str) -> ClipRow:
    carrier, take = (take.row for take in splice.takes)
    return ClipRow(
        clip_id,
        f"{take.corpus}_splice",
        take.speaker,
        take.emotion,
        audio=media,
        video=media if splice.takes[0].fps is not None else "",
        sex=take.sex,
        sentence=" + ".join(sorted({row.sentence for row in (carrier, take) if row.sentence})),
        intensity=take.intensity,
        session=take.session if take.session == carrier.session else "",
        side=take.side,
        split=take.split,
    )


def _facts(splice: Splice, edges_s: list[float], rate: int) -> dict[str, Any]:
    """For splice.json; the times of the pieces are seconds of the take they come from."""
    pieces = [
        {
            "clip_id": splice.takes[piece.source].row.clip_id,
            "start_s": piece.start / rate,
            "end_s": piece.start / rate + end - start,
        }
        for piece, (start, end) in zip(splice.plan.pieces, pairwise(edges_s), strict=True)
    ]
    return {
        "layout": splice.slot.layout,
        "pieces": pieces,
        "joins_s": edges_s[1:-1],
        "gain_db": round(splice.gain_db, 2),
        "mismatch_db": round(splice.plan.mismatch_db, 2),
    }


def _performances(sources: Sequence[Sequence[ClipRow]]) -> list[str]:
    """One name for all clips of a speaker that share a recording, be it through a third clip."""
    linked: list[set[str]] = []
    names = [
        {name for row in rows for name in (row.performance or row.clip_id, row.audio, row.video) if name}
        for rows in sources
    ]
    for of_clip in names:
        touched = [group for group in linked if group & of_clip]
        linked = [group for group in linked if not group & of_clip] + [of_clip.union(*touched)]
    firsts = {name: min(group) for group in linked for name in group}
    return [f"{rows[0].speaker}_{firsts[min(of_clip)]}" for rows, of_clip in zip(sources, names, strict=True)]


def _notes(clips: Sequence[Made]) -> list[str]:
    emotions = Counter(clip.row.emotion for clip in clips)
    layouts = Counter(clip.facts["layout"] for clip in clips)
    lengths = [region.duration_s for clip in clips for region in clip.regions if region.modality == AUDIO]
    counted = ", ".join(f"{emotion} {num}" for emotion, num in sorted(emotions.items()))
    notes = [f"clips by emotion: {counted} (neutral ones are controls without a region)"]
    notes.append(f"emotional region: {', '.join(f'{layouts[name]} {name}' for name in LAYOUTS)}")
    if lengths:
        low, middle, high = np.percentile(lengths, [5, 50, 95])
        notes.append(f"length of the regions: median {middle:.2f} s, 90 % between {low:.2f} s and {high:.2f} s")
    return notes
