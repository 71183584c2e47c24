"""Which moments a model's answer rests on, found by taking them away: occlusion and RISE in time.

Both ask the same thing of many variants of a clip (`perturbed_probabilities`), so they hold for any model, and their
curves are in units of probability: above 0 where a moment speaks for the emotion, below 0 where it speaks against it.
Give the batch without the modality that the model does not read (`Batch.without`), so that it is not copied about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from avser.roi.salience.moments import clip_generator, occupied_cells, streams_of
from avser.roi.salience.replacement import DEFAULT_OPERATORS, Replacer
from avser.structures import Batch, Curve


def occlusion(
    model: nn.Module,
    batch: Batch,
    modality: str,
    emotions: Sequence[int],
    *,
    window_s: float = 0.15,
    stride_s: float = 0.05,
    operator: str | None = None,
    max_rows: int | None = None,
    seed: int = 0,
    donors: Batch | None = None,
) -> list[Curve]:
    """How far the emotion's probability falls when a window of the clip is replaced.

    The value of a cell of `stride_s` seconds is the mean fall over the windows that cover it: all those that lie wholly
    within the clip; a clip shorter than a window has one, the whole clip. After Zeiler and Fergus 2014
    (arXiv:1311.2901), who cover patches of pictures.

    Args:
        model: in eval mode, on the batch's device.
        modality: "audio" or "video"; the other one is left alone.
        emotions: B indices: the emotion of each clip that is asked about.
        window_s: rounded to cells, one at least.
        operator: what takes the window's place, see `avser.roi.salience.replacement`; the modality's first by default.
        max_rows: variants that go through the model at once; by default as `rows_at_once` says.
        seed, donors: of the replacement.

    Returns:
        One curve a clip, at the middles of its cells from 0 to its last; of one or two steps where the clip has no
        more, such as a face that is one row of a table; of length 0 where it lacks the modality.

    Raises:
        ValueError: see `perturbed_probabilities`; or not one emotion for each clip.
    """
    operator = operator or _default(modality)
    _check_emotions(emotions, batch)
    occupied = occupied_cells(batch, modality, cell_s=stride_s).cpu().numpy()
    num_cells = _reach(occupied)
    if not num_cells.any():
        return [_curve(np.zeros(0), stride_s) for _ in emotions]
    width = max(1, round(window_s / stride_s))
    starts = np.arange(max(1, int(num_cells.max()) - width + 1))
    cells = np.arange(occupied.shape[1])
    windows = (cells >= starts[:, None]) & (cells < starts[:, None] + width)  # (S, K)
    within = starts[:, None] <= np.maximum(num_cells - width, 0)  # (S, B)
    drops = windows[:, None] & within[..., None]
    drops = np.concatenate([np.zeros_like(drops[:1]), drops])  # the first variant is the clip itself
    answers = perturbed_probabilities(
        model,
        batch,
        modality,
        drops,
        cell_s=stride_s,
        operator=operator,
        max_rows=max_rows,
        seed=seed,
        donors=donors,
    )
    curves = []
    for i, emotion in enumerate(emotions):
        real = windows[within[:, i]][:, : num_cells[i]].astype(float)  # (S_i, K_i)
        fall = answers[0, i, emotion] - answers[1:][within[:, i], i, emotion]
        values = fall @ real / real.sum(axis=0) if num_cells[i] else np.zeros(0)
        curves.append(_at_moments(_curve(values, stride_s), occupied[i]))
    return curves


def rise(
    model: nn.Module,
    batch: Batch,
    modality: str,
    emotions: Sequence[int],
    *,
    num_masks: int = 256,
    keep: float = 0.5,
    smooth_s: float = 0.2,
    cell_s: float = 0.05,
    operator: str | None = None,
    max_rows: int | None = None,
    seed: int = 0,
    donors: Batch | None = None,
) -> list[Curve]:
    """How much more probable the emotion is when a moment is kept, over random choices of the rest.

    RISE (Petsiuk, Das and Saenko 2018, arXiv:1806.07421) in time: sum of p * mask over the masks, divided by the mask's
    expectation. Two things are our choice. The expectation is the share of the masks drawn that keep the cell, which
    takes the chance of the draw out of the estimate; and the mean probability over all masks is subtracted, so that the
    value is E[p | kept] - E[p], with a sign. Masks are binary, as half a face cannot be replaced: the coarse random
    grid of the paper, shifted at random, enlarged and cut at one half, which makes blocks of `smooth_s`. Every clip has
    masks of its own, and those of voice and face differ: shared ones would give unrelated curves the same noise.

    Args:
        num_masks: variants of a clip; the noise of the curve falls with their root.
        keep: chance of a moment to be kept.
        smooth_s: length of a block, rounded to cells; nothing shorter is resolved.
        cell_s: step of the curve.
        model, batch, modality, emotions, operator, max_rows, donors: as in `occlusion`.
        seed: of the masks and of the replacement.

    Returns:
        One curve a clip, at the middles of its cells from 0 to its last; of one or two steps where the clip has no
        more, such as a face that is one row of a table; of length 0 where it lacks the modality.

    Raises:
        ValueError: as `occlusion`; or `keep` is not between 0 and 1.
    """
    if not 0 < keep < 1:
        raise ValueError(f"keep={keep}: must lie between 0 and 1, both excluded")
    operator = operator or _default(modality)
    _check_emotions(emotions, batch)
    occupied = occupied_cells(batch, modality, cell_s=cell_s).cpu().numpy()
    num_cells = _reach(occupied)
    if not num_cells.any():
        return [_curve(np.zeros(0), cell_s) for _ in emotions]
    block = max(1, round(smooth_s / cell_s))
    kept = np.ones((num_masks, len(batch), occupied.shape[1]), dtype=bool)
    for i, (clip_id, length) in enumerate(zip(batch.clip_ids, num_cells, strict=True)):
        generator = clip_generator(seed, clip_id, f"rise {modality}")
        kept[:, i, :length] = random_blocks(num_masks, int(length), block, keep, generator)
    answers = perturbed_probabilities(
        model,
        batch,
        modality,
        ~kept,
        cell_s=cell_s,
        operator=operator,
        max_rows=max_rows,
        seed=seed,
        donors=donors,
    )
    curves = []
    for i, emotion in enumerate(emotions):
        masks, p = kept[:, i, : num_cells[i]], answers[:, i, emotion]
        times_kept = masks.sum(axis=0)
        curves.append(_at_moments(_curve((p - p.mean()) @ masks / np.maximum(times_kept, 1), cell_s), occupied[i]))
    return curves


def random_blocks(
    num_masks: int, num_cells: int, block: int, keep: float, generator: np.random.Generator
) -> np.ndarray:
    """(M, K) bool: blocks of `block` cells from a random shift on, each True with chance `keep`."""
    shift = generator.integers(block, size=(num_masks, 1))
    coarse = generator.random((num_masks, -(-num_cells // block) + 1)) < keep
    return np.take_along_axis(coarse, (np.arange(num_cells) + shift) // block, axis=1)


@torch.no_grad()
def perturbed_probabilities(
    model: nn.Module,
    batch: Batch,
    modality: str,
    drops: np.ndarray | Tensor,
    *,
    cell_s: float,
    operator: str,
    max_rows: int | None = None,
    seed: int = 0,
    donors: Batch | None = None,
) -> np.ndarray:
    """What a model says of variants of clips.

    Variants of all clips go through the model together, those of like length in one batch and without the padding that
    they do not need; those that differ in nothing go through once. So an answer may differ by rounding from the one
    that the clip would get alone, and by no more where a model is blind to padding.

    Args:
        model: in eval mode, on the batch's device.
        drops: (M, B, K) bool: what is taken from clip b in its variant m, in cells of `cell_s` seconds from 0. A
            variant that drops nothing is the clip itself.
        operator, seed, donors: as in `avser.roi.salience.replacement.replace_moments`.
        max_rows: most variants that go through at once; by default as `rows_at_once` says.

    Returns:
        (M, B, C) float64, the softmax of the logits.

    Raises:
        ValueError: the model is in training mode, the shape of `drops` does not fit the batch, or as `replace_moments`.
    """
    if model.training:
        raise ValueError("the model is in training mode, where its answers depend on chance; call model.eval() first")
    asked = torch.as_tensor(drops, dtype=torch.bool).cpu().numpy()
    if asked.ndim != 3 or asked.shape[1] != len(batch):
        raise ValueError(f"drops have shape {asked.shape}; needed is (variants, {len(batch)} clips, cells)")
    if max_rows is None:
        max_rows = rows_at_once(next((stream.values.device for stream in streams_of(batch, modality)), None))
    if max_rows < 1:
        raise ValueError(f"max_rows={max_rows}: at least one variant must go through at a time")
    replacer = Replacer(batch, modality, cell_s=cell_s, operator=operator, seed=seed, donors=donors)
    occupied = occupied_cells(batch, modality, cell_s=cell_s).cpu().numpy()
    num_cells = min(asked.shape[2], occupied.shape[1])
    drop = (asked[..., :num_cells] & occupied[:, :num_cells]).reshape(-1, num_cells)  # (M * B, K)
    clips = np.tile(np.arange(len(batch)), len(asked))
    first, where = _distinct(clips, drop)
    lengths = occupied.sum(axis=1)[clips[first]] - (drop[first].sum(axis=1) if operator == "excise" else 0)
    answers: np.ndarray | None = None
    for chunk in _chunks(clips[first], lengths, max_rows):
        rows = torch.from_numpy(clips[first][chunk])
        logits = model(replacer(rows, torch.from_numpy(drop[first][chunk]), tight=True)).logits
        p = logits.double().softmax(dim=1).cpu().numpy()
        if answers is None:
            answers = np.zeros((len(first), p.shape[1]))
        answers[chunk] = p
    if answers is None:
        raise ValueError("there is nothing to ask: no variants, or no clips")
    return answers[where].reshape(len(asked), len(batch), -1)


def _distinct(clips: np.ndarray, drop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R',) that differ from all before them, and for every row (R,) which of those it equals."""
    keys = np.concatenate([clips[:, None].astype(np.int64), np.packbits(drop, axis=1).astype(np.int64)], axis=1)
    _, first, where = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, where.reshape(-1)


