"""Grad-CAM over a face: a closed form, every kind of frame CNN, places, padding, and what is left behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avser.config import load_config
from avser.errors import AvserError
from avser.models.build import build_model
from avser.roi.salience.face_map import face_maps
from avser.roi.salience.face_places import PLACES, usual_masks
from avser.structures import Attended, Batch, Output

BRANCH = [
    "model.video.backbone={name: 'timm:test_resnet', weights: none, max_stride: 8}",
    "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 4}",
    *("model.audio.dim=16", "model.video.dim=16", "model.attention.hidden=8", "model.fusion.hidden=16"),
]
MODELS = {
    "av_roi-face": ([*BRANCH, "model.modalities=[video]"], (4, 4)),
    "av_roi": (BRANCH, (4, 4)),
    "roi_att_lstm": (["roi_att_lstm", "model.options={face_px: 32, width: 8}"], (2, 2)),
    "cnn_bigru_levels": (["cnn_bigru_levels", "model.options={input_px: 96, width: 16, hidden: 8}"], (5, 5)),
    "av_cnn_au": (["av_cnn_au", "model.options={face_px: [32, 48], channels: [4, 4], width: 8, hidden: 8}"], (8, 12)),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        load_config(MODELS[name][0]).model, ["a", "b", "c"], sample_rate_hz=16000, pretrained=False
    ).eval()


def clips(*num_frames: int, extra: int = 0, size_px: int = 32, with_voice: bool = True) -> Batch:
    longest, count = max(num_frames) + extra, len(num_frames)
    frames = torch.zeros(count, longest, 3, size_px, size_px, dtype=torch.uint8)
    waveform = torch.zeros(count, 1600 * longest)
    mask = torch.arange(longest) < torch.tensor(num_frames)[:, None]
    for i, num in enumerate(num_frames):
        generator = torch.Generator().manual_seed(i)
        frames[i, :num] = torch.randint(0, 256, (num, 3, size_px, size_px), generator=generator, dtype=torch.uint8)
        waveform[i, : 1600 * num] = 0.1 * torch.randn(1600 * num, generator=generator)
    voice = {"waveform": waveform, "waveform_mask": mask.repeat_interleave(1600, dim=1)} if with_voice else {}
    times = (torch.arange(longest) / 10).repeat(count, 1)
    return Batch([f"c{i}" for i in range(count)], frames=frames, frame_times=times, frame_mask=mask, **voice)


class Summed(nn.Module):
    """Logits of a weighted sum over frames of a linear read-out of one convolution's planes."""

    def __init__(self, *, per_frame: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.read = nn.Linear(8, 3)
        self.per_frame = per_frame

    def forward(self, batch: Batch) -> Output:
        mask = batch.frame_mask
        planes = self.conv(batch.frames[mask].float() / 255)
        logits = self.read(self.pool(planes).flatten(1))  # (M, 3)
        owner, place = mask.nonzero().T
        total = torch.zeros(len(batch), 3).index_add(0, owner, logits * (1.0 + place)[:, None])
        steps = mask if self.per_frame else mask[:, :1]
        nothing = torch.zeros(*steps.shape)
        part = Attended(nothing[..., None], nothing, None, batch.frame_times[:, : steps.shape[1]], steps, total, total)
        return Output(total, {"video": part})


def test_grad_cam_in_closed_form() -> None:
    torch.manual_seed(0)
    model, batch = Summed().eval(), clips(3, 2, size_px=8)
    for clip, found in enumerate(face_maps(model, batch, [2, 0])):
        weight = model.read.weight[(2, 0)[clip]].detach().view(2, 4)  # planes x cells of the pooling
        for t in range(len(found)):
            planes = model.conv(batch.frames[clip, t].float() / 255).detach()  # (2, 8, 8): a cell is the mean of 16
            channel = (1 + t) * weight.sum(dim=1) / 64  # mean of the gradient: (sum of 4 cells, 16 pixels, 1/16) / 64
            expected = (channel[:, None, None] * planes).sum(dim=0).relu()
            np.testing.assert_allclose(found.maps[t], expected.numpy(), atol=1e-6)
        assert found.grid == (8, 8)
        np.testing.assert_allclose(found.times, np.arange(3 - clip) / 10, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_frame_network_has_a_map(name) -> None:
    model, batch = build(name), clips(5, 8)
    found = face_maps(model, batch, [0, 2])
    alone = face_maps(model, clips(5, 8, extra=3), [0, 2])
    steps = model(batch).attended["video"]
    for i, face in enumerate(found):
        assert face.grid == MODELS[name][1]
        assert face.maps.shape == (int(steps.mask[i].sum()), 32, 32)
        np.testing.assert_allclose(face.times, steps.times[i][steps.mask[i]], atol=1e-6)
        assert (face.maps >= 0).all()
        np.testing.assert_allclose(face.maps, alone[i].maps, atol=1e-4 * max(face.maps.max(), 1e-6))
        assert "no landmarks" in face.note
    assert max(face.maps.max() for face in found) > 0


def test_the_map_is_of_the_crops_and_not_of_the_voice() -> None:
    """The fused model computes planes of the voice too, and before those of the face or after them."""
    model = build("av_roi")
    for order in (("audio", "video"), ("video", "audio")):
        model.branches = nn.ModuleDict({name: model.branches[name] for name in order})
        assert face_maps(model, clips(4), [1])[0].grid == (4, 4)


def test_another_emotion_has_another_map() -> None:
    model, batch = build("av_roi-face"), clips(6)
    one, other = (face_maps(model, batch, [emotion])[0].maps for emotion in (0, 1))
    assert np.abs(one - other).max() > 0.1 * one.max()


def test_shares_are_those_of_the_map_inside_the_places() -> None:
    found = face_maps(build("roi_att_lstm"), clips(4, size_px=64), [0])[0]
    masks = usual_masks(64, 64)
    for place in PLACES:
        some = found.maps.sum(axis=(1, 2)) > 0
        expected = found.maps[some][:, masks[place]].sum(axis=1) / found.maps[some].sum(axis=(1, 2))
        np.testing.assert_allclose(found.places[place][some], expected, rtol=1e-5)
        np.testing.assert_allclose(found.areas[place], masks[place].mean())


def test_landmarks_move_the_places() -> None:
    """Both eyes' corners at fixed points and the mesh in a box: places follow the landmarks of the frame."""
    batch = clips(3, size_px=32)
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(478, 2, generator=generator) * 100
    points[[33, 133, 362, 263]] = torch.tensor([[30.0, 40], [40, 40], [60, 40], [70, 40]])
    batch.landmarks = points.repeat(1, 3, 1, 1) * batch.frame_mask[..., None, None]
    model = build("roi_att_lstm")
    found = face_maps(model, batch, [0])[0]
    assert found.note == ""
    moved = face_maps(model, replace(batch, landmarks=2 * batch.landmarks + 50), [0])[0]
    wider = face_maps(model, batch, [0], margin=0.5)[0]
    for place in PLACES:
        np.testing.assert_allclose(moved.areas[place], found.areas[place], atol=0.01)  # a crop follows the face
    total, smaller = (sum(area[0] for area in face.areas.values()) for face in (found, wider))
    assert smaller == pytest.approx(total * (1.5 / 2) ** 2, rel=0.1)


def test_a_clip_without_a_face_has_an_empty_map() -> None:
    model = build("av_roi")
    found = face_maps(model, clips(4, 0), [0, 0])
    assert [len(face) for face in found] == [4, 0]
    assert found[1].maps.shape == (0, 32, 32)
    batch = clips(4)
    assert [len(face) for face in face_maps(model, batch.without("video"), [0])] == [0]


def test_models_without_crops_or_without_a_map_a_step_are_refused() -> None:
    voice = build_model(load_config([*BRANCH, "model.modalities=[audio]"]).model, ["a", "b"], sample_rate_hz=16000)
    with pytest.raises(AvserError, match="reads crops"):
        face_maps(voice.eval(), clips(4), [0])
    with pytest.raises(AvserError, match="4 feature maps for 1 steps"):
        face_maps(Summed(per_frame=False).eval(), clips(4), [0])
    with pytest.raises(ValueError, match="2 emotions for 1 clips"):
        face_maps(Summed().eval(), clips(4), [0, 1])


def test_nothing_is_left_behind() -> None:
    model, batch = build("av_roi"), clips(3)
    model.branches["video"].backbone.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        assert face_maps(model, batch, [0])[0].maps.max() > 0  # a frozen network has a map too
        assert not torch.is_grad_enabled()
    with pytest.raises(IndexError):
        face_maps(model, batch, [7])
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert batch.frames.dtype == torch.uint8
    assert not isinstance(batch.frames, nn.Parameter)
    assert isinstance(batch.frames, Tensor)
