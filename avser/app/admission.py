"""What the page takes in: recordings within its limits, of the formats that are read. The rest is refused at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from avser.errors import ConfigError, MediaError
from avser.media.video import MediaInfo, probe

MB = 1_000_000
HEAD_BYTES = 512
KINDS = "MP4, MOV, WebM, MKV, AVI, MPEG, WMV or FLV with a picture; WAV, MP3, M4A, FLAC, OGG, AIFF or AMR with a voice"
MAX_PICTURES_S = 240.0  # a second; phones in slow motion give as many
MAX_PIXELS = 4096 * 2304  # of a picture: 4K

# How files begin that people mistake for recordings, to name them. What may be read, `avser.media.codecs.FORMATS` says.
_OTHERS = {
    "an archive": rb"PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
    "a picture": rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*",
    "a document": rb"%PDF|\xd0\xcf\x11\xe0|\{\\rtf",
    "a program": rb"\x7fELF|MZ|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe|\#![ /]",
    "a playlist": rb"\s*(\#EXTM3U|ffconcat|\[playlist\])",
}


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Attributes:
        max_mb: size of a file in megabytes (1 000 000 bytes).
        max_s: length of a recording in seconds.
    """

    max_mb: float = 200.0
    max_s: float = 120.0

    def __post_init__(self) -> None:
        for option, value in {"--max-mb": self.max_mb, "--max-s": self.max_s}.items():
            if not 0 < value < float("inf"):
                raise ConfigError(f"{option} {value:g}: must be a number above 0")


def admit(path: Path, name: str, limits: Limits) -> MediaInfo:
    """Look at a file before any work is spent on it.

    Args:
        path: where it lies. name: what people call it, for the messages.

    Raises:
        MediaError: too large, too long, no recording by its content, or nothing in it to see or to hear.
    """
    size_mb = path.stat().st_size / MB
    if size_mb > limits.max_mb:
        raise MediaError(
            f"{name} has {size_mb:.1f} MB; at most {limits.max_mb:g} MB are taken here. Cut the recording, or encode "
            "it smaller"
        )
    check_kind(path, name)
    try:
        info = probe(path)
    except MediaError as error:
        raise MediaError(f"{with_name(error, path, name)}. Taken are {KINDS}") from error
    if not (info.has_audio or info.has_video):
        raise MediaError(f"{name} has neither a voice nor a picture in it. Taken are {KINDS}")
    check_length(info.duration_s, name, limits)
    _check_picture(info, name)
    return info


def check_kind(path: Path, name: str) -> None:
    """Raise MediaError for what begins as something else than a recording does, whatever its name ends with."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise MediaError(f"{name} is empty. Copy it again, or record anew")
    kind = next((k for k, start in _OTHERS.items() if re.match(start, head, re.DOTALL)), None)
    if kind == "an archive":
        raise MediaError(f"{name} is an archive. Unpack it, and give one recording")
    if kind:
        raise MediaError(f"{name} is {kind}. Taken are {KINDS}")


def check_length(duration_s: float | None, name: str, limits: Limits) -> None:
    """Raise MediaError for a recording that is too long; None, where a header does not say, passes."""
    if duration_s is not None and duration_s > limits.max_s:
        raise MediaError(
            f"{name} lasts {say_length(duration_s)}; at most {say_length(limits.max_s)} are taken here. Cut out the "
            "part that you want to know about"
        )


def _check_picture(info: MediaInfo, name: str) -> None:
    """Raise MediaError for a picture that is far beyond what cameras give: to decode it would hold everyone up."""
    if (info.width_px or 0) * (info.height_px or 0) > MAX_PIXELS:
        raise MediaError(
            f"{name} has pictures of {info.width_px}x{info.height_px} px; at most 4K is taken here. Encode it smaller"
        )
    if (info.fps or 0) > MAX_PICTURES_S and (info.fps or 0) * (info.duration_s or 0) > MAX_PICTURES_S * 60:
        raise MediaError(f"{name} has {info.fps:.0f} pictures a second; encode it with at most {MAX_PICTURES_S:g}")


def say_length(seconds: float) -> str:
    """5.2 s; 3 min 20 s; 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    return f"{minutes // 60} h {minutes % 60} min"


def describe_media(info: MediaInfo) -> str:
    """What a header says, in a line: 3.2 s · 480 × 360 px · 30 pictures a second · with a voice."""
    parts = [say_length(info.duration_s)] if info.duration_s is not None else []
    if info.has_video:
        parts.append(f"{info.width_px}x{info.height_px} px")
        parts += [f"{info.fps:.0f} pictures a second"] if info.fps else []
    both = {(True, True): "with a voice", (True, False): "a voice, no picture", (False, True): "no sound"}
    return " · ".join([*parts, both[info.has_audio, info.has_video]])


def with_name(error: Exception | str, path: Path, name: str) -> str:
    """The message with the name that the person knows instead of a path of the server."""
    return str(error).replace(str(path), name).replace(path.name, name)
