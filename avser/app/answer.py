"""The one place where the page asks the models: an upload goes in, an answer of every chosen model comes out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avser.app.admission import Limits, check_length, with_name
from avser.app.progress import Progress, Tell
from avser.app.uploads import Upload
from avser.data.cache_jobs import tracker_for
from avser.data.clip_file import BLENDSHAPES, LANDMARKS
from avser.data.dataset import parts_of
from avser.errors import AvserError, ConfigError, MediaError
from avser.experiments.regions.caveats import caveats
from avser.explanation import add_preview, explain, name_model
from avser.inference import TrainedModel, load_models, predict_clips
from avser.media.clip import read_clip
from avser.media.faces import FaceTracker
from avser.media.video import Frame, probe
from avser.roi.report.page import ReportSummary, write_report
from avser.roi.report.plots import MODALITY_WORDS
from avser.roi.report.sentences import describe_clip
from avser.roi.report.view import ClipView
from avser.roi.salience.sources import AUTO, SOURCES
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Clip, Curve, FaceTrack

ALSO = ("att_value",)  # a salience beside the model's own; those that ask the model many times are for `avser roi`
WHOLE_S = 20.0  # of longer recordings not everything is asked: memory and time of some questions grow with the length
MAX_WORK_S = 900.0  # for one upload; whoever waits behind it is to have a turn
TELL_EVERY_S = 0.3
GRACE_S = 1.0  # read beyond the longest recording that is taken, to know that it is longer


@dataclass(frozen=True)
class ServedModel:
    """What a RUN of the command line answers with.

    Attributes:
        name: as shown; no two are alike.
        parts: "audio", "video" and "fused" -> model, as `avser.inference.load_models` gives them.
    """

    name: str
    parts: Mapping[str, TrainedModel]

    @property
    def main(self) -> TrainedModel:
        """The one whose verdict counts."""
        return self.parts.get(FUSED) or next(iter(self.parts.values()))

    @property
    def reads(self) -> str:
        """What that one hears and sees, in words."""
        return " and ".join(MODALITY_WORDS[modality] for modality in self.main.modalities)


@dataclass(frozen=True)
class ModelAnswer:
    """What one model says of an upload.

    Attributes:
        model: name of the `ServedModel`. reads: what it hears and sees, in words.
        view: None where it could not answer; `fault` then says why.
        sentences: in words, what was found.
        report: HTML page of its own.
    """

    model: str
    reads: str
    view: ClipView | None = None
    sentences: Sequence[str] = ()
    report: str = ""
    fault: str = ""


def load_served(runs: Sequence[Path]) -> list[ServedModel]:
    """Load every run, once, before anybody asks.

    Raises:
        ConfigError: no run is named. CheckpointError: one is no run.
    """
    if not runs:
        raise ConfigError("no RUN is named; give the folder of at least one run")
    loaded = [load_models(run) for run in runs]
    return [ServedModel(name, parts) for name, parts in zip(_names(runs, loaded), loaded, strict=True)]


def answer_upload(upload: Upload, models: Sequence[ServedModel], limits: Limits, tell: Tell) -> list[ModelAnswer]:
    """Decode an upload once for all models that read media alike, ask each, and draw its report.

    A model that cannot answer says why in `ModelAnswer.fault`, and the others go on.

    Args:
        tell: is told how far it is; may raise to end the work.
    """
    answers: dict[str, ModelAnswer] = {}
    for alike in _by_media(models):
        try:
            clip = _read(upload, [model for served in alike for model in served.parts.values()], limits, tell)
        except AvserError as error:
            fault = with_name(error, upload.path, upload.name)
            answers |= {served.name: ModelAnswer(served.name, served.reads, fault=fault) for served in alike}
            continue
        answers |= {served.name: _ask(served, clip, upload, tell) for served in alike}
    return [answers[served.name] for served in models]


def _by_media(models: Sequence[ServedModel]) -> list[list[ServedModel]]:
    """The models in groups that read media under the same settings."""
    groups: dict[str, list[ServedModel]] = {}
    for served in models:
        groups.setdefault(repr(served.main.config.media), []).append(served)
    return list(groups.values())


def _names(runs: Sequence[Path], loaded: Sequence[Mapping[str, TrainedModel]]) -> list[str]:
    """What the runs call themselves; as much of their paths as it takes where that does not tell them apart."""
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"a RUN is named twice: {', '.join(map(str, runs))}; name each once")
    own = [
        path.name if len(parts) > 1 else next(iter(parts.values())).config.name
        for path, parts in zip(paths, loaded, strict=True)
    ]
    tries = [
        own,
        *(["/".join(path.parts[-n:]) for path in paths] for n in range(1, 1 + max(len(p.parts) for p in paths))),
    ]
    return next(names for names in tries if len(set(names)) == len(names))


def _read(upload: Upload, models: Sequence[TrainedModel], limits: Limits, tell: Tell) -> Clip:
    """Decode the voice and the face that any of the models reads; all of them share their media settings.

    Raises:
        MediaError: nothing that one of them could hear or see, or too long.
    """
    media, info = models[0].config.media, probe(upload.path)
    looks = any({VIDEO, LANDMARKS, BLENDSHAPES} & set(parts_of(model.config.model)) for model in models)
    wants_voice = info.has_audio and any(AUDIO in model.modalities for model in models)
    tracker = tracker_for(media) if info.has_video and looks else None
    if not wants_voice and tracker is None:
        needs = " or ".join({"voice" if m == AUDIO else "picture" for model in models for m in model.modalities})
        raise MediaError(f"{upload.name} has nothing for the model, which needs a {needs}; give another recording")
    tell(Progress("read"))
    clip = read_clip(
        upload.name,
        audio=upload.path if wants_voice else None,
        video=upload.path if tracker is not None else None,
        tracker=None if tracker is None else _TellingTracker(tracker, info.duration_s, tell),
        sample_rate_hz=media.sample_rate_hz,
        fps=media.fps,
        end_s=limits.max_s + GRACE_S,  # a header need not tell the truth about the length, or say anything
    )
    check_length(clip.duration_s - GRACE_S / 2, upload.name, limits)
    clip.warnings = [with_name(text, upload.path, upload.name) for text in clip.warnings]
    return clip


class _TellingTracker:
    """A face tracker that tells how far it is."""

    def __init__(self, tracker: FaceTracker, duration_s: float | None, tell: Tell) -> None:
        self._tracker, self._duration_s, self._tell = tracker, duration_s, tell

    def track(self, frames: Iterable[Frame], voice: Curve | None = None) -> tuple[FaceTrack | None, list[str]]:
        return self._tracker.track(self._told(frames), voice)

    def stream(self, frames: Iterable[Frame]) -> Any:
        return self._tracker.stream(self._told(frames))

    def _told(self, frames: Iterable[Frame]) -> Iterable[Frame]:
        started = told = time.monotonic()
        for frame in frames:
            now = time.monotonic()
            if now - started > MAX_WORK_S:
                raise MediaError(f"looking for the face took more than {MAX_WORK_S / 60:.0f} min; cut the recording")
            if now - told > TELL_EVERY_S:
                told = now
                share = min(frame.time_s / self._duration_s, 1.0) if self._duration_s else None
                self._tell(Progress("faces", share, f"{frame.time_s:.1f} s"))
            yield frame


def _ask(served: ServedModel, clip: Clip, upload: Upload, tell: Tell) -> ModelAnswer:
    tell(Progress("ask", note=served.name))
    try:
        if clip.duration_s > WHOLE_S:
            view = _look_once(served, clip, upload.path)
        else:
            view = explain(served.parts, clip, also=ALSO, media=upload.path)
        view.warnings = [with_name(text, upload.path, upload.name) for text in view.warnings]
        tell(Progress("report", note=served.name))
        report = _draw(served, clip, view)
    except AvserError as error:
        return ModelAnswer(served.name, served.reads, fault=with_name(error, upload.path, upload.name))
    return ModelAnswer(served.name, served.reads, view, describe_clip(view), report)


def _look_once(served: ServedModel, clip: Clip, media: Path) -> ClipView:
    """What can be said of a long recording in one look: the verdicts, curves and regions."""
    view = ClipView(clip.clip_id, clip.duration_s, predict_clips(served.main, [clip])[0], salience_source=AUTO)
    view.warnings = [*view.prediction.warnings, f"longer than {WHOLE_S:g} s: verdicts, curves and regions only"]
    sources = {m: served.parts.get(m, served.main) for m in MODALITIES}
    for modality, source in sources.items():
        if not source.can_read(clip, modality):
            continue
        said = predict_clips(source, [clip])[0]
        view.salience[modality], view.regions[modality] = said.salience[modality], said.regions[modality]
        view.salience_model = "; ".join(filter(None, [view.salience_model, name_model(source)]))
        if modality in said.evidence:
            view.evidence[modality] = said.evidence[modality]
        if len(source.modalities) == 1:
            view.unimodal[modality] = said
    if clip.face is not None:
        view.faces, view.face_times = clip.face.crops[:], clip.face.times
    add_preview(view, clip, media)
    return view


def _draw(served: ServedModel, clip: Clip, view: ClipView) -> str:
    """The report as one page that needs nothing beside it."""
    way = SOURCES[AUTO]
    about = f"Curves ({way.words}: {way.question}) and regions of interest by {view.salience_model}."
    summary = ReportSummary(
        paragraphs=[about], warnings=caveats(served.parts, clips=[clip] if clip.duration_s <= WHOLE_S else [])
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        write_report(path, title=f"Regions of interest: {view.clip_id}", summary=summary, views=[view])
        return path.read_text(encoding="utf-8")
