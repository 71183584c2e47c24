"""Which take meets which: emotions, layouts and takes of a speaker get their turn, and the best carrier is chosen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from avser.data.manifest import ClipRow, Manifest
from avser.errors import MediaError
from avser.media.audio import read_audio
from avser.media.video import probe
from preprocessing.report import LeftOut
from preprocessing.splice.joins import LAYOUTS, Limits, Plan, join, match_takes, plan_pieces
from preprocessing.splice.voice import Voice

NEUTRAL = "neutral"
MARGIN_S = (0.1, 0.3)  # kept of the pause before the first speech of a clip and after the last
MIN_RATE_HZ = 8000  # one bad header must not set the rate of the whole corpus
MAX_CARRIERS = 4  # neutral takes that compete for a clip
MAX_TRIES = 6  # emotional takes that are tried for a clip
MAX_VOICES = 64  # held in memory

Speaker = tuple[str, str, str, str]  # corpus, speaker, side, split: only within one of these takes are joined


@dataclass(frozen=True)
class Settings:
    """What defines a corpus.

    Attributes:
        count: how many clips; None for as many as there are takes.
        seed: everything random follows from it.
        region_s: shortest and longest emotional speech in a clip.
        carrier_s: least neutral speech in each neutral piece.
        keep_loudness: do not bring the emotional speech to the loudness of the neutral one.
    """

    count: int | None = None
    seed: int = 0
    region_s: tuple[float, float] = (0.4, 1.0)
    carrier_s: float = 0.3
    keep_loudness: bool = False


@dataclass(frozen=True)
class Take:
    """A clip of the source corpus, with what the headers of its files say.

    Attributes:
        sample_rate_hz: of the sound.
        picture: width and height in pixels; None without a picture.
        fps: of the picture; None without one.
    """

    row: ClipRow
    sample_rate_hz: int
    picture: tuple[int, int] | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Slot:
    """A clip to be made: its number in the corpus, and what is decided before any take is looked at."""

    number: int
    emotion: str
    layout: str


@dataclass(frozen=True)
class Splice:
    """A clip that was made.

    Attributes:
        takes: carrier and emotional take.
        voices: the two as they were recorded.
        waveform: (N,) the joined sound.
        plan: its pieces.
        gain_db: that the emotional take got.
    """

    slot: Slot
    takes: tuple[Take, Take]
    voices: tuple[Voice, Voice]
    waveform: np.ndarray
    plan: Plan
    gain_db: float

    @property
    def joins(self) -> list[int]:
        """The sample of each cross-fade's middle."""
        return [int(n) for n in np.cumsum([len(piece) for piece in self.plan.pieces])[:-1]]


