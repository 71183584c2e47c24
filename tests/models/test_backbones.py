"""Backbones: cut at a stride, exact times, blind to padding, weights from a file."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from avser.errors import CheckpointError, ConfigError
from avser.models.backbones import build_backbone, build_image_model

NAMES = ["torchvision:squeezenet1_1", "torchvision:mobilenet_v2", "torchvision:resnet18", "timm:resnet10t"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("max_stride", [4, 8, 16])
def test_the_stride_is_at_most_what_was_asked_for(name, max_stride):
    backbone = build_backbone(name, max_stride=max_stride)
    assert backbone.stride == max_stride
    features, _ = backbone.eval()(torch.zeros(1, 3, 64, 320))
    assert features.shape[1] == backbone.num_channels
    assert abs(features.shape[3] - 320 / max_stride) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_centred_where_the_backbone_says(name):
    """The input columns that move a step are symmetric around its stated centre."""
    backbone = build_backbone(name, max_stride=8).eval().double()
    planes = torch.rand(1, 3, 64, 256, dtype=torch.float64, requires_grad=True)
    features, _ = backbone(planes)
    step = features.shape[3] // 2
    features[0, :, :, step].sum().backward()
    moved = planes.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    middle = (moved.min() + moved.max()) / 2
    assert abs(middle - (backbone.offset + backbone.stride * step)) <= backbone.stride / 2


@pytest.mark.parametrize("name", [*NAMES, "timm:test_byobnet"])  # the last averages at the edges
@pytest.mark.parametrize("num_columns", [40, 97, 98, 101, 103, 104, 111])
def test_padding_changes_nothing(name, num_columns):
    backbone = build_backbone(name, max_stride=8).eval().double()
    planes = torch.randn(1, 3, 64, num_columns, dtype=torch.float64)
    alone, alone_mask = backbone(planes, torch.ones(1, num_columns, dtype=torch.bool))
    for extra in (1, 7, 64):
        padded = torch.nn.functional.pad(planes, (0, extra))
        mask = torch.arange(num_columns + extra)[None] < num_columns
        together, together_mask = backbone(padded, mask)
        assert together_mask.sum() == alone_mask.sum() == alone.shape[3]
        torch.testing.assert_close(together[..., : alone.shape[3]], alone)


def test_min_columns_is_the_first_length_that_gives_a_step():
    backbone = build_backbone("torchvision:squeezenet1_1", max_stride=8).eval()
    least = backbone.min_columns()
    assert backbone(torch.zeros(1, 3, 64, least))[0].shape[3] == 1
    with pytest.raises(RuntimeError):
        backbone(torch.zeros(1, 3, 64, least - 1))


def test_frozen_layers_do_not_move():
    backbone = build_backbone("torchvision:mobilenet_v2", max_stride=4, freeze=True).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone(torch.randn(4, 3, 32, 32))
    assert not any(p.requires_grad for p in backbone.parameters())
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_building_leaves_no_trace_in_batchnorm():
    backbone = build_backbone("torchvision:mobilenet_v2", max_stride=8)
    assert all((v == 0).all() for k, v in backbone.state_dict().items() if k.endswith("running_mean"))


def test_weights_come_from_a_file(tmp_path):
    model = models.squeezenet1_1()
    path = tmp_path / "w.safetensors"
    save_file({k: v.half() for k, v in model.state_dict().items()}, path)
    backbone = build_backbone("torchvision:squeezenet1_1", weights=str(path), max_stride=8)
    loaded = backbone.state_dict()["layers.0.weight"]
    torch.testing.assert_close(loaded, model.features[0].weight.half().float())


def test_timm_weights_come_from_a_file(tmp_path):
    import timm

    model = timm.create_model("resnet10t", pretrained=False)
    path = tmp_path / "w.safetensors"
    save_file(model.state_dict(), path)
    backbone = build_backbone("timm:resnet10t", weights=str(path), max_stride=8)
    torch.testing.assert_close(dict(backbone.named_parameters())["layers.conv1.0.weight"], model.conv1[0].weight)


def test_faulty_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no weight file"):
        build_backbone("torchvision:squeezenet1_1", weights=str(tmp_path / "none.safetensors"))
    pickled = tmp_path / "w.pth"
    torch.save({}, pickled)
    with pytest.raises(CheckpointError, match=r"only \.safetensors"):
        build_backbone("torchvision:squeezenet1_1", weights=str(pickled))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x00" * 50)
    with pytest.raises(CheckpointError, match="not readable"):
        build_backbone("torchvision:squeezenet1_1", weights=str(damaged))
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    with pytest.raises(CheckpointError, match="missing"):
        build_backbone("torchvision:squeezenet1_1", weights=str(other))


def test_only_what_is_not_used_may_be_missing(tmp_path):
    """Layers without their weights would stay random, and nobody would know."""
    alexnet, path = models.alexnet(num_classes=3), tmp_path / "w.safetensors"
    save_file(alexnet.features.state_dict(prefix="features."), path)
    assert build_backbone("torchvision:alexnet", weights=str(path), max_stride=8).num_channels == 192
    with pytest.raises(CheckpointError, match=r"classifier\.1"):
        build_image_model("alexnet", weights=str(path))
    save_file(alexnet.state_dict(), path)  # of other classes
    loaded = build_image_model("alexnet", weights=str(path))
    assert torch.equal(loaded.classifier[4].weight, alexnet.classifier[4].weight)
    # Names such as fc1 are found among the convolutions too.
    state = models.mobilenet_v3_small().state_dict()
    save_file({k: v for k, v in state.items() if ".fc1." not in k}, path)
    with pytest.raises(CheckpointError, match=r"fc1\.weight"):
        build_backbone("torchvision:mobilenet_v3_small", weights=str(path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet18", "torchvision:NAME or timm:NAME"),
        ("torchvision:resnet9000", "no image model"),
        ("timm:resnet9000", "timm has no model"),
        ("torchvision:vit_b_16", "strides more"),
    ],
)
def test_an_impossible_backbone_says_why(name, words):
    with pytest.raises(ConfigError, match=words):
        build_backbone(name, max_stride=2)


@pytest.mark.parametrize("name", [*NAMES, "timm:test_resnet"])
def test_deep_layers_can_keep_their_step_in_time(name):
    """Depth shrinks frequency alone; the weights are those of the plain network, and padding still changes nothing."""
    torch.manual_seed(0)
    plain = build_backbone(name, max_stride=16)
    torch.manual_seed(0)
    held = build_backbone(name, max_stride=16, max_time_stride=4).eval()
    assert held.stride == 4
    assert held.num_channels == plain.num_channels
    assert all(torch.equal(v, held.state_dict()[k]) for k, v in plain.state_dict().items())
    planes = torch.randn(1, 3, 64, 90)
    alone, _ = held(planes, torch.ones(1, 90, dtype=torch.bool))
    assert alone.shape[2] <= 64 / 16 < alone.shape[3]
    together, _ = held(torch.nn.functional.pad(planes, (0, 30)), torch.arange(120)[None] < 90)
    torch.testing.assert_close(together[..., : alone.shape[3]], alone, atol=1e-4, rtol=1e-3)


def test_imagenet_weights_without_a_network_say_how_to_give_a_file(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(ConfigError, match="give the path of a"):
        build_backbone("torchvision:squeezenet1_1", weights="imagenet")
    monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    with pytest.raises(ConfigError, match="weights=none"):
        build_backbone("timm:resnet10t", weights="imagenet")


def test_one_graph_holds_for_batches_of_every_length():
    """What `training.compile` needs: a graph that is made for each length anew costs more than it can save."""
    from torch._dynamo.testing import CompileCounter  # takes seconds, which only this test should

    torch.compiler.reset()
    torch.manual_seed(0)
    backbone, graphs = build_backbone("timm:test_byobnet", max_stride=4).eval(), CompileCounter()
    compiled = torch.compile(backbone, backend=graphs, dynamic=True, fullgraph=True)
    for num_columns in (100, 141, 173, 208):
        planes = torch.randn(2, 3, 32, num_columns)
        mask = torch.arange(num_columns) < torch.tensor([num_columns, num_columns // 2])[:, None]
        with torch.no_grad():
            (wanted, real), (got, real_too) = backbone(planes, mask), compiled(planes, mask)
        assert torch.equal(real, real_too)
        torch.testing.assert_close(got, wanted)
    assert graphs.frame_count == 1
