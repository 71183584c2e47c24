"""Image CNNs from torchvision and timm, cut at a stride and blind to padding in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avser.errors import CheckpointError, ConfigError
from avser.models.real_columns import RealColumns, window_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLASSIFIERS = ("classifier.", "fc.", "head.", "heads.")  # what torchvision calls the layers behind the convolutions


class Backbone(nn.Module):
    """A CNN over planes whose last axis is time, or over plain images when no mask is given.

    With a mask every layer's output is set to zero where the input was padding, so a clip's features do not depend on
    how far it was padded: zeros are what the layers see beyond the end of an unpadded clip. (A network that pools over
    the whole plane inside, such as squeeze-and-excite, still sees the padding.)

    Args:
        num_planes: channels of the input.
        probe_rows: height of the plane that it is measured with; more than 64 where the layers need it.

    Attributes:
        num_channels: of the feature map.
        stride: input columns a step.
        offset: input column at the centre of step 0.
    """

    def __init__(self, layers: nn.Module, *, freeze: bool = False, num_planes: int = 3, probe_rows: int = 64) -> None:
        super().__init__()
        self.num_planes = num_planes
        # Channels last is the layout that convolutions are fastest in, on CPU and GPU alike.
        self.layers = layers.requires_grad_(not freeze).to(memory_format=torch.channels_last)
        self.frozen = freeze
        self._real: RealColumns | None = None  # while a pass runs
        self._geometry: dict[str, tuple[float, float]] = {}  # while probing: (stride, offset) by number of columns
        for layer in layers.modules():
            if not any(layer.children()):
                layer.register_forward_hook(self._after_layer)
        self._geometry = {"256": (1.0, 0.0)}
        features = self._probe(probe_rows, 256)
        self.num_channels = features.shape[1]
        self.stride, self.offset = self._geometry[str(features.shape[-1])]
        self._geometry = {}

    def forward(self, planes: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            planes: (B, num_planes, F, T).
            mask: (B, T) bool, real columns first; None when everything is real.

        Returns:
            features (B, C, F', T') and their mask (B, T'), or None where none was given.
        """
        planes = planes.contiguous(memory_format=torch.channels_last)
        if mask is None:
            return _last(self.layers(planes)), None
        self._real = real = RealColumns(mask.sum(dim=1), planes.shape[-1])
        try:
            features = _last(self.layers(planes))
        finally:
            self._real = None
        return features, real.mask(features)

    def train(self, mode: bool = True) -> Backbone:
        """Frozen layers stay as they are, BatchNorm's statistics included."""
        super().train(mode)
        if self.frozen:
            self.layers.eval()
        return self

    def num_rows(self, num_bands: int) -> int:
        """Height of the feature map for planes with `num_bands` rows."""
        return self._probe(num_bands, 256).shape[2]

    def min_columns(self) -> int:
        """The fewest input columns that still give one step."""
        for num_columns in range(1, 256):
            try:
                if self._probe(256, num_columns).shape[3] > 0:
                    return num_columns
            except RuntimeError:  # a kernel larger than the plane
                continue
        raise ConfigError("this backbone needs more than 256 columns; cut it at a smaller stride")

    def _probe(self, num_rows: int, num_columns: int) -> Tensor:
        """The feature map of an empty plane, with no trace left in BatchNorm's statistics."""
        was_training = self.layers.training
        with torch.no_grad():
            features = _last(self.layers.eval()(torch.zeros(1, self.num_planes, num_rows, num_columns)))
        self.layers.train(was_training)
        return features

    def _after_layer(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Forward hook: follow lengths and geometry through a layer, and blank its padding."""
        if not (isinstance(output, Tensor) and output.dim() == 4 and inputs and inputs[0].dim() == 4):
            return None
        if self._geometry:
            self._follow(layer, str(inputs[0].shape[-1]), str(output.shape[-1]))
        return output if self._real is None else self._real.after(layer, inputs[0], output)

    def _follow(self, layer: nn.Module, size_in: str, size_out: str) -> None:
        if size_in in self._geometry and size_out not in self._geometry:
            jump, offset = self._geometry[size_in]
            kernel, stride, padding, dilation = window_of(layer)
            self._geometry[size_out] = jump * stride, offset + (dilation * (kernel - 1) / 2 - padding) * jump


def build_backbone(
    name: str,
    *,
    weights: str = "none",
    max_stride: int = 8,
    max_time_stride: int | None = None,
    freeze: bool = False,
    kind: type[Backbone] | None = None,
) -> Backbone:
    """A backbone by name, e.g. "torchvision:mobilenet_v2" or "timm:resnet18".

    Args:
        weights: "imagenet" (downloaded by torchvision or timm), "none", or the path of a .safetensors file with the
            library's own parameter names.
        max_stride: cut after the last layer (torchvision) or stage (timm) whose total stride does not exceed this.
        max_time_stride: let layers that would stride further along the last axis stride along the other one alone, so
            that a spectrogram goes deep into the network and keeps short steps in time. None: stride alike.
        freeze: keep the weights as they are.
        kind: the class that holds the layers; `Backbone` when None.

    Raises:
        ConfigError: unknown name, no layer within the stride, or ImageNet weights that cannot be downloaded.
        CheckpointError: a weight file that is missing or does not fit.
    """
    library, _, model_name = name.partition(":")
    if library not in BUILDERS or not model_name:
        raise ConfigError(f"backbone {name!r}: write torchvision:NAME or timm:NAME, e.g. torchvision:mobilenet_v2")
    layers = BUILDERS[library](model_name, weights, max_stride)
    if max_time_stride is not None:
        hold_time_stride(layers, max_time_stride)
    return (kind or Backbone)(layers, freeze=freeze)


def hold_time_stride(layers: nn.Module, max_time_stride: int) -> None:
    """Change strides of convolutions and poolings in place so that the last axis shrinks no further; weights still fit.

    Raises:
        ConfigError: the network shrinks its planes by other means.
    """
    size = 256

    def adjust(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        stride = layer.stride
        rows, columns = stride if isinstance(stride, tuple) else (stride, stride)
        reached = 2 ** round(math.log2(size / inputs[0].shape[-1]))
        if columns > 1 and reached * columns > max_time_stride:
            layer.stride = (rows, 1)
            if layer.kernel_size == stride:  # a pooling of cells side by side: no overlap along time either
                layer.kernel_size = (rows, 1)

    striding = [m for m in layers.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    hooks = [layer.register_forward_pre_hook(adjust) for layer in striding]
    was_training = layers.training
    try:
        with torch.no_grad():
            features = _last(layers.eval()(torch.zeros(1, 3, size, size)))
    except RuntimeError as error:
        raise ConfigError(f"this backbone cannot keep its stride in time at {max_time_stride}: {error}") from error
    finally:
        layers.train(was_training)
        for hook in hooks:
            hook.remove()
    if 2 ** round(math.log2(size / features.shape[-1])) > max_time_stride:
        raise ConfigError(f"this backbone cannot keep its stride in time at {max_time_stride}; take another")


def build_image_model(name: str, *, weights: str = "none", needs_classifier: bool = True) -> nn.Module:
    """A whole network of torchvision by its name there, e.g. "alexnet", with its classifier.

    Args:
        weights: as for `build_backbone`; a file may be of a network with other classes, whose last layer is then not
            taken over.
        needs_classifier: False where the layers behind the convolutions are not used, so that a file may lack them.

    Raises:
        ConfigError: unknown name, or ImageNet weights that cannot be downloaded.
        CheckpointError: a weight file that is missing or does not fit.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ConfigError(f"torchvision has no image model {name!r}; see torchvision.models.list_models()")
    model = models.get_model(name, weights=None)
    if weights == "imagenet":
        enum = models.get_model_weights(name)
        model.load_state_dict(_download(lambda: enum.DEFAULT.get_state_dict(progress=True, weights_only=True), name))
    elif weights != "none":
        linear = [f"{layer_name}." for layer_name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        _load_weights(model, Path(weights), optional=tuple(linear[-1:]) if needs_classifier else CLASSIFIERS)
    return model


def _torchvision_layers(name: str, weights: str, max_stride: int) -> nn.Module:
    model = build_image_model(name, weights=weights, needs_classifier=False)
    stages: Any = model.features if hasattr(model, "features") else _named_until_pool(model)
    return nn.Sequential(*_within_stride(stages, max_stride, name))


def _named_until_pool(model: nn.Module) -> Iterable[nn.Module]:
    """The convolutional children of a network such as ResNet, in order, up to its global pooling."""
    for child in model.children():
        if isinstance(child, nn.AdaptiveAvgPool2d | nn.Linear):
            return
        yield child


def _within_stride(stages: Iterable[nn.Module], max_stride: int, name: str) -> list[nn.Module]:
    kept: list[nn.Module] = []
    image, size = torch.zeros(1, 3, 256, 256), 256
    with torch.no_grad():
        for stage in stages:
            was_training = stage.training
            image = stage.eval()(image)
            stage.train(was_training)
            # Strides are powers of two; without padding the map is a little smaller than size / stride.
            if 2 ** round(math.log2(size / image.shape[-1])) > max_stride:
                break
            kept.append(stage)
    if not kept:
        raise ConfigError(f"backbone {name!r}: even its first layer strides more than max_stride={max_stride}")
    return kept


def _timm_layers(name: str, weights: str, max_stride: int) -> nn.Module:
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:6]}*")[:5]
        raise ConfigError(f"timm has no model {name!r}; near ones: {', '.join(near) or 'none'}")
    probe: Any = timm.create_model(name, pretrained=False, features_only=True)
    fitting = [i for i, reduction in enumerate(probe.feature_info.reduction()) if reduction <= max_stride]
    if not fitting:
        raise ConfigError(f"backbone {name!r}: even its first stage strides more than max_stride={max_stride}")
    index = probe.feature_info.out_indices[fitting[-1]]

    def create(**pretrained: Any) -> nn.Module:
        return timm.create_model(name, features_only=True, out_indices=(index,), **pretrained)

    if weights == "none":
        return create(pretrained=False)
    if weights == "imagenet":
        return _download(lambda: create(pretrained=True), name)
    _require_file(Path(weights))
    try:
        return create(pretrained=True, pretrained_cfg_overlay={"file": weights})
    except (RuntimeError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"{weights}: does not fit timm's {name}: {str(error)[:300]}") from error


