"""The `avser` command: each subcommand parses its arguments, calls one function of the library and prints the answer.

Answers go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 something failed (with a list), 2 wrong
usage. Libraries are imported inside the commands, so that `avser --help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from avser.config import config_to_yaml, list_configs, load_config
from avser.errors import AvserError, ConfigError

if TYPE_CHECKING:
    from avser.roi.tables import ReportTable
    from avser.structures import Prediction

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
config_app = typer.Typer(no_args_is_help=True, help="List, show and check configurations.")
app.add_typer(config_app, name="config")

OUT, LOG = Console(), Console(stderr=True)

Sources = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG...] [key=value...]", help="named configs, YAML files, overrides; later wins"),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]


@app.command()
def cache(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    out: Annotated[Path, typer.Option("--out", help="cache folder")],
    sources: Sources = None,
    workers: Annotated[int, typer.Option(help="processes")] = 2,
) -> None:
    """Decode every clip of a manifest once: voice, face crops, landmarks."""
    from avser.data.cache import build_cache
    from avser.data.manifest import read_manifest

    report = build_cache(read_manifest(manifest), out, load_config(sources or []).media, workers=workers)
    for warning in report.warnings:
        LOG.print(f"warning: {warning}", markup=False)
    for failure in report.failures:
        LOG.print(f"failed: {failure.clip_id}: {failure.reason}", markup=False)
    typer.echo(
        f"{report.num_cached} of {report.num_clips} clips cached in {out} ({report.num_reused} were there already, "
        f"{len(report.failures)} failed)"
    )
    raise typer.Exit(1 if report.failures else 0)


@app.command()
def train(
    sources: Sources = None,
    resume: Annotated[bool, typer.Option(help="go on with an interrupted run")] = False,
    overwrite: Annotated[bool, typer.Option(help="remove an earlier run of this name first")] = False,
) -> None:
    """Train one run: avser train SYSTEM CORPUS [key=value ...]."""
    from avser.training.run import train as train_run

    folder = train_run(load_config(sources or []), resume=resume, overwrite=overwrite)
    _print_scores(json.loads((folder / "metrics.json").read_text()), "test", folder)


@app.command()
def evaluate(run: Run, split: Annotated[str, typer.Option(help="train, val or test")] = "test") -> None:
    """Score a run's model on a part of its split."""
    from avser.training.run import evaluate_run

    _print_scores(evaluate_run(run, split), split, run)


@app.command()
def ablate(
    sources: Sources = None,
    resume: Annotated[bool, typer.Option(help="keep finished cells, go on with the rest")] = False,
    overwrite: Annotated[bool, typer.Option(help="remove earlier cells first")] = False,
) -> None:
    """Compare voice, face and both, on one split."""
    from avser.experiments.ablation import ablate_modalities, ablation_table

    ablation = ablate_modalities(load_config(sources or []), resume=resume, overwrite=overwrite)
    print_table(ablation_table(ablation))


@app.command()
def roi(
    run: Run,
    clip: Annotated[Path | None, typer.Argument(metavar="[CLIP]", help="one media file")] = None,
    out: Annotated[Path, typer.Option("--out", help="folder for tables, figures and report.html")] = Path("roi"),
) -> None:
    """Regions of interest of one clip, or of a run's whole test split, in voice and face, with a report."""
    from avser.experiments.region_report import report_clip, report_split

    report = report_split(run, out) if clip is None else report_clip(run, clip, out)
    typer.echo(f"report: {report}")


@app.command()
def predict(
    run: Run,
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a clip and line")] = False,
) -> None:
    """The emotion of media files, with the moments that carried it."""
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


@config_app.command("list")
def config_list() -> None:
    """The named configurations."""
    for folder, paths in list_configs().items():
        typer.echo(f"{folder}:")
        for path in paths:
            typer.echo(f"  {path.stem:<24}{_first_comment(path)}")


@config_app.command("show")
def config_show(sources: Sources = None) -> None:
    """The configuration that these sources give, every default written out."""
    typer.echo(config_to_yaml(load_config(sources or [])), nl=False)


@config_app.command("check")
def config_check(sources: Sources = None) -> None:
    """Check a configuration, and the manifest it names, before anything is trained."""
    from avser.data.manifest import read_manifest

    config = load_config(sources or [])
    if config.data.manifest:
        manifest = read_manifest(config.data.manifest)
        typer.echo(f"{config.data.manifest}: {len(manifest)} clips, {len({r.speaker for r in manifest.rows})} speakers")
    typer.echo("the configuration is valid")


def main() -> None:
    """Entry point: errors that avser raises on purpose are printed as one message, without a traceback."""
    try:
        app()
    except AvserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def print_table(table: ReportTable) -> None:
    """A table of results on stdout."""
    from avser.roi.tables import format_cell

    shown = Table(title=table.title, title_justify="left")
    for i, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if i == 0 else "right")
    for row in table.rows:
        shown.add_row(*(format_cell(cell) for cell in row))
    OUT.print(shown)
    for remark in filter(None, (table.caption, table.note)):
        OUT.print(remark, style="dim", markup=False, highlight=False)


def _print_scores(metrics: dict[str, Any], split: str, folder: Path) -> None:
    from avser.evaluation.statistics import Interval
    from avser.roi.tables import ReportTable

    scores = metrics[split]
    print_table(
        ReportTable(
            f"{folder}, {split}",
            ["", "%"],
            [["UAR", Interval(**scores["uar"])], ["WA", Interval(**scores["wa"])]],
            f"{scores['num_clips']} clips of {scores['num_speakers']} speakers; intervals 95 %, clustered by speaker. "
            f"Protocol {metrics['protocol']}, split {metrics['split_fingerprint']}, seed {metrics['seed']}.",
        )
    )


def _prediction_line(prediction: Prediction) -> str:
    share = prediction.probabilities[prediction.emotion]
    regions = "  ".join(
        f"{'voice' if modality == 'audio' else 'face'} " + ", ".join(f"{r.start_s:.2f}-{r.end_s:.2f} s" for r in found)
        for modality, found in prediction.regions.items()
        if found
    )
    return f"{prediction.clip_id}\t{prediction.emotion}\t{100 * share:.0f} %\t{regions}"


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


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


if __name__ == "__main__":
    main()
