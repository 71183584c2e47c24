"""How fast clips are cached and loaded, beside the naive way and beside bare decoding; a part of `tools.benchmark`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avser.config import MediaConfig
from avser.data.cache import ClipCache, build_cache
from avser.data.cache_jobs import tracker_for
from avser.data.dataset import ClipDataset, collate
from avser.data.manifest import ClipRow, Manifest
from avser.errors import ConfigError
from avser.media.audio import read_audio
from avser.media.faces import MediaPipeTracker
from avser.media.landmarker import find_model
from avser.media.video import iterate_frames
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import FaceTrack

REPEATS = 4  # every file is that many clips, so that two processes have something to share
REPETITIONS = 3  # of every way, in turn with the others; the best one counts
NUM_DRAWN, BATCH_SIZE = 16, 8
EYES = (33, 263)  # FaceLandmarker's mesh: the outer corners of the eyes


def bench_caching(files: list[Path], scratch: Path) -> ReportTable:
    """From file to cached clip at default settings, against the naive way and against decoding and no more."""
    media = MediaConfig()
    if not _has_model():
        media.faces.tracker = "center"
    manifest = _manifest(files)
    folders = iter(scratch / f"cache{i}" for i in range(1000))
    naive, decode, one, two = (
        "naive: OpenCV, detect on every full frame, librosa",
        "decode to RGB with PyAV, no more",
        "avser: decode, follow the face, cache",
        "the same in two processes",
    )
    ways: dict[str, Callable[[], object]] = {
        naive: lambda: _cache_naively(files),
        decode: lambda: [_decode(file) for file in files],
        one: lambda: build_cache(manifest, next(folders), media, progress=False),
        two: lambda: build_cache(manifest, next(folders), media, workers=2, progress=False),
    }
    per_run = {naive: len(files), decode: len(files), one: len(manifest), two: len(manifest)}
    costs = _measure(ways, per_run)
    rows: list[list[Cell]] = [
        [
            way,
            1 / cost.wall_s,
            None if way == two else 1000 * cost.cpu_s,  # the processor time of other processes is not ours to read
            costs[naive].wall_s / cost.wall_s,
            cost.wall_s / costs[decode].wall_s,
            None if way == two else costs[naive].cpu_s / cost.cpu_s,
            None if way == two else cost.cpu_s / costs[decode].cpu_s,
        ]
        for way, cost in costs.items()
    ]
    columns = ["", "clips/s", "CPU ms", "x naive", "time/decode", "x naive, CPU", "CPU/decode"]
    note = f"{_described(files)}, best of {REPETITIONS} runs in turn, {torch.get_num_threads()} threads. "
    return ReportTable("From file to cached clip", columns, rows, note=note + _landmark_note(files, media))


def bench_loading(files: list[Path], scratch: Path) -> ReportTable:
    """From cache to batch, 16 crops and the voice, against decoding the file in the loader."""
    media = MediaConfig()
    media.faces.tracker = "mediapipe" if _has_model() else "center"
    manifest = _manifest(files)
    build_cache(manifest, scratch / "loaded", media, progress=False)
    cache = ClipCache(scratch / "loaded")

    def from_cache(keep: bool) -> ClipDataset:
        return ClipDataset(manifest.rows, cache, [], num_frames=NUM_DRAWN, keep_in_memory=keep)

    kept = from_cache(keep=True)
    ways: dict[str, Callable[[], object]] = {
        f"decode in the loader, draw {NUM_DRAWN} frames": lambda: _load(_Decoding(files), _stack),
        "avser: from the cache": lambda: _load(from_cache(keep=False), collate),
        "avser: kept in memory, second epoch": lambda: _load(kept, collate),
    }
    costs = _measure(ways, dict.fromkeys(ways, len(manifest)) | {next(iter(ways)): len(files)})
    first = next(iter(costs.values()))
    rows: list[list[Cell]] = [
        [way, 1 / cost.wall_s, 1000 * cost.cpu_s, first.wall_s / cost.wall_s, first.cpu_s / cost.cpu_s]
        for way, cost in costs.items()
    ]
    note = f"{_described(files)}, batches of {BATCH_SIZE}, no worker processes, best of {REPETITIONS} runs in turn."
    return ReportTable("From cache to batch", ["", "clips/s", "CPU ms", "x the first", "x, CPU"], rows, note=note)


def landmark_errors(files: list[Path], media: MediaConfig) -> np.ndarray:
    """(frames,) how far the points at these settings are from those of a look at every full frame.

    Mean distance over the 478 points, as a share of the distance between the outer corners of the eyes; of all kept
    frames.
    """
    tracker = tracker_for(media)
    assert isinstance(tracker, MediaPipeTracker)
    errors = []
    for file in files:
        frames = list(iterate_frames(file, fps=media.fps))
        (fast, _), (full, _) = tracker.track(frames), replace(tracker, every=1, detect_px=0).track(frames)
        if fast is not None and full is not None:
            errors.append(_distances(fast, full))
    return np.concatenate(errors)


# --- measuring ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Seconds a clip, of the clock and of the processor (all threads of this process)."""

    wall_s: float
    cpu_s: float


