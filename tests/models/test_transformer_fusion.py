"""Transformer fusions: what may look at what, by gradients, and attention against the formula."""

import math

import pytest
import torch

from avser.errors import ConfigError
from avser.models.transformer_fusion import BottleneckFusion, CrossModalFusion, Layer, Transformer, time_positions
from avser.structures import Attended

SIZES = {"hidden": 10, "dropout": 0.0, "width": 8, "layers": 2, "heads": 2, "num_bottlenecks": 2}


def part(lengths, num_steps, step_s, seed):
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.randn(len(lengths), num_steps, 6, generator=generator)
    mask = torch.arange(num_steps) < torch.tensor(lengths)[:, None]
    times = (step_s * torch.arange(num_steps)).expand(len(lengths), -1)
    return Attended(sequence, mask / 1.0, None, times, mask, sequence[:, 0], sequence[:, 0, :3])


@pytest.fixture
def parts():
    return {"audio": part([6, 4, 0], 6, 0.04, 1), "video": part([3, 2, 3], 3, 0.08, 2)}


def build(kind, **changes):
    torch.manual_seed(7)
    return kind(["audio", "video"], 6, 3, **SIZES | changes).eval()


def watched(parts, name):
    parts[name].sequence.requires_grad_(True)
    return parts[name].sequence


def test_attention_by_the_formula():
    torch.manual_seed(0)
    layer = Layer(8, 2, 0.0, torch.nn.ReLU())
    x, source, mask = torch.randn(1, 3, 8), torch.randn(1, 4, 8), torch.tensor([[True, True, False, True]])
    expected = torch.zeros(3, 8)
    for head in (slice(0, 4), slice(4, 8)):
        query = layer.queries(x)[0, :, head]
        key, value = (y[0][:, head][mask[0]] for y in layer.keys_values(source).chunk(2, dim=2))
        expected[:, head] = (query @ key.T / math.sqrt(4)).softmax(dim=1) @ value
    torch.testing.assert_close(layer.attend(x, source, mask)[0], layer.outer(expected))


def test_a_source_without_a_real_step_gives_nothing():
    torch.manual_seed(0)
    layer = Layer(8, 2, 0.0, torch.nn.ReLU())
    taken = layer.attend(torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.tensor([[False] * 4, [True] * 4]))
    assert not taken[0].any()
    assert taken[1].all()


def test_cross_modal_layers_look_at_the_other_modality_as_it_came_in():
    """In every layer the source is the same: two layers on it equal two layers applied by hand."""
    torch.manual_seed(0)
    transformer = Transformer(8, 2, 2, 0.0, torch.nn.ReLU())
    x, source, mask = torch.randn(1, 3, 8), torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    by_hand = x
    for layer in transformer.layers:
        by_hand = by_hand + layer.attend(layer.norms[0](by_hand), layer.norms[0](source), mask)
        by_hand = by_hand + layer.feed_forward(layer.norms[1](by_hand))
    torch.testing.assert_close(transformer(x, source, mask), transformer.norm(by_hand))


@pytest.mark.parametrize("kind", [CrossModalFusion, BottleneckFusion])
def test_only_real_steps_are_looked_at(kind, parts):
    source = watched(parts, "audio")
    build(kind)(parts).square().sum().backward()
    assert torch.equal(source.grad.abs().sum(dim=2) > 0, parts["audio"].mask)


@pytest.mark.parametrize("kind", [CrossModalFusion, BottleneckFusion])
def test_it_matters_when_a_step_is(kind, parts):
    fusion = build(kind)
    before = fusion(parts)
    parts["video"].times = parts["video"].times + 0.5
    assert not torch.allclose(fusion(parts), before, atol=1e-4)


def test_mult_exchanges_in_both_directions(parts):
    fusion = build(CrossModalFusion)
    for name, other in (("audio", "video"), ("video", "audio")):
        source = watched(parts, other)
        kept = []
        handle = fusion.memories[name].register_forward_hook(lambda *args, kept=kept: kept.append(args[2]))
        fusion(parts)
        handle.remove()
        kept[0][0].square().sum().backward()  # clip 0 has both modalities
        assert source.grad[0].any()
        assert not source.grad[1:].any()


def exchanged(fusion, parts, *, renew):
    """Audio's class token after two layers; with `renew` each layer gets the first bottleneck again."""
    kept = {}

    def exchange(layer, tokens, masks, bottleneck, share):
        first = kept.setdefault("first", bottleneck)
        tokens, bottleneck = BottleneckFusion.exchange(
            fusion, layer, tokens, masks, first if renew else bottleneck, share
        )
        kept["tokens"] = tokens
        return tokens, bottleneck

    fusion.exchange = exchange
    fusion(parts)
    return kept["tokens"]["audio"][:, 0]


def test_mbt_tells_across_through_the_bottleneck_alone(parts):
    source = watched(parts, "video")
    for renew in (True, False):
        source.grad = None
        exchanged(build(BottleneckFusion), parts, renew=renew)[0].square().sum().backward()
        assert bool(source.grad is not None and source.grad[0].any()) is not renew


def test_what_a_missing_modality_makes_of_the_bottleneck_does_not_count(parts):
    fusion = build(BottleneckFusion)
    clip = 2  # has no voice
    share = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    tokens = {name: torch.randn(3, 4, 8) for name in parts}
    masks = {name: torch.ones(3, 4, dtype=torch.bool) for name in parts}
    _, mixed = fusion.exchange(fusion.layers[0], tokens, masks, fusion.bottleneck.expand(3, -1, -1), share)
    changed = {**tokens, "audio": tokens["audio"] + 1 + torch.randn(3, 4, 8)}
    _, other = fusion.exchange(fusion.layers[0], changed, masks, fusion.bottleneck.expand(3, -1, -1), share)
    torch.testing.assert_close(mixed[clip], other[clip])
    assert not torch.allclose(mixed[0], other[0])


def test_positions_are_of_the_time_and_not_of_the_step():
    fine, coarse = (time_positions(step_s * torch.arange(8)[None], 7) for step_s in (0.04, 0.08))
    assert fine.shape == (1, 8, 7)
    torch.testing.assert_close(fine[:, ::2], coarse[:, :4])
    assert (coarse[0, 1:] - coarse[0, :-1]).norm(dim=1).min() > 0.1
    torch.testing.assert_close(fine[0, 1, 0], torch.tensor(math.sin(2 * math.pi * 0.04 / 0.1)))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="heads=3"):
        build(CrossModalFusion, heads=3)
    with pytest.raises(ConfigError, match="two layers"):
        build(BottleneckFusion, layers=1)
