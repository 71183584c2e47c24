"""Several faces through one clip: which is which from look to look, where they were in between, and whose is wanted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import TypeVar

import numpy as np

from avser.errors import ConfigError
from avser.media.crops import Square, overlap, square_between
from avser.media.jpeg import JpegRun
from avser.media.speaker import find_speaker
from avser.structures import Curve, FaceTrack

MIN_OVERLAP = 0.3  # of two boxes, for the later face to be the earlier one
EQUAL_LENGTH = 0.9  # a track of this share of the longest counts as equally long; then size decides
MANY_LOOKS = 4  # with so many, a face is seen more than once, as the frames around its first look are looked at too
BRIEF = 0.25  # a track shorter than this share of the longest is nobody's who is wanted: a passer-by, or no face at all

Thing = TypeVar("Thing")


@dataclass(frozen=True, eq=False)
class Face:
    """One face as the detector found it.

    Attributes:
        landmarks: (478, 2) float32, pixels of the frame.
        blendshapes: (52,) float32.
        square: around it, before smoothing.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    square: Square

    @cached_property
    def box(self) -> np.ndarray:
        """(4,) tightly around the landmarks."""
        return np.concatenate([self.landmarks.min(axis=0), self.landmarks.max(axis=0)])


@dataclass(eq=False)
class FollowedFace:
    """One face through the frames, by the index of the frame.

    Attributes:
        looks: where the detector found it.
        squares: there, and in the frames between two looks that both found it.
        boxes, crops: (4,) and image, where it has been cut out.
    """

    looks: dict[int, Face] = field(default_factory=dict)
    squares: dict[int, Square] = field(default_factory=dict)
    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    crops: JpegRun = field(default_factory=JpegRun)
    last_box: np.ndarray = field(default_factory=lambda: np.zeros(4))

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def area(self) -> float:
        """Square pixels, summed over the frames."""
        return sum(square.side**2 for square in self.squares.values())

    @property
    def mean_area(self) -> float:
        return self.area / len(self)

    @property
    def mean_x(self) -> float:
        return float(np.mean([square.x for square in self.squares.values()]))

    def points(self, index: int, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks and blendshapes in a frame between two looks, or at one; they move evenly from look to look."""
        if index in self.looks:
            return self.looks[index].landmarks, self.looks[index].blendshapes
        before, after = max(i for i in self.looks if i < index), min(i for i in self.looks if i > index)
        share = (times[index] - times[before]) / max(times[after] - times[before], 1e-9)
        one, other = self.looks[before], self.looks[after]
        return (
            ((1 - share) * one.landmarks + share * other.landmarks).astype(np.float32),
            ((1 - share) * one.blendshapes + share * other.blendshapes).astype(np.float32),
        )


@dataclass
class Following:
    """The faces of a clip, as far as it has been looked at.

    Attributes:
        times: seconds, of every frame so far; append one before a look at it.
        last: index of the frame that was looked at last; -1 before the first look.
    """

    times: list[float] = field(default_factory=list)
    tracks: list[FollowedFace] = field(default_factory=list)
    last: int = -1
    num_looks: int = 0

    def agrees(self, faces: Sequence[Face]) -> bool:
        """Whether a look sees the very faces of the look before it: then nobody came or went in between."""
        seen = self._seen_last()
        return len(seen) == len(faces) == len(_pair(seen, faces))

    def add(self, index: int, faces: Sequence[Face]) -> None:
        """What a look at a frame found: every face goes on with the track that it overlaps most, or begins one.

        Those that were there at the last look choose first. A face seen both times is taken to have moved evenly.
        """
        seen = self._seen_last()
        pairs = _pair(seen, faces)
        for track, face in pairs:
            self._bridge(track, index, face.square)
        rest = _without(faces, [face for _, face in pairs])
        again = _pair(_without(self.tracks, seen), rest)
        new = [(FollowedFace(), face) for face in _without(rest, [face for _, face in again])]
        self.tracks += [track for track, _ in new]
        for track, face in [*pairs, *again, *new]:
            track.looks[index] = face
            track.squares[index] = face.square
            track.last_box = face.box
        self.last = index
        self.num_looks += 1

    def drop_flashes(self) -> None:
        """Forget what only one of many looks took for a face: a face lasts, a pattern that looks like one does not."""
        if self.num_looks >= MANY_LOOKS:
            self.tracks = [track for track in self.tracks if len(track.looks) > 1]

    def forget(self, index: int, every: int, reach_s: float) -> None:
        """Drop what no frame after `index` needs: looks before its own, squares that the smoothing does not reach."""
        oldest = min(index - every, bisect_left(self.times, self.times[index] - reach_s))
        for track in self.tracks:
            for kept in (track.looks, track.squares):
                for i in [i for i in kept if i < oldest]:
                    del kept[i]

    def near(self, track: FollowedFace, index: int, reach_s: float) -> list[int]:
        """The frames with that track within `reach_s` of one of them."""
        time_s = self.times[index]
        low, high = bisect_left(self.times, time_s - reach_s), bisect_right(self.times, time_s + reach_s)
        return [i for i in range(low, high) if i in track.squares]

    def _seen_last(self) -> list[FollowedFace]:
        return [track for track in self.tracks if self.last in track.looks]

    def _bridge(self, track: FollowedFace, index: int, square: Square) -> None:
        before = track.squares[self.last]
        begin_s, end_s = self.times[self.last], self.times[index]
        for i in range(self.last + 1, index):
            track.squares[i] = square_between(before, square, (self.times[i] - begin_s) / (end_s - begin_s))


def choose(following: Following, how: str, voice: Curve | None) -> tuple[FollowedFace, list[str]]:
    """The track that is wanted, out of one or more, and warnings on what was passed over and lost.

    Args:
        how: longest (of nearly equally long ones the largest), largest (summed over the frames), left, right (by the
            mean place; brief tracks are passed over), speaking (see `find_speaker`; the longest where that is
            uncertain).
        voice: its loudness along time, for `speaking`.

    Raises:
        ConfigError: no such choice.
    """
    tracks, num_frames = following.tracks, len(following.times)
    if how not in CHOICES:
        raise ConfigError(f"media.faces.choose={how!r}: allowed are {', '.join(CHOICES)}")
    best, words = CHOICES[how](following, voice) if len(tracks) > 1 else (tracks[0], "")
    if words:
        return best, [f"{len(tracks)} face tracks; took {words}, seen in {len(best) / num_frames:.0%} of the frames"]
    lost = num_frames - len(best)
    return best, [f"no face in {lost} of {num_frames} frames"] if lost else []


def as_face_track(track: FollowedFace, times: Sequence[float], crop_px: int) -> FaceTrack:
    """A track that has been cut, as arrays over all frames; landmarks and blendshapes move evenly between looks."""
    num_frames, seen, looks = len(times), np.array(sorted(track.squares)), np.array(sorted(track.looks))
    clock = np.array(times, np.float64)
    found = np.zeros(num_frames, bool)
    found[seen] = True
    boxes = np.full((num_frames, 4), np.nan, np.float32)
    boxes[seen] = [track.boxes[i] for i in seen.tolist()]
    after = looks.searchsorted(seen)
    before = np.where(looks[after] == seen, after, after - 1)
    shares = (clock[seen] - clock[looks[before]]) / np.maximum(clock[looks[after]] - clock[looks[before]], 1e-9)

    def over_all_frames(name: str) -> np.ndarray:
        values = [getattr(track.looks[i], name) for i in looks.tolist()]
        filled = np.full((num_frames, *values[0].shape), np.nan, np.float32)
        for i, one, other, share in zip(seen, before, after, shares, strict=True):
            filled[i] = values[one] if one == other else (1 - share) * values[one] + share * values[other]
        return filled

    crops = track.crops.crops(num_frames, crop_px)
    return FaceTrack(clock, crops, found, boxes, over_all_frames("landmarks"), over_all_frames("blendshapes"))


def _without(things: Sequence[Thing], taken: Sequence[Thing]) -> list[Thing]:
    return [thing for thing in things if thing not in taken]


def _pair(tracks: Sequence[FollowedFace], faces: Sequence[Face]) -> list[tuple[FollowedFace, Face]]:
    """Tracks and the faces that go on with them: the largest overlap first, each only once."""
    shares = [
        (overlap(track.last_box, face.box), t, f) for t, track in enumerate(tracks) for f, face in enumerate(faces)
    ]
    pairs: dict[int, int] = {}
    for share, t, f in sorted(shares, reverse=True):
        if share >= MIN_OVERLAP and t not in pairs and f not in pairs.values():
            pairs[t] = f
    return [(tracks[t], faces[f]) for t, f in pairs.items()]


def _longest(following: Following, _: Curve | None) -> tuple[FollowedFace, str]:
    longest = max(map(len, following.tracks))
    rivals = [track for track in following.tracks if len(track) >= EQUAL_LENGTH * longest]
    return max(rivals, key=attrgetter("mean_area")), "the longest"


def _largest(following: Following, _: Curve | None) -> tuple[FollowedFace, str]:
    return max(following.tracks, key=attrgetter("area")), "the largest"


def _leftmost(following: Following, _: Curve | None) -> tuple[FollowedFace, str]:
    return min(_lasting(following), key=attrgetter("mean_x")), "the one on the left"


def _rightmost(following: Following, _: Curve | None) -> tuple[FollowedFace, str]:
    return max(_lasting(following), key=attrgetter("mean_x")), "the one on the right"


def _speaking(following: Following, voice: Curve | None) -> tuple[FollowedFace, str]:
    fallback, words = _longest(following, voice)
    if voice is None:
        return fallback, f"{words} (there is no voice to tell who speaks)"
    tracks = _lasting(following)
    mouths = []
    for track in tracks:
        indices = sorted(track.looks)
        times = np.array([following.times[i] for i in indices])
        mouths.append((times, np.stack([track.looks[i].landmarks for i in indices])))
    best, scores = find_speaker(mouths, voice)
    told = " and ".join(f"{score:.2f}" for score in sorted(scores, reverse=True))
    if best is None:
        return fallback, f"{words} (who speaks is uncertain: mouths and voice correlate by {told})"
    return tracks[best], f"the one whose mouth moves with the voice (of all, they correlate by {told})"


def _lasting(following: Following) -> list[FollowedFace]:
    longest = max(map(len, following.tracks))
    return [track for track in following.tracks if len(track) >= BRIEF * longest]


Choice = Callable[[Following, "Curve | None"], tuple[FollowedFace, str]]
CHOICES: dict[str, Choice] = {
    "longest": _longest,
    "largest": _largest,
    "left": _leftmost,
    "right": _rightmost,
    "speaking": _speaking,
}
