"""An image CNN along time that sees the past alone."""

import pytest
import torch
from torch import nn

from avser.errors import ConfigError
from avser.features.running import Memory
from avser.models.backbones import Backbone, build_backbone
from avser.models.causal_backbone import CausalBackbone

NAMES = {
    "torchvision:squeezenet1_1": {"max_stride": 8},
    "timm:test_resnet": {"max_stride": 16, "max_time_stride": 4},
    "timm:resnet10t": {"max_stride": 8},
}


def build(name: str) -> CausalBackbone:
    torch.manual_seed(0)
    backbone = build_backbone(name, kind=CausalBackbone, **NAMES[name])
    assert isinstance(backbone, CausalBackbone)
    return backbone.eval()


def planes(num_columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 3, 64, num_columns), torch.ones(1, num_columns, dtype=torch.bool)


@pytest.mark.parametrize("name", NAMES)
def test_pieces_give_what_the_whole_gives(name: str) -> None:
    backbone, memory = build(name), Memory()
    x, mask = planes(75)
    with torch.no_grad():
        whole, whole_mask = backbone(x, mask)
        parts = [backbone(part, real, memory) for part, real in zip(x.split(3, 3), mask.split(3, 1), strict=True)]
    assert whole.shape[3] == whole_mask.shape[1] == 75 // backbone.stride
    assert whole.abs().max() > 0
    torch.testing.assert_close(torch.cat([part for part, _ in parts], dim=3), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_rests_on_the_columns_before_its_end_and_on_the_last_of_them(name: str) -> None:
    backbone = build(name)
    stride = backbone.stride
    x, mask = planes(12 * stride)
    with torch.no_grad():
        before = backbone(x, mask)[0]
        for column in (7 * stride, 8 * stride - 1):
            changed = x.clone()
            changed[..., column] += 3
            difference = (backbone(changed, mask)[0] - before).abs().amax(dim=(0, 1, 2))
            assert not difference[:7].any()
            assert difference[7] > 0


def test_weights_have_the_same_names_as_those_of_the_plain_one() -> None:
    plain = build_backbone("timm:test_resnet", max_stride=16, max_time_stride=4)
    assert type(plain) is Backbone
    build("timm:test_resnet").load_state_dict(plain.state_dict())


def test_padding_changes_nothing() -> None:
    backbone = build("timm:test_resnet")
    x, mask = planes(40)
    longer = torch.cat([x, torch.randn(1, 3, 64, 30)], dim=3)
    with torch.no_grad():
        alone = backbone(x, mask)[0]
        padded, padded_mask = backbone(longer, torch.nn.functional.pad(mask, (0, 30)))
    assert padded_mask.sum() == alone.shape[3]
    torch.testing.assert_close(padded[..., : alone.shape[3]], alone, atol=1e-5, rtol=1e-5)


def test_a_network_that_sees_the_whole_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="squeeze-and-excite"):
        build_backbone("torchvision:mobilenet_v3_small", max_stride=8, kind=CausalBackbone)


def test_a_branch_that_begins_at_zero_does_not_hide_what_it_sees() -> None:
    with pytest.raises(ConfigError, match="squeeze-and-excite"):
        build_backbone("timm:test_byobnet", max_stride=4, kind=CausalBackbone)


def test_checking_leaves_the_weights_as_they_are() -> None:
    torch.manual_seed(0)
    plain = build_backbone("timm:test_resnet", max_stride=16, max_time_stride=4).state_dict()
    for name, weight in build("timm:test_resnet").state_dict().items():
        torch.testing.assert_close(weight, plain[name], atol=0, rtol=0)


def test_padding_of_other_kinds_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be causal"):
        CausalBackbone(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate")))
