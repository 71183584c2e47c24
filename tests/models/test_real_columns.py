"""Blanking padding: the numbers of multiplying after every layer, and no work where nothing is padded."""

import pytest
import torch
from torch import Tensor, nn

from avser.models.backbones import Backbone
from avser.models.real_columns import RealColumns


class InPlace(nn.Module):
    """Writes to its input between two layers, as residual networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, planes: Tensor) -> Tensor:
        planes = self.conv(planes)
        planes += 1  # no longer zero where padded
        return self.act(planes)


LAYERS = {
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
    "averaged": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)),
    "shifted": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.5)),
    "written to": InPlace,
    "untouched": nn.Identity,
}


def multiplied(backbone: Backbone, planes: Tensor, mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The same pass with every layer's output multiplied by its mask: what all the shortcuts must equal."""
    with monkeypatch.context() as patch:
        patch.setattr(RealColumns, "_blanked", RealColumns._multiplied)
        patch.setattr(RealColumns, "_is_blank", lambda *_: False)
        torch.manual_seed(1)
        return backbone(planes.clone(), mask)[0]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lengths", [(40, 40), (40, 23), (0, 31)])
@pytest.mark.parametrize("training", [False, True])
def test_shortcuts_give_the_numbers_of_multiplying_after_every_layer(name, lengths, training, monkeypatch):
    torch.manual_seed(0)
    backbone = Backbone(LAYERS[name]()).train(training)
    mask = torch.arange(40) < torch.tensor(lengths)[:, None]
    planes = torch.randn(2, 3, 16, 40)  # not blank where padded: the layers have to see to it
    for with_gradients in (False, True):
        with torch.set_grad_enabled(with_gradients):
            wanted = multiplied(backbone, planes, mask, monkeypatch)
            torch.manual_seed(1)
            got = backbone(planes.clone(), mask)[0]
        assert torch.equal(got, wanted)
        if wanted.requires_grad:
            weights = list(backbone.parameters())
            for a, b in zip(
                torch.autograd.grad(got.sin().sum(), weights),
                torch.autograd.grad(wanted.sin().sum(), weights),
                strict=True,
            ):
                assert torch.equal(a, b)


def test_nothing_is_multiplied_where_nothing_is_padded(monkeypatch):
    """A quarter of the time of a batch without padding went into multiplying by one."""
    monkeypatch.setattr(RealColumns, "_multiplied", lambda *_: pytest.fail("there is nothing to blank"))
    backbone = Backbone(LAYERS["plain"]()).eval()
    backbone(torch.randn(2, 3, 16, 40), torch.ones(2, 40, dtype=torch.bool))


def test_a_layer_that_hands_on_its_input_does_not_change_it():
    planes, mask = torch.ones(1, 3, 8, 20), torch.arange(20)[None] < 12
    with torch.no_grad():
        features, _ = Backbone(nn.Identity())(planes.contiguous(memory_format=torch.channels_last), mask)
    assert planes.all()
    assert not features[..., 12:].any()
