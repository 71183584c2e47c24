"""One line of the doctor's answer, and a library tried in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, WARNING, BROKEN = "ok", "warning", "broken"
TIMEOUT_S = 600  # a library read from a cold disk of a busy machine may take minutes


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Attributes:
        name: what was looked at.
        status: "ok", "warning" (something will not work, or not well) or "broken" (nothing much will).
        found: what is there.
        mend: what to do about it; empty where all is well.
    """

    name: str
    status: str
    found: str
    mend: str = ""


def is_broken(findings: Iterable[Finding]) -> bool:
    return any(finding.status == BROKEN for finding in findings)


def describe(findings: Iterable[Finding]) -> str:
    """A line a finding, and what to do below those that need it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<8} {finding.name:<18} {finding.found}")
        lines += [f"{'':<8} {'':<18} -> {finding.mend}"] if finding.mend else []
    return "\n".join(lines)


def probe(code: str) -> tuple[dict[str, Any] | None, str]:
    """What `code` leaves in `answer`, in a process of its own; or None, and the last line of what went wrong."""
    # At the end of the path: an avser that is not installed, but lies in a checkout, is found too.
    begin = f"import sys; sys.path.append({str(Path(__file__).resolve().parents[2])!r})"
    end = r"import json; print('\n' + json.dumps(answer))"
    command = [sys.executable, "-P", "-c", f"{begin}\n{code}\n{end}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"gave no answer within {TIMEOUT_S} s"
    if done.returncode < 0:
        return None, f"crashed ({signal.Signals(-done.returncode).name})"
    lines = [line for line in (done.stderr if done.returncode else done.stdout).splitlines() if line.strip()]
    if done.returncode:
        return None, lines[-1].strip() if lines else f"exit status {done.returncode}"
    return json.loads(lines[-1]), ""
