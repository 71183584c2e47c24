"""`avser serve`: the models in the browser, for files and for the webcam."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avser.cli.printing import LOG, warn


def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="run folders; several answer side by side", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="address to listen on; the default is seen from this machine only")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0: any that is free")] = 7860,
    max_mb: Annotated[float, typer.Option("--max-mb", help="largest file that is taken, in MB")] = 200.0,
    max_s: Annotated[float, typer.Option("--max-s", help="longest recording that is taken, in seconds")] = 120.0,
    max_waiting: Annotated[int, typer.Option("--max-waiting", help="how many people may wait for their turn")] = 16,
) -> None:
    """Open a page in which people drop a video, or use the webcam, and see emotion, timeline and report.

    RUN is a run, or the folder of an `avser ablate`. Uploads are deleted once answered; nothing is sent elsewhere.
    """
    from avser.app.admission import Limits
    from avser.app.server import serve as serve_page

    LOG.print("loading the models ...")
    limits = Limits(max_mb, max_s)
    serve_page(runs, host=host, port=port, limits=limits, max_waiting=max_waiting, say=typer.echo, warn=warn)
