"""Answers windows that overlap at less cost: each face crop is encoded once, and norms melt into convolutions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avser.inference import TrainedModel, predict_clips
from avser.models.backbones import Backbone
from avser.models.video import VideoBranch
from avser.roi.salience.sources import AUTO
from avser.structures import VIDEO, Clip, Prediction

Crop = tuple[int, float]  # number of the face, seconds of the recording
AT_ONCE = 16  # crops in the CNN: their feature maps stay near the processor, and take little memory
KEPT_FRAMES = 4096  # encodings that are remembered: several faces through several windows, a kilobyte each


class WindowAnswers:
    """`predict_clips` for windows of one recording, with the same answers up to rounding (1e-5, measured).

    A face crop lies in several windows, and what the reference model's CNN makes of it is the same in each: it is kept.
    Other ways to ask for salience change the crops themselves; they, and other systems, are asked as they are.

    Args:
        salience: a key of `avser.roi.salience.sources.SOURCES`.
    """

    def __init__(self, model: TrainedModel, salience: str = AUTO) -> None:
        self._model, self._salience = model, salience
        self._encodings: OrderedDict[Crop, Tensor] = OrderedDict()
        self._keys: list[Crop] = []
        branches = getattr(model.network, "branches", {}).items()
        branch = dict(branches).get(VIDEO)
        if salience != AUTO or type(branch) is not VideoBranch or branch.training:
            return
        self._branch, self._layers = branch, _melted(branch.backbone)
        quick = copy(branch)  # parts are shared: nothing is done to the model itself, which others may be asking
        quick.encode_frames = self._remember  # type: ignore[method-assign]
        network = _with_part(model.network, "branches", _with_part(model.network.branches, VIDEO, quick))
        self._model = replace(model, network=network)

    def ask(self, clips: Sequence[Clip], places: Sequence[tuple[int, float]]) -> list[Prediction]:
        """The answers for some windows.

        Args:
            places: of each clip the number of its face, and when its window starts in the recording.
        """
        self._keys = [
            (number, round(float(time_s), 4))
            for clip, (number, start_s) in zip(clips, places, strict=True)
            if clip.face is not None
            for time_s in clip.face.times[clip.face.found] + start_s
        ]
        return predict_clips(self._model, clips, salience=self._salience)

    def _encode(self, frames: Tensor) -> Tensor:
        """As `VideoBranch.encode_frames`."""
        images = (frames.float() / 255 - self._branch.mean) / self._branch.std
        features = self._layers(images.contiguous(memory_format=torch.channels_last))
        features = features[-1] if isinstance(features, list) else features
        return self._branch.project(self._branch.pool(features).flatten(1))

    def _remember(self, frames: Tensor) -> Tensor:
        """(M, 3, H, W) -> (M, D); the M frames are those that `ask` has listed."""
        if len(self._keys) != len(frames):
            return self._encode(frames)
        new = {key: i for i, key in enumerate(self._keys) if key not in self._encodings}  # each once
        if new:
            fresh = frames[torch.tensor(list(new.values()), device=frames.device)]
            encoded = torch.cat([self._encode(part) for part in fresh.split(AT_ONCE)])
            self._encodings.update(zip(new, encoded, strict=True))
        found = torch.stack([self._encodings[key] for key in self._keys])
        while len(self._encodings) > KEPT_FRAMES:
            self._encodings.popitem(last=False)
        return found


def _with_part(module: Any, name: str, part: nn.Module) -> Any:
    """The same module with another part; all others are shared."""
    other = copy(module)
    other._modules = {**module._modules, name: part}
    return other


def _melted(backbone: Backbone) -> nn.Module:
    """The layers with batch norms melted into the convolutions before them: in eval mode both are linear."""
    layers = deepcopy(backbone.layers, {id(backbone): backbone})  # hooks of the layers lead to it; it is not copied
    for module in layers.modules():
        module._forward_hooks.clear()  # they blank padding, and crops have none
    for parent in [m for m in layers.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(parent) - 1):
            one, other = parent[i], parent[i + 1]
            if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                parent[i], parent[i + 1] = fuse_conv_bn_eval(one, other), nn.Identity()
    return layers
