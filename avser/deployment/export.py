"""Writes a trained model as one ONNX file: waveform and face crops in, emotion and the moments that carried it out."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avser.config import Config
from avser.deployment.graph import Graph, flatten, input_names, probe_batch, tensors_of
from avser.deployment.limits import find_obstacle
from avser.deployment.operators import translations
from avser.deployment.parity import MAX_DIFFERENCE, measure_parity
from avser.deployment.quantize import Loss, measure_loss, quantize_graph
from avser.deployment.runtime import FORMAT, ONNX_FILE, describe_file, file_digest, import_export, load_onnx
from avser.errors import AvserError, ConfigError
from avser.training.checkpoint import MODEL_FILE, load_trained, versions

OPSET = 20  # the first with everything that the front end needs
SHORTEST_S = 0.3  # shorter voices are followed by silence that is not real
INPUT_AXES = {
    **dict.fromkeys(("waveform", "waveform_mask"), "samples"),
    **dict.fromkeys(("frames", "frame_times", "frame_mask", "landmarks", "blendshapes"), "frames"),
    **dict.fromkeys(("face_features", "feature_times", "feature_mask"), "rows"),
}
EXAMPLE_S = (2.03, 1.31)  # lengths of the clips that the graph is traced with: no round numbers, and none alike


@dataclass
class Exported:
    """What `export_onnx` wrote.

    Attributes:
        path: of the file.
        num_bytes: its size.
        max_difference: between the graph and PyTorch, before weights were made integers; see `measure_parity`.
        loss: what 8-bit weights cost; None where they were not asked for, or nothing was there to measure it on.
    """

    path: Path
    num_bytes: int
    max_difference: float
    loss: Loss | None = None

    def describe(self) -> str:
        """What to tell the person."""
        told = (
            f"{self.path}: {self.num_bytes / 1e6:.1f} MB; PyTorch and graph differ by at most {self.max_difference:.1g}"
        )
        return told if self.loss is None else f"{told}; {self.loss.describe()}"


def export_onnx(
    run: str | Path,
    path: str | Path | None = None,
    *,
    int8: bool = False,
    warn: Callable[[str], None] = lambda sentence: None,
) -> Exported:
    """Write the model of a run as one ONNX file that `load_onnx` reads without the run.

    The answers of the graph are compared with PyTorch's before anything is left on disk.

    Args:
        path: by default model.onnx in the folder of the run, which `avser predict RUN --runtime onnx` takes.
        int8: make its weights 8-bit integers, and measure on the run's validation clips what that costs.
        warn: told where that cannot be measured.

    Raises:
        CheckpointError: not a finished run.
        ConfigError: the model cannot be written as one graph for clips of any length, or the extra is missing.
    """
    file = Path(run)
    file = file if file.suffix == ".safetensors" else file / MODEL_FILE
    network, config, emotions = load_trained(file)
    path, loss = Path(path or file.with_name(ONNX_FILE)), None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        write_graph(network, config, emotions, partial, {"source_sha256": file_digest(file)})
        plain = load_onnx(partial).network
        difference = measure_parity(network, plain, config)
        if not difference <= MAX_DIFFERENCE:
            raise ConfigError(
                f"{config.model.system}: the graph answers otherwise than PyTorch (by {difference:.2g}, allowed is "
                f"{MAX_DIFFERENCE:g}); it was not kept"
            )
        if int8:
            quantize_graph(partial)
            loss = _measured_loss(config, plain, partial, warn)
            stored = json.dumps(asdict(loss)) if loss else "not measured"
            describe_file(partial, {"precision": "int8", "int8_loss": stored})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path, path.stat().st_size, difference, loss)


def _measured_loss(config: Config, plain: nn.Module, small: Path, warn: Callable[[str], None]) -> Loss | None:
    try:
        return measure_loss(config, plain, load_onnx(small).network)
    except AvserError as error:
        warn(f"what 8-bit weights cost was not measured: {error}")
        return None


def write_graph(
    network: nn.Module, config: Config, emotions: Sequence[str], path: Path, notes: dict[str, str] | None = None
) -> None:
    """Trace a network in eval mode for clips of any number and length, and write its graph with its description.

    Raises:
        ConfigError: it cannot be traced so; the message says what stands in the way.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        import_export(library)
    if obstacle := find_obstacle(network):
        raise ConfigError(f"{config.model.system} cannot be exported: {obstacle}")
    inputs = input_names(config)
    example = probe_batch(config, EXAMPLE_S)
    with torch.no_grad():
        outputs = list(flatten(network(example)))
    graph = Graph(network, inputs, outputs, config.media.sample_rate_hz).eval()
    tensors = tuple(x for x in tensors_of(example, inputs).values() if x is not None)
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(graph, tensors, dynamic_shapes=_any_length(len(inputs)), strict=False)
            _check_lengths(program)
            written = torch.onnx.export(
                program,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                custom_translation_table=translations(),
                verbose=False,
            )
    except Exception as error:
        raise ConfigError(f"{config.model.system} cannot be exported: {_first_cause(error)}") from error
    assert written is not None
    model = written.model_proto
    _clear(model)
    _name_axes(model.graph)
    _describe(model, config, emotions, network, notes or {})
    path.write_bytes(model.SerializeToString())


