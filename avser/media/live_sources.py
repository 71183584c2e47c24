"""Where live pictures and sound come from: camera and microphone, or a file, in chunks on one time axis."""

from __future__ import annotations

import importlib
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avser.errors import ConfigError, MediaError
from avser.media.audio import iterate_audio
from avser.media.container import time_zero_s
from avser.media.native import import_native
from avser.media.video import Frame, iterate_frames, probe

SILENT_DEVICE_S = 3.0  # without a sample or a picture for so long, a device is taken to have gone
MAX_WAITING = 30  # pictures of a camera that wait to be looked at


@dataclass(frozen=True)
class Chunk:
    """What came in since the chunk before.

    Attributes:
        end_s: seconds from the beginning up to which this is.
        audio: (n,) float32 samples; None without a microphone or where the track has ended.
        frames: in order, with times from the same beginning.
        captured_at: `time.perf_counter()` when the last of it was there; None where it waits in a file.
        num_lost: pictures that were thrown away, as nobody fetched them in time.
        warnings: sentences for the person.
    """

    end_s: float
    audio: np.ndarray | None
    frames: list[Frame]
    captured_at: float | None = None
    num_lost: int = 0
    warnings: list[str] = field(default_factory=list)


def file_chunks(
    path: Path, chunk_s: float, *, sample_rate_hz: int, fps: float | None, voice: bool, face: bool
) -> Iterator[Chunk]:
    """A file as if it came in live; it is decoded as the chunks are asked for.

    Args:
        chunk_s: seconds a chunk.
        sample_rate_hz, fps: as the model wants them.
        voice, face: whether sound and pictures are wanted; a track that the file lacks is left out.

    Raises:
        MediaError: the file cannot be used, or has none of what is wanted.
    """
    info = probe(path)
    voice, face = voice and info.has_audio, face and info.has_video
    if not voice and not face:
        raise MediaError(f"{path}: has no track that the model reads; give another recording, or another model")
    zero_s, warnings = time_zero_s(path), list[str]()
    sound = iterate_audio(path, sample_rate_hz=sample_rate_hz, zero_s=zero_s, warnings=warnings) if voice else iter(())
    frames = iterate_frames(path, fps=fps, zero_s=zero_s, warnings=warnings) if face else iter(())
    samples, waiting, num_taken, index = np.zeros(0, np.float32), next(frames, None), 0, 0
    sounding = voice
    while sounding or len(samples) or waiting is not None:
        index += 1
        wanted = round(index * chunk_s * sample_rate_hz) - num_taken
        while sounding and len(samples) < wanted:
            piece = next(sound, None)
            sounding = piece is not None
            samples = samples if piece is None else np.concatenate([samples, piece])
        part, samples = samples[:wanted], samples[wanted:]
        num_taken += len(part)
        shown = []
        while waiting is not None and waiting.time_s < index * chunk_s:
            shown.append(waiting)
            waiting = next(frames, None)
        fresh = list(warnings)
        warnings.clear()
        yield Chunk(index * chunk_s, part if len(part) else None, shown, warnings=fresh)


@dataclass
class Devices:
    """Camera and microphone of this machine; iterate to open them and to read until the iteration is given up.

    The sound is the clock: a picture's time is that of the samples that came in with it. Without a microphone it is the
    machine's clock.

    Attributes:
        camera: number of a camera, address of a network camera, or None for none.
        microphone: number or name of an input, "" for the system's usual one, or None for none.
        sample_rate_hz: of the samples.
        fps: pictures a second that are kept; None for all.
        chunk_s: seconds a chunk.
    """

    camera: int | str | None
    microphone: int | str | None
    sample_rate_hz: int
    fps: float | None
    chunk_s: float

    def __iter__(self) -> Iterator[Chunk]:
        """
        Raises:
            MediaError: a device cannot be opened, or stopped giving anything.
            ConfigError: what drives it is not installed.
        """
        with ExitStack() as open_devices:
            camera = None if self.camera is None else open_devices.enter_context(_Camera(self.camera, self.fps))
            if self.microphone is None:
                yield from self._by_the_clock(camera)
            else:
                microphone = _Microphone(self.microphone, self.sample_rate_hz, self.chunk_s)
                yield from self._by_the_sound(open_devices.enter_context(microphone), camera)

    def _by_the_sound(self, microphone: _Microphone, camera: _Camera | None) -> Iterator[Chunk]:
        num_samples = 0
        while True:
            samples, captured_at, warnings = microphone.read()
            num_samples += len(samples)
            end_s = num_samples / self.sample_rate_hz
            frames, num_lost = ([], 0) if camera is None else camera.take(captured_at - end_s, captured_at)
            yield Chunk(end_s, samples, frames, captured_at, num_lost, warnings)

    def _by_the_clock(self, camera: _Camera | None) -> Iterator[Chunk]:
        if camera is None:
            raise ConfigError("neither a camera nor a microphone is asked for; take at least one")
        begun = time.perf_counter()
        for index in range(1, 2**62):
            due = begun + index * self.chunk_s
            time.sleep(max(due - time.perf_counter(), 0))
            frames, num_lost = camera.take(begun, due)
            yield Chunk(index * self.chunk_s, None, frames, due, num_lost)


