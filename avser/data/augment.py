"""Training-time changes of a batch, on its device: louder, noisier, mirrored, moved, and mixed with one another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avser.config import AugmentConfig
from avser.errors import ConfigError
from avser.features.perturb import add_noise, speed_perturb
from avser.structures import Batch

QUIETEST_NOISE_DB = 40.0


def augment_batch(batch: Batch, augment: AugmentConfig, num_classes: int, generator: torch.Generator) -> Batch:
    """A changed copy of the batch; with every setting at zero (or None) the batch itself.

    All frames of a clip are changed alike, and stay uint8; frames without a face stay black. The waveform may leave
    [-1, 1]. Mixup fills `targets`.

    Args:
        num_classes: size of the label set, for soft targets.
        generator: the only source of randomness; it may live on the CPU whatever the batch's device.

    Raises:
        ConfigError: mixup is asked for and the batch has neither labels nor targets, or holds landmarks.
    """
    if augment.speed > 0:
        batch = _change_speed(batch, augment.speed, generator)
    if batch.waveform is not None and batch.waveform_mask is not None:
        waveform = _change_voice(batch.waveform, batch.waveform_mask, augment, generator)
        batch = replace(batch, waveform=waveform)
    if batch.frames is not None and batch.frame_mask is not None:
        batch = replace(batch, frames=_change_faces(batch.frames, batch.frame_mask, augment, generator))
    if augment.mixup > 0:
        batch = _mix(batch, augment.mixup, num_classes, generator)
    return batch


def _change_speed(batch: Batch, largest: float, generator: torch.Generator) -> Batch:
    """Voice and face played faster or slower together, by a factor of its own for each clip, 1 +- `largest`."""
    draw = _uniform((len(batch),), generator, torch.device("cpu"))
    factor = 1 + largest * (2 * draw - 1)
    if batch.waveform is not None and batch.waveform_mask is not None:
        waveform, mask = speed_perturb(batch.waveform, batch.waveform_mask, factor.to(batch.waveform.device))
        batch = replace(batch, waveform=waveform, waveform_mask=mask)
    for name in ("frame_times", "feature_times"):
        if (times := getattr(batch, name)) is not None:
            batch = replace(batch, **{name: times / factor.to(times.device)[:, None]})
    return batch


# --- voice -------------------------------------------------------------------------------------------------------


def _change_voice(waveform: Tensor, mask: Tensor, augment: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(B, N): gain uniform in +-gain_db; white noise at an SNR uniform between noise_snr_db and 40 dB."""
    num_clips, device = len(waveform), waveform.device
    if augment.gain_db:
        gain_db = augment.gain_db * (2 * _uniform((num_clips, 1), generator, device) - 1)
        waveform = waveform * 10 ** (gain_db / 20)
    if augment.noise_snr_db is not None:
        span = QUIETEST_NOISE_DB - augment.noise_snr_db
        snr_db = augment.noise_snr_db + span * _uniform((num_clips,), generator, device)
        waveform = add_noise(waveform, mask, snr_db, generator)
    return waveform


# --- face --------------------------------------------------------------------------------------------------------


