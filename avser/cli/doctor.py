"""`avser doctor`: whether the installation works, and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """Check this installation: versions, OpenCV, face model, GPU, codecs, memory. Exit 1 if something is broken.

    Where this command itself does not start, `python -m avser.doctor` does.
    """
    from avser.doctor.examination import examine
    from avser.doctor.finding import describe, is_broken

    findings = examine()
    typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1) if as_json else describe(findings))
    raise typer.Exit(1 if is_broken(findings) else 0)
