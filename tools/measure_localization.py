"""Who finds known regions: `python -m tools.measure_localization RUN [RUN ...] --sources A,B,.. --out DIR`.

Every run (a run folder, or a folder of runs "audio", "video" and "fused") is asked by every salience, about the test
clips of its own split; the runs must share it. With --manifest M --cache C it is asked about other clips, whose
speakers it has never met: M stands beside a regions.csv, as `preprocessing.splice` and `preprocessing.synthetic` write
it, and C is made of M by `avser cache` with the media settings of the runs. Tables go to stdout, and with everything
behind them to DIR/localization.{md,json}. Exit code: 1 if something could not be asked, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.cli.printing import print_table
from avser.errors import AvserError
from avser.experiments.localization.clips import PARTS
from avser.experiments.localization.study import (
    CONTROL_WORDS,
    COSTLY,
    RANKINGS,
    TARGETS,
    LocalizationStudy,
    study_localization,
)
from avser.experiments.localization.tables import localization_tables, write_localization
from tools import read_count, read_names, tell


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(given)
    try:
        study = study_localization(
            args.runs,
            args.manifest,
            args.cache,
            part=args.split,
            sources=args.sources,
            num_costly=args.costly_clips,
            target=args.target,
            ranking=args.rank_by,
            smooth_s=args.smooth_s,
            controls=args.controls,
            batch_size=args.batch_size,
            seed=args.seed,
        )
        write_localization(study, args.out, command=f"python -m tools.measure_localization {shlex.join(given)}")
    except AvserError as error:
        return tell(error)
    return print_study(study, args.out)


def print_study(study: LocalizationStudy, out: Path) -> int:
    """Tables and notes to stdout, what failed to stderr; returns the exit code."""
    for table in localization_tables(study):
        print_table(table)
    for note in study.notes:
        print(f"note: {note}")
    print(f"tables: {out / 'localization.md'}")
    for failure in study.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if study.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a trained model")
    parser.add_argument("--manifest", type=Path, metavar="M", help="of another corpus with regions.csv")
    parser.add_argument("--cache", type=Path, metavar="C", help="of its clips")
    parser.add_argument(
        "--split",
        choices=PARTS,
        default="",
        help="part of the runs' own split; with M, of its people alone; val: to choose between models, never a result; "
        "default: test, or everybody in M",
    )
    parser.add_argument(
        "--sources", type=read_names, default="attention", metavar="A,B,..", help="saliences; default: %(default)s"
    )
    parser.add_argument(
        "--costly-clips", type=read_count, metavar="N", help=f"ask {', '.join(COSTLY)} about N clips; default: all"
    )
    parser.add_argument(
        "--target", choices=TARGETS, default="predicted", help="emotion asked about; default: %(default)s"
    )
    parser.add_argument("--rank-by", choices=RANKINGS, default="mass", help="of regions; default: %(default)s")
    parser.add_argument(
        "--smooth-s", type=float, metavar="SD", help="smoothing of the curves, seconds; default: the runs' roi.smooth_s"
    )
    parser.add_argument(
        "--controls", action="store_true", help=f"score these too, as if they were saliences: {CONTROL_WORDS}"
    )
    parser.add_argument("--batch-size", type=read_count, default=16, metavar="N", help="clips; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
