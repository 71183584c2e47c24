"""Salience of many clips from many runs, each clip from a run that has not met its speaker; and from other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from avser.data.manifest import ClipRow
from avser.errors import ConfigError
from avser.experiments.held_out import load_test_clips
from avser.inference import TrainedModel, load_model, predict_clips
from avser.roi.trust.loudness import measure_loudness
from avser.structures import Clip, Curve

BATCH_SIZE = 16


@dataclass
class CollectedCurves:
    """Curves of one modality, and what is known of the clips.

    Attributes:
        curves: clip -> salience.
        rows: clip -> its row of the manifest.
        correct: clip -> whether the model's answer was right.
        loudness: clip -> level of the voice in dB, every 10 ms; empty where the runs do not hear.
        durations_s: clip -> seconds.
        notes: what to know when reading them.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    rows: dict[str, ClipRow] = field(default_factory=dict)
    correct: dict[str, bool] = field(default_factory=dict)
    loudness: dict[str, Curve] = field(default_factory=dict)
    durations_s: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def collect_curves(runs: Sequence[Path], modality: str, *, salience: str) -> CollectedCurves:
    """Ask every run for its own test clips, e.g. the folds of one protocol.

    Raises:
        ConfigError: two runs test the same clip.
        AvserError: a run cannot be used, or cannot be asked for that salience.
    """
    found = CollectedCurves()
    for run in runs:
        model = load_model(run)
        if modality not in model.modalities:
            raise ConfigError(f"{run}: reads {' and '.join(model.modalities)}, so it has no salience of {modality}")
        for chunk in _chunks(load_test_clips({model.modalities[0]: model})):
            _ask(found, model, chunk, modality, salience, run)
    return found


def _chunks(clips: Iterable[tuple[ClipRow, Clip]]) -> Iterator[list[tuple[ClipRow, Clip]]]:
    stream = iter(clips)
    while chunk := list(islice(stream, BATCH_SIZE)):
        yield chunk


def _ask(
    found: CollectedCurves,
    model: TrainedModel,
    chunk: Sequence[tuple[ClipRow, Clip]],
    modality: str,
    salience: str,
    run: Path,
) -> None:
    usable = [(row, clip) for row, clip in chunk if model.can_read(clip, modality)]
    if len(usable) < len(chunk):
        lost = sorted(row.clip_id for row, clip in chunk if not model.can_read(clip, modality))
        found.notes.append(f"{run}: without {modality}, and so left out: {', '.join(lost)}")
    answers = predict_clips(model, [clip for _, clip in usable], salience=salience) if usable else []
    for (row, clip), answer in zip(usable, answers, strict=True):
        if row.clip_id in found.curves:
            raise ConfigError(f"{run}: {row.clip_id} is a test clip of an earlier run too; give one run a fold")
        found.curves[row.clip_id] = answer.salience[modality]
        found.rows[row.clip_id] = row
        found.correct[row.clip_id] = answer.emotion == row.emotion
        found.durations_s[row.clip_id] = clip.duration_s
        if (level := measure_loudness(clip)) is not None:
            found.loudness[row.clip_id] = level
