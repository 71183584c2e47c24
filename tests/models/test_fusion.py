"""Fusions: every kind answers with any modality missing, and late ones match the arithmetic."""

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import torch

from avser.config import FusionConfig
from avser.models.attention import AttentionPooling
from avser.models.fusion import FUSIONS, drop_modalities, film, without
from avser.structures import Attended

SETTINGS = {
    "hidden": 12,
    "dropout": 0.0,
    "window_s": 0.1,
    "width": 8,
    "rank": 3,
    "layers": 2,
    "heads": 2,
    "num_bottlenecks": 2,
}


def part(num_steps, step_s, seed, count=3):
    torch.manual_seed(seed)
    pool = AttentionPooling(8, 4, kind="gated", hidden=6)
    mask = torch.ones(count, num_steps, dtype=torch.bool)
    return pool(torch.randn(count, num_steps, 8), mask, step_s * torch.arange(num_steps).expand(count, -1))


@pytest.fixture
def parts():
    return {"audio": part(10, 0.04, 0), "video": part(5, 0.08, 1)}


def build(kind, **extra):
    torch.manual_seed(3)
    return FUSIONS[kind](["audio", "video"], 8, 4, **SETTINGS | extra).eval()


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_modality_that_is_absent_equals_one_that_is_masked(kind, parts):
    """Leaving a modality out of the batch, or masking it in every clip, gives the same finite answer."""
    fusion = build(kind)
    everyone = torch.ones(3, dtype=torch.bool)
    for missing, left in (("audio", "video"), ("video", "audio")):
        masked = fusion({**parts, missing: without(parts[missing], everyone)})
        absent = fusion({left: parts[left]})
        assert torch.isfinite(masked).all()
        torch.testing.assert_close(masked.log_softmax(1), absent.log_softmax(1))


@pytest.mark.parametrize("kind", FUSIONS)
def test_one_clip_missing_a_modality_leaves_the_others_alone(kind, parts):
    fusion = build(kind)
    holed = fusion({**parts, "audio": without(parts["audio"], torch.tensor([True, False, False]))})
    whole = fusion(parts)
    torch.testing.assert_close(holed[1:], whole[1:])
    assert not torch.allclose(holed[0], whole[0])


def longer(part: Attended, extra: int) -> Attended:
    """The same part with steps appended that are not real, and hold noise."""
    count = len(part.mask)

    def grow(x, fill):
        return torch.cat([x, fill(count, extra, *x.shape[2:])], dim=1)

    return replace(
        part,
        sequence=grow(part.sequence, torch.randn),
        weights=grow(part.weights, torch.zeros),
        times=grow(part.times, torch.rand),
        mask=grow(part.mask, lambda *shape: torch.zeros(*shape, dtype=torch.bool)),
    )


@pytest.mark.parametrize("kind", FUSIONS)
def test_padding_moves_nothing(kind, parts):
    fusion = build(kind)
    padded = {"audio": longer(parts["audio"], 7), "video": longer(parts["video"], 2)}
    torch.testing.assert_close(fusion(padded), fusion(parts), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FUSIONS)
def test_gradient_reaches_every_parameter_of_a_fusion(kind, parts):
    fusion = build(kind).train()
    holed = {**parts, "audio": without(parts["audio"], torch.tensor([True, False, False]))}
    fusion(holed).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in fusion.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None or not torch.isfinite(grad).all()] == []
    # Adding a constant to all keys changes no softmax, and a softmax of scores no constant: such may be zero.
    assert [name for name, grad in grads.items() if not grad.any() and not name.startswith("keys.")] == []


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_fusion_of_the_usual_width_stays_small(kind):
    size = FusionConfig()
    fusion = FUSIONS[kind](["audio", "video"], 128, 8, **{name: getattr(size, name) for name in SETTINGS})
    assert sum(parameter.numel() for parameter in fusion.parameters()) < 200_000


def test_the_configuration_offers_every_fusion():
    assert set(get_args(get_type_hints(FusionConfig)["kind"])) == set(FUSIONS)


@pytest.mark.parametrize("kind", FUSIONS)
def test_both_modalities_move_the_answer(kind, parts):
    fusion = build(kind)
    for name, step in (("audio", 0.04), ("video", 0.08)):
        changed = {**parts, name: part(parts[name].mask.shape[1], step, seed=9)}
        assert not torch.allclose(fusion(changed), fusion(parts))


def test_late_average_by_hand(parts):
    expected = (parts["audio"].logits.softmax(1) + parts["video"].logits.softmax(1)) / 2
    torch.testing.assert_close(build("late_average")(parts).softmax(1), expected, atol=1e-6, rtol=1e-5)


def test_late_product_by_hand(parts):
    product = parts["audio"].logits.softmax(1) * parts["video"].logits.softmax(1)
    torch.testing.assert_close(build("late_product")(parts).softmax(1), product / product.sum(1, keepdim=True))


def test_film_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert film(x, torch.tensor([2.0, 0.5]), torch.tensor([1.0, -1.0])).tolist() == [[3.0, 0.0], [7.0, 1.0]]
    assert torch.equal(film(x, torch.ones(2), torch.zeros(2)), x)


def test_film_that_says_nothing_is_the_concatenation(parts):
    fusion = build("film")
    said = fusion(parts)
    with torch.no_grad():
        for condition in fusion.conditions.values():
            condition.weight.zero_()
            condition.bias.zero_()
    torch.testing.assert_close(fusion(parts), fusion.concat(parts))
    assert not torch.allclose(said, fusion(parts))


def test_film_is_conditioned_by_the_other_modality(parts):
    fusion, seen = build("film"), {}
    fusion.concat.register_forward_pre_hook(lambda _, given: seen.update(given[0]))
    fusion(parts)
    gamma, beta = fusion.conditions["audio"](parts["audio"].pooled).chunk(2, dim=1)
    torch.testing.assert_close(seen["video"].pooled, (1 + gamma) * parts["video"].pooled + beta)


def test_cross_attention_looks_no_further_than_its_window(parts):
    fusion = build("cross_attention", window_s=0.1)
    source = parts["video"].sequence.clone().requires_grad_(True)
    parts["video"].sequence = source
    taken = fusion._look("audio", parts["audio"], "video", parts["video"])  # audio steps at 0, 0.04, ... 0.36 s
    taken[:, 0].sum().backward()  # video steps at 0, 0.08, 0.16, 0.24, 0.32 s
    assert source.grad.abs().sum(dim=(0, 2)).nonzero().flatten().tolist() == [0, 1]


def test_what_cross_attention_sees_reaches_the_verdict(parts):
    near, far = (build("cross_attention", window_s=window_s)(parts) for window_s in (0.05, 10.0))
    assert not torch.allclose(near, far)


def test_dropout_takes_at_most_one_modality_and_about_the_right_share(parts):
    many = {name: part(4, 0.1, seed, count=2000) for seed, name in enumerate(parts)}
    torch.manual_seed(0)
    dropped = drop_modalities(many, 0.4)
    gone = {name: ~p.present for name, p in dropped.items()}
    assert not (gone["audio"] & gone["video"]).any()
    assert 0.35 < (gone["audio"] | gone["video"]).float().mean() < 0.45
    assert 0.15 < gone["audio"].float().mean() < 0.25
    assert (dropped["audio"].pooled[gone["audio"]] == 0).all()


def test_dropout_never_takes_the_only_modality(parts):
    alone = {"audio": parts["audio"], "video": without(parts["video"], torch.ones(3, dtype=torch.bool))}
    assert drop_modalities(alone, 1.0)["audio"].present.all()
