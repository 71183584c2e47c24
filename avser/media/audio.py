"""Reads the voice of a clip: any container, codec and number of channels becomes mono samples that start at time 0."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame

from avser.errors import MediaError
from avser.media.container import FAULTS, MAX_DURATION_S, OpenMedia, check_interval, open_media, time_zero_s

SILENCE = 1e-4  # -80 dB of full scale: below the noise of any microphone
MAX_JITTER_S = 0.020  # timestamps that stray less are rounding of the container; more is a gap or an overlap
MAX_CLIPPED_SHARE = 0.001
SOURCE_HZ = range(1000, 1_000_001)  # beyond, the header is damaged: a forged 1 Hz would swell a small file to hours
MAX_PLANES = 8  # where PyAV counts the planes of a frame it reads beyond a list of so many, and crashes

logger = logging.getLogger(__name__)


def read_audio(
    path: str | Path, *, sample_rate_hz: int = 16000, start_s: float | None = None, end_s: float | None = None
) -> np.ndarray:
    """The voice of a file. Damage that leaves something to hear is logged; `decode_audio` returns it instead.

    Args:
        path: any file that FFmpeg decodes.
        sample_rate_hz: of the result.
        start_s, end_s: the part that is the clip; time 0 of the result is then `start_s`.

    Returns:
        (N,) float32, mono (the mean of the channels), in [-1, 1]. Sample 0 is time 0 of the file, which is where the
        earliest of its audio and video tracks starts: audio that starts later has zeros in front.

    Raises:
        MediaError: missing, empty, unreadable, a Git LFS pointer, no audio track, nothing decodable, nothing between
            `start_s` and `end_s`, silent throughout, or not a number.
    """
    waveform, warnings = decode_audio(path, sample_rate_hz=sample_rate_hz, start_s=start_s, end_s=end_s)
    for warning in warnings:
        logger.warning(warning)
    if is_silent(waveform):
        raise MediaError(f"{path}: silent throughout (no sample above {SILENCE:g}); there is no voice to analyse")
    return waveform


def decode_audio(
    path: str | Path,
    *,
    sample_rate_hz: int = 16000,
    start_s: float | None = None,
    end_s: float | None = None,
    zero_s: float | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Like `read_audio`, but silence is allowed (see `is_silent`), and what was lost on the way is returned.

    Args:
        zero_s: `time_zero_s` of the file, where it has been measured already; the others as in `read_audio`.

    Returns:
        (N,) float32 samples; and sentences, e.g. on truncation, damaged packets and gaps.

    Raises:
        MediaError: as `read_audio`, except for silence.
    """
    path = Path(path)
    start, end = check_interval(path, start_s, end_s)
    with open_media(path) as media:
        if media.audio is None:
            raise MediaError(f"{path}: has no audio track that can be decoded")
        zero_s = time_zero_s(path) if zero_s is None else zero_s
        blocks = _mono_blocks(media, zero_s + start, end - start)
        timeline = _Timeline(path, sample_rate_hz, end - start)
        for index, samples in _resampled(blocks, sample_rate_hz):
            timeline.add(index, samples)
        waveform, warnings = timeline.finish()
        warnings = media.damage() + warnings
    if not len(waveform):
        where = "" if start_s is None and end_s is None else f" between {start:g} s and {end:g} s"
        raise MediaError(f"{path}: no audio{where}; " + "; ".join([*warnings, "check the file and the times"]))
    peak = _peak(waveform)
    if not np.isfinite(peak):
        raise MediaError(f"{path}: the audio holds values that are not numbers (NaN or infinite); write the file anew")
    if peak > 1 and np.count_nonzero(waveform > 1) + np.count_nonzero(waveform < -1) > MAX_CLIPPED_SHARE * len(
        waveform
    ):
        warnings.append(f"{path.name}: samples beyond full scale (up to {peak:.3g}) were clipped to 1")
    return np.clip(waveform, -1, 1, out=waveform), warnings


