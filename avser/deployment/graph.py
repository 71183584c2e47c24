"""A model as a function of plain tensors: what goes into an exported graph, what comes out, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

from avser.config import Config
from avser.data.dataset import parts_of
from avser.errors import ConfigError
from avser.structures import AUDIO, VIDEO, Attended, Batch, Output

# What a graph takes in for each part of a clip that a model reads; the names are those of `Batch`.
INPUTS: dict[str, tuple[str, ...]] = {
    AUDIO: ("waveform", "waveform_mask"),
    VIDEO: ("frames", "frame_times", "frame_mask"),
    "landmarks": ("landmarks", "frame_times", "frame_mask"),
    "blendshapes": ("blendshapes", "frame_times", "frame_mask"),
    "face_features": ("face_features", "feature_times", "feature_mask"),
}
MASKS = ("waveform_mask", "frame_mask", "feature_mask")
# Of each modality, as "audio.weights"; the sequence and its summary stay inside.
ATTENDED = ("weights", "step_logits", "times", "mask", "logits", "class_weights", "map")
VERDICT = ("logits", "probabilities")
NUM_LANDMARKS, NUM_BLENDSHAPES = 478, 52


class ClipBatch(Batch):
    """A batch whose number of clips is not known: it stands for any."""

    def __len__(self) -> int:
        raise ConfigError(
            "the number of clips in a batch decides what it computes, so no one graph holds for any batch"
        )


class Graph(nn.Module):
    """A network whose forward takes and gives tensors alone, in the order of `inputs` and `outputs`.

    Args:
        network: maps a Batch to an Output.
        inputs: names of fields of `Batch`.
        outputs: "logits", "probabilities", and of each modality "audio.weights" and so on.
    """

    def __init__(self, network: nn.Module, inputs: Sequence[str], outputs: Sequence[str], sample_rate_hz: int) -> None:
        super().__init__()
        self.network = network
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.sample_rate_hz = sample_rate_hz

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.inputs, tensors, strict=True))
        output = self.network(ClipBatch([], sample_rate_hz=self.sample_rate_hz, **named))  # type: ignore[arg-type]
        found = flatten(output)
        return tuple(found[name] for name in self.outputs)


def input_names(config: Config) -> list[str]:
    """What the graph of a configuration takes in, in order."""
    return list(dict.fromkeys(name for part in parts_of(config.model) for name in INPUTS[part]))


def flatten(output: Output) -> dict[str, Tensor]:
    """All that a graph gives out, by name; what a model does not say is absent."""
    found = {"logits": output.logits, "probabilities": output.logits.softmax(dim=1)}
    for modality, part in output.attended.items():
        values = {name: getattr(part, name) for name in ATTENDED}
        found |= {f"{modality}.{name}": value for name, value in values.items() if value is not None}
    return found


def unflatten(found: dict[str, Tensor], modalities: Sequence[str]) -> Output:
    """The output that a graph's tensors stand for; sequences and summaries, which it does not give, have width 0."""
    attended = {}
    for modality in modalities:
        values = {name: found.get(f"{modality}.{name}") for name in ATTENDED}
        weights = values["weights"]
        assert weights is not None
        hidden = {"sequence": weights.new_zeros(*weights.shape, 0), "pooled": weights.new_zeros(len(weights), 0)}
        attended[modality] = Attended(**hidden, **values)  # type: ignore[arg-type]
    return Output(found["logits"], attended)


def probe_batch(config: Config, durations_s: Sequence[float], *, seed: int = 0) -> Batch:
    """Clips of noise in every form that a model of this configuration reads, padded to the longest.

    Every third frame but the first two has no face.
    """
    generator = torch.Generator().manual_seed(seed)
    hz, fps, num_clips = config.media.sample_rate_hz, config.media.fps or 25.0, len(durations_s)
    num_samples = torch.tensor([max(1, round(hz * d)) for d in durations_s])
    num_frames = torch.tensor([max(1, round(fps * d)) for d in durations_s])
    samples, steps = torch.arange(int(num_samples.max())), torch.arange(int(num_frames.max()))
    voiced = samples < num_samples[:, None]
    swell = 0.02 + 0.2 * torch.sin(samples / hz * 3).square()
    voice = swell * torch.randn(num_clips, len(samples), generator=generator)
    seen = (steps < num_frames[:, None]) & ((steps % 3 != 2) | (steps < 2))
    shape, side = (num_clips, len(steps)), config.media.crop_px
    frames = torch.randint(0, 256, (*shape, 3, side, side), generator=generator, dtype=torch.uint8)
    values = {
        "waveform": voice * voiced,
        "waveform_mask": voiced,
        "frames": frames * seen[:, :, None, None, None],
        "landmarks": 100 + 20 * torch.randn(*shape, NUM_LANDMARKS, 2, generator=generator),
        "blendshapes": torch.rand(*shape, NUM_BLENDSHAPES, generator=generator),
        "face_features": torch.rand(*shape, num_face_features(config), generator=generator),
    }
    for name in ("landmarks", "blendshapes", "face_features"):
        values[name] *= seen.view(*shape, *[1] * (values[name].dim() - 2))
    for name in ("frame", "feature"):
        values |= {f"{name}_times": (steps / fps).expand(shape).contiguous(), f"{name}_mask": seen}
    wanted = {name: values[name] for name in input_names(config)}
    return Batch([f"probe{i}" for i in range(num_clips)], sample_rate_hz=hz, **wanted)


def num_face_features(config: Config) -> int:
    """Columns of the table of face features that a model reads; 35, OpenFace's action units, where it does not say."""
    return config.model.video.num_features or int(config.model.options.get("num_features", 35))


def tensors_of(batch: Batch, names: Sequence[str]) -> dict[str, Tensor | None]:
    """The fields of a batch that a graph takes in, by name."""
    known = {field.name for field in fields(batch)}
    return {name: getattr(batch, name) for name in names if name in known}
