"""IEMOCAP (Busso et al. 2008): 10039 turns of 10 actors in improvised and scripted dialogues, with human votes.

    python -m preprocessing.iemocap --raw DIR --out iemocap.csv [--improvised] [--unlabelled] [--voice-only]

Takes the full release (dialog/EmoEvaluation, dialog/avi, dialog/wav, sentences/wav), mirrors without the pictures, and
flattened copies. Labels come from EmoEvaluation, and the speaker from the turn (Ses01F_impro01_M003 is said by the
man): the letter of the recording only tells who wears the markers. A dialogue's picture shows both people side by
side, the one with the markers on the left (the rule of MERBench, `toolkit/preprocess/iemocap.py`): see `side`.

One start and one end cut both files of a row. Where the dialogue's picture is there, the sound is therefore cut from
the dialogue too (its WAV, else the sound of the avi), and not taken from the turn's own WAV.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from avser.data.manifest import ClipRow
from preprocessing.adapter import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    CorpusReport,
    Expected,
    LeftOut,
    build_parser,
    compare_counts,
    find_media,
    first_of,
    run_adapter,
)

EMOTIONS = {
    "ang": "anger",
    "hap": "happiness",
    "sad": "sadness",
    "neu": "neutral",
    "exc": "excitement",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
}
WITHOUT_EMOTION = {"xxx": "the raters did not agree on one emotion", "oth": "the raters agreed on 'other'"}
VOTE_WORDS = {"excited": "excitement", "neutral state": "neutral"} | {word: word for word in EMOTIONS.values()}

RECORDING = re.compile(r"Ses0[1-5][FM]_(?:impro\d\d[a-z]?|script\d\d_\d[a-z]?)")
TURN = re.compile(rf"({RECORDING.pattern})_([FM])(?:XX)?\d+")
NUMBER = r"\s*(-?\d{1,6}(?:\.\d+)?)\s*"
EVALUATION = re.compile(rf"\[{NUMBER}-{NUMBER}\]\s+(\S+)\s+(\S+)\s+\[{NUMBER},{NUMBER},{NUMBER}\]\s*")
VOTE = re.compile(r"C-E\d+:\s*([^()]*)")  # C-F1 and C-M1 are the actors on themselves: no perception, so no vote
SPOKEN = re.compile(rf"({TURN.pattern})\s*\[[^\]]*\]:?\s*(.*)")

COUNTS = [1103, 595, 1084, 1708, 1041, 1849, 40, 107, 2]  # in the order of EMOTIONS
SPEAKERS = [f"{session}{letter}" for session in range(1, 6) for letter in "FM"]
EXPECTED = Expected(sum(COUNTS), SPEAKERS, dict(zip(EMOTIONS.values(), COUNTS, strict=True)), {"female": 5, "male": 5})
FOUR_CLASSES = ("anger", "happiness", "excitement", "sadness", "neutral")
FOUR_CLASS_SESSIONS = {"session1": 1085, "session2": 1023, "session3": 1151, "session4": 1031, "session5": 1241}

# The avi ends before these turns do (found by AV-SUPERB, `IEMOCAP_preprocess.py`).
BEYOND_THE_PICTURE = set(
    """
    Ses01F_impro04_M036 Ses01F_script02_1_M044 Ses01F_script03_1_F031 Ses01M_impro02_F021 Ses01M_impro04_M025
    Ses01M_script02_1_F024 Ses02F_script01_1_F044 Ses02F_script01_2_M018 Ses02F_script02_2_M046
    Ses02M_script02_2_F046 Ses03F_impro01_F011 Ses03F_impro01_M011 Ses03F_impro06_FXX1 Ses03M_impro04_M041
    Ses03M_impro07_F023 Ses03M_impro07_M026 Ses04F_impro05_M024 Ses04M_script02_1_F021
    """.split()
)


@dataclass
class Turn:
    """What EmoEvaluation says of one turn: `emotion` is the corpus's code; times count from the dialogue's start."""

    name: str
    recording: str
    emotion: str
    start_s: float
    end_s: float
    ratings: tuple[float, float, float]  # valence, activation, dominance, 1 to 5
    votes: Counter[str] = field(default_factory=Counter)


def read_corpus(
    raw: Path, *, improvised: bool = False, unlabelled: bool = False, voice_only: bool = False
) -> CorpusReport:
    """Every turn below `raw` that EmoEvaluation labels.

    Args:
        improvised: leave the scripted dialogues out.
        unlabelled: keep the turns that have no emotion; theirs stays empty.
        voice_only: no pictures; the sound comes from the turn's own WAV where there is one.

    Raises:
        ManifestError: `raw` is no folder.
    """
    report = CorpusReport()
    turns, sentences = _read_texts(raw, report)
    files = find_media(raw, AUDIO_SUFFIXES + VIDEO_SUFFIXES, _name_of)
    report.left_out += files.left_out
    for name, turn in sorted(turns.items()):
        if improvised and "_script" in name:
            report.left_out.append(LeftOut(name, "unwanted", "scripted, and --improvised is set"))
        elif turn.emotion in WITHOUT_EMOTION and not unlabelled:
            reason = f"{turn.emotion}: {WITHOUT_EMOTION[turn.emotion]}; --unlabelled keeps it"
            report.left_out.append(LeftOut(name, "unlabelled", reason))
        elif not (media := _media_of(turn, files.by_name, voice_only, report.left_out)):
            report.left_out.append(LeftOut(name, "missing", "neither sound nor picture of it"))
        else:
            report.rows.append(_row(turn, media, sentences.get(name, "")))
    report.left_out += _without_evaluation(files.by_name, turns)
    report.notes += _describe(report.rows, complete=not (improvised or unlabelled))
    return report


def _name_of(path: PurePosixPath) -> str | None:
    return path.stem if TURN.fullmatch(path.stem) or RECORDING.fullmatch(path.stem) else None


def _media_of(
    turn: Turn, files: Mapping[str, dict[str, str]], voice_only: bool, left_out: list[LeftOut]
) -> dict[str, str | float]:
    """The columns audio, video, side, start_s and end_s of a turn, as far as there are files; empty without any."""
    own, dialogue = files.get(turn.name, {}), files.get(turn.recording, {})
    times = {"start_s": turn.start_s, "end_s": turn.end_s}
    side = "left" if TURN.fullmatch(turn.name)[2] == turn.recording[5] else "right"  # type: ignore[index]
    if not voice_only and (video := first_of(own, VIDEO_SUFFIXES)):
        return {"audio": first_of(own, AUDIO_SUFFIXES) or video, "video": video, "side": side}
    if video := first_of(dialogue, VIDEO_SUFFIXES):
        if turn.name in BEYOND_THE_PICTURE:
            left_out.append(LeftOut(turn.name, "bad", f"{video} ends before this turn: no picture of it"))
            dialogue = {suffix: path for suffix, path in dialogue.items() if suffix in AUDIO_SUFFIXES}
        elif not voice_only:
            return {"audio": first_of(dialogue, AUDIO_SUFFIXES) or video, "video": video, "side": side, **times}
    if audio := first_of(own, AUDIO_SUFFIXES + VIDEO_SUFFIXES):
        return {"audio": audio}
    if audio := first_of(dialogue, AUDIO_SUFFIXES + VIDEO_SUFFIXES):
        return {"audio": audio, **times}
    return {}


def _row(turn: Turn, media: dict[str, str | float], sentence: str) -> ClipRow:
    letter = TURN.fullmatch(turn.name)[2]  # type: ignore[index]
    valence, activation, dominance = turn.ratings
    return ClipRow(
        turn.name,
        "iemocap",
        speaker=turn.name[4] + letter,
        emotion=EMOTIONS.get(turn.emotion, ""),
        sex="female" if letter == "F" else "male",
        sentence=sentence,
        session=f"session{turn.name[4]}",
        votes_av=json.dumps({e: turn.votes[e] for e in EMOTIONS.values()}) if turn.votes else "",
        valence=valence,
        activation=activation,
        dominance=dominance,
        **media,  # type: ignore[arg-type]
    )


def _without_evaluation(files: Mapping[str, dict[str, str]], turns: Mapping[str, Turn]) -> Iterator[LeftOut]:
    """Turns and dialogues that there are files of, and that no EmoEvaluation names."""
    recordings = {turn.recording for turn in turns.values()}
    for name, copies in sorted(files.items()):
        if TURN.fullmatch(name) and name not in turns:
            yield LeftOut(next(iter(copies.values())), "foreign", "no line of EmoEvaluation names this turn")
        elif RECORDING.fullmatch(name) and name not in recordings:
            yield LeftOut(name, "missing", f"no EmoEvaluation/{name}.txt says when its turns are and what they hold")


def _describe(rows: list[ClipRow], *, complete: bool) -> list[str]:
    """Counts against the literature's (only for a complete corpus), and where sound and picture come from."""
    notes = compare_counts(rows, EXPECTED) if complete else [f"found {len(rows)} turns as asked for"]
    if complete and rows:
        found = Counter(row.session for row in rows if row.emotion in FOUR_CLASSES)
        sessions = ", ".join(f"{session} {found[session]} of {n}" for session, n in FOUR_CLASS_SESSIONS.items())
        notes.append(f"four classes, excitement as happiness: {found.total()} of 5531; {sessions}")
    if borrowed := sum(row.audio == row.video for row in rows):
        notes.append(f"{borrowed} turns take their sound from the file of the picture, for no WAV of it is there")
    if cut := sum(bool(row.video) and row.start_s is None for row in rows):
        notes.append(
            f"{cut} turns have a picture file of their own; it is taken to show both people. Where yours show one, "
            "empty the column `side`"
        )
    return notes


