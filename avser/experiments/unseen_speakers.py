"""Keeps questions to a trained model honest on other corpora too: about nobody whom it was trained or validated on.

Only where models are to be chosen, those may be asked about whom they were validated on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avser.config import Config
from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow, read_manifest
from avser.data.splits import Split
from avser.errors import CheckpointError, ConfigError, ManifestError, SplitError
from avser.inference import TrainedModel

SPLICED = "_splice"  # what `preprocessing.splice` adds to the name of a corpus whose takes it joins


def check_unseen_speakers(model: TrainedModel, rows: Sequence[ClipRow]) -> None:
    """Refuse to ask a model about people whom it was trained or validated on, in whatever corpus.

    Who that was, the run's split and the manifest of its configuration tell. A corpus of joined takes has the people of
    the corpus that they were taken from.

    Raises:
        CheckpointError: some of the clips are of people whom the model knows, or the run does not tell.
    """
    people = _people(model.folder, model.config)
    known = people["train"] | people["val"]
    if seen := sorted({person(row) for row in rows} & known):
        num_clips = sum(person(row) in known for row in rows)
        raise CheckpointError(
            f"{model.folder}: was trained or validated on {len(seen)} speakers of these clips ({', '.join(seen[:5])}; "
            f"{num_clips} of {len(rows)} clips); take a manifest of speakers that it has not met, such as its own test "
            "speakers"
        )


def rows_of_part(models: Sequence[TrainedModel], rows: Sequence[ClipRow], part: str) -> list[ClipRow]:
    """Of these clips, those of the people who test (or validate) in the split of every one of the models.

    Args:
        part: "test", or "val" to choose between models: never a result, for the models' epochs were chosen on them.

    Raises:
        ConfigError: the models have different people in that part.
        CheckpointError: a run does not tell, has nobody there, or has trained on them (validated too, for "test").
    """
    splits = {model.folder: _people(model.folder, model.config) for model in models}
    first = next(iter(splits))
    chosen = splits[first][part]
    for folder, people in splits.items():
        if people[part] != chosen:
            raise ConfigError(f"{folder}: has other people in {part} than {first}; ask the runs separately")
        if met := chosen & (people["train"] | (people["val"] if part == "test" else set())):
            raise CheckpointError(f"{folder}: {', '.join(sorted(met)[:5])} of its {part} trained or validated it too")
    if not (kept := [row for row in rows if person(row) in chosen]):
        raise CheckpointError(f"{first}: none of these clips is of the people of its {part}")
    return kept


def person(row: ClipRow) -> str:
    """Who speaks: the speaker within the corpus, or within the one whose takes were joined."""
    return speaker_key(replace(row, corpus=row.corpus.removesuffix(SPLICED)))


def _people(folder: Path, config: Config) -> dict[str, set[str]]:
    """train, val and test -> who speaks there."""
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
    seen = [*split.train, *split.val, *split.test]
    if lost := [clip_id for clip_id in seen if clip_id not in people]:
        raise CheckpointError(
            f"{folder}: {found} is not the manifest that it was trained with: {len(lost)} of {len(seen)} clips are not "
            f"in it, e.g. {lost[0]}"
        )
    return {part: {people[clip_id] for clip_id in ids} for part, ids in split.parts().items()}
