"""What a salience has to beat: orders of a clip's moments, and curves along time, that know nothing of the model.

An order is a row of ranks, one a cell of time: rank 0 is the moment that counts most, and a cell in which the clip has
nothing has no rank but the number of cells, beyond all others. Removing "the top fifth" then means the same for a
salience and for every control. A curve (`control_curves`) stands in for a salience where curves are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avser.roi.intervals import step_intervals
from avser.roi.salience.moments import ROUNDING, Stream, cell_of, clip_generator, streams_of
from avser.roi.trust.loudness import decibels
from avser.structures import AUDIO, VIDEO, Batch, Curve

EDGE_S = 1e-6  # what lies on an edge between two steps belongs to the later one, whatever rounding says
TIE = 1e-9  # of the largest value: what differs by less is a tie, as rounding must not decide it

# batch, modality, occupied (B, K), cell_s, num_draws, seed -> ranks (D, B, K)
OrderFunction = Callable[[Batch, str, np.ndarray, float, int, int], np.ndarray]


@dataclass(frozen=True)
class Control:
    """An order of moments that a salience is compared with.

    Attributes:
        words: modality -> its name in a sentence.
        order: ranks (D, B, K); D is the number of draws asked for where chance decides, else 1.
    """

    words: dict[str, str]
    order: OrderFunction


def control_ranks(
    batch: Batch,
    modality: str,
    occupied: np.ndarray,
    *,
    cell_s: float,
    controls: Sequence[str] | None = None,
    num_draws: int = 4,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Orders of the moments of every clip by every control.

    Args:
        occupied: (B, K) bool: cells in which a clip has something (`avser.roi.salience.moments.occupied_cells`).
        controls: keys of `CONTROLS`; all by default.
        num_draws: of those that chance decides.
        seed: a clip's draws depend on it and on the clip's name, not on its company.

    Returns:
        control -> ranks (D, B, K).
    """
    return {
        name: CONTROLS[name].order(batch, modality, occupied, cell_s, num_draws, seed)
        for name in (CONTROLS if controls is None else controls)
    }


def curve_ranks(
    curves: Sequence[Curve], clip_ids: Sequence[str], occupied: np.ndarray, *, cell_s: float, seed: int = 0
) -> np.ndarray:
    """Orders of moments by curves, one a clip: the highest value first, ties in random order; (1, B, K).

    A curve with a sign is ordered by its value, so that what spoke against the emotion comes last.
    """
    values = [cell_values(curve, occupied.shape[1], cell_s) for curve in curves]
    return _by_value(values, clip_ids, occupied, seed, "ties of a curve")


def cell_values(curve: Curve, num_cells: int, cell_s: float) -> np.ndarray:
    """The curve on cells of time, (K,): the mean of the steps in a cell; where there is none, a line between steps.

    A curve of length 0 is 0 throughout; one that is not finite somewhere counts as lowest there.
    """
    if not len(curve):
        return np.zeros(num_cells)
    values = np.array(curve.values, dtype=float)
    finite = np.isfinite(values)
    values[~finite] = values[finite].min() if finite.any() else 0.0
    cells = np.maximum(np.floor(curve.times / cell_s + ROUNDING).astype(int), 0)
    inside = cells < num_cells
    counts = np.bincount(cells[inside], minlength=num_cells)
    sums = np.bincount(cells[inside], weights=values[inside], minlength=num_cells)
    between = np.interp((np.arange(num_cells) + 0.5) * cell_s, curve.times, values)
    return np.where(counts > 0, sums / np.maximum(counts, 1), between)


