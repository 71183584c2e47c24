"""Read curves along time off a model's output: how much each step counted, and what it said.

Every curve holds the real steps of one clip only; a modality that the clip lacks gives curves of length 0.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from avser.errors import AvserError
from avser.structures import Attended, Curve

EVEN = 1e-5  # relative spread that rounding leaves of equal values in float32


def attention_curve(attended: Attended, index: int, emotion: int | None = None) -> Curve:
    """How much attention each real step of one clip got.

    Args:
        attended: one modality of a model's output.
        index: the clip's place in the batch.
        emotion: index of an emotion; where the attention has weights of its own for each emotion, take those.

    Returns:
        Curve with non-negative values that sum to 1 over the clip's real steps (all 0 if the model gave no weight).
    """
    weights = attended.weights[index]
    if emotion is not None and attended.class_weights is not None:
        weights = attended.class_weights[index, :, emotion]
    real = _real_steps(attended, index)
    return Curve(_numpy(attended.times[index])[real], _normalised(_numpy(weights)[real]))


def salience_curve(attended: Attended, index: int, emotion: int) -> Curve:
    """The moments that carried one emotion: attention, or where a model weighs all moments alike, their contributions.

    A model without attention (a convolutional network that averages over time) says where it saw the emotion by what
    each step adds to its logit, as class activation maps do (Zhou et al. 2016): contributions above their own lowest
    value, for a constant shared by all steps says nothing about moments. Where these are alike too, the clip has no
    moments, and its even attention says so.

    Returns:
        Curve with non-negative values that sum to 1 over the clip's real steps.
    """
    attention = attention_curve(attended, index, emotion)
    if attended.step_logits is None or not weighs_alike(attention.values):
        return attention
    contribution = contribution_curve(attended, index, emotion)
    if weighs_alike(contribution.values):
        return attention
    return Curve(contribution.times, _normalised(contribution.values - contribution.values.min()))


def weighs_alike(values: np.ndarray) -> bool:
    """Whether (T,) values are all the same, but for rounding; attention that is nearly even is still attention."""
    return len(values) > 1 and bool(np.ptp(values) <= EVEN * np.abs(values).mean())


def evidence_curve(attended: Attended, index: int) -> tuple[np.ndarray, np.ndarray]:
    """What each real step of one clip says on its own: the softmax of its logits.

    Returns:
        times (T,) in seconds and probabilities (T, C), each row summing to 1.

    Raises:
        AvserError: the model gives no logits for single steps.
    """
    times, logits = _step_logits(attended, index)
    return times, _softmax(logits)


def contribution_curve(attended: Attended, index: int, emotion: int) -> Curve:
    """What each real step adds to the modality's logit for one emotion: signed, unlike attention.

    The value of step t is a_t * z_t[emotion] with attention a and step logits z, the additive decomposition of Javed et
    al. 2022. With a linear head the values sum to the modality's logit exactly; a bias b of the head is inside every
    z_t, so each step carries a_t * b of it, a constant b in total. Where every emotion has weights of its own, those
    of `emotion` are used. Values below zero spoke against the emotion.

    Raises:
        AvserError: the model gives no logits for single steps.
    """
    times, logits = _step_logits(attended, index)
    return Curve(times, attention_curve(attended, index, emotion).values * logits[:, emotion])


def _step_logits(attended: Attended, index: int) -> tuple[np.ndarray, np.ndarray]:
    if attended.step_logits is None:
        raise AvserError(
            "this model gives no logits for single steps, so its evidence along time cannot be read off; "
            "use the attention curve alone, or a system whose branches pool with attention under a linear head"
        )
    real = _real_steps(attended, index)
    return _numpy(attended.times[index])[real], _numpy(attended.step_logits[index])[real]


def _real_steps(attended: Attended, index: int) -> np.ndarray:
    return attended.mask[index].detach().cpu().numpy().astype(bool)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _normalised(values: np.ndarray) -> np.ndarray:
    total = values.sum()
    return values / total if total > 0 else values


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
