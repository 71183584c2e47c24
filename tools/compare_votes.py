"""Models against human votes: `python -m tools.compare_votes RUN --out DIR`.

RUN is a run, or the folder of an `avser ablate` with the runs audio, video and fused; its test clips are judged, its
validation clips give the temperatures. Clips of another corpus, on which nothing was fitted:

    python -m preprocessing.cremad --raw DIR --out cremad.csv && avser cache cremad.csv RUN/config.yaml --out cache
    python -m tools.compare_votes RUN --manifest cremad.csv --cache cache --out DIR

Says whether the mixture of emotions over time is closer to what people voted than the clip's softmax is, once that was
given a temperature, and with whom the fused model sides where people heard one emotion and saw another. Tables go to
stdout and to DIR/votes.{json,csv}. Exit code: 1 if it failed, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.cli.printing import print_table
from avser.errors import AvserError, ConfigError
from avser.experiments.votes.study import load_vote_clips, read_vote_clips, study_votes
from avser.experiments.votes.tables import vote_sentences, vote_tables, write_vote_tables
from avser.inference import load_models
from tools import tell


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        if (args.manifest is None) != (args.cache is None):
            raise ConfigError("--manifest and --cache name the clips of another corpus together: give both or neither")
        models = load_models(args.run, args.device)
        clips = load_vote_clips(models) if args.manifest is None else read_vote_clips(models, args.manifest, args.cache)
        study = study_votes(models, clips, num_resamples=args.resamples, seed=args.seed)
        write_vote_tables(study, args.out)
    except AvserError as error:
        return tell(error)
    for table in vote_tables(study):
        print_table(table)
    print("\n".join(vote_sentences(study)))
    print(f"votes: {args.out / 'votes.json'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--manifest", type=Path, metavar="FILE.csv", help="clips of another corpus, with votes")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where those are cached")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap; default: 2000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="default: a GPU where there is one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
