"""Attention over frequency and time, read off hand-made numbers."""

import numpy as np
import pytest
import torch

from avser.roi.salience.curves import attention_curve
from avser.roi.salience.frequency_map import attention_map
from avser.structures import Attended


@pytest.fixture
def attended() -> Attended:
    """Two bands, three steps; the second step of the first clip is padding, the second clip has nothing."""
    plane = torch.tensor([[[0.1, 0.0, 0.2], [0.3, 0.0, 0.4]], [[0.0] * 3] * 2])
    return Attended(
        sequence=torch.zeros(2, 3, 1),
        weights=plane.sum(dim=1),
        step_logits=None,
        times=torch.tensor([[0.5, 1.0, 1.5]] * 2),
        mask=torch.tensor([[True, False, True], [False] * 3]),
        pooled=torch.zeros(2, 1),
        logits=torch.zeros(2, 2),
        map=plane,
    )


def test_rows_become_columns_and_padding_goes(attended) -> None:
    found = attention_map(attended, 0)
    assert found is not None
    np.testing.assert_allclose(found.times, [0.5, 1.5])
    np.testing.assert_allclose(found.values, [[0.1, 0.3], [0.2, 0.4]], atol=1e-6)
    np.testing.assert_allclose(found.values.sum(axis=1), attention_curve(attended, 0).values, atol=1e-6)


def test_the_map_sums_to_one_and_may_be_empty_or_absent(attended) -> None:
    attended.map = 3 * attended.map
    found = attention_map(attended, 0)
    assert found is not None
    assert found.values.sum() == pytest.approx(1)
    empty = attention_map(attended, 1)
    assert empty is not None
    assert empty.values.shape == (0, 2)
    attended.map = None
    assert attention_map(attended, 0) is None
