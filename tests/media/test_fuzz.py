"""Hundreds of damaged media files: each gives a clip or a MediaError; nothing crashes, hangs or is lost silently.

The files are read in child processes, so that a crash or a hang is a finding about one file and not the end.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[2]
FPS, DURATION_S = 12, 1.5
RATES_HZ = {".webm": 48000, ".ogg": 48000, ".flv": 22050}  # all that these take
LIMIT_S = 20.0  # for one file of a second and a half
MAX_LOST_S = 0.2  # that need no warning: encoder priming, a frame at either end

CODECS: dict[str, tuple[str | None, str | None]] = {
    ".mp4": ("libx264", "aac"),
    ".mov": ("mpeg4", "pcm_s16le"),
    ".mkv": ("libx264", "flac"),
    ".avi": ("mpeg4", "pcm_s16le"),
    ".flv": ("flv", "libmp3lame"),
    ".webm": ("libvpx", "libopus"),
    ".ts": ("mpeg2video", "mp2"),
    ".wav": (None, "pcm_s16le"),
    ".flac": (None, "flac"),
    ".mp3": (None, "libmp3lame"),
    ".ogg": (None, "libopus"),
    ".m4a": (None, "aac"),
}

CHILD = """
import json, sys
from pathlib import Path
from avser.errors import MediaError
from avser.media.clip import read_clip
from avser.media.faces import build_tracker

