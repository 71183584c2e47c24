"""An image CNN along time that sees the past alone, and goes on from chunk to chunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.features.running import Memory, with_past
from avser.models.backbones import Backbone

WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


class CausalBackbone(Backbone):
    """A `Backbone` whose layers are padded in the past only; weights and their names are the same.

    A layer with stride s gives a column for every s that came in, as soon as the last of them is there: strides stay
    aligned through the network, and step k rests on the columns before (k + 1) * stride. What a layer needs of earlier
    columns is kept, so nothing is computed twice.

    Attributes:
        stride: input columns a step.

    Raises:
        ConfigError: a layer sees more than a window along time, such as squeeze-and-excite.
    """

    def __init__(self, layers: nn.Module, *, freeze: bool = False, num_planes: int = 3) -> None:
        super().__init__(layers, freeze=freeze, num_planes=num_planes)
        self.stride: int = round(self.stride)  # type: ignore[assignment]
        self._memory: Memory | None = None  # of the layers, while a pass runs
        self._num_rows: dict[int, int] = {}
        for name, layer in layers.named_modules():
            if isinstance(layer, WINDOWED):
                self._look_back(name, layer)
        self._check_causal()

    def forward(  # type: ignore[override]
        self, planes: Tensor, mask: Tensor, memory: Memory | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            planes: (B, num_planes, F, T), the columns that follow those that `memory` knows.
            mask: (B, T) bool, real columns first.

        Returns:
            features (B, C, F', T') of the steps that are complete now, and their mask (B, T').
        """
        memory = Memory() if memory is None else memory
        if "planes" in memory:
            planes, mask = torch.cat([memory["planes"], planes], dim=3), torch.cat([memory["mask"], mask], dim=1)
        whole = planes.shape[3] - planes.shape[3] % self.stride
        memory["planes"], memory["mask"] = planes[..., whole:], mask[:, whole:]
        mask = mask[:, self.stride - 1 : whole : self.stride]
        if not whole:
            return planes.new_zeros(len(planes), self.num_channels, self.num_rows(planes.shape[2]), 0), mask
        self._memory = memory.of("layers")
        try:
            features, _ = super().forward(planes[..., :whole])
        finally:
            self._memory = None
        return features, mask

    def num_rows(self, num_bands: int) -> int:
        """Height of the feature map for planes with `num_bands` rows."""
        if num_bands not in self._num_rows:
            self._num_rows[num_bands] = super().num_rows(num_bands)
        return self._num_rows[num_bands]

    def min_columns(self) -> int:
        """The fewest input columns that give one step."""
        return round(self.stride)

    def _look_back(self, name: str, layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> None:
        """Take the padding along time off a layer, and put the columns before its input in front of it instead."""
        if isinstance(layer.padding, str) or getattr(layer, "padding_mode", "zeros") != "zeros":
            raise ConfigError(
                f"this backbone cannot be causal: its layer {name} pads by {layer.padding!r}; take another"
            )
        kernel, stride, padding, dilation = (
            _pair(getattr(layer, what, 1)) for what in ("kernel_size", "stride", "padding", "dilation")
        )
        layer.padding = (padding[0], 0)
        num_past = dilation[1] * (kernel[1] - 1) - (stride[1] - 1)
        nothing = float("-inf") if isinstance(layer, nn.MaxPool2d) else 0.0

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            if num_past < 0:
                return (inputs[0][..., -num_past:],)
            memory = Memory() if self._memory is None else self._memory
            return (with_past(inputs[0], num_past, memory, name, first=nothing),)

        if num_past:
            layer.register_forward_pre_hook(before)

    @torch.no_grad()
    def _check_causal(self) -> None:
        """The columns of the last step must change no step before it; measured, as layers come from other libraries."""
        was_training, generator = self.training, torch.Generator().manual_seed(0)
        planes = torch.randn(1, self.num_planes, 64, 8 * round(self.stride), generator=generator).double()
        real = torch.ones(1, planes.shape[3], dtype=torch.bool)
        changed = planes.clone()
        changed[..., -round(self.stride) :] += 1
        # A branch that begins at zero, or one that answers faintly, would hide what it sees.
        weights = {name: weight.clone() for name, weight in self.state_dict().items()}
        for weight in self.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
        self.eval().double()
        try:
            difference = (self(planes, real)[0] - self(changed, real)[0]).abs().amax(dim=(0, 1, 2))
        except RuntimeError as error:
            raise ConfigError(f"this backbone cannot be causal: {error}; take another") from error
        finally:
            self.float().train(was_training)
            self.load_state_dict(weights)
        if len(difference) != 8 or difference[:-1].max() > 1e-6 * difference[-1]:
            raise ConfigError(
                "this backbone cannot be causal: it pools over the whole picture (squeeze-and-excite does); take one "
                "without, such as torchvision:squeezenet1_1 or timm:resnet18"
            )


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, tuple) else (value, value)
