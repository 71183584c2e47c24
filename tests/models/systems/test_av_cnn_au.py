"""av_cnn_au: windows of voice and face that belong together, the shift between them, and action units as teachers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from avser.models.systems.av_cnn_au import NUM_AUS, AvCnnAu
from avser.training.losses import TrainingLoss

SMALL = {"num_classes": 3, "channels": (4, 4, 8, 8), "width": 8, "hidden": 8}


def build(**options):
    torch.manual_seed(0)
    return AvCnnAu(**{**SMALL, **options}).eval()


def numbered(batch):
    """The batch with frame t of grey level t."""
    level = torch.arange(batch.frames.shape[1], dtype=torch.uint8).view(1, -1, 1, 1, 1)
    return replace(batch, frames=level.expand_as(batch.frames).contiguous())


def with_action_units(batch, num_columns=35):
    """A table on the frames' axis whose first column is the time."""
    table = torch.zeros(*batch.frame_mask.shape, num_columns)
    table[..., 0] = batch.frame_times
    return replace(batch, face_features=table, feature_times=batch.frame_times, feature_mask=batch.frame_mask)


def shown(model, batch):
    """For each window: its clip, its middle, and the numbers of the frames that it sees (empty where none)."""
    windows = model.cut(batch, model.modalities)
    around = windows.centre_s + model.av_offset_s * windows.has_voice
    faces, has_face, _ = model.faces_of(batch, windows, around)
    numbers = (255 * faces[:, :, 0, 0]).round().int()
    return [
        (int(o), c, n.tolist() if f else [])
        for o, c, n, f in zip(windows.owner, windows.centre_s.tolist(), numbers, has_face, strict=True)
    ]


def test_the_network_has_the_size_that_its_documentation_states():
    model = AvCnnAu(num_classes=6)
    blocks = 9 * (32 + 32 * 64 + 64 * 128 + 128 * 128) + 2 * (32 + 64 + 128 + 128)
    voice, face = 128 * 16 * 5 * 256 + 256, 128 * 6 * 5 * 256 + 256  # 256 bins x 80 columns; 96 x 80 pixels
    heads = 256 * NUM_AUS + NUM_AUS + 512 * 128 + 128 + 128 * 6 + 6
    assert sum(p.numel() for p in model.parameters()) == 2 * blocks + voice + face + heads


def test_windows_cover_the_clip_and_show_the_face_of_their_middle(make_batch):
    batch = numbered(make_batch((24000, 4000), (19, 4)))  # 1.5 s and 0.25 s, frames every 0.08 s
    found = shown(build(), batch)
    assert [owner for owner, _, _ in found] == [0, 0, 0, 0, 1]
    for (_, centre_s, frames), expected in zip(found, (0.32, 0.64, 0.96, 1.184, 0.125), strict=True):
        assert centre_s == pytest.approx(expected, abs=0.009)
        assert frames[0] == min(round(centre_s / 0.08), 18)


def test_the_face_can_be_shifted_against_the_voice(make_batch):
    """The table's first column tells which frame a window has seen."""
    batch = with_action_units(make_batch((24000, 0), (19, 12)))
    straight, later = (build(av_offset_s=offset_s)(batch) for offset_s in (0.0, 0.16))
    seen = later.extra["au_target"][:, 0] - straight.extra["au_target"][:, 0]
    # Without a voice there is nothing to shift against.
    torch.testing.assert_close(seen, torch.tensor([0.16] * 4 + [0.0] * (len(seen) - 4)))
    moved = (later.attended["video"].times - straight.attended["video"].times) * straight.attended["video"].mask
    torch.testing.assert_close(moved[:, 0], torch.tensor([0.16, 0.0]))


def test_several_faces_of_a_window_are_stacked_in_order(make_batch):
    frames = shown(build(num_faces=4, modalities=("video",)), numbered(make_batch((24000, 4000), (19, 4))))[1][2]
    assert len(set(frames)) == 4
    assert frames == sorted(frames)


def test_a_window_without_a_face_nearby_counts_for_the_voice_alone(make_batch):
    batch = make_batch((48000, 48000), (37, 37))
    batch.frame_mask[0, 12:] = False  # the face is lost after 0.9 s
    with torch.no_grad():
        output, voice_alone = build()(batch), build()(batch.without("video"))
    seen = output.attended["video"].mask[0]
    assert seen[:3].all()
    assert not seen[4:].any()
    assert output.attended["audio"].mask[0].all()
    assert not torch.allclose(output.logits[0], voice_alone.logits[0])


def test_the_verdict_is_the_mean_over_windows(make_batch):
    model, batch = build(), make_batch((24000, 4000), (19, 4))
    with torch.no_grad():
        output = model(batch)
        windows = model.cut(batch, model.modalities)
    voice, face = (output.attended[name] for name in ("audio", "video"))
    for part in (voice, face):
        torch.testing.assert_close((part.weights[..., None] * part.step_logits).sum(dim=1), part.logits)
        assert part.mask.sum(dim=1).tolist() == torch.bincount(windows.owner).tolist()
    per_window = model.head(torch.cat([voice.sequence, face.sequence], dim=2))
    torch.testing.assert_close(output.logits[0], per_window[0].mean(dim=0))
    torch.testing.assert_close(output.logits[1], per_window[1, 0])


def test_a_clip_answers_with_what_it_has_and_padding_does_not_matter(make_batch):
    model = build()
    batch = make_batch((24000, 0, 9000), (19, 7, 0))
    padded = make_batch((24000, 0, 9000), (19, 7, 0), extra_samples=9000, extra_frames=8)
    with torch.no_grad():
        output, longer = model(batch), model(padded)
        voice, face = model(batch.without("video")), model(batch.without("audio"))
    torch.testing.assert_close(longer.logits, output.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.logits[1], face.logits[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.logits[2], voice.logits[2], atol=1e-5, rtol=0)
    assert output.attended["audio"].present.tolist() == [True, False, True]
    assert output.attended["video"].present.tolist() == [True, True, False]


def test_action_units_teach_the_face_where_they_are_known(make_batch):
    model = build()
    batch = make_batch((24000, 4000), (19, 4))
    known = with_action_units(batch)
    output = model(known)
    criterion = TrainingLoss()
    error = (output.extra["au"] - output.extra["au_target"]).square().mean()
    torch.testing.assert_close(model.training_loss(output, known, criterion), criterion(output, known) + 0.5 * error)
    assert output.extra["au"].shape == (5, NUM_AUS)
    # The row of the table is that of the frame which the window shows.
    frames = [f[0] for _, _, f in shown(model, numbered(batch))]
    torch.testing.assert_close(output.extra["au_target"][:, 0], 0.08 * torch.tensor(frames), atol=1e-5, rtol=0)


def test_without_action_units_it_is_the_usual_loss(make_batch):
    model, batch = build(), make_batch()
    for lacking in (batch, with_action_units(batch, num_columns=16), batch.without("video")):
        output = model(lacking)
        assert not output.extra
        assert model.training_loss(output, lacking, TrainingLoss()) == TrainingLoss()(output, lacking)
    assert not any(
        isinstance(m, nn.Linear) and m.out_features == NUM_AUS for m in build(modalities=("audio",)).modules()
    )


def test_a_single_picture_is_enough(make_batch):
    output = build(modalities=("video",))(make_batch((100, 100), (1, 1)))
    assert output.attended["video"].mask.tolist() == [[True], [True]]
