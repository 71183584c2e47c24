"""From what was measured of one clip to the findings on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from avser.config import Config
from avser.data.manifest import ClipRow
from preprocessing.doctor.container import TrackFacts
from preprocessing.doctor.examine import ClipFacts
from preprocessing.doctor.face import FaceFacts
from preprocessing.doctor.findings import LIMITS, Finding, below, exceeds
from preprocessing.doctor.voice import VoiceFacts

Found = tuple[str, str, str]  # code, column, sentence


def judge_clip(row: ClipRow, facts: ClipFacts, config: Config) -> list[Finding]:
    """The findings on one clip, the gravest first within each of its files."""
    found = list(_judge(row, facts, config))
    return [Finding(code, row.clip_id, column, getattr(row, column, ""), text) for code, column, text in found]


def _judge(row: ClipRow, facts: ClipFacts, config: Config) -> Iterator[Found]:
    if facts.failure:
        yield "examination", "", facts.failure
        return
    yield from _file_findings(facts)
    yield from _interval_findings(row, facts)
    if facts.voice is not None:
        yield from (("damaged", "audio", _without_name(text, row.audio)) for text in facts.voice.damage)
        audio = dict(facts.tracks())["audio"]
        late_s = audio.start_s if row.start_s is None and audio.start_s is not None else 0.0
        yield from _voice_findings(facts.voice, late_s)
    if facts.face is not None:
        heard = facts.voice.damage if facts.voice is not None and row.audio == row.video else []
        yield from (
            ("damaged", "video", _without_name(text, row.video)) for text in facts.face.damage if text not in heard
        )
        yield from _face_findings(facts.face, config)
    yield from _track_findings(facts, config)
    yield from _together_findings(row, facts)
    yield from _duration_findings(facts, config)


def _without_name(sentence: str, path: str) -> str:
    """`avser.media` puts the file's name first, which a finding has already."""
    return sentence.removeprefix(f"{PurePosixPath(path).name}: ")


def _file_findings(facts: ClipFacts) -> Iterator[Found]:
    named = set()
    for column, file in facts.files.items():
        if file.problem:
            if file.path not in named:
                yield file.problem, column, file.reason
            named.add(file.path)
        elif column in ("audio", "video") and getattr(file, column) is None:
            has = " and ".join(kind for kind in ("audio", "video") if getattr(file, kind) is not None)
            yield "no_track", column, f"no {column} track; the file holds {f'only {has}' if has else 'no media'}"


def _interval_findings(row: ClipRow, facts: ClipFacts) -> Iterator[Found]:
    """An interval that ends after its file, or else a reason why nothing of it could be decoded."""
    reasons = {"audio": facts.no_voice, "video": facts.no_face}
    tracks = dict(facts.tracks())
    for column, track in tracks.items():
        wanted_s = row.end_s if row.end_s is not None else row.start_s
        if track.end_s is not None and wanted_s is not None and exceeds("beyond_end", wanted_s - track.end_s):
            yield (
                "beyond_end",
                column,
                f"the clip is to end at {wanted_s:.2f} s, the {column} of the file ends at {track.end_s:.2f} s "
                f"(more than {LIMITS['beyond_end'].value:g} s beyond)",
            )
        elif reasons[column]:
            yield "unreadable", column, reasons[column]


def _voice_findings(voice: VoiceFacts, late_s: float) -> Iterator[Found]:
    """`late_s`: how long after the picture the track starts, which is no silence of its own."""
    if voice.silent:
        yield "silent", "audio", f"no sample above -80 dBFS (peak {voice.peak_dbfs:.0f} dBFS)"
        return
    if clipping := _clipping(voice):
        yield "clipped", "audio", clipping
    over_noise = voice.voice_dbfs - voice.floor_dbfs
    if below("voice_over_noise", over_noise):
        yield "no_voice", "audio", _less("loud blocks are", over_noise, "voice_over_noise", "over the quiet ones")
    elif below("voice_dbfs", voice.voice_dbfs):
        yield "quiet", "audio", _less("the loud blocks are at", voice.voice_dbfs, "voice_dbfs")
    for where, seconds in (("leading", voice.lead_s - late_s), ("trailing", voice.trail_s)):
        if exceeds("silence_at_an_end", seconds):
            yield f"{where}_silence", "audio", _more("no voice for", seconds, "silence_at_an_end")
    yield from _edge_findings(voice)
    if exceeds("dropout", voice.dropout_s) and exceeds("rounded", voice.floor_dbfs):
        yield "dropout", "audio", _more("equal samples for", voice.dropout_s, "dropout")
    if exceeds("dc_offset", abs(voice.dc_offset)):
        yield "dc_offset", "audio", _more("the mean is", voice.dc_offset, "dc_offset")
    if peaks := voice.channel_peaks_dbfs:
        weakest = min(range(len(peaks)), key=peaks.__getitem__)
        if len(peaks) == 2 and exceeds("dead_channel", max(peaks) - peaks[weakest]):
            difference = max(peaks) - peaks[weakest]
            yield "dead_channel", "audio", _more(f"channel {weakest + 1} is", difference, "dead_channel", "weaker")


def _clipping(voice: VoiceFacts) -> str:
    if voice.num_full_scale >= LIMITS["full_scale"].value:
        return f"{voice.num_full_scale} samples at full scale (from {LIMITS['full_scale'].value:g} on)"
    if voice.num_flat >= LIMITS["flat"].value:
        return f"{voice.num_flat} samples in flat tops at {voice.peak_dbfs:.1f} dBFS (from {LIMITS['flat'].value:g} on)"
    if exceeds("plateau", voice.plateau_s):
        limit_ms = 1000 * LIMITS["plateau"].value
        return (
            f"within 1 % of the extreme ({voice.peak_dbfs:.1f} dBFS) for {1000 * voice.plateau_s:.2g} ms on end "
            f"(more than {limit_ms:g} ms)"
        )
    return ""


