"""Does a salience depend on what the model learned, and do models that learned the same agree on it?

A map that stays as it is when the weights are drawn anew shows the input, not the model (Adebayo et al. 2018, "Sanity
checks for saliency maps", arXiv:1810.03292). One that changes with the seed of the training shows that training.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr
from torch import nn

from avser.roi.intervals import is_flat
from avser.structures import Curve


@torch.no_grad()
def randomised(model: nn.Module, *, share: float = 1.0, seed: int = 0) -> nn.Module:
    """A copy of the model whose weights are drawn anew; the model itself is not changed.

    Layers that can initialise themselves (`reset_parameters`) do so; other tensors of weights are drawn from the normal
    distribution with their own mean and deviation. What is counted rather than learned by gradients, such as feature
    means and closed-form readouts, stays, but for the statistics of normalisation layers, which start anew.

    Args:
        share: of the layers, the last ones first in the order in which the model names them, which as a rule is from
            input to head: 0.25 randomises the last quarter, 1 the whole model (the cascade of Adebayo et al.).

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: must lie above 0 and be at most 1")
    anew = copy.deepcopy(model)
    layers = [layer for layer in anew.modules() if next(layer.parameters(recurse=False), None) is not None]
    devices = sorted({p.device.index or 0 for p in anew.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        # A stream of its own: that of the plain seed may be what the model was initialised from.
        torch.manual_seed(int(np.random.default_rng([seed, len(layers)]).integers(2**62)))
        for layer in layers[len(layers) - round(max(share * len(layers), 1)) :] if layers else []:
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
            else:
                _redraw(layer)
    return anew


def rank_agreement(curve: Curve, other: Curve) -> tuple[float, float]:
    """Kendall's tau-b and Spearman's rho of two curves of one clip.

    The other is read at the steps of the first. A curve without shape agrees with none, so its correlations are 0;
    where neither has shape, or there are fewer than 3 steps, they are NaN.
    """
    if len(curve) < 3 or not len(other):
        return float("nan"), float("nan")
    values, others = np.asarray(curve.values, dtype=float), np.asarray(other.values, dtype=float)
    if not np.array_equal(curve.times, other.times):
        others = np.interp(curve.times, other.times, others)
    has_shape = [bool(np.isfinite(v).all()) and not is_flat(v) for v in (values, others)]
    if not any(has_shape):
        return float("nan"), float("nan")
    if not all(has_shape):
        return 0.0, 0.0
    return float(kendalltau(values, others).statistic), float(spearmanr(values, others).statistic)


def _redraw(layer: nn.Module) -> None:
    for weights in layer.parameters(recurse=False):
        if weights.is_floating_point() and weights.numel() > 1:
            mean, deviation = weights.mean(), weights.std()
            weights.normal_().mul_(deviation).add_(mean)
