"""A recording as a video with its answer drawn in: faces, emotions, and the salience of voice and face along time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avser.errors import MediaError
from avser.media.canvas import Canvas, Colour, colour_of, shorten
from avser.media.container import time_zero_s
from avser.media.film import write_film
from avser.media.video import Frame, iterate_frames, probe
from avser.recordings.result import FaceBoxes, Recording, Stretch
from avser.recordings.timeline import cells_of
from avser.roi.report.plots import EMOTION_COLOURS, MODALITY_COLOURS, MODALITY_WORDS, OTHER_COLOUR
from avser.structures import Curve

PAPER, INK, FAINT, GRID = (250, 250, 248), (35, 38, 45), (125, 128, 135), (226, 226, 222)
WHITE = (255, 255, 255)
PICTURE_PX = 480  # height of the recording in the video
PANEL_PX, MARGIN_PX = 300, 18
RIBBON_PX, CURVE_PX = 26, 62
STRIP_PX = RIBBON_PX + 2 * (CURVE_PX + 12) + 50
WHOLE_S, AROUND_S = 15.0, 12.0  # longer recordings scroll, with so many seconds in view
MAX_FPS = 30.0
GAP_S = 0.25  # between two places of a face that it is taken to have moved evenly from one to the other


def write_video(
    recording: Recording, path: Path, *, progress: Callable[[float, float | None], None] = lambda done_s, of_s: None
) -> None:
    """Write the video; the sound is the recording's own.

    Raises:
        MediaError: the recording came as arrays, or holds no picture; or the video cannot be written.
    """
    if recording.path is None or not probe(recording.path).has_video:
        raise MediaError(f"{recording.name}: has no picture on disk, so there is no video to draw in")
    write_film(path, draw_frames(recording, progress), recording.path)


def draw_frames(
    recording: Recording, progress: Callable[[float, float | None], None] = lambda done_s, of_s: None
) -> Iterator[Frame]:
    """Every frame of the recording, at most 30 a second, with the answer around it."""
    assert recording.path is not None
    fast = (probe(recording.path).fps or 0) > MAX_FPS * 1.01
    sheet: _Sheet | None = None
    zero_s = time_zero_s(recording.path)
    for index, frame in enumerate(iterate_frames(recording.path, fps=MAX_FPS if fast else None, zero_s=zero_s)):
        sheet = sheet or _Sheet(recording, *frame.image.shape[:2])
        yield Frame(frame.time_s, sheet.draw(frame))
        if index % 300 == 0:
            progress(frame.time_s, recording.duration_s)


@dataclass(frozen=True)
class _Answers:
    """Rows by time, for one face or for the ones that lead."""

    starts: list[float]
    cells: list[Stretch]

    def at(self, time_s: float) -> Stretch | None:
        index = bisect_right(self.starts, time_s) - 1
        return self.cells[index] if index >= 0 else None


class _Sheet:
    """The page around the picture; what does not change is worked out once."""

    def __init__(self, recording: Recording, height: int, width: int) -> None:
        self._recording = recording
        self._scale = PICTURE_PX / height
        self._width = 2 * round(width * self._scale / 2)
        rows = recording.rows
        gaps = [(s.start_s, s.end_s) for s in recording.timeline if s.emotion is None]
        self._leading = _answers(cells_of([row for row in rows if row.leads], gaps))
        self._faces = {n: _answers(cells_of([row for row in rows if row.face == n])) for n in recording.boxes}
        self._peaks = {
            m: max(float(np.quantile(curve.values, 0.995)), 1e-12) if len(curve) else 1.0
            for m, curve in recording.summary.salience.items()
        }
        self._height = PICTURE_PX + STRIP_PX

    def draw(self, frame: Frame) -> np.ndarray:
        canvas = Canvas(self._width + PANEL_PX, self._height, PAPER)
        canvas.paste(frame.image, 0, 0, self._width, PICTURE_PX)
        self._draw_faces(canvas, frame.time_s)
        canvas.fill(self._width, 0, self._width + PANEL_PX, PICTURE_PX, PAPER)  # over labels that reach beyond
        self._draw_bars(canvas, frame.time_s)
        self._draw_strip(canvas, frame.time_s)
        return canvas.image

    def _draw_faces(self, canvas: Canvas, time_s: float) -> None:
        several = len(self._recording.faces) > 1
        for number, places in self._recording.boxes.items():
            box = _box_at(places, time_s)
            if box is None:
                continue
            x0, y0, x1, y1 = box * self._scale
            cell = self._faces[number].at(time_s)
            speaks = cell.speaks if cell else None
            colour = colour_of(_colour(cell.emotion if cell else None))
            canvas.frame(x0, y0, x1, y1, WHITE, 5 if speaks is not False else 3)
            canvas.frame(x0, y0, x1, y1, colour, 3 if speaks is not False else 1)
            said = f"{number}  " if several else ""
            said += f"{cell.emotion} {100 * cell.probabilities[cell.emotion]:.0f} %" if cell and cell.emotion else ""
            said += "  speaks" if speaks else ""
            if said:
                self._draw_label(canvas, said.strip(), x0, y0, colour)

    def _draw_label(self, canvas: Canvas, words: str, x: float, y: float, colour: Colour) -> None:
        words = shorten(words, 14, self._width - 12)
        middle = y - 14 if y > 26 else y + 14
        wide = canvas.text(words, -10_000, 0, 14, WHITE)
        x = min(max(x - 2, 2), self._width - wide - 14)
        canvas.fill(x, middle - 12, x + wide + 12, middle + 12, colour)
        canvas.text(words, x + 6, middle, 14, WHITE)

    def _draw_bars(self, canvas: Canvas, time_s: float) -> None:
        left, right = self._width + MARGIN_PX, self._width + PANEL_PX - MARGIN_PX
        cell = self._leading.at(time_s)
        emotion = cell.emotion if cell else None
        canvas.text(shorten(self._recording.name, 13, right - left), left, 26, 13, FAINT)
        if cell is None or emotion is None:
            canvas.text("no answer", left, 60, 26, FAINT, bold=True)
            canvas.text(cell.remark if cell else "", left, 88, 13, FAINT)
        else:
            canvas.text(emotion, left, 60, 26, colour_of(_colour(emotion)), bold=True)
            several = f"face {cell.face}, " if self._recording.faces and cell.face is not None else ""
            canvas.text(f"{several}{100 * cell.probabilities[emotion]:.0f} %", left, 88, 13, FAINT)
        step = min(46, (PICTURE_PX - 120) // max(len(self._recording.emotions), 1))
        for place, name in enumerate(self._recording.emotions):
            share = cell.probabilities.get(name, 0.0) if cell else 0.0
            y = 124 + place * step
            top = name == emotion
            canvas.text(name, left, y, 13, INK if top else FAINT, bold=top)
            canvas.text(f"{100 * share:.0f} %", right, y, 13, INK if top else FAINT, anchor="right", bold=top)
            canvas.fill(left, y + 11, right, y + 19, GRID)
            canvas.fill(left, y + 11, left + share * (right - left), y + 19, colour_of(_colour(name)))

    def _draw_strip(self, canvas: Canvas, time_s: float) -> None:
        whole_s = self._recording.duration_s
        begin_s, end_s = 0.0, max(whole_s, 0.1)
        if whole_s > WHOLE_S:
            begin_s = min(max(time_s - AROUND_S / 2, 0.0), whole_s - AROUND_S)
            end_s = begin_s + AROUND_S
        left, right = 78, self._width + PANEL_PX - MARGIN_PX

        def x_of(at_s: float | np.ndarray) -> np.ndarray:
            return left + (np.asarray(at_s) - begin_s) / (end_s - begin_s) * (right - left)

        y = PICTURE_PX + 12
        canvas.text("emotion", left - 10, y + RIBBON_PX / 2, 12, FAINT, anchor="right")
        for cell in self._recording.timeline:
            if cell.end_s > begin_s and cell.start_s < end_s:
                x0, x1 = (float(np.clip(x_of(t), left, right)) for t in (cell.start_s, cell.end_s))
                canvas.fill(x0, y, x1, y + RIBBON_PX, colour_of(_colour(cell.emotion)) if cell.emotion else GRID)
                words = cell.emotion or cell.remark
                if x1 - x0 > 30:
                    shown = shorten(words, 12, int(x1 - x0 - 8))
                    canvas.text(
                        shown, (x0 + x1) / 2, y + RIBBON_PX / 2, 12, WHITE if cell.emotion else FAINT, anchor="middle"
                    )
        y += RIBBON_PX + 12
        for modality in MODALITY_COLOURS:
            if modality in self._recording.summary.salience or modality in ("audio", "video"):
                self._draw_curve(canvas, modality, x_of, (begin_s, end_s), (left, right), y)
                y += CURVE_PX + 12
        self._draw_clock(canvas, x_of, (begin_s, end_s), y)
        x = float(x_of(time_s))
        canvas.line(np.array([(x, PICTURE_PX + 8), (x, y - 6)]), INK, 2)

    def _draw_curve(
        self,
        canvas: Canvas,
        modality: str,
        x_of: Callable[[float | np.ndarray], np.ndarray],
        shown_s: tuple[float, float],
        ends: tuple[int, int],
        y: float,
    ) -> None:
        colour, bottom = colour_of(MODALITY_COLOURS[modality]), y + CURVE_PX
        canvas.text(MODALITY_WORDS[modality], ends[0] - 10, y + CURVE_PX / 2, 13, colour, anchor="right", bold=True)
        canvas.fill(ends[0], y, ends[1], bottom, WHITE)
        summary = self._recording.summary
        for region in summary.regions.get(modality, ()):
            if region.end_s > shown_s[0] and region.start_s < shown_s[1]:
                x0, x1 = (float(np.clip(x_of(t), *ends)) for t in (region.start_s, region.end_s))
                canvas.fill(x0, y, x1, bottom, colour, 0.16)
                canvas.fill(x0, bottom - 4, x1, bottom, colour)
        curve = summary.salience.get(modality)
        if curve is None or not len(curve):
            canvas.text(
                f"no {MODALITY_WORDS[modality]}", (ends[0] + ends[1]) / 2, y + CURVE_PX / 2, 12, FAINT, anchor="middle"
            )
        else:
            _draw_runs(canvas, curve, self._peaks[modality], x_of, shown_s, ends, (y + 4, bottom - 6), colour)

    def _draw_clock(
        self,
        canvas: Canvas,
        x_of: Callable[[float | np.ndarray], np.ndarray],
        shown_s: tuple[float, float],
        y: float,
    ) -> None:
        every_s = next(step for step in (0.5, 1, 2, 5) if (shown_s[1] - shown_s[0]) / step <= 13 or step == 5)
        for number in range(int(np.ceil(shown_s[0] / every_s)), int(shown_s[1] / every_s) + 1):
            at_s = number * every_s
            minutes, seconds = divmod(at_s, 60)
            words = f"{int(minutes)}:{seconds:02.0f}" if shown_s[1] >= 60 else f"{at_s:g} s"
            canvas.text(words, float(x_of(at_s)), y + 4, 11, FAINT, anchor="middle")


def _draw_runs(
    canvas: Canvas,
    curve: Curve,
    peak: float,
    x_of: Callable[[float | np.ndarray], np.ndarray],
    shown_s: tuple[float, float],
    ends: tuple[int, int],
    levels: tuple[float, float],
    colour: Colour,
) -> None:
    """The curve, broken where there are no steps."""
    low, high = np.searchsorted(curve.times, shown_s)
    times = curve.times[max(low - 1, 0) : high + 1]
    values = np.clip(curve.values[max(low - 1, 0) : high + 1] / peak, 0, 1)
    if len(times) < 2:
        return
    step_s = float(np.median(np.diff(curve.times)))
    for run in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > 2.5 * step_s) + 1):
        x = np.clip(x_of(times[run]), *ends)
        line = np.stack([x, levels[1] - values[run] * (levels[1] - levels[0])], axis=1)
        foot = np.array([(x[-1], levels[1]), (x[0], levels[1])])
        canvas.area(np.concatenate([line, foot]), colour, 0.25)
        canvas.line(line, colour, 2)


def _answers(cells: list[Stretch]) -> _Answers:
    return _Answers([cell.start_s for cell in cells], cells)


def _box_at(places: FaceBoxes, time_s: float) -> np.ndarray | None:
    """(4,) at a moment; None where the face is not there."""
    after = int(np.searchsorted(places.times, time_s))
    before, after = max(after - 1, 0), min(after, len(places.times) - 1)
    if min(abs(places.times[before] - time_s), abs(places.times[after] - time_s)) > GAP_S / 2:
        return None
    between_s = places.times[after] - places.times[before]
    if between_s > GAP_S or between_s == 0:
        return places.boxes[
            before if abs(places.times[before] - time_s) <= abs(places.times[after] - time_s) else after
        ]
    share = np.clip((time_s - places.times[before]) / between_s, 0, 1)
    return (1 - share) * places.boxes[before] + share * places.boxes[after]


def _colour(emotion: str | None, colours: Mapping[str, str] = EMOTION_COLOURS) -> str:
    return colours.get(emotion or "", OTHER_COLOUR)
