"""Asks an exported graph through onnxruntime, in the place of the network that it was made of."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avser.config import config_from_dict
from avser.deployment.graph import (
    ATTENDED,
    INPUTS,
    MASKS,
    NUM_BLENDSHAPES,
    NUM_LANDMARKS,
    VERDICT,
    input_names,
    num_face_features,
    tensors_of,
    unflatten,
)
from avser.errors import AvserError, CheckpointError, ConfigError
from avser.inference import TrainedModel, load_model
from avser.structures import AUDIO, Batch, Output
from avser.training.checkpoint import MODEL_FILE

FORMAT = "avser-onnx-1"
ONNX_FILE = "model.onnx"
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "pkg.onnxscript.torch_lib", "pkg.onnxscript.torch_lib.common"}
MAX_BYTES = 2**31 - 1  # of a protobuf message


class OnnxNetwork(nn.Module):
    """A graph with the one forward of all models, `network(batch: Batch) -> Output`, on the CPU.

    A modality that the whole batch lacks is given to the graph as one that each clip lacks, and is absent from the
    output, as it would be from PyTorch's. `Attended.sequence` and `pooled` have width 0: a graph does not give them.

    Args:
        session: an onnxruntime.InferenceSession.
        modalities: of the model.
        shapes: input -> what follows batch and time.
        shortest: samples below which a voice is followed by silence that is not real.
    """

    def __init__(
        self, session: Any, modalities: Sequence[str], shapes: dict[str, tuple[int, ...]], shortest: int
    ) -> None:
        super().__init__()
        self.session = session
        self.modalities, self.shapes, self.shortest = tuple(modalities), shapes, shortest
        self.inputs = [entry.name for entry in session.get_inputs()]
        self.outputs = [entry.name for entry in session.get_outputs()]

    def forward(self, batch: Batch) -> Output:
        """
        Raises:
            ValueError: the batch has none of the model's modalities.
            AvserError: onnxruntime failed, e.g. because the batch does not fit into memory.
        """
        given = tensors_of(batch, self.inputs)
        present = [m for m in self.modalities if any(given[name] is not None for name in self._masks(m))]
        if not present:
            raise ValueError(f"this model needs {' or '.join(self.modalities)}; the batch has neither")
        size = next(len(x) for x in given.values() if x is not None)
        feeds = {name: self._feed(name, x, size) for name, x in given.items()}
        try:
            values = self.session.run(None, feeds)
        except Exception as error:  # onnxruntime has a class for each status, none of them public
            raise AvserError(f"onnxruntime could not answer: {str(error)[:300]}; try fewer or shorter clips") from error
        found = {name: torch.from_numpy(value) for name, value in zip(self.outputs, values, strict=True)}
        voice = given.get("waveform")
        if voice is not None and voice.shape[1] < self.shortest:
            found = _cut_silence(found)
        return unflatten(found, present)

    def _masks(self, modality: str) -> list[str]:
        voice = INPUTS[AUDIO]
        return [name for name in self.inputs if name in MASKS and (name in voice) == (modality == AUDIO)]

    def _feed(self, name: str, x: Tensor | None, size: int) -> np.ndarray:
        """One input as an array; nothing real where the batch lacks it, and silence after a voice that is too short."""
        shortest = self.shortest if name in INPUTS[AUDIO] else 1
        if x is None:
            return np.zeros((size, shortest, *self.shapes[name]), dtype=_dtype(name))
        array = x.detach().cpu().numpy()
        if (lacking := shortest - array.shape[1]) > 0:
            array = np.pad(array, [(0, 0), (0, lacking), *[(0, 0)] * (array.ndim - 2)])
        return np.ascontiguousarray(array, dtype=_dtype(name))


def open_model(run: str | Path, runtime: str | None = None) -> TrainedModel:
    """The model of a run, or of an exported graph.

    Args:
        run: folder of a run, or an .onnx file.
        runtime: "torch"; "onnx" takes the graph at RUN/model.onnx; None: by what `run` is.

    Raises:
        CheckpointError: neither of the two, or the graph was made of other weights than those of the run.
        ConfigError: an unknown runtime, or an .onnx file for PyTorch.
    """
    path = Path(run)
    if runtime not in (None, "torch", "onnx"):
        raise ConfigError(f"runtime {runtime!r}: take torch or onnx")
    if path.suffix == ".onnx":
        if runtime == "torch":
            raise ConfigError(f"{path}: PyTorch cannot run a graph; give the folder of the run, or --runtime onnx")
        return load_onnx(path)
    if runtime != "onnx":
        return load_model(run)
    graph, weights = path / ONNX_FILE, path / MODEL_FILE
    if not graph.is_file():
        raise CheckpointError(f"{path}: has no graph; `avser export {path} --onnx` writes it")
    model = load_onnx(graph)
    if weights.is_file() and read_graph(graph)[1].get("source_sha256") != file_digest(weights):
        raise CheckpointError(f"{graph}: was made of other weights than {weights}; export it again")
    return model


def load_onnx(path: str | Path) -> TrainedModel:
    """The model of an exported graph, as `avser.inference.load_model` gives that of a run; it needs no other file.

    Raises:
        CheckpointError: missing, damaged, not written by avser, or a graph that reaches for other files.
        ConfigError: onnx or onnxruntime is not installed.
    """
    path = Path(path)
    content, description = read_graph(path)
    try:
        config = config_from_dict(json.loads(description["config"]))
        emotions = [str(emotion) for emotion in json.loads(description["emotions"])]
        shortest = int(description["min_samples"])
        if not 1 <= shortest <= config.media.sample_rate_hz or len(emotions) < 2:
            raise ValueError(f"min_samples={shortest}, emotions={emotions}")
    except (KeyError, ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: its description does not fit this version of avser: {error}") from error
    session = open_session(content, path)
    modalities = tuple(config.model.modalities)
    _check_signature(session, path, input_names(config), modalities)
    network = OnnxNetwork(session, modalities, _shapes(config), shortest)
    return TrainedModel(network.eval(), config, emotions, path, torch.device("cpu"))


def read_graph(path: Path) -> tuple[bytes, dict[str, str]]:
    """Content and description of a graph that avser wrote.

    The file is not trusted: only operators of the standard and of onnxruntime, and no tensor that lies in another file.

    Raises:
        CheckpointError: it is not such a file.
    """
    onnx = import_export("onnx")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; `avser export RUN --onnx {path}` writes one")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path}: larger than the 2 GiB that an ONNX file of one piece can have")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own classes, which depend on its implementation
        raise CheckpointError(f"{path}: not readable as ONNX ({str(error)[:200]})") from error
    description = {entry.key: entry.value for entry in model.metadata_props}
    if description.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a graph written by avser (format {description.get('format')!r}, expected {FORMAT!r}); "
            "`avser export` writes one"
        )
    if unknown := sorted({entry.domain for entry in model.opset_import} - DOMAINS):
        raise CheckpointError(f"{path}: needs operators of {', '.join(unknown)}, which avser never writes")
    if any(tensor.data_location or tensor.external_data for tensor in _tensors(model)):
        raise CheckpointError(f"{path}: keeps weights in other files; avser writes and reads graphs of one piece")
    return content, description


def describe_file(path: Path, changes: Mapping[str, str]) -> None:
    """Change entries of a graph's description."""
    onnx = import_export("onnx")
    model = onnx.load_model(path, load_external_data=False)
    description = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**description, **changes})
    path.write_bytes(model.SerializeToString())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, by which a graph knows the weights that it was made of."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_session(content: bytes, path: Path) -> Any:
    """An onnxruntime session on the CPU with as many threads as PyTorch has.

    Raises:
        CheckpointError: onnxruntime refuses the graph.
    """
    onnxruntime = import_export("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; the rest are remarks on shapes that it inferred
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each status, none of them public
        raise CheckpointError(f"{path}: onnxruntime refuses it: {str(error)[:300]}") from error


def import_export(name: str) -> Any:
    """A library of the extra `export`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"ONNX needs {name} ({error}); pip install 'avser[export]'") from error


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a protobuf message: initializers, attributes, those of inner graphs."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if hasattr(value, "__len__") else [value]:
            if field.message_type.full_name == "onnx.TensorProto":
                yield inner
            else:
                yield from _tensors(inner)


def _check_signature(session: Any, path: Path, inputs: Sequence[str], modalities: Sequence[str]) -> None:
    got = [entry.name for entry in session.get_inputs()]
    given = {entry.name for entry in session.get_outputs()}
    needed = {*VERDICT, *(f"{m}.{name}" for m in modalities for name in ("weights", "times", "mask", "logits"))}
    known = {*VERDICT, *(f"{m}.{name}" for m in modalities for name in ATTENDED)}
    if got != list(inputs) or not needed <= given <= known:
        raise CheckpointError(
            f"{path}: takes in {', '.join(got)} and gives {', '.join(sorted(given))}, which is not what its "
            f"configuration says ({', '.join(inputs)})"
        )


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """What follows batch and time in each input."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys((name for names in INPUTS.values() for name in names), ())
    return shapes | {
        "frames": (3, config.media.crop_px, config.media.crop_px),
        "landmarks": (NUM_LANDMARKS, 2),
        "blendshapes": (NUM_BLENDSHAPES,),
        "face_features": (num_face_features(config),),
    }


def _cut_silence(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs without the voice's last steps that are real in no clip."""
    steps = torch.arange(1, found[f"{AUDIO}.mask"].shape[1] + 1)
    last = int((found[f"{AUDIO}.mask"] * steps).max())
    along = {f"{AUDIO}.{name}": 2 if name == "map" else 1 for name in ATTENDED if name != "logits"}
    return {name: x.narrow(along[name], 0, last) if name in along else x for name, x in found.items()}


def _dtype(name: str) -> type:
    return np.uint8 if name == "frames" else np.bool_ if name in MASKS else np.float32
