"""Ask a trained model: a file, or a decoded clip, goes in; the emotion and the moments that carried it come out.

Everything else that a report of one clip shows is in avser/explanation.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from avser.config import Config
from avser.data.cache_jobs import tracker_for
from avser.data.clip_file import BLENDSHAPES, FACE_FEATURES, LANDMARKS
from avser.data.dataset import Example, collate, parts_of
from avser.errors import AvserError, CheckpointError, MediaError
from avser.media.clip import read_clip
from avser.media.video import probe
from avser.roi.intervals import describe_degenerate, find_regions
from avser.roi.salience.curves import evidence_curve, salience_curve
from avser.roi.salience.sources import AUTO, find_salience
from avser.structures import AUDIO, FUSED, VIDEO, Batch, Clip, Curve, Output, Prediction
from avser.training.checkpoint import MODEL_FILE, load_trained
from avser.training.shared_model import fetch_model, is_hub_name, shared_config


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


def load_model(run: str | Path, device: str | None = None, *, revision: str | None = None) -> TrainedModel:
    """The model of a run folder (or of its model.safetensors), on a GPU where there is one.

    Args:
        run: also a model of the hub, ORG/NAME or ORG/NAME@REVISION; it is fetched where nothing of that name lies here
            (`avser.training.shared_model`).
        revision: of a model of the hub: a branch, a tag, or the commit that pins it.

    Raises:
        CheckpointError: missing, damaged, or not written by avser. Nothing is unpickled.
    """
    name, _, pin = Path(run).as_posix().partition("@")
    if is_hub_name(name, is_pinned=bool(revision or pin)):
        return _load_shared(fetch_model(name, revision or pin or None), device)
    if revision is not None:
        raise CheckpointError(f"{run}: only a model of the hub, ORG/NAME, has a revision; this is a path")
    path = Path(run)
    path = path / MODEL_FILE if path.suffix != ".safetensors" else path
    parts = _find_parts(path.parent)
    if parts and not path.is_file():
        raise CheckpointError(f"{run}: a folder of runs; name one of them: {', '.join(map(str, parts.values()))}")
    return _load_file(path, device)


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


def predict(model: TrainedModel, clip: str | Path | Clip, *, salience: str = AUTO) -> Prediction:
    """The emotion of one clip, with salience curves, evidence and regions of interest for each modality.

    Args:
        salience: how to ask which moments carried the answer, a key of `avser.roi.salience.sources.SOURCES`.

    Raises:
        MediaError: the file cannot be used; the message says why.
        AvserError: the model cannot be asked for its salience in that way.
    """
    return predict_clips(model, [as_clip(clip, model)], salience=salience)[0]


def predict_clips(model: TrainedModel, clips: Sequence[Clip], *, salience: str = AUTO) -> list[Prediction]:
    """`predict` for several decoded clips in one batch.

    Raises:
        AvserError: a clip has none of the model's modalities.
    """
    batch = collate_clips(model, clips)
    with torch.no_grad():
        output = model.network(batch)
    shares = output.logits.softmax(dim=1).double().cpu().numpy()
    answers = shares.argmax(axis=1).tolist()
    curves = {
        modality: [salience_curve(output.attended[modality], i, emotion) for i, emotion in enumerate(answers)]
        if salience == AUTO
        else find_salience(model.network, batch, modality, answers, salience)
        for modality in model.modalities
        if modality in output.attended
    }
    predictions = []
    for i, clip in enumerate(clips):
        own = {modality: by_clip[i] for modality, by_clip in curves.items() if model.can_read(clip, modality)}
        predictions.append(read_prediction(model, output, i, clip, shares[i], own))
    return predictions


def find_saliences(
    model: TrainedModel, clips: Sequence[Clip], modality: str, emotions: Sequence[int], source: str = AUTO
) -> list[Curve]:
    """Salience of one modality for an emotion of one's choice in each of several decoded clips.

    Args:
        emotions: index into `model.emotions` for each clip.
        source: a key of `avser.roi.salience.sources.SOURCES`.

    Raises:
        AvserError: a clip lacks the model's modalities, or the model cannot be asked in that way.
    """
    return find_salience(model.network, collate_clips(model, clips), modality, emotions, source)


def read_media(model: TrainedModel, path: str | Path) -> Clip:
    """Decode a file as the model's cache was made: the same functions, the same settings.

    Raises:
        MediaError: the file cannot be used, or has nothing that the model could hear or see.
    """
    path, media = Path(path), model.config.media
    wants_voice, wants_face = wanted_tracks(model, path)
    return read_clip(
        path.stem,
        audio=path if wants_voice else None,
        video=path if wants_face else None,
        tracker=tracker_for(media) if wants_face else None,
        sample_rate_hz=media.sample_rate_hz,
        fps=media.fps,
    )


def wanted_tracks(model: TrainedModel, path: str | Path) -> tuple[bool, bool]:
    """Whether a file has a voice, and a picture, that the model reads.

    Raises:
        MediaError: the file cannot be used, or has neither.
    """
    info = probe(path)
    wants_voice = AUDIO in model.modalities and info.has_audio
    wants_face = bool({VIDEO, LANDMARKS, BLENDSHAPES} & set(parts_of(model.config.model))) and info.has_video
    if not wants_voice and not wants_face:
        needs = {AUDIO: "an audio track", FACE_FEATURES: "a table of face features (cache it)"}
        tracks = " or ".join(needs.get(part, "a video track") for part in parts_of(model.config.model))
        raise MediaError(
            f"{path}: has nothing for the model in {model.folder}, which needs {tracks}; give another recording, or a "
            "model of another modality"
        )
    return wants_voice, wants_face


def run_model(model: TrainedModel, clips: Sequence[Clip]) -> Output:
    """One forward pass over decoded clips.

    Raises:
        AvserError: as `collate_clips`.
    """
    batch = collate_clips(model, clips)
    with torch.no_grad():
        return model.network(batch)


def collate_clips(model: TrainedModel, clips: Sequence[Clip], *, also: Sequence[str] = ()) -> Batch:
    """Decoded clips as the model reads them, on its device.

    Args:
        also: parts of the clips that the model itself does not read, of `avser.data.clip_file.CLIP_PARTS`.

    Raises:
        AvserError: a clip has none of the model's modalities, e.g. no face for a face-only model.
    """
    for clip in clips:
        if not any(model.can_read(clip, modality) for modality in model.modalities):
            raise AvserError(
                f"{clip.clip_id}: the model needs {' or '.join(model.modalities)}, and the clip has neither "
                f"({'; '.join(clip.warnings) or 'no warnings'})"
            )
    batch = collate([Example(clip.clip_id, clip, None) for clip in clips], parts=(*parts_of(model.config.model), *also))
    return batch.to(model.device)


def _load_file(path: Path, device: str | None) -> TrainedModel:
    network, config, emotions = load_trained(path)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return TrainedModel(network.to(where), config, emotions, path.parent, where)


def _load_shared(folder: Path, device: str | None) -> TrainedModel:
    """A stranger's model; the paths in its configuration are of no use here, and none of them is opened."""
    model = _load_file(folder / MODEL_FILE, device)
    return replace(model, config=shared_config(model.config))


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


