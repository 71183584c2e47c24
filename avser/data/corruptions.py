"""Voices and faces that are broken, missing or someone else's: what can be done to a batch in a test, by name.

Everything is drawn from a seed, the corruption's name and the clip's: a clip is spoiled in the same way in every run,
at every level, on every machine and in whatever company it is batched.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from avser.data.clip_pool import ClipPool
from avser.data.face_corruptions import (
    FACE_VALUES,
    TRACKS,
    add_face_noise,
    blur,
    drop_steps,
    occlude,
    remove_face,
    shift_face,
    zero_face,
)
from avser.data.voice_corruptions import add_babble, add_white_noise, remove_voice, shift_voice, silence_voice
from avser.errors import ConfigError
from avser.structures import AUDIO, VIDEO, Batch

Change = Callable[[Batch, float, Sequence[torch.Generator], ClipPool], Batch]
SWITCH = 1.0  # the level of what is either done or not


@dataclass(frozen=True)
class Corruption:
    """One way to spoil a batch.

    Attributes:
        label: for tables and figures.
        modality: what it spoils.
        reads: fields of a batch; it can be done to those that hold one of them.
        change: does it; see avser/data/voice_corruptions.py and face_corruptions.py.
        levels: that are tried by default; empty for what is either done or not.
        unit: of the levels, as the label of an axis.
        clean: the level at which nothing is changed; None where no level is.
        lowest, highest: levels that make sense.
        needs_both: it says something only of a model that reads voice and face.
    """

    label: str
    modality: str
    reads: tuple[str, ...]
    change: Change
    levels: tuple[float, ...] = ()
    unit: str = ""
    clean: float | None = None
    lowest: float = -math.inf
    highest: float = math.inf
    needs_both: bool = False

    @property
    def is_switch(self) -> bool:
        return not self.levels


def corrupt(batch: Batch, name: str, level: float = SWITCH, *, seed: int, pool: ClipPool) -> Batch:
    """A spoiled copy of the batch; tensors that are not spoiled are shared with it.

    Args:
        name: key of `CORRUPTIONS`.
        pool: the clips whose voices and faces may be used for it.

    Raises:
        ConfigError: unknown name, a level that makes no sense, or a batch to which this cannot be done.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"corruption {name!r}: take one of {', '.join(CORRUPTIONS)}")
    corruption = CORRUPTIONS[name]
    if not corruption.lowest <= level <= corruption.highest:
        raise ConfigError(
            f"corruption {name}: level {level:g} is not between {corruption.lowest:g} and {corruption.highest:g}"
        )
    if all(getattr(batch, part) is None for part in corruption.reads):
        raise ConfigError(f"{name} cannot be done to these clips: they have no {' or '.join(corruption.reads)}")
    return corruption.change(batch, level, clip_generators(batch.clip_ids, name, seed), pool)


def clip_generators(clip_ids: Sequence[str], name: str, seed: int) -> list[torch.Generator]:
    """One source of chance for each clip, on the CPU."""
    found = []
    for clip_id in clip_ids:
        digest = hashlib.sha256(f"{seed}\n{name}\n{clip_id}".encode()).digest()
        found.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))
    return found


def swap(
    batch: Batch, level: float, generators: Sequence[torch.Generator], pool: ClipPool, *, modality: str, same: bool
) -> Batch:
    """Each clip with the voice or the face of another one of the pool; labels, ids and the rest stay its own.

    Raises:
        ConfigError: the batch has no labels, or a clip finds no partner.
    """
    if batch.labels is None:
        raise ConfigError("clips can be swapped by emotion only where all have one")
    partners = [
        pool.partner(clip_id, label, pool.speaker_of(clip_id), generator, same=same)
        for clip_id, label, generator in zip(batch.clip_ids, batch.labels.tolist(), generators, strict=True)
    ]
    others = pool.read(partners).to(batch.labels.device)
    names = ["waveform", "waveform_mask"]
    if modality == VIDEO:
        names = [name for track in TRACKS for name in (track.times, track.mask, *track.values)]
    return replace(batch, **{name: getattr(others, name) for name in names})


_SNR_DB = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0)
_SHIFTS_S = (-1.0, -0.5, -0.2, 0.2, 0.5, 1.0)
_VOICE, _CROPS = ("waveform",), ("frames",)
_swap_voice, _swap_face = partial(swap, modality=AUDIO), partial(swap, modality=VIDEO)

CORRUPTIONS: dict[str, Corruption] = {
    "snr": Corruption("white noise", AUDIO, _VOICE, add_white_noise, _SNR_DB, "signal to noise, dB"),
    "babble": Corruption("babble of other voices", AUDIO, _VOICE, add_babble, _SNR_DB, "signal to babble, dB"),
    "voice_shift": Corruption("voice late", AUDIO, _VOICE, shift_voice, _SHIFTS_S, "voice later by, s", 0.0),
    "sync": Corruption("face late", VIDEO, FACE_VALUES, shift_face, _SHIFTS_S, "face later by, s", 0.0),
    "occlusion": Corruption(
        "grey block", VIDEO, _CROPS, occlude, (0.1, 0.25, 0.5, 0.75, 1.0), "share of the crop covered", 0.0, 0.0, 1.0
    ),
    "blur": Corruption("blur", VIDEO, _CROPS, blur, (1.0, 2.0, 4.0, 8.0), "Gaussian blur, px", 0.0, 1e-3),
    "drop": Corruption(
        "missing frames", VIDEO, FACE_VALUES, drop_steps, (0.25, 0.5, 0.75, 0.9, 1.0), "share missing", 0.0, 0.0, 1.0
    ),
    "face_noise": Corruption(
        "noise on the face", VIDEO, FACE_VALUES, add_face_noise, (0.25, 0.5, 1.0, 2.0, 4.0), "noise, deviations", 0, 0
    ),
    "voice_missing": Corruption("no voice", AUDIO, _VOICE, remove_voice, needs_both=True),
    "face_missing": Corruption("no face", VIDEO, FACE_VALUES, remove_face, needs_both=True),
    "voice_zero": Corruption("silent voice", AUDIO, _VOICE, silence_voice, needs_both=True),
    "face_zero": Corruption("black face", VIDEO, FACE_VALUES, zero_face, needs_both=True),
    "voice_swap_same": Corruption(
        "voice of another clip, same emotion", AUDIO, _VOICE, partial(_swap_voice, same=True), needs_both=True
    ),
    "voice_swap_other": Corruption(
        "voice of another emotion", AUDIO, _VOICE, partial(_swap_voice, same=False), needs_both=True
    ),
    "face_swap_same": Corruption(
        "face of another clip, same emotion", VIDEO, FACE_VALUES, partial(_swap_face, same=True), needs_both=True
    ),
    "face_swap_other": Corruption(
        "face of another emotion", VIDEO, FACE_VALUES, partial(_swap_face, same=False), needs_both=True
    ),
}
