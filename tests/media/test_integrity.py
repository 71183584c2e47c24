from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from avser.media.audio import decode_audio
from avser.media.integrity import find_damage, tells_its_length

RATE = 16000
NAMES = ["a.wav", "a.avi", "a.mp4", "a.mov", "a.m4a", "a.mkv", "a.webm", "a.ts", "a.opus", "a.flv"]


@pytest.fixture
def written(write_media):
    """Two seconds of sound, and of a picture where the container holds one."""

    def write(name: str) -> Path:
        t = np.arange(2 * 48000) / 48000
        images = [np.full((48, 64, 3), 20 + 4 * i, np.uint8) for i in range(50)]
        if name == "a.flv":
            return write_flv(write_media("b.mp4", images=images).with_name(name))
        sound = {"audio": 0.3 * np.sin(900 * t), "rate_hz": 48000}
        return write_media(name, **sound, **({} if name in ("a.wav", "a.m4a", "a.opus") else {"images": images}))

    return write


def write_flv(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flv", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 4 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def format_of(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.format.name


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_has_no_damage(written, name):
    path = written(name)
    assert find_damage(path, format_of(path)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_end_is_told(written, name):
    path = written(name)
    kind, whole = format_of(path), path.read_bytes()
    for lost in (1, 7, 300):
        path.write_bytes(whole[:-lost])
        [sentence] = find_damage(path, kind)
        assert sentence.startswith(f"{name}: truncated")
        if name not in ("a.ts", "a.opus", "a.flv"):
            assert f"; {lost} bytes fewer than its header declares" in sentence


@pytest.mark.parametrize("name", ["a.wav", "a.avi", "a.mkv", "a.webm", "a.ts", "a.opus", "a.flv"])
def test_a_hole_in_the_middle_is_told(written, name):
    path = written(name)
    kind, whole = format_of(path), path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + whole[len(whole) // 2 + 101 :])
    assert find_damage(path, kind)


def test_a_bit_in_an_ogg_page_is_told(written):
    path = written("a.opus")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # in the last page, which FFmpeg leaves out without a word
    path.write_bytes(data)
    assert find_damage(path, "ogg") == [
        "a.opus: damaged; 1 of its pages are faulty or missing",
        "a.opus: truncated; its last page is missing",
    ]


def test_a_faulty_matroska_cluster_is_told(written):
    path = written("a.mkv")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert find_damage(path, "matroska,webm") == ["a.mkv: damaged; 1 of its clusters are faulty"]


def test_flac_without_its_beginning_is_told(write_media):
    path = write_media("a.flac", audio=np.sin(np.arange(2 * RATE) / 10), rate_hz=RATE)
    assert find_damage(path, "flac") == []
    path.write_bytes(path.read_bytes()[9000:])
    assert find_damage(path, "flac") == ["a.flac: truncated; its beginning is missing"]


def test_a_transport_packet_without_its_mark_is_told(written):
    path = written("a.ts")
    data = bytearray(path.read_bytes())
    data[188 * 20 : 188 * 23] = bytes(188 * 3)
    path.write_bytes(data)
    assert find_damage(path, "mpegts") == ["a.ts: damaged; 3 of its packets are faulty"]


@pytest.mark.parametrize(("at", "value"), [(24, 48768), (28, 1), (34, 24)], ids=["rate", "bytes a second", "bits"])
def test_a_wav_header_that_contradicts_itself_is_told(written, at, value):
    path = written("a.wav")
    data = bytearray(path.read_bytes())
    data[at : at + 2] = struct.pack("<H", value)
    path.write_bytes(data)
    [sentence] = find_damage(path, "wav")
    assert "damaged; 1 channels of" in sentence
    assert "bytes a second that it declares" in sentence


def test_sound_behind_the_declared_end_of_a_wav_is_told(written):
    path = written("a.wav")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    [sentence] = find_damage(path, "wav")
    assert "damaged; there is no chunk at byte" in sentence


def test_lengths_that_were_never_filled_in_are_no_damage(written):
    path = written("a.wav")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff" * 4  # what programs write that cannot go back, e.g. into a pipe
    path.write_bytes(data)
    assert find_damage(path, "wav") == []
    mkv = written("a.mkv")
    data = bytearray(mkv.read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    mkv.write_bytes(data)
    assert find_damage(mkv, format_of(mkv)) == []


@pytest.mark.parametrize("data", [b"", b"RIFF", b"\x1a\x45\xdf\xa3", b"OggS" * 50, bytes(400), b"\x47" * 100, b"FLV"])
@pytest.mark.parametrize("kind", ["wav", "avi", "mov,mp4,m4a", "matroska,webm", "ogg", "mpegts", "flv", "flac", "x"])
def test_nothing_that_is_no_media_breaks_the_checks(tmp_path, data, kind):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert all(sentence.startswith("x: ") for sentence in find_damage(path, kind))


def test_an_mp3_file_that_tells_its_length_is_taken_at_its_word(write_media):
    path = write_media("a.mp3", audio=np.sin(np.arange(2 * RATE) / 10), rate_hz=RATE)
    assert tells_its_length(path)
    whole = path.read_bytes()
    assert decode_audio(path)[1] == []
    frames = [i for i in range(len(whole)) if whole[i : i + 2] == whole[whole.index(b"\xff\xf3") :][:2]]
    path.write_bytes(whole[: frames[len(frames) // 2]])  # at the end of a frame: no packet is damaged
    [warning] = decode_audio(path)[1]
    assert "truncated; the data end" in warning
    path.write_bytes(whole[frames[1] :])  # without the frame that tells
    assert not tells_its_length(path)
    assert decode_audio(path)[1] == []
