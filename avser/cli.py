"""The `avser` command: each subcommand parses its arguments, calls one function of the library and prints the answer.

Libraries are imported inside the commands, so that `avser --help` answers at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avser.config import GENERAL_PROTOCOLS, config_to_yaml, list_configs, load_config
from avser.errors import AvserError, ConfigError

if TYPE_CHECKING:
    from avser.config import Config
    from avser.evaluation.statistics import Interval
    from avser.roi.report.tables import ReportTable
    from avser.structures import Prediction

HELP = """Audio-visual emotion recognition that shows which moments of voice and face carried the emotion.

Answers go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 something failed, 2 wrong usage."""

# Help as plain text: rich would take the [key=value ...] of a usage line for markup.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=HELP
)
config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and check configurations.")
app.add_typer(config_app, name="config")

FILE_WIDTH = 120  # of tables where stdout is no terminal that knows its own
LOG = Console(stderr=True, soft_wrap=True)

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG|KEY=VALUE",
        help="named configurations (`avser config list`), YAML files and key=value; later wins",
        show_default=False,
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="remove an earlier run of this name first")]


@app.command()
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


@app.command()
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
        _print_scores(json.loads((folder / "metrics.json").read_text()), "test", folder)


@app.command()
def evaluate(run: Run, split: Annotated[str, typer.Option(help="train, val or test")] = "test") -> None:
    """Score a run's model on a part of its split."""
    from avser.experiments.runs.details import evaluate_details

    metrics, tables = evaluate_details(run, split)
    _print_scores(metrics, split, run)
    for table in tables:
        print_table(table)


