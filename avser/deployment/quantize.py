"""Makes the weights of an exported graph 8-bit integers, and measures what that costs on clips that chose nothing."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from avser.config import Config
from avser.deployment.runtime import import_export
from avser.errors import AvserError
from avser.evaluation.metrics import unweighted_average_recall
from avser.training.run_data import load_data

CONVOLUTIONS, PRODUCTS = ("Conv",), ("MatMul", "Gemm", "LSTM")


@dataclass(frozen=True)
class Loss:
    """What 8-bit weights cost on the validation clips of a run.

    Attributes:
        num_clips: that were answered by both.
        uar_before, uar_after: in percent.
        agreement: share of the clips, in percent, for which both name the same emotion.
    """

    num_clips: int
    uar_before: float
    uar_after: float
    agreement: float

    def describe(self) -> str:
        return (
            f"8-bit weights: UAR {self.uar_before:.1f} -> {self.uar_after:.1f} % on {self.num_clips} validation clips, "
            f"the same emotion in {self.agreement:.1f} %"
        )


def quantize_graph(path: Path, *, kinds: Sequence[str] = (*CONVOLUTIONS, *PRODUCTS)) -> None:
    """Replace the file by one whose weights are 8-bit integers; activations are quantised as they come.

    The front end stays as it is: its filters are no weights, and what it takes the logarithm of spans ten orders.

    Args:
        kinds: of ONNX operators whose weights are replaced.
    """
    quantization = import_export("onnxruntime.quantization")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preparation that shapes of any length do not survive
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            small = Path(scratch) / path.name
            quantization.quantize_dynamic(
                path,
                small,
                op_types_to_quantize=list(kinds),
                weight_type=quantization.QuantType.QUInt8,
                extra_options={"DefaultTensorType": 1},
            )
            small.replace(path)
    finally:
        logger.setLevel(level)


def measure_loss(config: Config, before: nn.Module, after: nn.Module) -> Loss:
    """Both networks over the validation clips of a run, from its cache.

    Raises:
        AvserError: the manifest or the cache is not there, or there are no validation clips.
    """
    from accelerate import Accelerator

    from avser.training.loop import evaluate

    data = load_data(config)
    clips = [clip for clip, label in enumerate(data.labels("val")) if label >= 0]
    if not clips:
        raise AvserError("the split of this run has no validation clips")
    answers: list[Any] = []
    for network in (before, after):
        batches = data.batches("val", config.training, clips=clips)
        answers.append(evaluate(network, batches, Accelerator(cpu=True)))
    labels = answers[0].labels
    first, second = (found.answers for found in answers)
    return Loss(
        num_clips=len(clips),
        uar_before=100 * unweighted_average_recall(labels, first),
        uar_after=100 * unweighted_average_recall(labels, second),
        agreement=100 * float(np.mean(first == second)),
    )
