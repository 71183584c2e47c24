from __future__ import annotations

import numpy as np
import pytest

from avser.errors import ConfigError
from avser.media.crops import Square
from avser.media.jpeg import encode_jpeg
from avser.media.tracks import Face, Following, as_face_track, choose
from avser.structures import Curve

GREY = encode_jpeg(np.full((8, 8, 3), 90, np.uint8))


def face_at(x: float, y: float = 100.0, size: float = 40.0, *, opening: float = 0.0, smile: float = 0.5) -> Face:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2))
    points[0], points[1] = (-0.5, -0.5), (0.5, 0.5)
    points[[33, 263]] = [(-0.25, -0.2), (0.25, -0.2)]
    points[[13, 14]] = [(0, 0.3), (0, 0.3 + opening / 2)]
    return Face((points * size + (x, y)).astype(np.float32), np.full(52, smile, np.float32), Square(x, y, 1.5 * size))


def follow(looks: dict[int, list[Face]], times: np.ndarray | None = None) -> Following:
    """Looks at the frames given, of frames 0.1 s apart, cut as a tracker would."""
    following = Following()
    times = np.arange(max(looks) + 1) / 10 if times is None else times
    for index, time_s in enumerate(times.tolist()):
        following.times.append(time_s)
        if index in looks:
            following.add(index, looks[index])
    for track in following.tracks:
        track.boxes = {index: square.box for index, square in track.squares.items()}
        for index in sorted(track.squares):
            track.crops.add(index, GREY)
    return following


def every_frame(*frames: list[Face]) -> Following:
    return follow(dict(enumerate(frames)))


def test_a_face_moves_evenly_between_two_looks():
    following = follow(
        {0: [face_at(100, smile=0.0)], 3: [face_at(112, 106, 52, smile=0.6)]}, np.array([0.0, 0.1, 0.25, 0.5])
    )
    [track] = following.tracks
    np.testing.assert_allclose([track.squares[i].x for i in range(4)], [100, 102.4, 106, 112])
    np.testing.assert_allclose([track.squares[i].side for i in range(4)], [60, 63.6, 69, 78])
    face = as_face_track(track, following.times, 8)
    assert face.found.all()
    np.testing.assert_allclose(face.times, [0, 0.1, 0.25, 0.5])
    np.testing.assert_allclose(face.blendshapes[:, 7], [0, 0.12, 0.3, 0.6], atol=1e-6)
    first, last = face.landmarks[[0, 3]]
    np.testing.assert_allclose(face.landmarks[1], 0.8 * first + 0.2 * last, atol=1e-4)
    np.testing.assert_allclose(face.landmarks[2], 0.5 * first + 0.5 * last, atol=1e-4)


def test_nothing_is_found_between_looks_of_which_one_missed_the_face():
    following = follow({0: [face_at(100)], 3: [], 6: [face_at(104)], 8: [face_at(108)]})
    track, warnings = choose(following, "longest", None)
    face = as_face_track(track, following.times, 8)
    np.testing.assert_array_equal(face.found, [1, 0, 0, 0, 0, 0, 1, 1, 1])
    assert warnings == ["no face in 5 of 9 frames"]
    for values in (face.boxes, face.landmarks, face.blendshapes):
        assert np.isnan(values[1:6]).all()
        assert not np.isnan(values[face.found]).any()
    assert not face.crops[1:6].any()
    assert (face.crops[[0, 6, 7, 8]] > 80).all()
    np.testing.assert_allclose(face.landmarks[7].mean(axis=0), face.landmarks[[6, 8]].mean(axis=(0, 1)), atol=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "agrees"),
    [
        ([100.0], [110.0], True),
        ([100.0, 300.0], [305.0, 104.0], True),
        ([], [], True),
        ([100.0], [], False),
        ([], [100.0], False),
        ([100.0], [100.0, 300.0], False),
        ([100.0], [150.0], False),  # jumped, or another face
        ([100.0, 300.0], [100.0, 500.0], False),
    ],
)
def test_looks_agree_when_they_see_the_same_faces(before, after, agrees):
    assert every_frame([face_at(x) for x in before]).agrees([face_at(x) for x in after]) is agrees


def test_the_first_look_agrees_only_with_an_empty_picture():
    assert Following().agrees([])
    assert not Following().agrees([face_at(100)])


def test_two_faces_keep_their_own_tracks_whatever_their_order():
    following = every_frame([face_at(100), face_at(300)], [face_at(305), face_at(104)], [face_at(108)])
    assert [len(track) for track in following.tracks] == [3, 2]
    track, warnings = choose(following, "longest", None)
    assert [round(square.x) for square in track.squares.values()] == [100, 104, 108]
    assert warnings == ["2 face tracks; took the longest, seen in 100% of the frames"]


def test_two_detections_of_one_face_do_not_share_a_track():
    following = every_frame([face_at(100)], [face_at(104), face_at(101)])
    assert [len(track) for track in following.tracks] == [2, 1]
    assert following.tracks[0].squares[1].x == 101


