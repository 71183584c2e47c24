"""The clips of one run: read, labelled, split, audited and ready to be batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from avser.config import Config, TrainingConfig
from avser.data.audit import audit_duplicates, audit_split
from avser.data.cache import ClipCache
from avser.data.dataset import ClipDataset, cached_rows, collate, length_bucketed_batches, parts_of
from avser.data.groups import speaker_key
from avser.data.labels import label_clips
from avser.data.manifest import ClipRow, read_manifest
from avser.data.splits import Split, make_split
from avser.errors import ConfigError
from avser.models.bags import oversample, settle_ties


@dataclass
class RunData:
    """The clips of one run, split and ready to be batched.

    Attributes:
        emotions: label set in order.
        rows: every usable clip by id.
        parts: "train", "val", "test" -> dataset.
        clip_parts: what of a clip the model reads.
    """

    emotions: list[str]
    rows: dict[str, ClipRow]
    split: Split
    parts: dict[str, ClipDataset]
    clip_parts: tuple[str, ...]
    notes: list[str]

    def speaker(self, clip_id: str) -> str:
        """Whose clip it is; with the corpus where several are read, because speakers are named within theirs."""
        row = self.rows[clip_id]
        return row.speaker if len(self._corpora) == 1 else speaker_key(row)

    @cached_property
    def _corpora(self) -> set[str]:
        return {row.corpus for row in self.rows.values()}

    def labels(self, part: str) -> list[int]:
        """Index of every clip's emotion; -1 where only its soft label is known."""
        return [-1 if label is None else label for label in self.parts[part].labels]

    def batches(
        self,
        part: str,
        training: TrainingConfig,
        *,
        shuffle_seed: int | None = None,
        clips: Sequence[int] | None = None,
    ) -> DataLoader:
        """Batches of clips of similar length; in the part's order unless a seed is given.

        With a seed and `training.sampling=balanced`, clips of rarer emotions come repeatedly. A clip that has soft
        labels alone counts there as the emotion with most of its votes (`settle_ties`), and trains on its soft label.

        Args:
            clips: which ones, by index and perhaps repeatedly; None for all.
        """
        dataset = self.parts[part]
        chosen = list(range(len(dataset)) if clips is None else clips)
        if shuffle_seed is None:
            order = [chosen[i : i + 32] for i in range(0, len(chosen), 32)]
        else:
            generator = torch.Generator().manual_seed(shuffle_seed)
            if training.sampling == "balanced":
                labels = settle_ties(self.labels(part), dataset.targets)
                chosen = oversample(chosen, [labels[i] for i in chosen], generator)
            durations = dataset.durations_s()
            places = length_bucketed_batches([durations[i] for i in chosen], training.batch_size, generator)
            order = [[chosen[place] for place in batch] for batch in places]
        return DataLoader(
            dataset,
            batch_sampler=order,
            collate_fn=partial(collate, parts=self.clip_parts),
            num_workers=training.workers,
        )


def load_data(config: Config) -> RunData:
    """Manifest, labels, split, audit and cache of a configuration, checked in this order before any clip is read."""
    if not config.data.manifest or not config.data.cache:
        raise ConfigError("data.manifest and data.cache must be set: name a corpus (e.g. `ravdess`) or give both paths")
    manifest = read_manifest(config.data.manifest)
    labels = label_clips(manifest.rows, config.data)
    cache = ClipCache(Path(config.data.cache), config.media)
    clip_parts = parts_of(config.model)
    cached, notes = cached_rows(labels.rows, cache, parts=clip_parts)
    split = score_labelled(make_split(cached, config.data), cached)
    notes = [*labels.notes, *notes, *split.notes]
    notes += audit_split(cached, split, allow_shared_speakers=config.data.allow_shared_speakers)
    notes += audit_duplicates(cached, split, cache)
    by_id = {row.clip_id: row for row in cached}
    parts = {
        part: ClipDataset(
            [by_id[clip_id] for clip_id in clip_ids],
            cache,
            labels.emotions,
            targets=labels.targets if part == "train" else {},
            keep_in_memory=config.training.keep_in_memory,
            max_duration_s=config.data.max_duration_s,
            num_frames=config.data.num_frames,
            parts=clip_parts,
        )
        for part, clip_ids in split.parts().items()
    }
    return RunData(labels.emotions, by_id, split, parts, clip_parts, notes)


def score_labelled(split: Split, rows: list[ClipRow]) -> Split:
    """The split without validation and test clips that have no single emotion (tied votes): they cannot be scored."""
    unlabelled = {row.clip_id for row in rows if not row.emotion}
    if not unlabelled:
        return split
    val, test = ([clip_id for clip_id in ids if clip_id not in unlabelled] for ids in (split.val, split.test))
    num_left_out = len(split.val) + len(split.test) - len(val) - len(test)
    note = f"{num_left_out} clips with tied votes are not scored"
    return replace(split, val=val, test=test, notes=[*split.notes, note])
