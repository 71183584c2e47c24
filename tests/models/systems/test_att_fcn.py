"""att_fcn: the published sizes, attention over cells computed by hand, and the switches for the paper's two claims."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from avser.errors import ConfigError
from avser.models.systems.att_fcn import AttentionFcn


def build(**options):
    torch.manual_seed(0)
    return AttentionFcn(4, **options).eval()


@pytest.fixture(scope="module")
def system():
    return build()


def test_the_parameters_are_those_of_alexnet_and_one_attention(system):
    convolutions = sum(p.numel() for p in system.backbone.parameters())
    assert convolutions == 34_944 + 614_656 + 885_120 + 1_327_488 + 884_992
    attention = 256 * 256 + 256 + 256
    assert sum(p.numel() for p in system.parameters()) == convolutions + attention + 256 * 4 + 4


def test_the_grid_of_torchvisions_alexnet():
    """Sizes computed by hand from kernels, strides and paddings."""
    backbone = build(backbone="torchvision:alexnet").backbone
    for num_frames, num_columns in ((300, 8), (450, 13), (750, 22)):
        features, _ = backbone(torch.zeros(1, 3, 200, num_frames))
        assert features.shape == (1, 256, 5, num_columns)


def test_attention_is_over_the_cells_of_both_axes(system):
    """The formula of the paper, cell by cell, on a map small enough to loop over."""
    generator = torch.Generator().manual_seed(1)
    features = 3 * torch.randn(1, 256, 2, 3, generator=generator)
    mask = torch.tensor([[True, True, False]])
    attended = system.attend(features, mask)
    inner, outer = system.score.inner, system.score.outer.weight[0]
    cells = [(f, t) for f in range(2) for t in range(2)]
    energies = torch.stack([outer @ torch.tanh(inner.weight @ features[0, :, f, t] + inner.bias) for f, t in cells])
    alphas = torch.exp(0.3 * energies) / torch.exp(0.3 * energies).sum()
    for (f, t), alpha in zip(cells, alphas, strict=True):
        torch.testing.assert_close(attended.map[0, f, t], alpha)
    assert attended.map[0, :, 2].sum() == 0
    summary = sum(alpha * features[0, :, f, t] for (f, t), alpha in zip(cells, alphas, strict=True))
    torch.testing.assert_close(attended.logits[0], system.head(summary), atol=1e-5, rtol=1e-4)


def test_weights_are_the_map_over_time_and_the_steps_add_up(system, make_batch):
    part = system(make_batch((40000, 20000))).attended["audio"]
    torch.testing.assert_close(part.map.sum(dim=1), part.weights)
    torch.testing.assert_close(part.weights.sum(dim=1), torch.ones(2))
    torch.testing.assert_close((part.weights[..., None] * part.step_logits).sum(dim=1), part.logits)
    assert part.map[0].std() > 0


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"attention": "mean"}])
def test_without_attention_every_cell_counts_alike(options, make_batch):
    part = build(**options)(make_batch((40000, 20000))).attended["audio"]
    for weights, mask in zip(part.map, part.mask, strict=True):
        cells = weights[:, mask]
        torch.testing.assert_close(cells, torch.full_like(cells, 1 / cells.numel()))


def test_mean_pooling_has_the_same_network_but_no_attention():
    plain, full = build(attention="mean").state_dict(), build().state_dict()
    assert set(full) - set(plain) == {"score.inner.weight", "score.inner.bias", "score.outer.weight"}
    assert all(torch.equal(v, full[k]) for k, v in plain.items() if k.startswith("backbone"))


def test_weights_come_from_a_file_unless_the_systems_own_follow(tmp_path):
    source = models.squeezenet1_1(num_classes=2)
    path = tmp_path / "squeezenet.safetensors"
    save_file(source.features.state_dict(prefix="features."), path)
    options = {"backbone": "torchvision:squeezenet1_1", "max_stride": 16}
    loaded = build(**options, weights=str(path))
    torch.testing.assert_close(loaded.backbone.layers[0].weight.contiguous(), source.features[0].weight)
    again = AttentionFcn(4, pretrained=False, **options, weights="gone.safetensors")
    again.load_state_dict(loaded.state_dict())


def test_the_step_is_told_and_can_be_made_finer(system, make_batch):
    assert system.step_s == pytest.approx(0.32)
    assert any("320 ms" in note for note in system.notes)
    for options in ({"max_time_stride": 8}, {"max_stride": 8}):
        finer = build(**options)
        assert finer.step_s == pytest.approx(0.08)
        part = finer(make_batch((40000, 20000))).attended["audio"]
        torch.testing.assert_close(part.times[0].diff(), torch.full_like(part.times[0, 1:], 0.08))


def test_a_step_is_where_it_says(make_batch):
    """The columns that a step depends on lie around its time."""
    system = build(max_stride=8)
    batch = make_batch((48000,), (1,))
    part = system(batch).attended["audio"]
    planes, mask = system.pictures(batch.waveform, batch.waveform_mask)
    planes.requires_grad_(True)
    step = part.weights.shape[1] // 2
    system.backbone(planes, mask)[0][..., step].sum().backward()
    felt = planes.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    assert (felt.min() + felt.max()).item() / 2 * 0.01 == pytest.approx(part.times[0, step].item(), abs=0.01)


@pytest.mark.parametrize("num_samples", [1600, 9000, 48123])
def test_padding_changes_nothing(system, make_batch, num_samples):
    alone = system(make_batch((num_samples,), (1,)))
    padded = system(make_batch((num_samples, 70000), (1, 1)))
    torch.testing.assert_close(padded.logits[:1], alone.logits, atol=1e-4, rtol=1e-4)
    size = alone.attended["audio"].map.shape[2]
    torch.testing.assert_close(padded.attended["audio"].map[:1, :, :size], alone.attended["audio"].map)


def test_a_short_clip_is_followed_by_silence_and_one_without_voice_by_nothing(system, make_batch):
    part = system(make_batch((4800, 0), (1, 1))).attended["audio"]
    assert part.mask.tolist() == [[True], [False]]
    assert (part.logits[1] == 0).all()


def test_an_mlp_head_gives_no_exact_evidence(make_batch):
    system = build(head="mlp")
    assert [type(layer).__name__ for layer in system.head] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert system(make_batch()).attended["audio"].step_logits is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "gated"}, "additive or mean"),
        ({"head": "big"}, "linear or mlp"),
        ({"weights": "imagenet"}, "torchvision:alexnet"),
        ({"max_stride": 2}, "strides 4"),
    ],
)
def test_an_impossible_option_says_why(options, words):
    with pytest.raises(ConfigError, match=words):
        build(**options)


def test_a_batch_without_voice_is_refused(system, make_batch):
    with pytest.raises(ValueError, match="waveform"):
        system(make_batch().without("audio"))


def test_every_parameter_learns(make_batch):
    system = build().train()
    batch = make_batch((20000, 14000))
    torch.nn.functional.cross_entropy(system(batch).logits, batch.labels).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in system.parameters())
