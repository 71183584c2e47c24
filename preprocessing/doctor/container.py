"""What a file is before it is decoded: there or not, its tracks, and when each of them starts and ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from avser.errors import MediaError
from avser.media.container import FAULTS, OpenMedia, open_media
from preprocessing.adapter import LFS_HEAD


@dataclass
class TrackFacts:
    """One track of a file; what does not apply to its kind, or is not told, is None.

    Attributes:
        codec: FFmpeg's name, e.g. "h264".
        start_s, end_s: of what the track holds, from time 0 of the file (where its earliest track starts).
        sample_rate_hz, num_channels: of audio.
        width_px, height_px, fps: of video; `fps` counts the frames that are there.
        num_frames: of video.
        longest_gap_s: between two frames of video.
    """

    codec: str
    start_s: float | None = None
    end_s: float | None = None
    sample_rate_hz: int | None = None
    num_channels: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    fps: float | None = None
    num_frames: int | None = None
    longest_gap_s: float | None = None


@dataclass
class FileFacts:
    """One file of a manifest.

    Attributes:
        path: as the manifest names it.
        problem: "missing", "pointer" (Git LFS), "empty" or "unreadable"; empty where it can be opened.
        reason: a sentence on the problem.
        num_bytes: its size.
        sha256: only where another file has the same size.
        audio, video: the track of each kind that avser reads; None without one.
    """

    path: str
    problem: str = ""
    reason: str = ""
    num_bytes: int | None = None
    sha256: str | None = None
    audio: TrackFacts | None = None
    video: TrackFacts | None = None


def examine_file(root: Path, name: str, *, with_digest: bool, media: bool = True) -> FileFacts:
    """Look at a file; never raises for what may be wrong with it.

    Args:
        name: relative to `root`.
        with_digest: compute `sha256`.
        media: False for a table, whose tracks are not looked for.
    """
    facts, path = FileFacts(name), root / name
    try:
        if not path.is_file():
            link = "a link to content that is not there" if path.is_symlink() else "no such file"
            return FileFacts(name, "missing", f"{link} below {root}")
        facts.num_bytes = path.stat().st_size
        if not facts.num_bytes:
            facts.problem, facts.reason = "empty", "0 bytes"
            return facts
        with path.open("rb") as file:
            if file.read(len(LFS_HEAD)) == LFS_HEAD:
                facts.problem, facts.reason = "pointer", "a Git LFS pointer, not the recording"
                return facts
            file.seek(0)
            if with_digest:
                facts.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if media:
            _read_tracks(path, facts)
    except (MediaError, OSError) as error:
        facts.problem, facts.reason = "unreadable", without_path(error, path)
    return facts


def without_path(error: Exception, path: Path) -> str:
    """The sentence of an error, without the file that a finding names anyway."""
    return str(error).replace(f"{path}: ", "").replace(str(path), path.name)


def _read_tracks(path: Path, facts: FileFacts) -> None:
    starts = {kind: _first_frame_s(path, kind) for kind in ("audio", "video")}
    with open_media(path) as media:
        times = _packet_times(media)
        if media.audio is not None:
            sound = media.audio.codec_context
            facts.audio = TrackFacts(
                sound.codec.name, sample_rate_hz=sound.sample_rate, num_channels=sound.layout.nb_channels
            )
            _set_span(facts.audio, times[media.audio.index], starts["audio"])
        if media.video is not None:
            picture = media.video.codec_context
            facts.video = TrackFacts(picture.codec.name, width_px=picture.width, height_px=picture.height)
            _set_span(facts.video, times[media.video.index], starts["video"])
            _set_rate(facts.video, times[media.video.index])
    _count_from_zero([track for track in (facts.audio, facts.video) if track is not None])


def _first_frame_s(path: Path, kind: str) -> float | None:
    """When the first decoded frame of a track starts: packets begin earlier, with what the decoder drops.

    That is the priming of an audio codec, or what an edit list cuts away.
    """
    with open_media(path) as media:
        stream = media.audio if kind == "audio" else media.video
        if stream is None:
            return None
        frame = next(media.frames(stream), None)
        return None if frame is None or frame.time is None else float(frame.time)


def _packet_times(media: OpenMedia) -> dict[int, list[tuple[float, float]]]:
    """Index of a track -> (start, end) of its packets in seconds of the file's clock, in order of time."""
    times: dict[int, list[tuple[float, float]]] = {stream.index: [] for stream in media.container.streams}
    packets = media.container.demux()
    while True:
        try:
            packet: Any = next(packets, None)
        except FAULTS:  # the file ends in the middle of a packet; the decoding tells how much is lost
            packet = None
        if packet is None:
            return {index: sorted(found) for index, found in times.items()}
        if packet.pts is not None and packet.time_base is not None and packet.size and not packet.is_discard:
            start = float(packet.pts * packet.time_base)
            times[packet.stream.index].append((start, start + float((packet.duration or 0) * packet.time_base)))


def _set_span(track: TrackFacts, times: list[tuple[float, float]], start_s: float | None) -> None:
    """Of packets without any time nothing is told."""
    if start_s is not None and times:
        track.start_s, track.end_s = start_s, max(end for _, end in times)


def _set_rate(video: TrackFacts, times: list[tuple[float, float]]) -> None:
    video.num_frames = len(times)
    starts = [start for start, _ in times]
    if len(starts) < 2 or starts[-1] <= starts[0]:
        return
    mean_step_s = (starts[-1] - starts[0]) / (len(starts) - 1)
    video.fps = 1 / mean_step_s
    video.longest_gap_s = max(later - earlier for earlier, later in pairwise(starts))
    if video.end_s is not None:  # not every container tells how long a frame is shown
        video.end_s = max(video.end_s, starts[-1] + mean_step_s)


def _count_from_zero(tracks: list[TrackFacts]) -> None:
    """Times of the file's own clock become seconds from its time 0."""
    zero_s = min((track.start_s for track in tracks if track.start_s is not None), default=0.0)
    for track in tracks:
        if track.start_s is not None and track.end_s is not None:
            track.start_s, track.end_s = track.start_s - zero_s, track.end_s - zero_s
