"""Faces as shapes: the 68 points are where they should be, and place, size and tilt leave no trace."""

import math

import pytest
import torch

from avser.features.landmarks import IBUG_68, AlignedLandmarks, align_faces, mean_face, select_points

# The number of each point's mirror image in the iBUG order.
MIRROR = (
    [16 - i for i in range(17)]
    + [43 - i for i in range(17, 27)]
    + [27, 28, 29, 30]
    + [66 - i for i in range(31, 36)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55]
    + [64, 63, 62, 61, 60, 67, 66, 65]
)


def faces(num_faces, *, spread=0.05, seed=0):
    """(M, 68, 2) variations of one random face, none of them moved or turned."""
    generator = torch.Generator().manual_seed(seed)
    face = torch.randn(68, 2, generator=generator)
    return face + spread * torch.randn(num_faces, 68, 2, generator=generator)


def moved(points, *, angle, scale, shift):
    """Turned by `angle` radians, scaled and shifted."""
    c, s = math.cos(angle), math.sin(angle)
    return scale * points @ torch.tensor([[c, s], [-s, c]]) + torch.tensor(shift)


def test_the_68_points_are_different_points_of_the_mesh():
    assert len(set(IBUG_68)) == len(IBUG_68) == 68
    assert max(IBUG_68) < 468  # the ten of the irises are not among them
    mesh = torch.arange(478.0)[:, None].expand(478, 2)
    assert select_points(mesh)[:, 0].tolist() == list(IBUG_68)
    with pytest.raises(ValueError, match="51 landmarks"):
        select_points(torch.zeros(51, 2))


def test_alignment_undoes_a_move():
    face = faces(1)[0]
    there = moved(face, angle=0.7, scale=40.0, shift=[300.0, 120.0])
    torch.testing.assert_close(align_faces(there, face), face, atol=1e-4, rtol=1e-4)


def test_faces_are_turned_by_least_squares_and_never_mirrored():
    face, other = faces(2, spread=0.5)
    aligned = align_faces(other, face)
    best = (aligned - face).square().sum()
    centre = aligned.mean(dim=0)
    for angle in (-0.01, 0.01):
        turned = moved(aligned - centre, angle=angle, scale=1.0, shift=[0.0, 0.0]) + centre
        assert (turned - face).square().sum() > best
    mirrored = align_faces(face * torch.tensor([-1.0, 1.0]), face)
    assert (mirrored - face).square().mean() > 0.1


def test_a_face_without_a_shape_becomes_the_reference():
    face = faces(1)[0]
    flat = torch.full((3, 68, 2), 55.0)
    flat[2] = torch.nan
    assert torch.equal(align_faces(flat, face), face.expand(3, 68, 2))


def test_the_mean_face_is_the_same_wherever_the_faces_were():
    many = faces(40)
    generator = torch.Generator().manual_seed(3)
    angles = 0.6 * torch.rand(40, generator=generator) - 0.3
    spread_out = torch.stack(
        [
            moved(face, angle=a, scale=10 + 3 * i, shift=[5.0 * i, 80.0])
            for i, (face, a) in enumerate(zip(many, angles, strict=True))
        ]
    )
    spread_out = torch.cat([spread_out, torch.zeros(2, 68, 2)])  # two frames without a face
    one, other = mean_face(many), mean_face(spread_out)
    assert one.mean(dim=0).abs().max() < 1e-5
    assert one.square().sum(dim=1).mean().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(align_faces(other, one), one, atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match="no face"):
        mean_face(torch.zeros(3, 68, 2))


def test_features_are_coordinates_and_their_change_where_two_frames_follow_one_another():
    front_end = AlignedLandmarks()
    mask = torch.tensor([[True, True, False, True, True]])
    landmarks = faces(5)[None] * mask[..., None, None]
    front_end.fit([(landmarks, mask)])
    x = front_end(landmarks, mask)
    assert x.shape == (1, 5, 272) == (1, 5, front_end.num_features)
    assert not x[0, 2].any()
    for first_with_a_neighbour, expected in {
        0: None,
        1: x[0, 1, :136] - x[0, 0, :136],
        3: None,
        4: x[0, 4] - x[0, 3],
    }.items():
        change = x[0, first_with_a_neighbour, 136:]
        torch.testing.assert_close(change, torch.zeros(136) if expected is None else expected[:136])
    assert torch.equal(AlignedLandmarks(deltas=False).fit([(landmarks, mask)])(landmarks, mask), x[..., :136])


def test_place_size_and_tilt_of_the_head_do_not_show():
    front_end, mask = AlignedLandmarks(), torch.ones(1, 4, dtype=torch.bool)
    still = faces(4)[None]
    front_end.fit([(still, mask)])
    elsewhere = moved(still, angle=0.4, scale=90.0, shift=[200.0, 100.0])
    torch.testing.assert_close(front_end(elsewhere, mask), front_end(still, mask), atol=1e-4, rtol=0)


def test_the_mean_face_is_saved_with_the_weights():
    fitted = AlignedLandmarks().fit([(faces(3)[None], torch.ones(1, 3, dtype=torch.bool))])
    again = AlignedLandmarks()
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again.mean_face, fitted.mean_face)
    assert again.mean_face.any()


def test_on_a_real_face_the_points_are_its_features(real_data):
    """Mirror images of each other, brows over eyes over nose over lips over chin."""
    from avser.media.clip import read_clip
    from avser.media.faces import build_tracker

    model = str(real_data / "models" / "face_landmarker.task")
    tracker = build_tracker("mediapipe", crop_px=64, every=1, model=model)
    path = real_data / "clips" / "single_face.mp4"
    track = read_clip("face", audio=None, video=path, tracker=tracker, fps=5).face
    assert track is not None
    assert track.blendshapes.shape == (len(track), 52)
    landmarks, mask = torch.from_numpy(track.landmarks)[None], torch.from_numpy(track.found)[None]
    front_end = AlignedLandmarks().fit([(landmarks, mask)])
    x = front_end(landmarks, mask)
    assert torch.isfinite(x).all()
    face = front_end.mean_face
    mirrored = align_faces((face * torch.tensor([-1.0, 1.0]))[MIRROR], face)
    assert (mirrored - face).norm(dim=1).max() < 0.3
    assert (mirrored - face).norm(dim=1).mean() < 0.12
    parts = {"brows": (17, 27), "eyes": (36, 48), "nose": (31, 36), "lips": (48, 60), "chin": (7, 10)}
    heights = [face[begin:end, 1].mean() for begin, end in parts.values()]
    assert heights == sorted(heights)
    inner, outer = face[60:68], face[48:60]
    assert (inner[:, 1].max() <= outer[:, 1].max()) & (inner[:, 1].min() >= outer[:, 1].min())
    assert (face[36, 0] < face[39, 0]) & (face[39, 0] < face[42, 0]) & (face[42, 0] < face[45, 0])
