"""Is a file whole? Looks at how a container is built for damage and missing ends that FFmpeg passes over in silence."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 2**31  # RIFF files that were streamed declare lengths beyond, as placeholders
PCM_FORMATS = (1, 3)  # of WAV: integers and floats, whose bytes a second follow from the rate
TS_PACKETS = {188: 0, 192: 4, 204: 0}  # size of a transport packet -> where in it the mark stands
TS_MARK = b"\x47"
MATROSKA_SEGMENT, MATROSKA_CLUSTER, MATROSKA_CHECKSUM = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xbf"
MATROSKA = {  # what a file, its segment and the clusters in it consist of
    bytes.fromhex(name)
    for name in "1a45dfa3 18538067 114d9b74 1549a966 1654ae6b 1043a770 1941a469 1c53bb6b 1254c367 1f43b675 ec bf "
    "e7 5854 a7 ab a3 a0 af".split()
}
FLV_TAGS = (8, 9, 18)  # sound, picture, description
OGG_FIRST, OGG_LAST = 2, 4
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_damage(path: Path, format_name: str) -> list[str]:
    """Sentences on what is missing or contradicts itself; empty where all is well, or the format does not tell.

    Args:
        format_name: as FFmpeg calls it, e.g. "matroska,webm".
    """
    checks: dict[str, Callable[[BinaryIO, int], Iterator[str]]] = {
        "wav": _damage_of_riff,
        "avi": _damage_of_riff,
        "mp4": _damage_of_boxes,
        "matroska": _damage_of_matroska,
        "flv": _damage_of_flv,
        "flac": _damage_of_flac,
        "ogg": _damage_of_ogg,
        "mpegts": _damage_of_transport_stream,
    }
    found = [check for name, check in checks.items() if name in format_name.split(",")]
    with path.open("rb") as file:
        return [f"{path.name}: {text}" for check in found for text in check(file, path.stat().st_size)]


def tells_its_length(path: Path) -> bool:
    """Whether an MP3 file says how many frames it has; else FFmpeg guesses its duration from the bit rate."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # its length has seven bits a byte
            file.seek(10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
            head = b""
        first_frame = head + file.read(256)
    return b"Xing" in first_frame or b"Info" in first_frame


def _truncated(num_bytes: int) -> str:
    return f"truncated; {num_bytes} bytes fewer than its header declares"


def _damage_of_riff(file: BinaryIO, size: int) -> Iterator[str]:
    """WAV and AVI: chunks of a name and a length, within chunks that are called RIFF."""
    at, end = 0, 0
    while at + 8 <= size:
        name, length = _read(file, at, 4), int.from_bytes(_read(file, at + 4, 4), "little")
        if at >= end:  # the next chunk must be a RIFF again
            end = at + 8 + length
            if name != b"RIFF" or length >= MAX_BYTES:
                return
            if end > size:
                yield _truncated(end - size)
                end = size
            at += 12
        elif not name.isascii() or not name.decode().isprintable():
            yield f"damaged; there is no chunk at byte {at}, what follows may be left out"
            return
        elif name == b"LIST" and _read(file, at + 8, 4) == b"movi":  # the pictures and the sound of an AVI file
            at += 12
        else:
            if name == b"fmt ":
                yield from _contradictions(_read(file, at + 8, 16))
            at += 8 + length
            at += length % 2 and _read(file, at, 1) == b"\0"  # not everybody fills odd chunks up


def _contradictions(header: bytes) -> Iterator[str]:
    """Of a WAV file's description of its samples."""
    kind, num_channels, rate_hz, bytes_a_second, block, bits = struct.unpack("<HHIIHH", header.ljust(16, b"\0"))
    if kind in PCM_FORMATS and (rate_hz * block != bytes_a_second or num_channels * bits > 8 * block):
        yield (
            f"damaged; {num_channels} channels of {bits} bits at {rate_hz} Hz do not make the {bytes_a_second} bytes "
            "a second that it declares"
        )


def _damage_of_boxes(file: BinaryIO, size: int) -> Iterator[str]:
    """MP4 and QuickTime: boxes of a length and a name."""
    at = 0
    while at + 8 <= size:
        length, name = int.from_bytes(_read(file, at, 4), "big"), _read(file, at + 4, 4)
        if length == 1:
            length = int.from_bytes(_read(file, at + 8, 8), "big")
        if length < 8 or not name.isalnum():  # to the end of the file, or what a device wrote behind the boxes
            return
        at += length
    if at > size:
        yield _truncated(at - size)


def _damage_of_matroska(file: BinaryIO, size: int) -> Iterator[str]:
    """Matroska and WebM: elements of a name and a length, one behind the other, if two of them are looked into."""
    at = end = cluster_end = num_faulty = 0
    while at < size:
        head = _read(file, at, 12)
        name = head[: _leading_zeros(head[0]) + 1]
        field = head[len(name) :]
        width = _leading_zeros(field[0]) + 1 if field else 9
        if name not in MATROSKA or width > 8:
            yield f"damaged; there is no element at byte {at}, what follows may be left out"
            return
        unknown = 2 ** (7 * width) - 1  # that is what a stream writes
        length = int.from_bytes(field[:width], "big") & unknown
        at += len(name) + width
        end = max(end, at + (0 if length == unknown else length))
        if name == MATROSKA_CLUSTER:
            cluster_end = at + length
        elif name != MATROSKA_SEGMENT:
            at += length
        if name == MATROSKA_CHECKSUM and at < cluster_end <= size:
            num_faulty += _read(file, at - length, length) != _checksum(file, at, cluster_end).to_bytes(4, "little")
    if num_faulty:
        yield f"damaged; {num_faulty} of its clusters are faulty"
    if end > size:
        yield _truncated(end - size)


def _leading_zeros(byte: int) -> int:
    """How many bits come before the first one that is set: Matroska's numbers tell their own length by it."""
    return 8 - byte.bit_length()


def _damage_of_flv(file: BinaryIO, size: int) -> Iterator[str]:
    """Flash: tags of a kind, a length, a time and the number 0, with four bytes between them."""
    at = int.from_bytes(_read(file, 5, 4), "big") + 4
    while at < size:
        head = _read(file, at, 11)
        if len(head) == 11 and (head[0] & 31 not in FLV_TAGS or head[8:] != bytes(3)):
            yield f"damaged; there is no tag at byte {at}, what follows may be left out"
            return
        at += 11 + int.from_bytes(head[1:4], "big") + 4
    if at > size:
        yield _truncated(at - size)


def _damage_of_flac(file: BinaryIO, size: int) -> Iterator[str]:
    """FLAC: FFmpeg also plays frames from somewhere in the middle."""
    if _read(file, 0, 4)[:3] not in (b"fLa", b"ID3"):
        yield "truncated; its beginning is missing"


def _damage_of_ogg(file: BinaryIO, size: int) -> Iterator[str]:
    """Numbered pages with a checksum each; the last of a stream is marked. FFmpeg leaves faulty ones out."""
    at, num_faulty = 0, 0
    following: dict[bytes, int] = {}  # the number of the next page of each stream that is not over
    while at < size:
        head = _read(file, at, 27)
        table = _read(file, at + 27, head[26]) if len(head) == 27 else b""
        page = head + table + _read(file, at + 27 + len(table), sum(table))
        if head[:4] != b"OggS" or not _is_intact(page):
            num_faulty += head[:4] == b"OggS" and len(page) == 27 + len(table) + sum(table)
            at = _find(file, at + 1, b"OggS")
            continue
        kind, stream, number = head[5], head[14:18], int.from_bytes(head[18:22], "little")
        num_faulty += not kind & OGG_FIRST and following.get(stream) != number
        following[stream] = number + 1
        if kind & OGG_LAST:
            del following[stream]
        at += len(page)
    if num_faulty:
        yield f"damaged; {num_faulty} of its pages are faulty or missing"
    if following:
        yield "truncated; its last page is missing"


def _is_intact(page: bytes) -> bool:
    """The checksum is that of zlib with the bits of every byte in the other order, and another beginning and end."""
    without = page[:22] + bytes(4) + page[26:]
    checksum = zlib.crc32(without.translate(REVERSED), 2**32 - 1) ^ (2**32 - 1)
    return checksum.to_bytes(4, "big").translate(REVERSED) == page[22:26]


def _damage_of_transport_stream(file: BinaryIO, size: int) -> Iterator[str]:
    """Packets of one size with a mark each; a file that begins or ends within one is a piece of another."""
    head = _read(file, 0, 5 * max(TS_PACKETS))
    packet = next((p for p, mark in TS_PACKETS.items() if not head[mark::p][:5].strip(TS_MARK)), 0)
    if not packet or size % packet:
        yield "truncated or damaged; it does not begin and end with a whole packet"
        return
    file.seek(0)
    num_faulty = 0
    while block := file.read(4096 * packet):
        marks = block[TS_PACKETS[packet] :: packet]
        num_faulty += len(marks) - marks.count(TS_MARK)
    if num_faulty:
        yield f"damaged; {num_faulty} of its packets are faulty"


def _checksum(file: BinaryIO, start: int, end: int) -> int:
    """CRC-32 of a part of a file."""
    file.seek(start)
    checksum = 0
    while (left := end - file.tell()) > 0 and (block := file.read(min(left, 2**20))):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _read(file: BinaryIO, at: int, num_bytes: int) -> bytes:
    file.seek(at)
    return file.read(num_bytes)


def _find(file: BinaryIO, at: int, marker: bytes) -> int:
    """Where the marker comes next, or the end of the file."""
    file.seek(at)
    rest = file.read(2**17)  # a page is at most half of that
    while rest:
        if (found := rest.find(marker)) >= 0:
            return file.tell() - len(rest) + found
        more = file.read(2**17)
        rest = rest[-3:] + more if more else b""
    return file.tell()
