"""Extreme learning machines: read-outs whose weights are solved for in closed form instead of trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Readout(nn.Module):
    """From the features of a clip to a score for each emotion; zeros until `fit` was called.

    Buffers hold everything, so that a fitted read-out is saved and loaded like weights.

    Attributes:
        fitted: () bool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fitted: Tensor
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) -> (N, C) scores; near 1 for the emotion and -1 for the others where the fit is good."""
        # Large terms cancel in a closed-form solution: half precision would give other answers.
        with torch.autocast(features.device.type, enabled=False):
            return self.score(features)

    def score(self, features: Tensor) -> Tensor:
        """What `forward` gives, in the precision of the buffers."""
        raise NotImplementedError

    def fit(self, features: Tensor, targets: Tensor) -> None:
        """Solve for the training clips.

        Args:
            features: (N, F).
            targets: (N, C) shares of the emotions that sum to one; +1 and -1 are made of them.

        Raises:
            ValueError: no clip at all.
        """
        if not len(features):
            raise ValueError("no clip to fit the read-out on; pass the training clips, with labels")
        # Normal equations lose half of the digits, and not every accelerator has float64.
        self.solve(features.detach().to("cpu", torch.float64), 2 * targets.detach().to("cpu", torch.float64) - 1)
        self.fitted.fill_(True)

    def solve(self, features: Tensor, signs: Tensor) -> None:
        """Set the buffers; float64 on the CPU."""
        raise NotImplementedError


class ElmReadout(Readout):
    """The mean of several extreme learning machines: random sigmoid units, and ridge regression on them.

    H = sigmoid(x W + b) with W and b drawn once from N(0, 1), beta = (H'H + I / cost)^-1 H'T with T in {-1, +1} (Huang
    et al. 2012, Extreme learning machine for regression and multiclass classification). Han et al. 2014 use 120 units,
    as remembered, not verified. Our choices: the mean of ten machines, since one depends on its draw, and cost 1.

    Args:
        seed: of the random weights, which do not depend on any other source of chance.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        num_units: int = 120,
        num_elms: int = 10,
        cost: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.cost = cost
        self.weights: Tensor
        self.biases: Tensor
        self.solution: Tensor
        self.register_buffer("weights", torch.randn(num_elms, num_features, num_units, generator=generator))
        self.register_buffer("biases", torch.randn(num_elms, 1, num_units, generator=generator))
        self.register_buffer("solution", torch.zeros(num_elms, num_units, num_classes))

    def score(self, features: Tensor) -> Tensor:
        return (self.hidden(features) @ self.solution).mean(dim=0)

    def hidden(self, features: Tensor) -> Tensor:
        """(N, F) -> (E, N, H) the units of every machine, in the precision of the features."""
        weights, biases = self.weights.to(features), self.biases.to(features)
        return torch.sigmoid(features @ weights + biases)

    def solve(self, features: Tensor, signs: Tensor) -> None:
        hidden = self.hidden(features)
        transposed = hidden.transpose(1, 2)
        ridge = torch.eye(hidden.shape[2], dtype=hidden.dtype) / self.cost
        self.solution.copy_(torch.linalg.solve(transposed @ hidden + ridge, transposed @ signs))


class KernelElmReadout(Readout):
    """The extreme learning machine with infinitely many units: f(x) = k(x) (Omega + I / cost)^-1 T, Huang et al. 2012.

    The kernel is Gaussian, exp(-gamma |x - x'|^2), Omega that kernel between the training clips. A buffer has to have
    a size before the data are known: up to `max_centres` training clips are all centres and the solution is exact;
    of more, that many are drawn by `seed` and all clips are regressed on them, (K'K + Omega / cost)^-1 K'T with K
    between clips and centres (the subset of regressors of Gaussian processes), which is the same where all are drawn.
    Kernel, its width and the number of centres are our choices.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        gamma: float = 1.0,
        max_centres: int = 2048,
        cost: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.gamma, self.max_centres, self.cost, self.seed = gamma, max_centres, cost, seed
        self.centres: Tensor
        self.solution: Tensor
        self.register_buffer("centres", torch.zeros(max_centres, num_features))
        self.register_buffer("solution", torch.zeros(max_centres, num_classes))  # 0 for centres that are not taken

    def score(self, features: Tensor) -> Tensor:
        return self.kernel(features, self.centres) @ self.solution

    def kernel(self, features: Tensor, centres: Tensor) -> Tensor:
        """(N, F), (M, F) -> (N, M)."""
        distance = torch.cdist(features, centres, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-self.gamma * distance.square())

    def solve(self, features: Tensor, signs: Tensor) -> None:
        num_clips = len(features)
        if num_clips <= self.max_centres:
            centres = features
            ridge = torch.eye(num_clips, dtype=features.dtype) / self.cost
            solution = torch.linalg.solve(self.kernel(features, features) + ridge, signs)
        else:
            generator = torch.Generator().manual_seed(self.seed)
            centres = features[torch.randperm(num_clips, generator=generator)[: self.max_centres]]
            to_centres, between = self.kernel(features, centres), self.kernel(centres, centres)
            jitter = 1e-8 * num_clips * torch.eye(len(centres), dtype=features.dtype)  # clips may be alike
            normal = to_centres.T @ to_centres + between / self.cost + jitter
            solution = torch.linalg.solve(normal, to_centres.T @ signs)
        for buffer, value in ((self.centres, centres), (self.solution, solution)):
            buffer.zero_()
            buffer[: len(value)].copy_(value)


READOUTS: dict[str, Callable[..., Readout]] = {"elm": ElmReadout, "kernel": KernelElmReadout}


def utterance_features(posteriors: Tensor, mask: Tensor, *, threshold: float = 0.2) -> Tensor:
    """Statistics of what the frames of a clip say, by which a read-out judges the clip (Han et al. 2014).

    The four statistics and the threshold are those of a public reimplementation of Han et al.

    Args:
        posteriors: (B, T, K) shares of the emotions in each frame.
        mask: (B, T) bool.

    Returns:
        (B, 4 K): maxima, minima, means, and the share of frames above `threshold`; zeros for a clip without frames.
    """
    real = mask[..., None]
    count = real.sum(dim=1).clamp(min=1)
    highest = posteriors.masked_fill(~real, 0.0).amax(dim=1)
    lowest = posteriors.masked_fill(~real, 1.0).amin(dim=1) * mask.any(dim=1, keepdim=True)
    mean = (posteriors * real).sum(dim=1) / count
    above = ((posteriors > threshold) & real).sum(dim=1) / count
    return torch.cat([highest, lowest, mean, above], dim=1)
