"""Area attention (Li et al. 2019): attention whose memory is every small rectangle of a map.

Y. Li, L. Kaiser, S. Bengio, S. Si: "Area attention", ICML 2019. The forms of key and value are those of its code in
tensor2tensor (`layers/area_attention.py`) that have no weights of their own. That the answer is told cell by cell, so
that one can read off where it comes from, is our addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

HIDDEN = -1e30  # score of a masked cell: no area that holds one gets any weight


@dataclass
class Areas:
    """All areas of one size.

    Attributes:
        height, width: in cells.
        scores: (..., H - height + 1, W - width + 1, Q) of each area for each query, by its upper left cell; less the
            query's highest score of any size, so that none is above 0.
    """

    height: int
    width: int
    scores: Tensor


def box_averages(scores: Tensor, max_height: int, max_width: int) -> Iterator[Areas]:
    """Scores of all rectangles by their mean, small ones first.

    A query's score of an area is its product with the mean of the area's cells, hence the mean of its scores of them:
    no key is ever written out.

    Args:
        scores: (..., H, W, Q) products of each cell with each query; about -1e30 hides a cell and all areas around it.
    """
    height, width = scores.shape[-3:-1]
    scores = scores - scores.detach().amax(dim=(-3, -2), keepdim=True)  # no mean is above the highest cell
    rows = scores
    for h in range(1, max_height + 1):
        if h > 1:  # sums over h rows, from those over h - 1
            rows = rows.narrow(-3, 0, height - h + 1) + scores.narrow(-3, h - 1, height - h + 1)
        box = rows
        for w in range(1, max_width + 1):
            if w > 1:
                box = box.narrow(-2, 0, width - w + 1) + rows.narrow(-2, w - 1, width - w + 1)
            yield Areas(h, w, box / (h * w))


def keyed_scores(
    cells: Tensor, queries: Tensor, mask: Tensor, max_height: int, max_width: int, *, key: str
) -> list[Areas]:
    """Scores of all rectangles by their maximum in each feature, or by a sample around their mean.

    Args:
        cells: (S, G, H, W, D), queries: (S, G, Q, D).
        mask: (S, W), False hides a column and all areas around it.
        key: "max" or "sample"; the sample's deviation is that of the area's cells, with tensor2tensor's 1e-6 added to
            the variance.
    """
    areas = []
    for h in range(1, max_height + 1):
        for w in range(1, max_width + 1):
            window = windows(cells, h, w)  # (S, G, H', W', D, h, w)
            if key == "max":
                keys = window.amax(dim=(-2, -1))
            else:
                variance, mean = torch.var_mean(window, dim=(-2, -1), correction=0)
                keys = mean + (variance + 1e-6).sqrt() * torch.randn_like(mean)
            scores = torch.einsum("sghwd,sgqd->sghwq", keys, queries).float()
            is_whole = mask.unfold(-1, w, 1).all(dim=-1)  # (S, W')
            areas.append(Areas(h, w, scores.masked_fill(~is_whole[:, None, None, :, None], HIDDEN)))
    highest = torch.stack([area.scores.detach().amax(dim=(-3, -2), keepdim=True) for area in areas]).amax(dim=0)
    return [Areas(area.height, area.width, area.scores - highest) for area in areas]


def windows(cells: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W, D) -> (..., H - height + 1, W - width + 1, D, height, width): the cells of all areas of a size."""
    return cells.unfold(-3, height, 1).unfold(-3, width, 1)


def area_shares(areas: Iterable[Areas], cells: Tensor, *, value: str = "sum", dropout: float = 0.0) -> Tensor:
    """Attention over all rectangles of a map, told as how much of each cell every query gets.

    One softmax runs over all sizes, and what a cell passes on is summed over the areas that hold it: no area is ever
    written out, and the result is a map of cells again.

    Args:
        areas: those of one height one after another.
        cells: (..., H, W, D), which are the queries too.
        value: an area passes on the "sum" of its cells, or their "mean".
        dropout: chance that an area is left out for a query.

    Returns:
        (..., H, W, Q): attention's answer to query q is sum over cells of share * cell.
    """
    *batch, height, width, _ = cells.shape
    shares = cells.new_zeros(*batch, height, width, height * width, dtype=torch.float32)
    total = shares.new_zeros(*batch, 1, 1, height * width)
    for h, of_height in groupby(areas, key=lambda area: area.height):
        in_rows = shares.new_zeros(*batch, height - h + 1, width, height * width)
        for area in of_height:
            power, w = torch.exp(area.scores), area.width
            total = total + power.sum(dim=(-3, -2), keepdim=True)
            passed = drop_some(power, dropout) if dropout else power
            if value == "mean":
                passed = passed / (h * w)
            for column in range(w):
                in_rows.narrow(-2, column, width - w + 1).add_(passed)
        for row in range(h):
            shares.narrow(-3, row, height - h + 1).add_(in_rows)
    return shares / total


def told_by_maxima(
    areas: Iterable[Areas], cells: Tensor, dense: Tensor, asked: Tensor, *, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """What areas that pass on the maximum of their cells in each feature add to a dense layer on the attended map.

    Args:
        cells: (S, G, H, W, D).
        dense: (C, G, Q, D) weights of the layer for each query's answer.
        asked: (S, G, Q) which queries count.
        dropout: chance that an area is left out for a query.

    Returns:
        (S, G, H, W) how much of each cell attention gathers, as a mean over features, and (S, W, C) what the cells of
        each column add to the layer's outputs.
    """
    powers = [(area.height, area.width, torch.exp(area.scores)) for area in areas]
    total = sum(power.sum(dim=(-3, -2), keepdim=True) for _, _, power in powers)
    gathered = cells.new_zeros(cells.shape[:4], dtype=torch.float32)
    evidence = cells.new_zeros(len(cells), cells.shape[3], len(dense), dtype=torch.float32)
    for h, w, power in powers:
        weight = (drop_some(power, dropout) if dropout else power) / total * asked[:, :, None, None]
        window = windows(cells, h, w)
        highest = window.amax(dim=(-2, -1), keepdim=True)
        holds = (window == highest).to(cells.dtype)
        holds = holds / holds.sum(dim=(-2, -1), keepdim=True)  # (S, G, H', W', D, h, w)
        told = torch.einsum("sghwq,cgqd->sghwdc", weight, dense) * highest[..., 0]
        taken = weight.sum(dim=-1)[..., None, None] * holds.mean(dim=-3)
        for column in range(w):
            of_column = holds[..., column].sum(dim=-1)
            there = evidence.narrow(1, column, evidence.shape[1] - w + 1)
            there.add_(torch.einsum("sghwdc,sghwd->swc", told, of_column))
            for row in range(h):
                where = gathered.narrow(2, row, power.shape[2]).narrow(3, column, power.shape[3])
                where.add_(taken[..., row, column])
    return gathered, evidence


def drop_some(values: Tensor, chance: float) -> Tensor:
    """Dropout with a chance in 256ths, from random bytes: a number drawn for each area would take most of the time."""
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device).random_(-(2**63), None)
    threshold = round(256 * chance)
    kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= threshold
    return values * kept * (256 / (256 - threshold))
