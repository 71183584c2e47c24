"""cnn_bigru_levels: five levels of a CNN, their own verdicts, and pairs that are drawn together or pushed apart."""

import math

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.systems.cnn_bigru_levels import BACKBONES, CnnBigruLevels, contrastive_loss, draw_pairs
from avser.training.losses import TrainingLoss

SMALL = {"num_classes": 3, "input_px": 64, "branch_channels": 8, "width": 16, "hidden": 4}


def build(**options):
    torch.manual_seed(0)
    return CnnBigruLevels(**{**SMALL, **options}).eval()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_level_is_what_the_next_layers_start_from(backbone):
    """The planes that the levels see are those of the network itself, at falling resolution."""
    model = build(backbone=backbone)
    _, ends, channels = BACKBONES[backbone]
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plane, sizes = image, []
    with torch.no_grad():
        for i, layer in enumerate(model.backbone.layers, start=1):
            plane = layer(plane)
            if i in ends:
                sizes.append(plane.shape[-1])
                assert plane.shape[1] == channels[len(sizes) - 1]
                assert (plane >= 0).all()  # a level ends with its rectifier
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


def test_the_network_has_the_size_that_its_documentation_states():
    model = CnnBigruLevels(num_classes=8)
    branches = sum(c * 128 + 2 * 128 + 2048 * 512 + 512 for c in (64, 192, 384, 256, 256))
    gru, heads = 2 * 3 * 256 * (512 + 256 + 2), 5 * (512 * 8 + 8) + 2560 * 8 + 8
    alexnet = 2_469_696  # torchvision's convolutions
    assert sum(p.numel() for p in model.parameters()) == alexnet + branches + gru + heads


def test_a_frame_becomes_one_vector_of_all_levels(make_batch):
    frames = make_batch().frames[0, :5]
    assert build().encode_frames(frames).shape == (5, 5 * 2 * 4)
    assert build(readout="ends").encode_frames(frames).shape == (5, 2 * 2 * 4)
    model = build(readout="ends", width=8)
    states, _ = model.gru(model.encode_levels(frames))
    torch.testing.assert_close(model.encode_frames(frames), torch.cat([states[:, 0], states[:, -1]], dim=1))


def test_a_clip_is_the_mean_of_its_frames_and_a_picture_a_clip_of_one(make_batch):
    model, batch = build(), make_batch((100, 100), (4, 1))
    with torch.no_grad():
        output = model(batch)
        of_frames = model.attention.evidence(model.encode_frames(batch.frames[0, :4]))
        of_picture = model.attention.evidence(model.encode_frames(batch.frames[1, :1]))
    torch.testing.assert_close(output.logits[0], of_frames.mean(dim=0))
    torch.testing.assert_close(output.logits[1], of_picture[0])


def test_attention_over_frames_is_an_option(make_batch):
    part = build(pooling="additive")(make_batch()).attended["video"]
    assert part.weights[0].std() > 1e-6
    torch.testing.assert_close((part.weights[..., None] * part.step_logits).sum(dim=1), part.logits)


def test_the_contrastive_loss_by_hand():
    one = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    other = torch.tensor([[0.0, 5.0], [0.0, 1.0], [9.0, 0.0], [math.cos(0.5), math.sin(0.5)]])
    same = torch.tensor([True, False, False, False])
    # Distances are sqrt(2), sqrt(2), 0, 2 sin(0.25): together, far enough apart, on each other, too near.
    expected = 0.5 * (2 + 0 + 1 + (1 - 2 * math.sin(0.25)) ** 2) / 4
    assert contrastive_loss(one, other, same, margin=1.0).item() == pytest.approx(expected, abs=1e-5)
    assert contrastive_loss(one[:0], other[:0], same[:0]).item() == 0
    # Pictures that look alike pull on nothing with an infinite force.
    twin = one.clone().requires_grad_()
    contrastive_loss(twin, one, ~same | same).backward()
    assert torch.isfinite(twin.grad).all()


def test_pairs_are_half_of_one_emotion_and_half_of_two():
    labels = torch.arange(40) % 4
    first, second, same = draw_pairs(labels, 64)
    assert (int(same.sum()), int((~same).sum())) == (64, 64)
    assert torch.equal(labels[first] == labels[second], same)
    assert (first < second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 128
    assert [len(x) for x in draw_pairs(torch.tensor([0, 0, 1]), 64)] == [3, 3, 3]
    assert len(draw_pairs(torch.tensor([2]), 64)[0]) == 0


def test_the_loss_adds_each_level_and_the_pairs(make_batch):
    model = build(dropout=0.0).train()
    batch = make_batch((100,) * 4, (2, 1, 3, 0))
    batch.labels = torch.tensor([0, 1, 0, 2])
    output, criterion = model(batch), TrainingLoss()
    levels, owner = output.extra["levels"], output.extra["owner"]
    assert owner.tolist() == [0, 0, 1, 2, 2, 2]
    own = [
        torch.nn.functional.cross_entropy(h(levels[:, i]), batch.labels[owner]) for i, h in enumerate(model.auxiliary)
    ]
    clips = torch.stack([levels[:2].mean(dim=0), levels[2], levels[3:].mean(dim=0)])
    pairs = [(0, 2, True), (0, 1, False), (1, 2, False)]
    first, second, same = (torch.tensor(column) for column in zip(*pairs, strict=True))
    contrast = contrastive_loss(clips[first], clips[second], same)
    expected = criterion(output, batch) + sum(own) / 5 + 0.5 * contrast
    torch.testing.assert_close(model.training_loss(output, batch, criterion), expected)


def test_a_batch_without_any_face_still_gives_a_loss(make_batch):
    model = build().train()
    batch = make_batch((100, 100), (3, 2))
    batch.frame_mask[:] = False
    output = model(batch)
    assert torch.isfinite(model.training_loss(output, batch, TrainingLoss()))


def test_wrong_options_are_refused_with_advice():
    for option in ("backbone", "readout", "pooling"):
        config = load_config(["cnn_bigru_levels", f"model.options.{option}=nonsense"])
        with pytest.raises(ConfigError, match=f"{option}='nonsense'; take one of"):
            build_model(config.model, ["a", "b"], sample_rate_hz=16000)