def iterate_audio(
    path: str | Path,
    *,
    sample_rate_hz: int = 16000,
    zero_s: float | None = None,
    warnings: list[str] | None = None,
    channel: int | None = None,
) -> Iterator[np.ndarray]:
    """The voice of a file piece by piece, for recordings that need not be in memory whole.

    Args:
        zero_s: `time_zero_s` of the file, where it has been measured already.
        warnings: sentences on damage and gaps are appended here, the last of them at the end.
        channel: one of several, counted from 0; None for their mean.

    Yields:
        (n,) float32 samples in [-1, 1], each piece going on where the one before it ended, the first at time 0: gaps
        are silence, and what repeats earlier time is left out. Joined they are what `decode_audio` returns.

    Raises:
        MediaError: as `decode_audio`.
    """
    path = Path(path)
    with open_media(path) as media:
        if media.audio is None:
            raise MediaError(f"{path}: has no audio track that can be decoded")
        blocks = _mono_blocks(media, time_zero_s(path) if zero_s is None else zero_s, math.inf, channel)
        written = num_gap = 0
        for index, samples in _resampled(blocks, sample_rate_hz):
            fresh = samples[max(written - index, 0) :]
            if not len(fresh):
                continue
            if not np.isfinite(_peak(fresh)):
                raise MediaError(
                    f"{path}: the audio holds values that are not numbers (NaN or infinite); write it anew"
                )
            gap = max(index - written, 0)
            num_gap += gap if written else 0
            written += gap + len(fresh)
            for begin in range(0, gap, sample_rate_hz):
                yield np.zeros(min(sample_rate_hz, gap - begin), np.float32)
            yield np.clip(fresh, -1, 1)
        damage = media.damage()
    if not written:
        raise MediaError(f"{path}: no audio; " + "; ".join([*damage, "check the file"]))
    if num_gap:
        damage.append(f"{path.name}: {num_gap / sample_rate_hz:.2f} s of gaps filled with silence")
    if warnings is not None:
        warnings.extend(damage)


def resample(samples: np.ndarray, source_hz: int, rate_hz: int) -> np.ndarray:
    """Mono samples (N,) at another rate, as `read_audio` resamples a file.

    Raises:
        MediaError: an impossible rate, or values that are not numbers.
    """
    if source_hz not in SOURCE_HZ:
        raise MediaError(f"a sampling rate of {source_hz} Hz; expected {SOURCE_HZ.start} to {SOURCE_HZ.stop - 1}")
    voice = np.ascontiguousarray(samples, np.float32)
    if len(voice) and not np.isfinite(_peak(voice)):
        raise MediaError("the voice holds values that are not numbers (NaN or infinite)")
    pieces = _resampled(iter([(0.0, voice, source_hz)] if len(voice) else []), rate_hz)
    return np.clip(np.concatenate([np.zeros(0, np.float32), *(piece for _, piece in pieces)]), -1, 1)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether no sample is above the noise of any microphone (-80 dB of full scale; our choice)."""
    return not len(waveform) or _peak(waveform) < SILENCE


def _peak(waveform: np.ndarray) -> float:
    """The largest absolute value, without a copy of what may be hours; NaN where there is one."""
    return float(np.maximum(waveform.max(), -waveform.min()))


def to_channels(frame: AudioFrame) -> np.ndarray:
    """(C, N) float: the samples of every channel of a decoded frame, full scale is 1."""
    if frame.format.is_planar and frame.layout.nb_channels >= MAX_PLANES:
        [frame] = av.AudioResampler(format=frame.format.packed.name, layout=frame.layout).resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind in "iu":
        half = 2.0 ** (8 * samples.dtype.itemsize - 1)
        offset = half if samples.dtype.kind == "u" else 0.0
        samples = (samples.astype(np.float64) - offset) / half
    return samples


def _mono_blocks(
    media: OpenMedia, zero_s: float, length_s: float, channel: int | None = None
) -> Iterator[tuple[float, np.ndarray, int]]:
    """(seconds from time 0, samples (N,), sampling rate) of every decoded frame; those before time 0 are negative."""
    assert media.audio is not None
    due_s = 0.0
    for frame in media.frames(media.audio, zero_s):
        time_s = due_s if frame.time is None else frame.time - zero_s
        if time_s >= length_s:
            break
        if frame.sample_rate not in SOURCE_HZ:
            raise MediaError(f"{media.path}: a sampling rate of {frame.sample_rate} Hz; the header is damaged")
        try:
            samples = _to_mono(frame, channel)
        except FAULTS:  # more channels than anybody has, as damage makes them
            media.num_damaged += 1
            continue
        due_s = time_s + len(samples) / frame.sample_rate
        if time_s > MAX_DURATION_S:
            raise MediaError(f"{media.path}: an audio frame {time_s:.0f} s from the start; the timestamps are damaged")
        if len(samples):
            yield time_s, samples, frame.sample_rate


def _to_mono(frame: AudioFrame, channel: int | None) -> np.ndarray:
    """(N,) float32. By hand, because FFmpeg's own downmix drops channels (the LFE) and refuses unusual layouts."""
    channels = to_channels(frame)
    return (channels.mean(axis=0) if channel is None else channels[min(channel, len(channels) - 1)]).astype(np.float32)


