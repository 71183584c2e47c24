"""`avser cache`, `train` and `evaluate`: from a manifest to a run with its scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from avser.cli.arguments import Overwrite, Run, Sources
from avser.cli.printing import LOG, print_scores, print_table
from avser.config import load_config


def cache(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="manifest.csv of a corpus")],
    out: Annotated[Path, typer.Option("--out", help="cache folder")],
    sources: Sources = None,
    workers: Annotated[int, typer.Option(help="processes")] = 2,
    backend: Annotated[
        Literal["local", "ray"],
        typer.Option(help="this machine, or the Ray cluster of $RAY_ADDRESS (a local one where that is unset)"),
    ] = "local",
) -> None:
    """Decode voices and faces of a corpus, once. May be stopped at any moment; the next run goes on from there."""
    from avser.data.cache import build_cache
    from avser.data.manifest import read_manifest

    media = load_config(sources or []).media
    report = build_cache(read_manifest(manifest), out, media, workers=workers, backend=backend)
    for warning in report.warnings:
        LOG.print(f"warning: {warning}", markup=False)
    for failure in report.failures:
        LOG.print(f"failed: {failure.clip_id}: {failure.reason}", markup=False)
    typer.echo(
        f"{report.num_cached} of {report.num_clips} clips cached in {out} ({report.num_reused} were there already, "
        f"{len(report.failures)} failed)"
    )
    raise typer.Exit(1 if report.failures else 0)


def train(
    sources: Sources = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train one run: a system on a corpus.

    E.g. `avser train av_roi ravdess name=first training.epochs=20`.
    """
    from accelerate import PartialState

    from avser.training.run import train as train_run

    folder = train_run(load_config(sources or []), resume=resume, overwrite=overwrite)
    if PartialState().is_main_process:
        print_scores(json.loads((folder / "metrics.json").read_text()), "test", folder)


def evaluate(run: Run, split: Annotated[str, typer.Option(help="train, val or test")] = "test") -> None:
    """Score a run's model on a part of its split."""
    from avser.experiments.runs.details import evaluate_details

    metrics, tables = evaluate_details(run, split)
    print_scores(metrics, split, run)
    for table in tables:
        print_table(table)
