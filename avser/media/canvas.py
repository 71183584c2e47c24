"""Draws on pictures: smooth lines and areas, and text in a font that is the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from avser.media.native import import_native

SUBPIXELS = 4  # binary digits of a pixel in which coordinates are drawn
Colour = tuple[int, int, int]


def colour_of(code: str) -> Colour:
    """ "#RRGGBB" as red, green and blue."""
    red, green, blue = (int(code[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


class Canvas:
    """A picture (H, W, 3) uint8 RGB that is drawn on in place; coordinates are pixels from the left and the top."""

    def __init__(self, width: int, height: int, colour: Colour) -> None:
        self.image = np.full((height, width, 3), colour, np.uint8)
        self._cv2: Any = import_native("cv2")

    def paste(self, image: np.ndarray, x: int, y: int, width: int, height: int) -> None:
        """A picture, scaled to that size."""
        smaller = width < image.shape[1]
        how = self._cv2.INTER_AREA if smaller else self._cv2.INTER_LINEAR
        if (height, width) != image.shape[:2]:
            image = self._cv2.resize(image, (width, height), interpolation=how)
        self.image[y : y + height, x : x + width] = image

    def fill(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, opacity: float = 1.0) -> None:
        """A rectangle; its edges are rounded to pixels."""
        height, width = self.image.shape[:2]
        left, right = (min(max(round(x), 0), width) for x in (x0, x1))
        top, bottom = (min(max(round(y), 0), height) for y in (y0, y1))
        part = self.image[top:bottom, left:right]
        part[:] = colour if opacity == 1 else np.round(part * (1 - opacity) + np.array(colour) * opacity)

    def frame(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: int = 2) -> None:
        """The outline of a rectangle."""
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        self._cv2.polylines(self.image, [_fixed(corners)], True, colour, width, self._cv2.LINE_AA, SUBPIXELS)

    def line(self, points: np.ndarray, colour: Colour, width: int = 1) -> None:
        """A line through points (K, 2)."""
        self._cv2.polylines(self.image, [_fixed(points)], False, colour, width, self._cv2.LINE_AA, SUBPIXELS)

    def area(self, points: np.ndarray, colour: Colour, opacity: float) -> None:
        """A filled polygon (K, 2)."""
        over = self.image.copy()
        self._cv2.fillPoly(over, [_fixed(points)], colour, self._cv2.LINE_AA, SUBPIXELS)
        self._cv2.addWeighted(over, opacity, self.image, 1 - opacity, 0, self.image)

    def text(
        self, words: str, x: float, y: float, size: int, colour: Colour, *, anchor: str = "left", bold: bool = False
    ) -> int:
        """Words with their middle at height y; `x` is their left, middle or right end. Returns their width."""
        mask = _mask(words, size, bold)
        height, width = mask.shape
        left = round(x - {"left": 0, "middle": width / 2, "right": width}[anchor])
        top = round(y - height / 2)
        x0, y0 = max(left, 0), max(top, 0)
        part = self.image[y0 : max(top + height, 0), x0 : max(left + width, 0)]
        share = mask[y0 - top :, x0 - left :][: part.shape[0], : part.shape[1], None]
        part[:] = np.round(part * (1 - share) + np.array(colour) * share)
        return width


def _fixed(points: np.ndarray) -> np.ndarray:
    """Coordinates as OpenCV takes fractions of pixels; far beyond the edge they would not fit its integers."""
    return np.round(np.clip(points, -4000, 12000) * 2**SUBPIXELS).astype(np.int32).reshape(-1, 1, 2)


@lru_cache(maxsize=2000)
def _mask(words: str, size: int, bold: bool) -> np.ndarray:
    """(H, W) opacity in [0, 1]; all texts of a size are equally high, so that they share a line."""
    from PIL import Image, ImageDraw

    font = _font(size, bold)
    ascent, descent = font.getmetrics()
    picture = Image.new("L", (max(round(font.getlength(words)), 1) + 1, ascent + descent))
    ImageDraw.Draw(picture).text((0, 0), words, 255, font)
    return np.asarray(picture, np.float32) / 255


@lru_cache
def _font(size: int, bold: bool) -> Any:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def text_width(words: str, size: int, *, bold: bool = False) -> int:
    """In pixels."""
    return _mask(words, size, bold).shape[1]


def shorten(words: str, size: int, width: int) -> str:
    """Words that fit into so many pixels, cut with an ellipsis where they do not."""
    kept: Sequence[str] = words
    while text_width(words, size) > width and len(kept) > 1:
        kept = kept[:-1]
        words = f"{''.join(kept)}…"
    return words
