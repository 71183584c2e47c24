"""What is measured of a voice: level, silence, clipping, offset, noise, gaps and where it is cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avser.media.audio import decode_audio, is_silent, to_channels
from avser.media.container import open_media, time_zero_s

LOOK_S = 300.0  # of a longer recording only this much is measured: memory stays bounded, levels do not change
BLOCK_S = 0.02  # levels are measured in blocks of this length
FLOOR_DBFS = -120.0  # written for digital silence
FULL_SCALE = 0.999  # 16-bit audio reaches 0.99997; lossy codecs overshoot
NEAR_PEAK = 0.99  # samples this close to the extreme belong to its plateau
MIN_FLAT = 3  # equal samples in a row at the extreme: two happen by chance


@dataclass
class VoiceFacts:
    """Levels are in dB of full scale (dBFS).

    Attributes:
        duration_s: decoded, between start_s and end_s of the clip.
        silent: nothing above the noise of any microphone.
        peak_dbfs, rms_dbfs: of everything.
        voice_dbfs: the loud blocks (95th percentile over blocks of 20 ms).
        floor_dbfs: the quiet blocks (10th percentile, digital silence aside).
        lead_s, trail_s: before the first and after the last block that may be voice.
        first_db, last_db: level of the first and last 40 ms over `voice_dbfs`.
        num_full_scale: samples at full scale.
        num_flat: samples in runs of equal ones at the extreme.
        plateau_s: longest stretch within 1 % of the extreme.
        dc_offset: mean, full scale is 1.
        dropout_s: longest stretch of equal samples inside the voice.
        channel_peaks_dbfs: of each channel; empty for mono.
        damage: what decoding lost.
    """

    duration_s: float
    silent: bool
    peak_dbfs: float = FLOOR_DBFS
    rms_dbfs: float = FLOOR_DBFS
    voice_dbfs: float = FLOOR_DBFS
    floor_dbfs: float = FLOOR_DBFS
    lead_s: float = 0.0
    trail_s: float = 0.0
    first_db: float = 0.0
    last_db: float = 0.0
    num_full_scale: int = 0
    num_flat: int = 0
    plateau_s: float = 0.0
    dc_offset: float = 0.0
    dropout_s: float = 0.0
    channel_peaks_dbfs: list[float] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def examine_voice(
    path: Path, rate_hz: int, num_channels: int, start_s: float | None, end_s: float | None
) -> tuple[VoiceFacts, np.ndarray]:
    """Decode the audio at its own rate and measure it.

    Returns:
        The facts, and the waveform (N,) float32.

    Raises:
        MediaError: as `decode_audio`.
    """
    start = start_s or 0.0
    end = start + LOOK_S if end_s is None else min(end_s, start + LOOK_S)
    waveform, damage = decode_audio(path, sample_rate_hz=rate_hz, start_s=start_s, end_s=end)
    facts = measure_voice(waveform, rate_hz)
    facts.damage = damage
    if num_channels > 1:
        peaks, num_full_scale = _measure_channels(path, num_channels, start, end)
        facts.channel_peaks_dbfs = [_dbfs(peak) for peak in peaks]
        facts.num_full_scale = max(facts.num_full_scale, num_full_scale)
    return facts, waveform


def measure_voice(waveform: np.ndarray, rate_hz: int) -> VoiceFacts:
    """Everything but channels and damage.

    Args:
        waveform: (N,) float32 in [-1, 1], N > 0.
    """
    facts = VoiceFacts(len(waveform) / rate_hz, is_silent(waveform))
    peak = float(np.abs(waveform).max())
    facts.peak_dbfs, facts.dc_offset = _dbfs(peak), float(waveform.mean(dtype=np.float64))
    if facts.silent:
        return facts
    levels = block_levels(waveform, rate_hz)
    facts.rms_dbfs = 10 * float(np.log10(np.mean(10 ** (levels / 10))))
    facts.voice_dbfs = float(np.percentile(levels, 95))
    sounding = levels[levels > FLOOR_DBFS]
    facts.floor_dbfs = float(np.percentile(sounding, 10)) if len(sounding) else FLOOR_DBFS
    facts.first_db = float(levels[:2].max()) - facts.voice_dbfs
    facts.last_db = float(levels[-2:].max()) - facts.voice_dbfs
    first, last = _voiced_span(levels, facts)
    facts.lead_s, facts.trail_s = first * BLOCK_S, max(facts.duration_s - last * BLOCK_S, 0.0)
    block = _block(rate_hz)
    inside = waveform[first * block : last * block]
    facts.dropout_s = _longest(np.diff(inside) == 0) / rate_hz
    facts.num_full_scale = int(np.count_nonzero(np.abs(waveform) >= FULL_SCALE))
    extremes = float(waveform.max()), float(waveform.min())
    facts.num_flat = sum(_num_in_runs(waveform == extreme, MIN_FLAT) for extreme in extremes)
    facts.plateau_s = max(_longest(waveform * np.sign(e) >= NEAR_PEAK * peak) for e in extremes) / rate_hz
    return facts


def block_levels(waveform: np.ndarray, rate_hz: int) -> np.ndarray:
    """(K,) level of each block of 20 ms about its mean, in dBFS: an offset is no sound.

    The rest at the end is left out, unless there is nothing else.
    """
    block = _block(rate_hz)
    num = len(waveform) // block
    blocks = waveform[: num * block].reshape(num, block) if num else waveform[None]
    power = np.var(blocks, axis=1, dtype=np.float64)
    return 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DBFS / 10)))


def _block(rate_hz: int) -> int:
    return max(round(BLOCK_S * rate_hz), 1)


def _voiced_span(levels: np.ndarray, facts: VoiceFacts) -> tuple[int, int]:
    """First block that may be voice, and one after the last: 30 dB below the loud ones, but above the noise."""
    threshold = min(max(facts.voice_dbfs - 30, facts.floor_dbfs + 6), facts.voice_dbfs)
    voiced = np.flatnonzero(levels >= threshold)
    return int(voiced[0]), int(voiced[-1]) + 1


def _measure_channels(path: Path, num_channels: int, start_s: float, end_s: float) -> tuple[np.ndarray, int]:
    """(C,) highest absolute sample of each channel, and the samples at full scale of the channel that has most."""
    peaks, counts = np.zeros(num_channels), np.zeros(num_channels, np.int64)
    zero_s = time_zero_s(path)
    with open_media(path) as media:
        assert media.audio is not None
        for frame in media.frames(media.audio, zero_s + start_s):
            time_s = (frame.time or 0.0) - zero_s
            if time_s >= end_s:
                break
            samples = np.abs(to_channels(frame))
            if time_s >= start_s - BLOCK_S and len(samples) == num_channels and samples.size:
                np.maximum(peaks, samples.max(axis=1), out=peaks)
                counts += (samples >= FULL_SCALE).sum(axis=1)
    return peaks, int(counts.max())


def _dbfs(amplitude: float) -> float:
    return max(20 * float(np.log10(max(amplitude, 1e-12))), FLOOR_DBFS)


def _runs(flags: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return edges[1::2] - edges[::2]


def _longest(flags: np.ndarray) -> int:
    return int(_runs(flags).max(initial=0))


def _num_in_runs(flags: np.ndarray, at_least: int) -> int:
    runs = _runs(flags)
    return int(runs[runs >= at_least].sum())


def sound_lag(one: np.ndarray, other: np.ndarray, rate_hz: int, reach_s: float = 1.0) -> tuple[float, float]:
    """How much later the same sounds come in `one` than in `other`, and how alike the two are then.

    Loudness over time is compared rather than samples, so that two microphones count as the same recording.

    Args:
        one, other: (N,) waveforms of one rate.
        reach_s: largest lag looked for.

    Returns:
        Lag in seconds, in steps of 20 ms, above 0 where `one` is late; and the correlation at that lag, in [-1, 1].
    """
    a, b = (10 ** (block_levels(w, rate_hz) / 20) for w in (one, other))
    num = min(len(a), len(b))
    best = (0.0, -1.0)
    for lag in range(-min(round(reach_s / BLOCK_S), num // 2), min(round(reach_s / BLOCK_S), num // 2) + 1):
        x, y = a[max(lag, 0) : num + min(lag, 0)], b[max(-lag, 0) : num - max(lag, 0)]
        if len(x) > 1 and x.std() > 0 and y.std() > 0:
            alike = float(np.corrcoef(x, y)[0, 1])
            best = max(best, (lag * BLOCK_S, alike), key=lambda pair: pair[1])
    return best
