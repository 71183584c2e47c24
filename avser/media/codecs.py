"""What PyAV can decode here: the codecs in which people's recordings and the corpora come."""

from __future__ import annotations

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError

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