def _edge_findings(voice: VoiceFacts) -> Iterator[Found]:
    """A voice that is there at once or to the last: loud, and clearly above the noise."""
    for where, level_db in (("first", voice.first_db), ("last", voice.last_db)):
        above_noise = voice.voice_dbfs + level_db - voice.floor_dbfs
        if exceeds("cut_voice", level_db) and not below("voice_over_noise", above_noise):
            yield (
                "cut_voice",
                "audio",
                f"the {where} 40 ms are at {level_db:+.1f} dB of the loud blocks (above {LIMITS['cut_voice'].value:g})",
            )


def _face_findings(face: FaceFacts, config: Config) -> Iterator[Found]:
    total = face.num_frames
    if face.num_with_face is None or face.num_with_several is None or not total:
        return
    if not face.num_with_face:
        yield "no_face", "video", f"in none of {total} frames looked at"
        return
    if exceeds("face_missing", 1 - face.num_with_face / total):
        yield "face_missing", "video", _share("no face", total - face.num_with_face, total, "face_missing")
    if exceeds("several_faces", face.num_with_several / total):
        text = _share(f"up to {face.most_faces} faces", face.num_with_several, total, "several_faces")
        yield "several_faces", "video", text
    if face.side_px is None or face.brightness is None or face.sharpness is None:
        return
    crop_px = config.media.crop_px
    if exceeds("enlarged", crop_px / face.side_px):
        text = f"{face.side_px:.0f} px wide with its margin, enlarged to {crop_px} px"
        yield "small_face", "video", f"{text} (more than {LIMITS['enlarged'].value:g} times)"
    if below("dark", face.brightness):
        yield "dark_face", "video", _less("mean grey level", face.brightness, "dark")
    if exceeds("bright", face.brightness):
        yield "bright_face", "video", _more("mean grey level", face.brightness, "bright")
    if below("sharpness", face.sharpness):
        yield "blurred_face", "video", _less("sharpness", face.sharpness, "sharpness")


def _track_findings(facts: ClipFacts, config: Config) -> Iterator[Found]:
    wanted_hz = config.media.sample_rate_hz
    for column, track in facts.tracks():
        if column == "audio" and track.sample_rate_hz and track.sample_rate_hz < wanted_hz:
            text = f"{track.sample_rate_hz} Hz, media.sample_rate_hz is {wanted_hz}: nothing above half of it is real"
            yield "low_sample_rate", column, text
        if track.longest_gap_s is not None and exceeds("frame_gap", track.longest_gap_s):
            yield "frame_gap", column, _more("no frame for", track.longest_gap_s, "frame_gap")


def _together_findings(row: ClipRow, facts: ClipFacts) -> Iterator[Found]:
    """How sound and picture lie to each other."""
    tracks = dict(facts.tracks())
    if len(tracks) == 2 and row.start_s is None and row.end_s is None:
        one_file = row.audio == row.video
        audio, video = _span(tracks["audio"], one_file), _span(tracks["video"], one_file)
        if audio is not None and video is not None:
            offset_s = audio[0] - video[0]
            if exceeds("start_offset", abs(offset_s)):
                word = "late" if offset_s > 0 else "early"
                yield "late_audio", "audio", _more(f"the sound is {word} by", abs(offset_s), "start_offset")
            longer_s = audio[1] - video[1]
            if exceeds("length_difference", abs(longer_s)):
                text = f"the sound ends at {audio[1]:.2f} s, the picture at {video[1]:.2f} s"
                yield "length_difference", "video", f"{text} ({_above('length_difference')} apart)"
    if facts.sound_alike is None or facts.sound_lag_s is None:
        return
    if below("sound_alike", facts.sound_alike):
        yield "sound_differs", "audio", _less("loudness correlates by", facts.sound_alike, "sound_alike")
    elif exceeds("sound_lag", abs(facts.sound_lag_s)):
        word = "late" if facts.sound_lag_s > 0 else "early"
        text = _more(f"the audio file is {word} by", abs(facts.sound_lag_s), "sound_lag")
        yield "sound_lag", "audio", f"{text}, measured against the sound of the video file"


def _span(track: TrackFacts, one_file: bool) -> tuple[float, float] | None:
    """Start and end; two files each count from their own start."""
    if track.start_s is None or track.end_s is None:
        return None
    return (track.start_s, track.end_s) if one_file else (0.0, track.end_s - track.start_s)


def _duration_findings(facts: ClipFacts, config: Config) -> Iterator[Found]:
    duration_s, longest_s = facts.duration_s, config.data.max_duration_s
    if duration_s is None:
        return
    if below("short", duration_s):
        yield "short", "", _less("lasts", duration_s, "short")
    if duration_s > longest_s:
        yield "too_long", "", f"lasts {duration_s:.2f} s; data.max_duration_s is {longest_s:g} s"


def _above(name: str) -> str:
    limit = LIMITS[name]
    return f"more than {limit.value:g} {limit.unit}".rstrip()


def _more(what: str, value: float, name: str, after: str = "") -> str:
    limit = LIMITS[name]
    return f"{what} {value:.3g} {limit.unit} {after}".rstrip() + f" (more than {limit.value:g})"


def _less(what: str, value: float, name: str, after: str = "") -> str:
    limit = LIMITS[name]
    return " ".join(f"{what} {value:.3g} {limit.unit} {after}".split()) + f" (less than {limit.value:g})"


def _share(what: str, num: int, total: int, name: str) -> str:
    return f"{what} in {num} of {total} frames looked at (more than {LIMITS[name].value:.0%})"
