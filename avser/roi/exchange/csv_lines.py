"""CSV files as lines with their numbers, so that every fault can be named by its place."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np

from avser.errors import ManifestError

Lines = list[tuple[int, list[str]]]  # (number as an editor counts, cells as they stand) of every line not blank

MAX_BYTES = 2**27  # the weights of some 15 hours at 100 a second, one row each
MAX_LIST_CHARS = 2**17  # as much as a cell of a CSV file may hold; some 6000 weights


def read_lines(path: Path) -> Lines:
    """The lines of a CSV file, cut by commas, semicolons or tabs, whichever the first line has most of.

    Raises:
        ManifestError: missing, no text in UTF-8, too large, broken quotes, or nothing in it.
    """
    text = read_text(path)
    head = text.partition("\n")[0].partition("[")[0]  # the commas of a list separate nothing but its items
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ManifestError(
            f"{path}, line {reader.line_num}: not readable as CSV ({error}); put texts that hold the separator in "
            f"double quotes, and give a list of more than {csv.field_size_limit()} characters one row a step"
        ) from error
    if not lines:
        raise ManifestError(f"{path}: empty; it needs at least one row")
    return lines


def read_text(path: Path) -> str:
    """A text file in UTF-8.

    Raises:
        ManifestError: missing, too large, or no such text.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path}: more than {MAX_BYTES >> 20} MB; cut it into several files")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not readable as text ({error}); save it in UTF-8") from error


def read_columns(path: Path, lines: Lines) -> list[str]:
    """The names in the first line, each once; every other line has as many cells.

    Raises:
        ManifestError: a name twice, or a line of another length.
    """
    columns = [cell.strip() for cell in lines[0][1]]
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise ManifestError(f"{path}, line {lines[0][0]}: two columns are called {twice[0]!r}; rename one")
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise ManifestError(
                f"{path}, line {number}: {len(cells)} cells under {len(columns)} columns; the file was cut short, or "
                "a text that holds the separator is not in double quotes"
            )
    return columns


def read_number(text: str, place: str) -> float:
    """A finite number.

    Raises:
        ManifestError: it is none; `place` says where that stands.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ManifestError(f"{place}: got {text.strip()[:40]!r}, expected a finite number with a decimal point")
    return value


def read_numbers(text: str, place: str) -> list[float]:
    """The numbers of a list as JSON or Python write it; the text is parsed as data, never run.

    Raises:
        ManifestError: no such list, empty, too long, nested, or with an item that is no finite number.
    """
    text = text.strip()
    expected = "expected one list of numbers such as [0.1, 0.7, 0.2]"
    if len(text) > MAX_LIST_CHARS:
        raise ManifestError(f"{place}: a list of {len(text)} characters; give such a clip one row a step")
    if text[:1] not in ("[", "("):
        raise ManifestError(f"{place}: got {text[:40]!r}, {expected}")
    try:
        try:
            items = json.loads(text)
        except ValueError:
            items = ast.literal_eval(text)
        if not isinstance(items, Collection) or any(type(item) not in (int, float) for item in items):
            raise ManifestError(f"{place}: got {text[:40]!r} with items that are no numbers; {expected}")
        weights = [float(item) for item in items]
    except (ValueError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
        raise ManifestError(f"{place}: got {text[:40]!r}, not readable ({type(error).__name__}); {expected}") from error
    if not weights:
        raise ManifestError(f"{place}: an empty list; a clip needs a weight for each of its steps")
    if not np.isfinite(weights).all():
        index = int(np.flatnonzero(~np.isfinite(weights))[0])
        raise ManifestError(f"{place}: weight {index + 1} of {len(weights)} is {weights[index]}; weights are finite")
    return weights
