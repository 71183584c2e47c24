"""From a configuration to a model: the only place where models and configuration meet."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from avser.config import AudioBranchConfig, BackboneConfig, ModelConfig, VideoBranchConfig
from avser.errors import ConfigError
from avser.features.causal_spectral import CausalLogMel
from avser.features.masking import FrequencyWarp, SpecAugment
from avser.features.spectral import LogMel
from avser.models.attention import AttentionPooling
from avser.models.audio import AudioBranch
from avser.models.backbones import Backbone, build_backbone
from avser.models.causal_backbone import CausalBackbone
from avser.models.causal_branches import CausalAudioBranch, CausalVideoBranch
from avser.models.causal_recognizer import CausalRecognizer
from avser.models.causal_temporal import CAUSAL_TEMPORAL
from avser.models.fusion import FUSIONS
from avser.models.recognizer import Recognizer
from avser.models.system import System
from avser.models.systems import SYSTEMS
from avser.models.temporal import TEMPORAL
from avser.models.video import FeatureBranch, VideoBranch

MAX_STEP_S = 0.080
FACTS = ("num_classes", "emotions", "sample_rate_hz", "modalities", "face_input", "pretrained")


def build_model(model: ModelConfig, emotions: Sequence[str], *, sample_rate_hz: int, pretrained: bool = True) -> System:
    """Any system, by name, with the one forward `model(batch: Batch) -> Output`.

    Args:
        emotions: the label set, in order.
        pretrained: False skips pretrained weights, for a model whose own weights are loaded next.

    Raises:
        ConfigError: an unknown system or option, or parts that do not fit each other.
    """
    known = ("av_roi", *SYSTEMS)
    if model.system not in known:
        near = difflib.get_close_matches(model.system, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"model.system={model.system!r}: known systems are {', '.join(known)}{hint}")
    if model.system == "av_roi":
        return build_av_roi(model, len(emotions), sample_rate_hz, pretrained)
    return build_published(SYSTEMS[model.system], model, emotions, sample_rate_hz, pretrained)


def build_published(
    system: type[System], model: ModelConfig, emotions: Sequence[str], sample_rate_hz: int, pretrained: bool
) -> System:
    """A system of its own class: its options are the keyword arguments of its signature."""
    parameters = inspect.signature(system).parameters
    _check_published(system, model, [name for name in parameters if name not in FACTS])
    facts = {
        "num_classes": len(emotions),
        "emotions": list(emotions),
        "sample_rate_hz": sample_rate_hz,
        "modalities": tuple(model.modalities),
        "face_input": model.face_input,
        "pretrained": pretrained,
    }
    try:
        return system(**{name: facts[name] for name in FACTS if name in parameters}, **model.options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.options of {model.system}: {error}") from error


def _check_published(system: type[System], model: ModelConfig, options: list[str]) -> None:
    """Nothing that a configuration says of a model may be passed over in silence."""
    name = model.system
    for key in model.options:
        if key not in options:
            near = difflib.get_close_matches(str(key), options, n=1, cutoff=0)
            raise ConfigError(
                f"model.options.{key}: {name} has no such option; did you mean {near[0] if near else 'none'!r}? "
                f"(it has: {', '.join(options) or 'none'})"
            )
    plain = ModelConfig()
    if model.causal:
        raise ConfigError(f"model.causal=true belongs to av_roi; {name} is as published, and sees whole clips")
    for group in ("audio", "video", "attention", "fusion"):
        if getattr(model, group) != getattr(plain, group):
            raise ConfigError(f"model.{group} belongs to av_roi; {name} is configured by model.options alone")
    if not set(model.modalities) <= set(system.reads):
        raise ConfigError(f"model.modalities={model.modalities}: {name} reads {' and '.join(system.reads)}")
    chooses = "modalities" in inspect.signature(system).parameters
    if not chooses and set(model.modalities) != set(system.reads):
        raise ConfigError(f"model.modalities={model.modalities}: {name} needs {' and '.join(system.reads)}")
    if "video" in model.modalities and model.face_input not in system.face_inputs:
        raise ConfigError(f"model.face_input={model.face_input}: {name} reads {' or '.join(system.face_inputs)}")


def build_av_roi(model: ModelConfig, num_classes: int, sample_rate_hz: int, pretrained: bool) -> Recognizer:
    """The reference model (`av_roi`)."""
    if model.options:
        raise ConfigError(f"model.options: av_roi has none; see the groups of `avser config show` ({model.options})")
    if "video" in model.modalities and model.face_input != "crops":
        raise ConfigError("model.face_input: av_roi reads crops, or features by model.video.num_features")
    widths = {model.audio.dim, model.video.dim} if len(model.modalities) > 1 else {0}
    if len(widths) > 1:
        raise ConfigError(f"model.audio.dim={model.audio.dim} and model.video.dim={model.video.dim} must agree to fuse")
    if model.causal:
        _check_causal(model)
    running_s = model.running_s if model.causal else None
    branches: dict[str, AudioBranch | CausalAudioBranch | VideoBranch | FeatureBranch] = {}
    if "audio" in model.modalities:
        branches["audio"] = build_audio_branch(model.audio, sample_rate_hz, pretrained, running_s=running_s)
    if "video" in model.modalities:
        branches["video"] = build_video_branch(model.video, pretrained, running_s=running_s)
    attention = model.attention
    attentions = {
        name: AttentionPooling(
            branch.dim,
            num_classes,
            kind=attention.kind,
            hidden=attention.hidden,
            temperature=attention.temperature,
        )
        for name, branch in branches.items()
    }
    fusion = None
    if len(branches) > 1:
        f = model.fusion
        fusion = FUSIONS[f.kind](
            list(branches),
            model.audio.dim,
            num_classes,
            hidden=f.hidden,
            dropout=f.dropout,
            window_s=f.window_s,
            width=f.width,
            rank=f.rank,
            layers=f.layers,
            heads=f.heads,
            num_bottlenecks=f.num_bottlenecks,
        )
    dropout = model.fusion.modality_dropout
    if model.causal:
        return CausalRecognizer(
            branches, attentions, fusion, modality_dropout=dropout, window_s=model.attention.window_s
        )
    return Recognizer(branches, attentions, fusion, modality_dropout=dropout)


def _check_causal(model: ModelConfig) -> None:
    """Nothing of a causal model may wait for the clip's end."""
    for name in model.modalities:
        part = model.audio if name == "audio" else model.video
        if part.temporal in ("gru", "lstm") and part.bidirectional:
            raise ConfigError(
                f"model.causal=true: model.{name}.bidirectional=true reads the clip from its end as well; set it to "
                f"false, or take model.{name}.temporal=tcn"
            )
    if "video" in model.modalities and model.video.num_features:
        raise ConfigError(
            "model.causal=true reads face crops; tables that another program made of whole clips cannot come in live "
            "(model.video.num_features=0)"
        )


