"""The work of caching one clip: what determines the clip, and its way from the files to the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avser.config import MediaConfig
from avser.data.cache_folder import clip_path
from avser.data.clip_file import write_clip
from avser.data.manifest import ClipRow, Manifest
from avser.errors import AvserError
from avser.structures import Clip


@dataclass(frozen=True)
class Failure:
    """A clip that is not in the cache (`failed`), or lacks a modality that its manifest promised (`partial`)."""

    clip_id: str
    reason: str
    kind: str = "failed"


@dataclass(frozen=True)
class Done:
    """A clip that is in the cache; `partial` says what it lacks."""

    clip_id: str
    partial: str
    warnings: list[str]


@dataclass(frozen=True)
class Job:
    """A clip to be decoded, with everything a worker needs; `key` changes with anything that could change the clip."""

    row: ClipRow
    audio: Path | None
    video: Path | None
    face_features: Path | None
    target: Path
    key: str
    media: MediaConfig


def plan_job(manifest: Manifest, row: ClipRow, out: Path, media: MediaConfig, settings_hash: str) -> Job | Failure:
    """The job of one row; a Failure where a file is missing."""
    paths = {
        "audio": manifest.audio_path(row),
        "video": manifest.video_path(row),
        "face_features": manifest.features_path(row),
    }
    determined_by: list[Any] = [settings_hash, row.start_s, row.end_s, row.side]
    for column, path in paths.items():
        if path is not None:
            if not path.is_file():
                return Failure(row.clip_id, f"{getattr(row, column)}: no such file below {manifest.root}")
            determined_by.append([column, getattr(row, column), path.stat().st_size, path.stat().st_mtime_ns])
    key = hashlib.sha256(json.dumps(determined_by).encode()).hexdigest()
    return Job(row, **paths, target=clip_path(out, row.clip_id), key=key, media=media)


def run_jobs(jobs: list[Job]) -> list[Done | Failure]:
    """Decode clips of the same settings and write them, one after the other."""
    with open_tracker(jobs[0].media) as tracker:
        return [_run_job(job, tracker) for job in jobs]


def job_crashed(job: Job) -> Failure:
    """The result of a job that took its process down."""
    return Failure(job.row.clip_id, "the process that decoded it died (a crash of the decoder, or out of memory)")


def tracker_for(media: MediaConfig) -> Any:
    """The face tracker of these settings, None for "none": for the cache and for prediction, so that both see alike."""
    from avser.media.faces import build_tracker

    faces = asdict(media.faces)
    return build_tracker(faces.pop("tracker"), crop_px=media.crop_px, **faces)


@contextmanager
def open_tracker(media: MediaConfig) -> Iterator[Any]:
    """The face tracker with its model loaded, for many clips.

    Raises:
        ConfigError: it cannot be built, e.g. its model is missing or is none.
    """
    from avser.media.faces import kept_open

    tracker = tracker_for(media)
    with kept_open(tracker):
        yield tracker


def _run_job(job: Job, tracker: Any) -> Done | Failure:
    from avser.media.clip import read_clip  # reading a cache takes no decoder

    try:
        clip = read_clip(
            job.row.clip_id,
            audio=job.audio,
            video=job.video,
            tracker=tracker,
            sample_rate_hz=job.media.sample_rate_hz,
            fps=job.media.fps,
            start_s=job.row.start_s,
            end_s=job.row.end_s,
            side=job.row.side,
            face_features=job.face_features,
            feature_columns=job.media.face_features,
        )
        partial = _lost(clip, job, tracker is not None)
        write_clip(job.target, clip, key=job.key, partial=partial)
        return Done(job.row.clip_id, partial, clip.warnings)
    except Exception as error:  # whatever is wrong with one clip, the others go on
        kind = "" if isinstance(error, AvserError) else f"{type(error).__name__}: "
        return Failure(job.row.clip_id, " ".join(f"{kind}{error}".split()))


def _lost(clip: Clip, job: Job, tracked: bool) -> str:
    """What the clip lacks of what its manifest promised, and why; empty where nothing."""
    lost = {
        "voice": job.audio is not None and clip.waveform is None,
        "face": job.video is not None and tracked and clip.face is None,
        "face features": job.face_features is not None and clip.face_features is None,
    }
    missing = [f"no {part}" for part, is_lost in lost.items() if is_lost]
    unexplained = [text for text in missing if not any(warning.startswith(text) for warning in clip.warnings)]
    return "; ".join([*unexplained, *clip.warnings]) if missing else ""
