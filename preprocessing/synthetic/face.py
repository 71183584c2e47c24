"""A talking face, drawn: neutral but for one stretch in which an emotion's action units move.

The lips follow the syllables of the voice, but never its emotion. Blinks, glances, head motion, light and sensor noise,
and small movements of single action units go on throughout the clip, so that not everything that moves is emotional.
The action units of the emotions are EMFACS's prototypes (Ekman and Friesen 1983); their sizes are our choice.
"""

from __future__ import annotations

import cv2
import numpy as np

from preprocessing.synthetic.anatomy import FaceTraits, Layer, Units, build_layers

FPS = 25
SIZE_PX = 128
SUPERSAMPLE = 2  # drawn at this multiple of SIZE_PX, then averaged
SHIFT = 4  # fractional bits of a coordinate in cv2's drawing functions

FACE_SHIFTS: dict[str, dict[str, float]] = {
    "anger": {"AU4": 1.3, "AU5": 0.4, "AU7": 1.0, "AU23": 1.3},
    "disgust": {"AU4": 0.3, "AU9": 1.2, "AU10": 1.2, "AU15": 0.6, "AU16": 0.5},
    "fear": {"AU1": 1.0, "AU2": 0.7, "AU4": 0.5, "AU5": 1.2, "AU20": 1.4, "AU26": 0.1},
    "happiness": {"AU6": 1.2, "AU12": 1.3},
    "sadness": {"AU1": 1.3, "AU4": 0.4, "AU15": 1.4},
    "surprise": {"AU1": 1.2, "AU2": 1.2, "AU5": 0.6, "AU26": 1.2},
}
FACE_NEIGHBOURS = {
    "anger": "disgust",
    "disgust": "anger",
    "fear": "surprise",
    "surprise": "fear",
    "sadness": "fear",
    "happiness": "disgust",
}
# What a face does without feeling anything: a raised brow, a twitch about the mouth.
HABITS: list[tuple[str, ...]] = [("AU1", "AU2"), ("AU4",), ("AU7",), ("AU12",), ("AU15",), ("AU20",), ("AU10",)]
SKINS = np.array([[236, 198, 172], [224, 176, 142], [198, 145, 108], [160, 108, 78], [118, 78, 58]], dtype=np.float64)
HAIRS = np.array([[42, 30, 24], [86, 58, 36], [150, 108, 62], [120, 56, 34], [140, 138, 136]], dtype=np.float64)
IRISES = np.array([[82, 54, 34], [92, 116, 150], [84, 112, 78], [50, 36, 26]], dtype=np.float64)


def draw_face(rng: np.random.Generator, sex: str) -> FaceTraits:
    """A random person; `sex` ("female" or "male") sets the ranges of hair, brows and lips."""
    female = sex == "female"
    skin = _between_rows(rng, SKINS)
    hair = HAIRS[rng.integers(len(HAIRS))] * rng.uniform(0.8, 1.1)
    return FaceTraits(
        width=rng.uniform(0.70, 0.82),
        eye_x=rng.uniform(0.29, 0.35),
        eye_y=rng.uniform(-0.15, -0.08),
        eye_width=rng.uniform(0.13, 0.17),
        eye_height=rng.uniform(0.060, 0.085),
        brow_y=rng.uniform(-0.42, -0.36),
        brow_thickness=rng.uniform(0.022, 0.036) * (1.0 if female else 1.35),
        brow_slope=rng.uniform(-0.03, 0.04),
        nose_width=rng.uniform(0.10, 0.15),
        mouth_y=rng.uniform(0.48, 0.55),
        mouth_width=rng.uniform(0.22, 0.28),
        lip=rng.uniform(0.045, 0.07) if female else rng.uniform(0.03, 0.05),
        corner=rng.uniform(-0.02, 0.03),
        hair_length=rng.uniform(0.8, 1.5) if female else rng.uniform(0.1, 0.4),
        hairline=rng.uniform(0.70, 0.80),
        skin=skin,
        hair=hair,
        iris=IRISES[rng.integers(len(IRISES))],
        lips=skin * [0.86, 0.62, 0.62] + ([18.0, -8, -4] if female else [0.0, 0, 0]),
        cloth=rng.uniform(30, 200, 3),
        expressiveness=rng.uniform(0.85, 1.15),
    )


def face_units(rng: np.random.Generator, shift: dict[str, float], intensity: np.ndarray) -> Units:
    """Every action unit as a track (T,) at `FPS`: habits throughout, the emotion where `intensity` (T,) is above 0."""
    units = {name: np.zeros(len(intensity)) for habit in HABITS for name in habit}
    for _ in range(rng.poisson(1.0 * len(intensity) / FPS)):
        bump = _bump(rng, len(intensity), rng.uniform(0.15, 0.4)) * rng.uniform(0.1, 0.25)
        for name in HABITS[rng.integers(len(HABITS))]:
            units[name] = units[name] + bump
    for name, size in shift.items():
        units[name] = units.get(name, 0.0) + size * intensity
    return {name: np.clip(track, 0, 1.4) for name, track in units.items()}