def _resampled(blocks: Iterator[tuple[float, np.ndarray, int]], rate_hz: int) -> Iterator[tuple[int, np.ndarray]]:
    """(index of the first sample, samples): a jump of the timestamps or of the rate ends one run and begins another."""
    run: _Run | None = None
    for time_s, samples, source_hz in blocks:
        if run is None or source_hz != run.source_hz or abs(time_s - run.due_s) > MAX_JITTER_S:
            if run is not None:
                yield run.add(None)
            run = _Run(time_s, source_hz, rate_hz)
        yield run.add(samples)
    if run is not None:
        yield run.add(None)


class _Run:
    """Samples without a gap, resampled as they come."""

    def __init__(self, time_s: float, source_hz: int, rate_hz: int) -> None:
        self.due_s = time_s
        self.source_hz = source_hz
        self._index = round(time_s * rate_hz)
        same = source_hz == rate_hz
        self._resampler = None if same else av.AudioResampler(format="flt", layout="mono", rate=rate_hz)

    def add(self, samples: np.ndarray | None) -> tuple[int, np.ndarray]:
        """What the resampler has ready; None empties it."""
        index = self._index
        ready = self._resample(samples)
        self._index += len(ready)
        self.due_s += 0.0 if samples is None else len(samples) / self.source_hz
        return index, ready

    def _resample(self, samples: np.ndarray | None) -> np.ndarray:
        if self._resampler is None:
            return np.zeros(0, np.float32) if samples is None else samples
        frame = None
        if samples is not None:
            frame = AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate = self.source_hz
        return np.concatenate([np.zeros(0, np.float32), *(f.to_ndarray()[0] for f in self._resampler.resample(frame))])


class _Timeline:
    """Puts pieces where their timestamps say: gaps become silence, what repeats earlier time is left out."""

    def __init__(self, path: Path, rate_hz: int, length_s: float) -> None:
        self._path, self._rate_hz = path, rate_hz
        self._limit = round(min(length_s, MAX_DURATION_S) * rate_hz)
        self._cut_short = math.isinf(length_s)
        self._samples = np.zeros(0, np.float32)  # what is not written yet is silence
        self._written = self._num_gap = self._num_repeated = 0

    def add(self, index: int, samples: np.ndarray) -> None:
        if index + len(samples) > self._limit and self._cut_short:
            raise MediaError(
                f"{self._path}: longer than {MAX_DURATION_S / 3600:g} h; cut it into clips with start_s and end_s"
            )
        repeated = min(max(self._written - index, 0), len(samples))
        self._num_repeated += repeated if self._written else 0  # before time 0 nothing is repeated
        samples = samples[repeated : max(self._limit - index, 0)]
        if not len(samples):
            return
        begin = max(index, self._written)
        self._num_gap += begin - self._written if self._written else 0  # a late start is no gap
        self._written = begin + len(samples)
        if self._written > len(self._samples):  # in place: pieces to be joined at the end would be there twice
            self._samples.resize(self._written + self._written // 8, refcheck=False)
        self._samples[begin : self._written] = samples

    def finish(self) -> tuple[np.ndarray, list[str]]:
        warnings = []
        if self._num_gap:
            warnings.append(f"{self._path.name}: {self._num_gap / self._rate_hz:.2f} s of gaps filled with silence")
        if self._num_repeated:
            seconds = self._num_repeated / self._rate_hz
            warnings.append(f"{self._path.name}: {seconds:.2f} s of audio left out whose timestamps run backwards")
        self._samples.resize(self._written, refcheck=False)
        return self._samples, warnings
