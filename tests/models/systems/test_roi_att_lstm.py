"""roi_att_lstm: what it reads of voice and face, its scales, its attentions and its fusions."""

from dataclasses import replace

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.systems.roi_att_lstm import RoiAttLstm, grey_faces

SMALL = {"num_classes": 3, "width": 8, "attention_hidden": 4, "fusion_hidden": 8, "face_px": 32}


def build(**options):
    torch.manual_seed(0)
    return RoiAttLstm(**{**SMALL, **options}).eval()


def with_tracks(batch, num_features=35):
    """The batch with landmarks, blendshapes and features on the frames' axis; loud where masked."""
    generator = torch.Generator().manual_seed(5)
    shape = batch.frame_mask.shape
    return replace(
        batch,
        landmarks=100 + 30 * torch.randn(*shape, 478, 2, generator=generator),
        blendshapes=torch.rand(*shape, 52, generator=generator),
        face_features=5 * torch.rand(*shape, num_features, generator=generator),
        feature_times=batch.frame_times,
        feature_mask=batch.frame_mask,
    )


def test_the_network_has_the_size_that_its_documentation_states():
    model = RoiAttLstm(num_classes=6, modalities=("audio",))
    embed, first, second = 32 * 128 + 128, 2 * 4 * 128 * (128 + 128 + 2), 2 * 4 * 128 * (256 + 128 + 2)
    attention, head = 256 * 128 + 128 + 128, 256 * 6 + 6
    assert sum(p.numel() for p in model.parameters()) == embed + first + second + attention + head
    face = RoiAttLstm(num_classes=6, modalities=("video",)).branches["video"].reader
    convolutions = 9 * (1 * 32 + 32 * 64 + 64 * 128 + 128 * 128)
    assert sum(p.numel() for p in face.parameters()) == convolutions + 2 * (32 + 64 + 128 + 128)


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({"face_input": "crops"}, 128),
        ({"face_input": "landmarks"}, 272),
        ({"face_input": "blendshapes"}, 52),
        ({"face_input": "features"}, 35),
        ({"face_input": "features", "num_features": 17}, 17),
    ],
)
def test_each_form_of_the_face_is_read_and_padding_is_not(make_batch, options, width):
    model = build(modalities=("video",), **options)
    batch = with_tracks(make_batch((4000, 3000), (6, 3)), options.get("num_features", 35))
    model.prepare([batch])
    assert model.branches["video"].reader.num_features == width
    loud = replace(batch, frames=255 - batch.frames, landmarks=batch.landmarks + 70, blendshapes=batch.blendshapes + 9)
    loud = replace(loud, face_features=batch.face_features + 9)
    mask = batch.frame_mask
    for name in ("frames", "landmarks", "blendshapes", "face_features"):
        getattr(loud, name)[mask] = getattr(batch, name)[mask]
    with torch.no_grad():
        reference, same = model(batch), model(loud)
    torch.testing.assert_close(same.logits, reference.logits, atol=1e-6, rtol=0)
    assert torch.equal(reference.attended["video"].mask, mask)


@pytest.mark.parametrize("face_input", ["landmarks", "blendshapes", "features"])
def test_voice_and_face_are_scaled_by_the_training_clips(make_batch, face_input):
    model = build(face_input=face_input)
    batch = with_tracks(make_batch((16000, 9000), (12, 7)))
    model.prepare(iter([batch]))  # one pass is all it gets
    for name, branch in model.branches.items():
        x, mask, _ = branch.reader(batch)
        real = x[mask]
        torch.testing.assert_close(real.mean(dim=0), torch.zeros(real.shape[1]), atol=2e-3, rtol=0, msg=name)
        deviation = real.std(dim=0, correction=0)
        varied = (deviation - 1).abs() < 2e-3
        assert (varied | (deviation == 0)).all()  # noise has no pitch: that column stays at zero
        assert varied.float().mean() > 0.9
        assert not x[~mask].any()


def test_clips_that_all_lack_one_modality_fit_the_scale_of_the_other(make_batch):
    batch = with_tracks(make_batch((16000, 9000), (12, 7)))
    for lacking, fitted in (("audio", "video"), ("video", "audio")):
        model = build(face_input="blendshapes")
        model.prepare(iter([batch.without(lacking)] * 2))
        assert model.branches[fitted].reader.statistics.mean.any()
        assert not model.branches[lacking].reader.statistics.mean.any()


def test_logmel_frames_are_three_planes_of_forty_bands(make_batch):
    model = build(modalities=("audio",), audio_features="logmel3")
    reader, batch = model.branches["audio"].reader, make_batch()
    x, _, times = reader(batch)
    assert x.shape == (2, 100, 120)
    planes, _ = reader.front_end(batch.waveform, batch.waveform_mask)
    assert torch.equal(x[0, 7, 40:80], planes[0, 1, :, 7])
    assert times[0, 7].item() == pytest.approx(0.07)