def render(
    rng: np.random.Generator,
    traits: FaceTraits,
    shift: dict[str, float],
    intensity: np.ndarray,
    lips: np.ndarray,
) -> np.ndarray:
    """The video: (T, SIZE_PX, SIZE_PX, 3) uint8 RGB.

    Args:
        shift: action unit -> size at intensity 1.
        intensity: (T,) in [0, 1].
        lips: (T,) opening of the lips by speech, [0, 1].
    """
    num_frames = len(lips)
    blink = np.zeros(num_frames)
    for _ in range(rng.poisson(0.4 * num_frames / FPS)):
        blink = np.maximum(blink, _bump(rng, num_frames, 0.24))
    gaze = _drift(rng, num_frames, 2, 0.5)
    units = face_units(rng, shift, intensity)
    layers = build_layers(traits, units, lips, np.clip(1.4 * blink, 0, 1), gaze)
    return _shoot(rng, _to_pixels(rng, layers, num_frames))


def _to_pixels(rng: np.random.Generator, layers: list[Layer], num_frames: int) -> list[Layer]:
    """Outlines as int32 fixed-point pixels of the large canvas, under a slow random motion of the head."""
    scale = SUPERSAMPLE * SIZE_PX * 0.345 * rng.uniform(0.95, 1.05) * (1 + _drift(rng, num_frames, 1, 0.02)[:, 0])
    angle = np.radians(rng.normal(0, 1.5) + _drift(rng, num_frames, 1, 3.0)[:, 0])
    centre = SUPERSAMPLE * (SIZE_PX * np.array([0.5, 0.51]) + rng.normal(0, 1.0, 2) + _drift(rng, num_frames, 2, 2.0))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    straight = np.eye(2) * scale[:, None, None]
    placed = []
    for layer in layers:
        points = np.einsum("tij,tpj->tpi", straight if layer.fixed else turn, layer.outline) + centre[:, None]
        placed.append(Layer(np.round(points * 2**SHIFT).astype(np.int32), layer.color, layer.fixed))
    return placed


def _shoot(rng: np.random.Generator, layers: list[Layer]) -> np.ndarray:
    """Draw the shapes before a background and film them: light, blur, sensor noise."""
    num_frames, large = len(layers[0].outline), SIZE_PX * SUPERSAMPLE
    wall = rng.uniform(70, 190) + rng.normal(0, 14, 3)
    slope = np.linspace(-1, 1, large)[:, None, None] * rng.uniform(-25, 25)
    background = np.clip(wall + np.broadcast_to(slope, (large, large, 1)), 0, 255).astype(np.uint8)
    direction, axis = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, SIZE_PX, dtype=np.float32)
    light = 1 + rng.uniform(0.05, 0.22) * (np.cos(direction) * axis[None] + np.sin(direction) * axis[:, None])
    light = (light * rng.uniform(0.8, 1.12)).astype(np.float32)[..., None]
    flicker = (1 + _drift(rng, num_frames, 1, 0.02)[:, 0]).astype(np.float32)
    noise = rng.normal(0, rng.uniform(1.5, 4), (SIZE_PX + 32, SIZE_PX + 32, 3)).astype(np.float32)
    corners = rng.integers(0, 32, (num_frames, 2))
    blur = rng.uniform(0.4, 0.8)
    frames = np.empty((num_frames, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    colors = [layer.color.tolist() for layer in layers]
    for t in range(num_frames):
        canvas = background.copy()
        for layer, color in zip(layers, colors, strict=True):
            cv2.fillPoly(canvas, [layer.outline[t]], color[t], cv2.LINE_AA, SHIFT)
        image = cv2.resize(canvas, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
        image = cv2.GaussianBlur(image, (3, 3), blur)
        y, x = corners[t]
        lit = image * (light * flicker[t]) + noise[y : y + SIZE_PX, x : x + SIZE_PX]
        frames[t] = np.clip(lit, 0, 255)
    return frames


def _bump(rng: np.random.Generator, num_frames: int, length_s: float) -> np.ndarray:
    """(num_frames,) one raised cosine of `length_s` at a random time."""
    times = np.arange(num_frames) / FPS
    phase = (times - rng.uniform(0, num_frames / FPS)) / length_s
    return np.where(np.abs(phase) < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * phase), 0.0)


def _drift(rng: np.random.Generator, num_frames: int, num_tracks: int, size: float) -> np.ndarray:
    """(num_frames, num_tracks) slow smooth motion about 0, of standard deviation near `size`."""
    times = np.arange(num_frames)[:, None, None] / FPS
    hz = rng.uniform(0.1, 0.7, (3, num_tracks))
    phase = rng.uniform(0, 2 * np.pi, (3, num_tracks))
    return size * np.sin(2 * np.pi * hz * times + phase).sum(axis=1) * np.sqrt(2 / 3)


def _between_rows(rng: np.random.Generator, colors: np.ndarray) -> np.ndarray:
    """A random colour on the line between two neighbouring rows."""
    at = rng.uniform(0, len(colors) - 1)
    low = int(at)
    return colors[low] + (colors[low + 1] - colors[low]) * (at - low)
