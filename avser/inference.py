"""Ask a trained model: a file, or a decoded clip, goes in; the emotion and the moments that carried it come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from avser.config import Config
from avser.data.cache_jobs import tracker_for
from avser.data.clip_file import BLENDSHAPES, FACE_FEATURES, LANDMARKS
from avser.data.dataset import Example, collate, parts_of
from avser.errors import AvserError, CheckpointError, MediaError
from avser.features.spectral import LogMel
from avser.media.clip import read_clip
from avser.media.video import probe
from avser.roi.alignment import Alignment, measure_alignment
from avser.roi.dynamics import fuse_evidence, mixture
from avser.roi.intervals import describe_degenerate, find_regions
from avser.roi.salience import evidence_curve, salience_curve
from avser.roi.view import ClipView
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Clip, Output, Prediction, Region
from avser.training.checkpoint import MODEL_FILE, load_trained


@dataclass
class TrainedModel:
    """A network with all that is needed to ask it something.

    Attributes:
        network: in eval mode on `device`.
        config: of the run that made it; clips are read under its media settings.
        emotions: label order.
        folder: of the run.
    """

    network: nn.Module
    config: Config
    emotions: list[str]
    folder: Path
    device: torch.device

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.config.model.modalities)

    def can_read(self, clip: Clip, modality: str) -> bool:
        """Whether the model uses that modality and the clip has it, in the form that the model reads."""
        if modality not in self.modalities:
            return False
        if modality == AUDIO:
            return clip.waveform is not None
        parts = parts_of(self.config.model)
        face = clip.face_features if FACE_FEATURES in parts and VIDEO not in parts else clip.face
        if face is None or not face.found.any():
            return False
        return all(getattr(clip.face, part) is not None for part in (LANDMARKS, BLENDSHAPES) if part in parts)


def load_model(run: str | Path, device: str | None = None) -> TrainedModel:
    """The model of a run folder (or of its model.safetensors), on a GPU where there is one.

    Raises:
        CheckpointError: missing, damaged, or not written by avser. Nothing is unpickled.
    """
    path = Path(run)
    path = path / MODEL_FILE if path.suffix != ".safetensors" else path
    parts = _find_parts(path.parent)
    if parts and not path.is_file():
        raise CheckpointError(f"{run}: a folder of runs; name one of them: {', '.join(map(str, parts.values()))}")
    network, config, emotions = load_trained(path)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return TrainedModel(network.to(where), config, emotions, path.parent, where)


def load_models(run: str | Path, device: str | None = None) -> dict[str, TrainedModel]:
    """The models of a run folder, by what they hear and see.

    A folder of runs "audio", "video" and "fused", as a modality ablation leaves it, gives all that are there; a single
    run gives one entry, named after its modality or "fused".

    Raises:
        CheckpointError: neither a run nor a folder of runs, or the runs name other emotions or read media otherwise.
    """
    folder = Path(run)
    parts = _find_parts(folder)
    if parts and not (folder / MODEL_FILE).is_file():
        models = {name: load_model(part, device) for name, part in parts.items()}
        _check_alike(*models.values())
        return models
    model = load_model(folder, device)
    return {FUSED if len(model.modalities) > 1 else model.modalities[0]: model}


def predict(model: TrainedModel, clip: str | Path | Clip) -> Prediction:
    """The emotion of one clip, with attention curves, evidence and regions of interest for each modality.

    Raises:
        MediaError: the file cannot be used; the message says why.
    """
    return predict_clips(model, [_as_clip(clip, model)])[0]


def predict_clips(model: TrainedModel, clips: Sequence[Clip]) -> list[Prediction]:
    """`predict` for several decoded clips in one batch.

    Raises:
        AvserError: a clip has none of the model's modalities.
    """
    output = run_model(model, clips)
    shares = output.logits.softmax(dim=1).double().cpu().numpy()
    return [_read_prediction(model, output, i, clip, shares[i]) for i, clip in enumerate(clips)]


def explain(
    models: TrainedModel | Mapping[str, TrainedModel],
    clip: str | Path | Clip,
    *,
    true_emotion: str | None = None,
    truth: Mapping[str, list[Region]] | None = None,
    corpus: str = "",
    speaker: str = "",
) -> ClipView:
    """Everything that a figure or report of one clip shows.

    Args:
        models: one model, or "audio", "video" and "fused" -> a model each. With separate models the curves of voice and
            face come from the single-modality ones, so that neither has seen the other.
        truth: modality -> planted or annotated regions, where known.
    """
    by_part = models if isinstance(models, Mapping) else {FUSED: models}
    main = by_part.get(FUSED) or next(iter(by_part.values()))
    clip = _as_clip(clip, main)
    verdict = predict_clips(main, [clip])[0]
    view = ClipView(
        clip.clip_id,
        clip.duration_s,
        verdict,
        corpus=corpus,
        speaker=speaker,
        true_emotion=true_emotion,
        truth=dict(truth or {}),
        warnings=list(verdict.warnings),
    )
    _add_media(view, clip)
    for modality in MODALITIES:
        source = by_part.get(modality, main)
        if source.can_read(clip, modality):
            _add_modality(view, source, clip, modality)
    if view.evidence:
        view.evidence[FUSED] = fuse_evidence(view.evidence, view.salience)
    view.alignment = try_alignment(view)
    return view


def try_alignment(view: ClipView) -> Alignment | None:
    """How the two curves lie to each other; None, with a warning, where they cannot be compared."""
    if not all(modality in view.salience for modality in MODALITIES):
        return None
    try:
        return measure_alignment(view.salience[AUDIO], view.salience[VIDEO])
    except AvserError as error:
        view.warnings.append(f"voice and face cannot be compared: {error}")
        return None


def read_media(model: TrainedModel, path: str | Path) -> Clip:
    """Decode a file as the model's cache was made: the same functions, the same settings.

    Raises:
        MediaError: the file cannot be used, or has nothing that the model could hear or see.
    """
    path, media = Path(path), model.config.media
    info = probe(path)
    wants_voice = AUDIO in model.modalities and info.has_audio
    wants_face = {VIDEO, LANDMARKS, BLENDSHAPES} & set(parts_of(model.config.model)) and info.has_video
    if not wants_voice and not wants_face:
        needs = {AUDIO: "an audio track", FACE_FEATURES: "a table of face features (cache it)"}
        tracks = " or ".join(needs.get(part, "a video track") for part in parts_of(model.config.model))
        raise MediaError(
            f"{path}: has nothing for the model in {model.folder}, which needs {tracks}; give another recording, or a "
            "model of another modality"
        )
    return read_clip(
        path.stem,
        audio=path if wants_voice else None,
        video=path if wants_face else None,
        tracker=tracker_for(media) if wants_face else None,
        sample_rate_hz=media.sample_rate_hz,
        fps=media.fps,
    )


def run_model(model: TrainedModel, clips: Sequence[Clip]) -> Output:
    """One forward pass over decoded clips.

    Raises:
        AvserError: a clip has none of the model's modalities, e.g. no face for a face-only model.
    """
    for clip in clips:
        if not any(model.can_read(clip, modality) for modality in model.modalities):
            raise AvserError(
                f"{clip.clip_id}: the model needs {' or '.join(model.modalities)}, and the clip has neither "
                f"({'; '.join(clip.warnings) or 'no warnings'})"
            )
    batch = collate([Example(clip.clip_id, clip, None) for clip in clips], parts=parts_of(model.config.model))
    with torch.no_grad():
        return model.network(batch.to(model.device))


def _find_parts(folder: Path) -> dict[str, Path]:
    """The runs of a folder that a modality ablation made, by name."""
    return {name: folder / name for name in (AUDIO, VIDEO, FUSED) if (folder / name / MODEL_FILE).is_file()}


def _check_alike(first: TrainedModel, *others: TrainedModel) -> None:
    """Models that answer together must mean the same by an emotion, and be given the same clip."""
    for other in others:
        if (other.emotions, other.config.media) != (first.emotions, first.config.media):
            raise CheckpointError(
                f"{other.folder} and {first.folder} differ in their emotions or in `media`, so they cannot answer "
                "together; train them by one `avser ablate`"
            )


def _as_clip(clip: str | Path | Clip, model: TrainedModel) -> Clip:
    return clip if isinstance(clip, Clip) else read_media(model, clip)


def _read_prediction(model: TrainedModel, output: Output, index: int, clip: Clip, shares: np.ndarray) -> Prediction:
    prediction = Prediction(
        clip.clip_id,
        model.emotions[int(shares.argmax())],
        dict(zip(model.emotions, shares.tolist(), strict=True)),
        warnings=list(clip.warnings),
    )
    for modality in model.modalities:
        if not model.can_read(clip, modality) or modality not in output.attended:
            prediction.warnings.append(f"no {'voice' if modality == AUDIO else 'face'}: answered without it")
            continue
        part = output.attended[modality]
        curve = salience_curve(part, index, int(shares.argmax()))
        prediction.salience[modality] = curve
        if part.step_logits is not None:
            prediction.evidence[modality] = evidence_curve(part, index)
        if fault := describe_degenerate(curve):
            prediction.warnings.append(f"{modality} attention is degenerate: {fault}")
        prediction.regions[modality] = find_regions(curve, modality, **asdict(model.config.roi))
    return prediction


def _add_media(view: ClipView, clip: Clip) -> None:
    if clip.waveform is not None:
        front_end = LogMel(sample_rate_hz=clip.sample_rate_hz, max_hz=clip.sample_rate_hz / 2)
        waveform = torch.from_numpy(clip.waveform)[None]
        view.log_mel = front_end.log_mel(waveform, torch.ones_like(waveform, dtype=torch.bool))[0].T.numpy()
        view.log_mel_times = front_end.hop_s * np.arange(len(view.log_mel))
    if clip.face is not None:
        view.faces, view.face_times = clip.face.crops[:], clip.face.times


def _add_modality(view: ClipView, source: TrainedModel, clip: Clip, modality: str) -> None:
    """What the source model says of one modality: its own verdict, curve, regions, evidence and mixture."""
    output = run_model(source, [clip])
    answer = _read_prediction(source, output, 0, clip, output.logits.softmax(dim=1).double().cpu().numpy()[0])
    part = output.attended[modality]
    own = part.logits[0].softmax(dim=0).double().cpu().numpy()
    view.unimodal[modality] = Prediction(
        clip.clip_id, source.emotions[int(own.argmax())], dict(zip(source.emotions, own.tolist(), strict=True))
    )
    view.salience[modality] = answer.salience[modality]
    view.regions[modality] = answer.regions[modality]
    if modality in answer.evidence:
        view.evidence[modality] = answer.evidence[modality]
        view.mixture[modality] = mixture(part, 0)
    view.warnings += [w for w in answer.warnings if w not in view.warnings and not w.startswith("no ")]
