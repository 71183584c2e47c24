"""Does the answer rest on the moments that a salience names? Take them away, or leave only them, and ask again.

Comprehensiveness, sufficiency and their means over shares of the clip are those of ERASER (DeYoung et al. 2020,
"ERASER: a benchmark to evaluate rationalized NLP models"); the areas under deletion and insertion are those of RISE
(Petsiuk, Das & Saenko 2018, arXiv:1806.07421). A number of either alone says little: what takes the place of moments
moves an answer too, and so does any loud moment. They mean something beside the same numbers of the controls
(`avser.roi.trust.controls`), under two operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from torch import nn

from avser.errors import AvserError
from avser.roi.salience.moments import occupied_cells
from avser.roi.salience.perturbation import perturbed_probabilities
from avser.structures import Batch

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)
MORE_LEVELS = (0.35, 0.65, 0.8)  # between the fractions and the whole, so that areas have no long straight line
CELL_S = 0.02


@dataclass
class Faithfulness:
    """How an order of moments fares on B clips; NaN throughout for a clip without the modality.

    Attributes:
        comprehensiveness: (B, Q) probability lost without the first share of moments; high is good.
        sufficiency: (B, Q) probability lost with nothing but them; low is good, and below 0 it is gained.
        deletion_auc: (B,) area under the probability while moments go, the first ones first; low is good.
        insertion_auc: (B,) area under the probability while they come; high is good.
        shares: (B, L) shares of the clip, 0 to 1, and the probability `without` (B, L) the first ones, and with
            these `alone` (B, L): what the areas are taken of.
    """

    comprehensiveness: np.ndarray
    sufficiency: np.ndarray
    deletion_auc: np.ndarray
    insertion_auc: np.ndarray
    shares: np.ndarray
    without: np.ndarray
    alone: np.ndarray

    def measures(self) -> dict[str, np.ndarray]:
        """Measure -> (B,): the first two as means over the shares (area over the perturbation curve, AOPC)."""
        return {
            "comprehensiveness": self.comprehensiveness.mean(axis=1),
            "sufficiency": self.sufficiency.mean(axis=1),
            "deletion_auc": self.deletion_auc,
            "insertion_auc": self.insertion_auc,
        }


def measure_faithfulness(
    model: nn.Module,
    batch: Batch,
    modality: str,
    emotions: Sequence[int],
    ranks: Mapping[str, np.ndarray],
    *,
    operator: str,
    cell_s: float = CELL_S,
    fractions: Sequence[float] = FRACTIONS,
    more_levels: Sequence[float] = MORE_LEVELS,
    max_rows: int | None = None,
    seed: int = 0,
    donors: Batch | None = None,
) -> dict[str, Faithfulness]:
    """What orders of moments are worth to a model, under one way to replace.

    All orders, shares and clips go through the model together, and what comes up twice goes once: deletion up to a
    share is also its comprehensiveness. Shares are of the cells in which the clip has something, rounded, one cell at
    least; areas are taken by trapezoids over the shares that come out.

    Args:
        model: in eval mode, on the batch's device.
        emotions: B indices: whose probability is looked at, as a rule the model's own answers.
        ranks: name -> (D, B, K), see `avser.roi.trust.controls`; results are means over the D draws.
        operator: what takes the place of what goes, see `avser.roi.salience.replacement`.
        cell_s: length of a cell in seconds; at most one frame should lie in it, or a face loses several at once.
        fractions: Q shares of the clip for comprehensiveness and sufficiency.
        more_levels: further shares at which the areas are supported, beside 0, the fractions and 1.
        max_rows, seed, donors: as in `perturbed_probabilities`.

    Raises:
        AvserError: the model's answer to a variant is not finite.
        ValueError: shares outside (0, 1), ranks that do not fit the batch, or as `perturbed_probabilities`.
    """
    shares = np.unique([0.0, *fractions, *more_levels, 1.0])
    if shares[0] < 0 or shares[-1] > 1 or not all(0 < q < 1 for q in fractions):
        raise ValueError(f"fractions={tuple(fractions)}, more_levels={tuple(more_levels)}: must lie between 0 and 1")
    occupied = occupied_cells(batch, modality, cell_s=cell_s).cpu().numpy()
    for name, rank in ranks.items():
        if rank.shape[1:] != occupied.shape:
            raise ValueError(f"ranks of {name} have shape {rank.shape}; needed is (draws, {occupied.shape})")
    totals = occupied.sum(axis=1)
    counts = np.round(shares[:, None] * totals).astype(int)
    counts[1:] = np.maximum(counts[1:], np.minimum(totals, 1))  # (L, B)
    stacked = np.concatenate(list(ranks.values()))  # (R, B, K)
    gone = stacked < counts[:, None, :, None]  # (L, R, B, K)
    drops = np.stack([gone & occupied, ~gone & occupied]).reshape(-1, *occupied.shape)
    answers = perturbed_probabilities(
        model, batch, modality, drops, cell_s=cell_s, operator=operator, max_rows=max_rows, seed=seed, donors=donors
    )
    p = answers[:, np.arange(len(batch)), np.asarray(emotions)]
    if not np.isfinite(p[:, totals > 0]).all():
        raise AvserError(
            f"the model has no answer to a clip with next to nothing left ({operator}); take another operator"
        )
    p = np.where(totals > 0, p, np.nan).reshape(2, len(shares), len(stacked), len(batch))
    at = np.searchsorted(shares, fractions)
    ends = np.cumsum([len(rank) for rank in ranks.values()])[:-1]
    parts = np.split(p, ends, axis=2)
    taken = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    return {name: _score(part, taken, at) for name, part in zip(ranks, parts, strict=True)}


def concatenate(parts: Sequence[Faithfulness]) -> Faithfulness:
    """One after the other, clip by clip."""
    return Faithfulness(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Faithfulness)))


def average(parts: Sequence[Faithfulness]) -> Faithfulness:
    """The mean of several of the same clips, e.g. of models that differ in their seed."""
    return Faithfulness(*(np.mean([getattr(part, f.name) for part in parts], axis=0) for f in fields(Faithfulness)))


def _score(p: np.ndarray, shares: np.ndarray, at: np.ndarray) -> Faithfulness:
    """From probabilities (2, L, D, B) without and with only the first `shares` (L, B); fractions stand at `at` (Q,)."""
    whole = p[0, 0]  # (D, B)
    without, alone = p
    width = np.diff(shares, axis=0)[:, None]
    area = (width * (p[:, 1:] + p[:, :-1]) / 2).sum(axis=1).mean(axis=1)  # (2, B)
    return Faithfulness(
        comprehensiveness=(whole - without[at]).mean(axis=1).T,
        sufficiency=(whole - alone[at]).mean(axis=1).T,
        deletion_auc=area[0],
        insertion_auc=area[1],
        shares=shares.T,
        without=without.mean(axis=1).T,
        alone=alone.mean(axis=1).T,
    )
