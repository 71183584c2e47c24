"""The clips that nothing was trained or chosen on, decoded one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from avser.data.cache import ClipCache
from avser.data.manifest import ClipRow, read_manifest
from avser.experiments.unseen import check_unseen
from avser.inference import TrainedModel
from avser.structures import FUSED, Clip, Region
from avser.training.run_data import load_data

Truth = Mapping[str, Mapping[str, list[Region]]]  # clip -> modality -> known regions


@dataclass
class HeldOutClips:
    """The test clips of a split, decoded one by one as they are asked for.

    Iterating gives (row, clip) pairs.

    Attributes:
        truth: clip -> modality -> known regions.
        protocol: of the split, and what it keeps apart.
        root: folder that the manifest's paths start from.
    """

    rows: list[ClipRow]
    cache: ClipCache
    truth: Truth
    protocol: str
    root: Path

    def __len__(self) -> int:
        return len(self.rows)

    def media(self, row: ClipRow) -> Path | None:
        """The recording of a clip that is a file of its own, to be played; None where there is none."""
        if row.start_s is not None or not (row.video or row.audio):
            return None
        path = self.root / (row.video or row.audio)
        return path if path.is_file() else None

    def __iter__(self) -> Iterator[tuple[ClipRow, Clip]]:
        return ((row, self.cache.load(row.clip_id)) for row in self.rows)


def load_test_clips(models: Mapping[str, TrainedModel]) -> HeldOutClips:
    """The test clips that the models were never trained on.

    Raises:
        CheckpointError: one of the models has seen some of these clips in training.
    """
    config = (models.get(FUSED) or next(iter(models.values()))).config
    data = load_data(config)
    for model in models.values():
        check_unseen(model.folder, data.split.test)
    return HeldOutClips(
        rows=[data.rows[clip_id] for clip_id in data.split.test],
        cache=ClipCache(Path(config.data.cache), config.media),
        truth=read_manifest(config.data.manifest).regions,
        protocol=data.split.describe(),
        root=Path(config.data.manifest).parent,
    )
