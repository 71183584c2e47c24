"""Salience curves that another tool computed, read from CSV: one row a step, or one row a clip with a list.

    long:  clip_id,time_s,weight      or  clip_id,frame,weight; a column `modality` may stand beside them
    wide:  clip_id,weights            with lists like "[0.1, 0.7, 0.2]"; the header may be missing

Instead of `clip_id` the column may be called `clip`. Other columns are not read. Weights are left as they are: signed
if they are signed, and with the sum that they have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avser.errors import ConfigError, ManifestError
from avser.roi.exchange.csv_lines import Lines, read_columns, read_lines, read_number, read_numbers
from avser.structures import FUSED, MODALITIES, Curve

CLIP_COLUMNS = ("clip_id", "clip")
ROUNDING_S = 1e-6
PADDING = "zeros at the end of the list, taken for padding"
BEYOND = "steps after the clip's end"
NOT_MATCHED = "the name does not match `rename`"
NOT_KNOWN = "the name means no known clip"
OTHER_MODALITY = "of another modality"


@dataclass(frozen=True)
class LeftOut:
    """Steps of one row or clip that are in no curve.

    Attributes:
        path, line: where they stand; of several lines the first.
        name: of the clip, as the file has it.
        reason: one of the sentences at the head of this module.
        num_steps: how many.
        share: of the sum of the clip's absolute weights that they hold; 1 where the clip gives no curve at all.
    """

    path: Path
    line: int
    name: str
    reason: str
    num_steps: int
    share: float


@dataclass
class ImportedCurves:
    """Curves by clip id, and what of the files is in none of them."""

    curves: dict[str, Curve]
    left_out: list[LeftOut] = field(default_factory=list)

    def summary(self) -> list[str]:
        """A sentence for each reason to leave something out, with the clip that loses most."""
        sentences = []
        for reason in dict.fromkeys(part.reason for part in self.left_out):
            parts = [part for part in self.left_out if part.reason == reason]
            worst = max(parts, key=lambda part: part.share)
            most = f"; most from {worst.name!r}: {100 * worst.share:.2g} % of its weight" if worst.share else ""
            steps = sum(part.num_steps for part in parts)
            sentences.append(f"{reason}: {steps} steps under {len({p.name for p in parts})} names{most}")
        return sentences


@dataclass
class _Row:
    """Steps of one clip as the file has them; `lines` (T,) are their places, `frame_s` is 0 where times are given."""

    path: Path
    name: str
    modality: str
    frame_s: float
    is_list: bool
    lines: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def left_out(self, reason: str, kept: int = 0) -> LeftOut:
        """All steps from number `kept` on."""
        size = np.abs(self.weights)
        share = float(size[kept:].sum() / size.sum()) if kept and size.any() else float(not kept)
        return LeftOut(self.path, self.lines[0], self.name, reason, len(size) - kept, share)

    def cut(self, kept: int) -> None:
        del self.lines[kept:], self.times[kept:], self.weights[kept:]


def read_curves(
    paths: str | Path | Sequence[str | Path],
    *,
    frame_rate_hz: float | None = None,
    durations: Mapping[str, float] | None = None,
    rename: str | None = None,
    modality: str | None = None,
    first_frame: int = 0,
    zero_padded: bool = True,
    ignore_unknown: bool = False,
) -> ImportedCurves:
    """Read the curves of one file or of several that belong together, such as the folds of one study.

    Args:
        frame_rate_hz: needed where a file counts frames; frame i is at i / frame_rate_hz, as timestamps of video are.
        durations: clip id -> seconds, of all clips that are known; without, every name is a clip.
        rename: regular expression for the whole name, whose first group is the clip id; names that it does not match
            are left out. '0[123]-(.+)[.]csv' makes clip 01-08-02 of the name 01-01-08-02.csv.
        modality: the one to read, where a file has a column for it and holds several.
        first_frame: number that the column `frame` gives a clip's first frame.
        zero_padded: lists were padded with zeros, which no softmax gives to a frame: zeros at the end are no steps.
        ignore_unknown: leave names out that mean no clip in `durations`, instead of refusing the file.

    Returns:
        The curves, in the files' order, each with its own steps inside 0..duration, and what was left out.

    Raises:
        ManifestError: no such table; a number that is none, a time below 0 or not after the one before it, an empty
            list, a clip twice, an unknown clip, more than half of a curve after its clip's end, or no curve at all.
        ConfigError: `rename` is no expression with a group, or a frame rate is missing or not above 0.
    """
    _check_settings(frame_rate_hz, rename, modality, durations or {})
    files = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    found, first = ImportedCurves({}), dict[str, _Row]()
    for row in (row for path in files for row in _rows_of(path, frame_rate_hz, first_frame, modality, found.left_out)):
        clip_id = _clip_id(row.name, rename)
        if clip_id is None:
            found.left_out.append(row.left_out(NOT_MATCHED))
        elif durations is not None and clip_id not in durations:
            if not ignore_unknown:
                raise ManifestError(_unknown(row, clip_id, rename, durations))
            found.left_out.append(row.left_out(NOT_KNOWN))
        elif clip_id in first:
            raise ManifestError(_doubled(first[clip_id], row, clip_id))
        else:
            first[clip_id] = row
            found.left_out += _trim(row, zero_padded, None if durations is None else durations[clip_id])
            found.curves[clip_id] = Curve(np.array(row.times), np.array(row.weights))
    if not found.curves:
        why = "; ".join(found.summary()) or "no file was given"
        raise ManifestError(f"{', '.join(map(str, files))}: no curve could be read ({why})")
    return found


# --- files to rows -----------------------------------------------------------------------------------------------


def _rows_of(
    path: Path, rate_hz: float | None, first_frame: int, modality: str | None, left_out: list[LeftOut]
) -> Iterator[_Row]:
    """The clips of one file; those of other modalities go to `left_out`."""
    lines = read_lines(path)
    if len(lines[0][1]) == 2 and lines[0][1][1].lstrip()[:1] in ("[", "("):
        yield from _wide(path, lines, 0, 1, None, _needed(path, rate_hz))
        return
    columns = read_columns(path, lines)
    name, body = next((columns.index(c) for c in CLIP_COLUMNS if c in columns), None), lines[1:]
    weight = next((columns.index(c) for c in ("weight", "weights") if c in columns), None)
    if name is None or weight is None or not body:
        raise ManifestError(
            f"{path}: no table of curves; it needs the columns {' or '.join(CLIP_COLUMNS)}, time_s or frame, and "
            f"weight, or a clip and its list of weights a row; the first line is {', '.join(columns)[:200]!r}"
        )
    kind = columns.index("modality") if "modality" in columns else None
    if columns[weight] == "weights" or body[0][1][weight].lstrip()[:1] in ("[", "("):
        rows = list(_wide(path, body, name, weight, kind, _needed(path, rate_hz)))
    else:
        rows = _long(path, body, columns, (name, weight, kind), rate_hz, first_frame)
    present = sorted({row.modality for row in rows})
    if kind is not None and (len(present) > 1 if modality is None else modality not in present):
        raise ManifestError(f"{path}: has curves of {', '.join(present)}; say by `modality` which of them to read")
    chosen = modality if kind is not None and modality is not None else present[0]
    left_out += [row.left_out(OTHER_MODALITY) for row in rows if row.modality != chosen]
    yield from (row for row in rows if row.modality == chosen)


def _wide(path: Path, lines: Lines, name: int, weight: int, kind: int | None, rate_hz: float) -> Iterator[_Row]:
    for number, cells in lines:
        place = f"{path}, line {number}"
        if len(cells) <= max(name, weight, kind or 0):
            raise ManifestError(f"{place}: {len(cells)} cells; it needs the clip's name and its list in double quotes")
        weights = read_numbers(cells[weight], place)
        times = [i / rate_hz for i in range(len(weights))]
        spoken = "" if kind is None else _modality(cells[kind], place)
        called = _name(cells[name], place)
        yield _Row(path, called, spoken, 1 / rate_hz, True, [number] * len(weights), times, weights)


def _long(
    path: Path,
    lines: Lines,
    columns: Sequence[str],
    indices: tuple[int, int, int | None],
    rate_hz: float | None,
    first_frame: int,
) -> list[_Row]:
    """Rows of one clip may stand apart; their times increase in the order of the file."""
    name, weight, kind = indices
    when = next((columns.index(c) for c in ("time_s", "frame") if c in columns), None)
    if when is None:
        raise ManifestError(f"{path}: no column says when each step is; add time_s (seconds) or frame (a count)")
    counted = columns[when] == "frame"
    scale = 1 / _needed(path, rate_hz) if counted else 1.0
    rows = dict[tuple[str, str], _Row]()
    for number, cells in lines:
        place = f"{path}, line {number}"
        key = (_name(cells[name], place), "" if kind is None else _modality(cells[kind], place))
        row = rows.setdefault(key, _Row(path, *key, scale * counted, False))
        at = read_number(cells[when], f"{place}, column {columns[when]}")
        if counted and at != int(at):
            raise ManifestError(f"{place}, column frame: got {cells[when]!r}, expected a whole number")
        time_s = (at - first_frame * counted) * scale
        if time_s < 0:
            hint = f"frames count from {first_frame}" if counted else "seconds count from the clip's start"
            raise ManifestError(f"{place}, column {columns[when]}: got {cells[when]!r}; {hint}")
        if row.times and time_s <= row.times[-1]:
            raise ManifestError(
                f"{place}: clip {key[0]!r} goes back from {row.times[-1]:g} s to {time_s:g} s (line {row.lines[-1]}); "
                "sort its rows by time, and keep one row a step and one curve a clip"
            )
        row.lines.append(number)
        row.times.append(time_s)
        row.weights.append(read_number(cells[weight], f"{place}, column {columns[weight]}"))
    return list(rows.values())


# --- rows to curves ----------------------------------------------------------------------------------------------


def _trim(row: _Row, zero_padded: bool, end_s: float | None) -> list[LeftOut]:
    """Cut a row to the clip's own steps; what was cut."""
    place, parts = f"{row.path}, line {row.lines[0]}: clip {row.name!r}", []
    if row.is_list and zero_padded:
        num = int(np.flatnonzero(row.weights).max(initial=-1)) + 1
        if not num:
            raise ManifestError(f"{place} has nothing but zeros; take the row out, or give its real weights")
        if num < len(row.weights):
            parts.append(row.left_out(PADDING, num))
            row.cut(num)
    if end_s is not None:
        # a clip has round(duration * rate) frames: one that begins less than half a frame before the end is none of it
        num = int(np.searchsorted(row.times, end_s - row.frame_s / 2 + ROUNDING_S))
        if 2 * num < len(row.times):
            raise ManifestError(
                f"{place}: {len(row.times) - num} of its {len(row.times)} steps come after its end at {end_s:g} s; is "
                "the frame rate right, are the times in seconds, is it the same recording?"
            )
        if num < len(row.times):
            parts.append(row.left_out(BEYOND, num))
            row.cut(num)
    return parts