def _change_faces(frames: Tensor, mask: Tensor, augment: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(B, T, 3, H, W) uint8. One clip at a time: it stays in the processor's cache, which is faster than at once."""
    if not (augment.flip or augment.brightness or augment.contrast or augment.shift):
        return frames
    mirrored, brightness, contrast, down, right = _uniform((5, len(frames)), generator, torch.device("cpu")).tolist()
    height, width = frames.shape[-2:]
    changed = torch.empty_like(frames)
    for i in range(len(frames)):
        face = _move(
            frames[i],
            down=round((2 * down[i] - 1) * augment.shift * height),
            right=round((2 * right[i] - 1) * augment.shift * width),
            mirror=mirrored[i] < augment.flip,
        )
        face = _light(
            face,
            mask[i],
            brightness=1 + augment.brightness * (2 * brightness[i] - 1),
            contrast=1 + augment.contrast * (2 * contrast[i] - 1),
        )
        changed[i] = face
    return changed


def _move(face: Tensor, *, down: int, right: int, mirror: bool) -> Tensor:
    """(T, 3, H, W) moved by whole pixels; the border's pixels fill what opens up."""
    height, width = face.shape[-2:]
    rows = (torch.arange(height, device=face.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=face.device) - right).clamp(0, width - 1)
    if mirror:
        columns = width - 1 - columns
    return face.index_select(-2, rows).index_select(-1, columns)


def _light(face: Tensor, mask: Tensor, *, brightness: float, contrast: float) -> Tensor:
    """(T, 3, H, W): contrast about the clip's mean over its real frames, then brightness as a factor."""
    if brightness == contrast == 1 or not mask.any():
        return face
    mean = face[mask].float().mean()
    changed = (face.float() - mean).mul_(contrast).add_(mean).mul_(brightness).round_().clamp_(0, 255).to(torch.uint8)
    return changed * mask[:, None, None, None]


# --- mixup -------------------------------------------------------------------------------------------------------


def _mix(batch: Batch, alpha: float, num_classes: int, generator: torch.Generator) -> Batch:
    """Mixup (Zhang et al. 2018): every clip with a random partner, its own share drawn from Beta(alpha, alpha).

    Voices are summed; where one has ended, the other goes on at its share. Frames are averaged one by one (all clips
    of a batch have one frame rate, but for `speed`), and where only one of the two shows a face, its frame is taken as
    it is, so that nothing darkens. Masks are united. Frame times are those of the longer of the two tracks. Labels stay
    as they were; the loss reads `targets`.
    """
    targets = batch.targets
    if targets is None:
        if batch.labels is None:
            raise ConfigError("training.augment.mixup mixes labels, and the batch has none; set it to 0")
        targets = F.one_hot(batch.labels, num_classes).float()
    # torch draws from no Beta distribution with a generator of one's own.
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    rng = np.random.default_rng(seed)
    partner = torch.from_numpy(rng.permutation(len(batch))).to(targets.device)
    share = torch.from_numpy(rng.beta(alpha, alpha, len(batch))).float().to(targets.device)
    mixed = replace(batch, targets=_blend(targets, targets[partner], share))
    if batch.waveform is not None and batch.waveform_mask is not None:
        mixed.waveform = _blend(batch.waveform, batch.waveform[partner], share)
        mixed.waveform_mask = batch.waveform_mask | batch.waveform_mask[partner]
    if batch.landmarks is not None:
        raise ConfigError("training.augment.mixup cannot mix landmarks, which are places in two pictures; set it to 0")
    for name in ("frames", "blendshapes"):
        values = getattr(batch, name)
        if values is not None and batch.frame_mask is not None and batch.frame_times is not None:
            values, mixed.frame_times, mixed.frame_mask = _mix_track(
                values, batch.frame_times, batch.frame_mask, partner, share
            )
            setattr(mixed, name, values)
    if batch.face_features is not None and batch.feature_mask is not None and batch.feature_times is not None:
        mixed.face_features, mixed.feature_times, mixed.feature_mask = _mix_track(
            batch.face_features, batch.feature_times, batch.feature_mask, partner, share
        )
    return mixed


def _mix_track(
    values: Tensor, times: Tensor, mask: Tensor, partner: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B, T, ...), times and mask (B, T) of a track and its partner's as one."""
    other = mask[partner]
    weight = share[:, None].expand(mask.shape).clone()
    weight[mask & ~other] = 1.0
    weight[other & ~mask] = 0.0
    longer = times[partner, -1] > times[:, -1]
    return (
        _blend(values, values[partner], weight),
        torch.where(longer[:, None], times[partner], times),
        mask | other,
    )


def _blend(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """share * own + (1 - share) * other, where `share` covers the first axes; uint8 stays uint8."""
    share = share.reshape(share.shape + (1,) * (own.dim() - share.dim()))
    blended = torch.lerp(other.float(), own.float(), share)
    return blended.round_().to(torch.uint8) if own.dtype == torch.uint8 else blended


def _uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(device)
