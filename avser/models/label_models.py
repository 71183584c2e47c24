"""How a clip's one emotion may be spread over its frames: likelihoods in which the frames' labels are hidden.

Each frame has a distribution over 1 + K states, where state 0 is NULL (no emotion) and state e the emotion e. For a
clip of emotion e the frames' labels are a hidden path over {NULL, e}, and a label model sums the probability of all
paths that it allows: the label of each frame as a sequence of random variables (Lee & Tashev 2015, from the abstract).
Which transitions between labels that paper uses is not known to us; the four here are readings of it and all of them
ask for at least one emotional frame (our choice), for a clip that is NULL throughout would fit every emotion.

Where they allow NULL, their maximum has hardly an emotional frame: a frame that is not sure of its emotion costs
probability, NULL costs none. Under `ergodic`, with frames alike of which the emotional ones give the right emotion the
share q, it lies at -log(1 - q) / q emotional frames in a clip however long: 1.07 for a guess among eight, 2.6 for 0.9.

All take log_shares (B, T, 1 + K), log-probabilities that sum to one over the states, and mask (B, T), real frames
first; they give (B, K), the log-likelihood of every emotion, 0 for a clip without a real frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

IMPOSSIBLE = -1e30  # the logarithm of zero, but with a gradient
ALMOST_CERTAIN = -1e-30  # largest logarithm of a probability whose complement is still told from zero


def ergodic(log_shares: Tensor, mask: Tensor) -> Tensor:
    """Any frame may be NULL or e, independently: prod_t (y_t0 + y_te) - prod_t y_t0."""
    null, emotions = log_shares.float()[..., :1], log_shares.float()[..., 1:]
    real = mask[..., None]
    either = (torch.logaddexp(null, emotions) * real).sum(dim=1)  # (B, K)
    # log of prod y_t0 / (y_t0 + y_te), frame by frame, which keeps its digits where y_te is tiny
    never = -(nn.functional.softplus(emotions - null) * real).sum(dim=1)
    return torch.where(mask.any(dim=1, keepdim=True), either + log_complement(never), 0.0)


def hmm(log_shares: Tensor, mask: Tensor, *, stay: float = 0.9) -> Tensor:
    """A chain that keeps its label with probability `stay` from frame to frame, by the forward algorithm.

    `stay` and the even start are our choices. The chain has three states, so that paths without any emotional frame
    are left out exactly: NULL before, e, and NULL after the first e.
    """
    log_shares = log_shares.float()
    keep, change = math.log(stay), math.log(1 - stay)
    null, emotions = log_shares[..., :1].unbind(dim=1), log_shares[..., 1:].unbind(dim=1)
    before, during = null[0] + math.log(0.5), emotions[0] + math.log(0.5)
    after = torch.full_like(during, IMPOSSIBLE)
    for y_null, y_emotion, is_real in zip(null[1:], emotions[1:], mask.unbind(dim=1)[1:], strict=True):
        next_during = torch.logaddexp(torch.logaddexp(before, after) + change, during + keep) + y_emotion
        next_after = torch.logaddexp(during + change, after + keep) + y_null
        real = is_real[:, None]
        before = torch.where(real, before + keep + y_null, before)
        during, after = torch.where(real, next_during, during), torch.where(real, next_after, after)
    return torch.where(mask.any(dim=1, keepdim=True), torch.logaddexp(during, after), 0.0)


def ctc(log_shares: Tensor, mask: Tensor) -> Tensor:
    """One unbroken run of e with NULL before and after it: connectionist temporal classification of the text "e".

    Emotion recognition by this loss is in Chernykh & Prikhodko 2017 (arXiv 1701.08071, from the abstract).
    """
    batch, _, num_states = log_shares.shape
    num_classes = num_states - 1
    every = log_shares.float().repeat_interleave(num_classes, dim=0).transpose(0, 1)  # (T, B * K, 1 + K)
    text = torch.arange(1, num_states, device=log_shares.device).repeat(batch)[:, None]
    lengths = mask.sum(dim=1).repeat_interleave(num_classes)
    loss = nn.functional.ctc_loss(
        every, text, lengths, torch.ones_like(lengths), blank=0, reduction="none", zero_infinity=True
    )
    return -loss.view(batch, num_classes)


def hard(log_shares: Tensor, mask: Tensor) -> Tensor:
    """Every frame is e: the clip's label copied to its frames, as in plain frame-wise training."""
    return (log_shares.float()[..., 1:] * mask[..., None]).sum(dim=1)


LABEL_MODELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ergodic": ergodic,
    "hmm": hmm,
    "ctc": ctc,
    "hard": hard,
}


def log_complement(log_share: Tensor) -> Tensor:
    """log(1 - p) from log p, without loss of digits at either end (Maechler 2012, log1mexp)."""
    log_share = log_share.clamp(max=ALMOST_CERTAIN)
    is_high = log_share > -math.log(2)
    # Each branch sees only what it can take, for the gradient of the other one would spread as NaN.
    high = torch.log(-torch.expm1(torch.where(is_high, log_share, -math.log(2))))
    low = torch.log1p(-torch.exp(torch.where(is_high, -math.log(2), log_share)))
    return torch.where(is_high, high, low)
