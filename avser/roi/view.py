"""What one clip's figure and report show: everything in seconds, gathered from the media, the model and the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from avser.roi.alignment import Alignment
from avser.roi.intervals import step_intervals
from avser.structures import AUDIO, FUSED, VIDEO, Curve, Prediction, Region


@dataclass
class ClipView:
    """One clip, ready to be drawn. Whatever is missing is left out of the picture.

    Attributes:
        clip_id, corpus, speaker: names; corpus and speaker may be empty.
        duration_s: the shared time axis is 0 to this.
        prediction: the fused verdict; the keys of its probabilities give the order of the emotions everywhere.
        true_emotion: acted or annotated; None where unknown.
        unimodal: "audio", "video" -> what that modality alone says.
        log_mel: (T, F) log-mel spectrogram, low frequencies first, and `log_mel_times` (T,).
        faces: (T, H, W, 3) uint8 RGB crops, black where no face was found, and `face_times` (T,).
        salience: modality -> attention curve.
        regions: modality -> found regions.
        truth: modality -> planted or annotated regions.
        evidence: "audio", "video", "fused" -> times (T,) and step probabilities or dynamics (T, C).
        mixture: "audio", "video" -> (C,) shares of the emotions.
        alignment: None where a modality is missing.
        chance, p_values: field of `alignment` -> its mean under the null model and the p-value against it.
        warnings: sentences for the person.
    """

    clip_id: str
    duration_s: float
    prediction: Prediction
    corpus: str = ""
    speaker: str = ""
    true_emotion: str | None = None
    unimodal: dict[str, Prediction] = field(default_factory=dict)
    log_mel: np.ndarray | None = None
    log_mel_times: np.ndarray | None = None
    faces: np.ndarray | None = None
    face_times: np.ndarray | None = None
    salience: dict[str, Curve] = field(default_factory=dict)
    regions: dict[str, list[Region]] = field(default_factory=dict)
    truth: dict[str, list[Region]] = field(default_factory=dict)
    evidence: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    mixture: dict[str, np.ndarray] = field(default_factory=dict)
    alignment: Alignment | None = None
    chance: dict[str, float] = field(default_factory=dict)
    p_values: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def emotions(self) -> list[str]:
        return list(self.prediction.probabilities)

    @property
    def has_spectrogram(self) -> bool:
        return self.log_mel is not None and self.log_mel_times is not None and len(self.log_mel_times) > 0

    @property
    def has_faces(self) -> bool:
        return self.faces is not None and self.face_times is not None and len(self.face_times) > 0


def overlap_segments(view: ClipView) -> list[tuple[float, float, str]]:
    """The found regions of both modalities as segments (start_s, end_s, kind) in order of time.

    Kind is "audio" where only the voice has a region, "video" where only the face has one, "fused" where both have.
    """
    audio, video = (view.regions.get(m, []) for m in (AUDIO, VIDEO))
    edges = sorted({edge for r in [*audio, *video] for edge in (r.start_s, r.end_s)})
    segments: list[tuple[float, float, str]] = []
    for start, end in pairwise(edges):
        inside = [any(r.start_s <= start and end <= r.end_s for r in regions) for regions in (audio, video)]
        kind = {(True, False): AUDIO, (False, True): VIDEO, (True, True): FUSED}.get((inside[0], inside[1]))
        if kind and segments and segments[-1][1:] == (start, kind):
            segments[-1] = (segments[-1][0], end, kind)
        elif kind:
            segments.append((start, end, kind))
    return segments


def relative_values(curve: Curve) -> np.ndarray:
    """(T,) values as multiples of their mean, so that curves with different numbers of steps share one scale."""
    values = np.nan_to_num(np.asarray(curve.values, dtype=float))
    mean = np.abs(values).mean() if len(values) else 0.0
    return values / mean if mean > 0 else values


def unbroken(times: np.ndarray) -> list[slice]:
    """The runs of steps without a hole between them, so that no line is drawn across frames without a face."""
    if not len(times):
        return []
    steps = step_intervals(times)
    breaks = np.flatnonzero(steps[1:, 0] - steps[:-1, 1] > 1e-6) + 1
    return [slice(int(a), int(b)) for a, b in pairwise([0, *breaks, len(times)])]


def strip_frames(view: ClipView, num_tiles: int) -> list[tuple[float, float, np.ndarray | None]]:
    """The face along time as tiles (start_s, end_s, crop): the crop nearest to the tile's middle that shows a face.

    Only frames inside the tile are taken; None where the tile has frames but no face, and no tile where it has none.
    """
    if view.faces is None or view.face_times is None:
        return []
    edges = np.linspace(0, view.duration_s, num_tiles + 1)
    seen = np.asarray(view.faces.reshape(len(view.faces), -1).any(axis=1))
    tiles: list[tuple[float, float, np.ndarray | None]] = []
    for start, end in pairwise(edges):
        inside = np.flatnonzero((view.face_times >= start) & (view.face_times < end))
        candidates = inside[seen[inside]]
        if len(candidates):
            nearest = candidates[np.abs(view.face_times[candidates] - (start + end) / 2).argmin()]
            tiles.append((float(start), float(end), view.faces[nearest]))
        elif len(inside):
            tiles.append((float(start), float(end), None))
    return tiles
