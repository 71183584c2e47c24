"""How often do the tests of alignment call unrelated curves aligned? `python -m tools.calibrate_nulls --out DIR`

Smooth random curves of a made-up corpus of 24 speakers with 10 clips each, voice and face drawn apart: at the 5 % level
a test should reject in 5 of 100 such worlds. The second world has all curves peak mid-clip, each for its own reasons.
The table goes to stdout and to OUT/calibration.{md,json}.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from joblib import Parallel, delayed

from avser.cli.printing import print_table
from avser.roi.alignment.null_calibration import calibrate_nulls, calibration_table, join_trials
from avser.roi.alignment.nulls import NULLS
from avser.roi.report.table_markdown import tables_markdown
from avser.training.checkpoint import write_json, write_text

CHUNK = 20  # trials a piece of work


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--nulls", nargs="+", choices=tuple(NULLS), default=list(NULLS), metavar="NULL")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="processes; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(given)
    chunks = Parallel(n_jobs=args.workers, verbose=5)(
        delayed(calibrate_nulls)(min(CHUNK, args.trials - start), args.seed, first_trial=start, nulls=args.nulls)
        for start in range(0, args.trials, CHUNK)
    )
    found = join_trials(chunks)
    table, command = calibration_table(found), f"python -m tools.calibrate_nulls {shlex.join(given)}"
    print_table(table)
    write_text(args.out / "calibration.md", f"Made by `{command}`.\n\n{tables_markdown([table])}")
    write_json(args.out / "calibration.json", {"command": command, "tests": [test.to_dict() for test in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
