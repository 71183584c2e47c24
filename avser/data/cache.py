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
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avser.config import MediaConfig
from avser.data.cache_folder import clip_path, open_folder
from avser.data.cache_jobs import Done, Failure, Job, job_crashed, open_tracker, plan_job, run_jobs
from avser.data.cache_settings import cache_settings, hash_settings, read_settings, refuse_differences, write_settings
from avser.data.clip_file import CLIP_PARTS, read_about, read_clip_file, read_fingerprint, write_atomically
from avser.data.manifest import Manifest
from avser.data.parallel import map_chunks
from avser.data.progress import with_progress
from avser.errors import CacheError
from avser.structures import Clip

CHUNK_SIZE = 8  # clips at most that share one tracker: enough to pay for building it, few enough for live progress


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
    manifest: Manifest,
    out: str | Path,
    media: MediaConfig,
    *,
    workers: int = 1,
    backend: str = "local",
    progress: bool = True,
) -> CacheReport:
    """Decode every clip of a manifest into `out`; clips that are there already and unchanged are kept.

    A clip that cannot be used becomes a row of `failures.csv` and is tried again by the next run. A run may be killed
    at any moment: the next one goes on after the last clip that was finished.

    Args:
        workers: processes.
        backend: where they run, see `avser.data.parallel.map_chunks`.
        progress: show a bar on stderr, or lines where that is no terminal.

    Raises:
        CacheError: `out` was made with other settings, cannot be written, or another run is writing there.
        ConfigError: the face tracker cannot be built, e.g. its model is missing; or the backend cannot be used.
    """
    if workers < 1:
        raise CacheError(f"workers={workers}: takes 1 or more processes")
    out = Path(out)
    with open_tracker(media):
        pass  # a missing model is one error now, not a failure of every clip
    report = CacheReport(len(manifest))
    with open_folder(out):
        jobs = _plan(manifest, out, media, report)
        size = max(1, min(CHUNK_SIZE, len(jobs) // (4 * workers)))
        results = map_chunks(run_jobs, jobs, workers=workers, chunk_size=size, on_crash=job_crashed, backend=backend)
        try:
            for result in with_progress(results, len(jobs), verb="caching", shown=progress, has_failed=_is_failure):
                _record(report, result, out)
        finally:
            _write_failures(out / "failures.csv", [*report.failures, *report.partial])
    return report


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
        return clip_path(self.folder, clip_id).is_file()

    def load(self, clip_id: str, *, parts: Sequence[str] = CLIP_PARTS) -> Clip:
        """The clip as `avser.media` decoded it, but for rounding the voice to 16 bits; other parts are None.

        Raises:
            CacheError: the clip is not in the cache, or its file is damaged.
        """
        try:
            return read_clip_file(clip_path(self.folder, clip_id), parts)
        except FileNotFoundError as error:
            raise CacheError(f"clip {clip_id} is not in {self.folder}; the reason is in failures.csv there") from error

    def fingerprint(self, clip_id: str) -> np.ndarray:
        """(T,) uint32 of the clip's voice, see `avser.data.fingerprint`; empty for a clip without voice.

        Raises:
            CacheError: the clip is not in the cache, or its file is damaged.
        """
        try:
            return read_fingerprint(clip_path(self.folder, clip_id))
        except FileNotFoundError as error:
            raise CacheError(f"clip {clip_id} is not in {self.folder}; the reason is in failures.csv there") from error

    def parts(self, clip_id: str) -> tuple[str, ...]:
        """Which parts the cache holds of a clip; none where it lacks the clip. Reads the file's head only."""
        return tuple(self._about(clip_id).get("parts", ()))

    def duration_s(self, clip_id: str) -> float:
        """Length of a clip in seconds; 0 where the cache lacks it. Reads the file's head only."""
        return float(self._about(clip_id).get("duration_s", 0.0))

    def _about(self, clip_id: str) -> dict[str, Any]:
        return read_about(clip_path(self.folder, clip_id))


# --- building ----------------------------------------------------------------------------------------------------


def _plan(manifest: Manifest, out: Path, media: MediaConfig, report: CacheReport) -> list[Job]:
    """What is left to do; clips that are there and files that are missing go to the report at once."""
    settings_hash = _settle_settings(out, media)
    jobs = []
    for row in manifest.rows:
        job = plan_job(manifest, row, out, media, settings_hash)
        if isinstance(job, Failure):
            _record(report, job, out)
            continue
        about = read_about(job.target)
        if about.get("key") == job.key:
            _record(report, Done(row.clip_id, about["partial"], about["warnings"]), out)
            report.num_reused += 1
        else:
            jobs.append(job)
    return jobs


def _settle_settings(out: Path, media: MediaConfig) -> str:
    """Write the settings, or check that the folder was made with the same ones; returns their hash."""
    settings = cache_settings(media)
    if (out / "cache.json").exists():
        refuse_differences(out, read_settings(out), settings)
    else:
        try:
            write_settings(out, settings)
        except OSError as error:
            raise CacheError(f"{out}: cannot be written ({error}); give another folder") from error
    return hash_settings(settings)


def _is_failure(result: Done | Failure) -> bool:
    return isinstance(result, Failure)


def _record(report: CacheReport, result: Done | Failure, out: Path) -> None:
    if isinstance(result, Failure):
        with contextlib.suppress(OSError):  # a clip that failed may have a file of an older source
            clip_path(out, result.clip_id).unlink()
        report.failures.append(result)
        return
    report.num_cached += 1
    report.warnings += [f"{result.clip_id}: {warning}" for warning in result.warnings]
    if result.partial:
        report.partial.append(Failure(result.clip_id, result.partial, "partial"))


def _write_failures(path: Path, failures: list[Failure]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip_id", "kind", "reason"])
    writer.writerows([f.clip_id, f.kind, f.reason] for f in sorted(failures, key=lambda f: f.clip_id))
    write_atomically(path, text.getvalue().encode())
