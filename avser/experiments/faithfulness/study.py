"""Does a model's answer rest on the moments that a salience names, more than on those that any control names?

Retraining without the top moments (ROAR, Hooker et al. 2019, arXiv:1806.10758) is left out on purpose: it asks what the
data hold rather than what this model used, costs a training for every salience and share, and can reward maps that say
nothing (arXiv:2304.13836).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from avser.data.dataset import Example, collate, parts_of
from avser.data.splits import speaker_key
from avser.errors import AvserError, ConfigError
from avser.evaluation.multiple_tests import holm, sign_flip
from avser.evaluation.statistics import Interval, clustered_interval, paired_difference
from avser.experiments.faithfulness.clips import (
    PERMUTED,
    Measured,
    average_models,
    choose_rows,
    join,
    measure_clips,
    permuted_name,
)
from avser.experiments.faithfulness.folds import FoldRuns
from avser.experiments.faithfulness.results import (
    BETTER,
    LEVEL,
    MAIN,
    Contrast,
    Course,
    FaithfulnessStudy,
    Score,
    SeedCheck,
    Verdict,
    WeightCheck,
)
from avser.experiments.held_out import HeldOutClips
from avser.inference import TrainedModel
from avser.roi.salience.replacement import DEFAULT_OPERATORS
from avser.roi.salience.sources import SOURCES, find_salience
from avser.roi.trust.faithfulness import CELL_S, FRACTIONS, Faithfulness
from avser.structures import Batch


def study_faithfulness(
    folds: Sequence[FoldRuns],
    modality: str,
    sources: Sequence[str] = ("attention",),
    *,
    operators: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    batch_size: int = 8,
    max_clips: int = 96,
    num_resamples: int = 2000,
    seed: int = 0,
    **measuring: Any,
) -> FaithfulnessStudy:
    """Measure saliences of models against their controls: clip, then mean of the speaker, then sign flips.

    What is followed is the probability of the model's own answer, right or wrong. A clip costs some 500 answers with
    one salience and 32 for each further one, and every salience is computed again for each share of randomised layers.
    Clips of all folds count together; where a fold has several seeds, its clips have the mean over them.

    Args:
        folds: models with the clips that they have not seen (`avser.experiments.faithfulness.folds.sort_folds`); one
            batch of clips is held at a time.
        sources: keys of `avser.roi.salience.sources.SOURCES`. Note that "occlusion" and "rise" look for
            what the first operator takes away, so that only the other one tests them from outside.
        operators: two at least; the modality's own pair by default.
        options: salience -> its keyword arguments.
        max_clips: no more are measured, of all folds, spread over speakers and emotions (`choose_rows`).
        seed: of the choice of clips, and as in `measure_clips`.
        measuring: as in `measure_clips`.

    Raises:
        ConfigError: no fold, an unknown salience, fewer than two operators, or models that do not hear or see.
        AvserError: no clip has the modality, or a model cannot be asked for a salience.
    """
    operators = list(dict.fromkeys(operators or DEFAULT_OPERATORS[modality]))
    models = [model for fold in folds for model in fold.models]
    _check_question(models, modality, sources, operators)
    measuring |= {
        "sources": {name: partial(find_salience, source=name, **(options or {}).get(name, {})) for name in sources},
        "operators": operators,
        "seed": seed,
    }
    rows = choose_rows([row for fold in folds for row in fold.clips.rows], max_clips, seed=seed)
    speakers = {row.clip_id: speaker_key(row) for row in rows}
    left_out: dict[str, str] = {}
    parts = [_measure_fold(fold, speakers, modality, batch_size, left_out, measuring) for fold in folds]
    measured = join(parts)
    if not measured.clip_ids:
        raise AvserError(f"none of {len(left_out)} clips has {modality} in the form that {models[0].folder} reads")
    study = summarise(
        measured,
        [speakers[clip_id] for clip_id in measured.clip_ids],
        modality,
        runs=[str(model.folder) for model in models],
        fractions=measuring.get("fractions", FRACTIONS),
        cell_s=measuring.get("cell_s", CELL_S),
        num_models=max(len(fold.models) for fold in folds),
        num_resamples=num_resamples,
        seed=seed,
    )
    study.left_out = left_out
    return study


def _check_question(
    models: Sequence[TrainedModel], modality: str, sources: Sequence[str], operators: Sequence[str]
) -> None:
    """
    Raises:
        ConfigError: as `study_faithfulness`.
    """
    if len(operators) < 2:
        raise ConfigError(f"operators {operators}: give two at least, for a single one can fake an effect by itself")
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ConfigError(f"salience {unknown[0]!r}: take one of {', '.join(SOURCES)}")
    if not models:
        raise ConfigError("no model was given whose saliences could be measured")
    for model in models:
        if modality not in model.modalities:
            raise ConfigError(f"{model.folder} reads {' and '.join(model.modalities)}, not {modality}")


def _measure_fold(
    fold: FoldRuns,
    chosen: Container[str],
    modality: str,
    batch_size: int,
    left_out: dict[str, str],
    measuring: Mapping[str, Any],
) -> Measured:
    """The chosen clips of a fold, asked of each of its models; means over these."""
    clips = replace(fold.clips, rows=[row for row in fold.clips.rows if row.clip_id in chosen])
    found = []
    for i, model in enumerate(fold.models):
        found.append(
            measure_clips(
                model.network,
                _batches(model, clips, modality, batch_size, left_out),
                modality,
                seeds=[] if i else [other.network for other in fold.models[1:]],
                permuted=fold.permuted.network if fold.permuted else None,
                **measuring,
            )
        )
    return average_models(found)


def summarise(
    measured: Measured,
    speakers: Sequence[str],
    modality: str,
    *,
    runs: Sequence[str] = (),
    fractions: Sequence[float] = FRACTIONS,
    cell_s: float = CELL_S,
    num_models: int = 1,
    num_resamples: int = 2000,
    seed: int = 0,
) -> FaithfulnessStudy:
    """From clips to conclusions; `speakers` (N,) are those of the clips measured."""
    study = FaithfulnessStudy(list(runs), modality, len(speakers), len(set(speakers)), cell_s, list(fractions))
    sources = list(measured.degenerate)
    chances: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    for operator, by_name in measured.scores.items():
        for name, score in by_name.items():
            study.scores.append(_score(name, name not in sources, operator, score, speakers, fractions, chances))
        for source in sources:
            study.contrasts += _contrasts(source, sources, operator, by_name, speakers, chances)
    for source in sources:
        reasons = zip(measured.clip_ids, measured.degenerate[source], strict=True)
        study.degenerate[source] = {clip_id: reason for clip_id, reason in reasons if reason}
        study.verdicts[source] = _verdict(source, study)
        for share, values in measured.weight_agreement.get(source, {}).items():
            told = values[np.isfinite(values).all(axis=1)]
            kendall, spearman = np.median(told, axis=0).tolist() if len(told) else (float("nan"), float("nan"))
            study.weight_checks.append(WeightCheck(source, share, kendall, spearman, len(told)))
        if source in measured.seed_agreement:
            taus = measured.seed_agreement[source]
            told = np.isfinite(taus)
            tau = Interval(float("nan"), float("nan"), float("nan"))
            if told.any():
                means, names = speaker_means(taus[told], np.asarray(speakers)[told])
                tau = clustered_interval(means, names, **chances)
            study.seed_checks.append(SeedCheck(source, tau, num_models, int(told.sum())))
    return study


def speaker_means(values: np.ndarray, speakers: Sequence[str] | np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Means (G,) of the values (N,) of each speaker, and the speakers' names."""
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    return np.bincount(owner, weights=values) / np.bincount(owner), names.tolist()


