"""dcnn_blstmwa: published sizes, eight segments of 3 s, two stages that train different parts, attention by hand."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from avser.config import load_config
from avser.data.augment import augment_batch
from avser.errors import ConfigError
from avser.models.systems.dcnn_blstmwa import DcnnBlstmAttention, SegmentCnn
from avser.training.losses import TrainingLoss

SMALL = {"backbone": "torchvision:squeezenet1_1", "image_px": 64, "hidden": 8, "attention_dim": 6, "dnn": (10, 5)}


def build(**options):
    torch.manual_seed(0)
    return DcnnBlstmAttention(3, **{**SMALL, **options}).eval()


@pytest.fixture
def system():
    return build()


@pytest.fixture
def second(system):
    system.enter_stage(1)
    return system


def count(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


def test_the_parameters_of_the_published_size():
    with torch.device("meta"):  # sizes alone: AlexNet's 57 million weights need not be drawn
        cnn = SegmentCnn("torchvision:squeezenet1_1", "none")
        alexnet = models.alexnet()
    kept = [alexnet.features, *alexnet.classifier[:5]]
    assert count(*kept) == 57_003_840  # 2.47 M of convolutions, 9216 * 4096 + 4096 and 4096 * 4096 + 4096
    assert cnn.dim == 512
    rest = build(hidden=128, attention_dim=256, dnn=(512, 256))
    assert count(rest.blstm) == 2 * 4 * 128 * (512 + 128 + 2)
    assert count(rest.query, rest.key, rest.value) == 3 * 256 * 256 + 2 * 256
    assert count(rest.dnn) == 256 * 512 + 512 + 512 * 256 + 256 + 256 * 3 + 3


def test_alexnets_features_are_its_second_wide_layer_before_the_relu(tmp_path):
    torch.manual_seed(1)
    alexnet = models.alexnet(num_classes=2).eval()
    path = tmp_path / "alexnet.safetensors"
    save_file(alexnet.state_dict(), path)
    pictures = torch.randn(1, 3, 67, 67)
    expected = alexnet.avgpool(alexnet.features(pictures)).flatten(1)
    for layer in alexnet.classifier[:5]:
        expected = layer(expected)
    found = SegmentCnn("torchvision:alexnet", str(path)).eval()(pictures)
    assert found.shape == (1, 4096)
    assert (found < 0).any()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("num_samples", [20000, 48000, 90000])
def test_three_seconds_are_eight_segments(make_batch, num_samples):
    batch = make_batch((num_samples,), (1,))
    fixed = build(length="fixed").segments(batch.waveform, batch.waveform_mask)
    assert fixed.start.tolist() == [32 * i for i in range(8)]
    assert fixed.values.shape == (8, 3, 64, 64)
    assert fixed.values.min() == 0
    assert fixed.values.max() <= 1


def test_a_whole_clip_is_read_to_its_end(system, make_batch):
    batch = make_batch((90000, 3000), (1, 1))
    segments = system.segments(batch.waveform, batch.waveform_mask)
    longest = segments.start[segments.owner == 0]
    assert longest[-1] == -(-90000 // 160) - 64
    assert (longest.diff() <= 32).all()
    assert (segments.owner == 1).sum() == 1
    times = system(batch).attended["audio"].times
    assert times[0, 0] == pytest.approx(0.315)
    assert times[0, -1] == pytest.approx(90000 / 16000 - 0.325, abs=0.01)
    assert times[1, 0] == pytest.approx(0.09)  # the middle of its 19 frames


def test_the_recipe_plays_clips_faster_or_slower(make_batch):
    """Up to a tenth, each clip by a factor of its own."""
    augment = load_config(["dcnn_blstmwa"]).training.augment
    batch = make_batch((48000,) * 6, (1,) * 6)
    lengths = augment_batch(batch, augment, 3, torch.Generator().manual_seed(0)).waveform_mask.sum(dim=1)
    assert ((lengths >= 48000 / 1.1 - 1) & (lengths <= 48000 / 0.9 + 1)).all()
    assert len(lengths.unique()) == 6
    assert lengths.max() - lengths.min() > 2000


def test_each_channel_goes_from_zero_to_one_over_the_clip(system, make_batch):
    batch = make_batch((48000,), (1,))
    values = system.segments(batch.waveform, batch.waveform_mask).values
    assert values.amin(dim=(0, 2, 3)).tolist() == [0, 0, 0]
    assert values.amax(dim=(0, 2, 3)).tolist() == [1, 1, 1]


def test_stage_one_is_the_mean_of_the_segments_and_learns_from_each(system, make_batch):
    batch = make_batch((48000, 20000), (1, 1))
    output = system(batch)
    part, logits, owner = output.attended["audio"], output.extra["segment_logits"], output.extra["owner"]
    torch.testing.assert_close(output.logits[1], logits[owner == 1].mean(dim=0))
    torch.testing.assert_close((part.weights[..., None] * part.step_logits).sum(dim=1), output.logits)
    loss = system.training_loss(output, batch, TrainingLoss())
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, batch.labels[owner]))


def test_attention_is_scaled_dot_products_averaged_over_queries(second):
    """The formula written out on one clip, the other clip's padding out of sight."""
    sequence = torch.randn(2, 4, 512, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    part = second.attend(sequence * mask[..., None], mask, torch.zeros(2, 4))
    hidden = second.blstm(sequence[:1, :3])[0][0]
    shares = torch.softmax(second.query(hidden) @ second.key(hidden).T / 6**0.5, dim=1)
    torch.testing.assert_close(part.weights[0, :3], shares.mean(dim=0))
    assert part.weights[0, 3] == 0
    summary = (shares @ second.value(hidden)).mean(dim=0)
    torch.testing.assert_close(part.pooled[0], summary)
    torch.testing.assert_close(part.logits[0], second.dnn(summary))


@pytest.mark.parametrize("stage", [0, 1])
def test_each_stage_trains_its_own_parts(system, make_batch, stage):
    system.enter_stage(stage)
    system.train()
    batch = make_batch((24000, 15000), (1, 1))
    system.training_loss(system(batch), batch, TrainingLoss()).backward()
    first = {name for name, _ in system.named_parameters() if name.startswith(("backbone.", "segment_head."))}
    for name, parameter in system.named_parameters():
        learns = (name in first) == (stage == 0)
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == learns, name


def test_the_frozen_cnn_neither_drops_out_nor_moves():
    system = build(backbone="torchvision:mobilenet_v2")
    system.enter_stage(1)
    system.train()
    assert system.dnn.training
    assert not any(layer.training for layer in system.backbone.modules())
    system.enter_stage(0)
    assert system.backbone.training


def test_a_loaded_model_judges_by_its_second_stage(second, make_batch):
    again = build()
    again.load_state_dict(second.state_dict())
    again.enter_stage(again.num_stages)
    batch = make_batch()
    torch.testing.assert_close(again(batch).logits, second(batch).logits)


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("num_samples", [900, 4800, 30123])
def test_padding_changes_nothing(system, make_batch, stage, num_samples):
    system.enter_stage(stage)
    alone = system(make_batch((num_samples,), (1,)))
    padded = system(make_batch((num_samples, 50000), (1, 1), extra_samples=777))
    torch.testing.assert_close(padded.logits[:1], alone.logits, atol=1e-4, rtol=1e-4)
    part, same = padded.attended["audio"], alone.attended["audio"]
    torch.testing.assert_close(part.weights[:1, : same.weights.shape[1]], same.weights)
    assert torch.equal(part.mask[:1, : same.mask.shape[1]], same.mask)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_clip_without_voice_says_nothing(system, make_batch, stage):
    system.enter_stage(stage)
    output = system(make_batch((20000, 0), (1, 1)))
    assert not output.attended["audio"].present[1]
    assert (output.logits[1] == 0).all()
    assert (output.attended["audio"].weights[1] == 0).all()


def test_faults_say_why(system, make_batch):
    with pytest.raises(ConfigError, match="clip or fixed"):
        build(length="long")
    with pytest.raises(ValueError, match="waveform"):
        system(make_batch().without("audio"))
