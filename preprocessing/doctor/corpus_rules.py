"""Findings that only show across clips: copies, odd lengths and formats, and what the manifest itself tells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from avser.data.manifest import ClipRow
from preprocessing.doctor.container import TrackFacts
from preprocessing.doctor.examine import ClipFacts
from preprocessing.doctor.findings import LIMITS, Finding, below, exceeds

MIN_CLIPS = 20  # a corpus must have, before one of its clips can be unlike the others
MAX_NAMED = 8  # speakers that one sentence names


def judge_corpus(rows: Sequence[ClipRow], facts: Mapping[str, ClipFacts]) -> list[Finding]:
    """The findings that need more than one clip.

    Args:
        facts: by clip id, of every row.
    """
    found = list(_copies(rows, facts))
    by_corpus: dict[str, list[ClipRow]] = defaultdict(list)
    for row in rows:
        by_corpus[row.corpus].append(row)
    for members in by_corpus.values():
        if len(members) >= MIN_CLIPS:
            found += _odd_durations(members, facts)
            found += _odd_formats(members, facts)
    return found + [Finding(code, "", column, "", text) for code, column, text in _manifest_findings(rows)]


def _copies(rows: Sequence[ClipRow], facts: Mapping[str, ClipFacts]) -> Iterator[Finding]:
    """A file with the bytes of another clip's, or the same part of one file under two clips."""
    first: dict[tuple, tuple[ClipRow, str]] = {}
    for row in rows:
        for column, file in facts[row.clip_id].files.items():
            if file.problem or column == "face_features":
                continue
            side = row.side if column == "video" else ""
            key = (file.sha256 or file.path, row.start_s, row.end_s, side)
            other, path = first.setdefault(key, (row, file.path))
            if other.clip_id == row.clip_id:
                continue
            who = {"speaker": (other.speaker, row.speaker), "emotion": (other.emotion, row.emotion)}
            differences = [
                f"{name} {theirs!r} there, {ours!r} here" for name, (theirs, ours) in who.items() if theirs != ours
            ]
            what = "the same file as" if path == file.path else f"the same bytes as {path} of"
            sentence = f"{what} clip {other.clip_id}" + (f": {', '.join(differences)}" if differences else "")
            yield Finding(
                "duplicate_conflict" if differences else "duplicate", row.clip_id, column, file.path, sentence
            )
            break  # both columns may name the same file


def _odd_durations(rows: Sequence[ClipRow], facts: Mapping[str, ClipFacts]) -> Iterator[Finding]:
    """Robust z scores of log durations: median and median deviation, which a few wild clips do not move."""
    known = {row.clip_id: seconds for row in rows if (seconds := facts[row.clip_id].duration_s)}
    if len(known) < MIN_CLIPS:
        return
    logs = np.log(list(known.values()))
    median = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - median))), 1e-6)  # as a normal one's standard deviation
    for clip_id, log in zip(known, logs.tolist(), strict=True):
        ratio, z = float(np.exp(abs(log - median))), abs(log - median) / spread
        if exceeds("duration_z", z) and exceeds("duration_ratio", ratio):
            sentence = (
                f"lasts {known[clip_id]:.2f} s, the median is {np.exp(median):.2f} s: {ratio:.1f} times "
                f"{'longer' if log > median else 'shorter'} (from {LIMITS['duration_ratio'].value:g} times and a "
                f"robust z of {LIMITS['duration_z'].value:g} on; z = {z:.1f})"
            )
            yield Finding("duration_outlier", clip_id, "", "", sentence)


def _odd_formats(rows: Sequence[ClipRow], facts: Mapping[str, ClipFacts]) -> Iterator[Finding]:
    """Files of a format that nearly nothing else in the corpus has."""
    formats: dict[str, dict[str, str]] = {"audio": {}, "video": {}}
    for row in rows:
        for column, track in facts[row.clip_id].tracks():
            formats[column][row.clip_id] = describe_format(track)
    for column, by_clip in formats.items():
        counts = Counter(by_clip.values())
        if len(by_clip) < MIN_CLIPS or len(counts) < 2:
            continue
        (usual, num_usual), *_ = counts.most_common()
        for clip_id, name in by_clip.items():
            if below("odd_format", counts[name] / len(by_clip)):
                sentence = f"{name}, as {counts[name]} of {len(by_clip)}; {num_usual} are {usual}"
                yield Finding("odd_format", clip_id, column, facts[clip_id].files[column].path, sentence)


def describe_format(track: TrackFacts) -> str:
    """E.g. "flac 16000 Hz mono" or "h264 640x360 30 fps"."""
    if track.sample_rate_hz is not None:
        channels = {1: "mono", 2: "stereo"}.get(track.num_channels or 0, f"{track.num_channels} channels")
        return f"{track.codec} {track.sample_rate_hz} Hz {channels}"
    rate = "" if track.fps is None else f" {track.fps:.3g} fps"
    return f"{track.codec} {track.width_px}x{track.height_px}{rate}"


def _manifest_findings(rows: Sequence[ClipRow]) -> Iterator[tuple[str, str, str]]:
    """(code, column, sentence) of what needs no file."""
    by_speaker: dict[str, list[ClipRow]] = defaultdict(list)
    for row in rows:
        by_speaker[row.speaker if len({r.corpus for r in rows}) == 1 else f"{row.corpus}/{row.speaker}"].append(row)
    if num := sum(not row.emotion for row in rows):
        yield "no_emotion", "emotion", f"{num} of {len(rows)} clips"
    emotions = Counter(row.emotion for row in rows if row.emotion)
    lonely = [name for name, clips in by_speaker.items() if len({row.emotion for row in clips}) == 1]
    if lonely and len(emotions) > 1:
        yield "one_emotion", "speaker", f"{len(lonely)} of {len(by_speaker)} speakers: {_named(lonely)}"
    median = float(np.median([len(clips) for clips in by_speaker.values()]))
    few = [name for name, clips in by_speaker.items() if below("speaker_clips", len(clips) / median)]
    if few:
        yield "few_clips", "speaker", f"{len(few)} of {len(by_speaker)} speakers (median {median:g}): {_named(few)}"
    if unknown := [name for name, clips in by_speaker.items() if not any(row.sex for row in clips)]:
        yield "no_sex", "sex", f"{len(unknown)} of {len(by_speaker)} speakers: {_named(unknown)}"
    if two := [name for name, clips in by_speaker.items() if len({row.sex for row in clips if row.sex}) > 1]:
        yield "two_sexes", "sex", f"{len(two)} of {len(by_speaker)} speakers: {_named(two)}"
    if len(rows) >= MIN_CLIPS and emotions:
        ordered = emotions.most_common()
        (most, num_most), (least, num_least) = ordered[0], ordered[-1]
        if exceeds("lopsided", num_most / num_least):
            limit = LIMITS["lopsided"].value
            yield "lopsided", "emotion", f"{most} {num_most} clips, {least} {num_least} (more than {limit:g} times)"


def _named(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
