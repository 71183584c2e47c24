"""A talking voice by formant synthesis, neutral but for one stretch in which an emotion's cues move.

Glottal pulses (Rosenberg's, differentiated) and noise pass through five formant resonators that follow a random
sequence of syllables. The filter is applied frame by frame in the frequency domain. Every cue of `VOICE_CUES` is a
track over time: the neutral value of the speaker plus the emotion's shift times an intensity between 0 and 1. The
directions follow the reviews of Scherer (2003) and Juslin and Laukka (2003); their sizes are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

SAMPLE_RATE_HZ = 16000
CONTROL_HZ = 200  # rate of every parameter track
HOP, WINDOW, NUM_FFT = 80, 320, 512  # samples; HOP is one control frame
NUM_BINS = NUM_FFT // 2 + 1
BIN_HZ = np.arange(NUM_BINS) * SAMPLE_RATE_HZ / NUM_FFT

VOICE_CUES = {
    "level_st": "pitch level, semitones",
    "swing_st": "rise and fall of the pitch about three times a second, semitones",
    "glide_st": "pitch change from the start of the region to its end, semitones",
    "tremor_st": "pitch modulation at 6 to 9 Hz, semitones",
    "jitter": "random pitch change from cycle to cycle, share",
    "creak": "every second glottal pulse weakened, share",
    "breath": "aspiration noise beside the pulses, share",
    "inhale": "audible breath in the first third of the region, share",
    "tilt_db": "spectral slope above 500 Hz, dB an octave; above 0 is brighter",
    "loudness_db": "gain, dB",
    "formants": "relative shift of all formants; above 0 is a smile, a shorter vocal tract",
    "nasal": "nasal coupling, share",
    "legato": "above 0 the syllables run together (drawl), below 0 they are clipped",
}
VOICE_SHIFTS: dict[str, dict[str, float]] = {
    "anger": {
        "level_st": 5,
        "swing_st": 1.5,
        "jitter": 0.04,
        "tilt_db": 9,
        "loudness_db": 10,
        "legato": -0.8,
    },
    "disgust": {
        "level_st": -4,
        "creak": 1.0,
        "jitter": 0.02,
        "tilt_db": 1,
        "loudness_db": -1,
        "formants": -0.12,
        "nasal": 1.3,
        "legato": 0.5,
    },
    "fear": {
        "level_st": 8,
        "tremor_st": 3,
        "jitter": 0.015,
        "breath": 1.0,
        "loudness_db": -1,
        "legato": -0.4,
    },
    "happiness": {
        "level_st": 6,
        "swing_st": 8,
        "tilt_db": 1,
        "loudness_db": 3,
        "formants": 0.17,
    },
    "sadness": {
        "level_st": -4,
        "glide_st": -5,
        "breath": 0.15,
        "tilt_db": -8,
        "loudness_db": -7,
        "legato": 0.7,
    },
    "surprise": {
        "level_st": 1,
        "glide_st": 14,
        "inhale": 1.5,
        "tilt_db": 3,
        "loudness_db": 3,
    },
}
VOICE_NEIGHBOURS = {
    "anger": "happiness",
    "happiness": "anger",
    "fear": "surprise",
    "surprise": "fear",
    "sadness": "disgust",
    "disgust": "sadness",
}
# Formants of an adult male vocal tract, Hz (Peterson and Barney 1952, rounded); F4 and F5 hardly depend on the vowel.
VOWELS_HZ = np.array(
    [
        [730, 1090, 2440, 3500, 4500],
        [660, 1720, 2410, 3500, 4500],
        [530, 1840, 2480, 3500, 4500],
        [270, 2290, 3010, 3600, 4600],
        [570, 840, 2410, 3400, 4500],
        [300, 870, 2240, 3400, 4500],
        [490, 1350, 1690, 3300, 4500],
    ],
    dtype=np.float64,
)
BANDWIDTHS_HZ = np.array([80.0, 100.0, 140.0, 220.0, 300.0])


@dataclass(frozen=True)
class VoiceTraits:
    """What a speaker's voice is like when nothing is felt.

    Attributes:
        f0_hz: habitual pitch.
        tract: all formants relative to an average adult male.
        syllables_hz: speaking rate.
        tilt_db: spectral slope, dB an octave above 500 Hz.
        breath, jitter: as in `VOICE_CUES`.
        melody_st: size of the neutral pitch accents, semitones.
        expressiveness: how strongly an emotion moves this voice.
    """

    f0_hz: float
    tract: float
    syllables_hz: float
    tilt_db: float
    breath: float
    jitter: float
    melody_st: float
    expressiveness: float


@dataclass(frozen=True)
class Articulation:
    """What is said, before any emotion: tracks at `CONTROL_HZ`, F frames.

    Attributes:
        amplitude: (F,) in [0, 1], opening and closing of the syllables; the lips follow it too.
        voicing, frication: (F,) in [0, 1].
        frication_hz: (F,) centre of the frication noise.
        formants_hz: (F, 5).
        accent_st: (F,) neutral intonation, semitones about the habitual pitch.
    """

    amplitude: np.ndarray
    voicing: np.ndarray
    frication: np.ndarray
    frication_hz: np.ndarray
    formants_hz: np.ndarray
    accent_st: np.ndarray


def draw_voice(rng: np.random.Generator, sex: str) -> VoiceTraits:
    """A random speaker; `sex` ("female" or "male") sets the ranges of pitch and vocal tract length."""
    female = sex == "female"
    return VoiceTraits(
        f0_hz=rng.uniform(175, 235) if female else rng.uniform(90, 140),
        tract=rng.uniform(1.08, 1.22) if female else rng.uniform(0.92, 1.06),
        syllables_hz=rng.uniform(3.6, 4.6),
        tilt_db=rng.uniform(-1, 2),
        breath=rng.uniform(0.02, 0.1),
        jitter=rng.uniform(0.003, 0.009),
        melody_st=rng.uniform(0.6, 1.4),
        expressiveness=rng.uniform(0.85, 1.15),
    )


def articulate(rng: np.random.Generator, traits: VoiceTraits, num_frames: int) -> Articulation:
    """Random syllables that fill `num_frames` control frames, with a short pause now and then."""
    amplitude, voicing, frication = np.zeros(num_frames), np.ones(num_frames), np.zeros(num_frames)
    frication_hz = np.full(num_frames, 4000.0)
    formants, accents = np.empty((num_frames, 5)), np.zeros(num_frames)
    start = 0
    while start < num_frames:
        length = int(CONTROL_HZ / traits.syllables_hz * rng.uniform(0.8, 1.25))
        part = slice(start, start + length)
        onset = slice(start, start + int(length * rng.uniform(0.2, 0.35)))
        pause, consonant = rng.random() < 0.06, rng.choice(["fricative", "stop", "sonorant"])
        rise = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 0.6
        size = amplitude[part].size
        amplitude[part] = (0.0 if pause else rng.uniform(0.65, 1.0)) * rise[:size]
        formants[part] = VOWELS_HZ[rng.integers(len(VOWELS_HZ))] * rng.normal(1, 0.03, 5)
        accents[part] = rng.normal(0, traits.melody_st)
        frication_hz[part] = rng.uniform(2800, 6000)
        if consonant == "fricative" and not pause:
            voicing[onset], frication[onset] = rng.choice([0.0, 0.4]), 1.0
        elif consonant == "stop":
            amplitude[onset] *= 0.1
        start += length
    declination = 1.0 - 2.0 * np.linspace(0, 1, num_frames) * rng.uniform(0.5, 1.3)
    return Articulation(
        amplitude=np.clip(gaussian_filter1d(amplitude, 2.5), 0, 1),
        voicing=gaussian_filter1d(voicing, 1.5),
        frication=gaussian_filter1d(frication, 1.5),
        frication_hz=gaussian_filter1d(frication_hz, 3),
        formants_hz=gaussian_filter1d(formants, 6, axis=0) * traits.tract,
        accent_st=gaussian_filter1d(accents, 10) + declination,
    )


def voice_tracks(
    rng: np.random.Generator,
    traits: VoiceTraits,
    said: Articulation,
    shift: dict[str, float],
    intensity: np.ndarray,
) -> dict[str, np.ndarray]:
    """Every cue as a track (F,) at `CONTROL_HZ`, and `f0_hz`; where `intensity` (F,) is 0 they are the neutral ones."""
    moved = {name: shift.get(name, 0.0) * intensity for name in VOICE_CUES}
    times = np.arange(len(intensity)) / CONTROL_HZ
    progress = np.cumsum(intensity) / max(intensity.sum(), 1e-9)
    tremor = np.sin(2 * np.pi * rng.uniform(6, 9) * times + rng.uniform(0, 2 * np.pi))
    swing = np.sin(2 * np.pi * rng.uniform(2.8, 3.6) * times + rng.uniform(0, 2 * np.pi))
    pitch_st = said.accent_st + moved["level_st"] + moved["swing_st"] * swing + moved["tremor_st"] * tremor
    pitch_st = pitch_st + moved["glide_st"] * progress
    moved["f0_hz"] = np.clip(traits.f0_hz * 2 ** (pitch_st / 12), 55, 600)
    moved["jitter"] = np.clip(traits.jitter + moved["jitter"], 0, None)
    moved["breath"] = np.clip(traits.breath + moved["breath"], 0, 1)
    moved["tilt_db"] = traits.tilt_db + moved["tilt_db"] + gaussian_filter1d(rng.normal(0, 6, len(times)), 40)
    moved["inhale"] = np.clip(moved["inhale"], 0, 1) * np.clip((0.33 - progress) / 0.06, 0, 1)
    return moved


def synthesize(
    rng: np.random.Generator,
    traits: VoiceTraits,
    said: Articulation,
    shift: dict[str, float],
    intensity: np.ndarray,
) -> np.ndarray:
    """The dry voice: (F * HOP,) float64 of arbitrary level.

    Args:
        said: the articulation, F control frames.
        shift: cue -> how far the emotion moves it at intensity 1; cues left out stay neutral.
        intensity: (F,) in [0, 1].
    """
    cues = voice_tracks(rng, traits, said, shift, intensity)
    num_samples = len(intensity) * HOP
    voicing = said.voicing * (1 - cues["inhale"]) * (1 - 0.5 * cues["breath"])
    legato = np.clip(1 - cues["legato"], 0.3, 1.8)
    loudness = said.amplitude**legato * (1 - cues["inhale"]) * 10 ** (cues["loudness_db"] / 20)
    noise = _frames(rng.normal(0, 1, num_samples))  # drawn first: the pulses draw as many numbers as there are cycles
    pulses = _frames(_glottal_pulses(rng, cues, num_samples)) * (voicing * loudness)[:, None]
    aspiration = 0.5 * cues["breath"] * loudness + 0.3 * cues["inhale"]
    tract = _tract_response(said.formants_hz * (1 + cues["formants"])[:, None], cues["nasal"])
    octaves = np.log2(np.maximum(BIN_HZ, 500) / 500)
    slope = 10 ** (np.clip(cues["tilt_db"][:, None] * octaves, -60, 30) / 20)
    hiss = (
        np.exp(-0.5 * ((BIN_HZ - said.frication_hz[:, None]) / 1100) ** 2) * (0.25 * said.frication * loudness)[:, None]
    )
    noise_spectrum = np.fft.rfft(noise, NUM_FFT)
    spectrum = np.fft.rfft(pulses, NUM_FFT) * slope * tract + noise_spectrum * (aspiration[:, None] * tract + hiss)
    return _overlap_add(np.fft.irfft(spectrum, NUM_FFT), num_samples)


def _glottal_pulses(rng: np.random.Generator, cues: dict[str, np.ndarray], num_samples: int) -> np.ndarray:
    """(num_samples,) derivative of the glottal flow, made at twice the rate against aliasing."""
    control = np.arange(len(cues["f0_hz"])) * HOP
    samples = np.arange(2 * num_samples) / 2
    wobble = 1 + cues["jitter"] * rng.normal(0, 3, len(control))
    f0 = np.interp(samples, control, cues["f0_hz"] * np.clip(wobble, 0.7, 1.3))
    cycles = np.cumsum(f0) / (2 * SAMPLE_RATE_HZ)
    number = cycles.astype(np.int64)
    shimmer = rng.normal(1, 0.05, number[-1] + 1)[number]
    weakened = 1 - 0.85 * np.interp(samples, control, np.clip(cues["creak"], 0, 1)) * (number % 2)
    open_phase = (cycles - number) / 0.6
    flow = np.where(open_phase < 1, 2 * open_phase - 3 * open_phase**2, 0.0)
    return resample_poly(flow * shimmer * weakened, 1, 2)


def _tract_response(formants_hz: np.ndarray, nasal: np.ndarray) -> np.ndarray:
    """(F, NUM_BINS) complex response of the cascade; nasal coupling widens F1 and takes the band about 900 Hz out."""
    z = np.exp(-2j * np.pi * BIN_HZ / SAMPLE_RATE_HZ)
    response = np.ones((len(formants_hz), NUM_BINS), dtype=np.complex128)
    for k, width in enumerate(BANDWIDTHS_HZ):
        widths = width * (1 + (1.5 * np.clip(nasal, 0, 1) if k == 0 else 0))
        radius = np.exp(-np.pi * widths / SAMPLE_RATE_HZ) * np.ones(len(formants_hz))
        a1 = 2 * radius * np.cos(2 * np.pi * np.minimum(formants_hz[:, k], 7600) / SAMPLE_RATE_HZ)
        a2 = -(radius**2)
        response *= ((1 - a1 - a2)[:, None]) / (1 - a1[:, None] * z - a2[:, None] * z**2)
    dip_db = -14 * np.exp(-0.5 * ((BIN_HZ - 900) / 250) ** 2) + 6 * np.exp(-0.5 * ((BIN_HZ - 250) / 90) ** 2)
    return response * 10 ** (nasal[:, None] * dip_db / 20)


def _frames(signal: np.ndarray) -> np.ndarray:
    """(F, WINDOW) windowed frames centred on the control frames."""
    padded = np.pad(signal, (WINDOW // 2, WINDOW // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(signal) // HOP]
    return frames * np.hanning(WINDOW + 1)[:-1]


def _overlap_add(frames: np.ndarray, num_samples: int) -> np.ndarray:
    """(num_samples,) sum of frames (F, NUM_FFT) that start half a window before their control frame."""
    num_blocks = -(-NUM_FFT // HOP)
    blocks = np.pad(frames, ((0, 0), (0, num_blocks * HOP - NUM_FFT))).reshape(len(frames), num_blocks, HOP)
    out = np.zeros((len(frames) + num_blocks, HOP))
    for b in range(num_blocks):
        out[b : b + len(frames)] += blocks[:, b]
    return out.ravel()[WINDOW // 2 : WINDOW // 2 + num_samples] * (2 * HOP / WINDOW)
