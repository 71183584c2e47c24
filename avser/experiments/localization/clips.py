"""The clips that a study of localisation asks about: those of strangers in a manifest, or the runs' own split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avser.data.cache import ClipCache
from avser.data.dataset import ClipDataset, Example, cached_rows, collate, parts_of
from avser.data.manifest import ClipRow, read_manifest
from avser.errors import CheckpointError, ConfigError, ManifestError
from avser.experiments.held_out import Truth
from avser.experiments.unseen import check_unseen
from avser.experiments.unseen_speakers import check_unseen_speakers, rows_of_part
from avser.inference import TrainedModel
from avser.structures import Batch
from avser.training.run_data import load_data

PARTS = ("test", "val")  # of a split: what is reported, and what may be chosen on


@dataclass(frozen=True)
class KnownClips:
    """Clips whose emotional moments are known.

    Attributes:
        truth: clip -> modality -> true regions.
        manifest: where they come from.
        cache: of the clips; None: each run's own.
        part: of the runs' own split; "" where the clips are of strangers.
    """

    rows: list[ClipRow]
    truth: Truth
    manifest: Path
    cache: Path | None
    part: str = ""


def clips_of_strangers(models: Sequence[TrainedModel], manifest: Path, cache: Path, part: str = "") -> KnownClips:
    """All clips of a manifest, none of them of a person whom one of the models has met.

    Args:
        part: take only those of the people who are in that part of the models' own splits; "val" to choose between
            models, whose epochs were chosen on these people.

    Raises:
        ConfigError: the models have different people in that part.
        ManifestError: there are no true regions.
        CheckpointError: a model was trained or validated on one of the speakers, or does not tell.
    """
    corpus = read_manifest(manifest)
    truth = _regions_of(manifest, corpus.regions)
    if part:
        return KnownClips(rows_of_part(models, corpus.rows, part), truth, manifest, cache, part)
    for model in models:
        check_unseen_speakers(model, corpus.rows)
    return KnownClips(corpus.rows, truth, manifest, cache)


def clips_of_split(models: Sequence[TrainedModel], part: str) -> KnownClips:
    """The clips of one part of the split that all models share.

    Raises:
        ConfigError: an unknown part.
        ManifestError: there are no true regions.
        CheckpointError: a model was trained on some of the clips, or two models have other clips in that part.
        AvserError: the data that a model was trained with have changed or are gone.
    """
    if part not in PARTS:
        raise ConfigError(f"part={part!r}: allowed are {' and '.join(PARTS)}")
    shared: KnownClips | None = None
    for model in models:
        data, manifest = load_data(model.config), Path(model.config.data.manifest)
        rows = [data.rows[clip_id] for clip_id in data.split.parts()[part]]
        if part == "test":
            check_unseen(model.folder, (row.clip_id for row in rows))
        if shared is None:
            shared = KnownClips(rows, _regions_of(manifest, read_manifest(manifest).regions), manifest, None, part)
        elif [row.clip_id for row in rows] != [row.clip_id for row in shared.rows]:
            raise CheckpointError(
                f"{model.folder}: has other {part} clips than {models[0].folder}; ask runs of one and the same split, "
                "or give a manifest of speakers that none of them has met"
            )
    assert shared is not None
    return shared


def _regions_of(manifest: Path, regions: Truth) -> Truth:
    if not regions:
        raise ManifestError(f"{manifest}: there is no regions.csv beside it, so no truth to hold regions against")
    return regions


class AskedClips:
    """The clips that a model can read one modality of, in batches of like length, with the emotion asked about.

    Attributes:
        notes: what was left out.
    """

    def __init__(self, model: TrainedModel, modality: str, known: KnownClips, target: str, batch_size: int) -> None:
        config = model.config
        self.model, self.modality, self.batch_size = model, modality, batch_size
        self.parts = parts_of(config.model)
        store = ClipCache(known.cache or Path(config.data.cache), config.media)
        merged = [replace(row, emotion=config.data.merge.get(row.emotion, row.emotion)) for row in known.rows]
        kept, self.notes = cached_rows(merged, store, parts=self.parts)
        self.emotions: dict[str, int] | None = None
        if target == "true":
            named = [row for row in kept if row.emotion in model.emotions]
            if len(named) < len(kept):
                self.notes.append(f"{len(kept) - len(named)} clips have an emotion that the model does not know")
            kept = named
            self.emotions = {row.clip_id: model.emotions.index(row.emotion) for row in kept}
        self.dataset = ClipDataset(
            [replace(row, emotion="") for row in kept],  # labels are no business of a batch here
            store,
            model.emotions,
            keep_in_memory=False,
            max_duration_s=config.data.max_duration_s,
            num_frames=config.data.num_frames,
            parts=self.parts,
        )

    def __iter__(self) -> Iterator[tuple[Batch, list[int]]]:
        order = np.argsort(self.dataset.durations_s(), kind="stable").tolist()
        for start in range(0, len(order), self.batch_size):
            examples: list[Example] = [self.dataset[i] for i in order[start : start + self.batch_size]]
            examples = [e for e in examples if self.model.can_read(e.clip, self.modality)]
            if examples:
                batch = collate(examples, parts=self.parts).to(self.model.device)
                yield batch, self.targets_of(batch)

    def targets_of(self, batch: Batch) -> list[int]:
        if self.emotions is not None:
            return [self.emotions[clip_id] for clip_id in batch.clip_ids]
        with torch.no_grad():
            return self.model.network(batch).logits.argmax(dim=1).tolist()
