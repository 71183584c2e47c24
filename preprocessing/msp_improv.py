"""MSP-IMPROV (Busso et al. 2017): 8438 turns of 12 actors in 6 dyads, with human votes.

    python -m preprocessing.msp_improv --raw DIR --out msp_improv.csv [--types RT] [--unlabelled]

A file is named MSP-IMPROV-S<sentence><emotion>-<speaker>-<type>-<dyad><turn>; the types are T (a target sentence,
improvised), R (the same sentence, read), S (the other turns of an improvised scene) and P (talk between the scenes).
`emotion` is what most raters perceived, not what the name says was asked for; `sentence` is known for T and R only,
where the words are fixed (in S and P the number tells the scene).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from statistics import fmean

from avser.data.manifest import ClipRow
from preprocessing.adapter import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    CorpusReport,
    Expected,
    LeftOut,
    build_parser,
    compare_counts,
    find_file,
    find_media,
    first_of,
    run_adapter,
)

EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
WITHOUT_EMOTION = {"X": "the raters did not agree on one emotion", "O": "most raters said 'other'"}
VOTE_WORDS = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
TYPES = {"T": 640, "R": 578, "S": 3940, "P": 2640}  # clips with one of the four emotions

NAME = re.compile(r"(?:MSP|UTD)-IMPROV-(S(?:0[1-9]|1\d|20)[AHNS]-([FM]0[1-6])-([PRST])-[FM]{2}\d+)")
RATING = r"\s*(\d{1,3}(?:\.\d+)?|NaN)\s*"
EVALUATION = re.compile(rf"({NAME.pattern})\.avi;\s*([A-Z])\s*;\s*A:{RATING};\s*V:{RATING};\s*D:{RATING};.*")
VOTE = re.compile(r"([\w-]+)\s*;\s*([A-Za-z]+)\s*;.*\bA:.*")

SPEAKERS = [f"{letter}0{session}" for session in range(1, 7) for letter in "FM"]
EXPECTED = Expected(
    7798,
    SPEAKERS,
    {"anger": 792, "happiness": 2644, "neutral": 3477, "sadness": 885},
    {"female": 6, "male": 6},
)


@dataclass
class Evaluation:
    """What Evaluation.txt says of one clip: the letter of its emotion, means of the ratings, one word a rater."""

    emotion: str
    valence: float | None
    activation: float | None
    dominance: float | None
    votes: dict[str, str] = field(default_factory=dict)  # rater -> emotion, or "" for other


def read_corpus(raw: Path, *, types: Collection[str] = "TRSP", unlabelled: bool = False) -> CorpusReport:
    """Every clip below `raw` that Evaluation.txt labels.

    Args:
        types: letters of the kinds of recording to take.
        unlabelled: keep the clips that have no emotion; theirs stays empty.

    Raises:
        ManifestError: `raw` is no folder.
    """
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _name_of)
    report = CorpusReport(left_out=list(files.left_out))
    labels = _read_evaluations(raw, report)
    for name in sorted({*labels, *files.by_name}):
        kind = name.split("-")[2]
        clip_id, label = f"MSP-IMPROV-{name}", labels.get(name)
        if kind not in types:
            report.left_out.append(LeftOut(clip_id, "unwanted", f"type {kind}, and --types is {''.join(types)}"))
        elif label is None:
            report.left_out.append(LeftOut(clip_id, "unlabelled", "Evaluation.txt does not name it"))
        elif label.emotion not in EMOTIONS and not unlabelled:
            reason = f"{label.emotion}: {WITHOUT_EMOTION[label.emotion]}; --unlabelled keeps it"
            report.left_out.append(LeftOut(clip_id, "unlabelled", reason))
        elif name not in files.by_name:
            report.left_out.append(LeftOut(clip_id, "missing", "no file of it"))
        else:
            report.rows.append(_row(name, label, files.by_name[name]))
    report.notes += _describe(report.rows, types, unlabelled)
    return report


def _name_of(path: PurePosixPath) -> str | None:
    match = NAME.fullmatch(path.stem)
    return match[1] if match else None


def _row(name: str, label: Evaluation, copies: dict[str, str]) -> ClipRow:
    scene, speaker, kind, _ = name.split("-")
    votes = Counter(emotion for emotion in label.votes.values() if emotion)
    return ClipRow(
        f"MSP-IMPROV-{name}",
        "msp_improv",
        speaker=speaker,
        emotion=EMOTIONS.get(label.emotion, ""),
        audio=first_of(copies, AUDIO_SUFFIXES + VIDEO_SUFFIXES),
        video=first_of(copies, VIDEO_SUFFIXES),
        sex="female" if speaker[0] == "F" else "male",
        sentence=scene[:3] if kind in "TR" else "",
        session=f"session{int(speaker[1:])}",
        votes_av=json.dumps({emotion: votes[emotion] for emotion in EMOTIONS.values()}) if votes else "",
        valence=label.valence,
        activation=label.activation,
        dominance=label.dominance,
    )


def _describe(rows: Sequence[ClipRow], types: Collection[str], unlabelled: bool) -> list[str]:
    """Counts against the literature's, and which way the corpus counts activation."""
    complete = set(types) == set(TYPES) and not unlabelled
    notes = compare_counts(rows, EXPECTED) if complete else [f"found {len(rows)} clips as asked for"]
    of_type = Counter(row.clip_id.split("-")[4] for row in rows if row.emotion)
    notes.append(
        f"with an emotion, by type: {', '.join(f'{t} {of_type[t]} of {n}' for t, n in TYPES.items() if t in types)}"
    )
    means = {
        emotion: fmean(found)
        for emotion in ("anger", "sadness")
        if (found := [row.activation for row in rows if row.emotion == emotion and row.activation is not None])
    }
    if len(means) == 2 and means["anger"] < means["sadness"]:
        notes.append(
            f"activation counts downwards (anger {means['anger']:.1f}, sadness {means['sadness']:.1f} on average: 1 is "
            "active, 5 is calm) and is kept so; take 6 - activation beside other corpora"
        )
    return notes


