"""What one clip's figure and report show: everything in seconds, gathered from the media, the model and the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from avser.roi.alignment.compare import Alignment
from avser.roi.dynamics import Disagreement, DisagreementEpisode
from avser.roi.intervals import step_intervals
from avser.roi.salience.frequency_map import FrequencyMap
from avser.structures import AUDIO, FUSED, VIDEO, Curve, Prediction, Region

NO_REGION = "no region stands out"
OWN_ANSWERS = "own answers"  # in the place of an emotion: the curve of each modality is about what its own model says


@dataclass(frozen=True)
class FaithfulnessRow:
    """What one salience of one modality is worth, beside the strongest of its controls.

    Attributes:
        source: name in `avser.roi.salience.sources.SOURCES`.
        comprehensiveness: probability that the answer loses without the moments that the salience names.
        control: that of the strongest control; `control_name` says which one it is.
        p_value: that the salience is no better; NaN where it was not tested.
        is_faithful: whether it beats its controls.
        verdict: in words; empty for those that go with `is_faithful`.
    """

    source: str
    modality: str
    comprehensiveness: float
    control: float
    p_value: float
    is_faithful: bool
    control_name: str = ""
    verdict: str = ""


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
        salience: modality -> the curve that the regions were read off.
        salience_source: what that is, a name in `avser.roi.salience.sources.SOURCES`; `salience_model`: whose it is,
            in words.
        asked: modality -> the emotion that its curve in `salience` is about; where it is missing, the verdict's.
        saliences: source -> modality -> curve, of all sources; that of `salience_source` is `salience` itself.
        by_class: source -> modality -> emotion -> curve, where a source asks for one emotion at a time.
        by_model: model, in words -> modality -> curve of `salience_source`, beside those of `salience_model`.
        regions: modality -> found regions.
        truth: modality -> planted or annotated regions.
        evidence: "audio", "video", "fused" -> times (T,) and step probabilities or dynamics (T, C).
        mixture: "audio", "video" -> (C,) shares of the emotions.
        alignment: None where a modality is missing.
        video, video_type: the recording as a small file that a browser plays, and its media type ("video/mp4",
            "audio/mp4"), see `avser.media.preview`.
        disagreement: how far apart voice and face are along the clip; `episodes` are those in which they point to
            different emotions. None where one of them is missing.
        places: place of the face -> times (T,) and its share (T,) of what the model saw in the frame; NaN for nothing.
        frequency_map: attention of the voice over frequency and time.
        faithfulness: what the saliences are worth, measured on many clips.
        decision: "audio", "video", "fused" -> seconds after which the answer no longer changes.
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
    salience_source: str = "attention"
    salience_model: str = ""
    asked: dict[str, str] = field(default_factory=dict)
    saliences: dict[str, dict[str, Curve]] = field(default_factory=dict)
    by_class: dict[str, dict[str, dict[str, Curve]]] = field(default_factory=dict)
    by_model: dict[str, dict[str, Curve]] = field(default_factory=dict)
    regions: dict[str, list[Region]] = field(default_factory=dict)
    truth: dict[str, list[Region]] = field(default_factory=dict)
    evidence: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    mixture: dict[str, np.ndarray] = field(default_factory=dict)
    video: bytes | None = None
    video_type: str = ""
    disagreement: Disagreement | None = None
    places: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    frequency_map: FrequencyMap | None = None
    faithfulness: list[FaithfulnessRow] = field(default_factory=list)
    decision: dict[str, float] = field(default_factory=dict)
    alignment: Alignment | None = None
    chance: dict[str, float] = field(default_factory=dict)
    p_values: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def episodes(self) -> list[DisagreementEpisode]:
        return self.disagreement.episodes if self.disagreement else []

    @property
    def emotions(self) -> list[str]:
        return list(self.prediction.probabilities)

    @property
    def has_spectrogram(self) -> bool:
        return self.log_mel is not None and self.log_mel_times is not None and len(self.log_mel_times) > 0

    @property
    def has_faces(self) -> bool:
        return self.faces is not None and self.face_times is not None and len(self.face_times) > 0


@dataclass
class Layer:
    """One choice of curves that a page can show: whose they are, how they were read off, and for which emotion.

    Attributes:
        source, model: as in `ClipView`; `emotion` is empty for a source that does not ask for one, and `OWN_ANSWERS`
            where voice and face were asked about different ones.
        curves: modality -> curve.
    """

    source: str
    model: str
    emotion: str
    curves: dict[str, Curve]


def salience_layers(view: ClipView) -> list[Layer]:
    """All curves that there are to choose from, those that the regions were read off first; no choice comes twice."""
    main = view.salience_source
    layers: dict[tuple[str, str, str], Layer] = {}

    def add(source: str, model: str, emotion: str, curves: dict[str, Curve]) -> None:
        if curves:
            layers.setdefault((source, model, emotion), Layer(source, model, emotion, curves))

    def answer(source: str) -> str:
        return view.prediction.emotion if source in view.by_class else ""

    apart = any(emotion != view.prediction.emotion for emotion in view.asked.values())
    add(main, view.salience_model, OWN_ANSWERS if apart and answer(main) else answer(main), view.salience)
    for model, curves in view.by_model.items():
        add(main, model, answer(main), curves)
    for source, curves in view.saliences.items():
        if source not in view.by_class:
            add(source, view.salience_model, "", curves)
    emotions = sorted(view.emotions, key=lambda e: e != view.prediction.emotion)  # the answer first
    for source, by_modality in view.by_class.items():
        for emotion in emotions:
            curves = {m: by_emotion[emotion] for m, by_emotion in by_modality.items() if emotion in by_emotion}
            add(source, view.salience_model, emotion, curves)
    return list(layers.values())


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


def within(time_s: float, duration_s: float) -> float:
    """A time that lies in the clip: the outer steps of a curve may reach a little beyond its ends."""
    return min(max(0.0, time_s), duration_s)


def span_words(start_s: float, end_s: float, duration_s: float) -> str:
    """A stretch of a clip as it is printed everywhere: "0.00 to 1.25 s", never beyond the clip."""
    return f"{within(start_s, duration_s):.2f} to {within(end_s, duration_s):.2f} s"
