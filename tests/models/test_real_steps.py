"""Only what is real is encoded, and a graph that encodes everything gives the same."""

import pytest
import torch
from torch import nn

from avser.models.real_steps import encode_real


class Faces(nn.Module):
    """Encodes steps and notes how many it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.seen: list[int] = []

    def encode(self, values):
        self.seen.append(values.shape[0])
        return self.linear(values.flatten(1))

    def forward(self, values, mask):
        return encode_real(self.encode, values, mask, 3)


@pytest.fixture
def faces():
    torch.manual_seed(0)
    return Faces().eval()


def test_padding_is_not_encoded(faces):
    values, mask = torch.randn(2, 5, 2, 3), torch.tensor([[True] * 5, [True, False, True, False, False]])
    with torch.no_grad():
        sequence = faces(values, mask)
        torch.testing.assert_close(sequence[mask], faces.linear(values[mask].flatten(1)))
    assert faces.seen == [7]
    assert not sequence[~mask].any()
    assert faces(values, torch.zeros_like(mask)).shape == (2, 5, 3)
    assert faces.seen == [7]


def test_a_graph_for_any_mask_gives_the_same(faces):
    any_length = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = torch.randn(2, 5, 2, 3), torch.ones(2, 5, dtype=torch.bool)
    program = torch.export.export(faces, example, dynamic_shapes=(any_length,) * 2, strict=False)
    values, mask = torch.randn(3, 8, 2, 3), torch.rand(3, 8) > 0.5
    with torch.no_grad():
        torch.testing.assert_close(program.module()(values, mask), faces(values, mask))
