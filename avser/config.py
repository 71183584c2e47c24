"""The configuration: dataclasses that hold every default, and the only code that sees OmegaConf.

A configuration is several YAML files merged from left to right and then `key=value` overrides; later wins.
`load_config(["av_roi", "ravdess", "training.epochs=5"])` finds named files in `configs/`, and refuses a key it does
not know with the nearest one that it does, before any data are read.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avser.errors import ConfigError

CONFIG_FOLDERS = ("systems", "corpora", "experiments")


@dataclass
class FacesConfig:
    """How faces are found (`avser.media.faces`)."""

    tracker: Literal["mediapipe", "center", "none"] = "mediapipe"
    model: str | None = None  # path of face_landmarker.task; None: look in $AVSER_MODELS
    max_faces: int = 3
    margin: float = 0.25  # of the face's size, added on every side of the box
    smooth_s: float = 0.2  # time constant of the box smoothing; 0: none
    align: bool = True  # rotate crops so that the eyes are level
    center_size: float = 0.9  # `center`: side of the fixed box as a share of the shorter image side


@dataclass
class MediaConfig:
    """How a file becomes arrays; a cache is keyed by these settings."""

    sample_rate_hz: int = 16000
    fps: float | None = 15.0  # frames kept a second; None: every frame of the file
    crop_px: int = 112
    faces: FacesConfig = field(default_factory=FacesConfig)


@dataclass
class DataConfig:
    """Which clips, which labels, which split."""

    manifest: str = ""  # path of a manifest.csv
    cache: str = ""  # folder made by `avser cache`
    emotions: list[str] = field(
        default_factory=list
    )  # label set in order; empty: every emotion of the manifest, sorted
    merge: dict[str, str] = field(default_factory=dict)  # e.g. {calm: neutral}
    drop_other_emotions: bool = False  # False: an emotion outside the label set is an error
    protocol: Literal["speaker_holdout", "speaker_kfold", "manifest"] = "speaker_holdout"
    fold: int = 0
    num_folds: int = 5
    val_share: float = 0.2  # of the training speakers
    test_share: float = 0.2  # of all speakers (speaker_holdout)
    split_seed: int = 0
    allow_shared_speakers: bool = False  # True: speaker-dependent protocol, named so in every result
    max_duration_s: float = 10.0  # longer clips are cut to this in a batch


@dataclass
class SpectrogramConfig:
    """Log-mel front end."""

    num_mels: int = 64
    window_s: float = 0.025
    hop_s: float = 0.010
    min_hz: float = 50.0
    max_hz: float = 8000.0
    deltas: bool = True  # True: static, delta, delta-delta as three channels; False: static three times
    normalize: Literal["clip", "band", "none"] = "clip"


@dataclass
class BackboneConfig:
    """A CNN from torchvision or timm, cut where its stride still is small enough."""

    name: str = "torchvision:squeezenet1_1"  # torchvision:NAME | timm:NAME
    weights: str = "imagenet"  # imagenet | none | path of a .safetensors file
    max_stride: int = 8  # cut after the last layer whose total stride does not exceed this
    max_time_stride: int | None = None  # spectrograms: deeper layers stride along frequency alone; None: alike
    freeze: bool = False


@dataclass
class AudioBranchConfig:
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    temporal: Literal["gru", "lstm", "tcn", "none"] = "tcn"
    bidirectional: bool = True
    layers: int = 1
    dim: int = 128
    dropout: float = 0.2
    spec_augment: bool = True  # mask random bands and stretches while training
    warp: float = 0.0  # largest relative stretch of the frequency axis while training; 0: none


@dataclass
class VideoBranchConfig:
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(max_stride=32))
    temporal: Literal["gru", "lstm", "tcn", "none"] = "gru"
    bidirectional: bool = True
    layers: int = 1
    dim: int = 128
    dropout: float = 0.2
    baseline: Literal["none", "clip"] = "none"  # clip: take the clip's median face away from every frame
    grid: int = 4  # the face's feature map is pooled to grid x grid places


@dataclass
class AttentionConfig:
    kind: Literal["additive", "linear", "gated", "per_class", "additive_mil", "mean", "last"] = "additive_mil"
    hidden: int = 64
    temperature: float = 1.0  # additive: softmax(temperature * score); 0 is mean pooling


@dataclass
class FusionConfig:
    kind: Literal["late_average", "late_product", "concat", "gated", "cross_attention"] = "concat"
    hidden: int = 128
    dropout: float = 0.3
    window_s: float = 0.5  # cross_attention: how far apart two steps may be
    modality_dropout: float = 0.2  # chance that a training clip loses one modality


@dataclass
class ModelConfig:
    system: str = "av_roi"
    modalities: list[str] = field(default_factory=lambda: ["audio", "video"])
    audio: AudioBranchConfig = field(default_factory=AudioBranchConfig)
    video: VideoBranchConfig = field(default_factory=VideoBranchConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)


@dataclass
class AugmentConfig:
    """Training-time changes of a batch; 0 switches one off."""

    mixup: float = 0.0  # alpha of the Beta distribution
    flip: float = 0.5  # chance of mirroring the face
    brightness: float = 0.2
    contrast: float = 0.2
    shift: float = 0.06  # largest translation of the face, share of its size
    gain_db: float = 6.0
    noise_snr_db: float | None = 20.0  # loudest noise added; None: none


@dataclass
class TrainingConfig:
    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0  # learning rate of pretrained layers, as a share of learning_rate
    weight_decay: float = 1e-4
    warmup_share: float = 0.1  # of all steps
    clip_norm: float = 5.0
    label_smoothing: float = 0.05
    class_weights: Literal["balanced", "none"] = "balanced"
    unimodal_loss: float = 0.3  # weight of each modality's own loss in a fused model
    attention_entropy: float = 0.0  # weight of the attention's normalised entropy; > 0 asks for few regions
    patience: int = 10  # epochs without a better validation UAR before stopping
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = 0  # processes that load data
    keep_in_memory: bool = True
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class RoiConfig:
    """How regions are read off a curve (`avser.roi.intervals`)."""

    rule: Literal["kappa", "mass", "coverage"] = "kappa"
    kappa: float = 1.5
    mass: float = 0.5
    coverage: float = 0.2
    smooth_s: float = 0.05
    merge_gap_s: float = 0.1
    min_duration_s: float = 0.08


@dataclass
class Config:
    """Everything that defines a run; written, fully resolved, into the run folder."""

    name: str = "run"
    runs: str = "runs"
    seed: int = 0
    media: MediaConfig = field(default_factory=MediaConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    roi: RoiConfig = field(default_factory=RoiConfig)


# --- reading -----------------------------------------------------------------------------------------------------


def load_config(sources: Sequence[str | Path], base: Config | None = None) -> Config:
    """Merge named configurations, YAML files and `key=value` overrides, left to right.

    Args:
        sources: e.g. ["av_roi", "my/corpus.yaml", "training.epochs=5"].
        base: what the first source is merged into; the schema's defaults when None.

    Raises:
        ConfigError: unknown name, unreadable file, unknown key, value of the wrong type or out of range.
    """
    merged = OmegaConf.structured(base or Config())
    for source in map(str, sources):
        layer = _read_layer(source)
        _check_keys(layer, source)
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            where = getattr(error, "full_key", None) or "?"
            raise ConfigError(f"{source}: {where}: {str(error).splitlines()[0]}") from error
    config: Config = OmegaConf.to_object(merged)  # type: ignore[assignment]
    _check_ranges(config)
    return config


def config_from_dict(values: dict[str, Any]) -> Config:
    """A Config from nested plain values, e.g. those stored in a run folder. Same checks as `load_config`."""
    _check_keys(values, "the stored configuration")
    try:
        config: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config()), values))  # type: ignore
    except OmegaConfBaseException as error:
        raise ConfigError(f"the stored configuration: {str(error).splitlines()[0]}") from error
    _check_ranges(config)
    return config


def config_to_yaml(config: Any) -> str:
    """The configuration (or a part of it) as YAML, every default written out."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def config_differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> its value in each, of every setting that two configurations do not share."""
    theirs = dict(_dotted(other))
    return {k: (v, theirs[k]) for k, v in _dotted(one) if not is_dataclass(v) and v != theirs[k]}