tracker = build_tracker(sys.argv[1], crop_px=32, model=sys.argv[2] or None)
print("ready", flush=True)
for line in sys.stdin:
    path, has_video = json.loads(line)
    try:
        clip = read_clip("x", audio=Path(path), video=Path(path) if has_video else None, tracker=tracker)
        face = None if clip.face is None else [float(clip.face.times[0]), float(clip.face.times[-1]), len(clip.face)]
        voice_s = None if clip.waveform is None else len(clip.waveform) / clip.sample_rate_hz
        answer = {"voice_s": voice_s, "face": face, "warnings": clip.warnings}
    except MediaError as error:
        answer = {"error": str(error)}
    except Exception as error:
        answer = {"other": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Damaged:
    """A mutated file: what it was made from, and how."""

    path: Path
    base: Path
    how: str


# --- intact files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of each kind, and the real clips where there are some."""
    folder = tmp_path_factory.mktemp("bases")
    paths = [write_media(folder / f"base{suffix}", *codecs) for suffix, codecs in CODECS.items()]
    if real := os.environ.get("AVSER_REAL_DATA"):
        paths += sorted((Path(real) / "cremad" / "VideoFlash").glob("*.flv"))[:2]
    return paths


def write_media(path: Path, video_codec: str | None, audio_codec: str | None) -> Path:
    """A moving picture and a voice-like sound that is never silent."""
    packets = []
    with av.open(str(path), "w", options={"fflags": "bitexact"}) as container:  # else it holds a random number
        if video_codec:
            video = container.add_stream(video_codec, rate=24 if video_codec == "mpeg2video" else FPS)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.codec_context.gop_size = 6
            if video_codec == "libx264":
                video.options = {"preset": "ultrafast", "x264-params": "threads=1:deterministic=1:crf=20"}
        if audio_codec:
            rate = RATES_HZ.get(path.suffix, 16000)
            audio = container.add_stream(audio_codec, rate=rate, layout="mono")
        container.start_encoding()
        if video_codec:
            packets += encode_video(video)
        if audio_codec:
            packets += encode_audio(audio)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            container.mux(packet)
    return path


def encode_video(stream: Any) -> list[av.Packet]:
    rate = int(stream.average_rate)
    texture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    packets = []
    for i in range(round(DURATION_S * rate)):
        frame = av.VideoFrame.from_ndarray(np.roll(texture, 2 * i, 1), format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def encode_audio(stream: Any) -> list[av.Packet]:
    context = stream.codec_context
    t = np.arange(round(DURATION_S * context.sample_rate)) / context.sample_rate
    sound = 0.3 * np.sin(2 * np.pi * 150 * t) + 0.02 * np.random.default_rng(0).standard_normal(len(t))
    packets, size = [], context.frame_size or 1024
    for i in range(0, len(sound), size):
        samples = np.round(sound[i : i + size] * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = context.sample_rate, i, Fraction(1, context.sample_rate)
        for converted in av.AudioResampler(format=context.format.name, layout="mono").resample(frame):
            packets += stream.encode(converted)
    return packets + stream.encode(None)


# --- damage ------------------------------------------------------------------------------------------------------

# A run of MP3 frames is whole wherever it begins.
UNDETECTABLE = {(".mp3", "without its beginning")}

Mutation = Callable[[bytearray, np.random.Generator, list[Path]], bytes]


def flip_bits(density: float) -> Mutation:
    def flip(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
        for bit in rng.integers(0, 8 * len(data), max(1, round(density * 8 * len(data)))):
            data[bit // 8] ^= 1 << (bit % 8)
        return bytes(data)

    return flip


def flip_in_head(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    for bit in rng.integers(0, 8 * min(len(data), 512), rng.integers(1, 9)):
        data[bit // 8] ^= 1 << (bit % 8)
    return bytes(data)


def truncate(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return bytes(data[: rng.integers(1, len(data))])


def cut_front(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return bytes(data[rng.integers(1, len(data)) :])


def head_only(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return bytes(data[: rng.choice([4, 12, 44, 100, 400])])


def empty(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return b""


def append_other(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return bytes(data) + others[rng.integers(len(others))].read_bytes()


def zero_blocks(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    for _ in range(rng.integers(1, 5)):
        start, size = rng.integers(len(data)), rng.integers(16, 4096)
        data[start : start + size] = bytes(len(data[start : start + size]))
    return bytes(data)


def swap_blocks(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    size = int(rng.integers(16, max(17, len(data) // 3)))
    a, b = sorted(int(x) for x in rng.integers(0, max(1, len(data) - size), 2))
    b = max(b, a + size)
    return bytes(data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :])


def insert_noise(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    at = rng.integers(len(data))
    return bytes(data[:at]) + rng.bytes(int(rng.integers(1, 3000))) + bytes(data[at:])


def noise(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return rng.bytes(int(rng.integers(1, 20_000)))


def untouched(data: bytearray, rng: np.random.Generator, others: list[Path]) -> bytes:
    return bytes(data)


MUTATIONS: dict[str, Mutation] = {
    "one bit": flip_bits(0),
    "1e-5 of the bits": flip_bits(1e-5),
    "1e-4 of the bits": flip_bits(1e-4),
    "1e-3 of the bits": flip_bits(1e-3),
    "1e-2 of the bits": flip_bits(1e-2),
    "bits of the head": flip_in_head,
    "truncated": truncate,
    "without its beginning": cut_front,
    "head only": head_only,
    "empty": empty,
    "another one appended": append_other,
    "blocks of zeros": zero_blocks,
    "blocks swapped": swap_blocks,
    "noise inserted": insert_noise,
    "noise throughout": noise,
    "wrong suffix": untouched,
}


def damage(bases: list[Path], folder: Path, num_files: int, seed: int) -> list[Damaged]:
    """Every kind of damage to files of every kind, in turn."""
    files = []
    for i in range(num_files):
        rng = np.random.default_rng([seed, i])
        how = list(MUTATIONS)[i % len(MUTATIONS)]
        base = bases[rng.integers(len(bases))]
        suffix = base.suffix if how != "wrong suffix" else str(rng.choice([*CODECS, ".txt", ".jpg", ".m3u8", ""]))
        path = folder / f"{i:03d}{suffix}"
        path.write_bytes(MUTATIONS[how](bytearray(base.read_bytes()), rng, bases))
        files.append(Damaged(path, base, how))
    return files


# --- reading in children -----------------------------------------------------------------------------------------


def read_all(paths: Sequence[tuple[Path, bool]], tracker: str = "center", model: str = "") -> Iterator[dict[str, Any]]:
    """What reading each file gave: the answer of the child, or {"died": ...} where it gave none.

    Args:
        paths: and whether there should be a face in them.
    """
    child: subprocess.Popen[str] | None = None
    lines: queue.Queue[str] = queue.Queue()
    for path, has_video in paths:
        if child is None:
            child, lines = start_child(tracker, model)
            assert lines.get(timeout=90) is not None
        assert child.stdin is not None
        child.stdin.write(json.dumps([str(path), has_video]) + "\n")
        child.stdin.flush()
        try:
            line = lines.get(timeout=LIMIT_S)
        except queue.Empty:
            line, why = "", f"it hung for more than {LIMIT_S:g} s"
        else:
            why = "" if line else f"exit code {child.wait()}"
        if line:
            yield json.loads(line)
            continue
        child.kill()
        child.wait()
        child = None
        yield {"died": why}
    if child is not None:
        child.communicate()


def start_child(tracker: str, model: str) -> tuple[subprocess.Popen[str], queue.Queue[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tracker, model],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()

    def pump() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=pump, daemon=True).start()
    return child, lines


# --- judging -----------------------------------------------------------------------------------------------------


def faults_of(file: Damaged, intact: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the way in which a file was read."""
    for key in ("died", "other"):
        if key in found:
            yield f"{key}: {found[key]}"
            return
    if "error" in found or found["warnings"]:
        return
    if (file.base.suffix, file.how) in UNDETECTABLE:
        return
    for part, seconds in (
        ("voice", intact["voice_s"]),
        ("face", None if intact["face"] is None else intact["face"][1]),
    ):
        left = found["voice_s"] if part == "voice" else None if found["face"] is None else found["face"][1]
        if seconds is not None and (left is None or left < seconds - MAX_LOST_S):
            yield f"{part} of {left} s instead of {seconds} s, and no warning"
    if intact["face"] is not None and found["face"] is not None and found["face"][2] < intact["face"][2] - 2:
        yield f"{found['face'][2]} frames instead of {intact['face'][2]}, and no warning"


def check(bases: list[Path], files: list[Damaged], tracker: str = "center", model: str = "") -> None:
    intact = dict(zip(bases, read_all([(base, has_video(base)) for base in bases], tracker, model), strict=True))
    for base, found in intact.items():
        assert found.get("warnings") == [], f"{base}: {found}"
    answers = read_all([(file.path, has_video(file.base)) for file in files], tracker, model)
    faults = [
        f"{file.path} ({file.base.name}, {file.how}): {fault}"
        for file, answer in zip(files, answers, strict=True)
        for fault in faults_of(file, intact[file.base], answer)
    ]
    assert not faults, "\n".join([f"{len(faults)} faults in {len(files)} files", *faults])


def has_video(base: Path) -> bool:
    return CODECS[base.suffix][0] is not None


def test_five_hundred_damaged_files(bases, tmp_path):
    check(bases, damage(bases, tmp_path, 500, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_two_thousand_more(bases, tmp_path, seed):
    check(bases, damage(bases, tmp_path, 500, seed=seed))


@pytest.mark.real_data
def test_damaged_files_and_the_real_tracker(real_data, tmp_path):
    """Frames of any size and content, which only damage makes, go into MediaPipe."""
    clips = sorted((real_data / "cremad" / "VideoFlash").glob("*.flv"))[:2]
    check(clips, damage(clips, tmp_path, 32, seed=0), "mediapipe", str(real_data / "models"))
