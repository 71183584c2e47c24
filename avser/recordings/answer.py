"""Asks a model about a recording of any length: windows, every face in them, and one timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from avser.config import Config
from avser.data.cache_jobs import open_tracker
from avser.errors import MediaError
from avser.inference import TrainedModel
from avser.media.audio import is_silent
from avser.media.faces import FaceTracker
from avser.media.seen_faces import tracks_between
from avser.media.speaker import find_speaker, measure_loudness
from avser.recordings.result import FaceBoxes, Recording, Row
from avser.recordings.source import Given, Source, open_source
from avser.recordings.speed import WindowAnswers
from avser.recordings.timeline import find_gaps, merge_rows, summarize
from avser.recordings.windows import HOP_S, WINDOW_S, Window, Windowing, cut_windows
from avser.roi.salience.sources import AUTO
from avser.structures import AUDIO, VIDEO, Clip, FaceTrack

QUIET_DB = -55.0  # a window that is nowhere louder holds no speech (our choice): rooms are softer, voices louder
MIN_SHARE = 0.1  # of a window's frames that show a face, for it to be answered (our choice)
ROWS_AT_ONCE = 4  # that the model answers in one batch

Progress = Callable[[float, "float | None"], None]  # seconds that are answered; of how many, where that is known


def windowing_for(config: Config, window_s: float | None = None, hop_s: float | None = None) -> Windowing:
    """How a model's recordings are cut: what is no longer than its training clips may be is one window.

    Args:
        window_s, hop_s: a window asked for cuts all recordings that are longer; a hop alone moves the default window.

    Raises:
        ConfigError: see `Windowing`.
    """
    whole_s = config.data.max_duration_s if window_s is None else window_s
    window_s = WINDOW_S if window_s is None else window_s
    return Windowing(window_s, min(HOP_S, window_s / 2) if hop_s is None else hop_s, whole_s)


def answer_recording(
    model: TrainedModel,
    given: Given,
    *,
    how: Windowing | None = None,
    tracker: FaceTracker | None = None,
    salience: str = AUTO,
    progress: Progress | None = None,
    name: str = "",
    sample_rate_hz: int | None = None,
    fps: float | None = None,
) -> Recording:
    """The answer for every window and face of a recording, and one timeline; memory does not grow with its pictures.

    Args:
        given, name, sample_rate_hz, fps: see `open_source`.
        how: `windowing_for` the model by default.
        tracker: with its model loaded, for many recordings; by default one is opened.
        salience: a key of `avser.roi.salience.sources.SOURCES`.
        progress: told after every few windows.

    Raises:
        MediaError: the recording cannot be used, or has neither voice nor face.
        AvserError: the model cannot be asked for its salience in that way.
    """
    if tracker is None and VIDEO in model.modalities:
        with open_tracker(model.config.media) as opened:
            if opened is not None:
                return answer_recording(
                    model,
                    given,
                    how=how,
                    tracker=opened,
                    salience=salience,
                    progress=progress,
                    name=name,
                    sample_rate_hz=sample_rate_hz,
                    fps=fps,
                )
    options = {"name": name, "sample_rate_hz": sample_rate_hz, "fps": fps}
    with open_source(model, given, tracker, **options) as source:  # type: ignore[arg-type]
        return _Asking(model, source, salience, progress).answer(how or windowing_for(model.config))


class _Asking:
    """One recording on its way through the model."""

    def __init__(self, model: TrainedModel, source: Source, salience: str, progress: Progress | None) -> None:
        self._model, self._source = model, source
        self._answers = WindowAnswers(model, salience)
        self._progress = progress or (lambda done_s, of_s: None)
        self._boxes: dict[int, list[tuple[float, np.ndarray]]] = {}
        self._present: list[np.ndarray] = []
        self._boxed_s = self._heard_s = -np.inf
        self._end_s = 0.0

    def answer(self, how: Windowing) -> Recording:
        model, source = self._model, self._source
        windows = cut_windows(source.voice, source.faces, model.config.media.sample_rate_hz, how)
        rows = list(self._answered(row for window in windows for row in self._rows(window)))
        if not any(row.prediction for row in rows):
            reasons = "; ".join(dict.fromkeys([*source.warnings, *(row.remark for row in rows if row.remark)]))
            raise MediaError(f"{source.path or source.name}: neither a voice nor a face is left: {reasons}")
        leading = [row for row in rows if row.leads]
        boxes = {
            n: FaceBoxes(np.array([t for t, _ in seen]), np.stack([box for _, box in seen]))
            for n, seen in sorted(self._boxes.items())
            if any(row.face == n for row in rows)
        }
        present = np.sort(np.concatenate([*self._present, *(places.times for places in boxes.values())]))
        timeline = merge_rows(leading, find_gaps(present, self._end_s) if len(leading) > 1 else [])
        summary = summarize(source.name, leading, timeline, model.emotions, model.config.roi)
        summary.warnings = [*dict.fromkeys([*source.warnings, *summary.warnings]), *_lacks(leading, timeline)]
        faces = {
            n: merge_rows([row for row in rows if row.face == n], find_gaps(places.times, self._end_s))
            for n, places in boxes.items()
        }
        return Recording(
            source.name,
            source.path,
            self._end_s,
            model.emotions,
            rows,
            timeline,
            {n: [s for s in found if s.emotion] for n, found in faces.items()} if len(faces) > 1 else {},
            boxes,
            summary,
        )

    def _rows(self, window: Window) -> Iterator[tuple[Row, Clip | None]]:
        """Every face of a window with the clip that its answer is made from, None where there is nothing to answer."""
        self._note(window)
        media, model = self._model.config.media, self._model
        tracks = tracks_between(
            window.frames, window.start_s, media.crop_px, min_share=0.0 if window.whole else MIN_SHARE
        )
        voice, silence = _voice(window, media.sample_rate_hz)
        speaker = _speaker(tracks, voice, media.sample_rate_hz)
        heard = voice if AUDIO in model.modalities else None
        lead = speaker or next(iter(tracks), None)
        order = sorted(tracks, key=lambda number: number != lead)
        numbers: list[int | None] = [*order] or [None]
        for number in numbers:
            speaks = None if speaker is None else number == speaker
            row = Row(window.start_s, window.end_s, number, speaks, number == lead, None)
            clip = Clip(
                self._source.name,
                window.end_s - window.start_s,
                heard if row.leads else None,
                media.sample_rate_hz,
                None if number is None else tracks[number],
            )
            row.remark = _remark(row, len(tracks), heard is not None, silence, model.modalities)
            yield row, clip if any(model.can_read(clip, m) for m in model.modalities) else None

    def _answered(self, asked: Iterable[tuple[Row, Clip | None]]) -> Iterator[Row]:
        pairs = iter(asked)
        while batch := list(islice(pairs, ROWS_AT_ONCE)):
            clips = [clip for _, clip in batch if clip is not None]
            places = [(row.face or 0, row.start_s) for row, clip in batch if clip is not None]
            found = iter(self._answers.ask(clips, places) if clips else [])
            for row, clip in batch:
                if clip is not None:
                    row.prediction = next(found).moved(row.start_s)
                yield row
            self._progress(batch[-1][0].end_s, self._source.duration_s)

    def _note(self, window: Window) -> None:
        self._end_s = max(self._end_s, window.end_s)
        for frame in window.frames:
            if frame.time_s > self._boxed_s:
                for number, face in frame.faces.items():
                    self._boxes.setdefault(number, []).append((frame.time_s, face.box))
                self._boxed_s = frame.time_s
        if AUDIO in self._model.modalities and window.waveform is not None and len(window.waveform):
            loudness = measure_loudness(window.waveform, self._model.config.media.sample_rate_hz)
            times = loudness.times[loudness.values > QUIET_DB] + window.start_s
            self._present.append(times[times > self._heard_s])
            self._heard_s = window.end_s


def _voice(window: Window, rate_hz: int) -> tuple[np.ndarray | None, str]:
    """The voice of a window, None with the reason where there is none. A whole clip is read as training reads it."""
    if window.waveform is None or not len(window.waveform):
        return None, "no voice"
    if is_silent(window.waveform):
        return None, "silence"
    if not window.whole and measure_loudness(window.waveform, rate_hz).values.max() < QUIET_DB:
        return None, "silence"
    return window.waveform, ""


def _speaker(tracks: dict[int, FaceTrack], voice: np.ndarray | None, rate_hz: int) -> int | None:
    """Of several faces the one whose mouth moves with the voice; None where that is uncertain."""
    if len(tracks) < 2 or voice is None or any(track.landmarks is None for track in tracks.values()):
        return None
    mouths = [(t.times[t.found], t.landmarks[t.found]) for t in tracks.values() if t.landmarks is not None]
    best, _ = find_speaker(mouths, measure_loudness(voice, rate_hz))
    return None if best is None else list(tracks)[best]


def _remark(row: Row, num_faces: int, heard: bool, silence: str, modalities: Sequence[str]) -> str:
    said = []
    if VIDEO in modalities and row.face is None:
        said.append("no face")
    if AUDIO in modalities and not heard:
        said.append(silence)
    if num_faces > 1 and row.speaks is None:
        said.append("who speaks is uncertain")
    return ", ".join(said)


def _lacks(leading: Sequence[Row], timeline: Sequence) -> list[str]:
    """What windows lack, counted."""
    if len(leading) < 2:
        return []
    told = []
    for remark in sorted({row.remark for row in leading if row.remark}):
        num = sum(row.remark == remark for row in leading)
        told.append(f"{remark} in {num} of {len(leading)} windows")
    unanswered_s = sum(s.duration_s for s in timeline if s.emotion is None)
    return [*told, *([f"{unanswered_s:.1f} s without an answer"] if unanswered_s else [])]
