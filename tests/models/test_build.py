"""The reference model from its configuration: shapes, times, padding, missing modalities, gradients, learning."""

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.fusion import FUSIONS

SMALL = [
    "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_resnet', weights: none, max_stride: 8}",
    "model.audio.dim=16",
    "model.video.dim=16",
    "model.attention.hidden=8",
    "model.fusion.hidden=16",
]


def build(*overrides, num_classes=3):
    torch.manual_seed(0)
    config = load_config([*SMALL, *overrides])
    return build_model(config.model, list("abcdef")[:num_classes], sample_rate_hz=16000).eval()


def test_shapes_times_and_masks(make_batch):
    output = build()(make_batch())
    assert output.logits.shape == (2, 3)
    audio, video = output.attended["audio"], output.attended["video"]
    assert audio.sequence.shape[2] == video.sequence.shape[2] == 16
    assert audio.step_logits.shape == (*audio.mask.shape, 3)
    assert audio.mask.sum(dim=1).tolist() == [25, 15]  # ceil(ceil(N / 160) / 4)
    assert audio.times[0, 1] - audio.times[0, 0] == pytest.approx(0.04)
    assert video.mask.sum(dim=1).tolist() == [12, 7]
    assert audio.times[0].max() < 1.0


@pytest.mark.parametrize("fusion", ["concat", "cross_attention", "mult", "mbt"])
@pytest.mark.parametrize("temporal", ["gru", "tcn"])
def test_padding_changes_nothing(make_batch, fusion, temporal):
    model = build(f"model.fusion.kind={fusion}", f"model.audio.temporal={temporal}", f"model.video.temporal={temporal}")
    with torch.no_grad():
        alone, padded = model(make_batch()), model(make_batch(extra_samples=5000, extra_frames=4))
    torch.testing.assert_close(padded.logits, alone.logits, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("seconds", [0.01, 0.3, 4.0])
def test_any_length_gives_an_answer(make_batch, seconds):
    num_samples, num_frames = (int(16000 * seconds),) * 2, (max(1, int(12.5 * seconds)),) * 2
    for name in ("torchvision:squeezenet1_1", "timm:test_resnet"):
        model = build(
            "model.modalities=[audio]", f"model.audio.backbone.name={name}", "model.audio.backbone.max_stride=8"
        )
        output = model(make_batch(num_samples, num_frames))
        assert torch.isfinite(output.logits).all()
        torch.testing.assert_close(output.attended["audio"].weights.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_fused_model_answers_with_one_modality(make_batch, fusion):
    model = build(f"model.fusion.kind={fusion}")
    batch = make_batch(num_samples=(16000, 0, 8000), num_frames=(10, 9, 0))
    output = model(batch)
    assert torch.isfinite(output.logits).all()
    batch.frames = batch.frame_mask = batch.frame_times = None
    assert set(model(batch).attended) == {"audio"}


def test_a_batch_without_any_modality_is_an_error(make_batch):
    batch = make_batch()
    batch.waveform = batch.frames = None
    with pytest.raises(ValueError, match="audio or video"):
        build()(batch)


@pytest.mark.parametrize("attention", ["additive", "linear", "gated", "per_class", "additive_mil", "mean", "last"])
def test_gradient_reaches_every_parameter(make_batch, attention):
    model = build(f"model.attention.kind={attention}", "model.fusion.kind=cross_attention").train()
    model.modality_dropout = 0.0
    output = model(make_batch())
    loss = output.logits.square().sum() + sum(a.logits.square().sum() for a in output.attended.values())
    loss.backward()
    lost = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert lost == []


def test_it_overfits_one_batch(make_batch):
    model = build("model.audio.dropout=0", "model.video.dropout=0", "model.fusion.dropout=0").train()
    model.modality_dropout = 0.0
    batch = make_batch((8000,) * 6, (5,) * 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(batch).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_frames_without_a_face_do_not_count(make_batch):
    model, batch = build("model.modalities=[video]"), make_batch()
    batch.frame_mask[0, 3] = False
    before = model(batch).logits
    batch.frames[0, 3] = 255
    torch.testing.assert_close(model(batch).logits, before)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["pcrn", "model.fusion.hidden=3"], "model.fusion belongs to av_roi"),
        (["pcrn", "model.modalities=[video]"], "pcrn reads audio"),
        (["coatt_mla", "model.modalities=[audio,video]"], "coatt_mla reads audio"),
        (["cnn_bigru_levels", "model.modalities=[video]", "model.face_input=landmarks"], "levels reads crops"),
        (["pcrn", "model.options={num_cells: many}"], "model.options of pcrn"),
        (["model.options={num_cells: 3}"], "av_roi has none"),
        (["model.face_input=landmarks"], "av_roi reads crops"),
    ],
)
def test_nothing_is_passed_over_in_silence(overrides, why):
    with pytest.raises(ConfigError, match=why):
        build_model(load_config(overrides).model, ["a", "b"], sample_rate_hz=16000)


def test_impossible_models_say_why():
    with pytest.raises(ConfigError, match="must agree to fuse"):
        build("model.video.dim=32")
    with pytest.raises(ConfigError, match="at most 80 ms"):
        build("model.audio.backbone.max_stride=16")
    with pytest.raises(ConfigError, match="known systems"):
        build("model.system=av_rio")
