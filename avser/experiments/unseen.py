"""Keeps experiments honest: a model is judged only on clips that it was neither trained nor chosen on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from avser.data.splits import Split
from avser.errors import CheckpointError, SplitError


def check_unseen(run: Path, clip_ids: Iterable[str]) -> None:
    """Refuse to judge a run's model on clips that it has seen, by the split that it was trained with.

    Raises:
        CheckpointError: the run trained or validated on one of the clips, or its split.json is missing or damaged.
    """
    split = read_split(run)
    clip_ids = list(clip_ids)
    seen = {*split.train, *split.val}
    if leaked := [clip_id for clip_id in clip_ids if clip_id in seen]:
        raise CheckpointError(
            f"{run}: was trained or validated on {len(leaked)} of the {len(clip_ids)} test clips, e.g. {leaked[0]}; "
            "compare runs of one and the same split, with the manifest and cache that they were trained with"
        )


def read_split(run: Path) -> Split:
    """The split that a run was trained with.

    Raises:
        CheckpointError: split.json is missing or damaged.
    """
    path = run / "split.json"
    try:
        return Split.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; without it nobody knows which clips the model has seen") from error
    except (OSError, ValueError, RecursionError, SplitError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); copy it anew from where the run was made") from error
