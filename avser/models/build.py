"""From a configuration to a model: the only place where models and configuration meet."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from avser.config import AudioBranchConfig, BackboneConfig, ModelConfig, VideoBranchConfig
from avser.errors import ConfigError
from avser.features.spectral import FrequencyWarp, LogMel, SpecAugment
from avser.models.attention import AttentionPooling
from avser.models.audio import AudioBranch
from avser.models.backbones import Backbone, build_backbone
from avser.models.fusion import FUSIONS
from avser.models.recognizer import Recognizer
from avser.models.temporal import TEMPORAL
from avser.models.video import FeatureBranch, VideoBranch

MAX_STEP_S = 0.080


def build_model(model: ModelConfig, num_classes: int, *, sample_rate_hz: int, pretrained: bool = True) -> nn.Module:
    """Any system, by name, with the one forward `model(batch: Batch) -> Output`.

    Args:
        pretrained: False skips the ImageNet weights, for a model whose own weights are loaded next.

    Raises:
        ConfigError: an unknown system, or parts that do not fit each other.
    """
    if model.system not in SYSTEMS:
        raise ConfigError(f"model.system={model.system!r}: known systems are {', '.join(SYSTEMS)}")
    return SYSTEMS[model.system](model, num_classes, sample_rate_hz, pretrained)


def build_av_roi(model: ModelConfig, num_classes: int, sample_rate_hz: int, pretrained: bool) -> Recognizer:
    """The reference model (`av_roi`)."""
    widths = {model.audio.dim, model.video.dim} if len(model.modalities) > 1 else {0}
    if len(widths) > 1:
        raise ConfigError(f"model.audio.dim={model.audio.dim} and model.video.dim={model.video.dim} must agree to fuse")
    branches: dict[str, AudioBranch | VideoBranch | FeatureBranch] = {}
    if "audio" in model.modalities:
        branches["audio"] = build_audio_branch(model.audio, sample_rate_hz, pretrained)
    if "video" in model.modalities:
        branches["video"] = build_video_branch(model.video, pretrained)
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
            list(branches), model.audio.dim, num_classes, hidden=f.hidden, dropout=f.dropout, window_s=f.window_s
        )
    return Recognizer(branches, attentions, fusion, modality_dropout=model.fusion.modality_dropout)


def build_audio_branch(audio: AudioBranchConfig, sample_rate_hz: int, pretrained: bool) -> AudioBranch:
    """Raises ConfigError when the CNN's stride would make steps longer than 80 ms."""
    s = audio.spectrogram
    spectrogram = LogMel(
        sample_rate_hz=sample_rate_hz,
        num_mels=s.num_mels,
        window_s=s.window_s,
        hop_s=s.hop_s,
        min_hz=s.min_hz,
        max_hz=s.max_hz,
        deltas=s.deltas,
        normalize=s.normalize,
    )
    branch = AudioBranch(
        spectrogram,
        _build_cnn(audio.backbone, pretrained),
        TEMPORAL[audio.temporal](audio.dim, audio.layers, audio.bidirectional, audio.dropout),
        dim=audio.dim,
        dropout=audio.dropout,
        warp=FrequencyWarp(num_mels=s.num_mels, min_hz=s.min_hz, max_hz=s.max_hz, limit=audio.warp)
        if audio.warp
        else None,
        augment=SpecAugment() if audio.spec_augment else None,
    )
    if branch.step_s > MAX_STEP_S + 1e-9:
        raise ConfigError(
            f"model.audio: a step of {1000 * branch.step_s:.0f} ms is too coarse for regions; at most "
            f"{1000 * MAX_STEP_S:.0f} ms: lower backbone.max_stride or spectrogram.hop_s"
        )
    return branch


def build_video_branch(video: VideoBranchConfig, pretrained: bool) -> VideoBranch | FeatureBranch:
    if video.num_features:
        return FeatureBranch(
            video.num_features,
            TEMPORAL[video.temporal](video.dim, video.layers, video.bidirectional, video.dropout),
            dim=video.dim,
            dropout=video.dropout,
            baseline=video.baseline,
        )
    return VideoBranch(
        _build_cnn(video.backbone, pretrained),
        TEMPORAL[video.temporal](video.dim, video.layers, video.bidirectional, video.dropout),
        dim=video.dim,
        dropout=video.dropout,
        grid=video.grid,
        baseline=video.baseline,
    )


def _build_cnn(config: BackboneConfig, pretrained: bool) -> Backbone:
    weights = config.weights if pretrained else "none"
    return build_backbone(
        config.name,
        weights=weights,
        max_stride=config.max_stride,
        max_time_stride=config.max_time_stride,
        freeze=config.freeze,
    )


SYSTEMS: dict[str, Callable[[ModelConfig, int, int, bool], nn.Module]] = {"av_roi": build_av_roi}