def _first_cause(error: BaseException) -> str:
    """What went wrong at the bottom, in one line; the exporter wraps it in advice to those who write exporters."""
    while error.__cause__ is not None and not isinstance(error, ConfigError):
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _any_length(num_inputs: int) -> tuple[Any, ...]:
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    return ((axes,) * num_inputs,)


def _check_lengths(program: torch.export.ExportedProgram) -> None:
    """
    Raises:
        ConfigError: what was traced holds only up to some length; the exporter would write it for every length.
    """
    limits = [str(span.upper) for span in program.range_constraints.values() if span.upper.is_Integer]
    if limits:
        raise ConfigError(
            f"it computes clips of more than {' or '.join(limits)} clips, samples or frames in another way than "
            "shorter ones, so no one graph holds for both"
        )


def shortest_voice(network: nn.Module, sample_rate_hz: int) -> int:
    """Samples that a graph needs: what PyTorch adds to a clip shorter than a layer's reach, it cannot add itself."""
    branches: list[Any] = [part for part in network.modules() if hasattr(part, "min_frames")]
    reaches_s = [branch.min_frames * branch.spectrogram.hop_s for branch in branches]
    return math.ceil(max([SHORTEST_S, *reaches_s]) * sample_rate_hz)


def _describe(model: Any, config: Config, emotions: Sequence[str], network: nn.Module, notes: dict[str, str]) -> None:
    """Everything that `load_onnx` needs to know."""
    description = {
        "format": FORMAT,
        "config": json.dumps(asdict(config)),
        "emotions": json.dumps(list(emotions)),
        "versions": json.dumps(versions()),
        "min_samples": str(shortest_voice(network, config.media.sample_rate_hz)),
        "precision": "float32",
        **notes,
    }
    import_export("onnx").helper.set_model_props(model, description)


def _clear(model: Any) -> None:
    """Take out what the exporter notes for itself: files and lines of this machine, and shapes that it has outdated."""
    del model.graph.value_info[:]
    for part in (model.graph, *model.functions):
        del part.metadata_props[:]
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""


def _name_axes(graph: Any) -> None:
    """Name the axes of any length after what they count, in place of the formulas of the tracing."""
    for value in graph.input:
        shape = value.type.tensor_type.shape.dim
        shape[0].dim_param, shape[1].dim_param = "clips", INPUT_AXES[value.name]
    for value in graph.output:
        owner, _, name = value.name.rpartition(".")
        shape = value.type.tensor_type.shape.dim
        shape[0].dim_param = "clips"
        if owner and name != "logits":
            shape[2 if name == "map" else 1].dim_param = f"{owner}_steps"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on itself, which nobody who has a trained run can act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
