"""Is this the same recording? Audio fingerprints that outlive another name, rate, codec, loudness or cut.

The code is that of Haitsma & Kalker, "A highly robust audio fingerprinting system" (ISMIR 2002): 32 bits a frame, each
the sign of a difference between neighbouring bands and successive frames. It follows pitch and formants so closely that
two takes of one sentence by one actor differ in four bits of ten, and one recording after MP3 or noise in one of ten.
It does not outlive a change of speed or pitch.

Our choices differ where clips are seconds of speech rather than minutes of music: frames that are quiet beside the rest
of the clip say nothing (code 0) and are never compared, and what counts is the share of the shorter clip that is found
again. Thresholds were set on actors 1-12 of RAVDESS; `python -m tools.measure_duplicates` measures them on the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft

RATE_HZ = 5000  # frames are cut at this rate, whatever the clip's own
FRAME = 1600  # samples: 0.32 s
HOP = 100  # samples
HOP_S = HOP / RATE_HZ
BAND_EDGES_HZ = np.geomspace(300.0, 2000.0, 34)  # 33 bands of a semitone, where every codec and telephone keeps speech
QUIET_DB = -20.0  # below the clip's loud frames (95th percentile): noise at 20 dB SNR does not reach a frame above it
BLOCK = 4096  # frames transformed at once: the spectra of an hour take no more memory than those of a minute

MAX_BIT_ERRORS = 0.18  # of RAVDESS's 42,479 pairs of different recordings of one actor the nearest differ in 0.21
SURE_S = 0.8  # the less sound is shared, the fewer bits may differ: 0.18 from here on, 0.09 at half of it
MIN_SHARED_S = 0.24
MIN_SHARE = 0.5
NUM_NEIGHBOURS = 16  # clips with an equal code that each is compared to: a code as common as that says little


@dataclass(frozen=True)
class Duplicate:
    """Two clips that hold the same stretch of one recording.

    Attributes:
        shared_s: seconds of sound (pauses not counted) that were compared.
        bit_error_rate: share of their bits that differ; 0 for identical audio, 0.5 for unrelated audio.
        offset_s: what is heard at time t of `second` is heard at t + offset_s of `first`.
    """

    first: str
    second: str
    shared_s: float
    bit_error_rate: float
    offset_s: float


def fingerprint_audio(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The clip's codes, one every `HOP_S` seconds.

    Args:
        waveform: (N,) samples of any scale.

    Returns:
        (T,) uint32; 0 where the clip is quiet. Empty for clips shorter than a frame and a hop (0.34 s).
    """
    if len(waveform) * RATE_HZ < (FRAME + HOP) * sample_rate_hz:
        return np.zeros(0, np.uint32)
    from scipy.signal import resample_poly  # 0.7 s to import, which those who only compare need not wait for

    common = math.gcd(RATE_HZ, sample_rate_hz)
    samples = np.asarray(waveform, np.float32)
    samples = resample_poly(samples, RATE_HZ // common, sample_rate_hz // common).astype(np.float32, copy=False)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    blocks = (frames[i : i + BLOCK] for i in range(0, len(frames), BLOCK))
    energies = np.concatenate([_band_energies(block) for block in blocks])  # (T + 1, 33)
    slopes = energies[:, :-1] - energies[:, 1:]
    bits = np.diff(slopes, axis=0) > 0  # (T, 32)
    codes = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    return np.where(_is_sounding(energies.sum(1)), codes, np.uint32(0))


def find_duplicates(
    prints: Mapping[str, np.ndarray],
    *,
    max_bit_errors: float = MAX_BIT_ERRORS,
    min_shared_s: float = MIN_SHARED_S,
    min_share: float = MIN_SHARE,
) -> list[Duplicate]:
    """Every pair of clips that hold the same audio, the surest first.

    Pairs are looked up in an index of codes, so the effort grows with the number of clips and not with its square. Of
    a recording that is there more than `NUM_NEIGHBOURS` times some pairs may be left out, but every copy is in one.

    Args:
        prints: clip -> what `fingerprint_audio` gave.
        max_bit_errors: share of bits that may differ; proportionally fewer where less than `SURE_S` is shared.
        min_shared_s: seconds of sound that both must hold.
        min_share: of the sound of the shorter one that must lie where the two overlap; there, all of it is compared.
    """
    names = list(prints)
    codes = [np.asarray(prints[name], np.uint32) for name in names]
    num_sounding = [int(np.count_nonzero(found)) for found in codes]
    best: dict[tuple[int, int], Duplicate] = {}
    for first, second, offset in _candidates(codes).tolist():
        shared, errors = _compare(codes[first], codes[second], offset)
        if shared < max(min_shared_s / HOP_S, min_share * min(num_sounding[first], num_sounding[second])):
            continue
        rate = errors / (32 * shared)
        allowed = max_bit_errors * min(1.0, shared * HOP_S / SURE_S)
        if rate <= allowed and ((first, second) not in best or rate < best[first, second].bit_error_rate):
            best[first, second] = Duplicate(names[first], names[second], shared * HOP_S, rate, offset * HOP_S)
    return sorted(best.values(), key=lambda found: found.bit_error_rate)


def _band_energies(frames: np.ndarray) -> np.ndarray:
    """(T, 33) float32 from (T, FRAME)."""
    first_bin, weights = _bands()
    spectrum = fft.rfft(frames * np.hanning(FRAME).astype(np.float32), axis=1)
    spectrum = spectrum[:, first_bin : first_bin + len(weights)]
    return (spectrum.real**2 + spectrum.imag**2) @ weights


@cache
def _bands() -> tuple[int, np.ndarray]:
    """The first bin of the spectrum that a band uses, and (bins, 33) the part of every bin that lies in each band."""
    edges = BAND_EDGES_HZ * FRAME / RATE_HZ  # in bins; bin k reaches from k - 1/2 to k + 1/2
    first_bin = round(edges[0])
    bins = np.arange(first_bin, round(edges[-1]) + 1)[:, None]
    weights = np.minimum(bins + 0.5, edges[1:]) - np.maximum(bins - 0.5, edges[:-1])
    return first_bin, np.clip(weights, 0, 1).astype(np.float32)


def _is_sounding(energy: np.ndarray) -> np.ndarray:
    """(T,) bool from (T + 1,) energies: both frames of a code must sound."""
    sounding = energy > np.percentile(energy, 95) * 10 ** (QUIET_DB / 10)
    return sounding[1:] & sounding[:-1]


def _candidates(codes: Sequence[np.ndarray]) -> np.ndarray:
    """(K, 3) first clip, second clip (the larger number), and how many frames later the first one has a common code."""
    positions = [np.flatnonzero(found) for found in codes]
    position = np.concatenate([np.zeros(0, np.int64), *positions])
    owner = np.repeat(np.arange(len(codes)), [len(found) for found in positions])
    code = np.concatenate([np.zeros(0, np.uint32), *(found[p] for found, p in zip(codes, positions, strict=True))])
    order = np.argsort(code, kind="stable")  # equal codes stay in the order of the clips
    code, owner, position = code[order], owner[order], position[order]
    hits = []
    for step in range(1, NUM_NEIGHBOURS + 1):
        at = np.flatnonzero((code[:-step] == code[step:]) & (owner[:-step] != owner[step:]))
        hits.append(np.stack([owner[at], owner[at + step], position[at] - position[at + step]], axis=1))
    return np.unique(np.concatenate(hits), axis=0)


def _compare(first: np.ndarray, second: np.ndarray, offset: int) -> tuple[int, int]:
    """Number of frames that sound in both, and how many of their bits differ."""
    start = max(offset, 0)
    end = min(len(first), len(second) + offset)
    one, other = first[start:end], second[start - offset : end - offset]
    both = (one != 0) & (other != 0)
    return int(np.count_nonzero(both)), int(np.bitwise_count(one ^ other)[both].sum())
