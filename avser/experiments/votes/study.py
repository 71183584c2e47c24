"""Many clips against human votes: is the mixture over time closer to them, and with whom does the model side?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from avser.data.cache import ClipCache
from avser.data.groups import speaker_key
from avser.data.manifest import ClipRow, read_manifest
from avser.errors import AvserError, ManifestError
from avser.evaluation.multiple_tests import holm
from avser.experiments.unseen import check_unseen
from avser.inference import TrainedModel, run_model
from avser.roi.salience.curves import attention_curve
from avser.roi.vote_sides import Sides, compare_sides
from avser.roi.votes import (
    MIXTURE,
    SCALED_SOFTMAX,
    Calibration,
    Evidence,
    VoteComparison,
    calibrate,
    compare_with_votes,
)
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Attended, Clip
from avser.training.run_data import load_data

COLUMNS = {AUDIO: "votes_audio", VIDEO: "votes_video", FUSED: "votes_av"}
PEOPLE = {AUDIO: "Voice alone", VIDEO: "Face alone", FUSED: "Voice and face"}  # what those heard and saw who voted
Pairs = Iterable[tuple[ClipRow, Clip]]


@dataclass
class VoteClips:
    """What a study reads, decoded as it is asked for.

    Attributes:
        test, validation: (row, clip) pairs; `validation` may be empty, then nothing is calibrated.
        train: rows of the clips that the model learned from; their votes or labels make the prior.
        protocol: of the split, or where else the clips are from.
    """

    test: Pairs
    validation: Pairs = ()
    train: Sequence[ClipRow] = ()
    protocol: str = ""


@dataclass
class VoteStudy:
    """What was found.

    Attributes:
        emotions: label order.
        comparisons: modality -> mixture and rivals against the votes of people who heard, saw, or did both.
        holm_p: modality -> p-value of mixture against temperature-scaled softmax, after Holm over the modalities.
        sides: of people and the fused model, where voice and face were voted differently; None without such votes.
        sources: modality -> the model that it is read off.
        clip_ids: modality -> the clips that count.
        protocol: of the split, or where else the clips are from.
        notes: what was left out, and why.
    """

    emotions: list[str]
    comparisons: dict[str, VoteComparison] = field(default_factory=dict)
    holm_p: dict[str, float] = field(default_factory=dict)
    sides: Sides | None = None
    sources: dict[str, str] = field(default_factory=dict)
    clip_ids: dict[str, list[str]] = field(default_factory=dict)
    protocol: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class _Asked:
    """A model's evidence on clips that people voted on, in one modality."""

    rows: list[ClipRow] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)


def load_vote_clips(models: Mapping[str, TrainedModel]) -> VoteClips:
    """The clips of the split that the models were trained with.

    Raises:
        CheckpointError: one of the models has seen some of the test clips.
    """
    config = (models.get(FUSED) or next(iter(models.values()))).config
    data = load_data(config)
    for model in models.values():
        check_unseen(model.folder, data.split.test)
    cache = ClipCache(Path(config.data.cache), config.media)
    test, val, train = ([data.rows[c] for c in ids] for ids in (data.split.test, data.split.val, data.split.train))
    return VoteClips(StoredClips(test, cache), StoredClips(val, cache), train, data.split.describe())


def read_vote_clips(models: Mapping[str, TrainedModel], manifest: Path, cache: Path) -> VoteClips:
    """All clips of another corpus than the models were trained on; nothing there to calibrate on.

    Raises:
        CacheError: a cache that was made with other settings than the models read.
        ManifestError: the cache holds none of the clips.
    """
    config = next(iter(models.values())).config
    stored = ClipCache(cache, config.media)
    rows = [row for row in read_manifest(manifest).rows if row.clip_id in stored]
    if not rows:
        raise ManifestError(f"{cache} holds none of the clips of {manifest}; run `avser cache` with that manifest")
    for model in models.values():
        if (model.folder / "split.json").is_file():
            check_unseen(model.folder, [row.clip_id for row in rows])
    return VoteClips(StoredClips(rows, stored), protocol=f"all clips of {manifest.name}")