def _clip_id(name: str, rename: str | None) -> str | None:
    if rename is None:
        return name
    matched = re.fullmatch(rename, name)
    return matched[1] if matched else None


def _unknown(row: _Row, clip_id: str, rename: str | None, durations: Mapping[str, float]) -> str:
    means = "" if rename is None else f" means {clip_id!r}, which"
    return (
        f"{row.path}, line {row.lines[0]}: {row.name!r}{means} is no known clip; known are {len(durations)}, such as "
        f"{next(iter(durations), None)!r}; say by `rename` how a name holds the id, or pass ignore_unknown"
    )


def _doubled(first: _Row, second: _Row, clip_id: str) -> str:
    where = f"{first.path}, line {first.lines[0]}"
    return (
        f"{second.path}, line {second.lines[0]}: {second.name!r} and {first.name!r} ({where}) both mean clip "
        f"{clip_id!r}; take one out, or make `rename` more exact"
    )


def _name(text: str, place: str) -> str:
    if not text.strip():
        raise ManifestError(f"{place}: the clip's name is empty")
    return text.strip()


def _modality(text: str, place: str) -> str:
    if text.strip() not in (*MODALITIES, FUSED):
        raise ManifestError(f"{place}, column modality: got {text!r}, allowed: {', '.join((*MODALITIES, FUSED))}")
    return text.strip()


def _needed(path: Path, rate_hz: float | None) -> float:
    if rate_hz is None:
        raise ConfigError(f"{path}: counts frames; say by frame_rate_hz how many there are a second")
    return rate_hz


def _check_settings(
    rate_hz: float | None, rename: str | None, modality: str | None, durations: Mapping[str, float]
) -> None:
    if rate_hz is not None and not 0 < rate_hz < np.inf:
        raise ConfigError(f"frame_rate_hz={rate_hz!r}: must be a number above 0")
    if modality is not None and modality not in (*MODALITIES, FUSED):
        raise ConfigError(f"modality={modality!r}: allowed are {', '.join((*MODALITIES, FUSED))}")
    if wrong := [clip_id for clip_id, end_s in durations.items() if not 0 < end_s < np.inf]:
        raise ConfigError(f"durations: clip {wrong[0]!r} lasts {durations[wrong[0]]!r} s; give seconds above 0")
    try:
        if rename is not None and not re.compile(rename).groups:
            raise ConfigError(f"rename={rename!r}: needs one group in brackets, e.g. '01-(.+)'")
    except re.error as error:
        raise ConfigError(f"rename={rename!r}: no regular expression ({error})") from error
