"""The drawn face as coloured polygons: from action units over time to outlines, for every frame of a clip at once.

Coordinates are face units: the origin between nose and eyes, x to the right of the image, y down, the chin at y = 1.
Action units (Ekman and Friesen's FACS) are tracks (T,) in [0, 1]; an outline is (T, P, 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Units = dict[str, np.ndarray]
ALONG = np.linspace(-1, 1, 15)  # parameter along a lid, a lip or a brow
ROUND = np.linspace(0, 2 * np.pi, 33)[:-1]


@dataclass(frozen=True)
class FaceTraits:
    """What a person's face is like when nothing is felt; lengths in face units, colours RGB.

    Attributes:
        width: half the width of the head.
        eye_x, eye_y, eye_width, eye_height: place and half size of the eyes.
        brow_y, brow_thickness, brow_slope: place and shape of the brows; above 0 the outer end hangs.
        nose_width, mouth_y, mouth_width, lip: half widths, place, thickness of the lips.
        corner: resting height of the mouth's corners; above 0 they hang.
        hair_length, hairline: where the hair ends at the sides and on the forehead.
        skin, hair, iris, lips, cloth: colours.
        expressiveness: how strongly an emotion moves this face.
    """

    width: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    brow_y: float
    brow_thickness: float
    brow_slope: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    lip: float
    corner: float
    hair_length: float
    hairline: float
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    cloth: np.ndarray
    expressiveness: float


@dataclass(frozen=True)
class Layer:
    """One filled shape: `outline` (T, P, 2) in face units, `color` (T, 3) RGB; later layers cover earlier ones.

    `fixed` shapes belong to the shoulders and do not turn with the head.
    """

    outline: np.ndarray
    color: np.ndarray
    fixed: bool = False


def build_layers(
    traits: FaceTraits, units: Units, lips: np.ndarray, blink: np.ndarray, gaze: np.ndarray
) -> list[Layer]:
    """All shapes of the face, back to front.

    Args:
        units: action unit -> (T,) in about [0, 1], e.g. "AU12"; those left out rest at 0.
        lips: (T,) opening of the lips by speech, [0, 1].
        blink: (T,) closing of the lids, [0, 1].
        gaze: (T, 2) offset of the irises as a share of the eye's half size.
    """
    resting = np.zeros(len(lips))
    au = {f"AU{n}": units.get(f"AU{n}", resting) for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 20, 23, 26)}
    jaw = 0.10 * lips + 0.22 * au["AU26"]
    layers = _head(traits, jaw, lips)
    layers += _cheeks(traits, au) + _nose(traits, au) + _mouth(traits, au, jaw, lips)
    for side in (-1.0, 1.0):
        layers += _eye(traits, au, blink, gaze, side) + _brow(traits, au, side)
    return [*layers, _fringe(traits, lips)]


def _head(traits: FaceTraits, jaw: np.ndarray, lips: np.ndarray) -> list[Layer]:
    still = np.zeros_like(lips)
    w, skin = traits.width, traits.skin
    back = _ellipse(still, 0, -0.15, w * 1.14, 0.98)
    back[..., 1] = np.where(back[..., 1] > 0, back[..., 1] * (traits.hair_length / 0.83), back[..., 1])
    bust = [_ellipse(still, 0, 1.75, 1.25, 0.6), _ellipse(still, 0, 1.1, 0.36, 0.5)]
    face = _outline(w, jaw)
    ears = [_ellipse(still, s * w * 0.99, 0.02, 0.09, 0.17) for s in (-1, 1)]
    shaded = [_shade(skin, 1 - 0.1 * k, still) for k in (1, 0.4, 0)]
    return [
        Layer(back, _paint(traits.hair, still)),
        Layer(bust[1], _paint(skin * 0.78, still), fixed=True),
        Layer(bust[0], _paint(traits.cloth, still), fixed=True),
        *(Layer(ear, _paint(skin * 0.85, still)) for ear in ears),
        Layer(face, shaded[0]),
        Layer(face * [0.93, 0.95], shaded[1]),
        Layer(face * [0.84, 0.88] - [0.03, 0.03], shaded[2]),
    ]


def _cheeks(traits: FaceTraits, au: Units) -> list[Layer]:
    """Blush, the bag under a raised cheek, and the folds from nose to mouth."""
    layers, raised = [], au["AU6"]
    still = np.zeros_like(raised)
    smile, lifted = au["AU12"], np.clip(au["AU9"] + au["AU10"], 0, 1.2)
    for side in (-1.0, 1.0):
        blush = _ellipse(still, side * 0.42, 0.26 - 0.06 * raised, 0.17, 0.12)
        layers.append(Layer(blush, _mix(traits.skin, np.array([225.0, 110, 100]), 0.12 + 0.2 * raised)))
        x = side * (traits.eye_x + 0.02 + 0.17 * ALONG)
        y = traits.eye_y + 0.21 - 0.03 * raised[:, None] + 0.05 * (1 - ALONG**2)
        layers.append(_stroke(x, y, 0.018, _shade(traits.skin, 1 - 0.3 * raised - 0.06, still)))
        down = 0.5 + 0.5 * ALONG
        bulge = np.sin(np.pi * down) * (0.05 + 0.06 * smile[:, None])
        x = side * (traits.nose_width + 0.07 + (0.14 + 0.08 * smile[:, None]) * down + bulge)
        y = 0.20 - 0.05 * lifted[:, None] + (traits.mouth_y - 0.24) * down
        fold = np.clip(0.08 + 0.28 * np.maximum(smile, lifted), 0, 0.4)
        layers.append(_stroke(x, y, 0.016, _shade(traits.skin, 1 - fold, still)))
    return layers


def _nose(traits: FaceTraits, au: Units) -> list[Layer]:
    wrinkle, lift = au["AU9"], 0.05 * au["AU9"] + 0.02 * au["AU10"]
    still = np.zeros_like(wrinkle)
    w, tip = traits.nose_width * (1 + 0.2 * wrinkle), 0.24 - lift
    x = np.stack([still - 0.035, -w, -0.5 * w, 0.5 * w, w, still + 0.035], axis=1)
    y = np.stack([still - 0.2, tip - 0.04, tip + 0.02, tip + 0.02, tip - 0.04, still - 0.2], axis=1)
    layers = [Layer(np.stack([x, y], axis=2), _shade(traits.skin, 0.93, still))]
    for side in (-1, 1):
        nostril = _ellipse(still, 0, 0, 0.035, 0.022) + np.stack([side * 0.55 * w, tip], axis=1)[:, None]
        layers.append(Layer(nostril, _shade(traits.skin, 0.45, still)))
        for k in range(3):
            x = side * (0.03 + 0.09 * (0.5 + 0.5 * ALONG)) + still[:, None]
            y = -0.16 + 0.075 * k - 0.05 * ALONG + still[:, None]
            layers.append(_stroke(x, y, 0.016, _shade(traits.skin, 1 - 0.32 * np.clip(wrinkle, 0, 1), still)))
    return layers


def _mouth(traits: FaceTraits, au: Units, jaw: np.ndarray, lips: np.ndarray) -> list[Layer]:
    still = np.zeros_like(lips)
    wide = 1 + 0.32 * au["AU12"] + 0.34 * au["AU20"] - 0.35 * au["AU23"] - 0.2 * au["AU26"] - 0.08 * lips
    corner = traits.corner - 0.16 * au["AU12"] + 0.18 * au["AU15"] + 0.03 * au["AU20"] + 0.35 * jaw
    upper = -0.01 * lips - 0.09 * au["AU10"] - 0.04 * au["AU9"] - 0.02 * au["AU12"]
    lower = 0.9 * jaw + 0.08 * au["AU16"] + 0.05 * au["AU20"] + 0.02 * (au["AU10"] + au["AU12"])
    thick = traits.lip * (1 - 0.6 * np.clip(au["AU23"], 0, 1.2) - 0.2 * au["AU20"])
    x = traits.mouth_width * wide[:, None] * ALONG
    bow = 1 - ALONG**2
    bend = corner[:, None] * ALONG**2 + traits.mouth_y
    square = np.sqrt(np.clip(bow, 0, 1))
    inner_top = bend + upper[:, None] * bow
    inner_bottom = bend + lower[:, None] * (0.6 * square + 0.4 * bow) + 0.012 * bow
    cupid = thick[:, None] * bow * (0.75 + 0.35 * np.abs(ALONG))
    outer_top, outer_bottom = inner_top - cupid, inner_bottom + 1.15 * thick[:, None] * square
    teeth = np.minimum(inner_top + 0.075 * bow, inner_bottom)
    chin = _stroke(
        0.16 * ALONG + still[:, None], outer_bottom[:, 7:8] + 0.09 - 0.03 * bow, 0.014, _shade(traits.skin, 0.85, still)
    )
    return [
        chin,
        Layer(_between(x, outer_top, outer_bottom), _paint(traits.lips, still)),
        Layer(_between(x * 0.93, inner_top, inner_bottom), _paint(np.array([60.0, 22, 28]), still)),
        Layer(_between(x * 0.85, inner_top, teeth), _paint(np.array([238.0, 234, 224]), still)),
    ]


def _eye(traits: FaceTraits, au: Units, blink: np.ndarray, gaze: np.ndarray, side: float) -> list[Layer]:
    still = np.zeros_like(blink)
    squint = 0.45 * au["AU6"] + 0.4 * au["AU7"] + 0.35 * au["AU9"]
    open_top = np.clip(1 + 0.75 * au["AU5"] - 0.5 * squint - 0.12 * au["AU15"], 0.15, 2) * (1 - blink)
    open_low = np.clip(0.75 + 0.15 * au["AU5"] - squint, 0.1, 1) * (1 - blink)
    cx, cy, w, h = side * traits.eye_x, traits.eye_y, traits.eye_width, traits.eye_height
    bow = 1 - np.abs(ALONG) ** 2.4
    x = cx + w * ALONG + still[:, None]
    slant = (0.03 * au["AU1"] * (1 - au["AU5"]))[:, None] * (ALONG * side)
    top = cy - h * open_top[:, None] * bow + slant
    low = cy + h * open_low[:, None] * bow + slant
    iris = _ellipse(still, cx, cy, 0.075, 0.075) + (gaze * [0.45 * w, 0.35 * h])[:, None]
    layers = [Layer(_between(x, top, low), _paint(np.array([240.0, 238, 235]), still))]
    for size, color in ((1.0, traits.iris), (0.5, np.array([15.0, 12, 12]))):
        centre = iris.mean(axis=1, keepdims=True)
        disc = centre + (iris - centre) * size
        lid_bow = 1 - np.clip(np.abs((disc[..., 0] - cx) / w), 0, 1) ** 2.4
        disc[..., 1] = np.clip(disc[..., 1], cy - h * open_top[:, None] * lid_bow, cy + h * open_low[:, None] * lid_bow)
        layers.append(Layer(disc, _paint(color, still)))
    layers.append(_stroke(x, top, 0.022, _paint(traits.hair * 0.5, still)))
    layers.append(_stroke(x, low, 0.010, _shade(traits.skin, 0.65, still)))
    layers.append(_stroke(x, top - 0.07 - 0.02 * au["AU5"][:, None], 0.010, _shade(traits.skin, 0.8, still)))
    return layers


def _brow(traits: FaceTraits, au: Units, side: float) -> list[Layer]:
    """The brow from its inner end (-1) to its outer (+1), and the furrow that AU4 cuts between the brows."""
    inner_y = -0.20 * au["AU1"] + 0.15 * au["AU4"] + 0.05 * au["AU9"]
    outer_y = -0.15 * au["AU2"] + 0.05 * au["AU4"] + 0.04 * (au["AU1"] - au["AU2"]).clip(0)
    still = np.zeros_like(inner_y)
    share = 0.5 + 0.5 * ALONG
    pinch = 0.07 * np.clip(au["AU4"], 0, 1.2)
    inner_x, outer_x = traits.eye_x - 0.19 - pinch, traits.eye_x + 0.2
    x = side * (inner_x[:, None] + (outer_x - inner_x[:, None]) * share)
    y = traits.brow_y + inner_y[:, None] * (1 - share) ** 1.3 + outer_y[:, None] * share
    y = y - 0.05 * np.sin(np.pi * share) * (1 - 0.5 * au["AU4"][:, None]) + traits.brow_slope * share
    width = traits.brow_thickness * (1.15 - 0.7 * share)
    furrow_x = side * 0.05 + 0 * ALONG + still[:, None]
    furrow_y = traits.brow_y + 0.11 + 0.08 * ALONG + still[:, None]
    furrow = _shade(traits.skin, 1 - 0.5 * np.clip(au["AU4"], 0, 1), still)
    ridge_y = traits.brow_y - 0.17 - 0.06 * au["AU1"][:, None] + 0.02 * ALONG**2
    lifted = np.clip(np.minimum(au["AU1"], au["AU2"] + 0.3), 0, 1)
    ridge = _shade(traits.skin, 1 - 0.3 * lifted, still)
    return [
        _stroke(furrow_x, furrow_y, 0.014, furrow),
        _stroke(side * (0.2 + 0.18 * ALONG) + still[:, None], ridge_y, 0.012, ridge),
        _stroke(x, y, width, _paint(traits.hair * 0.8, still)),
    ]


def _fringe(traits: FaceTraits, lips: np.ndarray) -> Layer:
    """The hair that covers the top of the forehead."""
    x = traits.width * 1.08 * ALONG
    top = -0.12 - 1.0 * np.sqrt(1 - 0.97 * ALONG**2)
    edge = -traits.hairline + (traits.hairline - 0.12) * np.abs(ALONG) ** 3
    outline = np.stack([np.r_[x, x[::-1]], np.r_[top, edge[::-1]]], axis=1)
    return Layer(np.broadcast_to(outline, (len(lips), *outline.shape)), _paint(traits.hair, np.zeros_like(lips)))


def _outline(width: float, jaw: np.ndarray) -> np.ndarray:
    """(T, P, 2) contour of the head; the chin narrows and follows the jaw."""
    x, y = width * np.sin(ROUND), -np.cos(ROUND)
    x = np.where(y > 0, x * (1 - 0.16 * y**2), x)
    low = np.clip(y, 0, 1) ** 2
    return np.stack([np.broadcast_to(x, (len(jaw), x.size)), y + 0.6 * jaw[:, None] * low], axis=2)


def _ellipse(still: np.ndarray, x: float | np.ndarray, y: float | np.ndarray, w: float, h: float) -> np.ndarray:
    """(T, 32, 2); the centre may move with time."""
    cx, cy = (np.broadcast_to(np.asarray(v), still.shape)[:, None] for v in (x, y))
    return np.stack([cx + w * np.sin(ROUND), cy - h * np.cos(ROUND)], axis=2)


def _between(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The area between two curves over the same x, all (T, P)."""
    bottom = np.maximum(top, bottom)
    xs = np.concatenate([x, x[:, ::-1]], axis=1)
    return np.stack([xs, np.concatenate([top, bottom[:, ::-1]], axis=1)], axis=2)


def _stroke(x: np.ndarray, y: np.ndarray, width: float | np.ndarray, color: np.ndarray) -> Layer:
    """A line of half thickness `width` (scalar or (P,)) along the curve (T, P), as a polygon."""
    x, y = np.broadcast_arrays(x, y)
    dx, dy = np.gradient(x, axis=1), np.gradient(y, axis=1)
    length = np.sqrt(dx**2 + dy**2) + 1e-9
    side = np.stack([-dy / length, dx / length], axis=2) * np.broadcast_to(width, x.shape[1:])[:, None]
    middle = np.stack([x, y], axis=2)
    return Layer(np.concatenate([middle + side, (middle - side)[:, ::-1]], axis=1), color)


def _paint(color: np.ndarray, still: np.ndarray) -> np.ndarray:
    return np.broadcast_to(color, (len(still), 3))


def _shade(skin: np.ndarray, factor: float | np.ndarray, still: np.ndarray) -> np.ndarray:
    return skin * np.broadcast_to(np.asarray(factor), still.shape)[:, None]


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.clip(share, 0, 1)[:, None]