def list_configs() -> dict[str, list[Path]]:
    """Every named configuration, by folder: systems, corpora, experiments."""
    return {folder: sorted((config_root() / folder).glob("*.yaml")) for folder in CONFIG_FOLDERS}


def find_config(name: str) -> Path:
    """The file behind a name or path.

    Raises:
        ConfigError: no such file; the message offers the nearest names.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ConfigError(f"no configuration file {path}")
    known = {found.stem: found for group in list_configs().values() for found in group}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
    raise ConfigError(f"no configuration named {name!r}; {hint} (a file must end in .yaml, an override needs '=')")


def config_root() -> Path:
    """The folder of named configurations: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def _read_layer(source: str) -> dict[str, Any]:
    try:
        if "=" in source and not Path(source).is_file():
            layer: Any = OmegaConf.to_container(OmegaConf.from_dotlist([source]))
        else:
            path = find_config(source)
            layer = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{source}: not readable as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(layer, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(layer).__name__}")
    return layer


# --- checking ----------------------------------------------------------------------------------------------------


def _check_keys(layer: dict[str, Any], source: str) -> None:
    known = dict(_dotted(Config()))
    for key, _ in _dotted_layer(layer, known):
        if key not in known:
            raise ConfigError(f"{source}: unknown key {key!r}; did you mean {_nearest_key(key, known)!r}?")


