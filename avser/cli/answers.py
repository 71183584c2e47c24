"""`avser predict` and `roi`: what a trained model says about clips, and which moments carried it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from avser.cli.arguments import Run
from avser.cli.printing import LOG, warn
from avser.errors import ConfigError


def predict(
    run: Run,
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="media files, and folders of them")],
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON a recording")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="one line of CSV for every face in every window")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for results; what is done there is not done again")
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export", help="into --out: csv, json, textgrid (Praat), eaf (ELAN), vtt (subtitles), mp4; repeat"
        ),
    ] = None,
    video: Annotated[
        Path | None, typer.Option("--video", help="an .mp4 of one recording with the answer drawn in")
    ] = None,
    window: Annotated[
        float | None, typer.Option("--window", help="seconds; longer recordings are cut into windows  [default: 4.0]")
    ] = None,
    hop: Annotated[float | None, typer.Option("--hop", help="seconds from window to window  [default: 2.0]")] = None,
    salience: Annotated[str, typer.Option("--salience", help="how to ask for the moments, as in `avser roi`")] = "auto",
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="torch, or onnx for RUN/model.onnx; an .onnx file needs no word")
    ] = None,
) -> None:
    """Tell the emotion of recordings of any length along time, of every face, and which moments carried it.

    A recording longer than the training clips may be (data.max_duration_s) is cut into windows that overlap.
    """
    from avser.cli.printing import print_table
    from avser.deployment.runtime import open_model
    from avser.recordings.exports import to_csv, to_json
    from avser.recordings.files import Wanted, answer_files
    from avser.recordings.progress import shown_progress
    from avser.recordings.table import answer_table

    if as_json and as_csv:
        raise ConfigError("--json and --csv both write to stdout; take one, and the other with --export and --out")
    wanted = Wanted(out, export or [], video, window, hop, salience)
    model, shown, failed, num_again = open_model(run, runtime), list[Any](), list[str](), 0
    with shown_progress() as begin:
        for answered in answer_files(model, clips, wanted, begin=begin):
            num_again += answered.again
            recording = answered.recording
            if recording is None:
                failed.append(answered.reason)
                LOG.print(f"failed: {answered.reason}", markup=False)
                continue
            for warning in recording.warnings:
                LOG.print(f"{answered.path}: {warning}", markup=False)
            if as_csv:
                typer.echo(to_csv(recording, header=not shown), nl=False)
            elif as_json:
                typer.echo(to_json(recording), nl=False)
            shown.append(recording if not (as_csv or as_json) else None)
    if shown and not (as_csv or as_json):
        print_table(answer_table(shown))
    if num_again:
        LOG.print(f"{num_again} answered earlier, read from {out}")
    if failed:
        LOG.print(f"{len(failed)} of {len(failed) + len(shown)} recordings failed")
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
