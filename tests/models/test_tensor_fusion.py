"""Tensor fusions: the product by hand, and the low-rank form against the full tensor that it stands for."""

import torch

from avser.models.fusion import without
from avser.models.tensor_fusion import LowRankFusion, TensorFusion, outer_product
from avser.structures import Attended


def parts_of(names, count=3, dim=6):
    generator = torch.Generator().manual_seed(4)
    mask = torch.ones(count, 2, dtype=torch.bool)
    blank = torch.zeros(count, 2, dim)
    return {
        name: Attended(
            blank, mask / 2, None, blank[..., 0], mask, torch.randn(count, dim, generator=generator), blank[:, 0, :4]
        )
        for name in names
    }


def test_the_outer_product_by_hand():
    one, two = torch.tensor([[1.0, 2.0, 1.0]]), torch.tensor([[3.0, 1.0]])
    assert outer_product([one, two]).tolist() == [[[3.0, 1.0], [6.0, 2.0], [3.0, 1.0]]]
    three = torch.tensor([[1.0, -1.0]])
    assert outer_product([one, two, three])[0, 1].tolist() == [[6.0, -6.0], [2.0, -2.0]]


def test_low_rank_weights_are_those_of_a_full_tensor():
    """Contracting the outer product with the tensor that the factors make up gives the same verdict."""
    for names in (["audio", "video"], ["audio", "video", "text"]):
        torch.manual_seed(0)
        fusion = LowRankFusion(names, 6, 4, dropout=0.0, width=5, rank=3).eval()
        torch.nn.init.normal_(fusion.bias)
        parts = parts_of(names)
        weights = 0
        for rank in range(3):
            term = torch.ones(1, 4)
            for name in names:  # (W, C) and (W', C) -> (W * W', C)
                term = (term[:, None] * fusion.factors[name][rank][None]).flatten(0, 1)
            weights = weights + term
        expected = outer_product(fusion.embeddings(parts)).flatten(1) @ weights + fusion.bias
        torch.testing.assert_close(fusion(parts), expected)


def test_without_one_modality_the_tensor_holds_the_other_alone():
    torch.manual_seed(0)
    parts = parts_of(["audio", "video"])
    fusion = TensorFusion(["audio", "video"], 6, 4, hidden=7, dropout=0.0, width=5).eval()
    gone = without(parts["video"], torch.ones(3, dtype=torch.bool))
    embedding, nothing = fusion.embeddings({"audio": parts["audio"], "video": gone})
    assert nothing.tolist() == [[0.0] * 5 + [1.0]] * 3
    tensor = outer_product([embedding, nothing])
    assert torch.equal(tensor[..., -1], embedding)
    assert not tensor[..., :-1].any()


def test_a_single_modality_speaks_at_full_strength_through_fresh_low_rank_factors():
    torch.manual_seed(0)
    parts = parts_of(["audio", "video"])
    fusion = LowRankFusion(["audio", "video"], 6, 4, dropout=0.0, width=5, rank=3).eval()
    embedding = fusion.embeddings(parts)[0]
    expected = torch.einsum("bw,rwc->bc", embedding, fusion.factors["audio"])
    torch.testing.assert_close(fusion({"audio": parts["audio"]}), expected)
