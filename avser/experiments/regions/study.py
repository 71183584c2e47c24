"""The regions of many clips: found in voice and face, compared with each other, and with planted ones where known."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow
from avser.errors import AvserError, ConfigError
from avser.experiments.alignment.study import AlignmentStudy, study_alignment
from avser.experiments.held_out import Truth
from avser.inference import TrainedModel, predict_clips
from avser.roi.alignment.box_lag import box_lag_s
from avser.roi.alignment.compare import centre_prior, region_lag_s
from avser.roi.intervals import smooth_curve
from avser.roi.localization import LagScores, LocalizationScores, score_lags, score_localization
from avser.roi.salience.sources import AUTO
from avser.roi.trust.loudness import measure_loudness
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Clip, Curve, Prediction, Region

# Whose curves: of models that only hear or only see, where there are such; or of one model that does both.
SEPARATE, CURVES = "separate", ("separate", FUSED)
# Ways to say by how much one modality leads.
BEST_CORRELATION = "best shift of curves"
STRONGEST_REGIONS = "strongest regions"
BOXES = "boxes that explain both curves"


@dataclass
class RegionStudy:
    """What was found in a set of clips.

    Attributes:
        rows: the clips, by id.
        predictions: clip -> the fused model's (or the only model's) answer.
        salience, regions: modality -> clip -> curve, regions.
        alignment: how both curves lie to each other, clip by clip and against chance; None where no clip has both.
        loudness: clip -> level of its voice.
        localization: modality -> scores against the truth, where it is known.
        planted_lag_s: clip -> true lag, where it is known; positive: the face leads.
        recovered_lag_s, lags: way to estimate it -> clip -> seconds, and its scores against the planted ones.
        sources: modality -> which model its curves come from.
        salience_source: how that was asked, a key of `avser.roi.salience.sources.SOURCES`.
    """

    rows: dict[str, ClipRow]
    predictions: dict[str, Prediction] = field(default_factory=dict)
    salience: dict[str, dict[str, Curve]] = field(default_factory=dict)
    regions: dict[str, dict[str, list[Region]]] = field(default_factory=dict)
    alignment: AlignmentStudy | None = None
    loudness: dict[str, Curve] = field(default_factory=dict)
    localization: dict[str, LocalizationScores] = field(default_factory=dict)
    planted_lag_s: dict[str, float] = field(default_factory=dict)
    recovered_lag_s: dict[str, dict[str, float]] = field(default_factory=dict)
    lags: dict[str, LagScores] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    salience_source: str = AUTO
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "num_clips": len(self.rows),
            "sources": self.sources,
            "localization": {m: asdict(scores) for m, scores in self.localization.items()},
            "lags": {name: asdict(scores) for name, scores in self.lags.items()},
            "salience": self.salience_source,
            "alignment": self.alignment.to_dict() if self.alignment else None,
        }


def choose_models(models: Mapping[str, TrainedModel], curves: str = SEPARATE) -> dict[str, TrainedModel]:
    """The models that voice and face are read off.

    Args:
        models: "fused" and, where there are any, "audio" and "video" (`avser.inference.load_models`).
        curves: one of `CURVES`. "separate" takes the models of one modality where there are any; "fused" leaves them
            aside, for a look at how one model of both divides its attention.

    Raises:
        ConfigError: another word, or "fused" where no model reads both.
    """
    if curves not in CURVES:
        raise ConfigError(f"curves={curves!r}: take {' or '.join(CURVES)}")
    if curves == SEPARATE:
        return dict(models)
    if FUSED not in models:
        raise ConfigError(f"curves=fused: there is no model of both, only of {' and '.join(models)}; train one")
    return {FUSED: models[FUSED]}


def study_regions(
    models: Mapping[str, TrainedModel],
    clips: Iterable[tuple[ClipRow, Clip]],
    truth: Truth,
    *,
    salience: str = AUTO,
    num_permutations: int = 9999,
    batch_size: int = 16,
) -> RegionStudy:
    """Find and compare the regions of all clips.

    Args:
        models: "fused" and, where there are any, "audio" and "video"; voice and face are read off the single-modality
            models where given, because curves of streams that exchanged information are no independent evidence.
        truth: clip -> modality -> planted regions; empty where unknown.
        salience: how to ask which moments carried the answers.
        num_permutations: of the null models of alignment.
    """
    study, main = RegionStudy({}, salience_source=salience), models.get(FUSED) or next(iter(models.values()))
    sources = {m: models.get(m, main) for m in MODALITIES if m in models.get(m, main).modalities}
    study.sources = {m: m if m in models else FUSED for m in sources}
    stream = iter(clips)
    while chunk := list(islice(stream, batch_size)):  # decoded clips are large: only one batch of them is held
        study.rows |= {row.clip_id: row for row, _ in chunk}
        study.predictions |= {p.clip_id: p for p in predict_clips(main, [clip for _, clip in chunk])}
        levels = {row.clip_id: measure_loudness(clip) for row, clip in chunk}
        study.loudness |= {clip_id: level for clip_id, level in levels.items() if level is not None}
        for modality, source in sources.items():
            _find(study, source, [clip for _, clip in chunk if source.can_read(clip, modality)], modality)
    _compare(study, num_permutations)
    _score(study, truth, main.config.roi.smooth_s)
    return study


def write_tables(study: RegionStudy, folder: Path) -> None:
    """regions.csv (every region found) and alignment.csv (a row for each clip that has both curves)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "regions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip_id", "modality", "start_s", "end_s", "peak_s", "mass"])
        for modality, by_clip in study.regions.items():
            for clip_id, regions in by_clip.items():
                writer.writerows([clip_id, modality, *_numbers(r.start_s, r.end_s, r.peak_s, r.mass)] for r in regions)
    if study.alignment:
        names = list(asdict(next(iter(study.alignment.clips.values()))))
        with (folder / "alignment.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["clip_id", "speaker", "emotion", "predicted", *names])
            for clip_id, found in study.alignment.clips.items():
                row = study.rows[clip_id]
                predicted = study.predictions[clip_id].emotion
                writer.writerow([clip_id, row.speaker, row.emotion, predicted, *_numbers(*asdict(found).values())])


def _find(study: RegionStudy, source: TrainedModel, clips: Sequence[Clip], modality: str) -> None:
    for prediction in predict_clips(source, clips, salience=study.salience_source) if clips else []:
        study.salience.setdefault(modality, {})[prediction.clip_id] = prediction.salience[modality]
        study.regions.setdefault(modality, {})[prediction.clip_id] = prediction.regions[modality]


def _compare(study: RegionStudy, num_permutations: int) -> None:
    voices, faces = study.salience.get(AUDIO, {}), study.salience.get(VIDEO, {})
    pairs = {c: (voices[c], faces[c]) for c in study.rows if c in voices and c in faces}
    controls: dict[str, list[Curve]] = {}
    for clip_id, (voice, face) in pairs.items():
        with contextlib.suppress(AvserError):  # the study itself tells which clips cannot be compared
            controls[clip_id] = [centre_prior(voice, face), study.loudness[clip_id]]
    correct = {c: study.predictions[c].emotion == row.emotion for c, row in study.rows.items()}
    try:
        study.alignment = study_alignment(
            pairs, study.rows, correct=correct, controls=controls, num_permutations=num_permutations
        )
    except AvserError as error:
        if pairs:
            study.warnings.append(str(error))
        return
    study.warnings += [f"{c}: voice and face cannot be compared: {w}" for c, w in study.alignment.left_out.items()]


def _score(study: RegionStudy, truth: Truth, smooth_s: float) -> None:
    """Curves are scored as regions are read off them: the part above zero, smoothed."""
    speakers = {clip_id: speaker_key(row) for clip_id, row in study.rows.items()}
    for modality, curves in study.salience.items():
        known = {c: truth[c][modality] for c in curves if modality in truth.get(c, {})}
        if known:
            found = {c: study.regions[modality][c] for c in known}
            smooth = {c: smooth_curve(_positive(curves[c]), smooth_s) for c in known}
            study.localization[modality] = score_localization(smooth, found, known, speakers)
    _score_lags(study, truth, speakers, smooth_s)


def _score_lags(study: RegionStudy, truth: Truth, speakers: Mapping[str, str], smooth_s: float) -> None:
    voices, faces = study.regions.get(AUDIO, {}), study.regions.get(VIDEO, {})
    aligned = study.alignment.clips if study.alignment else {}
    study.recovered_lag_s = {
        BEST_CORRELATION: {c: alignment.lag_s for c, alignment in aligned.items()},
        STRONGEST_REGIONS: {c: region_lag_s(voices.get(c, []), faces.get(c, [])) for c in aligned},
        BOXES: {c: box_lag_s(study.salience[AUDIO][c], study.salience[VIDEO][c], smooth_s=smooth_s) for c in aligned},
    }
    for clip_id in aligned:
        planted = truth.get(clip_id, {})
        if all(m in planted for m in MODALITIES):
            study.planted_lag_s[clip_id] = region_lag_s(planted[AUDIO], planted[VIDEO])
    for name, recovered in study.recovered_lag_s.items():
        if sum(np.isfinite(recovered[c]) for c in study.planted_lag_s) >= 2:
            study.lags[name] = score_lags(study.planted_lag_s, recovered, speakers)


def _positive(curve: Curve) -> Curve:
    return Curve(curve.times, np.clip(np.asarray(curve.values, dtype=float), 0, None))


def _numbers(*values: float | None) -> list[str]:
    return ["" if v is None or not np.isfinite(v) else f"{v:.4f}" for v in values]