@app.command()
def ablate(
    sources: Sources = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2",
            help="what to vary: a key of the configuration, or modality (audio,video,fused), fusion, attention, "
            "weights or balance; repeat for every combination",
        ),
    ] = None,
    folds: Annotated[str, typer.Option(metavar="0,1|all", help="of the protocol; default: data.fold")] = "",
    seeds: Annotated[str, typer.Option(metavar="0,1,2", help="default: the configuration's")] = "",
    reference: Annotated[
        str, typer.Option(metavar="KEY=V,...", help="cell to compare with; default: the configuration's own values")
    ] = "",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="runs side by side; default: 1, on a cluster all that have room")
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="local: this machine; ray: the cluster of $RAY_ADDRESS, or a local one; ray://HOST:PORT")
    ] = "local",
    retries: Annotated[int, typer.Option(min=0, help="how often a run is tried again whose process died")] = 1,
    threads: Annotated[
        int, typer.Option(min=1, help="of each run; with the same number runs are the same to the last bit")
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="folder for tables and figure; default: runs/NAME")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="keep finished runs, go on with the rest")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train for voice, face and both on one split, and compare; or every combination of what --over varies.

    With --over it goes on where it stopped, whether asked to --resume or not. E.g. `avser ablate av_roi ravdess
    --over modality=audio,video,fused --over fusion=concat,gated --folds all --seeds 0,1,2 --jobs 2`.
    """
    config = load_config(sources or [])
    if over:
        options = {"folds": folds, "seeds": seeds, "reference": reference, "jobs": jobs, "cluster": cluster}
        _ablate_grid(config, over, out, **options, retries=retries, threads=threads, overwrite=overwrite)
        return
    if folds or seeds or reference or jobs or cluster != "local" or out:
        raise ConfigError(
            "--folds, --seeds, --reference, --jobs, --cluster and --out go with --over, e.g. --over "
            "modality=audio,video,fused"
        )
    from avser.experiments.ablation.modalities import ablate_modalities, ablation_table

    ablation = ablate_modalities(config, resume=resume, overwrite=overwrite)
    print_table(ablation_table(ablation))


@app.command()
def crossval(
    sources: Sources = None,
    folds: Annotated[str, typer.Option("--folds", metavar="all|0,1,..", help="of data.protocol")] = "all",
    seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,..", help="of the training")] = "0",
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="runs side by side; default: 1, on a cluster all")
    ] = None,
    cluster: Annotated[str, typer.Option("--cluster", help="local, ray, or ray://HOST:PORT")] = "local",
    out: Annotated[Path, typer.Option("--out", help="folder for runs, tables and figure")] = Path("crossval"),
) -> None:
    """Train every fold of a protocol with every seed, and score all test clips together.

    The same command goes on where it stopped. E.g. `avser crossval av_roi ravdess data.protocol=emobox --seeds 0,1,2`.
    """
    from avser.experiments.cross_validation.study import cross_validate
    from avser.experiments.cross_validation.tables import cross_validation_tables, write_cross_validation

    chosen = None if folds == "all" else _read_numbers(folds, "--folds")
    options: dict[str, Any] = {"jobs": jobs, "cluster": cluster}
    found = cross_validate(
        load_config(sources or []), out=out, folds=chosen, seeds=_read_numbers(seeds, "--seeds"), **options
    )
    write_cross_validation(found, out, command=shlex.join(["avser", *sys.argv[1:]]))
    for table in cross_validation_tables(found):
        print_table(table)
    typer.echo(f"tables and figure: {out / 'crossval.md'}")
    for run, reason in found.failures.items():
        LOG.print(f"failed: {run}: {reason}", markup=False)
    raise typer.Exit(1 if found.failures else 0)


@app.command()
def robustness(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of finished runs; the first is asked")],
    out: Annotated[Path, typer.Option("--out", help="folder for tables and figure")] = Path("robustness"),
    corruptions: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="e.g. snr,babble,occlusion,blur,drop,sync; default: all")
    ] = "",
    levels: Annotated[
        list[str] | None, typer.Option(metavar="NAME=V1,V2", help="other levels of one of them; repeat")
    ] = None,
    seed: Annotated[int, typer.Option(help="of noise, places and partners")] = 0,
) -> None:
    """Test finished runs with voices and faces that are missing, noisy, late, covered, or another clip's.

    Nothing is trained. E.g. `avser robustness runs/fused runs/audio runs/video --out robustness`.
    """
    from avser.experiments.robustness.study import measure_robustness
    from avser.experiments.robustness.tables import robustness_tables, write_robustness

    chosen = [name.strip() for name in corruptions.split(",") if name.strip()]
    found = measure_robustness(runs, corruptions=chosen, levels=_read_levels(levels or []), seed=seed)
    paths = write_robustness(found, out, command=f"avser {shlex.join(sys.argv[1:])}")
    for table in robustness_tables(found):
        print_table(table)
    typer.echo(f"robustness: {', '.join(map(str, paths))}")


@app.command()
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

    options: dict[str, Any] = {"salience": salience, "curves": curves, "formats": export or [], "warn": _warn}
    if clip is None:
        report = report_split(run, out, num_clips=clips, num_tested=tested, **options)
    else:
        report = report_clip(run, clip, out, **options)
    typer.echo(f"report: {report}")


@app.command()
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


@config_app.command("list")
def config_list() -> None:
    """List the named configurations."""
    for folder, paths in list_configs().items():
        typer.echo(f"{folder}:")
        for path in paths:
            typer.echo(f"  {path.stem:<24}{_first_comment(path)}")


@config_app.command("show")
def config_show(sources: Sources = None) -> None:
    """Show a configuration with every default written out."""
    typer.echo(config_to_yaml(load_config(sources or [])), nl=False)


@config_app.command("check")
def config_check(sources: Sources = None) -> None:
    """Check a configuration, and its manifest, files, labels and split."""
    from avser.data.check import check_data

    for sentence in check_data(load_config(sources or []).data):
        typer.echo(sentence)
    typer.echo("the configuration is valid")


@config_app.command("protocols")
def config_protocols(
    corpora: Annotated[list[str] | None, typer.Argument(metavar="CORPUS", help="default: every corpus")] = None,
) -> None:
    """List the published splits by name, and what their publications keep apart."""
    from avser.data.splits import VERDICTS, yes_or_no

    shown = Table("corpus", "data.protocol", "folds", box=box.SIMPLE_HEAD)
    for words in VERDICTS.values():
        shown.add_column(words, max_width=10)
    shown.add_column("source; remark", overflow="fold")
    for corpus in corpora or [path.stem for path in list_configs()["corpora"]]:
        for name, protocol in load_config([corpus]).data.protocols.items():
            folds = "listed" if protocol.by == "clips" else str(max(1, len(protocol.test)))
            answers = [yes_or_no(getattr(protocol, verdict), unknown="not stated") for verdict in VERDICTS]
            words = "; ".join(filter(None, (protocol.source, protocol.remark)))
            shown.add_row(*map(escape, (corpus, name, folds, *answers, words)))
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(shown)
    typer.echo(f"for any manifest: {', '.join(GENERAL_PROTOCOLS)}")


def main() -> None:
    """Entry point: errors that avser raises on purpose are printed as one message, without a traceback."""
    try:
        app()
    except AvserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def print_table(table: ReportTable) -> None:
    """A table of results on stdout."""
    from avser.roi.report.tables import format_cell

    rows = [[format_cell(cell) for cell in row] for row in table.rows]
    shown = Table(title=escape(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(table.columns):
        widest = max((len(row[i]) for row in rows), default=0)
        shown.add_column(escape(column), justify="right" if i else "left", min_width=widest if i else None)
    for row in rows:
        shown.add_row(*map(escape, row))
    out = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    out.print(shown)
    for remark in filter(None, (table.caption, table.note)):
        out.print(remark, style="dim", markup=False, highlight=False)


def _ablate_grid(config: Config, over: list[str], out: Path | None, **options: Any) -> None:
    from avser.experiments.ablation.grid import ablate_grid
    from avser.experiments.ablation.tables import grid_tables, write_grid

    grid = ablate_grid(config, over, **options)
    paths = write_grid(grid, out or grid.folder, command=f"avser {shlex.join(sys.argv[1:])}")
    for table in grid_tables(grid):
        print_table(table)
    typer.echo(f"ablation: {', '.join(map(str, paths))}")
    for run, reason in grid.failures.items():
        LOG.print(f"failed: {run}: {reason}", markup=False)
    raise typer.Exit(1 if grid.failures else 0)


def _warn(sentence: str) -> None:
    LOG.print(f"warning: {sentence}", markup=False)


def _read_numbers(text: str, option: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise ConfigError(f"{option} {text}: write numbers from 0 upwards with commas between them, each once: 0,1,2")
    return [int(word) for word in words]


def _read_levels(texts: list[str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            raise ConfigError(f"--levels {text}: write a corruption and numbers, e.g. snr=20,10,0") from None
        if name in found:
            raise ConfigError(f"--levels {name}: is given twice; write all its numbers into one")
        found[name] = numbers
    return found


def _print_scores(metrics: dict[str, Any], split: str, folder: Path) -> None:
    from avser.roi.report.tables import ReportTable

    scores = metrics[split]
    print_table(
        ReportTable(
            f"{folder}, {split}",
            ["", "%"],
            [["UAR", _read_interval(scores["uar"])], ["WA", _read_interval(scores["wa"])]],
            f"{scores['num_clips']} clips of {scores['num_speakers']} speakers; intervals 95 %, clustered by speaker. "
            f"Protocol {metrics['protocol']}, split {metrics['split_fingerprint']}, seed {metrics['seed']}; "
            f"{_verdict_line(metrics)}.",
            "; ".join(metrics["notes"]),
        )
    )


def _verdict_line(metrics: dict[str, Any]) -> str:
    from avser.data.splits import Verdict

    stored = metrics.get("verdict")
    return str(Verdict(**stored)) if stored else "written before splits were judged"


def _read_interval(stored: dict[str, float | None]) -> Interval:
    """An interval out of metrics.json, where a bound that does not exist is null."""
    from avser.evaluation.statistics import Interval

    return Interval(**{name: float("nan") if value is None else value for name, value in stored.items()})


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


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


if __name__ == "__main__":
    main()
