"""Sequence encoders that see the past alone."""

import pytest
import torch

from avser.features.running import Memory
from avser.models.causal_temporal import CAUSAL_TEMPORAL
from avser.models.temporal import Recurrent


@pytest.mark.parametrize("kind", CAUSAL_TEMPORAL)
def test_pieces_give_what_the_whole_gives_and_the_future_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    encoder = CAUSAL_TEMPORAL[kind](8, 2, 0.3).eval()
    x, mask, memory = torch.randn(1, 30, 8), torch.rand(1, 30) > 0.2, Memory()
    x = x * mask[..., None]
    whole = encoder(x, mask)
    sizes = [1, 0, 2, 13, 14]
    pieces = [encoder(a, b, memory) for a, b in zip(x.split(sizes, 1), mask.split(sizes, 1), strict=True)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    changed = x.clone()
    changed[:, 20:] = 5.0
    torch.testing.assert_close(encoder(changed, mask)[:, :20], whole[:, :20])
    assert not whole[~mask].any()


def test_a_causal_gru_is_a_gru() -> None:
    causal = CAUSAL_TEMPORAL["gru"](8, 1, 0.0).eval()
    plain = Recurrent("gru", 8, layers=1, bidirectional=False, dropout=0.0).eval()
    plain.load_state_dict(causal.state_dict())
    x, mask = torch.randn(2, 9, 8), torch.ones(2, 9, dtype=torch.bool)
    torch.testing.assert_close(causal(x, mask), plain(x, mask))


@pytest.mark.parametrize("kind", sorted(CAUSAL_TEMPORAL))
def test_a_graph_of_it_holds_for_any_length(kind):
    torch.manual_seed(0)
    encoder = CAUSAL_TEMPORAL[kind](4, 2, 0.0).eval()
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = torch.randn(2, 7, 4), torch.ones(2, 7, dtype=torch.bool)
    graph = torch.export.export(encoder, example, dynamic_shapes=(axes, axes), strict=False).module()
    longer, mask = torch.randn(3, 20, 4), torch.arange(20) < torch.tensor([20, 13, 5])[:, None]
    longer = longer * mask[..., None]
    torch.testing.assert_close(graph(longer, mask), encoder(longer, mask))
