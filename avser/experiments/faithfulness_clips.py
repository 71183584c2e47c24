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
from avser.roi.intervals import describe_degenerate
from avser.roi.salience.moments import occupied_cells
from avser.roi.salience.sources import SalienceFunction
from avser.roi.trust.controls import control_ranks, curve_ranks
from avser.roi.trust.faithfulness import CELL_S, FRACTIONS, Faithfulness, concatenate, measure_faithfulness
from avser.roi.trust.sanity_checks import randomised, rank_agreement
from avser.structures import Batch, Curve

PERMUTED = "permuted labels"
SHARES = (0.25, 0.5, 1.0)  # of the layers, from the head, that are randomised


@dataclass
class Measured:
    """What was measured on N clips.

    Attributes:
        scores: operator -> salience or control -> values of all clips. The control by a model of permuted labels is
            another one for each salience: `permuted_name`.
        weight_agreement: salience -> share of layers -> (N, 2) Kendall's tau and Spearman's rho with the same salience
            once they are randomised; NaN where the curve has no shape.
        seed_agreement: salience -> (N,) Kendall's tau, mean over pairs of models; empty where there is one model.
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
    max_rows: int = 64,
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
        max_rows: variants of clips that go through the network at once.
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
                {name: [describe_degenerate(curve) for curve in found] for name, found in curves.items()},
            )
        )
    return _merge(parts)


def choose_rows(rows: Sequence[ClipRow], num_clips: int, *, seed: int = 0) -> list[ClipRow]:
    """At most so many clips, spread over speakers and, within what they have, over emotions; in their given order.

    Speakers take turns in random order; each gives a random clip of the emotion that came from that speaker least
    often so far, and among those of the one that came least often from all.
    """
    rng = np.random.default_rng(seed)
    left: dict[str, list[ClipRow]] = {}
    for i in rng.permutation(len(rows)):
        left.setdefault(rows[i].speaker, []).append(rows[i])
    taken: list[ClipRow] = []
    while len(taken) < num_clips and any(left.values()):
        for speaker in [s for s in left if left[s]][: num_clips - len(taken)]:
            own = [row.emotion for row in taken if row.speaker == speaker]
            all_taken = [row.emotion for row in taken]
            num_before = {row.emotion: (own.count(row.emotion), all_taken.count(row.emotion)) for row in left[speaker]}
            best = min(left[speaker], key=lambda row: num_before[row.emotion])
            left[speaker].remove(best)
            taken.append(best)
    chosen = {row.clip_id for row in taken}
    return [row for row in rows if row.clip_id in chosen]


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
    found = {}
    for name in models[0]:
        taus = np.array(
            [
                [rank_agreement(a, b)[0] for a, b in zip(one[name], other[name], strict=True)]
                for one, other in combinations(models, 2)
            ]
        )
        told = np.isfinite(taus)
        found[name] = np.where(
            told.any(axis=0), np.where(told, taus, 0).sum(axis=0) / np.maximum(told.sum(axis=0), 1), np.nan
        )
    return found


def _merge(parts: Sequence[Measured]) -> Measured:
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
        {name: np.concatenate([part.seed_agreement[name] for part in parts]) for name in first.seed_agreement},
        {name: [reason for part in parts for reason in part.degenerate[name]] for name in first.degenerate},
    )