class _Camera:
    """Reads a camera on a thread of its own, so that the newest picture is always at hand."""

    def __init__(self, address: int | str, fps: float | None) -> None:
        self._cv2 = import_native("cv2")
        self._address = address
        # OpenCV prints pages about a camera that is not there; one sentence follows below.
        logging = self._cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        self._camera = self._cv2.VideoCapture(address)
        logging.setLogLevel(level)
        if not self._camera.isOpened():
            raise MediaError(
                f"camera {address} cannot be opened: none is plugged in, another program has it, or this program may "
                "not use it; choose another with --camera N, go without with --without video, or read a recording with "
                "--file"
            )
        self._interval_s = 0.0 if fps is None else 1 / fps
        self._pictures: deque[tuple[float, np.ndarray]] = deque()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._num_lost, self._last, self._last_s = 0, time.perf_counter(), -math.inf
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _Camera:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._camera.release()

    def take(self, zero: float, until: float) -> tuple[list[Frame], int]:
        """The pictures up to that reading of the clock, with times from `zero` on; and how many were thrown away."""
        with self._lock:
            taken = [self._pictures.popleft() for _ in range(sum(at <= until for at, _ in self._pictures))]
            num_lost, self._num_lost = self._num_lost, 0
            quiet_s = time.perf_counter() - self._last
        if quiet_s > SILENT_DEVICE_S:
            raise MediaError(
                f"camera {self._address} has given no picture for {quiet_s:.0f} s; is it still plugged in?"
            )
        frames = []
        for at, picture in taken:
            if at - zero > max(self._last_s, -1e-9):  # clocks of sound and machine drift: times have to grow
                self._last_s = at - zero
                frames.append(
                    Frame(at - zero, np.ascontiguousarray(self._cv2.cvtColor(picture, self._cv2.COLOR_BGR2RGB)))
                )
        return frames, num_lost

    def _read(self) -> None:
        due = -math.inf
        while not self._ended.is_set():
            there, picture = self._camera.read()
            at = time.perf_counter()
            if not there:
                self._ended.wait(0.01)
                continue
            self._last = at
            if at < due:
                continue
            due = max(due + self._interval_s, at + self._interval_s / 2)
            with self._lock:
                self._pictures.append((at, picture))
                if len(self._pictures) > MAX_WAITING:
                    self._pictures.popleft()
                    self._num_lost += 1


class _Microphone:
    """Reads an input of the sound card; PortAudio calls with every block."""

    def __init__(self, device: int | str, sample_rate_hz: int, chunk_s: float) -> None:
        sounddevice = _import_sounddevice()
        self._blocks: queue.Queue[tuple[np.ndarray, float, bool]] = queue.Queue()
        try:
            self._stream = sounddevice.InputStream(
                samplerate=sample_rate_hz,
                blocksize=round(chunk_s * sample_rate_hz),
                device=None if device == "" else device,
                channels=1,
                dtype="float32",
                callback=self._take,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            inputs = [d for d in sounddevice.query_devices() if d["max_input_channels"]]
            named = ", ".join(f"{d['index']} {d['name']}" for d in inputs) or "this machine has none"
            raise MediaError(
                f"the microphone cannot be opened at {sample_rate_hz} Hz ({str(error).splitlines()[0]}); inputs: "
                f"{named}; choose one with --microphone, go without with --without audio, or read a recording with "
                "--file"
            ) from error

    def __enter__(self) -> _Microphone:
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self) -> tuple[np.ndarray, float, list[str]]:
        """Samples (n,), the clock when they were there, and warnings."""
        try:
            samples, at, overflow = self._blocks.get(timeout=SILENT_DEVICE_S)
        except queue.Empty:
            raise MediaError(
                f"the microphone has given no sound for {SILENT_DEVICE_S:g} s; is it still plugged in?"
            ) from None
        return samples, at, ["the sound card lost samples; the machine is too busy"] if overflow else []

    def _take(self, block: np.ndarray, _frames: int, _times: Any, status: Any) -> None:
        self._blocks.put((block[:, 0].copy(), time.perf_counter(), bool(status.input_overflow)))


def _import_sounddevice() -> Any:
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise ConfigError("the microphone needs sounddevice: pip install 'avser[live]'") from error
    except OSError as error:
        raise ConfigError(
            f"the microphone needs PortAudio ({str(error).splitlines()[0]}); on Debian or Ubuntu: "
            "apt-get install libportaudio2"
        ) from error
