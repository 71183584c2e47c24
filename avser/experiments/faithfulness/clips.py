"""Saliences and their controls, measured clip by clip: the numbers that a study of faithfulness concludes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import nn

from avser.data.manifest import ClipRow
from avser.data.splits import speaker_key
from avser.roi.intervals import describe_degenerate
from avser.roi.salience.moments import occupied_cells
from avser.roi.salience.sources import SalienceFunction
from avser.roi.trust.controls import control_ranks, curve_ranks
from avser.roi.trust.faithfulness import (
    CELL_S,
    FRACTIONS,
    Faithfulness,
    average,
    concatenate,
    measure_faithfulness,
)
from avser.roi.trust.sanity_checks import randomised, rank_agreement
from avser.structures import Batch, Curve

PERMUTED = "permuted labels"
SHARES = (0.25, 0.5, 1.0)  # of the layers, from the head, that are randomised
LEAST_MOMENTS = 3  # a clip of fewer leaves a salience nothing to choose among


@dataclass
class Measured:
    """What was measured on N clips.

    Attributes:
        scores: operator -> salience or control -> values of all clips. The control by a model of permuted labels is
            another one for each salience: `permuted_name`.
        weight_agreement: salience -> share of layers -> (N, 2) Kendall's tau and Spearman's rho with the same salience
            once they are randomised; NaN where the curve has no shape.
        seed_agreement: salience -> (N,) Kendall's tau, mean over pairs of models, NaN for clips of which one model was
            asked; empty where there is one model throughout.
        degenerate: salience -> why a curve says nothing, or None, for each clip.
    """

    clip_ids: list[str]
    scores: dict[str, dict[str, Faithfulness]]
    weight_agreement: dict[str, dict[float, np.ndarray]]
    seed_agreement: dict[str, np.ndarray]
    degenerate: dict[str, list[str | None]]


def permuted_name(source: str) -> str:
    """What the curves of a model of permuted labels are called among the scores."""
    return f"{source}, {PERMUTED}"


def measure_clips(
    network: nn.Module,
    batches: Iterable[Batch],
    modality: str,
    sources: Mapping[str, SalienceFunction],
    *,
    operators: Sequence[str],
    seeds: Sequence[nn.Module] = (),
    permuted: nn.Module | None = None,
    controls: Sequence[str] | None = None,
    cell_s: float = CELL_S,
    fractions: Sequence[float] = FRACTIONS,
    num_draws: int = 4,
    shares: Sequence[float] = SHARES,
    max_rows: int | None = None,
    seed: int = 0,
) -> Measured:
    """All measurements of all clips; each batch goes through all of them before the next is read.

    What is asked about is the network's own answer to each clip; its salience for that emotion, and that of the other
    networks for the same emotion.

    Args:
        network: in eval mode, on the batches' device; so are `seeds` and `permuted`.
        batches: clips that have the modality.
        sources: name -> salience function.
        controls: keys of `avser.roi.trust.controls.CONTROLS`; all by default.
        num_draws: of the controls that chance decides.
        shares: of the layers to randomise (`avser.roi.trust.sanity_checks.randomised`); none to leave that check out.
        max_rows: variants that go through at once, see `avser.roi.salience.perturbation.rows_at_once`.
        seed: of draws, of ties, of weights and of what takes the place of moments.
    """
    anew = {share: randomised(network, share=share, seed=seed).eval() for share in shares}
    parts = []
    for batch in batches:
        with torch.no_grad():
            emotions = network(batch).logits.argmax(dim=1).tolist()
        ask = partial(_ask, batch=batch, modality=modality, emotions=emotions, sources=sources)
        curves = ask(network)
        occupied = occupied_cells(batch, modality, cell_s=cell_s).cpu().numpy()
        rank = partial(curve_ranks, clip_ids=batch.clip_ids, occupied=occupied, cell_s=cell_s, seed=seed)
        ranks = {name: rank(found) for name, found in curves.items()}
        ranks |= control_ranks(
            batch, modality, occupied, cell_s=cell_s, controls=controls, num_draws=num_draws, seed=seed
        )
        if permuted is not None:
            ranks |= {permuted_name(name): rank(found) for name, found in ask(permuted).items()}
        measure = partial(measure_faithfulness, cell_s=cell_s, fractions=fractions, max_rows=max_rows, seed=seed)
        scores = {op: measure(network, batch, modality, emotions, ranks, operator=op) for op in operators}
        parts.append(
            Measured(
                batch.clip_ids,
                scores,
                _compare_weights(curves, {share: ask(other) for share, other in anew.items()}),
                _compare_seeds([curves, *(ask(other) for other in seeds)]),
                {name: _degenerate(found, occupied) for name, found in curves.items()},
            )
        )
    return join(parts)


def choose_rows(rows: Sequence[ClipRow], num_clips: int, *, seed: int = 0) -> list[ClipRow]:
    """At most so many clips, spread over speakers and, within what they have, over emotions; in their given order.

    Speakers take turns in random order; each gives a random clip of the emotion that came from that speaker least
    often so far, and among those of the one that came least often from all.
    """
    rng = np.random.default_rng(seed)
    left: dict[str, list[ClipRow]] = {}
    for i in rng.permutation(len(rows)):
        left.setdefault(speaker_key(rows[i]), []).append(rows[i])
    taken: list[ClipRow] = []
    while len(taken) < num_clips and any(left.values()):
        for speaker in [s for s in left if left[s]][: num_clips - len(taken)]:
            own = [row.emotion for row in taken if speaker_key(row) == speaker]
            all_taken = [row.emotion for row in taken]
            num_before = {row.emotion: (own.count(row.emotion), all_taken.count(row.emotion)) for row in left[speaker]}
            best = min(left[speaker], key=lambda row: num_before[row.emotion])
            left[speaker].remove(best)
            taken.append(best)
    chosen = {row.clip_id for row in taken}
    return [row for row in rows if row.clip_id in chosen]


def average_models(parts: Sequence[Measured]) -> Measured:
    """The same clips asked of several models: means clip by clip. A curve is degenerate where one model's is.

    The agreement between the models is that of the first part that has any.
    """
    first = parts[0]
    return Measured(
        first.clip_ids,
        {
            operator: {name: average([part.scores[operator][name] for part in parts]) for name in by_name}
            for operator, by_name in first.scores.items()
        },
        {
            name: {share: _finite_mean([part.weight_agreement[name][share] for part in parts]) for share in by_share}
            for name, by_share in first.weight_agreement.items()
        },
        next((part.seed_agreement for part in parts if part.seed_agreement), {}),
        {
            name: [
                next(filter(None, reasons), None) for reasons in zip(*(p.degenerate[name] for p in parts), strict=True)
            ]
            for name in first.degenerate
        },
    )


def join(parts: Sequence[Measured]) -> Measured:
    """One after the other, clip by clip; parts without clips are left out."""
    parts = [part for part in parts if part.clip_ids]
    if not parts:
        return Measured([], {}, {}, {}, {})
    first = parts[0]
    return Measured(
        [clip_id for part in parts for clip_id in part.clip_ids],
        {
            operator: {name: concatenate([part.scores[operator][name] for part in parts]) for name in by_name}
            for operator, by_name in first.scores.items()
        },
        {
            name: {share: np.concatenate([part.weight_agreement[name][share] for part in parts]) for share in by_share}
            for name, by_share in first.weight_agreement.items()
        },
        {
            name: np.concatenate([p.seed_agreement.get(name, np.full(len(p.clip_ids), np.nan)) for p in parts])
            for name in dict.fromkeys(name for part in parts for name in part.seed_agreement)
        },
        {name: [reason for part in parts for reason in part.degenerate[name]] for name in first.degenerate},
    )


def _ask(
    network: nn.Module, *, batch: Batch, modality: str, emotions: Sequence[int], sources: Mapping[str, SalienceFunction]
) -> dict[str, list[Curve]]:
    return {name: salience(network, batch, modality, emotions) for name, salience in sources.items()}


def _compare_weights(
    curves: dict[str, list[Curve]], anew: dict[float, dict[str, list[Curve]]]
) -> dict[str, dict[float, np.ndarray]]:
    found: dict[str, dict[float, np.ndarray]] = {name: {} for name in curves}
    for share, others in anew.items():
        for name, own in curves.items():
            found[name][share] = np.array(
                [
                    (np.nan, np.nan) if describe_degenerate(a) else rank_agreement(a, b)
                    for a, b in zip(own, others[name], strict=True)
                ]
            )
    return found


def _compare_seeds(models: list[dict[str, list[Curve]]]) -> dict[str, np.ndarray]:
    if len(models) < 2:
        return {}
    return {
        name: _finite_mean(
            [
                np.array([rank_agreement(a, b)[0] for a, b in zip(one[name], other[name], strict=True)])
                for one, other in combinations(models, 2)
            ]
        )
        for name in models[0]
    }


def _degenerate(curves: Sequence[Curve], occupied: np.ndarray) -> list[str | None]:
    """Why each curve says nothing about when: its own shape, or a clip with hardly a moment to choose from.

    A salience that takes moments away may give a clip of one step a curve with a peak.

    Args:
        occupied: (B, K) bool, the moments of each clip.
    """
    counts = occupied.sum(axis=1).tolist()
    few = [f"the clip has only {n} moment{'s' * (n != 1)}" if n < LEAST_MOMENTS else None for n in counts]
    return [describe_degenerate(curve) or reason for curve, reason in zip(curves, few, strict=True)]


def _finite_mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over several arrays of what is finite in them; NaN where none is."""
    stack = np.stack(values)
    told = np.isfinite(stack)
    return np.where(told.any(axis=0), np.where(told, stack, 0).sum(axis=0) / np.maximum(told.sum(axis=0), 1), np.nan)
