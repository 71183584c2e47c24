"""Published splits: what a corpus's configuration lists under `data.protocols`, applied to its manifest."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

from avser.config import GENERAL_PROTOCOLS, DataConfig, ProtocolConfig
from avser.data.groups import GROUPS, PARTS, Fold, check_fold, group_names, natural_order
from avser.data.manifest import ClipRow
from avser.errors import ConfigError, SplitError


def check_protocol(name: str, protocol: ProtocolConfig) -> None:
    """Refuse lists that contradict themselves, with the place in the configuration.

    Raises:
        ConfigError: no fold, lists of different lengths, a range that is none, or a name in two parts of a fold.
    """
    key = f"data.protocols.{name}"
    if name in GENERAL_PROTOCOLS:
        raise ConfigError(f"{key}: this name means a protocol for any manifest; take another one")
    lists = {part: getattr(protocol, part) for part in PARTS}
    if protocol.by in ("split", "clips"):
        if named := [part for part in PARTS if lists[part]]:
            raise ConfigError(f"{key}.{named[0]}: by={protocol.by} takes no lists of names; remove it")
        return
    if not protocol.test:
        raise ConfigError(f"{key}.test: lists nobody; give one text of names a fold, e.g. ['01, 02', '03-06']")
    for part in PARTS:
        if wrong := [text for text in lists[part] if not isinstance(text, str)]:
            raise ConfigError(f"{key}.{part}: {wrong[0]} is no text; write a fold as one text, e.g. '01, 02, 05-08'")
    for part in ("train", "val"):
        if lists[part] and len(lists[part]) != len(protocol.test):
            raise ConfigError(f"{key}.{part}: has {len(lists[part])} folds, test has {len(protocol.test)}")
    for fold in range(len(protocol.test)):
        seen: dict[str, str] = {}
        for part in PARTS:
            for member in fold_names(lists[part][fold], f"{key}.{part}") if lists[part] else []:
                if member in seen:
                    raise ConfigError(f"{key}: fold {fold} has {member!r} in {seen[member]} and in {part}")
                seen[member] = part


def fold_names(text: str, key: str = "fold") -> list[str]:
    """The names in a fold's text: "03, 08-10" gives 03, 08, 09 and 10.

    Raises:
        ConfigError: the text holds no name, or a range that does not rise; starts with `key`.
    """
    names: list[str] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if match := re.fullmatch(r"(\d+)-(\d+)", word):
            first, last = int(match[1]), int(match[2])
            if first > last or last - first > 9999:
                raise ConfigError(f"{key}: the range {word!r} does not rise from a number to a larger one")
            names += [f"{number:0{len(match[1])}d}" for number in range(first, last + 1)]
        else:
            names.append(word)
    if not names:
        raise ConfigError(f"{key}: a fold without a name; give e.g. '01, 02' or '03-06'")
    return names


def published_fold(rows: list[ClipRow], data: DataConfig) -> Fold:
    """The fold `data.fold` of a published protocol.

    Raises:
        SplitError: the manifest is not of its corpus, a list of clips is missing or damaged, or there is no such fold.
    """
    name, protocol = data.protocol, data.protocols[data.protocol]
    if protocol.by == "split":
        blank = sum(not row.split for row in rows)
        notes = [f"{blank} clips have an empty `split`: left out"] if blank else []
        return prescribed_fold(name, lambda row: row.split, protocol, notes)
    if protocol.by == "clips":
        if not data.split_file:
            raise SplitError(_ask_for_list(name, protocol))
        return listed_fold(rows, data)
    check_fold(data, len(protocol.test))
    prefix, known = _named_in(rows, name, protocol)
    parts = {
        part: frozenset(prefix + member for member in fold_names(lists[data.fold]))
        for part in PARTS
        if (lists := getattr(protocol, part))
    }
    notes = []
    if protocol.train and (others := sorted(known - frozenset().union(*parts.values()))):
        notes = [f"{len(others)} {protocol.by}s are in no list of {name} and left out: {_some(others)}"]
    settings = {"fold": data.fold} if len(protocol.test) > 1 else {}
    return Fold(name, settings, GROUPS[protocol.by], **parts, val_by=protocol.val_by, published=protocol, notes=notes)


def _named_in(rows: list[ClipRow], name: str, protocol: ProtocolConfig) -> tuple[str, frozenset[str]]:
    """What stands before a name in a group, and all groups of the manifest; every name listed must be one of them."""
    groups = frozenset(group_names(rows, protocol.by))
    corpora = sorted({row.corpus for row in rows})
    if len(corpora) > 1:
        raise SplitError(
            f"data.protocol={name} is published for one corpus, the manifest holds {', '.join(corpora)}; take a "
            "general protocol such as speaker_kfold"
        )
    prefix = "" if protocol.by == "sentence" else f"{corpora[0]}/"
    texts = [text for part in PARTS for text in getattr(protocol, part)]
    listed = {member for text in texts for member in fold_names(text)}
    if missing := sorted((n for n in listed if prefix + n not in groups), key=natural_order):
        raise SplitError(
            f"data.protocol={name} names {len(missing)} {protocol.by}s that the manifest of {corpora[0]} does not "
            f"have: {_some(missing)}. It is made for the complete corpus ({protocol.source}); for another corpus or a "
            "part of this one take speaker_kfold. (Names that begin with 0 need quotes in YAML.)"
        )
    return prefix, groups


def prescribed_fold(
    name: str,
    part_of: Callable[[ClipRow], str],
    published: ProtocolConfig | None = None,
    notes: list[str] | None = None,
) -> Fold:
    """The fold whose parts are written beside the clips."""
    test, val, train = (frozenset([part]) for part in ("test", "val", "train"))
    return Fold(name, {}, part_of, test, val, train, published=published, notes=notes or [])


def _ask_for_list(name: str, protocol: ProtocolConfig) -> str:
    shared = "; its parts share speakers, so it needs data.allow_shared_speakers=true too"
    return (
        f"data.protocol={name} lists clips ({protocol.source}), and the list is not part of avser: get it there and "
        "give data.split_file=FILE, a CSV with the columns clip_id and split (train, val, test)"
        f"{shared if protocol.speakers_disjoint is False else ''}"
    )


def listed_fold(rows: list[ClipRow], data: DataConfig) -> Fold:
    """The fold whose parts stand in `data.split_file`, clip by clip."""
    parts = read_split_file(data.split_file)
    absent = sorted(parts.keys() - {row.clip_id for row in rows})
    if len(absent) == len(parts):
        raise SplitError(f"{data.split_file}: none of its clips is in the manifest, e.g. {_some(absent) or 'none'}")
    notes = [f"{len(absent)} of {len(parts)} clips in {data.split_file} are not there: {_some(absent)}"]
    return prescribed_fold(
        data.protocol,
        lambda row: parts.get(row.clip_id, ""),
        data.protocols.get(data.protocol),
        notes if absent else [],
    )


def read_split_file(path: str | Path) -> dict[str, str]:
    """clip_id -> train, val or test, from a CSV with the columns `clip_id` and `split`.

    Raises:
        SplitError: names the file, the line and the column of the first fault.
    """
    parts: dict[str, str] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [c for c in ("clip_id", "split") if c not in (reader.fieldnames or [])]:
                raise SplitError(f"{path}: column {missing[0]!r} is missing; it needs clip_id and split")
            for cells in reader:
                clip_id, part = cells["clip_id"], cells["split"]
                if part not in PARTS:
                    raise SplitError(
                        f"{path}, line {reader.line_num}, column split: got {part!r}, allowed: {', '.join(PARTS)}"
                    )
                if not clip_id or clip_id in parts:
                    raise SplitError(
                        f"{path}, line {reader.line_num}, column clip_id: {clip_id!r} is empty or there twice"
                    )
                parts[clip_id] = part
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SplitError(
            f"{path}: not readable as CSV ({error}); data.split_file is a CSV of clip_id, split"
        ) from error
    return parts


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
