"""One board of systems: `python -m tools.leaderboard av_roi --corpus ravdess --protocol emobox --out boards/emobox`.

Every system is trained in every fold with every seed below OUT/runs; the same command goes on where it stopped, and
trains nothing that is finished. Variants of a system stand beside it: with a file that says

    av_roi: {mean: ["model.attention.kind=mean"]}

`av_roi av_roi:mean --variants FILE --compare av_roi av_roi:mean` trains both and tests their difference. With
`--join both av_roi+light_sernet` one more row, called both, answers with the product of their posteriors, fold by fold
and seed by seed. The tables go to stdout, and with all that they are made of to OUT/leaderboard.{md,csv,json}. Exit
code: 1 if a run failed, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.cli.printing import print_table
from avser.errors import AvserError
from avser.experiments.leaderboard.board import build_leaderboard
from avser.experiments.leaderboard.tables import (
    find_place,
    insert_board,
    leaderboard_markdown,
    leaderboard_tables,
    write_leaderboard,
)
from tools import read_count, tell
from tools.published import PUBLISHED


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(given)
    place = args.out.absolute().name
    try:
        if args.page:
            find_place(args.page, place)  # hours before there is a board to put there
        board = build_leaderboard(
            args.systems,
            corpus=args.corpus,
            protocol=args.protocol,
            folds=args.folds,
            seeds=args.seeds,
            out=args.out,
            overrides=args.overrides,
            variants=args.variants,
            joins=args.join,
            comparisons=args.compare,
            jobs=args.jobs,
            published=PUBLISHED,
        )
        command = f"python -m tools.leaderboard {shlex.join(given)}"
        write_leaderboard(board, args.out, command=command)
        if args.page:
            insert_board(args.page, place, leaderboard_markdown(board, command))
    except AvserError as error:
        return tell(error)
    for table in leaderboard_tables(board):
        print_table(table)
    print(f"board: {args.out / 'leaderboard.md'}")
    for run, reason in board.failures.items():
        print(f"failed: {run}: {reason}", file=sys.stderr)
    return 1 if board.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", metavar="SYSTEM[:VARIANT]", help="named configurations, see --variants")
    parser.add_argument("--corpus", required=True, help="named configuration, or path of one")
    parser.add_argument("--protocol", required=True, help="see `avser config protocols`")
    parser.add_argument("--folds", type=_folds, default=[0], metavar="0,1,..|all", help="default: 0")
    parser.add_argument("--seeds", type=_numbers, default=[0], metavar="0,1,..", help="default: 0")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="key=value", help="for every row"
    )
    parser.add_argument("--variants", type=Path, metavar="FILE.yaml", help="system: {variant: [key=value, ...]}")
    parser.add_argument(
        "--join",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "A+B"),
        help="a row of rows: late fusion; repeat",
    )
    parser.add_argument(
        "--compare", nargs=2, action="append", default=[], metavar=("A", "B"), help="two rows, paired by clip; repeat"
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE.md",
        help="puts the tables there, between <!-- board:OUT --> and <!-- end:OUT -->; OUT is the last part of DIR",
    )
    parser.add_argument("--jobs", type=read_count, default=1, help="runs side by side, each in a process; default: 1")
    return parser


def _numbers(text: str) -> list[int]:
    found = [int(word) for word in text.split(",")]
    if min(found) < 0 or len(set(found)) < len(found):
        raise ValueError(text)
    return found


def _folds(text: str) -> list[int] | None:
    return None if text == "all" else _numbers(text)


if __name__ == "__main__":
    sys.exit(main())