def _batches(
    model: TrainedModel, clips: HeldOutClips, modality: str, batch_size: int, left_out: dict[str, str]
) -> Iterator[Batch]:
    """Clips that have the modality, in batches; those that lack it are noted in `left_out`."""
    stream = iter(clips)
    while chunk := list(islice(stream, batch_size)):  # decoded clips are large: only one batch of them is held
        kept = []
        for row, clip in chunk:
            if model.can_read(clip, modality):
                kept.append(Example(row.clip_id, clip, None))
            else:
                left_out[row.clip_id] = f"no {modality}"
        if kept:
            yield collate(kept, parts=parts_of(model.config.model)).to(model.device)


def _score(
    name: str,
    is_control: bool,
    operator: str,
    score: Faithfulness,
    speakers: Sequence[str],
    fractions: Sequence[float],
    chances: dict[str, Any],
) -> Score:
    measures = {}
    for measure, values in score.measures().items():
        means, names = speaker_means(values, speakers)
        measures[measure] = clustered_interval(means, names, **chances)
    by_fraction = {
        share: (
            float(speaker_means(score.comprehensiveness[:, q], speakers)[0].mean()),
            float(speaker_means(score.sufficiency[:, q], speakers)[0].mean()),
        )
        for q, share in enumerate(fractions)
    }
    course = Course(
        *(
            np.stack([speaker_means(column, speakers)[0] for column in values.T]).mean(axis=1).tolist()
            for values in (score.shares, score.without, score.alone)
        )
    )
    return Score(name, is_control, operator, measures, by_fraction, course)


def _contrasts(
    source: str,
    sources: Sequence[str],
    operator: str,
    by_name: Mapping[str, Faithfulness],
    speakers: Sequence[str],
    chances: dict[str, Any],
) -> list[Contrast]:
    """One salience against each of its controls, by every measure."""
    own_permuted = permuted_name(source)
    others_permuted = {permuted_name(s) for s in sources} - {own_permuted}
    controls = [name for name in by_name if name not in sources and name not in others_permuted]
    values, found = by_name[source].measures(), []
    for measure, tail in BETTER.items():
        of_measure = []
        for name in controls:
            ours, names = speaker_means(values[measure], speakers)
            theirs, _ = speaker_means(by_name[name].measures()[measure], speakers)
            difference = paired_difference(ours, theirs, names, **chances)
            p = sign_flip(ours - theirs, names, tail=tail, seed=chances["seed"])
            control = PERMUTED if name == own_permuted else name
            of_measure.append(Contrast(source, control, operator, measure, difference, p))
        for contrast, adjusted in zip(of_measure, holm([c.p_value for c in of_measure]).tolist(), strict=True):
            contrast.holm_p = adjusted
        found += of_measure
    return found


def _verdict(source: str, study: FaithfulnessStudy) -> Verdict:
    asked = [c for c in study.contrasts if c.source == source and c.measure == MAIN]
    controls = list(dict.fromkeys(c.control for c in asked))
    not_beaten = [name for name in controls if any(c.holm_p > LEVEL for c in asked if c.control == name)]
    can_tell = len(controls) * 0.5**study.num_speakers <= LEVEL
    is_degenerate = len(study.degenerate[source]) == study.num_clips
    return Verdict(source, is_degenerate, not is_degenerate and not not_beaten, not_beaten, can_tell)
