"""The configuration: dataclasses that hold every default, and the only code that sees OmegaConf.

A configuration is several YAML files merged from left to right and then `key=value` overrides; later wins.
`load_config(["av_roi", "ravdess", "training.epochs=5"])` finds named files in `configs/`, and refuses a key it does
not know with the nearest one that it does, before any data are read.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avser.config_check import check_keys, check_values, dotted_keys
from avser.errors import ConfigError

CONFIG_FOLDERS = ("systems", "corpora", "experiments")
# Ways to divide any manifest (`avser.data.protocols`); a corpus's configuration adds published ones.
GENERAL_PROTOCOLS = (
    *("speaker_holdout", "speaker_kfold", "loso", "session_kfold", "group_kfold"),
    *("manifest", "split_file"),
)


@dataclass
class FacesConfig:
    """How faces are found (`avser.media.faces`)."""

    tracker: Literal["mediapipe", "mediapipe_past", "center", "none"] = "mediapipe"  # past: as live, not looking ahead
    model: str | None = None  # path of face_landmarker.task; None: look in $AVSER_MODELS
    max_faces: int = 3
    margin: float = 0.25  # of the face's size, added on every side of the box
    smooth_s: float = 0.2  # time constant of the box smoothing; 0: none
    align: bool = True  # rotate crops so that the eyes are level
    center_size: float = 0.9  # `center`: side of the fixed box as a share of the shorter image side
    every: int = 5  # the detector looks at each k-th kept frame; 1: at all, for landmarks that are read as curves
    detect_px: int = 640  # longer side of the picture that the detector sees; 0: as it is
    # Which of several faces; speaking: the one whose mouth moves with the voice, else the longest.
    choose: Literal["longest", "largest", "left", "right", "speaking"] = "longest"


@dataclass
class MediaConfig:
    """How a file becomes arrays; a cache is keyed by these settings."""

    sample_rate_hz: int = 16000
    fps: float | None = 15.0  # frames kept a second; None: every frame of the file
    crop_px: int = 112
    face_features: list[str] = field(default_factory=lambda: ["AU*_r", "AU*_c"])  # columns of tables made elsewhere
    faces: FacesConfig = field(default_factory=FacesConfig)


@dataclass
class ProtocolConfig:
    """A published split of one corpus, and what its publication does with it (`avser.data.protocols`).

    A fold is a text of names with commas between them, "03, 08-12": ranges of numbers are written out.
    """

    source: str = ""  # the publication
    # What is divided: names in a column of the manifest, its `split` column, or clips listed in data.split_file.
    by: Literal["speaker", "session", "sentence", "split", "clips"] = "speaker"
    test: list[str] = field(default_factory=list)  # one text a fold
    val: list[str] = field(default_factory=list)  # empty: published without; a share of what trains is drawn for it
    train: list[str] = field(default_factory=list)  # empty: everybody else
    val_by: Literal["speaker", "session", "sentence"] = "speaker"  # what is drawn for validation
    # As published; None: the publication leaves it open.
    speakers_disjoint: bool | None = None
    sentences_disjoint: bool | None = None
    val_apart_from_test: bool | None = None
    remark: str = ""


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
    protocol: str = "speaker_holdout"  # one of GENERAL_PROTOCOLS, or of `protocols`
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)  # published for this corpus, by name
    fold: int = 0
    num_folds: int = 5  # speaker_kfold, group_kfold
    group_by: Literal["speaker", "session", "sentence"] = "speaker"  # group_kfold: what stays together
    split_file: str = ""  # CSV of clip_id, split: the list of a protocol that lists clips
    test_sentences: list[str] = field(default_factory=list)  # test says only these, train and val only others
    val_share: float = 0.2  # of the training speakers
    test_share: float = 0.2  # of all speakers (speaker_holdout)
    split_seed: int = 0
    allow_shared_speakers: bool = False  # True: speaker-dependent protocol, named so in every result
    max_duration_s: float = 10.0  # longer clips are cut to this in a batch
    num_frames: int | None = None  # of each clip, evenly spaced; None: every cached frame
    # Which label: what the actor meant, or what people voted for on hearing, on seeing, or on both.
    target: Literal["intended", "perceived_audio", "perceived_video", "perceived_av"] = "intended"
    soft_labels: bool = False  # perceived_*: train on the shares of the votes instead of the majority


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
    num_features: int = 0  # > 0: the branch reads that many face features made elsewhere a step, instead of crops
    baseline: Literal["none", "clip"] = "none"  # clip: take the clip's median face away from every frame
    grid: int = 4  # the face's feature map is pooled to grid x grid places


@dataclass
class AttentionConfig:
    kind: Literal["additive", "linear", "gated", "per_class", "additive_mil", "mean", "last"] = "additive_mil"
    hidden: int = 64
    temperature: float = 1.0  # additive: softmax(temperature * score); 0 is mean pooling
    window_s: float = 6.0  # model.causal: attention and fusion see so many seconds up to now


@dataclass
class FusionConfig:
    kind: Literal[
        "late_average", "late_product", "concat", "gated", "film", "lmf", "tfn", "cross_attention", "mult", "mbt"
    ] = "concat"
    hidden: int = 128
    dropout: float = 0.3
    window_s: float = 0.5  # cross_attention: how far apart two steps may be
    width: int = 32  # lmf, tfn, mult, mbt: to which each modality is brought first
    rank: int = 4  # lmf
    layers: int = 2  # mult, mbt
    heads: int = 4  # mult, mbt
    num_bottlenecks: int = 4  # mbt: tokens through which voice and face tell each other
    modality_dropout: float = 0.2  # chance that a training clip loses one modality


@dataclass
class ModelConfig:
    """`av_roi` is put together from the groups below; every other system takes `options` instead."""

    system: str = "av_roi"
    modalities: list[str] = field(default_factory=lambda: ["audio", "video"])
    # The face as pictures, as FaceLandmarker's points or blendshapes, as a table that another program made, or pictures
    # with such a table as a second target of training.
    face_input: Literal["crops", "landmarks", "blendshapes", "features", "crops_and_features"] = "crops"
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the system's class
    # av_roi from the past alone, for `avser live`: causal convolutions, recurrence forwards, attention over a window.
    causal: bool = False
    running_s: float = 10.0  # causal: seconds up to now that stand for the clip where it is normalised by itself
    audio: AudioBranchConfig = field(default_factory=AudioBranchConfig)
    video: VideoBranchConfig = field(default_factory=VideoBranchConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)


@dataclass
class AugmentConfig:
    """Training-time changes of a batch; 0 switches one off."""

    mixup: float = 0.0  # alpha of the Beta distribution
    speed: float = 0.0  # largest relative change of the clip's speed, pitch and formants with it
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
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    schedule: Literal["cosine", "constant", "exponential"] = "cosine"  # of the learning rate, after the warm-up
    decay: float = 0.99  # exponential: what an epoch leaves of the learning rate
    sampling: Literal["all", "balanced"] = "all"  # balanced: rarer emotions are drawn repeatedly, up to the commonest
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0  # focal: how much less a clip counts that is right already
    label_smoothing: float = 0.05
    class_weights: Literal["balanced", "none"] = "balanced"
    unimodal_loss: float = 0.3  # weight of each modality's own loss in a fused model
    # Keeps the faster of voice and face from leaving the other untrained (`avser.training.balance`).
    balance: Literal["none", "ogm_ge", "gradient_blending", "mmpareto"] = "none"
    balance_alpha: float = 0.3  # ogm_ge: how much the one ahead is held back
    balance_epochs: int = 5  # gradient_blending: between two estimates of the weights, in place of unimodal_loss
    balance_gamma: float = 1.5  # mmpareto: how much longer the branches' gradients become
    attention_entropy: float = 0.0  # weight of the attention's normalised entropy; > 0 asks for few regions
    patience: int = 10  # epochs without a better validation UAR before stopping
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = 0  # processes that load data
    keep_in_memory: bool = True
    accumulate: int = 1  # parts in which a batch goes through the model one after the other: the same step, less memory
    compile: bool = False  # torch.compile of the forward pass
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])  # of every epoch: tensorboard, wandb, mlflow
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
        check_keys(layer, Config(), source)
        if isinstance(layer.get("data"), dict) and layer["data"].get("merge") == {}:
            merged.data.merge = {}  # mappings add up; only an empty one can take back what an earlier file said
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            where = getattr(error, "full_key", None) or "?"
            raise ConfigError(f"{source}: {where}: {str(error).splitlines()[0]}") from error
    config: Config = OmegaConf.to_object(merged)  # type: ignore[assignment]
    check_values(config, GENERAL_PROTOCOLS)
    return config


def config_from_dict(values: dict[str, Any]) -> Config:
    """A Config from nested plain values, e.g. those stored in a run folder. Same checks as `load_config`."""
    check_keys(values, Config(), "the stored configuration")
    try:
        config: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config()), values))  # type: ignore
    except OmegaConfBaseException as error:
        raise ConfigError(f"the stored configuration: {str(error).splitlines()[0]}") from error
    check_values(config, GENERAL_PROTOCOLS)
    return config


def config_to_yaml(config: Any) -> str:
    """The configuration (or a part of it) as YAML, every default written out."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def config_differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> its value in each, of every setting that two configurations do not share."""
    theirs = dict(dotted_keys(other))
    return {k: (v, theirs[k]) for k, v in dotted_keys(one) if not is_dataclass(v) and v != theirs[k]}


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
