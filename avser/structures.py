"""What travels between the stages: clips, face tracks, batches, model outputs, curves, regions and predictions.

Shapes are written with one letter an axis throughout avser:
    B clips in a batch      T steps or frames      D features of a step      C emotions
    N audio samples         H, W pixels            F frequency bins          L landmarks
Time is in seconds from the clip's start. Masks are True where the data are real.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

AUDIO, VIDEO, FUSED = "audio", "video", "fused"
MODALITIES = (AUDIO, VIDEO)


class Crops(Protocol):
    """(T, H, W, 3) uint8 RGB images: an array, or compressed images that are decoded when indexed.

    Indexed by a slice or by an array of indices it gives an array (K, H, W, 3).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> np.ndarray: ...


@dataclass
class FaceTrack:
    """One face through time.

    Attributes:
        times: (T,) float64, seconds; the true timestamp of each frame.
        crops: (T, H, W, 3) uint8 RGB, aligned face crops; black where `found` is False.
        found: (T,) bool, True where a face was seen in the frame.
        boxes: (T, 4) float32, x0, y0, x1, y1 in pixels of the source frame; NaN where not found.
        landmarks: (T, L, 2) float32 in pixels of the source frame (L = 478 from FaceLandmarker), or None.
        blendshapes: (T, 52) float32 in [0, 1], or None.
    """

    times: np.ndarray
    crops: Crops
    found: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray | None = None
    blendshapes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.times)


@dataclass
class FeatureTrack:
    """What another program measured on the face, step by step, e.g. the action units of OpenFace.

    Attributes:
        times: (T,) float64, seconds, the centre of each step; one row for a whole clip is one step, at its middle.
        values: (T, F) float32; 0 where `found` is False.
        found: (T,) bool, False where that program saw no face.
        names: the F columns of the table.
    """

    times: np.ndarray
    values: np.ndarray
    found: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.times)


@dataclass
class Clip:
    """One recording, decoded: the voice as samples, the face as a track, both on one time axis.

    Attributes:
        clip_id: the name by which manifests, caches and reports know it.
        duration_s: length of the clip in seconds (the longer of the two tracks).
        waveform: (N,) float32 mono in [-1, 1], sample 0 at time 0; None where there is no voice.
        sample_rate_hz: of `waveform`.
        face: None where there is no face.
        face_features: what another program measured on the face; None where there is no such table.
        warnings: sentences for the person, e.g. "two faces; took the longest track".
    """

    clip_id: str
    duration_s: float
    waveform: np.ndarray | None = None
    sample_rate_hz: int = 16000
    face: FaceTrack | None = None
    face_features: FeatureTrack | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class Batch:
    """Clips padded to one length, as the models receive them.

    A modality that no clip of the batch has is None; one that a single clip lacks has a mask that is False throughout.

    Attributes:
        clip_ids: B names.
        waveform: (B, N) float32, zero where padded.
        waveform_mask: (B, N) bool.
        sample_rate_hz: of `waveform`.
        frames: (B, T, 3, H, W) uint8 RGB.
        frame_times: (B, T) float32, seconds.
        frame_mask: (B, T) bool, False for padding and for frames without a face.
        landmarks: (B, T, L, 2) float32 in pixels of the source frame, on the frames' axis; zero where masked.
        blendshapes: (B, T, 52) float32 in [0, 1], on the frames' axis; zero where masked.
        face_features: (B, T, F) float32, measured by another program; its T is its own, not that of `frames`.
        feature_times: (B, T) float32, seconds.
        feature_mask: (B, T) bool.
        labels: (B,) int64 index into the label set, or None when one of them is unknown.
        targets: (B, C) float32 soft labels that replace `labels` in the loss (mixup, votes), or None.
    """

    clip_ids: list[str]
    waveform: Tensor | None = None
    waveform_mask: Tensor | None = None
    sample_rate_hz: int = 16000
    frames: Tensor | None = None
    frame_times: Tensor | None = None
    frame_mask: Tensor | None = None
    landmarks: Tensor | None = None
    blendshapes: Tensor | None = None
    face_features: Tensor | None = None
    feature_times: Tensor | None = None
    feature_mask: Tensor | None = None
    labels: Tensor | None = None
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def without(self, modality: str) -> Batch:
        """The same batch with one modality taken away."""
        if modality == AUDIO:
            return replace(self, waveform=None, waveform_mask=None)
        no_face = replace(self, frames=None, frame_times=None, frame_mask=None, landmarks=None, blendshapes=None)
        return replace(no_face, face_features=None, feature_times=None, feature_mask=None)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


