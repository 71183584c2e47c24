"""The corpus: who speaks, what is planted where in each clip, and the writing of media, manifest and true regions.

Every clip is neutral but for one emotional region in the voice and one in the face. The face leads the voice by a lag
that depends on the emotion (`LAGS_S`); the pair's common centre follows one rule for all emotions. Duration, level,
noise, light and the like are drawn without regard to the emotion. In some clips one of the two modalities shows the
emotion only weakly, and every clip takes on a share of an emotion that is easily mistaken for its own, other ones in
the voice than in the face: so neither modality alone is enough, and both together know more.

Half of the lag moves each region, so a region's place cannot be quite free of the emotion: a linear model that is told
the true interval of one modality may guess a little better than chance on many clips, and one that is told both reads
the lag off them. The lag is planted to be found; `tests/preprocessing/test_synthetic.py` bounds everything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from avser.data.manifest import ClipRow, write_manifest, write_regions
from avser.errors import ManifestError
from avser.structures import AUDIO, VIDEO, Region
from preprocessing import encoding
from preprocessing.synthetic import face, voice
from preprocessing.synthetic.recording import record

# Mean of the lag, voice centre minus face centre, in seconds: above 0 the face leads. Our choice, not a finding.
LAGS_S = {
    "surprise": 0.20,
    "happiness": 0.12,
    "fear": 0.04,
    "disgust": -0.04,
    "sadness": -0.12,
    "anger": -0.20,
}
EMOTIONS = tuple(sorted(LAGS_S))
LAG_JITTER_S = 0.06  # standard deviation of a clip's lag about its emotion's mean
LAG_LIMIT_S = 0.38
DURATION_S = (2.2, 3.2)
REGION_S = (0.5, 0.9)
RAMP_S = 0.07  # from no intensity to full; a region's border is where half of it is reached
STRONG, WEAK = (0.75, 1.0), (0.15, 0.35)  # strength of a modality's region
WEAK_SHARE = 0.2  # of the clips, for each modality; never both
NEIGHBOUR_SHARE = 0.2  # most that a clip takes on of the emotion that is mistaken for its own


@dataclass(frozen=True)
class Settings:
    """What defines a corpus.

    Attributes:
        speakers: how many; odd ones have female ranges, even ones male.
        clips_per_emotion: of each speaker.
        seed: everything random follows from it.
    """

    speakers: int = 15
    clips_per_emotion: int = 4
    seed: int = 0

    @property
    def num_clips(self) -> int:
        return self.speakers * len(EMOTIONS) * self.clips_per_emotion


@dataclass(frozen=True)
class Speaker:
    name: str
    sex: str
    voice: voice.VoiceTraits
    face: face.FaceTraits


@dataclass(frozen=True)
class Plan:
    """What is planted in a clip.

    Attributes:
        duration_s: a whole number of video frames.
        voice_region, face_region: intervals in which the intensity exceeds a half.
        lag_s: centre of the voice's region minus centre of the face's; above 0 the face leads.
        voice_strength, face_strength: how clearly each shows the emotion, before the speaker's expressiveness.
        voice_shift, face_shift: cue or action unit -> its move at full intensity, all factors included.
    """

    clip_id: str
    emotion: str
    speaker: Speaker
    duration_s: float
    voice_region: Region
    face_region: Region
    lag_s: float
    voice_strength: float
    face_strength: float
    voice_shift: dict[str, float]
    face_shift: dict[str, float]


def write_corpus(
    out: str | Path,
    settings: Settings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[ClipRow]:
    """Render every clip to `out/media/*.mp4`; then write regions.csv, corpus.json and, last of all, manifest.csv.

    A folder without a manifest is therefore unfinished; the same call does it again.

    Args:
        workers: processes that render.
        progress: called with (clips done, clips in all).

    Raises:
        ManifestError: the settings are out of range, or `out` holds a manifest that is not of a synthetic corpus.
    """
    out = Path(out)
    _check(out, settings, workers)
    (out / "media").mkdir(parents=True, exist_ok=True)
    for name in ("manifest.csv", "regions.csv", "corpus.json"):
        (out / name).unlink(missing_ok=True)
    jobs = (joblib.delayed(write_clip)(out / "media", settings, index) for index in range(settings.num_clips))
    rows, regions, facts = [], {}, {}
    for plan, recording in joblib.Parallel(n_jobs=workers, return_as="generator")(jobs):
        rows.append(_row(plan))
        regions[plan.clip_id] = [plan.voice_region, plan.face_region]
        facts[plan.clip_id] = _facts(plan, recording)
        if progress:
            progress(len(rows), settings.num_clips)
    write_regions(regions, out / "regions.csv")
    described = {"settings": asdict(settings), "lags_s": LAGS_S, "clips": facts}
    (out / "corpus.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    write_manifest(rows, out / "manifest.csv")
    return rows


def write_clip(folder: Path, settings: Settings, index: int) -> tuple[Plan, dict[str, float]]:
    """Render clip `index` to a file in `folder`; returns what is planted and the facts of its recording."""
    plan, streams = plan_clip(settings, index)
    waveform, frames, recording = render_clip(plan, streams)
    write_mp4(folder / f"{plan.clip_id}.mp4", waveform, frames)
    return plan, recording


def plan_clip(settings: Settings, index: int) -> tuple[Plan, list[np.random.Generator]]:
    """What clip `index` of the corpus holds, and the four generators that `render_clip` needs."""
    rng, *streams = np.random.default_rng([settings.seed, 1, index]).spawn(5)
    turn, take = divmod(index, settings.clips_per_emotion)
    number, emotion = turn // len(EMOTIONS), EMOTIONS[turn % len(EMOTIONS)]
    speaker = build_speaker(settings.seed, number)
    duration_s = round(rng.uniform(*DURATION_S) * face.FPS) / face.FPS
    lengths, lag_s, centre_s = _place(rng, emotion, duration_s)
    strengths = _draw_strengths(rng)
    moves = [
        _realise(rng, shifts, neighbours, emotion, strength * expressive)
        for shifts, neighbours, strength, expressive in (
            (voice.VOICE_SHIFTS, voice.VOICE_NEIGHBOURS, strengths[0], speaker.voice.expressiveness),
            (face.FACE_SHIFTS, face.FACE_NEIGHBOURS, strengths[1], speaker.face.expressiveness),
        )
    ]
    plan = Plan(
        clip_id=f"{speaker.name}_{emotion}_{take + 1:02d}",
        emotion=emotion,
        speaker=speaker,
        duration_s=duration_s,
        voice_region=_region(AUDIO, centre_s + lag_s / 2, lengths[0]),
        face_region=_region(VIDEO, centre_s - lag_s / 2, lengths[1]),
        lag_s=lag_s,
        voice_strength=strengths[0],
        face_strength=strengths[1],
        voice_shift=moves[0],
        face_shift=moves[1],
    )
    return plan, streams


def render_clip(plan: Plan, streams: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The clip as arrays.

    The lips follow the articulation, which knows no emotion, so the face shows nothing of the voice's region.

    Returns:
        waveform (N,) float32 at `voice.SAMPLE_RATE_HZ`, frames (T, H, W, 3) uint8 at `face.FPS`, recording facts.
    """
    speech_rng, voice_rng, record_rng, face_rng = streams
    control_s = np.arange(round(plan.duration_s * voice.CONTROL_HZ)) / voice.CONTROL_HZ
    frame_s = np.arange(round(plan.duration_s * face.FPS)) / face.FPS
    traits = plan.speaker.voice
    said = voice.articulate(speech_rng, traits, len(control_s))
    dry = voice.synthesize(voice_rng, traits, said, plan.voice_shift, intensity(control_s, plan.voice_region))
    waveform, recording = record(record_rng, dry)
    lips = np.interp(frame_s, control_s, said.amplitude) * face_rng.uniform(0.4, 0.7)
    frames = face.render(face_rng, plan.speaker.face, plan.face_shift, intensity(frame_s, plan.face_region), lips)
    return waveform, frames, recording


