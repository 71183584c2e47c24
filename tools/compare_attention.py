"""Which kind of attention, read by which salience, finds known regions: train them all alike, then ask them all.

    python -m tools.compare_attention CONFIG [CONFIG ...] [key=value ...] --sources A,B,.. --out DIR

The corpus of the configuration must have a regions.csv beside its manifest, and be cached (`make demo` leaves both for
the configuration `demo`). For each kind a model that only hears and one that only sees are trained, to be found in
<runs>/<name>/<kind>; finished ones are kept. Then all are asked about the test clips as `tools.measure_localization`
does. Exit code: 1 if something could not be trained or asked, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from avser.config import load_config
from avser.errors import AvserError
from avser.experiments.localization.attention_kinds import train_kinds
from avser.experiments.localization.clips import PARTS
from avser.experiments.localization.study import COSTLY, study_localization
from avser.experiments.localization.tables import write_localization
from avser.models.attention import SCORES
from avser.roi.salience.sources import AUTO, SOURCES
from tools import read_count, read_names, tell
from tools.measure_localization import print_study


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(given)
    try:
        config = load_config(args.configs)
        runs = train_kinds(config, args.kinds, jobs=args.jobs)
        study = study_localization(
            runs, part=args.split, sources=args.sources, num_costly=args.costly_clips, seed=config.seed
        )
        write_localization(study, args.out, command=f"python -m tools.compare_attention {shlex.join(given)}")
    except AvserError as error:
        return tell(error)
    return print_study(study, args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "configs", nargs="+", metavar="CONFIG", help="named configurations, files, and key=value, merged"
    )
    kinds = ",".join(SCORES)
    parser.add_argument(
        "--kinds", type=read_names, default=kinds, metavar="A,B,..", help="of attention; default: %(default)s"
    )
    sources = ",".join(source for source in SOURCES if source != AUTO)
    parser.add_argument(
        "--sources", type=read_names, default=sources, metavar="A,B,..", help="saliences; default: %(default)s"
    )
    parser.add_argument(
        "--costly-clips", type=read_count, metavar="N", help=f"ask {', '.join(COSTLY)} about N clips; default: all"
    )
    parser.add_argument("--split", choices=PARTS, default="test", help="part that is asked about; default: %(default)s")
    parser.add_argument(
        "--jobs", type=read_count, default=1, help="runs that are trained side by side; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
