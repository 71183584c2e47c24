"""A recording's answer as files for other programs: WebVTT, TextGrid, ELAN, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from avser.errors import ConfigError
from avser.recordings.result import Recording, Row, Stretch, describe_recording
from avser.roi.exchange.tiers import ClipRegions, eaf, one_line, textgrid

CSV_COLUMNS = ("clip", "start_s", "end_s", "face", "speaks", "leads", "emotion", "share")


def check_formats(formats: Iterable[str]) -> list[str]:
    """The formats asked for, each once; one text may name several with commas between them.

    Raises:
        ConfigError: an unknown one.
    """
    named = list(dict.fromkeys(name.strip() for text in formats for name in text.split(",") if name.strip()))
    if unknown := [name for name in named if name not in SUFFIX_OF]:
        raise ConfigError(f"--export {unknown[0]}: allowed are {', '.join(SUFFIX_OF)}")
    return named


def write_exports(recording: Recording, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write one file a format into a folder; the paths.

    Args:
        name: of the files, without suffix.
        formats: of `FORMATS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for format in formats:
        suffix, text_of = FORMATS[format]
        path = folder / f"{name}{suffix}"
        path.write_text(text_of(recording, folder), encoding="utf-8", newline="")
        written.append(path)
    return written


def to_csv(recording: Recording, *, header: bool = True) -> str:
    """One line for every face in every window, with the posterior of every emotion."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow([*CSV_COLUMNS, *recording.emotions, "voice_regions", "face_regions", "remark"])
    for row in recording.rows:
        writer.writerow(_cells(recording, row))
    return out.getvalue()


def to_json(recording: Recording) -> str:
    """One line: what is said of the whole, the timeline, and every window."""
    return json.dumps(describe_recording(recording), ensure_ascii=False) + "\n"


def to_vtt(recording: Recording) -> str:
    """Subtitles: the emotion and its share over each stretch of the timeline, with the face where there are several."""
    cues = ["WEBVTT\n"]
    for number, s in enumerate((s for s in recording.timeline if s.end_s - s.start_s >= 0.001), 1):
        who = f"face {s.face}: " if recording.faces and s.face is not None else ""
        said = s.remark if s.emotion is None else f"{s.emotion} {100 * s.probabilities[s.emotion]:.0f} %"
        text = one_line(f"{who}{said}").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{number}\n{_clock(s.start_s)} --> {_clock(s.end_s)}\n{text}\n")
    return "\n".join(cues)


def to_textgrid(recording: Recording) -> str:
    """For Praat: tiers of the emotion (of each face too, where there are several), and of the regions."""
    return textgrid(_document(recording))


def to_eaf(recording: Recording, folder: Path) -> str:
    """For ELAN: the same tiers, with the recording linked; `folder` is where the document will stand."""
    tree = eaf(_document(recording), folder)
    ElementTree.indent(tree, "    ")
    return ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True).decode() + "\n"


FORMATS: dict[str, tuple[str, Callable[[Recording, Path], str]]] = {
    "csv": (".csv", lambda recording, _: to_csv(recording)),
    "json": (".json", lambda recording, _: to_json(recording)),
    "textgrid": (".TextGrid", lambda recording, _: to_textgrid(recording)),
    "eaf": (".eaf", to_eaf),
    "vtt": (".vtt", lambda recording, _: to_vtt(recording)),
}


VIDEO_FORMAT = "mp4"  # drawn by `avser.recordings.drawing`
SUFFIX_OF = {**{name: suffix for name, (suffix, _) in FORMATS.items()}, VIDEO_FORMAT: "-answer.mp4"}


def _document(recording: Recording) -> ClipRegions:
    labels = {"emotion": _labels(recording.timeline)}
    labels |= {f"face {n}": _labels(found) for n, found in recording.faces.items()}
    summary = recording.summary
    inside = {m: [r for r in found if r.start_s < recording.duration_s - 0.001] for m, found in summary.regions.items()}
    return ClipRegions(recording.name, inside, recording.duration_s, media=recording.path, labels=labels)


def _labels(timeline: Sequence[Stretch]) -> list[tuple[float, float, str]]:
    return [
        (s.start_s, s.end_s, s.remark if s.emotion is None else f"{s.emotion} {s.probabilities[s.emotion]:.2f}")
        for s in timeline
    ]


def _cells(recording: Recording, row: Row) -> list[str]:
    prediction = row.prediction
    speaks = {True: "yes", False: "no", None: ""}[row.speaks]
    place = [recording.name, f"{row.start_s:.3f}", f"{row.end_s:.3f}", str(row.face or ""), speaks]
    leads = "yes" if row.leads else "no"
    if prediction is None:
        return [*place, leads, "", "", *[""] * len(recording.emotions), "", "", row.remark]
    shares = prediction.probabilities
    regions = [
        " ".join(f"{r.start_s:.2f}-{r.end_s:.2f}" for r in prediction.regions.get(modality, ()))
        for modality in ("audio", "video")
    ]
    answer = [
        prediction.emotion,
        f"{shares[prediction.emotion]:.4f}",
        *(f"{shares[e]:.4f}" for e in recording.emotions),
    ]
    return [*place, leads, *answer, *regions, row.remark]


def _clock(time_s: float) -> str:
    """HH:MM:SS.mmm, as WebVTT writes times."""
    milliseconds = round(time_s * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
