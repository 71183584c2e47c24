"""Ways to spoil the voices of a batch: noise, other people's voices, silence, wrong time, another clip's voice.

Each takes (batch, level, one generator a clip, pool) and returns a changed copy; what is padded stays zero, and what
happens to a clip does not depend on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from avser.data.clip_pool import ClipPool
from avser.structures import Batch

NUM_TALKERS = 6  # our choice: enough that no single voice is understood, few enough to remain voices


def add_white_noise(batch: Batch, snr_db: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Gaussian noise at exactly this ratio of mean powers over the clip's real samples; a silent voice stays silent.

    A clip's noise is the same at every ratio but for its loudness.
    """
    return _change_voices(batch, lambda i, voice: voice + at_snr(voice, _noise_like(voice, generators[i]), snr_db))


def add_babble(batch: Batch, snr_db: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """The sum of six other clips' voices, all equally loud, at this ratio of mean powers; ratio as for noise.

    The voices are of other speakers where there are any; each starts somewhere and repeats itself.
    """

    def change(i: int, voice: Tensor) -> Tensor:
        clip_id = batch.clip_ids[i]
        talkers = pool.talkers(clip_id, pool.speaker_of(clip_id), NUM_TALKERS, generators[i])
        babble = torch.zeros_like(voice)
        for talker in talkers:
            other = pool.read([talker])
            if other.waveform is None or other.waveform_mask is None or not other.waveform_mask.any():
                continue
            samples = other.waveform[other.waveform_mask].to(voice.device)
            start = int(torch.randint(len(samples), (), generator=generators[i]))
            places = (torch.arange(len(voice), device=voice.device) + start) % len(samples)
            babble += samples[places] / samples.square().mean().sqrt().clamp(min=1e-9)
        return voice + at_snr(voice, babble, snr_db)

    return _change_voices(batch, change)


def silence_voice(batch: Batch, level: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """Zeros that count as a voice: the mask says that there is one."""
    return _change_voices(batch, lambda i, voice: torch.zeros_like(voice))


def shift_voice(batch: Batch, shift_s: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """The voice comes later, or with a negative shift earlier; the clip keeps its length, and silence fills in."""
    places = round(shift_s * batch.sample_rate_hz)

    def change(i: int, voice: Tensor) -> Tensor:
        moved = torch.zeros_like(voice)
        if places >= 0:
            moved[places:] = voice[: max(0, len(voice) - places)]
        else:
            moved[:places] = voice[-places:]
        return moved

    return _change_voices(batch, change)


def remove_voice(batch: Batch, level: float, generators: Sequence[torch.Generator], pool: ClipPool) -> Batch:
    """No voice at all, as for a silent film."""
    return batch.without("audio")


def at_snr(voice: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """(N,) noise, made as loud as the ratio of mean powers asks for; zero where voice or noise is silent."""
    voice_power, noise_power = voice.double().square().mean(), noise.double().square().mean()
    if noise_power == 0:
        return torch.zeros_like(noise)
    return noise * float((voice_power / noise_power).sqrt() * 10 ** (-snr_db / 20))


def _noise_like(voice: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(voice.shape, generator=generator, device=generator.device).to(voice)


def _change_voices(batch: Batch, change: Callable[[int, Tensor], Tensor]) -> Batch:
    """`change` is given the number of a clip and its real samples (N,), and returns as many."""
    if batch.waveform is None or batch.waveform_mask is None:
        return batch
    waveform = batch.waveform.clone()
    for i, real in enumerate(batch.waveform_mask):
        if real.any():
            waveform[i, real] = change(i, waveform[i, real])
    return replace(batch, waveform=waveform)
