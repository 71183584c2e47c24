"""Arguments that several subcommands take, and how lists of numbers on the command line are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avser.errors import ConfigError

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


def read_numbers(text: str, option: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise ConfigError(f"{option} {text}: write numbers from 0 upwards with commas between them, each once: 0,1,2")
    return [int(word) for word in words]
