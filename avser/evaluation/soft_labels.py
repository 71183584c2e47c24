"""How far the shares that a model gives to emotions are from the shares of human votes."""

from __future__ import annotations

import numpy as np

FEWEST = 1e-5  # stored posteriors have five digits; none may count as impossible


def entropy_bits(p: np.ndarray) -> np.ndarray:
    """(...) entropy of distributions (..., N) in bits."""
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(...) Jensen-Shannon divergence of distributions (..., N), base 2, in [0, 1]; its square root is a metric."""
    return np.clip(entropy_bits((p + q) / 2) - (entropy_bits(p) + entropy_bits(q)) / 2, 0, 1)


def cross_entropy_bits(shares: np.ndarray, posteriors: np.ndarray) -> np.ndarray:
    """(...) bits to code votes of these shares (..., C) by the posteriors (..., C); at least the entropy of the shares.

    Posteriors count as 0.00001 where they are smaller, the last digit that a run stores (our choice).
    """
    return -(shares * np.log2(np.maximum(posteriors, FEWEST))).sum(axis=-1)
