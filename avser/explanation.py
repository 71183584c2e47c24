"""Everything that a figure or a report of one clip shows: the models are asked for it in every way that they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from avser.data.clip_file import LANDMARKS
from avser.errors import AvserError
from avser.features.spectral import LogMel
from avser.inference import (
    TrainedModel,
    as_clip,
    collate_clips,
    find_saliences,
    predict_clips,
    run_model,
)
from avser.media.preview import encode_preview
from avser.roi.alignment.compare import align_curves, measure_pair
from avser.roi.alignment.nulls import clip_chance
from avser.roi.dynamics import find_disagreement, fuse_evidence, mixture
from avser.roi.report.view import ClipView
from avser.roi.salience.curves import attention_curve, contribution_curve
from avser.roi.salience.face_map import face_maps
from avser.roi.salience.frequency_map import attention_map
from avser.roi.salience.sources import AUTO
from avser.roi.truncation import ask_prefixes, durations_s, gating_step_s
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Clip, Prediction, Region

PER_EMOTION = "att_value"  # what is shown for each emotion: read off one forward pass


def explain(
    models: TrainedModel | Mapping[str, TrainedModel],
    clip: str | Path | Clip,
    *,
    salience: str = AUTO,
    also: Sequence[str] = (),
    true_emotion: str | None = None,
    truth: Mapping[str, list[Region]] | None = None,
    corpus: str = "",
    speaker: str = "",
    media: Path | None = None,
) -> ClipView:
    """Everything that a figure or report of one clip shows.

    Args:
        models: one model, or "audio", "video" and "fused" -> a model each. With separate models the curves of voice and
            face come from the single-modality ones, so that neither has seen the other.
        salience: how to ask which moments carried the answer, a key of `avser.roi.salience.sources.SOURCES`; regions
            are read off it. `also`: more of them, to be shown beside it.
        truth: modality -> planted or annotated regions, where known.
        media: the recording of a decoded clip, to be played in a report.

    Raises:
        MediaError: the file cannot be used.
        AvserError: the clip has nothing that the models read, or they cannot be asked for that salience.
    """
    by_part = models if isinstance(models, Mapping) else {FUSED: models}
    main = by_part.get(FUSED) or next(iter(by_part.values()))
    recording = media if isinstance(clip, Clip) else Path(clip)
    clip = as_clip(clip, main)
    verdict = predict_clips(main, [clip])[0]
    view = ClipView(
        clip.clip_id,
        clip.duration_s,
        verdict,
        corpus=corpus,
        speaker=speaker,
        true_emotion=true_emotion,
        truth=dict(truth or {}),
        salience_source=salience,
        warnings=list(verdict.warnings),
    )
    _add_media(view, clip)
    add_preview(view, clip, recording)
    for modality in MODALITIES:
        source = by_part.get(modality, main)
        if source.can_read(clip, modality):
            _add_modality(view, source, clip, modality, salience, also)
            if source is not main and main.can_read(clip, modality):
                own = find_saliences(main, [clip], modality, [main.emotions.index(verdict.emotion)], salience)[0]
                view.by_model.setdefault(name_model(main), {})[modality] = own
    view.salience_model = "; ".join(dict.fromkeys(name_model(by_part.get(m, main)) for m in view.salience))
    if view.evidence:
        view.evidence[FUSED] = fuse_evidence(view.evidence, view.salience)
    _add_decisions(view, by_part, clip)
    _add_comparison(view)
    return view


def name_model(model: TrainedModel) -> str:
    """Whose curves they are, in words: "voice model demo/audio, seed 0"."""
    reads = model.modalities[0] if len(model.modalities) == 1 else FUSED
    words = {AUDIO: "voice model", VIDEO: "face model", FUSED: "model of both"}
    return f"{words[reads]} {model.config.name}, seed {model.config.seed}"


def _add_media(view: ClipView, clip: Clip) -> None:
    if clip.waveform is not None:
        front_end = LogMel(sample_rate_hz=clip.sample_rate_hz, max_hz=clip.sample_rate_hz / 2)
        waveform = torch.from_numpy(clip.waveform)[None]
        view.log_mel = front_end.log_mel(waveform, torch.ones_like(waveform, dtype=torch.bool))[0].T.numpy()
        view.log_mel_times = front_end.hop_s * np.arange(len(view.log_mel))
    if clip.face is not None:
        view.faces, view.face_times = clip.face.crops[:], clip.face.times


def add_preview(view: ClipView, clip: Clip, recording: Path | None) -> None:
    """The recording to play; what a clip holds of it where there is no file or it cannot be played."""
    for source in (recording, clip):
        if source is None:
            continue
        try:
            preview = encode_preview(source)
        except (AvserError, OSError) as error:
            view.warnings.append(f"the recording cannot be played here: {error}")
        else:
            view.video, view.video_type = preview.content, preview.media_type
            return


def _add_modality(
    view: ClipView, source: TrainedModel, clip: Clip, modality: str, salience: str, also: Sequence[str]
) -> None:
    """What the source model says of one modality: its own verdict, curves, regions, evidence and mixture."""
    answer = predict_clips(source, [clip], salience=salience)[0]
    emotion = source.emotions.index(answer.emotion)
    part = run_model(source, [clip]).attended[modality]
    own = part.logits[0].softmax(dim=0).double().cpu().numpy()
    view.unimodal[modality] = Prediction(
        clip.clip_id, source.emotions[int(own.argmax())], dict(zip(source.emotions, own.tolist(), strict=True))
    )
    view.salience[modality] = answer.salience[modality]
    view.regions[modality], view.asked[modality] = answer.regions[modality], answer.emotion
    for name in also:
        try:
            curve = find_saliences(source, [clip], modality, [emotion], name)[0]
        except AvserError as error:
            view.warnings.append(f"{modality}: no {name} salience: {error}")
        else:
            view.saliences.setdefault(name, {})[modality] = curve
    if modality in answer.evidence:
        view.evidence[modality] = answer.evidence[modality]
        view.mixture[modality] = mixture(part, 0)
        view.by_class.setdefault(PER_EMOTION, {})[modality] = {
            name: contribution_curve(part, 0, k) for k, name in enumerate(source.emotions)
        }
    if part.class_weights is not None:
        view.by_class.setdefault("attention", {})[modality] = {
            name: attention_curve(part, 0, k) for k, name in enumerate(source.emotions)
        }
    view.frequency_map = view.frequency_map or attention_map(part, 0)
    if modality == VIDEO:
        _add_places(view, source, clip, emotion)
    view.warnings += [w for w in answer.warnings if w not in view.warnings and not w.startswith("no ")]


def _add_places(view: ClipView, source: TrainedModel, clip: Clip, emotion: int) -> None:
    """Where in the face, if the model looks at crops."""
    faces = source.config.media.faces
    batch = collate_clips(source, [clip], also=[LANDMARKS])
    if batch.frames is None:
        return
    try:
        found = face_maps(
            source.network,
            batch,
            [emotion],
            margin=faces.margin,
            smooth_s=faces.smooth_s,
            align=faces.align,
            past=faces.tracker == "mediapipe_past",
        )[0]
    except AvserError:  # the model does not look at crops step by step through a convolutional network
        return
    view.places = {place: (found.times, share) for place, share in found.places.items()}
    if found.note:
        view.warnings.append(found.note)


def _add_decisions(view: ClipView, by_part: Mapping[str, TrainedModel], clip: Clip) -> None:
    """After how many seconds of the clip each model's answer stays what it is, in the steps of `gating_step_s`."""
    for name, model in by_part.items():
        if any(model.can_read(clip, modality) for modality in model.modalities):
            batch = collate_clips(model, [clip])
            step_s = gating_step_s(float(durations_s(batch)[0]))
            answers = ask_prefixes(model.network, batch, modalities=model.modalities, step_s=step_s)[0]
            view.decision[name] = answers.isolation_point_s


def _add_comparison(view: ClipView) -> None:
    """How the curves of voice and face lie to each other, beside chance; and where the two disagree."""
    if not all(modality in view.salience for modality in MODALITIES):
        return
    try:
        pair = align_curves(view.salience[AUDIO], view.salience[VIDEO])
        view.alignment = measure_pair(pair)
        view.chance, view.p_values = clip_chance(pair)
        if all(modality in view.evidence for modality in MODALITIES):
            view.disagreement = find_disagreement(view.evidence[AUDIO], view.evidence[VIDEO])
    except AvserError as error:
        view.warnings.append(f"voice and face cannot be compared: {error}")