@dataclass
class Cast:
    """The takes that can be used, by speaker and emotion, and what was left out with the reason."""

    takes: dict[Speaker, dict[str, list[Take]]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def sample_rate_hz(self) -> int:
        """The lowest of all takes: a higher one would show which take has nothing up there."""
        return min(t.sample_rate_hz for of_one in self.takes.values() for takes in of_one.values() for t in takes)


def cast_takes(manifest: Manifest) -> Cast:
    """Look into every file, and group the takes by speaker; speakers without neutral takes are left out by name."""
    cast = Cast()
    found: dict[Speaker, dict[str, list[Take]]] = defaultdict(lambda: defaultdict(list))
    for row in manifest.rows:
        take = _look_into(manifest, row)
        if isinstance(take, LeftOut):
            cast.left_out.append(take)
        else:
            found[row.corpus, row.speaker, row.side, row.split][row.emotion].append(take)
    for speaker, takes in sorted(found.items()):
        neutral = takes.get(NEUTRAL, [])
        if not neutral:
            num = sum(map(len, takes.values()))
            reason = f"no neutral take that could carry an emotion; {num} takes are not used"
            cast.left_out.append(LeftOut(f"speaker {speaker[1]}", "missing", reason))
            continue
        if all(_same_recording(take, neutral[0]) for take in neutral):
            reason = "only one neutral take: no neutral one can be spliced into another, so there are no controls"
            cast.left_out.append(LeftOut(f"speaker {speaker[1]}", "missing", reason))
            takes = {emotion: of_it for emotion, of_it in takes.items() if emotion != NEUTRAL} | {NEUTRAL: neutral}
        cast.takes[speaker] = dict(takes)
    return cast


def deal_slots(cast: Cast, settings: Settings, emotions: Sequence[str] | None = None) -> dict[Speaker, list[Slot]]:
    """Rounds in which each emotion of each speaker has one turn, in random order; layouts alternate.

    The layout and thus the region's place is fixed by the turn, so it cannot tell the emotion.

    Args:
        emotions: only these; None for all.
    """
    turns = [
        (speaker, emotion, s + e)
        for s, speaker in enumerate(cast.takes)
        for e, emotion in enumerate(sorted(cast.takes[speaker]))
        if (emotions is None or emotion in emotions) and _has_partner(cast.takes[speaker], emotion)
    ]
    count = settings.count
    if count is None:
        count = sum(len(cast.takes[speaker][emotion]) for speaker, emotion, _ in turns)
    rng = np.random.default_rng(settings.seed)
    names = list(LAYOUTS)
    slots: dict[Speaker, list[Slot]] = defaultdict(list)
    order: list[int] = []
    for number in range(count if turns else 0):
        if not order:
            order = list(rng.permutation(len(turns)))
        speaker, emotion, offset = turns[order.pop()]
        slots[speaker].append(Slot(number, emotion, names[(offset + number // len(turns)) % len(names)]))
    return dict(slots)


def make_splices(
    manifest: Manifest, takes: Mapping[str, Sequence[Take]], slots: Sequence[Slot], settings: Settings, rate: int
) -> Iterator[Splice | LeftOut]:
    """Fill the slots of one speaker; takes that were used less come first."""
    voices = _Voices(manifest, rate)
    uses: Counter[str] = Counter()
    for slot in slots:
        rng = np.random.default_rng([settings.seed, slot.number])
        margins_s = tuple(rng.uniform(*MARGIN_S, 2))
        limits = Limits(rng.uniform(*settings.region_s), settings.region_s, settings.carrier_s, margins_s)
        wait = {take.row.clip_id: (uses[take.row.clip_id], rng.random()) for take in takes[slot.emotion]}
        for take in sorted(takes[slot.emotion], key=lambda t: wait[t.row.clip_id])[:MAX_TRIES]:
            if splice := _best_carrier(voices, slot, take, takes[NEUTRAL], limits, rng, settings.keep_loudness):
                uses[take.row.clip_id] += 1
                yield splice
                break
        else:
            speaker = takes[slot.emotion][0].row.speaker
            reason = f"no quiet moments in the takes allow {limits.wanted_s:.2f} s of {slot.emotion} ({slot.layout})"
            yield LeftOut(f"clip {slot.number + 1} of speaker {speaker}", "missing", reason)
    yield from (LeftOut(clip_id, "bad", reason) for clip_id, reason in voices.faults.items())


def _best_carrier(
    voices: _Voices,
    slot: Slot,
    take: Take,
    neutral: Sequence[Take],
    limits: Limits,
    rng: np.random.Generator,
    keep_loudness: bool,
) -> Splice | None:
    """The clip with the neutral take that fits best: mostly, but not always, one of the same sentence."""
    if (region := voices.read(take)) is None:
        return None
    partners = [other for other in neutral if other.picture == take.picture and not _same_recording(other, take)]
    partners = [partners[i] for i in rng.permutation(len(partners))[:MAX_CARRIERS]]
    best: Splice | None = None
    for partner in partners:
        if (carrier := voices.read(partner)) is None:
            continue
        matched = match_takes(carrier, region, rng, keep_loudness=keep_loudness)
        plan = plan_pieces(*matched[:2], slot.layout, limits)
        if plan is not None and (best is None or plan.cost_db < best.plan.cost_db):
            sound = join(matched[:2], plan.pieces)
            best = Splice(slot, (partner, take), (carrier, region), sound, plan, matched[2])
    return best


class _Voices:
    """Reads takes, and remembers the last ones and those that cannot be used."""

    def __init__(self, manifest: Manifest, sample_rate_hz: int) -> None:
        self.faults: dict[str, str] = {}
        self._manifest, self._rate = manifest, sample_rate_hz
        self._held: dict[str, Voice] = {}

    def read(self, take: Take) -> Voice | None:
        row = take.row
        if row.clip_id in self.faults:
            return None
        if row.clip_id not in self._held:
            path = self._manifest.audio_path(row)
            assert path is not None
            try:
                waveform = read_audio(path, sample_rate_hz=self._rate, start_s=row.start_s, end_s=row.end_s)
            except MediaError as error:
                self.faults[row.clip_id] = str(error)
                return None
            voice = Voice(waveform, self._rate)
            if not voice.active.any():
                self.faults[row.clip_id] = f"{path}: no speech found in it"
                return None
            if len(self._held) >= MAX_VOICES:
                del self._held[next(iter(self._held))]
            self._held[row.clip_id] = voice
        return self._held[row.clip_id]


def _look_into(manifest: Manifest, row: ClipRow) -> Take | LeftOut:
    audio, video = manifest.audio_path(row), manifest.video_path(row)
    if not row.emotion:
        return LeftOut(row.clip_id, "unlabelled", "no emotion in the manifest")
    if audio is None:
        return LeftOut(row.clip_id, "missing", "no sound in the manifest; cuts are found in the sound")
    try:
        sound = probe(audio)
        picture = probe(video) if video is not None else None
    except MediaError as error:
        return LeftOut(row.clip_id, "bad", str(error))
    if not sound.has_audio or (sound.sample_rate_hz or 0) < MIN_RATE_HZ:
        reason = f"{audio}: sound at {sound.sample_rate_hz or 0} Hz; at least {MIN_RATE_HZ} Hz are needed"
        return LeftOut(row.clip_id, "bad", reason)
    assert sound.sample_rate_hz is not None
    if picture is None:
        return Take(row, sound.sample_rate_hz)
    if not (picture.width_px and picture.height_px and picture.fps):
        return LeftOut(row.clip_id, "bad", f"{video}: has no video track that can be decoded")
    return Take(row, sound.sample_rate_hz, (picture.width_px, picture.height_px), picture.fps)


def _same_recording(a: Take, b: Take) -> bool:
    """One clip, or two recordings of one performance."""
    return a.row.clip_id == b.row.clip_id or (bool(a.row.performance) and a.row.performance == b.row.performance)


def _has_partner(takes: Mapping[str, Sequence[Take]], emotion: str) -> bool:
    return emotion != NEUTRAL or any(not _same_recording(takes[NEUTRAL][0], take) for take in takes[NEUTRAL])
