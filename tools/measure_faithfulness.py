"""Are a run's saliences more faithful than loudness and chance? On its own test clips, against all controls:

    python -m tools.measure_faithfulness RUN --modality audio --sources attention,att_value,occlusion --out DIR

Clips are spread over speakers and emotions. Runs that were trained alike with other seeds (--seeds) say whether the
saliences agree between trainings; one that was trained on permuted labels (--permuted) is one more control. Writes
DIR/faithfulness.{json,md} and prints the verdicts and tables. Exit code: 1 if something failed, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.cli import print_table
from avser.errors import AvserError, ConfigError
from avser.experiments.faithfulness_study import study_faithfulness
from avser.experiments.faithfulness_tables import faithfulness_tables, write_faithfulness
from avser.experiments.held_out import load_test_clips
from avser.inference import load_model
from avser.roi.salience.replacement import check_operator
from avser.structures import MODALITIES


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
        model, *seeds = [load_model(run, args.device) for run in (args.run, *args.seeds)]
        permuted = load_model(args.permuted, args.device) if args.permuted else None
        if args.modality not in model.modalities:
            raise ConfigError(f"{args.run} reads {' and '.join(model.modalities)}, not {args.modality}")
        everyone = [model, *seeds, *([permuted] if permuted else [])]
        clips = load_test_clips({str(i): one for i, one in enumerate(everyone)})
        study = study_faithfulness(
            model,
            clips,
            args.modality,
            args.sources,
            seeds=seeds,
            permuted=permuted,
            operators=args.operators,
            max_clips=args.clips,
            batch_size=args.batch_size,
            num_draws=args.draws,
            seed=args.seed,
        )
        write_faithfulness(study, args.out, command=f"python -m tools.measure_faithfulness {shlex.join(given)}")
    except AvserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(*study.sentences(), sep="\n")
    for table in faithfulness_tables(study):
        print_table(table)
    print(f"written: {args.out / 'faithfulness.md'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--modality", choices=MODALITIES, required=True)
    parser.add_argument(
        "--sources",
        type=_names,
        default=["attention"],
        metavar="A,B",
        help="see avser.roi.salience.sources; default: attention",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=_count, default=96, help="at most so many; default: 96")
    parser.add_argument("--seeds", type=Path, nargs="+", default=[], metavar="RUN", help="the same with other seeds")
    parser.add_argument("--permuted", type=Path, metavar="RUN", help="the same, trained on permuted labels")
    parser.add_argument("--operators", type=_names, default=[], metavar="A,B", help="default: the modality's own two")
    parser.add_argument("--draws", type=_count, default=4, help="of the controls that chance decides; default: 4")
    parser.add_argument("--batch-size", type=_count, default=8, help="clips that are held at once; default: 8")
    parser.add_argument("--seed", type=int, default=0, help="of clips, draws and random weights; default: 0")
    parser.add_argument("--device", help="default: a GPU where there is one")
    return parser


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _count(text: str) -> int:
    if (found := int(text)) < 1:
        raise ValueError(text)
    return found


if __name__ == "__main__":
    sys.exit(main())
