"""How trained models bear voices and faces that are missing, broken, late or someone else's, without being retrained.

Every level answers the same test clips, none of which was trained or chosen on. `avser.data.corruptions` says what is
done to them, avser/experiments/robustness/scores.py what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from avser.config import Config
from avser.data.clip_pool import ClipPool
from avser.data.corruptions import CORRUPTIONS, SWITCH, corrupt
from avser.data.dataset import collate
from avser.data.groups import speaker_key
from avser.errors import CheckpointError, ConfigError
from avser.evaluation.pooled import Pool
from avser.experiments.robustness.scores import (
    CurveScores,
    EffectiveRobustness,
    LevelScores,
    compare_curves,
    score_clean,
    score_curve,
    score_switches,
)
from avser.experiments.unseen import check_unseen, read_split
from avser.models.system import System
from avser.structures import MODALITIES
from avser.training.checkpoint import MODEL_FILE, load_trained
from avser.training.fit import CONSOLE
from avser.training.loop import Predictions, evaluate
from avser.training.run_data import RunData, load_data

Levels = Mapping[str, Sequence[float]]


@dataclass
class RunRobustness:
    """What one run's model answers to spoiled clips.

    Attributes:
        name: of the run, unique among those compared.
        modalities: that it reads.
        clean: answers to the clips as they are.
        clean_scores: its UAR in percent.
        curves: corruption -> scores of all its levels; those of what the model reads.
        switches: the same for what is either done or not.
        notes: what could not be done, and what changed nothing.
    """

    name: str
    folder: Path
    modalities: list[str]
    clean: Pool
    clean_scores: LevelScores
    protocol: str
    split_fingerprint: str
    emotions: list[str]
    curves: dict[str, CurveScores] = field(default_factory=dict)
    switches: dict[str, LevelScores] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Robustness:
    """Several runs on the same test clips.

    Attributes:
        runs: the first one is the one asked about; the others are what it is held against.
        effective: of the first run, against each other run that reads what is spoiled.
        seed: of all that is drawn.
    """

    runs: list[RunRobustness]
    effective: list[EffectiveRobustness]
    seed: int

    @property
    def notes(self) -> list[str]:
        return [f"{run.name}: {note}" for run in self.runs for note in run.notes]

    @property
    def curve_names(self) -> list[str]:
        """Of the corruptions that at least one run went through, in their usual order."""
        return [name for name in CORRUPTIONS if any(name in run.curves for run in self.runs)]


def measure_robustness(
    runs: Sequence[Path], *, corruptions: Sequence[str] = (), levels: Levels | None = None, seed: int = 0
) -> Robustness:
    """Spoil the test clips of finished runs in every way that their models can notice, and score the answers.

    Args:
        runs: folders of finished runs with the same test clips; the first one is compared with the others.
        corruptions: keys of `CORRUPTIONS`; all where there are none.
        levels: corruption -> levels in place of its own.

    Raises:
        ConfigError: an unknown corruption, levels that make no sense, or nothing that can be done to any of the runs.
        CheckpointError: a run has seen some of its test clips, its data have changed, or the runs differ in theirs.
    """
    plan = plan_levels(corruptions, levels or {})
    names = _short_names(runs)
    found = [_measure_run(folder, name, plan, seed) for folder, name in zip(runs, names, strict=True)]
    first = found[0]
    for run in found[1:]:
        if run.emotions != first.emotions or not _same_clips(run.clean, first.clean):
            raise CheckpointError(
                f"{run.folder} and {first.folder} differ in emotions or test clips; compare runs of one and the same "
                "fold, trained on the same manifest"
            )
    if not any(run.curves or run.switches for run in found):
        raise ConfigError(f"nothing can be done to these runs: {'; '.join(first.notes)}; ask for other --corruptions")
    effective = [
        compare_curves(curve, other.curves[name], baseline=other.name)
        for name, curve in first.curves.items()
        for other in found[1:]
        if name in other.curves
    ]
    return Robustness(found, effective, seed)


def plan_levels(corruptions: Sequence[str], levels: Levels) -> dict[str, list[float]]:
    """Corruption -> its levels, in order.

    Raises:
        ConfigError: unknown names, levels of what is not asked for or has none, or levels that make no sense.
    """
    chosen = list(corruptions) or list(CORRUPTIONS)
    for name in [*chosen, *levels]:
        if name not in CORRUPTIONS:
            raise ConfigError(f"corruption {name!r}: take one of {', '.join(CORRUPTIONS)}")
    for name, its_levels in levels.items():
        kind = CORRUPTIONS[name]
        if name not in chosen:
            raise ConfigError(f"--levels {name}: it is not among the --corruptions {','.join(chosen)}")
        if kind.is_switch:
            raise ConfigError(f"--levels {name}: it is either done or not, and has no levels")
        for level in its_levels:
            if not (np.isfinite(level) and kind.lowest <= level <= kind.highest) or level == kind.clean:
                raise ConfigError(
                    f"--levels {name}: {level:g} is not a level between {kind.lowest:g} and {kind.highest:g} at which "
                    "something is changed"
                )
    return {name: sorted(set(levels.get(name) or CORRUPTIONS[name].levels or (SWITCH,))) for name in chosen}


def build_pool(data: RunData) -> ClipPool:
    """The test clips that have all that the model reads, as voices and faces to borrow."""
    part = data.parts["test"]
    labels = data.labels("test")
    whole = [i for i, name in enumerate(part.clip_ids) if set(data.clip_parts) <= set(part.cache.parts(name))]
    return ClipPool(
        [part.clip_ids[i] for i in whole],
        [speaker_key(data.rows[part.clip_ids[i]]) for i in whole],
        [labels[i] for i in whole],
        lambda chosen: collate([part[whole[i]] for i in chosen], parts=data.clip_parts),
    )


def _measure_run(folder: Path, name: str, plan: Levels, seed: int) -> RunRobustness:
    model, config, emotions = load_trained(folder / MODEL_FILE)
    data = load_data(config)
    check_unseen(folder, data.split.test)
    if (stored := read_split(folder).fingerprint()) != data.split.fingerprint():
        raise CheckpointError(
            f"{folder}: its split {stored} is not the one that the data give now ({data.split.fingerprint()}); "
            "restore the manifest and cache that it was trained with"
        )
    accelerator = Accelerator()
    asked = _Asked(model.to(accelerator.device), data, build_pool(data), config, accelerator, seed)
    clean = asked.answer()
    pool = asked.as_pool(clean)
    run = RunRobustness(
        *(name, folder, list(config.model.modalities), pool, score_clean(pool)),
        *(data.split.describe(), data.split.fingerprint(), emotions),
    )
    _spoil(asked, clean, run, plan)
    run.notes += _crops_alone(data, run)
    return run


def _spoil(asked: _Asked, clean: Predictions, run: RunRobustness, plan: Levels) -> None:
    """Fill in curves, switches and notes."""
    switches: dict[str, Pool] = {}
    left_out: dict[str, list[str]] = {}
    for key, levels in plan.items():
        if reason := _why_not(key, run.modalities):
            left_out.setdefault(reason, []).append(key)
            continue
        CONSOLE.print(f"{run.name}: {key}", markup=False)
        try:
            answers = {level: asked.answer(key, level) for level in levels}
        except (ConfigError, ValueError) as error:  # a system that needs both modalities says so by a ValueError
            run.notes.append(f"{key} left out: {error}")
            continue
        if all(np.array_equal(found.logits, clean.logits) for found in answers.values()):
            run.notes.append(f"{key} changes no answer in any digit: the model does not notice it")
        pools = {level: asked.as_pool(found) for level, found in answers.items()}
        if CORRUPTIONS[key].is_switch:
            switches[key] = pools[SWITCH]
        else:
            run.curves[key] = score_curve(key, run.clean, pools, clean_level=CORRUPTIONS[key].clean)
    run.switches = score_switches(run.clean, switches)
    run.notes += [f"{', '.join(keys)} left out: the model {reason}" for reason, keys in left_out.items()]


@dataclass
class _Asked:
    """A model and the test clips that it is asked about."""

    model: System
    data: RunData
    pool: ClipPool
    config: Config
    accelerator: Accelerator
    seed: int

    def answer(self, name: str = "", level: float = SWITCH) -> Predictions:
        """Its answers to all test clips; spoiled where a corruption is named."""
        batches = self.data.batches("test", self.config.training)
        if not name:
            return evaluate(self.model, batches, self.accelerator)
        spoiled = (corrupt(batch, name, level, seed=self.seed, pool=self.pool) for batch in batches)
        return evaluate(self.model, spoiled, self.accelerator)

    def as_pool(self, found: Predictions) -> Pool:
        speakers = [speaker_key(self.data.rows[clip_id]) for clip_id in found.clip_ids]
        seeds = np.full(len(found.clip_ids), self.config.seed)
        return Pool(list(found.clip_ids), speakers, seeds, found.labels, found.answers, found.probabilities)


def _why_not(key: str, modalities: Sequence[str]) -> str:
    """Why a corruption says nothing of such a model; empty where it does."""
    kind = CORRUPTIONS[key]
    if kind.modality not in modalities:
        return f"does not read {kind.modality} and answers as if nothing had happened"
    if kind.needs_both and set(modalities) != set(MODALITIES):
        return "reads one modality alone"
    return ""


def _crops_alone(data: RunData, run: RunRobustness) -> list[str]:
    done = [key for key in ("occlusion", "blur") if key in run.curves]
    if not done or "face_features" not in data.clip_parts:
        return []
    return [f"{' and '.join(done)} change the crops alone; the features were measured on whole faces and stay"]


def _same_clips(one: Pool, other: Pool) -> bool:
    return dict(zip(one.clip_ids, one.labels.tolist(), strict=True)) == dict(
        zip(other.clip_ids, other.labels.tolist(), strict=True)
    )


def _short_names(runs: Sequence[Path]) -> list[str]:
    """As few last parts of the paths as tell the runs apart.

    Raises:
        ConfigError: a run is named twice, or none.
    """
    parts = [run.resolve().parts for run in runs]
    if not parts or len(set(parts)) < len(parts):
        raise ConfigError("name at least one run, and each once")
    for num in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-num:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]
