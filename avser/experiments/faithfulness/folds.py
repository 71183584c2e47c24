"""Several runs of one system, sorted into folds: each clip is asked of models that have not met it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from avser.errors import ConfigError
from avser.experiments.held_out import HeldOutClips
from avser.inference import TrainedModel


@dataclass
class FoldRuns:
    """What was trained alike on one split, and the clips that it was not trained on.

    Attributes:
        models: one, or several that differ in their seed.
        permuted: a model trained alike, but on labels that were permuted.
    """

    models: list[TrainedModel]
    clips: HeldOutClips
    permuted: TrainedModel | None = None

    @property
    def clip_ids(self) -> set[str]:
        return {row.clip_id for row in self.clips.rows}


def sort_folds(
    runs: Sequence[tuple[TrainedModel, HeldOutClips]], permuted: Sequence[tuple[TrainedModel, HeldOutClips]] = ()
) -> list[FoldRuns]:
    """Runs by the clips that they test: those with the same clips are seeds of one fold.

    Args:
        runs, permuted: models, each with its own test clips (`avser.experiments.held_out.load_test_clips`).

    Raises:
        ConfigError: two runs share some of their test clips but not all; or all, and differ in more than their seed;
            runs of different systems; models of permuted labels that do not come one a fold.
    """
    folds: list[FoldRuns] = []
    for model, clips in runs:
        mine = {row.clip_id for row in clips.rows}
        shared = [fold for fold in folds if fold.clip_ids & mine]
        if not shared:
            folds.append(FoldRuns([model], clips))
        elif shared[0].clip_ids != mine:
            raise ConfigError(
                f"{model.folder} and {shared[0].models[0].folder} share {len(shared[0].clip_ids & mine)} of their test "
                "clips, but not all: a clip would count twice; give the folds of one protocol"
            )
        else:
            _check_seed(model, shared[0].models)
            shared[0].models.append(model)
    for fold in folds:
        for other in fold.models:
            check_alike(folds[0].models[0], other)
    _add_permuted(folds, permuted)
    return folds


def check_alike(model: TrainedModel, other: TrainedModel) -> None:
    """
    Raises:
        ConfigError: the other model is built otherwise, would be given other clips, or means other emotions.
    """
    read = [(m.emotions, m.config.media, m.config.model, str(m.device)) for m in (model, other)]
    if read[0] != read[1]:
        raise ConfigError(
            f"{other.folder} and {model.folder} differ in their emotions, in `media`, in `model` or in their device; "
            "give runs of one system"
        )


def _check_seed(model: TrainedModel, known: Sequence[TrainedModel]) -> None:
    for other in known:
        one, two = (asdict(m.config) | {"name": "", "runs": "", "seed": 0} for m in (model, other))
        if differing := sorted(part for part in one if one[part] != two[part]):
            raise ConfigError(
                f"{model.folder} and {other.folder} have the same test clips but differ in `{differing[0]}`: they are "
                "no seeds of one training, and a clip would count twice; give one of them"
            )
        if model.config.seed == other.config.seed:
            raise ConfigError(
                f"{model.folder} and {other.folder} are the same training twice (seed {model.config.seed}); give one"
            )


def _add_permuted(folds: Sequence[FoldRuns], permuted: Sequence[tuple[TrainedModel, HeldOutClips]]) -> None:
    for model, clips in permuted:
        mine = {row.clip_id for row in clips.rows}
        fold = next((fold for fold in folds if fold.clip_ids == mine and fold.permuted is None), None)
        if fold is None:
            raise ConfigError(f"{model.folder}: permuted labels, but no run, or a second one, with its test clips")
        check_alike(fold.models[0], model)
        fold.permuted = model
    if permuted and (without := [fold for fold in folds if fold.permuted is None]):
        raise ConfigError(
            f"{without[0].models[0].folder} has no counterpart of permuted labels; give one for each fold, or none"
        )