def intensity(times: np.ndarray, region: Region) -> np.ndarray:
    """(T,) 0 outside the region, 1 inside, with raised-cosine ramps of `RAMP_S` that cross a half at its borders."""
    edge = np.minimum(times - region.start_s, region.end_s - times)
    return 0.5 + 0.5 * np.sin(np.pi * np.clip(edge / RAMP_S, -0.5, 0.5))


def build_speaker(seed: int, number: int) -> Speaker:
    """Speaker `number` (from 0) of the corpus with this seed."""
    rng = np.random.default_rng([seed, 0, number])
    sex = "male" if number % 2 else "female"
    return Speaker(f"s{number + 1:02d}", sex, voice.draw_voice(rng, sex), face.draw_face(rng, sex))


def write_mp4(path: Path, waveform: np.ndarray, frames: np.ndarray) -> None:
    """Waveform (N,) and frames (T, H, W, 3) at the rates of this corpus, as H.264 and AAC in one file."""
    encoding.write_mp4(path, waveform, frames, sample_rate_hz=voice.SAMPLE_RATE_HZ, fps=face.FPS)


def _check(out: Path, settings: Settings, workers: int) -> None:
    if settings.speakers < 1 or settings.clips_per_emotion < 1 or settings.seed < 0 or workers < 1:
        raise ManifestError(
            f"got {settings} and workers={workers}: speakers, clips_per_emotion and workers must be 1 or more, "
            "seed 0 or more"
        )
    if (out / "manifest.csv").exists() and not (out / "corpus.json").exists():
        raise ManifestError(f"{out}: holds the manifest of another corpus; name an empty folder")


