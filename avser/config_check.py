"""What a configuration must keep to: keys of the schema, ranges of values, and values that fit each other."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from avser.errors import ConfigError

SHARES = """
    model.audio.warp data.val_share data.test_share model.audio.dropout model.video.dropout model.fusion.dropout
    model.fusion.modality_dropout training.warmup_share training.label_smoothing training.augment.flip
    training.augment.speed
    roi.mass roi.coverage media.faces.center_size training.decay
""".split()
POSITIVE = """
    model.attention.window_s model.running_s
    media.sample_rate_hz media.fps media.crop_px media.faces.max_faces media.faces.every data.max_duration_s
    data.num_folds data.num_frames
    model.audio.spectrogram.num_mels model.audio.spectrogram.window_s model.audio.spectrogram.hop_s
    model.audio.spectrogram.max_hz model.audio.backbone.max_stride model.video.backbone.max_stride
    model.audio.dim model.video.dim model.video.grid model.attention.hidden model.fusion.hidden model.fusion.window_s
    model.fusion.width model.fusion.rank model.fusion.layers model.fusion.heads model.fusion.num_bottlenecks
    training.epochs training.batch_size training.learning_rate training.clip_norm training.patience training.accumulate
    training.balance_epochs training.balance_gamma roi.kappa
""".split()
NOT_NEGATIVE = """
    media.faces.margin media.faces.smooth_s media.faces.detect_px model.attention.temperature training.weight_decay
    training.backbone_rate training.augment.mixup roi.smooth_s roi.merge_gap_s roi.min_duration_s
    training.unimodal_loss training.balance_alpha training.workers training.focal_gamma data.fold
    model.video.num_features
""".split()
RANGES: list[tuple[list[str], str, Callable[[float], bool]]] = [
    (SHARES, "between 0 and 1", lambda x: 0 <= x <= 1),
    (POSITIVE, "above 0", lambda x: 0 < x < math.inf),
    (NOT_NEGATIVE, "0 or above", lambda x: 0 <= x < math.inf),
]


def check_keys(layer: dict[str, Any], schema: Any, source: str) -> None:
    """Refuse a key that the schema does not have, with the nearest one that it has.

    Args:
        layer: nested keys and values, as read from YAML.
        schema: the dataclass that they are to be merged into.
        source: where they come from, for the message.

    Raises:
        ConfigError: names the key.
    """
    known = dict(dotted_keys(schema))
    for key, _ in _layer_keys(layer, known):
        if key not in known:
            raise ConfigError(f"{source}: unknown key {key!r}; did you mean {_nearest_key(key, known)!r}?")


def check_values(config: Any, general_protocols: Sequence[str]) -> None:
    """Refuse a configuration with a value out of range, or values that contradict each other.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    values = dict(dotted_keys(config))
    for keys, words, allowed in RANGES:
        for key in keys:
            if values[key] is not None and not allowed(values[key]):
                raise ConfigError(f"{key}={values[key]}: must be {words}")
    _check_protocol(config.data.protocol, [*general_protocols, *config.data.protocols])
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


def dotted_keys(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a schema with its value, groups included: ("training", ...), ("training.epochs", 40)."""
    for f in fields(part):
        value = getattr(part, f.name)
        yield prefix + f.name, value
        if is_dataclass(value):
            yield from dotted_keys(value, f"{prefix}{f.name}.")


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


def _layer_keys(layer: dict[str, Any], known: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in layer.items():
        key = f"{prefix}{name}"
        yield key, value
        if isinstance(value, dict) and is_dataclass(known.get(key)):
            yield from _layer_keys(value, known, key + ".")


def _check_protocol(protocol: str, known: Sequence[str]) -> None:
    if protocol not in known:
        near = difflib.get_close_matches(protocol, known, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"data.protocol={protocol!r} is not known; {hint}known are {', '.join(known)} (published ones come "
            "with the corpus's configuration: `avser config protocols`)"
        )
