"""Examine one clip of a manifest: its files, its voice, its face, and how its sound lies to its picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avser.config import MediaConfig
from avser.data.manifest import ClipRow
from avser.errors import AvserError
from avser.media.audio import decode_audio, is_silent
from preprocessing.doctor.container import FileFacts, TrackFacts, examine_file, without_path
from preprocessing.doctor.face import FaceFacts, Find, build_finder, examine_face, frames_to_look_at
from preprocessing.doctor.voice import VoiceFacts, examine_voice, sound_lag

LAG_LOOK_S = 30.0  # of two recordings of one sound, this much is compared


@dataclass(frozen=True)
class Job:
    """A clip to examine, with everything that a worker needs.

    Attributes:
        digests: paths whose digest is wanted.
        face_fps: frames a second in which faces are looked for.
    """

    row: ClipRow
    root: Path
    media: MediaConfig
    digests: frozenset[str]
    face_fps: float


@dataclass
class ClipFacts:
    """What was measured of one clip; plain values, None where there is nothing to measure.

    Attributes:
        duration_s: of the clip: the longer of its tracks, or its interval in them.
        files: column of the manifest -> its file.
        voice, face: None without one, or where nothing could be decoded.
        no_voice, no_face: why not, in that case.
        sound_lag_s: how much later the manifest's audio is than the sound of its video file, where these are two files.
        sound_alike: correlation of the two at that lag.
        failure: an error of the examination itself, or the death of its process.
    """

    clip_id: str
    duration_s: float | None = None
    files: dict[str, FileFacts] = field(default_factory=dict)
    voice: VoiceFacts | None = None
    no_voice: str = ""
    face: FaceFacts | None = None
    no_face: str = ""
    sound_lag_s: float | None = None
    sound_alike: float | None = None
    failure: str = ""

    def tracks(self) -> Iterator[tuple[str, TrackFacts]]:
        """(column, the track that the column promises) of every one that is there."""
        for column in ("audio", "video"):
            track = getattr(self.files[column], column) if column in self.files else None
            if track is not None:
                yield column, track


def examine_chunk(jobs: list[Job]) -> list[tuple[ClipFacts, bytes]]:
    """Facts and a small JPEG (or no bytes) of every clip; a file that several clips share is looked into once.

    Raises:
        ConfigError: the tracker's model cannot be used.
    """
    find = build_finder(jobs[0].media) if any(job.row.video for job in jobs) else None
    seen: dict[str, FileFacts] = {}
    return [_examine_clip(job, find, seen) for job in jobs]


def crashed(job: Job) -> tuple[ClipFacts, bytes]:
    """The facts of a clip that took its process down."""
    failure = "the process that decoded it died (a crash of the decoder, or out of memory)"
    return ClipFacts(job.row.clip_id, failure=failure), b""


def _examine_clip(job: Job, find: Find | None, seen: dict[str, FileFacts]) -> tuple[ClipFacts, bytes]:
    """Look at one clip; whatever is wrong with it stands in its facts. Files looked into are added to `seen`."""
    facts, thumbnail = ClipFacts(job.row.clip_id), b""
    try:
        _examine_files(job, facts, seen)
        waveform = _examine_voice(job, facts)
        facts.duration_s = _duration_s(job.row, facts)
        thumbnail = _examine_face(job, facts, find)
        if waveform is not None:
            _compare_sounds(job, facts, waveform)
    except Exception as error:  # whatever is wrong with one clip, the others go on
        facts.failure = f"{type(error).__name__}: {error}"
    return facts, thumbnail


def _examine_files(job: Job, facts: ClipFacts, seen: dict[str, FileFacts]) -> None:
    for column in ("audio", "video", "face_features"):
        if name := getattr(job.row, column):
            if name not in seen:
                media = column != "face_features"
                seen[name] = examine_file(job.root, name, with_digest=name in job.digests, media=media)
            facts.files[column] = seen[name]


def _duration_s(row: ClipRow, facts: ClipFacts) -> float | None:
    start_s, end_s = row.start_s or 0.0, row.end_s if row.end_s is not None else np.inf
    lengths = [min(track.end_s, end_s) - start_s for _, track in facts.tracks() if track.end_s is not None]
    if facts.voice is not None:
        lengths.append(facts.voice.duration_s)
    return max((length for length in lengths if length > 0), default=None)


def _examine_voice(job: Job, facts: ClipFacts) -> np.ndarray | None:
    track = dict(facts.tracks()).get("audio")
    if track is None:
        return None
    path = job.root / job.row.audio
    rate_hz = track.sample_rate_hz or job.media.sample_rate_hz
    try:
        facts.voice, waveform = examine_voice(path, rate_hz, track.num_channels or 1, job.row.start_s, job.row.end_s)
    except AvserError as error:
        facts.no_voice = without_path(error, path)
        return None
    return waveform


def _examine_face(job: Job, facts: ClipFacts, find: Find | None) -> bytes:
    track = dict(facts.tracks()).get("video")
    if track is None:
        return b""
    row, path = job.row, job.root / job.row.video
    end_s = row.end_s if row.end_s is not None else track.end_s
    fps = frames_to_look_at(None if end_s is None else end_s - (row.start_s or 0.0), job.face_fps)
    try:
        facts.face, thumbnail = examine_face(row, path, find, job.media.crop_px, fps)
    except AvserError as error:
        facts.no_face = without_path(error, path)
        return b""
    return thumbnail


def _compare_sounds(job: Job, facts: ClipFacts, waveform: np.ndarray) -> None:
    """Two files with sound in both: do they tell the same time?"""
    row, other = job.row, facts.files.get("video")
    if other is None or other.audio is None or other.video is None or row.video == row.audio:
        return
    if facts.voice is None or facts.voice.silent:
        return
    rate_hz = round(len(waveform) / facts.voice.duration_s)
    end_s = min((row.start_s or 0.0) + LAG_LOOK_S, row.end_s or np.inf)
    try:
        sound, _ = decode_audio(job.root / row.video, sample_rate_hz=rate_hz, start_s=row.start_s, end_s=end_s)
    except AvserError:
        return  # the manifest does not promise that sound
    if not is_silent(sound):
        facts.sound_lag_s, facts.sound_alike = sound_lag(waveform[: len(sound)], sound, rate_hz)
