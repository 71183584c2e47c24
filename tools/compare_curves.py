"""Do voice and face carry the emotion at the same moments? `python -m tools.compare_curves --voice RUN.. --face RUN..`

Each side is either runs (RUN is a run folder; give one a fold, so that every clip is explained by a model that has not
met its speaker) or salience that another tool computed, as CSV (layouts:
`avser.roi.exchange.imported_curves`):

    python -m tools.compare_curves --voice boards/ravdess/runs/av_roi-voice/fold*-seed0 --face-curves attention*.csv \
        --frame-rate 29.97 --rename '0[123]-(.+)[.]csv' --out out/ravdess

The manifest is that of the runs. Sentences and tables go to stdout, and with the numbers behind them to
OUT/alignment.{md,json} and OUT/clips.csv. Exit code: 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from avser.cli.printing import print_table
from avser.errors import AvserError, ConfigError
from avser.experiments.alignment.collected_curves import CollectedCurves, collect_curves
from avser.experiments.alignment.study import AlignmentStudy, study_alignment
from avser.experiments.alignment.tables import alignment_tables
from avser.experiments.alignment.words import describe_alignment
from avser.roi.alignment.compare import centre_prior
from avser.roi.exchange.imported_curves import read_curves
from avser.roi.report.table_markdown import tables_markdown
from avser.structures import AUDIO, VIDEO, Curve
from avser.training.checkpoint import write_json, write_text
from tools import tell


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = _parser().parse_args(given)
    try:
        voice, face, notes = collect_sides(args)
        study = compare(voice, face, num_permutations=args.permutations, seed=args.seed)
        study.notes += notes
        write_study(
            study, voice if voice.rows else face, args.out, f"python -m tools.compare_curves {shlex.join(given)}"
        )
    except AvserError as error:
        return tell(error)
    for sentence in describe_alignment(study):
        print(sentence)
    for table in alignment_tables(study):
        print_table(table)
    print(f"tables: {args.out / 'alignment.md'}")
    return 0


def collect_sides(args: argparse.Namespace) -> tuple[CollectedCurves, CollectedCurves, list[str]]:
    """Curves of the voice and of the face, and what to know when reading them.

    Raises:
        ConfigError: a side is given twice or not at all, or neither has runs, which say what the clips are.
    """
    for side, runs, files in (("voice", args.voice, args.voice_curves), ("face", args.face, args.face_curves)):
        if bool(runs) == bool(files):
            raise ConfigError(f"the {side}: give either runs (--{side}) or files of curves (--{side}-curves)")
    if not args.voice and not args.face:
        raise ConfigError("give runs on one side at least: their manifest says what the clips are")
    sides = {
        AUDIO: collect_curves(args.voice, AUDIO, salience=args.salience),
        VIDEO: collect_curves(args.face, VIDEO, salience=args.salience),
    }
    known = sides[AUDIO] if args.voice else sides[VIDEO]
    notes = [note for side in sides.values() for note in side.notes]
    for modality, files in ((AUDIO, args.voice_curves), (VIDEO, args.face_curves)):
        if files:
            imported = read_curves(
                files,
                frame_rate_hz=args.frame_rate,
                durations=known.durations_s,
                rename=args.rename,
                modality=None,
                ignore_unknown=True,
            )
            sides[modality].curves = imported.curves
            notes += [
                f"imported curves of the {'voice' if modality == AUDIO else 'face'}: {s}." for s in imported.summary()
            ]
    return sides[AUDIO], sides[VIDEO], notes


def compare(voice: CollectedCurves, face: CollectedCurves, *, num_permutations: int, seed: int) -> AlignmentStudy:
    """The clips that both sides have; loudness and "mid-clip" are what partial correlations take out.

    Raises:
        AvserError: they share no clip that can be compared.
    """
    known = voice if voice.rows else face
    shared = [clip_id for clip_id in voice.curves if clip_id in face.curves]
    if not shared:
        raise AvserError(
            f"of {len(voice.curves)} clips with a voice and {len(face.curves)} with a face none has both; do the names "
            "agree? (--rename makes clip ids of other names)"
        )
    pairs = {clip_id: (voice.curves[clip_id], face.curves[clip_id]) for clip_id in shared}
    controls: dict[str, list[Curve]] = {}
    for clip_id, (one, other) in pairs.items():
        controls[clip_id] = [centre_prior(one, other)]
        if voice.loudness:
            controls[clip_id].append(voice.loudness[clip_id])
    study = study_alignment(
        pairs, known.rows, correct=known.correct, controls=controls, num_permutations=num_permutations, seed=seed
    )
    if lost := len(set(voice.curves) ^ set(face.curves)):
        study.notes.append(f"{lost} clips have a curve of one side only and are left out.")
    return study


def write_study(study: AlignmentStudy, known: CollectedCurves, out: Path, command: str) -> None:
    """alignment.md, alignment.json, and the measures of every clip in clips.csv."""
    words = "\n".join(f"- {sentence}" for sentence in describe_alignment(study))
    write_text(out / "alignment.md", f"Made by `{command}`.\n\n{words}\n\n{tables_markdown(alignment_tables(study))}")
    write_json(out / "alignment.json", {"command": command, **study.to_dict()})
    with (out / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, (clip_id, found) in enumerate(study.clips.items()):
            row, values = known.rows[clip_id], asdict(found)
            if number == 0:
                writer.writerow(["clip_id", "speaker", "emotion", "correct", *values])
            numbers = ("" if v is None else f"{v:.5g}" for v in values.values())
            writer.writerow([clip_id, row.speaker, row.emotion, known.correct[clip_id], *numbers])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for side in ("voice", "face"):
        parser.add_argument(f"--{side}", nargs="+", type=Path, default=[], metavar="RUN", help="one run a fold")
        parser.add_argument(f"--{side}-curves", nargs="+", type=Path, default=[], metavar="CSV")
    parser.add_argument("--salience", default="auto", help="of the runs, see `avser roi --help`; default: %(default)s")
    parser.add_argument("--frame-rate", type=float, metavar="FPS", help="of imported curves without times")
    parser.add_argument("--rename", metavar="REGEX", help="its first group makes a clip id of a name in the files")
    parser.add_argument("--permutations", type=int, default=9999, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
