"""Examine a whole corpus in several processes, judge it, and write `doctor.json`.

doctor.json
    format_version, manifest, num_clips, settings
    summary     verdict, counts of faults and warnings, and of the findings of every code
    kinds       code -> severity, title, advice, of every code that was found
    limits      name -> value, unit, why
    findings    severity, code, clip_id, column, file, sentence: faults first, then by code, then as in the manifest
    clips       clip_id, duration_s, files, voice, face ...: what was measured, in the order of the manifest
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avser.config import Config, MediaConfig
from avser.data.manifest import PATHS, Manifest
from avser.data.parallel import map_chunks
from avser.data.progress import with_progress
from avser.errors import ConfigError
from preprocessing.doctor.clip_rules import judge_clip
from preprocessing.doctor.corpus_rules import judge_corpus
from preprocessing.doctor.examine import ClipFacts, Job, crashed, examine_chunk
from preprocessing.doctor.face import build_finder
from preprocessing.doctor.findings import KINDS, LIMITS, Finding

FORMAT_VERSION = 1
CHUNK_SIZE = 8  # clips that a worker takes at once: few enough for a live progress bar
DIGITS = 5  # of measured numbers in the JSON file


@dataclass
class Diagnosis:
    """What was found in a corpus.

    Attributes:
        settings: what the measurements depend on.
        clips: one a row of the manifest, in its order.
        findings: faults first, then by code in the order of `KINDS`, then in the order of the manifest.
        thumbnails: clip id -> a small JPEG; only of clips with a picture.
    """

    manifest: Manifest
    settings: dict[str, Any]
    clips: list[ClipFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    thumbnails: dict[str, bytes] = field(default_factory=dict)

    @property
    def num_faults(self) -> int:
        return sum(finding.severity == "fault" for finding in self.findings)

    @property
    def num_warnings(self) -> int:
        return len(self.findings) - self.num_faults

    @property
    def verdict(self) -> str:
        """E.g. "1440 clips: 3 faults, 1 warning"."""
        counts = ((self.num_faults, "fault"), (self.num_warnings, "warning"))
        words = [f"{num or 'no'} {word}{'' if num == 1 else 's'}" for num, word in counts]
        return f"{len(self.clips)} clip{'' if len(self.clips) == 1 else 's'}: {', '.join(words)}"


def examine_corpus(
    manifest: Manifest, config: Config, *, workers: int = 2, face_fps: float = 3.0, progress: bool = True
) -> Diagnosis:
    """Measure every clip and judge it.

    A face model that is missing is one finding on the corpus; the rest is examined without faces.

    Args:
        config: `media` says how faces are found and what is asked of the voice, `data` how long a clip may be.
        workers: processes; with one, a crash of a decoder ends this process.
        face_fps: frames a second in which faces are looked for.
        progress: show a bar on stderr.
    """
    media, missing_model = _without_missing_model(manifest, config.media)
    settings: dict[str, Any] = {"face_fps": face_fps, "max_duration_s": config.data.max_duration_s}
    settings["media"] = asdict(media)
    del settings["media"]["faces"]["model"]  # a path on this machine
    diagnosis = Diagnosis(manifest, settings)
    digests = _of_equal_size(manifest)
    jobs = [Job(row, manifest.root, media, digests, face_fps) for row in manifest.rows]
    results = map_chunks(examine_chunk, jobs, workers=workers, chunk_size=CHUNK_SIZE, on_crash=crashed)
    facts: dict[str, ClipFacts] = {}
    for clip, thumbnail in with_progress(results, len(jobs), verb="examining", shown=progress):
        facts[clip.clip_id] = clip
        if thumbnail:
            diagnosis.thumbnails[clip.clip_id] = thumbnail
    diagnosis.clips = [facts[row.clip_id] for row in manifest.rows]
    findings = [found for row in manifest.rows for found in judge_clip(row, facts[row.clip_id], config)]
    diagnosis.findings = _in_order([*missing_model, *findings, *judge_corpus(manifest.rows, facts)], manifest)
    return diagnosis


def write_diagnosis(diagnosis: Diagnosis, path: Path) -> None:
    """Write `doctor.json`, strict JSON (no NaN), the same for the same corpus however many processes looked at it."""
    counts = Counter(finding.code for finding in diagnosis.findings)
    about = {
        "format_version": FORMAT_VERSION,
        "manifest": {"folder": str(diagnosis.manifest.root), "num_clips": len(diagnosis.clips)},
        "settings": diagnosis.settings,
        "summary": {
            "verdict": diagnosis.verdict,
            "num_faults": diagnosis.num_faults,
            "num_warnings": diagnosis.num_warnings,
            "findings_by_code": {code: counts[code] for code in KINDS if code in counts},
        },
        "kinds": {code: asdict(kind) for code, kind in KINDS.items() if code in counts},
        "limits": {name: asdict(limit) for name, limit in LIMITS.items()},
        "findings": [{"severity": finding.severity, **asdict(finding)} for finding in diagnosis.findings],
        "clips": [asdict(clip) for clip in diagnosis.clips],
    }
    path.write_text(json.dumps(_plain(about), indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")


def _without_missing_model(manifest: Manifest, media: MediaConfig) -> tuple[MediaConfig, list[Finding]]:
    """The settings, without faces where their model cannot be used; and the finding that says why."""
    if not any(row.video for row in manifest.rows):
        return media, []
    try:
        build_finder(media)
    except ConfigError as error:
        without = replace(media, faces=replace(media.faces, tracker="none"))
        return without, [Finding("no_face_model", "", "video", "", str(error))]
    return media, []


def _of_equal_size(manifest: Manifest) -> frozenset[str]:
    """Files that may be copies of each other: only those are read to the end for it."""
    by_size: dict[int, set[str]] = {}
    for name in {getattr(row, column) for row in manifest.rows for column in PATHS} - {""}:
        try:
            by_size.setdefault((manifest.root / name).stat().st_size, set()).add(name)
        except OSError:  # what is missing is found missing later
            continue
    return frozenset(name for names in by_size.values() if len(names) > 1 for name in names)


def _in_order(findings: Iterable[Finding], manifest: Manifest) -> list[Finding]:
    codes = {code: number for number, code in enumerate(KINDS)}
    places = {row.clip_id: number for number, row in enumerate(manifest.rows)}
    return sorted(findings, key=lambda f: (f.severity != "fault", codes[f.code], places.get(f.clip_id, -1)))


def _plain(value: Any) -> Any:
    """The same value for JSON: numbers rounded, what is no number None, text without lone surrogates."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
