"""`avser export`: a trained model as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avser.cli.arguments import Run
from avser.cli.printing import warn


def export(
    run: Run,
    onnx: Annotated[Path, typer.Option("--onnx", metavar="OUT.onnx", help="the file to write")],
    int8: Annotated[
        bool, typer.Option("--int8", help="weights of 8 bits; what that costs is measured on the validation clips")
    ] = False,
) -> None:
    """Write a model as one ONNX file: waveform and face crops in, emotion and the moments that carried it out.

    The file is checked against PyTorch before it is kept. `avser predict OUT.onnx CLIP...` needs nothing else.
    """
    from avser.deployment.export import export_onnx

    typer.echo(export_onnx(run, onnx, int8=int8, warn=warn).describe())
