"""The cache: every clip of a manifest decoded once, one safetensors file each; its writer and its reader.

    cache/ravdess/
        cache.json              format version, settings and their hash
        clips/<clip_id>.safetensors
        failures.csv            clip_id, kind (failed | partial), reason

What a clip file holds is told in `avser.data.clip_file`.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avser.config import MediaConfig
from avser.data.cache_settings import cache_settings, hash_settings, read_settings, refuse_differences, write_settings
from avser.data.clip_file import read_about, read_clip_file, write_atomically, write_clip
from avser.data.manifest import ClipRow, Manifest
from avser.data.parallel import map_chunks
from avser.errors import AvserError, CacheError
from avser.structures import MODALITIES, Clip

CHUNK_SIZE = 8  # clips that share one tracker: enough to pay for building it, few enough for a live progress bar
STALE_S = 600.0  # a temporary file this old was left by a run that was killed


@dataclass(frozen=True)
class Failure:
    """A clip that is not in the cache (`failed`), or lacks a modality that its manifest promised (`partial`)."""

    clip_id: str
    reason: str
    kind: str = "failed"


@dataclass
class CacheReport:
    """What `build_cache` did.

    Attributes:
        num_clips: in the manifest; num_cached + len(failures).
        num_cached: in the cache now.
        num_reused: those of them that were there already, unchanged.
        failures: clips that are not in the cache.
        partial: clips in the cache without a modality that the manifest promised.
        warnings: "clip_id: sentence" of every clip that carries warnings.
    """

    num_clips: int
    num_cached: int = 0
    num_reused: int = 0
    failures: list[Failure] = field(default_factory=list)
    partial: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def build_cache(
    manifest: Manifest, out: str | Path, media: MediaConfig, *, workers: int = 1, progress: bool = True
) -> CacheReport:
    """Decode every clip of a manifest into `out`; clips that are there already and unchanged are kept.

    A clip that cannot be used becomes a row of `failures.csv` and is tried again by the next run. One run at a time
    may write to a folder; it may be killed at any moment.

    Args:
        workers: processes.
        progress: show a bar on stderr.

    Raises:
        CacheError: `out` was made with other settings, or cannot be written.
        ConfigError: the face tracker cannot be built, e.g. its model is missing.
    """
    if workers < 1:
        raise CacheError(f"workers={workers}: takes 1 or more processes")
    out = Path(out)
    tracker_for(media)  # a missing model is one error now, not a failure of every clip
    settings_hash = _open_for_writing(out, media)
    report = CacheReport(len(manifest))
    jobs: list[_Job] = []
    for row in manifest.rows:
        job = _plan(manifest, row, out, media, settings_hash)
        about = {} if isinstance(job, Failure) else read_about(job.target)
        if isinstance(job, Failure):
            _remove(_clip_path(out, row.clip_id))
            report.failures.append(job)
        elif about.get("key") == job.key:
            _record(report, _Done(job.clip_id, about["partial"], about["warnings"]), reused=True)
        else:
            jobs.append(job)
    try:
        results = map_chunks(_cache_chunk, jobs, workers=workers, chunk_size=CHUNK_SIZE, on_crash=_crashed)
        for done in _with_progress(results, len(jobs), progress):
            _record(report, done)
    finally:
        _write_failures(out / "failures.csv", [*report.failures, *report.partial])
    return report


def tracker_for(media: MediaConfig) -> Any:
    """The face tracker of these settings, None for "none": for the cache and for prediction, so that both see alike."""
    from avser.media.faces import build_tracker

    faces = asdict(media.faces)
    return build_tracker(faces.pop("tracker"), crop_px=media.crop_px, **faces)


class ClipCache:
    """Reads clips from a folder that `build_cache` made.

    Args:
        media: the settings that the clips must have been made with; None takes what is there.

    Raises:
        CacheError: no cache there, a format this version cannot read, or other settings; with the differences.
    """

    def __init__(self, folder: str | Path, media: MediaConfig | None = None) -> None:
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        if media is not None:
            refuse_differences(self.folder, self.settings, cache_settings(media))

    def __contains__(self, clip_id: str) -> bool:
        return _clip_path(self.folder, clip_id).is_file()

    def load(self, clip_id: str, *, modalities: Sequence[str] = MODALITIES) -> Clip:
        """The clip as `avser.media` decoded it, but for rounding to 16 bits and JPEG; other modalities are None.

        Raises:
            CacheError: the clip is not in the cache, or its file is damaged.
        """
        try:
            return read_clip_file(_clip_path(self.folder, clip_id), modalities)
        except FileNotFoundError as error:
            raise CacheError(f"clip {clip_id} is not in {self.folder}; the reason is in failures.csv there") from error

    def modalities(self, clip_id: str) -> tuple[str, ...]:
        """Which modalities the cache holds of a clip; none where it lacks the clip. Reads the file's head only."""
        return tuple(self._about(clip_id).get("modalities", ()))

    def duration_s(self, clip_id: str) -> float:
        """Length of a clip in seconds; 0 where the cache lacks it. Reads the file's head only."""
        return float(self._about(clip_id).get("duration_s", 0.0))

    def _about(self, clip_id: str) -> dict[str, Any]:
        return read_about(_clip_path(self.folder, clip_id))


