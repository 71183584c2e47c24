"""The door: `python -m preprocessing.doctor MANIFEST` examines a corpus; exit status 1 means that it has faults."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avser.config import load_config
from avser.data.manifest import read_manifest
from avser.errors import AvserError
from preprocessing.doctor.diagnosis import Diagnosis, examine_corpus, write_diagnosis
from preprocessing.doctor.findings import KINDS, Finding
from preprocessing.doctor.report import write_page

MAX_SHOWN = 20  # faults listed one by one
FILE_WIDTH = 120  # of tables where stdout is no terminal


def main(arguments: list[str] | None = None) -> int:
    """0 without faults (there may be warnings), 1 with faults, 2 where nothing could be examined."""
    options = build_parser().parse_intermixed_args(arguments)
    out = options.out or options.manifest.parent / f"{options.manifest.stem}_doctor"
    begun = time.perf_counter()
    try:
        manifest, config = read_manifest(options.manifest), load_config(options.sources)
        out.mkdir(parents=True, exist_ok=True)
        diagnosis = examine_corpus(manifest, config, workers=options.workers, face_fps=options.face_fps)
        write_diagnosis(diagnosis, out / "doctor.json")
        write_page(diagnosis, out / "doctor.html", title=name_of(options.manifest))
    except (AvserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print_summary(diagnosis)
    print(f"{out / 'doctor.html'} and doctor.json, in {time.perf_counter() - begun:.0f} s")
    return 1 if diagnosis.num_faults else 0


def name_of(manifest: Path) -> str:
    """What the page is called: the manifest's name, or its folder's where that says more."""
    return manifest.resolve().parent.name if manifest.stem == "manifest" else manifest.stem


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the door."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocessing.doctor",
        description="Examine every file of a corpus. Exit status: 0 no faults, 1 faults, 2 nothing could be examined.",
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest.csv of a corpus")
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="CONFIG|key=value",
        help="named configurations, YAML files and key=value; e.g. media.faces.tracker=none to leave faces out",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="for doctor.html and doctor.json; default: beside it")
    parser.add_argument("--workers", type=_positive, default=2, metavar="N", help="processes; default: %(default)s")
    parser.add_argument(
        "--face-fps",
        type=_rate,
        default=3.0,
        metavar="FPS",
        help="frames a second in which faces are looked for; default: %(default)s",
    )
    return parser


def print_summary(diagnosis: Diagnosis) -> None:
    """The findings by code, and the first faults, on stdout."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    console.print(diagnosis.verdict, markup=False, highlight=False)
    counts = Counter(finding.code for finding in diagnosis.findings)
    if counts:
        table = Table("", "finding", "number", "what to do", box=box.SIMPLE)
        for code in KINDS:
            if code in counts:
                kind = KINDS[code]
                table.add_row(kind.severity, kind.title, str(counts[code]), escape(kind.advice))
        console.print(table)
    faults = [finding for finding in diagnosis.findings if finding.severity == "fault"]
    on_corpus = [finding for finding in diagnosis.findings if not finding.clip_id]
    for finding in [*faults[:MAX_SHOWN], *on_corpus]:
        console.print(_line(finding), markup=False, highlight=False)
    if len(faults) > MAX_SHOWN:
        print(f"... and {len(faults) - MAX_SHOWN} more faults in doctor.json")


def _line(finding: Finding) -> str:
    where = f" [{finding.column}{': ' if finding.file else ''}{finding.file}]" if finding.column else ""
    return f"{finding.clip_id or 'corpus'}: {KINDS[finding.code].title}: {finding.sentence}{where}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes 1 or more, got {text}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"takes frames a second above 0, got {text}")
    return rate


if __name__ == "__main__":
    sys.exit(main())