BUILDERS: dict[str, Callable[[str, str, int], nn.Module]] = {
    "torchvision": _torchvision_layers,
    "timm": _timm_layers,
}


def _download(fetch: Callable[[], Any], name: str) -> Any:
    try:
        return fetch()
    except Exception as error:  # URLError, HfHubHTTPError, timeouts: each library has its own
        raise ConfigError(
            f"ImageNet weights of {name} could not be downloaded ({type(error).__name__}); give the path of a "
            ".safetensors file instead (weights=PATH), or train without them (weights=none)"
        ) from error


def _load_weights(model: nn.Module, path: Path, *, optional: tuple[str, ...]) -> None:
    """Load a model's state from safetensors, where all but what begins with one of `optional` must be in it and fit."""
    _require_file(path)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from error
    wanted = model.state_dict()
    needed = [k for k in wanted if not k.startswith(optional) and not k.endswith("num_batches_tracked")]
    lacking = [k for k in needed if k not in state]
    misshapen = [k for k in needed if k in state and state[k].shape != wanted[k].shape]
    if lacking or misshapen:
        fault = f"{len(lacking)} missing, {len(misshapen)} of another shape, e.g. {(lacking + misshapen)[0]!r}"
        raise CheckpointError(f"{path}: does not hold the weights of this backbone ({fault})")
    fitting = {k: v.float() if v.is_floating_point() else v for k, v in state.items() if k in wanted}
    model.load_state_dict({k: v for k, v in fitting.items() if v.shape == wanted[k].shape}, strict=False)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"no weight file {path}; weights must be imagenet, none, or the path of a .safetensors file"
        )
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: only .safetensors is read, because pickled weights can run code")


def _last(features: Tensor | list[Tensor]) -> Tensor:
    return features if isinstance(features, Tensor) else features[-1]
