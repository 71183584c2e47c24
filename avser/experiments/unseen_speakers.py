"""Keeps questions to a trained model honest on other corpora too: about nobody whom it was trained or validated on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avser.config import Config
from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow, read_manifest
from avser.data.splits import Split
from avser.errors import CheckpointError, ManifestError, SplitError
from avser.inference import TrainedModel

SPLICED = "_splice"  # what `preprocessing.splice` adds to the name of a corpus whose takes it joins


def check_unseen_speakers(model: TrainedModel, rows: Sequence[ClipRow]) -> None:
    """Refuse to ask a model about people whom it was trained or validated on, in whatever corpus.

    Who that was, the run's split and the manifest of its configuration tell. A corpus of joined takes has the people of
    the corpus that they were taken from.

    Raises:
        CheckpointError: some of the clips are of people whom the model knows, or the run does not tell.
    """
    known = _known_people(model.folder, model.config)
    if seen := sorted({person(row) for row in rows} & known):
        num_clips = sum(person(row) in known for row in rows)
        raise CheckpointError(
            f"{model.folder}: was trained or validated on {len(seen)} speakers of these clips ({', '.join(seen[:5])}; "
            f"{num_clips} of {len(rows)} clips); take a manifest of speakers that it has not met, such as its own test "
            "speakers"
        )


def person(row: ClipRow) -> str:
    """Who speaks: the speaker within the corpus, or within the one whose takes were joined."""
    return speaker_key(replace(row, corpus=row.corpus.removesuffix(SPLICED)))


def _known_people(folder: Path, config: Config) -> set[str]:
    path = folder / "split.json"
    try:
        split = Split.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, SplitError) as error:
        raise CheckpointError(
            f"{path}: missing or damaged, so nobody knows whom the model has seen ({error})"
        ) from error
    wanted = Path(config.data.manifest)
    places = [Path(), *folder.resolve().parents]  # a relative path began where the run was started
    found = next((place / wanted for place in places if (place / wanted).is_file()), wanted)
    try:
        people = {row.clip_id: person(row) for row in read_manifest(found).rows}
    except ManifestError as error:
        raise CheckpointError(
            f"{folder}: the manifest that it was trained with tells whom it has seen, and is not to be read: {error}; "
            "go to the folder from which the run was started"
        ) from error
    seen = [*split.train, *split.val]
    if lost := [clip_id for clip_id in seen if clip_id not in people]:
        raise CheckpointError(
            f"{folder}: {found} is not the manifest that it was trained with: {len(lost)} of {len(seen)} clips are not "
            f"in it, e.g. {lost[0]}"
        )
    return {people[clip_id] for clip_id in seen}
