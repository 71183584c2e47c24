"""Pitch, spectral shape, tonality and harmonics of each frame: the timbre of a voice as named features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avser.features.pitch import Pitch
from avser.features.spectral import Frames

FLOOR = 1e-10  # of power, -100 dB of full scale
LOWEST_CONTRAST_HZ = 200.0
CONTRAST_SHARE = 0.02  # of a band's bins make its peak, and as many its valley
PITCH_CLASSES = ("c", "cis", "d", "dis", "e", "f", "fis", "g", "gis", "a", "ais", "b")
NUM_HARMONICS = 3
MEDIAN_FRAMES = 17


class Timbre(nn.Module):
    """39 features a frame at 16 kHz: of 25 ms windows the spectrum's shape, of longer ones what takes resolution.

    Kinds of features after Byun & Lee 2021 (F0, spectral and harmonic features, from the abstract); which ones, and
    all numbers, are our choice. Definitions are those of librosa where it has the feature: centroid, bandwidth,
    roll-off, flatness, contrast, chroma, tonnetz, and the median filters behind the harmonic-percussive ratio.
    Frame t is centred on t * hop_s. Values are raw: standardise them with the training clips.

    Names, in order:
        log_f0, voiced, hnr_db: natural logarithm of F0 in Hz, whether voiced, harmonics-to-noise ratio.
        centroid_hz, bandwidth_hz, rolloff_hz, flatness, slope_db_per_khz: see `spectral_shape`.
        flux: see `spectral_flux`. contrast_HZ: see `spectral_contrast`, by the lower edge of the band.
        chroma_CLASS, tonnetz_0 ... tonnetz_5: strength of the twelve pitch classes, and their tonal centroid.
        harmonic_percussive_db: energy of what lasts in time over that of what spreads in frequency.
        h1_db, h2_db, h3_db, h1_h2_db: the first harmonics relative to the frame, and how far the first two are apart.
    Where a frame is unvoiced, log_f0 and the harmonics are the means of the clip's voiced frames, for there is nothing
    to measure and a constant far away would hide the changes that there are.

    Args:
        sample_rate_hz: of the waveforms.
        window_s, tonal_window_s, hop_s: windows of shape and of chroma, harmonics and medians; step of the frames.
        rolloff_share: of the magnitude below the roll-off frequency.
        min_f0_hz, max_f0_hz: range of F0.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        window_s: float = 0.025,
        tonal_window_s: float = 0.064,
        hop_s: float = 0.010,
        rolloff_share: float = 0.85,
        min_f0_hz: float = 65.0,
        max_f0_hz: float = 600.0,
    ) -> None:
        super().__init__()
        hop_length = round(hop_s * sample_rate_hz)
        self.hop_s, self.offset_s = hop_length / sample_rate_hz, 0.0
        self.rolloff_share = rolloff_share
        self.default_log_f0 = 0.5 * math.log(min_f0_hz * max_f0_hz)
        self.pitch = Pitch(sample_rate_hz=sample_rate_hz, hop_s=hop_s, min_hz=min_f0_hz, max_hz=max_f0_hz)
        self.frames = Frames(round(window_s * sample_rate_hz), hop_length)
        self.tonal_frames = Frames(round(tonal_window_s * sample_rate_hz), hop_length)
        self.bin_hz = sample_rate_hz / self.frames.fft_length
        self.tonal_bin_hz = sample_rate_hz / self.tonal_frames.fft_length
        self.hz: Tensor
        self.chroma_filters: Tensor
        hz = torch.linspace(0, sample_rate_hz / 2, self.frames.fft_length // 2 + 1)
        filters = chroma_filters(self.tonal_frames.fft_length, sample_rate_hz)
        self.register_buffer("hz", hz, persistent=False)
        self.register_buffer("chroma_filters", filters, persistent=False)
        self.contrast_edges_hz = contrast_edges(sample_rate_hz)
        self.names = (
            *("log_f0", "voiced", "hnr_db"),
            *("centroid_hz", "bandwidth_hz", "rolloff_hz", "flatness", "slope_db_per_khz", "flux"),
            *(f"contrast_{edge:.0f}" for edge in self.contrast_edges_hz),
            *(f"chroma_{name}" for name in PITCH_CLASSES),
            *(f"tonnetz_{i}" for i in range(6)),
            "harmonic_percussive_db",
            *(f"h{i + 1}_db" for i in range(NUM_HARMONICS)),
            "h1_h2_db",
        )
        self.num_features = len(self.names)

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples, full scale is 1.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            x: (B, T, F) float32, zero where padded; columns as in `names`.
            frame_mask: (B, T) bool; clip b has ceil(N_b / hop) frames.
        """
        track = self.pitch(waveform, mask)
        magnitude = self.frames(waveform, mask).abs()  # (B, T, bins)
        tonal = self.tonal_frames(waveform, mask).abs()
        power = tonal.square()
        voiced = track.f0_hz > 0
        log_f0 = torch.log(torch.where(voiced, track.f0_hz, 1.0))
        chroma = (power @ self.chroma_filters.T).float()
        chroma = chroma / chroma.amax(dim=2, keepdim=True).clamp(min=FLOOR)
        harmonics = harmonic_levels(power, track.f0_hz, self.tonal_bin_hz)  # (B, T, H)
        harmonics = torch.cat([harmonics, harmonics[..., :1] - harmonics[..., 1:2]], dim=2)
        columns = [
            fill_unvoiced(log_f0[..., None], voiced, self.default_log_f0),
            torch.stack([voiced, track.hnr_db], dim=2),
            spectral_shape(magnitude, self.hz, rolloff_share=self.rolloff_share),
            spectral_flux(magnitude)[..., None],
            spectral_contrast(magnitude, self.bin_hz, self.contrast_edges_hz),
            chroma,
            tonal_centroid(chroma),
            harmonic_percussive_db(tonal, track.frame_mask)[..., None],
            fill_unvoiced(harmonics, voiced, 0.0),
        ]
        return torch.cat(columns, dim=2) * track.frame_mask[..., None], track.frame_mask


def fill_unvoiced(values: Tensor, voiced: Tensor, default: float) -> Tensor:
    """(B, T, F) -> the mean of the clip's voiced frames where `voiced` (B, T) is False; `default` if there are none."""
    real = voiced[..., None]
    count = real.sum(dim=1, keepdim=True)
    mean = (values * real).sum(dim=1, keepdim=True) / count.clamp(min=1)
    return torch.where(real, values, torch.where(count > 0, mean, default))


def spectral_shape(magnitude: Tensor, hz: Tensor, *, rolloff_share: float = 0.85) -> Tensor:
    """Where the spectrum's weight lies.

    Args:
        magnitude: (B, T, bins); hz: (bins,) their frequencies.

    Returns:
        (B, T, 5): centroid and bandwidth (mean and deviation of frequency under the magnitude) and roll-off (the
        lowest frequency with `rolloff_share` of the magnitude up to it) in Hz; flatness, the geometric over the
        arithmetic mean of power; slope of the regression of level on frequency, dB per kHz. Silence is 0, 0, 0, 1, 0.
    """
    total = magnitude.sum(dim=2, keepdim=True)
    share = magnitude / total.clamp(min=FLOOR)
    centroid = share @ hz  # (B, T)
    bandwidth = (share * (hz - centroid[..., None]).square()).sum(dim=2).sqrt()
    below = share.cumsum(dim=2)
    reached = (below >= rolloff_share * below[..., -1:]).to(torch.uint8)
    rolloff = hz[reached.argmax(dim=2)]
    power = magnitude.square().clamp(min=FLOOR)
    flatness = torch.exp(torch.log(power).mean(dim=2)) / power.mean(dim=2)
    khz = (hz - hz.mean()) / 1000
    slope = 10 * torch.log10(power) @ khz / khz.square().sum()
    return torch.stack([centroid, bandwidth, rolloff, flatness, slope], dim=2)


def spectral_flux(magnitude: Tensor) -> Tensor:
    """(B, T, bins) -> (B, T): how far the spectrum, scaled to length 1, moves from the frame before; 0 first."""
    direction = magnitude / magnitude.norm(dim=2, keepdim=True).clamp(min=FLOOR)
    return nn.functional.pad((direction[:, 1:] - direction[:, :-1]).norm(dim=2), (1, 0))


def contrast_edges(sample_rate_hz: int) -> list[float]:
    """Lower edges in Hz of the bands of `spectral_contrast`: 0, then octaves from 200 Hz to below half the rate."""
    num_octaves = math.ceil(math.log2(0.5 * sample_rate_hz / LOWEST_CONTRAST_HZ))
    return [0.0, *(LOWEST_CONTRAST_HZ * 2**i for i in range(num_octaves))]


def spectral_contrast(magnitude: Tensor, bin_hz: float, edges_hz: list[float]) -> Tensor:
    """How far peaks stand above valleys in each octave (Jiang et al. 2002, Music type classification).

    Args:
        magnitude: (B, T, bins), `bin_hz` apart, the first at 0; edges_hz: the lower edge of each of E bands.

    Returns:
        (B, T, E) 10 log10 of the mean of the strongest 2 % of the band's magnitudes over that of the weakest, at least
        one bin each. A band takes in the last bin of the one below it, as in librosa.
    """
    num_bins, contrasts = magnitude.shape[2], []
    for i, low in enumerate(edges_hz):
        is_last = i + 1 == len(edges_hz)
        first = max(0, math.ceil(low / bin_hz) - (i > 0))
        # The bin at the upper edge counts among the band's bins, but its value belongs to the next band alone.
        last = num_bins - 1 if is_last else math.floor(edges_hz[i + 1] / bin_hz)
        num_extreme = max(1, round(CONTRAST_SHARE * (last + 1 - first)))
        last = max(first + 1, last + is_last)
        band = magnitude[..., first:last].sort(dim=2).values
        peak, valley = band[..., -num_extreme:].mean(dim=2), band[..., :num_extreme].mean(dim=2)
        contrasts.append(10 * torch.log10(peak.clamp(min=FLOOR) / valley.clamp(min=FLOOR)))
    return torch.stack(contrasts, dim=2)


def chroma_filters(fft_length: int, sample_rate_hz: int) -> Tensor:
    """(12, bins) share of each pitch class, c first, in each bin: a bell around it, strongest near 880 Hz.

    The shape is that of librosa and of Ellis' chroma code: a bell of half a semitone's deviation, or wider where bins
    are further apart; each bin has length 1 over the classes; octaves weigh with a deviation of two.
    """
    hz = torch.arange(1, fft_length // 2 + 2, dtype=torch.float64) * sample_rate_hz / fft_length
    semitones = 12 * torch.log2(hz / (440 / 16)) - 3  # above c
    spread = semitones.diff().clamp(min=1)
    lowest = semitones[:1] - 18  # 0 Hz has no pitch: half way round from the first bin, and as wide
    spread = torch.cat([(semitones[:1] - lowest).clamp(min=1), spread])
    semitones = torch.cat([lowest, semitones[:-1]])
    distance = torch.remainder(semitones - torch.arange(12)[:, None] + 6, 12) - 6  # (12, bins)
    bells = torch.exp(-2 * (distance / spread).square())
    octaves = (semitones + 3) / 12
    return (bells / bells.norm(dim=0) * torch.exp(-((octaves - 5) ** 2) / 8)).float()


def tonal_centroid(chroma: Tensor) -> Tensor:
    """(B, T, 12) -> (B, T, 6): where the pitch classes lie on the circles of fifths, minor and major thirds.

    Harte, Sandler & Gasser 2006 (Detecting harmonic change in musical audio): sine and cosine of each circle, the last
    with half the radius; (0, ..., 0) for silence.
    """
    classes = torch.arange(12, device=chroma.device, dtype=chroma.dtype)
    rows = []
    for turns, radius in ((7, 1.0), (9, 1.0), (4, 0.5)):  # of the circle in 12 semitones: fifths, minor, major thirds
        angle = 2 * math.pi * turns * classes / 12
        rows += [radius * torch.sin(angle), radius * torch.cos(angle)]
    share = chroma / chroma.sum(dim=2, keepdim=True).clamp(min=FLOOR)
    return share @ torch.stack(rows).T


def harmonic_levels(power: Tensor, f0_hz: Tensor, bin_hz: float) -> Tensor:
    """Levels of the first harmonics of F0, relative to the whole frame.

    Args:
        power: (B, T, bins); f0_hz: (B, T), 0 where unvoiced; bin_hz: distance of the bins.

    Returns:
        (B, T, 3) in dB. A harmonic is the sum of three bins, which hardly depends on where it lies between them.
    """
    order = torch.arange(1, NUM_HARMONICS + 1, device=power.device)
    nearest = (f0_hz[..., None] * order / bin_hz).round().long()  # (B, T, H)
    around = nearest[..., None] + torch.arange(-1, 2, device=power.device)
    index = around.clamp(0, power.shape[2] - 1).flatten(2)
    harmonics = power.gather(2, index).unflatten(2, (NUM_HARMONICS, 3)).sum(dim=3)
    return 10 * torch.log10(harmonics.clamp(min=FLOOR) / power.sum(dim=2, keepdim=True).clamp(min=FLOOR))


def harmonic_percussive_db(magnitude: Tensor, frame_mask: Tensor) -> Tensor:
    """Energy of the lasting over that of the broad part of each frame (Fitzgerald 2010, median filtering).

    Each bin is shared between its median over 17 frames and that over 17 bins, by their squares; beyond its ends the
    spectrum is mirrored.

    Args:
        magnitude: (B, T, bins); frame_mask: (B, T).

    Returns:
        (B, T) in dB.
    """
    half = MEDIAN_FRAMES // 2
    num_steps, num_bins = magnitude.shape[1:]
    bins = mirrored(torch.arange(-half, num_bins + half, device=magnitude.device), num_bins)
    lengths = frame_mask.sum(dim=1).clamp(min=1).tolist()
    steps = torch.arange(-half, num_steps + half, device=magnitude.device)
    ratios = []
    for clip, length in zip(magnitude, lengths, strict=True):  # one at a time: a median holds 17 copies
        lasting = running_median(clip[mirrored(steps, length)], num_steps)
        broad = running_median(clip[:, bins].T, num_bins).T
        lasting_share = lasting.square() / (lasting.square() + broad.square()).clamp(min=FLOOR**2)
        energy = (clip * lasting_share).square().sum(dim=1), (clip * (1 - lasting_share)).square().sum(dim=1)
        ratios.append(10 * torch.log10((energy[0] + FLOOR) / (energy[1] + FLOOR)))
    return torch.stack(ratios)


def mirrored(index: Tensor, length: int) -> Tensor:
    """Indices beyond 0 ... length - 1 folded back, the ends counted twice."""
    index = index % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def running_median(x: Tensor, length: int) -> Tensor:
    """(length + 16, D) -> (length, D): the median of each 17 neighbours along the first axis.

    By a sorting network of whole slices, of which only what reaches the middle is done: ten times quicker on a CPU
    than `torch.median` over an unfolded tensor.
    """
    slices = [x[i : i + length] for i in range(MEDIAN_FRAMES)]
    for low, high in MEDIAN_NETWORK:
        slices[low], slices[high] = torch.minimum(slices[low], slices[high]), torch.maximum(slices[low], slices[high])
    return slices[MEDIAN_FRAMES // 2]


def median_network(size: int) -> list[tuple[int, int]]:
    """Pairs to put in order, one after another, until the middle of `size` values is their median.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M) without what the middle does
    not depend on.
    """
    top = 1 << (size - 1).bit_length() - 1
    pairs, p = [], top
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed, kept = {size // 2}, []
    for pair in reversed(pairs):
        if needed & set(pair):
            needed |= set(pair)
            kept.append(pair)
    return kept[::-1]


MEDIAN_NETWORK = median_network(MEDIAN_FRAMES)