def as_clip(clip: str | Path | Clip, model: TrainedModel) -> Clip:
    """A decoded clip as it is, a file decoded for the model."""
    return clip if isinstance(clip, Clip) else read_media(model, clip)


def read_prediction(
    model: TrainedModel,
    output: Output,
    index: int,
    clip: Clip,
    shares: np.ndarray,
    curves: Mapping[str, Curve],
) -> Prediction:
    """What an output says about one clip of its batch.

    Args:
        index: the clip's place in the batch.
        shares: (C,) its probabilities.
        curves: salience of the modalities that it was answered by; the others are named in the warnings.
    """
    prediction = Prediction(
        clip.clip_id,
        model.emotions[int(shares.argmax())],
        dict(zip(model.emotions, shares.tolist(), strict=True)),
        warnings=list(clip.warnings),
    )
    for modality in model.modalities:
        if modality not in curves:
            prediction.warnings.append(f"no {'voice' if modality == AUDIO else 'face'}: answered without it")
            continue
        part, curve = output.attended[modality], curves[modality]
        prediction.salience[modality] = curve
        if part.step_logits is not None:
            prediction.evidence[modality] = evidence_curve(part, index)
        if fault := describe_degenerate(curve):
            prediction.warnings.append(f"{modality} salience is degenerate: {fault}")
        prediction.regions[modality] = find_regions(curve, modality, **asdict(model.config.roi))
    return prediction