def _measure(ways: Mapping[str, Callable[[], object]], num_clips: Mapping[str, int]) -> dict[str, Cost]:
    """The best of several runs; the ways take turns, so that a busy machine slows all of them."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for repetition in range(REPETITIONS + 1):
        for name, way in ways.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            way()
            cost = Cost(
                (time.perf_counter() - wall_s) / num_clips[name], (time.process_time() - cpu_s) / num_clips[name]
            )
            if repetition:  # the first run loads libraries, starts processes and fills caches
                costs[name].append(cost)
    return {name: Cost(min(c.wall_s for c in found), min(c.cpu_s for c in found)) for name, found in costs.items()}


def _described(files: list[Path]) -> str:
    kind = "CREMA-D" if files[0].suffix == ".flv" else "rendered (AVSER_REAL_DATA is unset)"
    return f"{len(files)} {kind} clips, {REPEATS} times each"


def _landmark_note(files: list[Path], media: MediaConfig) -> str:
    if media.faces.tracker != "mediapipe":
        return "No face model ($AVSER_MODELS is unset): faces by a fixed box, and the naive way without its detector."
    try:
        errors = 100 * landmark_errors(files, media)
    except ValueError:
        return "No face was found in these clips."
    return (
        f"Landmarks against a look at every full frame: median {np.median(errors):.2f} %, 95th percentile "
        f"{np.quantile(errors, 0.95):.2f} % of the distance between the eyes, over all {len(errors)} kept frames."
    )


def _distances(one: FaceTrack, other: FaceTrack) -> np.ndarray:
    assert one.landmarks is not None
    assert other.landmarks is not None
    both = one.found & other.found
    a, b = one.landmarks[both], other.landmarks[both]
    eyes = np.linalg.norm(b[:, EYES[0]] - b[:, EYES[1]], axis=1)
    return np.linalg.norm(a - b, axis=2).mean(axis=1) / eyes


def _has_model() -> bool:
    try:
        find_model()
    except ConfigError:
        return False
    return True


def _manifest(files: list[Path]) -> Manifest:
    rows = [
        ClipRow(f"{file.stem}_{k}", "bench", "s", "", file.name, file.name) for k in range(REPEATS) for file in files
    ]
    return Manifest(rows, files[0].parent)


# --- the other ways ----------------------------------------------------------------------------------------------


def _decode(file: Path) -> int:
    with av.open(str(file)) as container:
        return sum(frame.to_ndarray(format="rgb24").nbytes for frame in container.decode(video=0))


def _cache_naively(files: list[Path]) -> None:
    """What a first script does: every frame is decoded and looked at in full, and nothing is written."""
    import librosa

    with closing(_naive_landmarker()) as landmarker:
        for file in files:
            for image in _opencv_frames(file):
                landmarker.detect(image)
            voice = read_audio(file)
            mel = librosa.feature.melspectrogram(
                y=voice, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=64
            )
            np.log(mel + 1e-6)


def _opencv_frames(file: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(file))
    while True:
        read, image = capture.read()
        if not read:
            break
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    capture.release()


def _naive_landmarker() -> Any:
    """FaceLandmarker in IMAGE mode; without a model, something that looks at nothing."""
    if not _has_model():
        return _Blind()
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(find_model())), output_face_blendshapes=True
    )
    return _Looking(mediapipe, vision.FaceLandmarker.create_from_options(options))


class _Looking:
    def __init__(self, mediapipe: Any, landmarker: Any) -> None:
        self._mediapipe, self._landmarker = mediapipe, landmarker

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """The landmarks as an array, and the crop around them."""
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=image)
        found = []
        for points in self._landmarker.detect(picture).face_landmarks:
            landmarks = np.array([(p.x * image.shape[1], p.y * image.shape[0]) for p in points])
            (left, top), (right, bottom) = landmarks.min(axis=0).astype(int), landmarks.max(axis=0).astype(int)
            found += [landmarks, cv2.resize(image[max(top, 0) : bottom, max(left, 0) : right], (112, 112))]
        return found

    def close(self) -> None:
        self._landmarker.close()


class _Blind:
    def detect(self, image: np.ndarray) -> None:
        pass

    def close(self) -> None:
        pass


class _Decoding(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A data set that opens the media file for every example: the voice, and 16 of its frames."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with av.open(str(self.files[index])) as container:
            frames = list(container.decode(video=0))
        drawn = np.linspace(0, len(frames) - 1, NUM_DRAWN).round().astype(int)
        images = [cv2.resize(frames[i].to_ndarray(format="rgb24"), (112, 112)) for i in drawn]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(read_audio(self.files[index]))


def _stack(examples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, voices = zip(*examples, strict=True)
    return torch.stack(images), torch.nn.utils.rnn.pad_sequence(list(voices), batch_first=True)


def _load(dataset: Dataset[Any], collate_examples: Callable[[list[Any]], object]) -> None:
    for _ in DataLoader(dataset, batch_size=BATCH_SIZE, collate_fn=collate_examples):
        pass