@dataclass
class StoredClips:
    """Clips of a cache, loaded one by one; iterating gives (row, clip) pairs."""

    rows: list[ClipRow]
    cache: ClipCache

    def __iter__(self) -> Iterator[tuple[ClipRow, Clip]]:
        return ((row, self.cache.load(row.clip_id)) for row in self.rows)


def study_votes(
    models: Mapping[str, TrainedModel],
    clips: VoteClips,
    *,
    batch_size: int = 16,
    num_resamples: int = 2000,
    seed: int = 0,
) -> VoteStudy:
    """Hold what models say of voice, face and both against what people voted who heard, saw, or did both.

    Voice and face are read off the models of one modality where there are any, else off the branches of the fused one.
    The fused model's mixture counts the steps of both its branches, with half of the weight for each.

    Raises:
        AvserError: no clip that a model can read has votes of that modality.
    """
    main = models.get(FUSED) or next(iter(models.values()))
    study, merge = VoteStudy(list(main.emotions), protocol=clips.protocol), main.config.data.merge
    sources = {m: models.get(m, main) for m in MODALITIES if m in models.get(m, main).modalities}
    if len(main.modalities) > 1:
        sources[FUSED] = main
    study.sources = {m: m if m in models else FUSED for m in sources}
    test = _ask(sources, clips.test, merge, study.emotions, batch_size)
    validation = _ask(sources, clips.validation, merge, study.emotions, batch_size, need_votes=False)
    for modality, asked in test.items():
        if not asked.rows:
            study.notes.append(f"{PEOPLE[modality]}: no clip has {COLUMNS[modality]}.")
            continue
        votes = _votes_on(asked.rows, modality, merge, study)
        calibration = _calibrate(validation[modality], clips.train, modality, merge, study.emotions)
        speakers = [speaker_key(row) for row in asked.rows]
        study.clip_ids[modality] = [row.clip_id for row in asked.rows]
        study.comparisons[modality] = compare_with_votes(
            asked.evidence, votes, speakers, calibration, num_resamples=num_resamples, seed=seed
        )
        if not all(e.has_steps for e in asked.evidence):
            study.notes.append(
                f"{PEOPLE[modality]}: the model gives no logits for single steps, so there is no mixture."
            )
    if not study.comparisons:
        raise AvserError(
            f"no clip has votes of {' or '.join(sources)}; needed are the manifest's columns "
            f"{', '.join(COLUMNS[m] for m in sources)} (python -m preprocessing.cremad writes them)"
        )
    headline = {m: d.p_value for m, c in study.comparisons.items() if (d := c.difference(MIXTURE, SCALED_SOFTMAX))}
    study.holm_p = dict(zip(headline, holm(list(headline.values())).tolist(), strict=True)) if headline else {}
    if FUSED in test:
        _add_sides(study, test[FUSED], merge, num_resamples, seed)
    return study


def count_votes(
    row: ClipRow, modality: str, emotions: Sequence[str], merge: Mapping[str, str]
) -> tuple[np.ndarray, int]:
    """(C,) votes on a clip in label order, and how many went to emotions outside the label set."""
    text = getattr(row, COLUMNS[modality])
    counts: Counter[str] = Counter()
    for emotion, number in (json.loads(text) if text else {}).items():
        counts[merge.get(emotion, emotion)] += number
    inside = np.array([counts[emotion] for emotion in emotions], dtype=float)
    return inside, counts.total() - int(inside.sum())


def _ask(
    sources: Mapping[str, TrainedModel],
    pairs: Pairs,
    merge: Mapping[str, str],
    emotions: Sequence[str],
    batch_size: int,
    *,
    need_votes: bool = True,
) -> dict[str, _Asked]:
    """Modality -> evidence on the clips that its model can read and, if needed, people voted on."""
    found = {modality: _Asked() for modality in sources}
    stream = iter(pairs)
    while chunk := list(islice(stream, batch_size)):  # decoded clips are large: only one batch of them is held
        for modality, source in sources.items():
            parts = MODALITIES if modality == FUSED else (modality,)
            usable = [
                (row, clip)
                for row, clip in chunk
                if all(source.can_read(clip, part) for part in parts)
                and (not need_votes or count_votes(row, modality, emotions, merge)[0].any())
            ]
            if usable:
                found[modality].rows += [row for row, _ in usable]
                found[modality].evidence += _read_evidence(source, [clip for _, clip in usable], modality)
    return found