def _nearest_key(key: str, known: Iterable[str]) -> str:
    """Prefer a key with the same last part anywhere in the tree, else the most similar whole key."""
    last = key.rsplit(".", 1)[-1]
    same_name = [k for k in known if k.rsplit(".", 1)[-1] == last]
    last_parts = {k.rsplit(".", 1)[-1]: k for k in known}
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.75)
    close_last = difflib.get_close_matches(last, last_parts, n=1, cutoff=0.6)
    if same_name:
        return max(same_name, key=lambda k: difflib.SequenceMatcher(None, k, key).ratio())
    if close:
        return close[0]
    return last_parts[close_last[0]] if close_last else difflib.get_close_matches(key, list(known), n=1, cutoff=0)[0]


def _dotted(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a schema with its value, groups included: ("training", ...), ("training.epochs", 40)."""
    for f in fields(part):
        value = getattr(part, f.name)
        yield prefix + f.name, value
        if is_dataclass(value):
            yield from _dotted(value, f"{prefix}{f.name}.")


def _dotted_layer(layer: dict[str, Any], known: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in layer.items():
        key = f"{prefix}{name}"
        yield key, value
        if isinstance(value, dict) and is_dataclass(known.get(key)):
            yield from _dotted_layer(value, known, key + ".")


SHARES = """
    model.audio.warp data.val_share data.test_share model.audio.dropout model.video.dropout model.fusion.dropout
    model.fusion.modality_dropout training.warmup_share training.label_smoothing training.augment.flip
    roi.mass roi.coverage media.faces.center_size
""".split()
POSITIVE = """
    media.sample_rate_hz media.fps media.crop_px media.faces.max_faces data.max_duration_s data.num_folds
    model.audio.spectrogram.num_mels model.audio.spectrogram.window_s model.audio.spectrogram.hop_s
    model.audio.spectrogram.max_hz model.audio.backbone.max_stride model.video.backbone.max_stride
    model.audio.dim model.video.dim model.video.grid model.attention.hidden model.fusion.hidden model.fusion.window_s
    training.epochs training.batch_size training.learning_rate training.clip_norm training.patience roi.kappa
""".split()
NOT_NEGATIVE = """
    media.faces.margin media.faces.smooth_s model.attention.temperature training.weight_decay
    training.backbone_rate training.augment.mixup roi.smooth_s roi.merge_gap_s roi.min_duration_s
    training.unimodal_loss training.workers data.fold
""".split()
RANGES: list[tuple[list[str], str, Callable[[float], bool]]] = [
    (SHARES, "between 0 and 1", lambda x: 0 <= x <= 1),
    (POSITIVE, "above 0", lambda x: 0 < x < math.inf),
    (NOT_NEGATIVE, "0 or above", lambda x: 0 <= x < math.inf),
]


def _check_ranges(config: Config) -> None:
    values = dict(_dotted(config))
    for keys, words, allowed in RANGES:
        for key in keys:
            if values[key] is not None and not allowed(values[key]):
                raise ConfigError(f"{key}={values[key]}: must be {words}")
    parts = PurePath(config.name).parts
    if not parts or ".." in parts or PurePath(config.name).is_absolute():
        raise ConfigError(f"name={config.name!r}: a run is named by a folder below `runs`, e.g. name=first or name=a/b")
    unknown = set(config.model.modalities) - {"audio", "video"}
    if unknown or not config.model.modalities:
        raise ConfigError(f"model.modalities={config.model.modalities}: take audio, video or both")
    spectrogram = config.model.audio.spectrogram
    if not spectrogram.min_hz < spectrogram.max_hz <= config.media.sample_rate_hz / 2:
        raise ConfigError(
            f"model.audio.spectrogram: {spectrogram.min_hz} to {spectrogram.max_hz} Hz does not fit below half of "
            f"media.sample_rate_hz={config.media.sample_rate_hz}"
        )
