"""The door: `python -m preprocessing.synthetic --out DIR` renders the corpus and says what it made."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.progress import Progress

from avser.errors import AvserError
from preprocessing.synthetic.corpus import Settings, write_corpus


def main(arguments: list[str] | None = None) -> int:
    """0 when the corpus stands, 1 with a sentence on stderr when it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.synthetic", description=__doc__)
    parser.add_argument("--out", required=True, help="folder of the new corpus")
    parser.add_argument("--speakers", type=int, default=Settings.speakers, help="default: %(default)s")
    parser.add_argument(
        "--clips-per-emotion",
        type=int,
        default=Settings.clips_per_emotion,
        help="of each speaker; default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=Settings.seed, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes that render; default: %(default)s")
    args = parser.parse_args(arguments)
    settings = Settings(args.speakers, args.clips_per_emotion, args.seed)
    begun = time.perf_counter()
    try:
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("rendering", total=settings.num_clips)
            rows = write_corpus(args.out, settings, args.workers, lambda done, _: bar.update(task, completed=done))
    except AvserError as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begun
    num_emotions = len({row.emotion for row in rows})
    print(
        f"{len(rows)} clips of {settings.speakers} speakers and {num_emotions} emotions in {seconds:.1f} s: "
        f"{args.out}/manifest.csv"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