def build_audio_branch(
    audio: AudioBranchConfig, sample_rate_hz: int, pretrained: bool, *, running_s: float | None = None
) -> AudioBranch | CausalAudioBranch:
    """The voice branch; the causal one where `running_s` is given.

    Raises:
        ConfigError: the CNN's stride would make steps longer than 80 ms, or it cannot be causal.
    """
    s = audio.spectrogram
    spectrum: dict[str, Any] = {
        "sample_rate_hz": sample_rate_hz,
        "num_mels": s.num_mels,
        "window_s": s.window_s,
        "hop_s": s.hop_s,
        "min_hz": s.min_hz,
        "max_hz": s.max_hz,
        "deltas": s.deltas,
        "normalize": s.normalize,
    }
    options: dict[str, Any] = {
        "dim": audio.dim,
        "dropout": audio.dropout,
        "warp": FrequencyWarp(num_mels=s.num_mels, min_hz=s.min_hz, max_hz=s.max_hz, limit=audio.warp)
        if audio.warp
        else None,
        "augment": SpecAugment() if audio.spec_augment else None,
    }
    branch: AudioBranch | CausalAudioBranch
    if running_s is None:
        temporal = TEMPORAL[audio.temporal](audio.dim, audio.layers, audio.bidirectional, audio.dropout)
        branch = AudioBranch(LogMel(**spectrum), _build_cnn(audio.backbone, pretrained), temporal, **options)
    else:
        if s.window_s < s.hop_s:
            raise ConfigError(
                f"model.audio.spectrogram: window_s={s.window_s:g} below hop_s={s.hop_s:g} would leave samples out of "
                "causal frames; take window_s >= hop_s"
            )
        cnn = _build_cnn(audio.backbone, pretrained, CausalBackbone)
        assert isinstance(cnn, CausalBackbone)
        temporal = CAUSAL_TEMPORAL[audio.temporal](audio.dim, audio.layers, audio.dropout)
        branch = CausalAudioBranch(CausalLogMel(running_s=running_s, **spectrum), cnn, temporal, **options)
    if branch.step_s > MAX_STEP_S + 1e-9:
        raise ConfigError(
            f"model.audio: a step of {1000 * branch.step_s:.0f} ms is too coarse for regions; at most "
            f"{1000 * MAX_STEP_S:.0f} ms: lower backbone.max_stride or spectrogram.hop_s"
        )
    return branch


def build_video_branch(
    video: VideoBranchConfig, pretrained: bool, *, running_s: float | None = None
) -> VideoBranch | FeatureBranch:
    """The face branch; the causal one where `running_s` is given."""
    if video.num_features:
        return FeatureBranch(
            video.num_features,
            TEMPORAL[video.temporal](video.dim, video.layers, video.bidirectional, video.dropout),
            dim=video.dim,
            dropout=video.dropout,
            baseline=video.baseline,
        )
    cnn = _build_cnn(video.backbone, pretrained)
    options: dict[str, Any] = {
        "dim": video.dim,
        "dropout": video.dropout,
        "grid": video.grid,
        "baseline": video.baseline,
    }
    if running_s is not None:
        temporal = CAUSAL_TEMPORAL[video.temporal](video.dim, video.layers, video.dropout)
        return CausalVideoBranch(cnn, temporal, running_s=running_s, **options)
    temporal = TEMPORAL[video.temporal](video.dim, video.layers, video.bidirectional, video.dropout)
    return VideoBranch(cnn, temporal, **options)


def _build_cnn(config: BackboneConfig, pretrained: bool, kind: type[Backbone] | None = None) -> Backbone:
    weights = config.weights if pretrained else "none"
    return build_backbone(
        config.name,
        weights=weights,
        max_stride=config.max_stride,
        max_time_stride=config.max_time_stride,
        freeze=config.freeze,
        kind=kind,
    )
