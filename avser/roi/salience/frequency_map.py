"""Attention over frequency and time together, where a model has it: which frequencies counted at which moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avser.structures import Attended


@dataclass
class FrequencyMap:
    """Attention of one clip over both axes.

    Attributes:
        times: (T,) centre of each real step in seconds.
        values: (T, F) share of the clip's attention, summing to 1 over all (0 if the model gave no weight); the
            columns are the rows of the model's own feature map, the lowest frequencies first.
    """

    times: np.ndarray
    values: np.ndarray


def attention_map(attended: Attended, index: int) -> FrequencyMap | None:
    """The attention over frequency and time of one clip; None where the model attends to time alone.

    Its sum over frequencies is the curve of `avser.roi.salience.curves.attention_curve`. The rows of a feature map are
    bands of equal width on the scale of the model's spectrogram (Hz or mel), each of which has seen its neighbours too.
    """
    if attended.map is None:
        return None
    real = attended.mask[index].detach().cpu().numpy().astype(bool)
    values = attended.map[index].detach().cpu().double().numpy().T[real]
    total = values.sum()
    return FrequencyMap(
        attended.times[index].detach().cpu().double().numpy()[real], values / total if total else values
    )
