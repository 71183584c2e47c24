"""Are the saliences of runs more faithful than loudness and chance? On their own test clips, against all controls:

    python -m tools.measure_faithfulness RUN [RUN ...] --modality audio --sources attention,att_value --out DIR

Several runs are folds of one system (fold*-seed0): each clip is asked of the run that did not train on it, and the
speakers of all folds count together. Runs with the same test clips are seeds of one fold: their clips have the mean
over them, and it is said whether the saliences agree between trainings. Runs trained on permuted labels (--permuted,
one a fold) are one more control. Clips are spread over speakers and emotions. Writes DIR/faithfulness.{json,md} and a
figure for each way to take moments away, and prints the verdicts and tables. Exit code: 1 if something failed, 2 for
wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.cli.printing import print_table
from avser.errors import AvserError
from avser.experiments.faithfulness.folds import sort_folds
from avser.experiments.faithfulness.study import study_faithfulness
from avser.experiments.faithfulness.tables import faithfulness_tables, write_faithfulness
from avser.experiments.held_out import HeldOutClips, load_test_clips
from avser.inference import TrainedModel, load_model
from avser.roi.salience.replacement import check_operator
from avser.structures import MODALITIES
from tools import read_count, read_names, tell


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    args = parser.parse_args(given)
    try:
        for operator in args.operators:
            check_operator(operator, args.modality)
    except ValueError as error:
        parser.error(str(error))
    try:
        study = study_faithfulness(
            sort_folds(_load(args.runs, args.device), _load(args.permuted, args.device)),
            args.modality,
            args.sources,
            operators=args.operators,
            max_clips=args.clips,
            batch_size=args.batch_size,
            num_draws=args.draws,
            seed=args.seed,
        )
        write_faithfulness(study, args.out, command=f"python -m tools.measure_faithfulness {shlex.join(given)}")
    except AvserError as error:
        return tell(error)
    print(*study.sentences(), sep="\n")
    for table in faithfulness_tables(study):
        print_table(table)
    print(f"written: {args.out / 'faithfulness.md'}")
    return 0


def _load(runs: Sequence[Path], device: str | None) -> list[tuple[TrainedModel, HeldOutClips]]:
    """Models, each with the test clips of its own split."""
    models = [load_model(run, device) for run in runs]
    return [(model, load_test_clips({model.modalities[0]: model})) for model in models]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder; several: folds or seeds of one system"
    )
    parser.add_argument("--modality", choices=MODALITIES, required=True)
    parser.add_argument(
        "--sources",
        type=read_names,
        default=["attention"],
        metavar="A,B",
        help="see avser.roi.salience.sources; default: attention",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=read_count, default=96, help="at most so many; default: 96")
    parser.add_argument(
        "--permuted", type=Path, nargs="+", default=[], metavar="RUN", help="the same, trained on permuted labels"
    )
    parser.add_argument(
        "--operators", type=read_names, default=[], metavar="A,B", help="default: the modality's own two"
    )
    parser.add_argument("--draws", type=read_count, default=4, help="of the controls that chance decides; default: 4")
    parser.add_argument("--batch-size", type=read_count, default=8, help="clips that are held at once; default: 8")
    parser.add_argument("--seed", type=int, default=0, help="of clips, draws and random weights; default: 0")
    parser.add_argument("--device", help="default: a GPU where there is one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