def _place(rng: np.random.Generator, emotion: str, duration_s: float) -> tuple[np.ndarray, float, float]:
    """Lengths of the two regions, their lag and their common centre; only the lag knows the emotion."""
    lengths = rng.uniform(*REGION_S, 2)
    lag_s = float(np.clip(rng.normal(LAGS_S[emotion], LAG_JITTER_S), -LAG_LIMIT_S, LAG_LIMIT_S))
    margin = (lengths.max() + LAG_LIMIT_S + RAMP_S) / 2
    return lengths, lag_s, float(rng.uniform(margin, duration_s - margin))


def _draw_strengths(rng: np.random.Generator) -> list[float]:
    """Of voice and face, with at most one of them weak."""
    weak = rng.choice(["voice", "face", "none"], p=[WEAK_SHARE, WEAK_SHARE, 1 - 2 * WEAK_SHARE])
    return [float(rng.uniform(*(WEAK if weak == modality else STRONG))) for modality in ("voice", "face")]


def _realise(
    rng: np.random.Generator,
    shifts: dict[str, dict[str, float]],
    neighbours: dict[str, str],
    emotion: str,
    strength: float,
) -> dict[str, float]:
    """One clip's version of an emotion: a share of its neighbour mixed in, each cue a little more or less, scaled."""
    share = rng.uniform(0, NEIGHBOUR_SHARE)
    own, other = shifts[emotion], shifts[neighbours[emotion]]
    names = sorted({name for shift in shifts.values() for name in shift})
    wobble = dict(zip(names, rng.normal(1, 0.15, len(names)), strict=True))
    mixed = {name: (1 - share) * own.get(name, 0.0) + share * other.get(name, 0.0) for name in names}
    return {name: float(strength * wobble[name] * size) for name, size in mixed.items() if size}


def _region(modality: str, centre_s: float, length_s: float) -> Region:
    return Region(modality, float(centre_s - length_s / 2), float(centre_s + length_s / 2), peak_s=float(centre_s))


def _row(plan: Plan) -> ClipRow:
    media = f"media/{plan.clip_id}.mp4"
    return ClipRow(
        plan.clip_id, "synthetic", plan.speaker.name, plan.emotion, audio=media, video=media, sex=plan.speaker.sex
    )


def _facts(plan: Plan, recording: dict[str, float]) -> dict[str, Any]:
    numbers = {
        "duration_s": plan.duration_s,
        "lag_s": plan.lag_s,
        "voice_strength": plan.voice_strength,
        "face_strength": plan.face_strength,
        **recording,
    }
    return {name: round(value, 4) for name, value in numbers.items()}
