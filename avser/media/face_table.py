"""Reads what another program measured on a face: a table of its frames (OpenFace), or one row for the whole clip."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import numpy as np

from avser.errors import MediaError
from avser.media.container import check_present
from avser.structures import FeatureTrack

CLIP_COLUMN, TIME_COLUMN, FOUND_COLUMN, FACE_COLUMN = "clip_id", "timestamp", "success", "face_id"
ROUNDING_S = 1e-9
MAX_BYTES = 2**30  # an hour of OpenFace's full output is about 0.3 GB


@dataclass(frozen=True)
class FaceTable:
    """A table as text.

    Attributes:
        path: of the file.
        columns: its header, without the blanks that OpenFace puts before the names.
        lines: (line number, cells) of every row that is not blank.
    """

    path: Path
    columns: list[str]
    lines: list[tuple[int, list[str]]]

    def column(self, name: str) -> int | None:
        return self.columns.index(name) if name in self.columns else None


def read_face_features(
    path: Path,
    clip_id: str,
    columns: Sequence[str],
    *,
    duration_s: float = 0.0,
    fps: float | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> tuple[FeatureTrack, list[str]]:
    """The rows of a clip, and sentences on what was lost.

    Args:
        path: CSV with a header, cut by commas or semicolons. With a column `timestamp` (seconds) a row is a frame, as
            OpenFace writes it; `success` then says whether a face was seen, and of several `face_id` the one that is
            seen most often is taken. Without, a clip has one row, which is one step in its middle. With a column
            `clip_id` one table serves many clips.
        columns: which ones are features, as shell patterns, e.g. ["AU*_r", "AU*_c"]; in the order of the table.
        duration_s: of the clip; a single row is put at half of it.
        fps: rows kept a second, the nearest to each time k / fps; None for all.
        start_s, end_s: the part of the recording that is the clip; time 0 is then `start_s`.

    Raises:
        MediaError: missing, no such table, no matching column, no row of the clip, or a cell that is no number; names
            the line and the column.
    """
    check_present(path)
    stat = path.stat()
    table = _load(path, stat.st_size, stat.st_mtime_ns)
    names = [name for name in table.columns if any(fnmatchcase(name, pattern) for pattern in columns)]
    if not names:
        raise MediaError(
            f"{path}: no column is called {' or '.join(columns)}; the table has {', '.join(table.columns[:12])}, ...; "
            "set media.face_features"
        )
    lines, warnings = _lines_of(table, clip_id)
    values = _numbers(table, lines, names)
    found = np.isfinite(values).all(axis=1)
    if table.column(FOUND_COLUMN) is not None:
        found &= _numbers(table, lines, [FOUND_COLUMN])[:, 0] > 0
    times = _times(table, lines, duration_s)
    kept = _kept(times, fps, start_s or 0.0, math.inf if end_s is None else end_s)
    if not len(kept):
        raise MediaError(f"{path}: no row of clip {clip_id} between {start_s} s and {end_s} s")
    if missing := int((~found[kept]).sum()):
        warnings.append(f"{path.name}: no face features in {missing} of {len(kept)} steps")
    track = FeatureTrack(
        times[kept] - (start_s or 0.0) * (table.column(TIME_COLUMN) is not None),
        np.where(found[kept, None], values[kept], 0.0).astype(np.float32),
        found[kept],
        names,
    )
    return track, warnings


def read_face_table(path: Path) -> FaceTable:
    """The whole table.

    Raises:
        MediaError: no text in UTF-8, no header, a name twice, or a row that is longer or shorter than the header.
    """
    if path.stat().st_size > MAX_BYTES:
        raise MediaError(f"{path}: a table of more than {MAX_BYTES / 2**30:g} GB; cut it into one a clip")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: not readable as text ({error}); write the table as CSV in UTF-8") from error
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    lines = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if len(cells) == len(columns):
                lines.append((reader.line_num, [cell.strip() for cell in cells]))
            elif cells:
                raise MediaError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under {len(columns)} columns; the file was "
                    "cut short or is damaged"
                )
    except csv.Error as error:
        raise MediaError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from error
    if not columns or not lines:
        raise MediaError(f"{path}: no table; it needs a header and at least one row")
    if doubled := [name for name, n in Counter(columns).items() if n > 1]:
        raise MediaError(f"{path}: two columns are called {doubled[0]!r}; rename one")
    return FaceTable(path, columns, lines)


@lru_cache(maxsize=2)
def _load(path: Path, _size: int, _changed_ns: int) -> FaceTable:
    """One table may hold a whole corpus: it is read once for all of its clips."""
    return read_face_table(path)


def _lines_of(table: FaceTable, clip_id: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """The rows of one clip, of the face that is there most often; and what was passed over."""
    lines, warnings = table.lines, []
    if (index := table.column(CLIP_COLUMN)) is not None:
        lines = [line for line in lines if line[1][index] == clip_id]
    if not lines:
        raise MediaError(f"{table.path}: has no row of clip {clip_id}")
    if (index := table.column(FACE_COLUMN)) is not None:
        seen = Counter(cells[index] for _, cells in lines).most_common()
        lines = [line for line in lines if line[1][index] == seen[0][0]]
        if len(seen) > 1:
            warnings.append(f"{table.path.name}: {len(seen)} faces; took face_id {seen[0][0]}, which has most rows")
    return lines, warnings


def _numbers(table: FaceTable, lines: Sequence[tuple[int, list[str]]], names: Sequence[str]) -> np.ndarray:
    """(rows, names) float64; empty cells are NaN."""
    indices = [table.columns.index(name) for name in names]
    values = np.full((len(lines), len(names)), np.nan)
    for row, (number, cells) in enumerate(lines):
        for place, index in enumerate(indices):
            try:
                values[row, place] = float(cells[index] or "nan")
            except ValueError as error:
                raise MediaError(
                    f"{table.path}, line {number}, column {table.columns[index]}: {cells[index]!r} is no number"
                ) from error
    return values


def _times(table: FaceTable, lines: Sequence[tuple[int, list[str]]], duration_s: float) -> np.ndarray:
    """(rows,) seconds by the recording's clock, increasing."""
    if table.column(TIME_COLUMN) is None:
        if len(lines) > 1:
            raise MediaError(
                f"{table.path}: {len(lines)} rows for one clip, and no column {TIME_COLUMN!r} that says when each is"
            )
        return np.array([duration_s / 2])
    times = _numbers(table, lines, [TIME_COLUMN])[:, 0]
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise MediaError(f"{table.path}, column {TIME_COLUMN}: the seconds of a clip must increase from row to row")
    return times


def _kept(times: np.ndarray, fps: float | None, start_s: float, end_s: float) -> np.ndarray:
    """Indices of the rows inside the clip, thinned to `fps`; a single row is the whole clip's."""
    if len(times) == 1:
        return np.array([0])
    inside = np.flatnonzero((times >= start_s) & (times < end_s))
    if fps is None or not len(inside):
        return inside
    grid = np.arange(start_s, times[inside[-1]] + ROUNDING_S, 1 / fps)
    right = np.searchsorted(times[inside], grid).clip(1, max(len(inside) - 1, 1))
    nearer_left = grid - times[inside[right - 1]] <= times[inside[right.clip(max=len(inside) - 1)]] - grid
    return np.unique(inside[np.where(nearer_left, right - 1, right).clip(max=len(inside) - 1)])
