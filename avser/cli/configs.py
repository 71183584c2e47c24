"""`avser config`: the named configurations, shown and checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avser.cli.arguments import Sources
from avser.cli.printing import FILE_WIDTH
from avser.config import GENERAL_PROTOCOLS, config_to_yaml, list_configs, load_config

config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and check configurations.")


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


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