def rank_cells(values: np.ndarray, occupied: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Ranks (K,) of cells by their values (K,), the highest first, ties in random order; K where not occupied."""
    scale = np.abs(values[occupied]).max(initial=0.0)
    rounded = np.round(values[occupied] / scale / TIE) if scale > 0 else np.zeros(int(occupied.sum()))
    return _ranks(np.lexsort((generator.random(len(rounded)), -rounded)), occupied)


# --- controls -----------------------------------------------------------------------------------------------------


def random_cells(
    batch: Batch, modality: str, occupied: np.ndarray, cell_s: float, num_draws: int, seed: int
) -> np.ndarray:
    """Cells in random order: also what a curve that is the same everywhere would choose, whose ties chance breaks."""
    return _drawn(batch, occupied, num_draws, seed, "random cells", lambda n, rng: rng.permutation(n))


def random_interval(
    batch: Batch, modality: str, occupied: np.ndarray, cell_s: float, num_draws: int, seed: int
) -> np.ndarray:
    """One stretch, at a place drawn at random, that grows: for any share, all places it could lie are as likely.

    The first n of N moments begin at the floor of u * (N - n + 1), with the same u in [0, 1) for all n. From n to n + 1
    that stays, or falls by one, so each stretch holds the one before.
    """

    def order(n: int, rng: np.random.Generator) -> np.ndarray:
        length = np.arange(1, n + 1)
        start = np.minimum(np.floor(rng.random() * (n - length + 1)).astype(int), n - length)
        grows_left = np.r_[True, np.diff(start) < 0] if n else np.zeros(0, dtype=bool)
        return np.where(grows_left, start, start + length - 1)

    return _drawn(batch, occupied, num_draws, seed, "random interval", order)


def evenly_spread(
    batch: Batch, modality: str, occupied: np.ndarray, cell_s: float, num_draws: int, seed: int
) -> np.ndarray:
    """Moments spread over the clip as evenly as can be: every 64th, every 32nd, ..., from a random place on.

    Cells are ordered by their number with its bits reversed (van der Corput 1935), which fills the clip so that at any
    share the gaps are about equally long.
    """

    def order(n: int, rng: np.random.Generator) -> np.ndarray:
        num_bits = max(1, int(n - 1).bit_length())
        number = (np.arange(n) + rng.integers(2**num_bits)) % 2**num_bits
        reverse = sum(((number >> bit) & 1) << (num_bits - 1 - bit) for bit in range(num_bits))
        return np.argsort(reverse)

    return _drawn(batch, occupied, num_draws, seed, "evenly spread", order)


def loudness(batch: Batch, modality: str, occupied: np.ndarray, cell_s: float, num_draws: int, seed: int) -> np.ndarray:
    """The loudest cells of the voice first (RMS); for a face those in which most moves.

    Motion of a frame is the mean absolute difference to the frames with a face before and after it: of pixels, or where
    the batch holds no crops of landmarks, blendshapes or face features (these over their deviation in the clip).
    """
    levels = [np.zeros(occupied.shape[1]) for _ in batch.clip_ids]
    if streams := streams_of(batch, modality):
        levels = list(_levels(streams[0], occupied.shape[1], cell_s))
    return _by_value(levels, batch.clip_ids, occupied, seed, "ties of loudness")


def centre(batch: Batch, modality: str, occupied: np.ndarray, cell_s: float, num_draws: int, seed: int) -> np.ndarray:
    """The middle of the clip first, as a Gaussian around it says; its width changes no order."""
    cells = np.arange(occupied.shape[1])
    levels = [
        -np.abs(cells - (cells[row].min() + cells[row].max()) / 2) if row.any() else np.zeros(len(row))
        for row in occupied
    ]
    return _by_value(levels, batch.clip_ids, occupied, seed, "ties of the centre")


def _words(words: str) -> dict[str, str]:
    return {AUDIO: words, VIDEO: words}


CONTROLS: dict[str, Control] = {
    "random": Control(_words("moments at random"), random_cells),
    "interval": Control(_words("a stretch at random"), random_interval),
    "loudness": Control({AUDIO: "loudness", VIDEO: "motion"}, loudness),
    "centre": Control(_words("the middle of the clip"), centre),
    "uniform": Control(_words("moments spread evenly"), evenly_spread),
}


# --- controls as curves -------------------------------------------------------------------------------------------


def control_curves(batch: Batch, modality: str, control: str, times: Sequence[np.ndarray]) -> list[Curve]:
    """What a control says along time, 0 where it says least, so that it is read as a salience is.

    "loudness" is the root mean square of the voice in every step in dB, for a face the mean motion of its frames there;
    "centre" falls evenly from the middle of the steps to both ends.

    Args:
        control: a key of `CONTROL_CURVES`.
        times: for each clip the centres (T,) of its steps in seconds; none for a clip without the modality.
    """
    found = []
    for index, steps in enumerate(times):
        values = CONTROL_CURVES[control](batch, modality, index, steps) if len(steps) else np.zeros(0)
        found.append(Curve(steps, values - values.min(initial=np.inf)))
    return found


def _loudness_curve(batch: Batch, modality: str, index: int, times: np.ndarray) -> np.ndarray:
    stream = streams_of(batch, modality)[0]
    mask = stream.mask[index]
    at = stream.times.expand(stream.mask.shape)[index][mask].cpu().double().numpy()
    levels = _step_means(at, _level(stream, index).cpu().double().numpy(), step_intervals(times))
    return decibels(levels) if stream.is_voice else levels


def _centre_curve(_batch: Batch, _modality: str, _index: int, times: np.ndarray) -> np.ndarray:
    return -np.abs(times - (times[0] + times[-1]) / 2)


CONTROL_CURVES: dict[str, Callable[[Batch, str, int, np.ndarray], np.ndarray]] = {
    "loudness": _loudness_curve,
    "centre": _centre_curve,
}


def _step_means(times: np.ndarray, values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(T,) means of values (N,) at `times` (N,) in the steps (T, 2); a line between values where a step has none."""
    first, end = np.searchsorted(times, steps.T - EDGE_S)
    sums = np.r_[0.0, np.cumsum(values)]
    means = (sums[end] - sums[first]) / np.maximum(end - first, 1)
    return np.where(end > first, means, np.interp(steps.mean(axis=1), times, values))


# --- levels -------------------------------------------------------------------------------------------------------


def _levels(stream: Stream, num_cells: int, cell_s: float) -> np.ndarray:
    """Loudness or motion of every cell, (B, K)."""
    cells = cell_of(stream.times, cell_s).expand(stream.mask.shape)
    found = np.zeros((len(stream.mask), num_cells))
    for b, mask in enumerate(stream.mask):
        if not mask.any():
            continue
        level = _level(stream, b)
        where = cells[b][mask].cpu().numpy()
        sums = np.bincount(where, weights=level.cpu().numpy(), minlength=num_cells)
        found[b] = (sums / np.maximum(np.bincount(where, minlength=num_cells), 1))[:num_cells]
    return np.sqrt(found) if stream.is_voice else found


def _level(stream: Stream, index: int) -> Tensor:
    """Power of every real sample of one clip, or motion of every real frame."""
    real = stream.values[index][stream.mask[index]]
    return real.double().square() if stream.is_voice else _motion(real.float().flatten(1), stream.name)


def _motion(values: Tensor, name: str) -> Tensor:
    """(T, F) -> (T,): mean absolute difference to the steps before and after."""
    if len(values) < 2:
        return torch.zeros(len(values))
    if name == "face_features":  # columns in units of their own
        deviation = values.std(dim=0, correction=0)
        values = values / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    change = values.diff(dim=0).abs().mean(dim=1)
    return (torch.cat([change[:1], change]) + torch.cat([change, change[-1:]])) / 2


def _by_value(
    values: Sequence[np.ndarray], clip_ids: Sequence[str], occupied: np.ndarray, seed: int, purpose: str
) -> np.ndarray:
    rows = zip(values, occupied, clip_ids, strict=True)
    return np.stack([rank_cells(v, row, clip_generator(seed, clip_id, purpose)) for v, row, clip_id in rows])[None]


def _drawn(
    batch: Batch,
    occupied: np.ndarray,
    num_draws: int,
    seed: int,
    purpose: str,
    order: Callable[[int, np.random.Generator], np.ndarray],
) -> np.ndarray:
    """Ranks (D, B, K) from orders of n things: `order(n, generator)` names them from first to last."""
    ranks = np.full((num_draws, *occupied.shape), occupied.shape[1])
    for b, clip_id in enumerate(batch.clip_ids):
        generator = clip_generator(seed, clip_id, purpose)
        for draw in range(num_draws):
            ranks[draw, b] = _ranks(order(int(occupied[b].sum()), generator), occupied[b])
    return ranks


def _ranks(order: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    """Ranks (K,) of all cells from the order of the occupied ones."""
    ranks = np.full(len(occupied), len(occupied))
    ranks[np.flatnonzero(occupied)[order]] = np.arange(len(order))
    return ranks
