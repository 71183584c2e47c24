"""`avser ablate`, `crossval` and `robustness`: what is asked of many runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avser.cli.arguments import Overwrite, Sources, read_numbers
from avser.cli.printing import LOG, print_table
from avser.config import load_config
from avser.errors import ConfigError

if TYPE_CHECKING:
    from avser.config import Config


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

    chosen = None if folds == "all" else read_numbers(folds, "--folds")
    options: dict[str, Any] = {"jobs": jobs, "cluster": cluster}
    found = cross_validate(
        load_config(sources or []), out=out, folds=chosen, seeds=read_numbers(seeds, "--seeds"), **options
    )
    write_cross_validation(found, out, command=shlex.join(["avser", *sys.argv[1:]]))
    for table in cross_validation_tables(found):
        print_table(table)
    typer.echo(f"tables and figure: {out / 'crossval.md'}")
    for run, reason in found.failures.items():
        LOG.print(f"failed: {run}: {reason}", markup=False)
    raise typer.Exit(1 if found.failures else 0)


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
