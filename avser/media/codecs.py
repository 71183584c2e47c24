"""What is read: the file formats that may be opened, and the codecs in which recordings and the corpora come."""

from __future__ import annotations

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError

# What a file may be, by FFmpeg's names. Not among them are those that have FFmpeg open further files or addresses, such
# as playlists and lists of files to be joined (hls, concat, dash, sdp, image2): a file must never leave itself.
FORMATS = (
    *("mov", "matroska", "avi", "flv", "asf", "mpeg", "mpegvideo", "mpegts", "m4v", "dv"),
    *("wav", "w64", "aiff", "au", "caf", "flac", "ogg", "mp3", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb"),
)

# FFmpeg's name -> where it is met.
CODECS = {
    "h264": "MP4 of cameras, telephones and most corpora",
    "hevc": "MP4 of newer telephones",
    "mpeg4": "AVI of older corpora (DivX, Xvid)",
    "mjpeg": "AVI of cameras",
    "flv": "Flash video, as CREMA-D's",
    "vp8": "WebM of browsers",
    "vp9": "WebM of browsers",
    "av1": "video of the web",
    "aac": "sound of MP4",
    "mp3": "MP3",
    "opus": "sound of WebM and of messengers",
    "vorbis": "Ogg",
    "flac": "FLAC",
    "pcm_s16le": "WAV",
}


def missing_decoders() -> list[str]:
    """Those of `CODECS` that this PyAV cannot decode."""
    missing = []
    for name in CODECS:
        try:
            Codec(name, "r")
        except UnknownCodecError:
            missing.append(name)
    return missing


def describe_library() -> str:
    """The version of PyAV and of the FFmpeg that it carries."""
    return f"PyAV {av.__version__} with FFmpeg {getattr(av, 'ffmpeg_version_info', 'of unknown version')}"
