"""Protocols by name: those that any manifest can follow, and the way to those published for its corpus.

A protocol says which groups of clips test and validate in each fold; `avser.data.splits` divides the clips by it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avser.config import DataConfig
from avser.data.groups import (
    GROUPS,
    PARTS,
    Fold,
    check_fold,
    deal_order,
    group_names,
    interleave,
    num_taken,
    sex_by_speaker,
    speaker_key,
)
from avser.data.manifest import ClipRow
from avser.data.published import check_protocol, listed_fold, prescribed_fold, published_fold
from avser.errors import SplitError


def find_fold(rows: list[ClipRow], data: DataConfig) -> Fold:
    """The fold `data.fold` of the protocol that `data` names, for this manifest.

    Raises:
        SplitError: the protocol is unknown, made for another corpus, or asks for more than the manifest has.
        ConfigError: a published protocol contradicts itself.
    """
    if data.protocol in data.protocols:
        check_protocol(data.protocol, data.protocols[data.protocol])
        return published_fold(rows, data)
    if data.protocol not in PROTOCOLS:
        raise SplitError(
            f"data.protocol={data.protocol!r} is not known; known are {', '.join([*PROTOCOLS, *data.protocols])}"
        )
    return PROTOCOLS[data.protocol](rows, data)


def speaker_holdout(rows: list[ClipRow], data: DataConfig) -> Fold:
    """`test_share` of all speakers test, `val_share` of the others validate; both sexes in proportion where known."""
    sexes = sex_by_speaker(rows)
    if len(sexes) < 3:
        raise SplitError(
            f"speaker_holdout needs at least 3 speakers (train, val, test), the manifest has {len(sexes)}; "
            "add speakers, or prescribe parts in the manifest's `split` column and take data.protocol=manifest"
        )
    order = interleave(sexes, np.random.default_rng(data.split_seed))
    num_test = num_taken(len(order), data.test_share, "data.test_share", num_left=2)
    num_val = num_taken(len(order) - num_test, data.val_share, "data.val_share", num_left=1)
    settings = {"test": data.test_share, "val": data.val_share, "seed": data.split_seed}
    test, val = frozenset(order[:num_test]), frozenset(order[num_test : num_test + num_val])
    return Fold("speaker_holdout", settings, speaker_key, test, val)


def speaker_kfold(rows: list[ClipRow], data: DataConfig) -> Fold:
    """Speakers are dealt to `num_folds`; over all folds each of them tests exactly once."""
    return _kfold(rows, data, "speaker")


def group_kfold(rows: list[ClipRow], data: DataConfig) -> Fold:
    """As `speaker_kfold` for whatever `group_by` names: speakers, sessions or sentences stay together."""
    return _kfold(rows, data, data.group_by)


def leave_speaker_out(rows: list[ClipRow], data: DataConfig) -> Fold:
    """Every speaker, in order of name, is one fold's test."""
    return _leave_out(rows, data, "speaker")


def leave_session_out(rows: list[ClipRow], data: DataConfig) -> Fold:
    """Every session, in order of name, is one fold's test: people who talk to each other stay together."""
    return _leave_out(rows, data, "session")


def manifest_column(rows: list[ClipRow], _data: DataConfig) -> Fold:
    """The parts that the corpus prescribes in the manifest's `split` column."""
    blank = [row.clip_id for row in rows if not row.split]
    if blank:
        raise SplitError(
            f"data.protocol=manifest: {len(blank)} of {len(rows)} clips have an empty `split`, e.g. {blank[0]}; fill "
            "it with train, val or test, or take data.protocol=speaker_holdout"
        )
    given = {row.split for row in rows}
    for part in (part for part in PARTS if part not in given):
        advice = "take whole speakers out of train for it" if part == "val" else "name some in the `split` column"
        raise SplitError(
            f"data.protocol=manifest: no clip has split={part}; {advice}, or take data.protocol=speaker_holdout"
        )
    return prescribed_fold("manifest", lambda row: row.split)


def listed_clips(rows: list[ClipRow], data: DataConfig) -> Fold:
    """The parts that `data.split_file` lists clip by clip."""
    if not data.split_file:
        raise SplitError(
            f"data.protocol={data.protocol} needs data.split_file, a CSV with the columns clip_id and split (train, "
            "val, test)"
        )
    return listed_fold(rows, data)


PROTOCOLS: dict[str, Callable[[list[ClipRow], DataConfig], Fold]] = {
    "speaker_holdout": speaker_holdout,
    "speaker_kfold": speaker_kfold,
    "loso": leave_speaker_out,
    "session_kfold": leave_session_out,
    "group_kfold": group_kfold,
    "manifest": manifest_column,
    "split_file": listed_clips,
}


def _kfold(rows: list[ClipRow], data: DataConfig, column: str) -> Fold:
    groups = sex_by_speaker(rows) if column == "speaker" else dict.fromkeys(group_names(rows, column), "")
    if not 2 <= data.num_folds <= len(groups):
        raise SplitError(
            f"{data.protocol} with data.num_folds={data.num_folds} needs from 2 folds up to one a {column}; the "
            f"manifest has {len(groups)} {column}s"
        )
    check_fold(data, data.num_folds)
    order = deal_order(groups, data.split_seed)
    test = frozenset(group for i, group in enumerate(order) if i % data.num_folds == data.fold)
    settings: dict[str, float | str] = {"by": column} if data.protocol == "group_kfold" else {}
    settings |= {"fold": data.fold, "num_folds": data.num_folds}
    return Fold(data.protocol, settings, GROUPS[column], test, val_by=column)


def _leave_out(rows: list[ClipRow], data: DataConfig, column: str) -> Fold:
    names = group_names(rows, column)
    if len(names) < 2:
        raise SplitError(f"{data.protocol} needs at least 2 {column}s, the manifest has {len(names)}")
    check_fold(data, len(names))
    name = names[data.fold]
    note = f"fold {data.fold} of {len(names)}: {column} {name} tests"
    return Fold(data.protocol, {"fold": data.fold}, GROUPS[column], frozenset([name]), val_by=column, notes=[note])
