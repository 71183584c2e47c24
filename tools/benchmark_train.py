"""How fast training is: the whole loop beside the bare model, and beside a plain loop; a part of `tools.benchmark`.

The plain loop decodes files and extracts features in its dataset, for every clip in every epoch, with librosa and
OpenCV, as public baselines do; its model is the same but for the front end, which is given those features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from avser.config import Config, load_config
from avser.data.cache import build_cache
from avser.data.dataset import Example, collate, spread_evenly
from avser.data.manifest import ClipRow, Manifest, write_manifest
from avser.media.audio import read_audio
from avser.models.build import build_model
from avser.models.system import System
from avser.roi.report.tables import Cell, ReportTable
from avser.structures import Batch, Clip, FaceTrack
from avser.training.checkpoint import Progress
from avser.training.fit import build_criterion, build_optimizer, progress_bar
from avser.training.loop import train_epoch
from avser.training.losses import TrainingLoss
from avser.training.record import forget_peak, peak_memory_bytes
from avser.training.run_data import RunData, load_data
from avser.training.trackers import start_trackers

NUM_CLIPS = 198  # two thirds of them train, or more: enough for the steps of a round
ROUNDS = 4  # of every way, in turn with the others; the best one counts
NUM_STEPS = 4  # in a round
EMOTIONS = ("anger", "fear", "happiness")
LOG_MEL: dict[str, Any] = {"sr": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 64, "htk": True}
# Sizes at which a step takes about a second on one core. What costs nothing to switch on is on.
SYSTEMS = {
    "av_roi": [
        *("model.audio.backbone.weights=none", "model.video.backbone.weights=none"),
        *("data.num_frames=8", "training.batch_size=8"),
    ],
    "light_sernet": ["model.options={clip_s: 3.0}", "training.augment={gain_db: 6.0, noise_snr_db: 20.0}"],
}


@dataclass
class Trainer:
    """One model and what it needs to be trained, in one of the ways that are compared."""

    config: Config
    data: RunData
    accelerator: Accelerator
    epoch: int = 0
    model: System = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    criterion: TrainingLoss = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        model = build_model(self.config.model, self.data.emotions, sample_rate_hz=16000)
        self.model = model.to(self.accelerator.device)
        self.optimizer = build_optimizer(model, self.config.training)
        labels = self.data.labels("train")
        criterion = build_criterion(self.config.training, labels, len(self.data.emotions))
        self.criterion = criterion.to(self.accelerator.device)

    def batches(self) -> Iterator[Batch]:
        """Full batches of a fresh epoch, through the loader."""
        self.epoch += 1
        loader = self.data.batches("train", self.config.training, shuffle_seed=self.epoch)
        return islice((batch for batch in loader if len(batch) == self.config.training.batch_size), NUM_STEPS)

    def step(self, batch: Batch) -> None:
        """Forward, backward and the optimizer's step: the bare model."""
        loss = self.model.training_loss(self.model(batch), batch, self.criterion)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def repeat(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self.step(batch)

    def train(self) -> None:
        """As `avser train`: loader, augmentation, clipping, progress bar and log."""
        progress = Progress()
        with progress_bar(1, NUM_STEPS, progress, "benchmark") as show:
            loss = train_epoch(
                self.model,
                self.batches(),
                self.optimizer,
                partial(self.model.training_loss, criterion=self.criterion),
                self.accelerator,
                self.config.training,
                progress,
                num_classes=len(self.data.emotions),
                steps_per_epoch=NUM_STEPS,
                seed=self.epoch,
                weight_of=self.criterion.weight_of,
                on_step=lambda: show(progress),
            )
        self.accelerator.log({"train_loss": loss}, step=self.epoch)


def bench_training(files: list[Path], scratch: Path) -> ReportTable:
    """Steps a second of every way, for the reference model of voice and face and for a cheap one of the voice."""
    rows = [row for name in SYSTEMS for row in _compare(name, files, scratch)]
    return ReportTable(
        "Training",
        ["system", "way", "steps/s", "times the bare model", "the same in CPU time", "peak memory, MB"],
        rows,
        f"{NUM_CLIPS} clips, {torch.get_num_threads()} threads. Best of {ROUNDS} rounds of {NUM_STEPS} steps, the ways "
        "taking turns. Bare: forward, backward and the optimizer's step on batches in memory. The loop adds reading, "
        "padding, augmentation, clipping of gradients, a progress bar and a log. Memory is the process's own at its "
        "peak, with everything that the other ways hold.",
    )


def _compare(name: str, files: list[Path], scratch: Path) -> list[list[Cell]]:
    kept, read = (_open_data(name, files, scratch, keep_in_memory=keep) for keep in (True, False))
    accelerator = Accelerator()
    start_trackers(accelerator, kept[0], scratch / name)
    bare, loop, again = (Trainer(*data, accelerator) for data in (kept, kept, read))
    plain = PlainLoop(Trainer(*kept, accelerator), files)
    batches = [batch.to(accelerator.device) for batch in bare.batches()]
    ways: dict[str, Callable[[], object]] = {
        "bare model": lambda: bare.repeat(batches),
        "avser": loop.train,
        "avser, clips read from the cache each time": again.train,
        "plain loop: decoding and features in the dataset": plain.train,
    }
    costs, peaks = _measure(ways)
    first = costs["bare model"]
    return [
        [name, way, NUM_STEPS / wall_s, first[0] / wall_s, first[1] / cpu_s, peaks[way] / 1e6]
        for way, (wall_s, cpu_s) in costs.items()
    ]


def _measure(ways: dict[str, Callable[[], object]]) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    """Seconds of a round, wall and CPU, and bytes at the peak."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    peaks = dict.fromkeys(ways, 0)
    for number in range(ROUNDS + 1):
        for way, run in ways.items():
            forget_peak()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round loads libraries and fills caches
                found[way].append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
            peaks[way] = max(peaks[way], peak_memory_bytes())
    best = {way: (min(w for w, _ in costs), min(c for _, c in costs)) for way, costs in found.items()}
    return best, peaks


def _open_data(name: str, files: list[Path], scratch: Path, *, keep_in_memory: bool) -> tuple[Config, RunData]:
    """A corpus of `files`, each under several names, cached once for all systems."""
    rows = [
        ClipRow(
            clip_id=f"clip{i}",
            corpus="benchmark",
            speaker=str(i % len(files)),
            emotion=EMOTIONS[i // len(files) % len(EMOTIONS)],
            audio=files[i % len(files)].name,
            video=files[i % len(files)].name,
            split=("val", "test")[i % len(files)] if i % len(files) < 2 else "train",  # copies stay in one part
        )
        for i in range(NUM_CLIPS)
    ]
    manifest, cache = scratch / "training.csv", scratch / "training"
    config = load_config(
        [
            *(name, *SYSTEMS[name], f"data.manifest={manifest}", f"data.cache={cache}"),
            *("data.protocol=manifest", "media.faces.tracker=center", f"training.keep_in_memory={keep_in_memory}"),
        ]
    )
    if not manifest.is_file():
        write_manifest(rows, manifest)
        build_cache(Manifest(rows, files[0].parent), cache, config.media, progress=False)
    return config, load_data(config)


# --- the plain loop ----------------------------------------------------------------------------------------------


class PlainLoop:
    """Files to features to steps, clip by clip, as one would write it first."""

    def __init__(self, trainer: Trainer, files: list[Path]) -> None:
        self.trainer, self.files, self.next = trainer, files, 0
        self.size = trainer.config.training.batch_size
        model: Any = trainer.model
        self.has_face = "video" in trainer.config.model.modalities
        if self.has_face:
            self.front = model.branches["audio"].spectrogram = Given(model.branches["audio"].spectrogram)
        else:
            self.front = model.mfcc = Given(model.mfcc)
            self.num_samples = model.num_samples

    def train(self) -> None:
        for _ in range(NUM_STEPS):
            examples, features = zip(*(self._example(self.next + i) for i in range(self.size)), strict=True)
            self.next += self.size
            batch = collate(examples).to(self.trainer.accelerator.device)
            self.front.give(features, batch.waveform)
            self.trainer.step(batch)

    def _example(self, number: int) -> tuple[Example, np.ndarray]:
        file, emotion = self.files[number % len(self.files)], number % len(EMOTIONS)
        voice = read_audio(file)
        face = None
        if self.has_face:
            longest = self.trainer.config.data.max_duration_s
            voice = voice[: round(longest * 16000)]
            features = _log_mel_planes(voice)
            face = _read_face(file, self.trainer.config.media.crop_px, self.trainer.config.data.num_frames)
        else:
            padded = librosa.util.fix_length(voice, size=self.num_samples)
            features = librosa.feature.mfcc(y=padded, sr=16000, n_mfcc=40, n_fft=1024, hop_length=256, n_mels=128).T
        return Example(str(number), Clip(str(number), len(voice) / 16000, voice, face=face), emotion), features


class Given(nn.Module):
    """Stands in a model's place of features; answers with those that it was given last, padded with zeros."""

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        self.hop_s, self.offset_s = replaced.hop_s, replaced.offset_s
        self.num_mels = getattr(replaced, "num_mels", 0)
        self.values, self.mask = torch.zeros(0), torch.zeros(0)

    def give(self, features: tuple[np.ndarray, ...], like: Tensor | None) -> None:
        """(K, F, T) planes or (T, F) rows of every clip."""
        time_axis = -1 if features[0].ndim == 3 else 0
        lengths = [f.shape[time_axis] for f in features]
        padded = [librosa.util.fix_length(f, size=max(lengths), axis=time_axis) for f in features]
        device = like.device if like is not None else None
        self.values = torch.from_numpy(np.stack(padded)).float().to(device)
        self.mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).to(device)

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.values, self.mask


def _log_mel_planes(voice: np.ndarray) -> np.ndarray:
    """(3, F, T) static, delta and delta-delta."""
    log_mel = np.log(librosa.feature.melspectrogram(y=voice, **LOG_MEL) + 1e-6)
    planes = np.stack([log_mel, *(librosa.feature.delta(log_mel, width=5, order=order) for order in (1, 2))])
    return (planes - planes.mean()) / (planes.std() + 1e-6)


def _read_face(file: Path, crop_px: int, num_frames: int | None) -> FaceTrack:
    """Every frame decoded, its middle square cut out, and some kept."""
    capture = cv2.VideoCapture(str(file))
    rate, frames = capture.get(cv2.CAP_PROP_FPS) or 25.0, []
    while True:
        there, image = capture.read()
        if not there:
            break
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = cv2.resize(image[top : top + side, left : left + side], (crop_px, crop_px))
        frames.append(cv2.cvtColor(square, cv2.COLOR_BGR2RGB))
    capture.release()
    kept = spread_evenly(len(frames), num_frames)
    found = np.ones(len(kept), bool)
    boxes = np.zeros((len(kept), 4), np.float32)
    return FaceTrack(kept / rate, np.stack([frames[i] for i in kept]), found, boxes)
