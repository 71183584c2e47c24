"""Which moments carried an emotion: every way to ask a model, behind one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from avser.errors import ConfigError
from avser.roi.salience.curves import attention_curve, contribution_curve, salience_curve
from avser.roi.salience.gradients import grad_input, integrated_gradients
from avser.roi.salience.perturbation import occlusion, rise
from avser.structures import Attended, Batch, Curve

AUTO = "auto"  # what a prediction shows unless asked otherwise

# (model, batch, modality, emotions, **options) -> a curve for each clip; of length 0 for one without the modality.
SalienceFunction = Callable[..., list[Curve]]


@dataclass(frozen=True)
class Source:
    """A way to say which moments carried an emotion.

    Attributes:
        words: its name in a report.
        question: what its values answer.
        is_signed: values below zero speak against the emotion.
    """

    words: str
    question: str
    is_signed: bool
    compute: SalienceFunction


def find_salience(
    model: nn.Module, batch: Batch, modality: str, emotions: Sequence[int], source: str = AUTO, **options: Any
) -> list[Curve]:
    """Salience of one modality of every clip of a batch for one emotion each.

    Args:
        model: in eval mode; it is left as it was.
        emotions: index of an emotion for each clip.
        source: a key of `SOURCES`.
        options: keyword arguments of that source, e.g. `window_s` of "occlusion".

    Raises:
        ConfigError: an unknown source.
        AvserError: the model cannot be asked that way, e.g. for contributions without logits of single steps.
    """
    if source not in SOURCES:
        raise ConfigError(f"salience {source!r}: take one of {', '.join(SOURCES)}")
    if len(emotions) != len(batch):
        raise ValueError(f"{len(emotions)} emotions for {len(batch)} clips")
    return SOURCES[source].compute(model, batch, modality, emotions, **options)


def _read_off(
    read: Callable[[Attended, int, int], Curve],
) -> SalienceFunction:
    """What one forward pass says already."""

    def compute(model: nn.Module, batch: Batch, modality: str, emotions: Sequence[int], **options: Any) -> list[Curve]:
        with torch.no_grad():
            attended = model(batch).attended[modality]
        return [read(attended, i, emotion, **options) for i, emotion in enumerate(emotions)]

    return compute


SOURCES: dict[str, Source] = {
    "attention": Source("attention", "where did the model look?", False, _read_off(attention_curve)),
    "att_value": Source(
        "attention times value", "what did each moment add to the logit?", True, _read_off(contribution_curve)
    ),
    AUTO: Source(
        "salience",
        "attention, or what each moment added where a model weighs all moments alike",
        False,
        _read_off(salience_curve),
    ),
    "grad_input": Source("gradient times input", "to what would the logit react?", True, grad_input),
    "integrated_gradients": Source(
        "integrated gradients", "how did the logit come about, from an average clip?", True, integrated_gradients
    ),
    "occlusion": Source("occlusion", "what does the answer lose without this moment?", True, occlusion),
    "rise": Source("RISE", "is the answer more certain where this moment is kept?", True, rise),
}
