"""The door: `python -m preprocessing.splice MANIFEST --out DIR` joins neutral and emotional takes of each speaker."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from avser.data.manifest import read_manifest
from avser.errors import AvserError
from preprocessing.report import write_left_out
from preprocessing.splice.corpus import write_splices
from preprocessing.splice.pairing import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the corpus stands, 1 with a sentence on stderr when it cannot be made."""
    args = _build_parser().parse_args(arguments)
    settings = Settings(args.count, args.seed, tuple(args.region_s), args.carrier_s, args.keep_loudness)
    try:
        manifest = read_manifest(args.manifest)
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("splicing", total=None)
            report = write_splices(
                manifest,
                args.out,
                settings,
                args.workers,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        left_out = write_left_out(report.left_out, args.out / "manifest.csv")
    except (AvserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for note in report.notes:
        print(note)
    for entry in report.left_out[:10]:
        print(f"{entry.name}: {entry.reason}")
    if left_out:
        print(f"{left_out}: {len(report.left_out)} lines on what was left out")
    print(
        f"{args.out / 'manifest.csv'}: {len(report.rows)} clips of {len({row.speaker for row in report.rows})} speakers"
    )
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preprocessing.splice", description=__doc__)
    parser.add_argument("manifest", type=Path, help="of a corpus with neutral and other takes of each speaker")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new corpus")
    parser.add_argument("--count", type=int, help="clips to make; default: as many as there are takes")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="default: %(default)s")
    parser.add_argument(
        "--region-s",
        type=float,
        nargs=2,
        default=Settings.region_s,
        metavar=("MIN", "MAX"),
        help="length of the emotional speech in seconds; default: 0.4 1.0",
    )
    parser.add_argument(
        "--carrier-s",
        type=float,
        default=Settings.carrier_s,
        help="least neutral speech before and after it, in seconds; default: %(default)s",
    )
    parser.add_argument(
        "--keep-loudness",
        action="store_true",
        help="do not bring the emotional speech to the loudness of the neutral one (loudness carries emotion, but a "
        "jump of it gives the region away)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes; default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
