"""Finished runs in one table, with paired tests: `python -m tools.compare_runs runs/a runs/b runs/c`.

Every run is scored on the same test clips and tested against the reference, by default the first: paired by clip,
clustered by speaker, corrected by Holm over the runs. Runs with other test clips are refused, unless --common asks for
the clips that all of them tested. The tables go to stdout, and with --out to DIR/runs.{md,csv,json}. Run folders may
come from anywhere; nothing in them is executed. Exit code: 1 for a run that cannot be read, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.cli.printing import print_table
from avser.errors import AvserError
from avser.experiments.runs.comparison import compare_runs
from avser.experiments.runs.comparison_tables import comparison_tables, write_comparison
from tools import tell


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(given)
    try:
        found = compare_runs(args.runs, reference=args.reference, common=args.common)
    except AvserError as error:
        return tell(error)
    for table in comparison_tables(found):
        print_table(table)
    if args.out:
        write_comparison(found, args.out, command=f"python -m tools.compare_runs {shlex.join(given)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--reference", type=Path, metavar="RUN", help="one of them; default: the first")
    parser.add_argument("--common", action="store_true", help="compare on the clips that all runs tested")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for runs.md, runs.csv and runs.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
