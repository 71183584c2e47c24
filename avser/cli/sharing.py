"""`avser push`: a run as a model that others can load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avser.cli.arguments import Run
from avser.cli.printing import warn


def push(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="of the model on the Hugging Face hub")],
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the files there instead, and ask nobody; to look at them")
    ] = None,
    licence: Annotated[
        str, typer.Option(metavar="ID", help="of the weights, as the hub calls it, e.g. cc-by-nc-sa-4.0")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="a new repository is for everybody; else for you")] = False,
    revision: Annotated[str | None, typer.Option(metavar="BRANCH", help="to commit to; default: main")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="manifest.csv, where it is no longer where the run found it")
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="what `avser roi RUN --out DIR` wrote, for the card")
    ] = None,
) -> None:
    """Hand a finished run on: weights, configuration and a card of what was measured. No clip or speaker is named.

    E.g. `avser push runs/my my-lab/my-model --folder look`, and the same without --folder. Then, anywhere:
    `avser predict my-lab/my-model clip.mp4`.
    """
    from avser.sharing import hub

    told: dict[str, Any] = {"licence": licence, "manifest": manifest, "regions": regions}
    if folder:
        shared = hub.write_shared(run, folder, name, **told)
    else:
        shared = hub.push(run, name, public=public, revision=revision, **told)
    for warning in shared.warnings:
        warn(warning)
    typer.echo(f"{shared.place}" + (f" (commit {shared.revision})" if shared.revision else ""))