def _read_evidence(source: TrainedModel, clips: Sequence[Clip], modality: str) -> list[Evidence]:
    """Of one modality: the model's own answer where it reads that alone, else the verdict of the branch."""
    output = run_model(source, clips)
    parts = [output.attended[m] for m in (MODALITIES if modality == FUSED else (modality,)) if m in output.attended]
    is_answer = modality == FUSED or len(source.modalities) == 1
    logits = (output.logits if is_answer else output.attended[modality].logits).double().cpu().numpy()
    return [Evidence(logits[i], *_steps_of(parts, i)) for i in range(len(clips))]


def _steps_of(parts: Sequence[Attended], index: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights (T,) and logits (T, C) of one clip's steps, those of all parts with equal shares of the weight."""
    there = [part for part in parts if bool(part.present[index])]
    if not there or any(part.step_logits is None for part in there):
        return None, None
    weights = np.concatenate([attention_curve(part, index).values / len(there) for part in there])
    logits = [part.step_logits[index][part.mask[index]].double().cpu().numpy() for part in there]  # type: ignore[index]
    return (weights, np.concatenate(logits)) if np.isclose(weights.sum(), 1) else (None, None)


def _votes_on(rows: Sequence[ClipRow], modality: str, merge: Mapping[str, str], study: VoteStudy) -> np.ndarray:
    """(N, C) counts; a note says how many are not among them."""
    counted = [count_votes(row, modality, study.emotions, merge) for row in rows]
    if lost := sum(outside for _, outside in counted):
        total = lost + int(sum(votes.sum() for votes, _ in counted))
        study.notes.append(
            f"{PEOPLE[modality]}: {lost} of {total} votes went to emotions that the model does not know, and are not "
            "counted."
        )
    return np.stack([votes for votes, _ in counted])


def _calibrate(
    validation: _Asked, train: Sequence[ClipRow], modality: str, merge: Mapping[str, str], emotions: list[str]
) -> Calibration:
    """From the votes on the validation clips where any has some, else from their labels; the prior from training."""
    prior = _prior(train, modality, merge, emotions)
    voted = [count_votes(row, modality, emotions, merge)[0] for row in validation.rows]
    if any(votes.any() for votes in voted):
        kept = [i for i, votes in enumerate(voted) if votes.any()]
        targets: np.ndarray = np.stack([voted[i] / voted[i].sum() for i in kept])
        source = f"votes on {len(kept)} validation clips"
    else:
        kept = [i for i, row in enumerate(validation.rows) if row.emotion in emotions]
        targets = np.array([emotions.index(validation.rows[i].emotion) for i in kept], dtype=int)
        source = f"labels of {len(kept)} validation clips"
    if not kept:
        return Calibration(prior=prior)
    return calibrate([validation.evidence[i] for i in kept], targets, prior=prior, source=source)


def _prior(train: Sequence[ClipRow], modality: str, merge: Mapping[str, str], emotions: list[str]) -> np.ndarray | None:
    """(C,) mean shares of the votes on the training clips, else the shares of their labels; None without clips."""
    voted = [votes for row in train if (votes := count_votes(row, modality, emotions, merge)[0]).any()]
    if voted:
        return np.mean([votes / votes.sum() for votes in voted], axis=0)
    labels = Counter(row.emotion for row in train if row.emotion in emotions)
    return np.array([labels[e] for e in emotions]) / labels.total() if labels else None


def _add_sides(study: VoteStudy, asked: _Asked, merge: Mapping[str, str], num_resamples: int, seed: int) -> None:
    """Of the clips with votes of all three kinds."""
    voted = {m: [count_votes(row, m, study.emotions, merge)[0] for row in asked.rows] for m in COLUMNS}
    kept = [i for i in range(len(asked.rows)) if all(voted[m][i].any() for m in COLUMNS)]
    if kept:
        study.sides = compare_sides(
            np.stack([voted[AUDIO][i] for i in kept]),
            np.stack([voted[VIDEO][i] for i in kept]),
            np.stack([voted[FUSED][i] for i in kept]),
            np.array([asked.evidence[i].logits.argmax() for i in kept]),
            [speaker_key(asked.rows[i]) for i in kept],
            num_resamples=num_resamples,
            seed=seed,
        )
