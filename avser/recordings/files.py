"""Many recordings, one after the other: what is done is not done again, what fails is named, the rest goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from avser.data.cache_jobs import open_tracker
from avser.errors import AvserError, ConfigError, MediaError
from avser.inference import TrainedModel
from avser.media.faces import FaceTracker
from avser.media.video import probe
from avser.recordings.answer import Progress, answer_recording, windowing_for
from avser.recordings.exports import SUFFIX_OF, VIDEO_FORMAT, check_formats, to_csv, write_exports
from avser.recordings.result import Recording, describe_recording, read_recording
from avser.recordings.windows import Windowing
from avser.roi.exchange.file_names import file_names
from avser.roi.exchange.tiers import MIME_TYPES
from avser.roi.salience.sources import AUTO
from avser.structures import VIDEO
from avser.training.checkpoint import MODEL_FILE
from avser.version import __version__

SUFFIXES = frozenset(MIME_TYPES) | {".3gp", ".mts", ".ts", ".ogv"}  # of what is taken out of a folder
TABLE, FAILURES = "predictions.csv", "failures.csv"
NO_VIDEO = "no picture, so there is no video with the answer"


@dataclass(frozen=True)
class Wanted:
    """What is to be made of every recording.

    Attributes:
        out: folder for results; None: nothing is written, and nothing can be resumed.
        formats: of `avser.recordings.exports.FORMATS`, or "mp4" for a video with the answer drawn in; written into
            `out` beside the JSON that resuming reads.
        video: path of that video, for a single recording.
    """

    out: Path | None = None
    formats: Sequence[str] = ()
    video: Path | None = None
    window_s: float | None = None
    hop_s: float | None = None
    salience: str = AUTO


@dataclass(frozen=True)
class Answered:
    """The result of one file: a recording, or the reason why there is none.

    Attributes:
        again: it was answered earlier, and read from the folder.
    """

    path: Path
    name: str
    recording: Recording | None
    reason: str = ""
    again: bool = False


@dataclass
class _Results:
    """Tables of all files, in the folder."""

    out: Path
    rows: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, answered: Answered) -> None:
        if answered.recording is None:
            self.failures.append((str(answered.path), answered.reason))
        else:
            self.rows.append(to_csv(answered.recording, header=not self.rows))

    def write(self) -> None:
        _replace(self.out / TABLE, "".join(self.rows))
        with (self.out / FAILURES).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *self.failures])


def find_recordings(given: Sequence[Path]) -> dict[Path, str]:
    """Path -> name of every recording: files as they are named, folders with all media files below them.

    A name is the path below the folder without its suffix; with it, where two would be alike.

    Raises:
        MediaError: a folder without any media file.
    """
    found: dict[Path, Path] = {}
    for path in given:
        if not path.is_dir():
            found.setdefault(path, Path(path.name))
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not inside:
            raise MediaError(f"{path}: a folder without media files ({' '.join(sorted(SUFFIXES))})")
        for file in inside:
            found.setdefault(file, file.relative_to(path))
    bare = Counter(place.with_suffix("").as_posix() for place in found.values())
    named = {
        p: (s if bare[s := place.with_suffix("").as_posix()] == 1 else place.as_posix()) for p, place in found.items()
    }
    twice = Counter(named.values())
    return {path: name if twice[name] == 1 else path.as_posix() for path, name in named.items()}


def answer_files(
    model: TrainedModel,
    given: Sequence[Path],
    wanted: Wanted,
    *,
    begin: Callable[[int, int, str], Progress] = lambda index, total, name: lambda done_s, of_s: None,
) -> Iterator[Answered]:
    """The result of every file, in order, as soon as it is there.

    With a folder for results, a file that was answered there by the same model with the same settings is not answered
    again; one that has changed since (by size or time), or that a run left half done, is.

    Args:
        given: files and folders.
        begin: called before each file with its place, their number and its name; gives what is told how far it is.

    Raises:
        ConfigError: impossible windows or formats, results among the recordings, or no face model.
        MediaError: a folder without media files.
    """
    formats, how = check_formats(wanted.formats), windowing_for(model.config, wanted.window_s, wanted.hop_s)
    recordings = find_recordings(given)
    _check_places(wanted, recordings)
    files = file_names(recordings.values())
    results = None
    if wanted.out is not None:
        wanted.out.mkdir(parents=True, exist_ok=True)
        results = _Results(wanted.out)
    weights = model.folder / MODEL_FILE if model.folder.is_dir() else model.folder  # an exported graph is one file
    model_hash = hashlib.sha256(weights.read_bytes()).hexdigest() if results else ""
    with open_tracker(model.config.media) if VIDEO in model.modalities else _no_tracker() as tracker:
        asked = _Asked(model, wanted, formats, how, tracker, model_hash)
        try:
            for index, (path, name) in enumerate(recordings.items()):
                answered = asked.answer(path, name, files[name], begin(index, len(recordings), name))
                if results:
                    results.add(answered)
                yield answered
        finally:
            if results:
                results.write()


@dataclass(frozen=True)
class _Asked:
    """The model with all that holds for every file."""

    model: TrainedModel
    wanted: Wanted
    formats: Sequence[str]
    how: Windowing
    tracker: FaceTracker | None
    model_hash: str

    def answer(self, path: Path, name: str, file_name: str, progress: Progress) -> Answered:
        try:
            recording, again = self._find(path, name, file_name, progress)
        except ConfigError:
            raise
        except Exception as error:  # whatever is wrong with one file, the others go on
            kind = "" if isinstance(error, AvserError) else f"{type(error).__name__}: "
            return Answered(path, name, None, " ".join(f"{kind}{error}".split()))
        return Answered(path, name, recording, again=again)

    def _find(self, path: Path, name: str, file_name: str, progress: Progress) -> tuple[Recording, bool]:
        out = self.wanted.out
        key = self._key(path) if out is not None else ""
        stored = None if out is None else _read_stored(out / f"{file_name}.json", key)
        recording = stored or answer_recording(
            self.model,
            path,
            how=self.how,
            tracker=self.tracker,
            salience=self.wanted.salience,
            progress=progress,
            name=name,
        )
        videos = [self.wanted.video] if self.wanted.video is not None else []
        if out is not None:
            places = {format: out / f"{file_name}{suffix}" for format, suffix in SUFFIX_OF.items()}
            lacking = [format for format in self.formats if not (stored and places[format].is_file())]
            write_exports(
                recording, out, file_name, [format for format in lacking if format not in ("json", VIDEO_FORMAT)]
            )
            if VIDEO_FORMAT in lacking and probe(path).has_video:
                videos.append(places[VIDEO_FORMAT])
            elif VIDEO_FORMAT in lacking and NO_VIDEO not in recording.warnings:
                recording.warnings.append(NO_VIDEO)
        for video in videos:
            from avser.recordings.drawing import write_video  # only here: fonts take a moment to load

            write_video(recording, video, progress=progress)
        if out is not None and stored is None:  # last: where it stands, everything else does
            described = {**describe_recording(recording, boxes=True), "key": key}
            _replace(out / f"{file_name}.json", json.dumps(described, ensure_ascii=False) + "\n")
        return recording, stored is not None

    def _key(self, path: Path) -> str:
        """Changes with anything that could change the answer."""
        try:
            state = path.stat()
        except OSError as error:
            raise MediaError(f"{path}: no such file") from error
        file = [str(path.resolve()), state.st_size, state.st_mtime_ns]
        settings = [__version__, self.model_hash, asdict(self.how), self.wanted.salience]
        return hashlib.sha256(json.dumps([file, settings]).encode()).hexdigest()


def _check_places(wanted: Wanted, recordings: Sequence[Path] | dict[Path, str]) -> None:
    """Results must not fall on recordings, nor on what lies beside them."""
    if wanted.out is None and wanted.formats:
        raise ConfigError("--export writes files: name a folder for them with --out")
    if wanted.out is not None and any(path.resolve().parent == wanted.out.resolve() for path in recordings):
        raise ConfigError(f"--out {wanted.out}: recordings lie in it; results go into a folder of their own")
    if wanted.video is not None and (len(recordings) > 1 or wanted.video.suffix.lower() != ".mp4"):
        raise ConfigError("--video: one recording and the path of an .mp4; for many take --export mp4 --out DIR")
    if wanted.video is not None and wanted.video.resolve() in {path.resolve() for path in recordings}:
        raise ConfigError(f"--video {wanted.video}: is the recording itself; name another file")


def _read_stored(path: Path, key: str) -> Recording | None:
    """The answer of an earlier run, where it is there whole and of the same key."""
    try:
        if json.loads(path.read_text(encoding="utf-8")).get("key") != key:
            return None
        return read_recording(path)
    except (OSError, ValueError, AttributeError, MediaError):
        return None


def _replace(path: Path, text: str) -> None:
    """All or nothing: a run that is killed leaves no half file behind."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(path)


@contextmanager
def _no_tracker() -> Iterator[None]:
    yield None
