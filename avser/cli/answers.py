"""`avser predict` and `roi`: what a trained model says about clips, and which moments carried it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from avser.cli.arguments import Run
from avser.cli.printing import LOG, warn
from avser.errors import AvserError

if TYPE_CHECKING:
    from avser.structures import Prediction


def predict(
    run: Run,
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP", help="media files")],
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON a clip")] = False,
) -> None:
    """Tell the emotion of media files, and which moments carried it."""
    from avser.inference import load_model
    from avser.inference import predict as predict_clip

    model, failed = load_model(run), 0
    for clip in clips:
        try:
            prediction = predict_clip(model, clip)
        except AvserError as error:
            LOG.print(f"failed: {error}", markup=False)
            failed += 1
            continue
        typer.echo(json.dumps(_prediction_dict(prediction)) if as_json else _prediction_line(prediction))
        for warning in prediction.warnings:
            LOG.print(f"{clip}: {warning}", markup=False)
    if failed:
        LOG.print(f"{failed} of {len(clips)} clips failed")
        raise typer.Exit(1)


def roi(
    run: Run,
    clip: Annotated[Path | None, typer.Argument(metavar="CLIP", help="a media file; else the test split")] = None,
    out: Annotated[Path, typer.Option("--out", help="folder for tables, figures and report.html")] = Path("roi"),
    salience: Annotated[
        str, typer.Option("--salience", help="how to ask for the moments: attention, att_value, occlusion, rise, ...")
    ] = "auto",
    curves: Annotated[
        Literal["separate", "fused"],
        typer.Option(help="from models that only hear or only see, where RUN has them; or from the one that does both"),
    ] = "separate",
    export: Annotated[
        list[str] | None, typer.Option("--export", help="csv, json, textgrid (Praat), eaf (ELAN); repeat")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", help="how many of the test split are shown one by one")] = 6,
    tested: Annotated[
        int, typer.Option("--tested", help="clips on which the salience is held against its controls; 0: none")
    ] = 16,
) -> None:
    """Find and report the moments that matter, in voice and face.

    RUN is a run, or the folder of an `avser ablate`: curves then come from models that only hear or only see, unless
    --curves fused asks for those of the model of both, whose agreement is no evidence that voice and face agree.
    """
    from avser.experiments.regions.report import report_clip, report_split

    options: dict[str, Any] = {"salience": salience, "curves": curves, "formats": export or [], "warn": warn}
    if clip is None:
        report = report_split(run, out, num_clips=clips, num_tested=tested, **options)
    else:
        report = report_clip(run, clip, out, **options)
    typer.echo(f"report: {report}")


def _prediction_line(prediction: Prediction) -> str:
    share = prediction.probabilities[prediction.emotion]
    regions = "  ".join(
        f"{'voice' if modality == 'audio' else 'face'} " + ", ".join(f"{r.start_s:.2f}-{r.end_s:.2f} s" for r in found)
        for modality, found in prediction.regions.items()
        if found
    )
    return f"{prediction.clip_id}\t{prediction.emotion}\t{100 * share:.0f} %\t{regions or 'no moment stands out'}"


def _prediction_dict(prediction: Prediction) -> dict[str, Any]:
    return {
        "clip": prediction.clip_id,
        "emotion": prediction.emotion,
        "probabilities": {k: round(v, 5) for k, v in prediction.probabilities.items()},
        "regions": {
            m: [{"start_s": round(r.start_s, 3), "end_s": round(r.end_s, 3), "mass": round(r.mass, 4)} for r in found]
            for m, found in prediction.regions.items()
        },
        "salience": {
            m: {"times": curve.times.round(4).tolist(), "values": curve.values.round(6).tolist()}
            for m, curve in prediction.salience.items()
        },
        "warnings": prediction.warnings,
    }
