"""What a leaderboard is to train: its rows out of names and variants, the folds of its protocol, one run of each."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from avser.config import Config
from avser.data.groups import group_names
from avser.data.labels import label_clips
from avser.data.manifest import read_manifest
from avser.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """What a row trains: a named configuration, and what a variant of it changes."""

    system: str
    variant: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The row's name and its folder: system, or system-variant."""
        return "-".join(filter(None, (Path(self.system).stem, self.variant)))


@dataclass(frozen=True)
class Join:
    """A row of other rows, by their names."""

    entry: Entry
    parts: tuple[str, ...]


def read_entries(systems: Sequence[str], variants: Path | None) -> list[Entry]:
    """The rows that a command line asks for.

    Raises:
        ConfigError: an unknown variant, a faulty file, or the same row twice.
    """
    known = _read_variants(variants) if variants else {}
    entries = []
    for text in systems:
        system, _, variant = text.partition(":")
        theirs = known.get(Path(system).stem, {})
        if variant and variant not in theirs:
            known_ones = ", ".join(sorted(theirs)) or "none"
            where = f"{variants} has for it: {known_ones}" if variants else "give --variants FILE.yaml"
            raise ConfigError(f"{text}: {Path(system).stem} has no variant {variant!r}; {where}")
        entries.append(Entry(system, variant, tuple(theirs[variant]) if variant else ()))
    names = [entry.name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{', '.join(twice)}: asked for twice; every row needs a name of its own")
    return entries


def read_joins(joins: Iterable[Sequence[str]], entries: Sequence[Entry]) -> list[Join]:
    """Rows of other rows: a name, and the rows joined by "+"; `system:variant` is understood too.

    Raises:
        ConfigError: fewer than two rows, one that is not on the board, or a name that is taken.
    """
    names = [entry.name for entry in entries]
    found: list[Join] = []
    for name, text in joins:
        parts = tuple(part.replace(":", "-") for part in text.split("+"))
        if unknown := [part for part in parts if part not in names]:
            raise ConfigError(f"{name} of {text}: no row {unknown[0]!r}; rows are {', '.join(names)}")
        if len(set(parts)) < 2 or len(set(parts)) < len(parts):
            raise ConfigError(f"{name} of {text}: name two rows or more, each once, with + between them")
        if name in names or name in [join.entry.name for join in found]:
            raise ConfigError(f"{name} of {text}: there is a row of that name already; choose another")
        found.append(Join(Entry(name), parts))
    return found


def find_pair(pair: Sequence[str], entries: Sequence[Entry]) -> tuple[str, str]:
    """Two rows by name; `system:variant` is understood too.

    Raises:
        ConfigError: one of them is not on the board.
    """
    names = [entry.name for entry in entries]
    first, second = (text.replace(":", "-") for text in pair)
    for name in (first, second):
        if name not in names:
            raise ConfigError(f"comparison of {first} and {second}: no row {name!r}; rows are {', '.join(names)}")
    return first, second


def count_folds(config: Config) -> int:
    """How many folds the protocol of a configuration has.

    Raises:
        AvserError: the manifest is needed for it, and cannot be read.
    """
    data = config.data
    if data.protocol in data.protocols:
        return max(1, len(data.protocols[data.protocol].test))
    if data.protocol in ("speaker_kfold", "group_kfold"):
        return data.num_folds
    column = {"loso": "speaker", "session_kfold": "session"}.get(data.protocol)
    if column is None:
        return 1
    return len(group_names(label_clips(read_manifest(data.manifest).rows, data).rows, column))


def run_config(config: Config, name: str, cell: tuple[int, int], out: Path) -> Config:
    """A row's configuration in one fold with one seed, to be trained below `out`/runs."""
    run = copy.deepcopy(config)
    run.data.fold, run.seed = cell
    run.runs, run.name = str(out / "runs"), f"{name}/fold{cell[0]}-seed{cell[1]}"
    return run


def _read_variants(path: Path) -> dict[str, dict[str, list[str]]]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {str(error).splitlines()[0]}") from error
    is_map = isinstance(found, dict) and all(isinstance(theirs, dict) for theirs in found.values())
    lists = [overrides for theirs in found.values() for overrides in theirs.values()] if is_map else [None]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise ConfigError(
            f"{path}: write a system, below it its variants, each a list of key=value, e.g.\n"
            'att_fcn:\n  mean: ["model.options.temperature=0"]'
        )
    return found
