"""How far the answers of an exported graph are from those of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from avser.config import Config
from avser.deployment.graph import flatten, probe_batch
from avser.errors import ConfigError
from avser.structures import AUDIO, MODALITIES, VIDEO, Batch

MAX_DIFFERENCE = 1e-4
# Lengths in seconds of the clips of each batch that is compared: one clip and several, like and unlike.
PROBES_S = ((0.3,), (1.0, 0.3), (2.7, 3.1, 0.9), (4.003,))
FIELDS = {AUDIO: ("waveform",), VIDEO: ("frames", "landmarks", "blendshapes", "face_features")}
FACE_MASKS = ("frame_mask", "feature_mask")


def measure_parity(
    network: nn.Module, exported: nn.Module, config: Config, probes_s: tuple[tuple[float, ...], ...] = PROBES_S
) -> float:
    """The largest difference between two networks over batches of noise, some of whose clips lack a modality.

    Args:
        network, exported: map a Batch to an Output, in eval mode on the CPU.
        probes_s: lengths in seconds of the clips of each batch.

    Returns:
        max |a - b| / max(1, |b|) over logits, probabilities, attention, evidence and times of real steps.

    Raises:
        ConfigError: the two do not agree on what is there, or one says what is no number; the message says where.
    """
    largest = 0.0
    for seed, durations_s in enumerate(probes_s):
        for batch in with_gaps(probe_batch(config, durations_s, seed=seed), config):
            with torch.no_grad():
                expected, got = flatten(network(batch)), flatten(exported(batch))
            if conflict := find_conflict(expected, got):
                lengths = ", ".join(f"{duration_s:g}" for duration_s in durations_s)
                raise ConfigError(f"for clips of {lengths} s the graph answers otherwise than PyTorch: {conflict}")
            largest = max(largest, difference(expected, got))
    return largest


def with_gaps(batch: Batch, config: Config) -> Iterator[Batch]:
    """The batch whole, then with its first clip lacking each modality in turn, then with all lacking it."""
    yield batch
    if set(config.model.modalities) != set(MODALITIES):
        return
    for modality in MODALITIES:
        if len(batch) > 1:
            yield _first_without(batch, modality)
        yield batch.without(modality)


def find_conflict(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> str | None:
    """Why no difference between two flat outputs can be measured, in words; None where it can."""
    if apart := sorted(theirs.keys() ^ ours.keys()):
        return f"only one of them gives {', '.join(apart)}"
    for name, expected in theirs.items():
        got = ours[name]
        if expected.shape != got.shape:
            return f"{name} is {tuple(got.shape)} and not {tuple(expected.shape)}"
        if expected.dtype == torch.bool:
            if not torch.equal(expected, got):
                return f"{name} differs"
        elif not (got.isfinite().all() and expected.isfinite().all()):
            return f"{name} is not finite in {'PyTorch' if got.isfinite().all() else 'the graph'}"
    return None


def difference(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> float:
    """max |a - b| / max(1, |b|) over two flat outputs, see `avser.deployment.graph.flatten`.

    Infinity where `find_conflict` has something to say.
    """
    if find_conflict(theirs, ours):
        return float("inf")
    largest = 0.0
    for name, expected in theirs.items():
        got = ours[name]
        if expected.dtype != torch.bool and expected.numel():
            far = (got.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)
            largest = max(largest, far.max().item())
    return largest


def _first_without(batch: Batch, modality: str) -> Batch:
    """The batch with one modality of its first clip masked throughout."""
    changes = {}
    for name in ("waveform_mask",) if modality == AUDIO else FACE_MASKS:
        mask = getattr(batch, name)
        if mask is not None:
            changes[name] = mask.clone()
            changes[name][0] = False
    for name in FIELDS[modality]:
        values = getattr(batch, name)
        if values is not None:
            changes[name] = values.clone()
            changes[name][0] = 0
    return replace(batch, **changes)
