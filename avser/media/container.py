"""Opens media files that may come from anywhere: every fault becomes a MediaError, and both tracks get one time 0."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avser.errors import MediaError
from avser.media.codecs import FORMATS
from avser.media.integrity import find_damage, tells_its_length

MAX_DURATION_S = 4 * 3600.0  # timestamps beyond are taken for damage; 4 h at 16 kHz are 0.9 GB
MAX_SIDE_PX = 8192
PREROLL_S = 1.0  # decoded before a cut, so that decoders have settled where it begins
END_TOLERANCE_S = 0.15  # a file may end this much before the duration its header declares
GUESSED_DURATION = frozenset({"aac", "ac3", "adts"})  # raw streams: FFmpeg guesses from the bit rate

# What FFmpeg and PyAV raise for files that are damaged, forged or of no known kind. IndexError: PyAV does not expect
# tracks that only show up on the way.
FAULTS = (av.FFmpegError, ValueError, OverflowError, MemoryError, OSError, IndexError)

# Only the file itself, and only formats that hold their media themselves: a playlist would have FFmpeg open whatever
# else lies on the disk, or fetch it.
CONFINED = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
_one_listens = Lock()


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Whatever a decoder raises inside becomes a MediaError that names the file."""
    try:
        yield
    except FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(f"{path}: not readable as a media file ({reason}); the file is damaged or no media") from error


def check_present(path: Path) -> None:
    """Raise MediaError where there is no file, only a folder, or a Git LFS pointer instead of the file."""
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if not path.is_file():
        raise MediaError(f"{path}: is not a file; name the media file itself")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({error.strerror})") from error
    if head.startswith(b"version https://git-lfs"):
        raise MediaError(f"{path}: is a Git LFS pointer, not the recording; fetch it with `git lfs pull`")


@dataclass
class OpenMedia:
    """An open file with the tracks that are used, and the damage met while reading them."""

    path: Path
    container: InputContainer
    audio: AudioStream | None
    video: VideoStream | None
    num_damaged: int = 0
    at_end: bool = False
    ends_s: dict[int, float] = field(default_factory=dict)
    tick_s: dict[int, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def frames(self, stream: AudioStream | VideoStream, from_s: float | None = None) -> Iterator[Any]:
        """The decoded frames of one track.

        Args:
            stream: `audio` or `video` of this file.
            from_s: by the file's own clock; frames from there on are certain to come, earlier ones may.
        """
        decoded = self._decode(stream)
        if from_s is None or not self._seek(from_s - PREROLL_S):
            yield from decoded
            return
        first = next(decoded, None)
        if first is None or first.time is None or first.time > from_s:  # behind the key frame, or no index: read it all
            self.container.seek(self.container.start_time or 0)
            self.num_damaged = 0
            yield from self._decode(stream)
        else:
            yield first
            yield from decoded

    def damage(self) -> list[str]:
        """Sentences on what could not be decoded; complete once `frames` has been read to the end."""
        found = [*self.notes, *find_damage(self.path, self.container.format.name)]
        if self.num_damaged:
            found.append(f"{self.path.name}: {self.num_damaged} damaged packets left out")
        if self.at_end and (missing := list(self._missing_ends())):
            return [*(note for note in found if "truncated" not in note), *missing]  # seconds say more than bytes
        return found

    def _missing_ends(self) -> Iterator[str]:
        """Of the file, or of a track in a file that is whole but for its index."""
        ends: list[tuple[str, float, float | None]] = [
            ("the data end", max(self.ends_s.values(), default=-math.inf), self._declared_end_s())
        ]
        if "mp4" in self.container.format.name.split(","):  # others do not tell, or only roughly
            for kind, track in (("audio", self.audio), ("video", self.video)):
                if track is not None and track.duration is not None:
                    end_s = self.ends_s.get(track.index, -math.inf)
                    declared = ((track.start_time or 0) + track.duration) * (track.time_base or 0)
                    ends.append((f"the {kind} track ends", end_s, float(declared)))
        for what, end_s, declared_s in ends:
            if declared_s is not None and end_s < declared_s - END_TOLERANCE_S:
                lost_s = declared_s - end_s
                yield f"{self.path.name}: truncated; {what} {lost_s:.2f} s before the end that its header declares"
                return

    def _decode(self, stream: AudioStream | VideoStream) -> Iterator[AudioFrame | VideoFrame]:
        # Packets of all tracks are looked at, decoded or not: only the last of them shows where the file ends.
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets, None)
            except FAULTS:
                self.num_damaged += 1
                packet = None
            if packet is None:
                break
            self._note_end(packet)
            if packet.stream.index == stream.index:
                yield from self._decode_packet(stream, packet)
        yield from self._decode_packet(stream, None)
        self.at_end = True

    def _decode_packet(self, stream: Any, packet: Packet | None) -> list[Any]:
        try:
            return stream.decode(packet)
        except EOFError:  # the decoder was emptied before
            return []
        except FAULTS:
            self.num_damaged += 1
            return []

    def _seek(self, clock_s: float) -> bool:
        begin_s = (self.container.start_time or 0) / av.time_base
        if clock_s <= begin_s:
            return False
        try:
            self.container.seek(int(clock_s * av.time_base))
        except FAULTS:
            return False
        return True

    def _note_end(self, packet: Packet) -> None:
        if packet.pts is None:
            return
        index = packet.stream.index
        if index not in self.tick_s:  # looked up once: fractions are slow, and there are many packets
            self.tick_s[index] = float(packet.time_base or 0)
        end_s = (packet.pts + (packet.duration or 0)) * self.tick_s[index]
        self.ends_s[index] = max(self.ends_s.get(index, -math.inf), end_s)

    def _declared_end_s(self) -> float | None:
        container, name = self.container, self.container.format.name
        guessed = name in GUESSED_DURATION or (name == "mp3" and not tells_its_length(self.path))
        if container.duration is None or guessed:
            return None
        return ((container.start_time or 0) + container.duration) / av.time_base


