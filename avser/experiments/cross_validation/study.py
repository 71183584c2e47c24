"""Cross-validation: every fold of a protocol trained with every seed, and judged on all test clips together.

Each fold has validation speakers of its own, apart from those of its test, who choose the epoch; nobody in test is
asked before the end. avser/experiments/cross_validation/tables.py writes down what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avser.config import Config
from avser.data.audit import audit_split
from avser.data.groups import speaker_key
from avser.data.labels import label_clips
from avser.data.manifest import ClipRow, read_manifest
from avser.data.splits import Split, judge_split, make_split
from avser.errors import AvserError, CheckpointError, ConfigError
from avser.evaluation.calibration import ReliabilityBin, reliability_bins
from avser.evaluation.pooled import (
    Pool,
    PooledScores,
    Slice,
    join_pools,
    mean_uar,
    recall_intervals,
    score_pool,
    score_slices,
)
from avser.evaluation.statistics import Interval
from avser.experiments.cross_validation.human_performance import HumanScore, published_scores, voted_scores
from avser.experiments.cross_validation.measures import Measure, deviation, measure_pools, vote_shares
from avser.experiments.leaderboard.plan import count_folds, run_config
from avser.experiments.runs.grid import run_folder, run_grid
from avser.experiments.runs.result import Cell, RunResult, pool_answers, read_run
from avser.experiments.unseen import read_split

SLICE_COLUMNS = ("corpus", "sex", "intensity", "sentence", "session", "speaker")


@dataclass
class FoldResult:
    """One fold: its split, what that keeps apart, and its scores over the seeds.

    Attributes:
        val_speakers_apart: nobody who validates is in test.
        scores: None without a finished run.
        seed_sd: of UAR; None with one seed.
    """

    fold: int
    split: Split
    num_speakers: dict[str, int]
    val_speakers_apart: bool
    scores: PooledScores | None = None
    seed_sd: float | None = None

    @property
    def is_strict(self) -> bool:
        """Nobody in test was trained or chosen on, and the test chose nothing."""
        verdict = self.split.verdict
        told = verdict is not None and verdict.speakers_disjoint is True and verdict.val_apart_from_test is True
        return told and self.val_speakers_apart


@dataclass
class CrossValidation:
    """Everything that was found.

    Attributes:
        folds: those asked for.
        runs: (fold, seed) -> the finished run.
        scores: over the test clips of all folds together.
        recalls: emotion -> recall, in percent.
        confusion: (C, C) test clips, true emotion before answer, mean of the seeds.
        reliability: of the seeds together.
        people: how well people do, beside it.
        failures: run -> reason.
        notes: what to know when reading it.
    """

    name: str
    config: Config
    emotions: list[str]
    folds: list[FoldResult]
    seeds: list[int]
    runs: dict[Cell, RunResult]
    scores: PooledScores
    measures: list[Measure]
    recalls: dict[str, Interval]
    confusion: np.ndarray
    slices: list[Slice]
    reliability: list[ReliabilityBin]
    people: list[HumanScore]
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_strict(self) -> bool:
        return all(fold.is_strict for fold in self.folds)


def cross_validate(
    config: Config,
    *,
    out: Path,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    jobs: int | None = 1,
    cluster: str = "local",
) -> CrossValidation:
    """Train what is not trained yet, below `out`/runs, and score it. A protocol without folds is one fold.

    Args:
        folds: of `data.protocol`; None for all of them.
        jobs, cluster: as `run_grid`.

    Raises:
        ConfigError: a fold that the protocol does not have.
        SplitError: a fold that cannot be made, or lets speakers through unasked; before anything is trained.
        CheckpointError: no run could be finished; with the reasons.
    """
    num_folds = count_folds(config)
    folds = list(range(num_folds)) if folds is None else list(folds)
    if wrong := [fold for fold in folds if fold >= num_folds]:
        raise ConfigError(
            f"data.protocol={config.data.protocol} has {num_folds} folds, numbered from 0; there is no fold {wrong[0]}"
        )
    name = config.model.system if config.name == Config().name else config.name
    plan = {
        (fold, seed): run_config(config, name, (fold, seed), out) for fold in folds for seed in dict.fromkeys(seeds)
    }
    rows = label_clips(read_manifest(config.data.manifest).rows, config.data).rows
    planned = {fold: _plan_fold(rows, plan[fold, seeds[0]]) for fold in folds}
    runs: dict[Cell, RunResult] = {}
    splits: dict[Cell, Split] = {}
    failures: dict[str, str] = {}
    outcomes = run_grid(list(plan.values()), jobs=jobs, cluster=cluster)
    for (cell, run), outcome in zip(plan.items(), outcomes, strict=True):
        try:
            if outcome.reason:
                raise CheckpointError(outcome.reason)
            runs[cell], splits[cell] = read_run(run_folder(run)), read_split(run_folder(run))
        except AvserError as error:
            failures[run.name] = str(error)
    if not runs:
        reasons = "\n  ".join(f"{run}: {reason}" for run, reason in failures.items())
        raise CheckpointError(f"no run could be finished:\n  {reasons}")
    found = summarise(name, config, rows, planned, splits, runs, list(dict.fromkeys(seeds)))
    found.failures = failures
    if failures:
        found.notes.append(f"{len(failures)} of {len(plan)} runs failed and are missing here")
    return found


def summarise(
    name: str,
    config: Config,
    rows: Sequence[ClipRow],
    planned: Mapping[int, Split],
    splits: Mapping[Cell, Split],
    runs: Mapping[Cell, RunResult],
    seeds: list[int],
) -> CrossValidation:
    """Scores of finished runs.

    Args:
        rows: the labelled clips of the manifest.
        planned: fold -> the split that the manifest gives; stands in where no run of the fold is finished.
        splits: (fold, seed) -> the split that the run was trained with.
        runs: (fold, seed) -> the run, one at least.
    """
    emotions = next(iter(runs.values())).metrics["emotions"]
    by_id = {row.clip_id: row for row in rows}
    pools = {cell: _pool(cell, run, by_id) for cell, run in runs.items()}
    pool = join_pools(list(pools.values()))
    tested = [by_id[clip_id] for clip_id in dict.fromkeys(pool.clip_ids) if clip_id in by_id]
    is_intended = config.data.target == "intended"
    return CrossValidation(
        name=name,
        config=config,
        emotions=emotions,
        folds=[_describe_fold(fold, planned[fold], splits, pools, by_id) for fold in planned],
        seeds=seeds,
        runs=dict(runs),
        scores=score_pool(pool),
        measures=measure_pools(pools, vote_shares(tested, emotions, config)),
        recalls=dict(zip(emotions, recall_intervals(pool), strict=True)),
        confusion=pool.count()[1].sum(axis=0).mean(axis=0),
        slices=score_slices(pool, slice_columns(tested)),
        reliability=reliability_bins(pool.probabilities.max(axis=1), pool.labels == pool.answers),
        people=[
            *voted_scores(tested, emotions, config.data.merge),
            *(published_scores(row.corpus for row in tested) if is_intended else []),
        ],
        notes=_notes(splits, pool, rows, list(planned), seeds, runs),
    )


def slice_columns(rows: Sequence[ClipRow]) -> dict[str, dict[str, str]]:
    """Column of the manifest -> clip -> value; speakers of several corpora are told apart."""
    several = len({row.corpus for row in rows}) > 1
    columns = {column: {row.clip_id: getattr(row, column) for row in rows} for column in SLICE_COLUMNS}
    if several:
        columns["speaker"] = {row.clip_id: speaker_key(row) for row in rows}
    return columns


# --- folds -------------------------------------------------------------------------------------------------------


def _plan_fold(rows: list[ClipRow], config: Config) -> Split:
    """The split of one fold by the manifest; refused now if training would refuse it."""
    split = make_split(rows, config.data)
    audit_split(rows, split, allow_shared_speakers=config.data.allow_shared_speakers)
    return split


def _describe_fold(
    fold: int,
    planned: Split,
    splits: Mapping[Cell, Split],
    pools: Mapping[Cell, Pool],
    by_id: Mapping[str, ClipRow],
) -> FoldResult:
    split = next((split for (number, _), split in splits.items() if number == fold), planned)
    speakers = {part: {speaker_key(by_id[i]) for i in ids if i in by_id} for part, ids in split.parts().items()}
    there = [by_id[i] for ids in split.parts().values() for i in ids if i in by_id]
    split.verdict = judge_split(there, split)  # found anew: what a stored one says is not taken on trust
    own = [pool for (number, _), pool in pools.items() if number == fold]
    return FoldResult(
        fold,
        split,
        {part: len(found) for part, found in speakers.items()},
        speakers["val"].isdisjoint(speakers["test"]),
        score_pool(join_pools(own)) if own else None,
        deviation([mean_uar(pool.count()[1]) * 100 for pool in own]),
    )


def _pool(cell: Cell, run: RunResult, by_id: Mapping[str, ClipRow]) -> Pool:
    """A run's answers to its test clips, speakers named within their corpus."""
    pool = pool_answers({cell: run.test})
    rows = [by_id.get(clip_id) for clip_id in pool.clip_ids]
    pool.speakers = [speaker_key(row) if row else s for row, s in zip(rows, pool.speakers, strict=True)]
    return pool


def _notes(
    splits: Mapping[Cell, Split],
    pool: Pool,
    rows: Sequence[ClipRow],
    folds: Sequence[int],
    seeds: Sequence[int],
    runs: Mapping[Cell, RunResult],
) -> list[str]:
    notes = []
    tests = {fold: set(split.test) for (fold, _), split in splits.items()}
    if twice := sum(map(len, tests.values())) - len(set().union(*tests.values())):
        notes.append(f"{twice} clips are in the test of more than one fold, and count in each")
    if num_never := len({row.clip_id for row in rows} - set(pool.clip_ids)):
        notes.append(f"{num_never} of {len(rows)} clips are in no test of these folds")
    for fold in folds:
        if len({split.fingerprint() for (number, _), split in splits.items() if number == fold}) > 1:
            notes.append(f"fold {fold}: its seeds were trained on different splits")
    if uneven := [seed for seed in seeds if sum(number == seed for _, number in runs) < len(folds)]:
        notes.append(f"without every fold, so that they are no fair part of the mean: seeds {uneven}")
    return notes