# --- the corpus's texts ------------------------------------------------------------------------------------------


def _read_texts(raw: Path, report: CorpusReport) -> tuple[dict[str, Turn], dict[str, str]]:
    """Turns by name, and what is said in them. Both kinds of file are named like the dialogue; their lines differ."""
    texts = find_media(raw, (".txt",), lambda path: str(path) if RECORDING.fullmatch(path.stem) else None)
    report.left_out += [entry for entry in texts.left_out if entry.kind != "foreign"]
    turns: dict[str, Turn] = {}
    sentences: dict[str, str] = {}
    for path in texts.by_name:
        lines = (raw / path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        found = _turns(lines, path, report.left_out)
        if again := [turn for turn in found if turn.name in turns]:
            num_others = sum(turn != turns[turn.name] for turn in again)
            reason = (
                f"{len(again)} of its turns are labelled already, {num_others} of them differently; the first counts"
            )
            report.left_out.append(LeftOut(path, "double", reason))
        turns = {turn.name: turn for turn in found} | turns
        spoken = (SPOKEN.fullmatch(line.strip()) for line in lines)
        sentences = {match[1]: match[4].strip() for match in spoken if match} | sentences
    if not turns:
        report.notes.append("no EmoEvaluation/Ses*.txt with labels was found; without them nothing is labelled")
    elif not sentences:
        report.notes.append("dialog/transcriptions is not there: `sentence` stays empty")
    return turns, sentences


def _turns(lines: list[str], path: str, left_out: list[LeftOut]) -> list[Turn]:
    """The turns of one EmoEvaluation file; lines that cannot be understood are listed."""
    turns: list[Turn] = []
    votes = Counter[str]()
    for number, line in enumerate(lines, start=1):
        if line.startswith("["):
            turn = _turn(line)
            votes = turn.votes if turn else Counter()
            if turn:
                turns.append(turn)
            else:
                left_out.append(LeftOut(f"{path}, line {number}", "bad", f"not understood: {line.strip()[:80]!r}"))
        elif match := VOTE.match(line):
            words = (VOTE_WORDS.get(word.strip().lower(), "") for word in match[1].split(";"))
            votes.update(word for word in words if word)
    return turns


def _turn(line: str) -> Turn | None:
    """A turn without its votes from "[start - end] name emotion [valence, activation, dominance]"."""
    match = EVALUATION.fullmatch(line)
    name = TURN.fullmatch(match[3]) if match else None
    if match is None or name is None or match[4] not in {*EMOTIONS, *WITHOUT_EMOTION}:
        return None
    start_s, end_s, *ratings = (float(match[i]) for i in (1, 2, 5, 6, 7))
    if not 0 <= start_s < end_s:
        return None
    return Turn(match[3], name[1], match[4], start_s, end_s, tuple(ratings))  # type: ignore[arg-type]


def main(arguments: list[str] | None = None) -> int:
    """The door: parse, read, write, print."""
    parser = build_parser("iemocap", "Write the manifest of IEMOCAP.")
    parser.add_argument("--improvised", action="store_true", help="leave the scripted dialogues out")
    parser.add_argument("--unlabelled", action="store_true", help="keep turns without an emotion (xxx, oth)")
    parser.add_argument("--voice-only", action="store_true", help="no pictures; take each turn's own WAV")
    options = parser.parse_args(arguments)
    choices = {name: getattr(options, name) for name in ("improvised", "unlabelled", "voice_only")}
    return run_adapter(partial(read_corpus, **choices), options.raw, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