@contextmanager
def open_media(path: Path) -> Iterator[OpenMedia]:
    """Open a file for decoding.

    Raises:
        MediaError: missing, empty, a Git LFS pointer, of no known format or of one that is not among
            `avser.media.codecs.FORMATS`, or damaged beyond reading; also for whatever a decoder raises inside the
            `with`.
    """
    check_present(path)
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty; fetch it again")
    with faults_of(path):
        container = _open_confined(path)
    with container, faults_of(path):
        yield _with_tracks(path, container)


def _open_confined(path: Path) -> InputContainer:
    try:
        return _open(path)
    except av.ArgumentError as error:
        if name := _refused_format(path):
            raise MediaError(
                f"{path}: is a file of the format {name!r}, which is not read here; convert it, for example to MP4, "
                "Matroska, WAV or FLAC"
            ) from error
        raise


def _open(path: Path) -> InputContainer:
    # "file:" because a name may hold a colon.
    return av.open(f"file:{path}", metadata_errors="ignore", options=dict(CONFINED))


def _refused_format(path: Path) -> str:
    """FFmpeg's name of a format that it refused to open; empty where it had another reason.

    It says so only in its log, which is off by default: the file is refused once more with the log on.
    """
    with _one_listens:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture():
                _open(path).close()
        except av.ArgumentError as error:
            said: Any = error.log or (0, "", "")  # level, who says it, what
            return said[1] if "not on whitelist" in said[2] else ""
        except FAULTS:
            return ""
        finally:
            av.logging.set_level(level)
    return ""


def time_zero_s(path: Path) -> float:
    """When the earliest audio or video frame of a file starts, in seconds of the file's own clock.

    Measured by decoding the first frame of each track: the starts that headers declare count frames (encoder priming)
    that a decoder then drops.

    Raises:
        MediaError: as `open_media`; or no track has a single decodable frame.
    """
    with open_media(path) as media:
        waiting: dict[int, Any] = {s.index: s for s in (media.audio, media.video) if s is not None}
        starts = []
        for packet in media.container.demux(list(waiting.values())):
            stream = waiting.get(packet.stream.index)
            frames = media._decode_packet(stream, packet) if stream is not None else []
            times = [frame.time for frame in frames if frame.time is not None]
            if times:
                starts.append(min(times))
                del waiting[packet.stream.index]
            if not waiting:
                break
        if not starts:
            raise MediaError(f"{path}: nothing in it can be decoded; the file is truncated or damaged, or has no track")
        return min(starts)


def check_interval(path: Path, start_s: float | None, end_s: float | None) -> tuple[float, float]:
    """The part of a file that is wanted, as numbers: start (0 by default) and end (infinite by default)."""
    start, end = start_s or 0.0, math.inf if end_s is None else end_s
    if not (0 <= start < end and math.isfinite(start)):
        raise MediaError(f"{path}: the part from {start_s} s to {end_s} s is empty; start_s must lie before end_s")
    return start, end


def _with_tracks(path: Path, container: InputContainer) -> OpenMedia:
    # A stream without a codec context is of a kind that this FFmpeg cannot decode.
    audio: list[AudioStream] = [s for s in container.streams.audio if s.codec_context is not None]
    pictures = Disposition.attached_pic | Disposition.still_image  # the cover of an album is no video
    video = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & pictures]
    media = OpenMedia(path, container, audio[0] if audio else None, video[0] if video else None)
    for kind, streams in (("audio", audio), ("video", video)):
        if len(streams) > 1:
            media.notes.append(f"{path.name}: {len(streams)} {kind} tracks; took the first")
    if media.video is not None:
        check_size(path, media.video.codec_context.width, media.video.codec_context.height)
        # A forged stream may grow once it is open; the decoder itself has to refuse, before it allocates.
        media.video.codec_context.options = {"max_pixels": str(MAX_SIDE_PX**2)}
    return media


def check_size(path: Path, width_px: int, height_px: int) -> None:
    """Raise MediaError for pictures too large to be a recording of a face."""
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise MediaError(f"{path}: pictures of {width_px}x{height_px} px; at most {MAX_SIDE_PX} px a side are read")
