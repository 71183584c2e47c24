"""Which of several faces speaks: the one whose mouth opens when the voice is loud."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avser.structures import Curve

# FaceLandmarker's mesh: the middle of the inner edge of both lips, and the outer corners of the eyes.
LIPS, EYES = (13, 14), (33, 263)
HOP_S = 0.01
QUIETEST_DB = -60.0  # what is softer than this is not told apart
BLUR_S = 0.1  # standard deviation of the Gaussian by which the loudness is smoothed, about half a syllable
MIN_LOOKS = 6  # fewer pairs of numbers correlate by chance
STILL = 0.01  # of the distance between the eyes: a mouth that varies less is closed, what is left is jitter
MIN_CORRELATION = 0.3  # below, nobody in the picture speaks, or it cannot be seen
MIN_LEAD = 0.15  # of the best correlation over the next one


def measure_loudness(waveform: np.ndarray, sample_rate_hz: int) -> Curve:
    """Level of a voice (N,) every 10 ms, in dB of full scale, -60 at the least."""
    hop = max(round(HOP_S * sample_rate_hz), 1)
    num_steps = max(len(waveform) // hop, 1)
    blocks = np.resize(waveform, hop) if len(waveform) < hop else waveform[: num_steps * hop]
    blocks = blocks.reshape(num_steps, hop)
    power = np.einsum("tn,tn->t", blocks, blocks) / hop
    level = 10 * np.log10(np.maximum(power, 10 ** (QUIETEST_DB / 10)))
    return Curve((np.arange(num_steps) + 0.5) * hop / sample_rate_hz, level)


def find_speaker(faces: Sequence[tuple[np.ndarray, np.ndarray]], voice: Curve) -> tuple[int | None, list[float]]:
    """The face whose opening of the mouth correlates best with the loudness of the voice.

    Our choice: the gap between the lips over the distance of the eyes, against the loudness in dB, both as they are,
    without a lag. Speech opens the mouth two to seven times a second: less than five looks a second miss it.

    Args:
        faces: of each, its times (T,) in seconds and its landmarks (T, 478, 2).
        voice: see `measure_loudness`.

    Returns:
        Its index, None where that is uncertain: no correlation above 0.3, or no lead of 0.15 over the next; and the
        correlation of each face, 0 for one that was hardly seen.
    """
    scores = [_correlation(times, mouth_opening(landmarks), voice) for times, landmarks in faces]
    order = np.argsort(scores)[::-1]
    best = int(order[0])
    lead = scores[best] - scores[int(order[1])] if len(scores) > 1 else np.inf
    return best if scores[best] >= MIN_CORRELATION and lead >= MIN_LEAD else None, scores


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """(T,) gap between the lips over the distance between the outer corners of the eyes, of landmarks (T, 478, 2)."""
    gap, width = (np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=1) for a, b in (LIPS, EYES))
    return gap / np.maximum(width, 1e-6)


def _correlation(times: np.ndarray, opening: np.ndarray, voice: Curve) -> float:
    if len(times) < MIN_LOOKS:
        return 0.0
    loudness = np.array([_smoothed(voice, time_s) for time_s in times])
    if loudness.std() < 1e-6:
        return 0.0
    together = np.mean((opening - opening.mean()) * (loudness - loudness.mean()))
    return float(together / loudness.std() / max(opening.std(), STILL))


def _smoothed(voice: Curve, time_s: float) -> float:
    low, high = np.searchsorted(voice.times, [time_s - 3 * BLUR_S, time_s + 3 * BLUR_S])
    if low == high:  # the voice has ended, or not begun
        return QUIETEST_DB
    weights = np.exp(-0.5 * ((voice.times[low:high] - time_s) / BLUR_S) ** 2)
    return float(weights @ voice.values[low:high] / weights.sum())
