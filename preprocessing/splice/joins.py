"""Which cuts of two takes go together, and how the pieces become one recording.

The two takes are first brought to one loudness and one background noise. Of all pairs of quiet moments those are taken
around which the takes agree best, before the cut and after it, as in concatenative speech synthesis (Hunt and Black
1996): where both say nearly the same around the cut, what follows it is a natural continuation. A short cross-fade,
with the waveforms in phase, then joins the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from preprocessing.splice.voice import HOP_S, Voice, make_noise

# Our choices; `python -m preprocessing.splice.audit` shows what they achieve.
CARRIER, REGION = 0, 1
LAYOUTS = {"middle": (CARRIER, REGION, CARRIER), "start": (REGION, CARRIER), "end": (CARRIER, REGION)}
CONTEXT_S = 0.08  # that is compared on either side of a cut
NUDGE_S = 0.02  # most that a cut moves from the quietest moment to where the takes agree best
ALIGN_S = 0.006  # most that it moves from there to bring the waveforms in phase
FADE_S = 0.06
BAND_EDGES_HZ = (400, 800, 1600, 3200)  # of the bands that are faded apart
QUIET_DB = 8  # a cut lies at least so far below the level of the speech
MAX_GAIN_DB = 30
DB_PER_OCTAVE = 40  # what a difference in pitch costs at a join, in dB between the spectra
DB_PER_MISS = 4  # what a region costs that misses its wanted length by a second
PEAK = 0.98  # of full scale, that no gain exceeds


@dataclass(frozen=True)
class Piece:
    """A stretch of one of the two takes.

    Attributes:
        source: CARRIER or REGION.
        start, stop: samples of that take.
    """

    source: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Limits:
    """What is asked of the pieces.

    Attributes:
        wanted_s: length of the emotional speech.
        region_s: shortest and longest that it may be.
        carrier_s: least neutral speech in each neutral piece.
        margins_s: kept of the pauses before the first speech and after the last.
    """

    wanted_s: float
    region_s: tuple[float, float]
    carrier_s: float
    margins_s: tuple[float, float] = (0.2, 0.2)


@dataclass(frozen=True)
class Plan:
    """Pieces in order, how badly they fit (mean dB between the spectra around their cuts), and the whole cost."""

    pieces: tuple[Piece, ...]
    mismatch_db: float
    cost_db: float


def match_takes(
    carrier: Voice, region: Voice, rng: np.random.Generator, *, keep_loudness: bool = False
) -> tuple[Voice, Voice, float]:
    """Both takes with one loudness (that of the carrier's speech) and one background noise (the louder one's).

    Args:
        keep_loudness: leave the loudness as it is, because it carries emotion too; the noise is matched all the same.

    Returns:
        carrier, emotional take, and the gain in dB that the latter got (at most MAX_GAIN_DB either way).
    """
    gain_db = 0.0
    if not keep_loudness:
        headroom_db = 20 * np.log10(PEAK / max(np.abs(region.waveform).max(), 1e-9))
        difference = float(np.clip(carrier.loudness_db - region.loudness_db, -MAX_GAIN_DB, MAX_GAIN_DB))
        gain_db = min(difference, max(headroom_db, 0.0))
    scaled = region.altered(region.waveform * 10 ** (gain_db / 20))
    noise = np.maximum(carrier.noise, scaled.noise)
    return _raise_noise(carrier, noise, rng), _raise_noise(scaled, noise, rng), gain_db


def plan_pieces(carrier: Voice, region: Voice, layout: str, limits: Limits) -> Plan | None:
    """The pieces that fit best; None where no quiet moments satisfy the limits.

    Args:
        carrier, region: as `match_takes` returns them.
        layout: "middle" (the emotion between two pieces of the carrier), "start" or "end" (where the emotion is).
    """
    rate = carrier.sample_rate_hz
    ins, outs = _cuttable(carrier), _cuttable(region)
    if not (len(ins) and len(outs)):
        return None
    cost, here, there = _disagreement(carrier, ins, region, outs)  # (I, J) each
    (begin, end), (region_begin, region_end) = _speech_ends(carrier), _speech_ends(region)
    before_s, after_s = (ins - begin) / rate, (end - ins) / rate
    leaving = np.where((before_s >= limits.carrier_s)[:, None], cost, np.inf)
    returning = np.where((after_s >= limits.carrier_s)[:, None], cost, np.inf)
    if layout == "middle":
        lengths_s = (outs[None, :] - outs[:, None]) / rate
        pairs, total = _best_two(leaving, returning, _miss(lengths_s, limits))
    elif layout == "end":
        pairs, total = _best_one(leaving + _miss((region_end - outs) / rate, limits))
    else:
        pairs, total = _best_one(returning + _miss((outs - region_begin) / rate, limits))
    if not np.isfinite(total):
        return None
    cuts = [_in_phase(carrier, here[pair], region, there[pair]) for pair in pairs]
    mismatch = float(np.mean([cost[pair] for pair in pairs]))
    return Plan(_between((carrier, region), LAYOUTS[layout], cuts, limits), mismatch, total)


def join(takes: Sequence[Voice], pieces: Sequence[Piece]) -> np.ndarray:
    """(N,) the pieces one after the other; N is the sum of their lengths, and each cut the middle of a cross-fade."""
    joined = np.concatenate([takes[p.source].waveform[p.start : p.stop] for p in pieces])
    rate = takes[0].sample_rate_hz
    half = round(FADE_S * rate / 2)
    at = 0
    for before, after in pairwise(pieces):
        at += len(before)
        old = takes[before.source].waveform[before.stop - 2 * half : before.stop + 2 * half]
        new = takes[after.source].waveform[after.start - 2 * half : after.start + 2 * half]
        joined[at - half : at + half] = _cross_fade(old, new, rate)[half:-half]
    return joined


# --- where to cut ------------------------------------------------------------------------------------------------


def _cuttable(voice: Voice) -> np.ndarray:
    """(K,) the quiet moments, in samples, that are quiet enough and have all that a join needs around them."""
    moments = voice.quiet_moments
    level = voice.level_db[_frames(moments, voice)]
    edge = (CONTEXT_S + NUDGE_S + ALIGN_S + FADE_S) * voice.sample_rate_hz
    inside = (moments > edge) & (moments < len(voice.waveform) - edge)
    return moments[inside & (level < voice.loudness_db - QUIET_DB)]


def _disagreement(
    carrier: Voice, ins: np.ndarray, region: Voice, outs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(I, J) dB by which the takes differ around each pair of quiet moments, at the best places near the two.

    Returns:
        the differences; those places in the carrier and in the emotional take, both (I, J) in samples.
    """
    reach = round(NUDGE_S / HOP_S)
    nudges = np.arange(-reach, reach + 1)
    here, there = (_frames(cuts, voice)[:, None] + nudges for voice, cuts in ((carrier, ins), (region, outs)))
    a, b = _contexts(carrier, here.ravel()), _contexts(region, there.ravel())
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    num = len(nudges)
    squared = squared.reshape(len(ins), num, len(outs), num).transpose(0, 2, 1, 3).reshape(len(ins), len(outs), -1)
    best = np.argmin(squared, axis=2)  # (I, J)
    least = np.take_along_axis(squared, best[:, :, None], axis=2)[:, :, 0]
    to_samples = HOP_S * carrier.sample_rate_hz
    at_here = np.take_along_axis(here, best // num, axis=1) * to_samples
    at_there = np.take_along_axis(there, (best % num).T, axis=1).T * to_samples
    return np.sqrt(np.maximum(least, 0)), np.round(at_here).astype(int), np.round(at_there).astype(int)


def _contexts(voice: Voice, frames: np.ndarray) -> np.ndarray:
    """(K, D) the spectra around K frames, the closer the weightier, and the pitch; mean squared dB apart."""
    reach = round(CONTEXT_S / HOP_S)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / (reach / 2)) ** 2)
    bands = voice.bands_db[frames[:, None] + steps]
    bands = bands * np.sqrt(weights / weights.sum() / bands.shape[2])[:, None]
    pitch = voice.pitch_octaves[frames[:, None] + np.array([-reach // 2, 0, reach // 2])]
    return np.column_stack([bands.reshape(len(frames), -1), DB_PER_OCTAVE / np.sqrt(pitch.shape[1]) * pitch])


def _miss(length_s: np.ndarray, limits: Limits) -> np.ndarray:
    """The cost in dB of regions of these lengths; infinite for those that are not allowed."""
    shortest, longest = limits.region_s
    allowed = (length_s >= shortest) & (length_s <= longest)
    return np.where(allowed, DB_PER_MISS * np.abs(length_s - limits.wanted_s), np.inf)


def _best_one(cost: np.ndarray) -> tuple[list[tuple[int, int]], float]:
    i, j = np.unravel_index(np.argmin(cost), cost.shape)
    return [(int(i), int(j))], float(cost[i, j])


def _best_two(leaving: np.ndarray, returning: np.ndarray, miss: np.ndarray) -> tuple[list[tuple[int, int]], float]:
    """The best two cuts (i, j), (m, n) with i < m: the carrier is never heard twice."""
    least = np.full_like(leaving, np.inf)  # (M, J): of leaving at any i < m
    least[1:] = np.minimum.accumulate(leaving, axis=0)[:-1]
    total = (least[:, :, None] + returning[:, None, :]) / 2 + miss  # (M, J, N)
    m, j, n = np.unravel_index(np.argmin(total), total.shape)
    i = np.argmin(leaving[: max(m, 1), j])
    return [(int(i), int(j)), (int(m), int(n))], float(total[m, j, n])


def _in_phase(carrier: Voice, here: int, region: Voice, there: int) -> tuple[int, int]:
    """The pair of cuts, the region's moved by up to ALIGN_S to where the waveforms correlate best."""
    half, reach = (round(s * carrier.sample_rate_hz) for s in (FADE_S / 2, ALIGN_S))
    old = carrier.waveform[here - half : here + half]
    near = region.waveform[there - half - reach : there + half + reach]
    new = np.lib.stride_tricks.sliding_window_view(near, 2 * half)
    scores = new @ old / np.sqrt((new**2).sum(axis=1) + 1e-20)
    return int(here), int(there) - reach + int(np.argmax(scores))


def _between(
    takes: tuple[Voice, Voice], sources: tuple[int, ...], cuts: list[tuple[int, int]], limits: Limits
) -> tuple[Piece, ...]:
    """The pieces that these cuts leave, with the margins at the ends of the clip."""
    lead, tail = (round(s * takes[0].sample_rate_hz) for s in limits.margins_s)
    first, last = takes[sources[0]], takes[sources[-1]]
    starts = [max(_speech_ends(first)[0] - lead, 0), *(c[s] for c, s in zip(cuts, sources[1:], strict=True))]
    stops = [
        *(c[s] for c, s in zip(cuts, sources, strict=False)),
        min(_speech_ends(last)[1] + tail, len(last.waveform)),
    ]
    return tuple(Piece(*piece) for piece in zip(sources, starts, stops, strict=True))


def _speech_ends(voice: Voice) -> tuple[int, int]:
    begin, end = (round(s * voice.sample_rate_hz) for s in voice.speech_s)
    return begin, end


def _frames(samples: np.ndarray, voice: Voice) -> np.ndarray:
    return np.round(samples / voice.sample_rate_hz / HOP_S).astype(int)


# --- the join ----------------------------------------------------------------------------------------------------


def _cross_fade(old: np.ndarray, new: np.ndarray, rate: int) -> np.ndarray:
    """From `old` to `new` over the middle half of these (4 * half,) samples.

    Band by band the power stays constant whatever the correlation of the two signals there: the fade is linear where
    they are equal, as voices in phase nearly are at low frequencies, and of equal power where they are unrelated.
    """
    num, quarter = len(old), len(old) // 4
    along = np.clip((np.arange(num) + 0.5 - quarter) / (num - 2 * quarter), 0, 1)
    rise = 0.5 - 0.5 * np.cos(np.pi * along)
    edges = np.searchsorted(np.fft.rfftfreq(num, 1 / rate), BAND_EDGES_HZ)
    spectra = np.fft.rfft([old, new])
    faded = np.zeros(num)
    for low, high in zip([0, *edges], [*edges, num], strict=True):
        band = np.zeros_like(spectra)
        band[:, low:high] = spectra[:, low:high]
        a, b = np.fft.irfft(band, num)
        inner_a, inner_b = a[quarter:-quarter], b[quarter:-quarter]
        correlation = inner_a @ inner_b / np.sqrt(inner_a @ inner_a * (inner_b @ inner_b) + 1e-20)
        faded += (a * (1 - rise) + b * rise) / np.sqrt(1 - 2 * rise * (1 - rise) * (1 - max(correlation, 0)))
    return faded


def _raise_noise(voice: Voice, noise: np.ndarray, rng: np.random.Generator) -> Voice:
    """The take with so much noise added that its background is `noise` (F,)."""
    added = make_noise(rng, np.maximum(noise - voice.noise, 0), len(voice.waveform))
    return voice.altered(voice.waveform + added)
