"""What is put in the place of a moment: noise, means and pieces of other takes, made once for whole clips."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from avser.features.spectral import LOG_FLOOR, LogMel
from avser.roi.salience.gaps import Edit, Gaps, blend, sample_edges
from avser.roi.salience.moments import Stream


def each_clip(stream: Stream, make: Callable[[Tensor, str], Tensor]) -> Tensor:
    """(B, T, ...) what `make` gives for the real steps (T_b, ...) of each clip alone; zero elsewhere."""
    material = torch.zeros_like(stream.values)
    for i, clip_id in enumerate(stream.clip_ids):
        real = stream.mask[i]
        if real.any():
            material[i, real] = make(stream.values[i, real], clip_id)
    return material


def with_phases(spectrum: Tensor, phases: Tensor, num_samples: int) -> Tensor:
    """(N,) the signal of that magnitude spectrum; at 0 Hz and half the sampling rate the signs stay what they were."""
    turned = spectrum.abs() * torch.exp(1j * phases)
    turned[0] = spectrum[0]
    if num_samples % 2 == 0:
        turned[-1] = spectrum[-1]
    return torch.fft.irfft(turned, n=num_samples)


def steady_noise(front_end: LogMel, rate_hz: int, level: Tensor, phases: Tensor, num_samples: int) -> Tensor:
    """(N,) noise whose mean log-mel spectrum is `level` (F,), within a few tenths of a neper in every band.

    White noise is measured with the same front end and brought to the level band by band, so that it does not matter
    how the front end scales power, nor that logarithms of noise lie below the logarithm of its power on average.
    """
    filters = front_end.filters.double()
    bins_hz = torch.linspace(0, rate_hz / 2, len(filters), dtype=torch.float64, device=level.device)
    centres_hz = (filters * bins_hz[:, None]).sum(dim=0) / filters.sum(dim=0)
    hz = torch.fft.rfftfreq(num_samples, 1 / rate_hz, dtype=torch.float64, device=level.device)
    white = torch.full_like(phases, math.sqrt(num_samples), dtype=torch.complex128)
    measured = log_mel_of(front_end, with_phases(white, phases, num_samples).to(level.dtype)).double().mean(dim=1)
    density = (level.double().exp() - LOG_FLOOR).clamp(min=0) / measured.exp()
    return with_phases(white * _interpolate(hz, centres_hz, density).sqrt(), phases, num_samples)


def _interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Straight lines between increasing nodes; beyond them the outer values."""
    right = torch.searchsorted(nodes, x).clamp(1, len(nodes) - 1)
    share = ((x - nodes[right - 1]) / (nodes[right] - nodes[right - 1])).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share)


def log_mel_of(front_end: LogMel, samples: Tensor) -> Tensor:
    """(N,) -> (F, T)"""
    return front_end.log_mel(samples[None], torch.ones_like(samples, dtype=torch.bool)[None])[0]


def mean_log_mel(front_end: LogMel, donors: Stream) -> Tensor:
    """(F,) over all frames of all clips."""
    frames = [
        log_mel_of(front_end, voice[real]) for voice, real in zip(donors.values, donors.mask, strict=True) if real.any()
    ]
    return torch.cat(frames, dim=1).mean(dim=1)


def mean_frame(values: Tensor) -> Tensor:
    """(T, ...) -> (...)"""
    return values.float().mean(dim=0)


def in_range(stream: Stream, values: Tensor) -> Tensor:
    """Values as the stream can hold them."""
    if stream.values.dtype == torch.uint8:
        return values.round().clamp(0, 255).to(torch.uint8)
    if stream.name == "blendshapes":
        values = values.clamp(0, 1)
    return values.to(stream.values.dtype)


def voice_of(donors: Stream) -> Edit:
    """An edit that puts one piece of each row's donor into each gap, from the same place in it."""
    num_given = donors.mask.sum(dim=1)

    def edit(part: Stream, gaps: Gaps) -> Stream:
        num_rows, num_cells = gaps.drop.shape
        numbers = torch.arange(num_cells, device=gaps.drop.device)
        gone = gaps.drop & gaps.occupied
        first = torch.where(gone, -1, numbers).cummax(dim=1).values + 1  # (R, K) where the gap around k begins
        end = torch.where(gone, num_cells, numbers).flip(1).cummin(dim=1).values.flip(1)  # and where it has ended
        edges = sample_edges(part, gaps)
        num_own, given = part.mask.sum(dim=1, keepdim=True), num_given[gaps.rows][:, None].clamp(min=1)
        start, stop = edges[first], torch.minimum(edges[end], num_own)
        length = stop - start
        middle = (start + stop) / 2 * given / num_own.clamp(min=1)
        begin = torch.minimum((middle - length / 2).round().long(), given - length).clamp(min=0)
        shift = (begin - start).repeat_interleave(edges.diff(), dim=1)  # (R, N)
        position = (torch.arange(shift.shape[1], device=shift.device) + shift).remainder(given)
        material = donors.values[gaps.rows].gather(1, position)
        return blend(part, material, gaps, torch.arange(num_rows, device=shift.device))

    return edit


def faces_of(stream: Stream, donors: Stream) -> Tensor:
    """(B, T, ...) for each step the donor's step that lies as far between its first and last."""
    material = torch.zeros_like(stream.values)
    for i, real in enumerate(stream.mask):
        if not real.any():
            continue
        own, given = _progress(stream.times[i, real]), _progress(donors.times[i, donors.mask[i]])
        faces = donors.values[i, donors.mask[i]]
        if stream.name == "landmarks":
            faces = _fit_landmarks(faces, stream.values[i, real])
        material[i, real] = faces[(own[:, None] - given).abs().argmin(dim=1)]
    return material


def _progress(times: Tensor) -> Tensor:
    """(T,) 0 at the first, 1 at the last."""
    span = times[-1] - times[0]
    return (times - times[0]) / span if span > 0 else torch.zeros_like(times)


def _fit_landmarks(faces: Tensor, like: Tensor) -> Tensor:
    """(T, L, 2) moved and scaled so that mean and spread over all frames and points are those of `like`."""
    middle, wanted = faces.mean(dim=(0, 1)), like.mean(dim=(0, 1))
    spread = (faces - middle).square().mean().sqrt()
    scale = (like - wanted).square().mean().sqrt() / spread if spread > 0 else 1.0
    return (faces - middle) * scale + wanted