@pytest.mark.parametrize("attention", ["additive", "linear", "gated", "per_class"])
def test_the_verdict_is_the_weighted_sum_of_what_the_steps_say(make_batch, attention):
    model = build(modalities=("audio",), attention=attention)
    part = model(make_batch((8000, 5000))).attended["audio"]
    weights = part.weights[..., None] if part.class_weights is None else part.class_weights
    torch.testing.assert_close((weights * part.step_logits).sum(dim=1), part.logits)
    assert (part.class_weights is not None) == (attention == "per_class")
    assert part.weights[0].std() > 1e-6


def test_late_fusion_multiplies_or_averages_the_posteriors(make_batch):
    batch = make_batch((8000, 5000))
    for fusion, expected in (
        ("late_product", lambda p, q: p * q / (p * q).sum(1, keepdim=True)),
        ("late_average", lambda p, q: (p + q) / 2),
    ):
        with torch.no_grad():
            output = build(fusion=fusion)(batch)
        voice, face = (part.logits.softmax(dim=1) for part in output.attended.values())
        torch.testing.assert_close(output.logits.softmax(dim=1), expected(voice, face), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fusion", ["late_product", "late_average", "concat"])
def test_a_clip_without_a_voice_is_judged_by_its_face(make_batch, fusion):
    model = build(fusion=fusion)
    batch = make_batch((8000, 0), (6, 4))
    with torch.no_grad():
        output, face_alone = model(batch), model(batch.without("audio"))
    torch.testing.assert_close(output.logits[1], face_alone.logits[1], atol=1e-5, rtol=0)
    assert not torch.allclose(output.logits[0], face_alone.logits[0])


def test_grey_is_the_luma_of_the_colours():
    frame = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert grey_faces(frame, 4, 4).mean().item() == pytest.approx(0.299)
    assert grey_faces(frame, 2, 3).shape == (1, 1, 2, 3)


def test_wrong_options_are_refused_with_advice(make_batch):
    for option in ("attention", "fusion", "audio_features"):
        config = load_config(["roi_att_lstm", f"model.options.{option}=nonsense"])
        with pytest.raises(ConfigError, match=f"{option}='nonsense'; take one of"):
            build_model(config.model, ["a", "b"], sample_rate_hz=16000)
    model = build(modalities=("video",), face_input="features", num_features=17)
    with pytest.raises(ConfigError, match="num_features=35"):
        model(with_tracks(make_batch()))
    with pytest.raises(ValueError, match="needs video"):
        model(make_batch().without("video"))


@pytest.mark.parametrize("face_input", ["landmarks", "blendshapes"])
def test_a_real_face_is_read_as_landmarks_and_blendshapes(real_data, face_input):
    """A clip of CREMA-D: the points say when the jaw drops and when the mouth widens, as the blendshapes do."""
    from avser.data.dataset import Example, collate
    from avser.media.clip import read_clip
    from avser.media.faces import build_tracker

    path = real_data / "cremad" / "VideoFlash" / "1001_DFA_HAP_XX.flv"
    model = str(real_data / "models" / "face_landmarker.task")
    tracker = build_tracker("mediapipe", crop_px=64, every=1, model=model)
    clip = read_clip("clip", audio=path, video=path, tracker=tracker, fps=10)
    batch = collate([Example("clip", clip, 0)])
    model = build(face_input=face_input)
    model.prepare([batch])
    with torch.no_grad():
        output = model(batch)
        x, mask, _ = model.branches["video"].reader(batch)
    assert torch.isfinite(output.logits).all()
    assert torch.isfinite(x).all()
    if face_input == "landmarks":
        points = model.branches["video"].reader.shape(batch.landmarks, mask)[0, mask[0], :136].unflatten(1, (68, 2))
        blendshapes = batch.blendshapes[0, mask[0]]
        lower_lip, width = points[:, 57, 1] - points[:, 33, 1], points[:, 54, 0] - points[:, 48, 0]
        for measure, name in ((lower_lip, 25), (width, 44)):  # jawOpen, mouthSmileLeft
            assert torch.corrcoef(torch.stack([measure, blendshapes[:, name]]))[0, 1] > 0.8


def test_the_voice_by_egemaps(make_batch):
    pytest.importorskip("opensmile")
    model, batch = build(modalities=("audio",), audio_features="egemaps_opensmile"), make_batch()
    model.prepare([batch])
    x, mask, times = model.branches["audio"].reader(batch)
    assert x.shape[2] == 25
    torch.testing.assert_close(x[mask].mean(dim=0), torch.zeros(25), atol=1e-4, rtol=0)
    torch.testing.assert_close(times[0, :3], torch.tensor([0.01, 0.02, 0.03]))
    assert torch.isfinite(model(batch).logits).all()
