"""`avser export`: a trained model as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avser.cli.arguments import Run
from avser.cli.printing import warn
from avser.errors import ConfigError


def export(
    run: Run,
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT.onnx]", help="the file to write  [default: RUN/model.onnx]")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="as ONNX, the one format there is")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="weights of 8 bits; what that costs is measured on the validation clips")
    ] = False,
) -> None:
    """Write a model as one ONNX file: waveform and face crops in, emotion and the moments that carried it out.

    The file is checked against PyTorch before it is kept. `avser predict OUT.onnx CLIP...` needs nothing else;
    `avser predict RUN CLIP... --runtime onnx` takes RUN/model.onnx.
    """
    from avser.deployment.export import export_onnx

    if not onnx:
        raise ConfigError(f"name the format to export to: avser export {run} --onnx")
    typer.echo(export_onnx(run, out, int8=int8, warn=warn).describe())
