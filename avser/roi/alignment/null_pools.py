"""What the curves of a clip alone can turn into: shifted round, with random phases, with regions placed elsewhere.

All clips of a speaker draw the same phases and places, so that what they have in common stays together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avser.roi.alignment.compare import MAX_LAG_S
from avser.roi.alignment.curve_stack import CurveStack, measure_pairs, prepare
from avser.roi.alignment.pair_measures import best_lags, standardise

MIN_SHIFT_S = 0.2
NUM_PLACEMENTS, NUM_SURROGATES = 500, 199  # drawn for each clip; permutations pick among them


@dataclass
class Pools:
    """What one clip's curves alone can turn into.

    Attributes:
        clips: (K,) rows of the stack.
        values: measure -> (K, D), of D draws; of clip k the first `counts[k]` hold.
    """

    clips: np.ndarray
    counts: np.ndarray
    values: dict[str, np.ndarray]


def pool_shifts(
    stack: CurveStack, measures: Sequence[str], generator: np.random.Generator, num_draws: int = 0
) -> Pools:
    """Every circular shift of the face by at least 0.2 s either way; clips shorter than 0.4 s have none.

    Keeps the shape and the autocorrelation of both curves. It takes for granted that a curve could as well have begun
    anywhere, which emotion in a clip cannot: where voice and face both tend to peak mid-clip, independently of each
    other, it calls them aligned far too often. Only re-pairing tells that apart.
    """
    num = stack.audio.shape[-1]
    first = np.ceil(MIN_SHIFT_S * num / stack.durations_s - 1e-9).astype(int)
    clips = np.flatnonzero(num - 2 * first + 1 > 0)
    counts = num - 2 * first[clips] + 1
    rows, column = np.repeat(clips, counts), _count_up(counts)
    shifts = first[rows] + column
    audio, video = prepare(stack.audio, stack.audio_left), prepare(stack.video, stack.video_left)
    found = measure_pairs(audio, video, rows, rows, stack.durations_s[rows], measures, shifts)
    values = {}
    for measure, every in found.items():
        values[measure] = np.zeros((len(clips), counts.max(initial=0)))
        values[measure][np.repeat(np.arange(len(clips)), counts), column] = every
    return Pools(clips, counts, values)


def pool_surrogates(
    stack: CurveStack, measures: Sequence[str], generator: np.random.Generator, num_draws: int = NUM_SURROGATES
) -> Pools:
    """The face with its phases drawn at random and its spectrum kept (Ebisuzaki 1997); the best correlation over lags
    is sought anew in each, which pays for the search.

    Keeps the autocorrelation. It takes curves for stationary and periodic: like circular shifts it calls curves that
    both peak mid-clip aligned too often. All clips of a speaker get the same phases.
    """
    num = stack.audio.shape[-1]
    voices, spectra = standardise(stack.audio), np.fft.rfft(standardise(stack.video))
    _, owner = np.unique(np.asarray(stack.speakers), return_inverse=True)
    factors = phase_factors(num, (owner.max() + 1, num_draws), generator)
    reach = np.round(MAX_LAG_S * num / stack.durations_s).astype(int)
    values = np.empty((len(stack), num_draws))
    for clip in range(len(stack)):
        faces = np.fft.irfft(spectra[clip] * factors[owner[clip]], num)
        voice = np.broadcast_to(voices[clip], faces.shape)
        values[clip] = best_lags(voice, standardise(faces), np.full(num_draws, reach[clip]))[0]
    return Pools(np.arange(len(stack)), np.full(len(stack), num_draws), dict.fromkeys(measures, values))


def phase_factors(num: int, size: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """(*size, F) random factors for the spectra (F,) of real curves of `num` cells: as strong, with other phases, and
    with a mean of 0.

    The highest frequency of an even number of cells has no phase: its factor is real, and its square 1 in the mean.
    """
    phases = generator.uniform(0, 2 * np.pi, (*size, num // 2 + 1))
    factors = np.exp(1j * phases)
    factors[..., 0] = 0
    if num % 2 == 0:
        factors[..., -1] = np.sqrt(2) * np.cos(phases[..., -1])
    return factors


def pool_placements(
    stack: CurveStack, measures: Sequence[str], generator: np.random.Generator, num_draws: int = NUM_PLACEMENTS
) -> Pools:
    """Overlap over union with the face's regions, as many and as long as they are, placed at random without overlap.

    Every placement is equally likely, so here too curves that both peak mid-clip overlap more than chance.
    """
    audio, video = prepare(stack.audio).top, prepare(stack.video).top
    num = video.shape[-1]
    edges = np.diff(np.pad(video, ((0, 0), (1, 1))).astype(int), axis=-1)  # 1 where a region begins, -1 past its end
    num_regions = (edges == 1).sum(axis=-1)
    lengths = np.zeros((len(stack), num_regions.max()))
    where = np.repeat(np.arange(len(stack)), num_regions), _count_up(num_regions)
    lengths[where] = np.argwhere(edges == -1)[:, 1] - np.argwhere(edges == 1)[:, 1]
    held = np.pad(np.cumsum(audio, axis=-1), ((0, 0), (1, 1)), mode="constant").astype(float)
    held[:, -1] = held[:, -2]  # (C, N + 2) cells of the voice's regions before each edge
    _, owner = np.unique(np.asarray(stack.speakers), return_inverse=True)
    draws = generator.random((owner.max() + 1, num_draws, lengths.shape[-1]))
    values = np.empty((len(stack), num_draws))
    for clip in range(len(stack)):
        gaps = draws[owner[clip]]  # regions of length 0 fill up: placed among the others, they change nothing
        order = np.argsort(gaps, axis=-1)
        long = lengths[clip][order]
        start = np.take_along_axis(gaps, order, axis=-1) * (num - long.sum(axis=-1, keepdims=True))
        start += np.cumsum(long, axis=-1) - long
        both = (_held_before(held[clip], start + long) - _held_before(held[clip], start)).sum(axis=-1)
        values[clip] = both / (audio[clip].sum() + video[clip].sum() - both)
    return Pools(np.arange(len(stack)), np.full(len(stack), num_draws), dict.fromkeys(measures, values))


def _held_before(held: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """What lies before a place between two edges, in cells, from what lies before each edge."""
    edge = np.minimum(cells.astype(int), len(held) - 2)
    return held[edge] + (cells - edge) * (held[edge + 1] - held[edge])


def _count_up(counts: np.ndarray) -> np.ndarray:
    """0 ... counts[0] - 1, 0 ... counts[1] - 1, and so on."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


POOLS = {"circular shift": pool_shifts, "placement": pool_placements, "surrogates": pool_surrogates}
