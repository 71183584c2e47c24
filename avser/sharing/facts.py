"""What a model card tells of a run: its scores, groups, calibration and corpora, without naming a speaker or a clip."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avser.config import Config
from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow, read_manifest
from avser.errors import CheckpointError, ManifestError
from avser.evaluation.pooled import Pool, PooledScores, Slice, recall_intervals, score_pool, score_slices
from avser.evaluation.statistics import Interval
from avser.experiments.cross_validation.measures import Measure, measure_pools, vote_shares
from avser.experiments.cross_validation.study import slice_columns
from avser.experiments.runs.result import RunResult, read_run
from avser.experiments.unseen import read_split
from avser.training.checkpoint import MODEL_FILE, load_trained

# Slices that would name people, or, as a session does, the few who were in it.
NAMING_COLUMNS = ("speaker", "session")
STUDY_FILE = "study.json"


@dataclass
class RunFacts:
    """A finished run as its card tells it.

    Attributes:
        scores: of the test clips.
        recalls: emotion -> recall in percent.
        measures: UAR, WA, F1, calibration, and the distance to votes where there are some.
        slices: the test clips by groups of people and kinds of clips.
        speaker_uars: UAR in percent of every test speaker, sorted, without their names.
        corpora: test and training clips came from them; empty where the manifest is not there.
        study: what `avser roi` found, as study.json has it; None where it was not given.
        unknown: what the card cannot tell, in its own words.
        warnings: the same for whoever writes it: why, and what to do.
    """

    folder: Path
    config: Config
    emotions: list[str]
    metrics: dict[str, Any]
    scores: PooledScores
    recalls: dict[str, Interval]
    measures: list[Measure]
    slices: list[Slice]
    speaker_uars: list[float]
    corpora: list[str]
    study: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_strict(self) -> bool:
        """Nobody in test was trained or chosen on, and the test chose nothing."""
        return RunResult(self.metrics, {}, {}).is_strict


def read_facts(run: Path, *, manifest: Path | None = None, regions: Path | None = None) -> RunFacts:
    """What is known of a finished run, from its folder and its manifest; the media and the cache are not needed.

    Args:
        manifest: of the corpus, where it is no longer where the run found it.
        regions: folder that `avser roi RUN --out DIR` wrote.

    Raises:
        CheckpointError: not a finished run, or no regions in that folder.
    """
    _, config, emotions = load_trained(run / MODEL_FILE)
    result = read_run(run, needs_timing=False)
    rows, warnings = _find_rows(config, manifest)
    unknown = [] if rows else ["on which corpora and which groups of people it was trained and tested"]
    pool = _pool(result, rows, config.seed)
    if num_lacking := len(set(pool.clip_ids) - rows.keys()) if rows else 0:
        unknown.append(f"the groups of {num_lacking} of {pool.num_clips} test clips, which the manifest lacks")
        warnings.append(f"{num_lacking} test clips are not in the manifest: give the one of the run by --manifest")
    study = _read_study(regions) if regions else None
    if study is not None and study.get("num_clips") != pool.num_clips:
        counts = f"{study.get('num_clips')} clips, and the test has {pool.num_clips}"
        warnings.append(f"the regions were measured on {counts}: make sure that they are of this run")
    tested = [rows[clip_id] for clip_id in pool.clip_ids if clip_id in rows]
    columns = {name: found for name, found in slice_columns(tested).items() if name not in NAMING_COLUMNS}
    return RunFacts(
        folder=run,
        config=config,
        emotions=emotions,
        metrics=result.metrics,
        scores=score_pool(pool),
        recalls=dict(zip(emotions, recall_intervals(pool), strict=True)),
        measures=measure_pools({(0, config.seed): pool}, vote_shares(tested, emotions, config)),
        slices=score_slices(pool, columns) if rows else [],
        speaker_uars=sorted(s.scores.uar.value for s in _speakers(pool)),
        corpora=sorted({rows[clip_id].corpus for clip_id in _used_clips(run) & rows.keys()}),
        study=study,
        notes=nameless_notes(result),
        unknown=unknown,
        warnings=warnings,
    )


def nameless_notes(result: RunResult) -> list[str]:
    """The notes of a run without the clips and people that they give as examples."""
    names = {name for part in result.parts.values() for name in (*part.clip_ids, *part.speakers)}
    names = {name for name in names if not name.isdecimal()}  # a number may be anything; a speaker's follows a corpus
    found = []
    for note in result.metrics.get("notes") or []:
        cut = re.split(r",? e\.g\. |: (?=[^:]*$)" if "left out: " in note else r",? e\.g\. ", note)[0]
        if names.isdisjoint(re.findall(r"[\w.-]*\w", cut)) and not re.search(r"\w/\d+", cut):
            found.append(cut)
    return found


def _find_rows(config: Config, manifest: Path | None) -> tuple[dict[str, ClipRow], list[str]]:
    path = manifest or Path(config.data.manifest)
    try:
        return {row.clip_id: row for row in read_manifest(path).rows}, []
    except (ManifestError, OSError) as error:
        if manifest:
            raise
        advice = "the card names neither corpora, nor their terms, nor groups of people; give it by --manifest"
        return {}, [f"the manifest cannot be read ({error}): {advice}"]


def _used_clips(run: Path) -> set[str]:
    """The clips that train, validate or test."""
    return {clip_id for clip_ids in read_split(run).parts().values() for clip_id in clip_ids}


def _pool(result: RunResult, rows: dict[str, ClipRow], seed: int) -> Pool:
    test = result.test
    if not test.clip_ids:
        raise CheckpointError("the run has no answers to test clips; evaluate it, or train it to its end")
    keys = [
        speaker_key(rows[clip_id]) if clip_id in rows else speaker
        for clip_id, speaker in zip(test.clip_ids, test.speakers, strict=True)
    ]
    seeds = np.full(len(test.clip_ids), seed)
    return Pool(test.clip_ids, keys, seeds, test.labels, test.answers, test.probabilities)


def _speakers(pool: Pool) -> list[Slice]:
    return score_slices(pool, {"speaker": dict(zip(pool.clip_ids, pool.speakers, strict=True))})


def _read_study(folder: Path) -> dict[str, Any]:
    try:
        study = json.loads((folder / STUDY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: no {STUDY_FILE} that can be read ({error}); give the folder that `avser roi RUN --out DIR` "
            "wrote for the whole test split"
        ) from error
    if not isinstance(study, dict):
        raise CheckpointError(f"{folder / STUDY_FILE}: expected keys and values, got {type(study).__name__}")
    return study