# --- building ----------------------------------------------------------------------------------------------------


def _open_for_writing(out: Path, media: MediaConfig) -> str:
    """Make the folder, or check that it was made with the same settings; returns the settings' hash."""
    settings = cache_settings(media)
    settings_hash = hash_settings(settings)
    try:
        (out / "clips").mkdir(parents=True, exist_ok=True)
        for leftover in (out / "clips").glob(".*.tmp"):
            if time.time() - leftover.stat().st_mtime > STALE_S:
                leftover.unlink()
        if (out / "cache.json").exists():
            refuse_differences(out, read_settings(out), settings)
        else:
            write_settings(out, settings)
    except OSError as error:
        raise CacheError(f"{out}: cannot be written ({error}); give another folder") from error
    return settings_hash


@dataclass(frozen=True)
class _Job:
    """A clip to be decoded, with everything a worker needs."""

    clip_id: str
    audio: Path | None
    video: Path | None
    start_s: float | None
    end_s: float | None
    target: Path
    key: str
    media: MediaConfig


@dataclass(frozen=True)
class _Done:
    """A clip that is in the cache now."""

    clip_id: str
    partial: str
    warnings: list[str]


def _clip_path(folder: Path, clip_id: str) -> Path:
    return folder / "clips" / f"{clip_id}.safetensors"


def _plan(manifest: Manifest, row: ClipRow, out: Path, media: MediaConfig, settings_hash: str) -> _Job | Failure:
    audio, video = manifest.audio_path(row), manifest.video_path(row)
    sources = []
    for path, name in ((audio, row.audio), (video, row.video)):
        if path is not None:
            if not path.is_file():
                return Failure(row.clip_id, f"{name}: no such file below {manifest.root}")
            sources.append([name, path.stat().st_size, path.stat().st_mtime_ns])
    key = hashlib.sha256(json.dumps([settings_hash, sources, row.start_s, row.end_s]).encode()).hexdigest()
    return _Job(row.clip_id, audio, video, row.start_s, row.end_s, _clip_path(out, row.clip_id), key, media)


def _cache_chunk(jobs: list[_Job]) -> list[_Done | Failure]:
    tracker = tracker_for(jobs[0].media)
    return [_cache_clip(job, tracker) for job in jobs]


def _cache_clip(job: _Job, tracker: Any) -> _Done | Failure:
    from avser.media.clip import read_clip  # reading a cache takes no decoder

    try:
        clip = read_clip(
            job.clip_id,
            audio=job.audio,
            video=job.video,
            tracker=tracker,
            sample_rate_hz=job.media.sample_rate_hz,
            fps=job.media.fps,
            start_s=job.start_s,
            end_s=job.end_s,
        )
        partial = _lost(clip, job, tracker is not None)
        write_clip(job.target, clip, key=job.key, partial=partial)
        return _Done(job.clip_id, partial, clip.warnings)
    except Exception as error:  # whatever is wrong with one clip, the others go on
        _remove(job.target)
        kind = "" if isinstance(error, AvserError) else f"{type(error).__name__}: "
        return Failure(job.clip_id, " ".join(f"{kind}{error}".split()))


def _lost(clip: Clip, job: _Job, tracked: bool) -> str:
    """What the clip lacks of what its manifest promised, and why; empty where nothing."""
    reasons = []
    if job.video is not None and tracked and clip.face is None:
        reasons = ["no face: audio only", *clip.warnings]
    if job.audio is not None and clip.waveform is None:
        reasons = ["no voice: video only", *clip.warnings]
    return "; ".join(reasons)


def _crashed(job: _Job) -> Failure:
    _remove(job.target)
    return Failure(job.clip_id, "the process that decoded it died (a crash of the decoder, or out of memory)")


def _remove(path: Path) -> None:
    """A clip that failed may have a file of an older source."""
    with contextlib.suppress(OSError):
        path.unlink()


def _record(report: CacheReport, result: _Done | Failure, *, reused: bool = False) -> None:
    if isinstance(result, Failure):
        report.failures.append(result)
        return
    report.num_cached += 1
    report.num_reused += reused
    report.warnings += [f"{result.clip_id}: {warning}" for warning in result.warnings]
    if result.partial:
        report.partial.append(Failure(result.clip_id, result.partial, "partial"))


def _with_progress(results: Iterator[_Done | Failure], total: int, shown: bool) -> Iterator[_Done | Failure]:
    columns = (TextColumn("caching"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("caching", total=total, rate="")
        for result in results:
            bar.advance(task)
            state = bar.tasks[0]
            bar.update(task, rate=f"{state.completed / max(state.elapsed or 0, 1e-3):.1f} clips/s")
            yield result


def _write_failures(path: Path, failures: list[Failure]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip_id", "kind", "reason"])
    writer.writerows([f.clip_id, f.kind, f.reason] for f in sorted(failures, key=lambda f: f.clip_id))
    write_atomically(path, text.getvalue().encode())