@dataclass
class Attended:
    """One modality's sequence with the attention over it and the evidence of each step.

    With a linear head the clip's logits are the attention-weighted sum of `step_logits`, exactly.

    Attributes:
        sequence: (B, T, D) encoder output.
        weights: (B, T) attention, sums to 1 over real steps, 0 elsewhere.
        step_logits: (B, T, C) what each step alone says, or None where a model cannot say it.
        times: (B, T) centre of each step in seconds.
        mask: (B, T) bool.
        pooled: (B, D) attention-weighted summary; zero for a clip without this modality.
        logits: (B, C) this modality's own verdict.
        class_weights: (B, T, C) one attention per emotion, where the attention has them; `weights` is then their mean.
        map: (B, F, T) attention over frequency and time, where the attention has both; `weights` is its sum over F.
    """

    sequence: Tensor
    weights: Tensor
    step_logits: Tensor | None
    times: Tensor
    mask: Tensor
    pooled: Tensor
    logits: Tensor
    class_weights: Tensor | None = None
    map: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """(B,) bool: which clips have this modality at all."""
        return self.mask.any(dim=1)


@dataclass
class Output:
    """What every model returns: the verdict and, for each modality, how it came about.

    Attributes:
        logits: (B, C).
        attended: modality name -> Attended.
        extra: what a system's own training loss reads beside the verdict, by names of its own.
    """

    logits: Tensor
    attended: dict[str, Attended]
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Curve:
    """A value along time, e.g. the salience of the voice.

    Attributes:
        times: (T,) centre of each step in seconds, increasing.
        values: (T,) one number a step.
    """

    times: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Region:
    """An interval of one modality that matters: found by a model, or planted by a corpus.

    Attributes:
        modality: "audio" or "video".
        start_s, end_s: seconds, start before end.
        mass: share of the attention inside, in [0, 1]; 1 for planted regions.
        peak_s: where the curve is highest; the middle for planted regions.
    """

    modality: str
    start_s: float
    end_s: float
    mass: float = 1.0
    peak_s: float | None = None

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def centre_s(self) -> float:
        return 0.5 * (self.start_s + self.end_s)

    def moved(self, by_s: float) -> Region:
        """The same so many seconds later."""
        peak_s = None if self.peak_s is None else self.peak_s + by_s
        return replace(self, start_s=self.start_s + by_s, end_s=self.end_s + by_s, peak_s=peak_s)


@dataclass
class Prediction:
    """The answer for one clip.

    Attributes:
        clip_id: name or path.
        emotion: the most probable one.
        probabilities: emotion -> probability, in label order, summing to 1.
        salience: modality -> curve of what carried the answer (`avser.roi.salience.curves.salience_curve`; sums to 1).
        evidence: modality -> (times (T,), step probabilities (T, C)): the emotion dynamics.
        regions: modality -> regions of interest, in order of time.
        warnings: sentences for the person.
    """

    clip_id: str
    emotion: str
    probabilities: dict[str, float]
    salience: dict[str, Curve] = field(default_factory=dict)
    evidence: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    regions: dict[str, list[Region]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def moved(self, by_s: float) -> Prediction:
        """The same answer with all its times so many seconds later: those of the recording that a clip was cut from."""
        return replace(
            self,
            salience={m: Curve(curve.times + by_s, curve.values) for m, curve in self.salience.items()},
            evidence={m: (times + by_s, shares) for m, (times, shares) in self.evidence.items()},
            regions={m: [region.moved(by_s) for region in found] for m, found in self.regions.items()},
        )