def test_a_face_elsewhere_is_another_track():
    assert len(every_frame([face_at(100)], [face_at(400)]).tracks) == 2


def test_a_face_that_was_just_there_goes_on_before_one_that_had_gone():
    """The second face stands nearly where the first one had vanished; it is still the second one."""
    following = every_frame([face_at(100)], [], [face_at(110)], [face_at(103), face_at(160)])
    assert [sorted(track.looks) for track in following.tracks] == [[0, 2, 3], [3]]
    following = every_frame([face_at(100), face_at(115, size=60)], [face_at(112, size=60)], [face_at(104, size=50)])
    assert [sorted(track.looks) for track in following.tracks] == [[0], [0, 1, 2]]


def test_of_equally_long_tracks_the_largest_is_taken():
    frames = [[face_at(100, size=30), face_at(200, size=50)]] * 20
    frames[7] = [face_at(100, size=30)]  # one missed frame does not decide
    track, _ = choose(every_frame(*frames), "longest", None)
    assert track.squares[0].x == 200


# Three people: a small one on the left throughout, a larger one in the middle for most of the time, and on the far
# right somebody who passes; a flicker of the detector on the far left.
CROWD = [
    [face_at(100, size=30)]
    + ([face_at(200, size=50)] if k < 15 else [])
    + ([face_at(400, size=40)] if k >= 10 else [])
    + ([face_at(20, size=20)] if k == 4 else [])
    for k in range(20)
]


@pytest.mark.parametrize(
    ("how", "x", "words"),
    [
        ("longest", 100, "the longest, seen in 100%"),
        ("largest", 200, "the largest, seen in 75%"),
        ("left", 100, "the one on the left, seen in 100%"),
        ("right", 400, "the one on the right, seen in 50%"),
    ],
)
def test_the_face_that_is_asked_for_is_taken(how, x, words):
    track, [warning] = choose(every_frame(*CROWD), how, None)
    assert track.squares[max(track.squares)].x == x
    assert warning == f"4 face tracks; took {words} of the frames"


def test_one_face_needs_no_choice():
    for how in ("longest", "largest", "left", "right", "speaking"):
        track, warnings = choose(every_frame([face_at(100)], [face_at(101)]), how, None)
        assert (len(track), warnings) == (2, [])


def test_an_unknown_choice():
    with pytest.raises(ConfigError, match="'middle': allowed are longest, largest, left, right, speaking"):
        choose(every_frame([face_at(1)]), "middle", None)


# --- who speaks ---------------------------------------------------------------------------------------------------

TIMES = np.arange(30) / 10
VOICE = Curve(np.arange(300) / 100, -30 + 20 * np.sin(2 * np.pi * np.arange(300) / 100))  # once a second
LOUD = 0.5 + 0.5 * np.sin(2 * np.pi * TIMES)


def dialogue(left: np.ndarray, right: np.ndarray, right_size: float = 60.0) -> Following:
    """Two people throughout, whose mouths open by 0.2 of these; the one on the right is larger."""
    pairs = zip(left, right, strict=True)
    return every_frame(
        *([face_at(100, opening=0.2 * a), face_at(300, size=right_size, opening=0.2 * b)] for a, b in pairs)
    )


def test_the_one_whose_mouth_moves_with_the_voice_speaks():
    track, [warning] = choose(dialogue(LOUD, np.zeros(30)), "speaking", VOICE)
    assert track.squares[0].x == 100
    took = "took the one whose mouth moves with the voice (of all, they correlate by 0.99 and 0.00)"
    assert warning == f"2 face tracks; {took}, seen in 100% of the frames"
    track, _ = choose(dialogue(LOUD, 1 - LOUD), "speaking", VOICE)
    assert track.squares[0].x == 100
    track, _ = choose(dialogue(1 - LOUD, LOUD), "speaking", VOICE)
    assert track.squares[0].x == 300


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (LOUD, LOUD),  # in chorus
        (np.zeros(30), np.zeros(30)),  # somebody outside the picture
        (1 - LOUD, np.roll(LOUD, 5)),  # out of phase, and late by half a period
    ],
)
def test_who_speaks_may_be_uncertain(left, right):
    track, [warning] = choose(dialogue(left, right), "speaking", VOICE)
    assert track.squares[0].x == 300  # the longest, being the larger of two
    assert "took the longest (who speaks is uncertain: mouths and voice correlate by " in warning


def test_without_a_voice_nobody_speaks():
    track, [warning] = choose(dialogue(LOUD, np.zeros(30)), "speaking", None)
    assert track.squares[0].x == 300
    assert "took the longest (there is no voice to tell who speaks), seen in 100%" in warning


def test_what_one_of_many_looks_took_for_a_face_is_forgotten():
    following = every_frame([], [], [face_at(300)], [face_at(100)], [face_at(101)])
    following.drop_flashes()
    assert [track.squares[3].x for track in following.tracks] == [100]
    few = every_frame([], [], [face_at(300)])  # of few looks, one is not little
    few.drop_flashes()
    assert len(few.tracks) == 1
