"""How far the answers of an exported graph are from those of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from avser.config import Config
from avser.deployment.graph import flatten, probe_batch
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
        max |a - b| / max(1, |b|) over logits, probabilities, attention, evidence and times of real steps; infinity
        where the two do not even agree on what is there.
    """
    largest = 0.0
    for seed, durations_s in enumerate(probes_s):
        for batch in with_gaps(probe_batch(config, durations_s, seed=seed), config):
            with torch.no_grad():
                largest = max(largest, difference(flatten(network(batch)), flatten(exported(batch))))
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


def difference(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> float:
    """max |a - b| / max(1, |b|) over two flat outputs, see `avser.deployment.graph.flatten`."""
    if theirs.keys() != ours.keys() or any(theirs[name].shape != ours[name].shape for name in theirs):
        return float("inf")
    largest = 0.0
    for name, expected in theirs.items():
        got = ours[name]
        if expected.dtype == torch.bool:
            largest = max(largest, 0.0 if torch.equal(expected, got) else float("inf"))
        elif expected.numel():
            far = (got.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)
            largest = max(largest, far.nan_to_num(nan=float("inf")).max().item())
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