def rows_at_once(device: torch.device | None) -> int:
    """How many variants go through at once unless somebody says: on a CPU no more than its caches hold.

    Measured with av_roi's voice model on one core (seconds of CPU for four clips of 2 s): 0.70 by 8, 0.64 by 16, 0.82
    by 32 and 0.85 by 64.
    """
    return 16 if device is None or device.type == "cpu" else 64


def _chunks(clips: np.ndarray, lengths: np.ndarray, max_rows: int) -> Iterator[np.ndarray]:
    """Rows in batches of like length, the longest first, so that what does not fit in memory shows at once."""
    order = np.lexsort((clips, -lengths))
    for start in range(0, len(order), max_rows):
        yield order[start : start + max_rows]


def _reach(occupied: np.ndarray) -> np.ndarray:
    """(B,) the number of cells up to the last occupied one."""
    num_cells = occupied.shape[1]
    return (
        np.where(occupied.any(axis=1), num_cells - occupied[:, ::-1].argmax(axis=1), 0)
        if num_cells
        else occupied.sum(1)
    )


def _curve(values: np.ndarray, cell_s: float) -> Curve:
    return Curve((np.arange(len(values)) + 0.5) * cell_s, np.asarray(values, dtype=np.float64))


def _at_moments(curve: Curve, occupied: np.ndarray) -> Curve:
    """Of a clip with less than three moments these alone, so that nobody reads windows around them as a shape."""
    where = np.flatnonzero(occupied)
    return Curve(curve.times[where], curve.values[where]) if len(where) < 3 else curve


def _default(modality: str) -> str:
    if modality not in DEFAULT_OPERATORS:
        raise ValueError(f"modality={modality!r}: allowed are {' and '.join(DEFAULT_OPERATORS)}")
    return DEFAULT_OPERATORS[modality][0]


def _check_emotions(emotions: Sequence[int], batch: Batch) -> None:
    if len(emotions) != len(batch):
        raise ValueError(f"{len(emotions)} emotions for {len(batch)} clips; give the index of one for each")