# --- Evaluation.txt ----------------------------------------------------------------------------------------------


def _read_evaluations(raw: Path, report: CorpusReport) -> dict[str, Evaluation]:
    """Clip's name -> evaluation: a line for the clip, then one a rater. Lines not understood are listed."""
    path = find_file(raw, "Evaluation.txt") or find_file(raw, "Evalution.txt")
    if path is None:
        report.notes.append("Evaluation.txt is not there: without it nothing is labelled")
        return {}
    labels: dict[str, Evaluation] = {}
    current: Evaluation | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        where = f"{path.name}, line {number}"
        if line.startswith(("UTD-", "MSP-")):
            match = EVALUATION.fullmatch(line.strip())
            current = _evaluation(match) if match else None
            if match is None or current is None:
                report.left_out.append(LeftOut(where, "bad", f"not understood: {line.strip()[:80]!r}"))
            elif match[2] in labels:
                report.left_out.append(LeftOut(where, "double", f"{match[2]} stands above already; the first counts"))
            else:
                labels[match[2]] = current
        elif match := VOTE.fullmatch(line.strip()):
            if current:  # some raters stand there twice with the same answer: it counts once
                current.votes.setdefault(match[1], VOTE_WORDS.get(match[2].lower(), ""))
        elif line.strip():
            report.left_out.append(LeftOut(where, "bad", f"not understood: {line.strip()[:80]!r}"))
    return labels


def _evaluation(match: re.Match[str]) -> Evaluation | None:
    """Ratings stand in the order activation, valence, dominance."""
    if match[5] not in {*EMOTIONS, *WITHOUT_EMOTION}:
        return None
    activation, valence, dominance = (None if text == "NaN" else float(text) for text in match.group(6, 7, 8))
    return Evaluation(match[5], valence, activation, dominance)


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("msp_improv", "Write the manifest of MSP-IMPROV.")
    parser.add_argument("--types", default="TRSP", metavar="LETTERS", help="kinds of recording; default: TRSP, all")
    parser.add_argument("--unlabelled", action="store_true", help="keep clips without an emotion (X, O)")
    options = parser.parse_args(arguments)
    if not options.types or set(options.types) - set(TYPES):
        parser.error(f"--types {options.types}: letters out of {''.join(TYPES)}, e.g. RT")
    reader = partial(read_corpus, types=options.types, unlabelled=options.unlabelled)
    return run_adapter(reader, options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
