"""coatt_mla: the released sizes, three views of the same three seconds, and a co-attention that is a curve in time."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchaudio.models import wav2vec2_model

from avser.errors import ConfigError
from avser.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from avser.models.systems.coatt_mla import CoAttention, LocalEncoder
from avser.models.wav2vec2 import KERNELS, STRIDES
from avser.structures import Batch
from avser.training.losses import TrainingLoss

SMALL = {
    "backbone": "torchvision:squeezenet1_1",
    "image_px": 64,
    "encoder_dim": 32,
    "mfcc_hidden": 8,
    "mfcc_layers": 1,
    "dim": 16,
}


def build(**options):
    torch.manual_seed(0)
    return CoAttention(3, **{**SMALL, **options}).eval()


@pytest.fixture(scope="module")
def system():
    return build()


def count(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


def test_the_parameters_of_the_released_sizes():
    system = CoAttention(4)
    assert count(system.backbone) == 2_469_696
    assert count(system.blstm) == 2 * 4 * 256 * (40 + 256 + 2) + 2 * 4 * 256 * (512 + 256 + 2)
    assert count(system.spectrogram_summary) == 9216 * 128 + 128
    assert count(system.mfcc_summary) == 153_600 * 128 + 128
    assert count(system.co_attention) == 256 * 149 + 149
    assert count(system.encoder_summary) == 768 * 128 + 128
    assert count(system.head) == 384 * 128 + 128 + 128 * 128 + 128 + 128 * 4 + 4
    assert count(build(pool="attention", mfcc_hidden=256, dim=128).mfcc_summary) == 512 * 128 + 128


def test_the_local_encoder_has_the_grid_of_wav2vec():
    assert LocalEncoder()(torch.zeros(1, 48000)).shape == (1, 149, 768)


def test_the_three_views_are_of_the_same_moments(system):
    """A burst late in a long clip: each view of the last segment has it at the same time."""
    num_samples, burst = 90_070, 84_000  # 5.63 s and 5.25 s
    waveform = 1e-4 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(0))
    waveform[0, burst : burst + 160] += torch.randn(160, generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(waveform, dtype=torch.bool)
    samples, pictures, coefficients = system.segments(waveform, mask)
    assert samples.owner.tolist() == coefficients.owner.tolist() == [0, 0]
    start = samples.start[1].item()
    assert coefficients.start[1].item() * 160 == start
    assert start + 48_000 == -(-num_samples // 320) * 320
    expected = (burst + 80 - start) / 48_000
    assert samples.values[1].square().argmax().item() / 48_000 == pytest.approx(expected, abs=0.005)
    assert (pictures[1, 0].sum(dim=0).argmax().item() + 0.5) / pictures.shape[3] == pytest.approx(expected, abs=0.02)
    loud = coefficients.values[1, 0]
    assert loud.argmax().item() / 300 == pytest.approx(expected, abs=0.03)


def test_short_clips_are_filled_behind_in_every_view(system, make_batch):
    batch = make_batch((16000,), (1,))
    samples, pictures, coefficients = system.segments(batch.waveform, batch.waveform_mask)
    assert samples.values.shape == (1, 48000)
    assert samples.values[0, :100].abs().sum() > 0
    assert samples.values[0, 16000:].abs().sum() == 0
    assert coefficients.values[0, :, 100:].abs().sum() == 0
    right = pictures[..., pictures.shape[3] // 3 + 2 :]
    torch.testing.assert_close(right, right[:, :, :1, :1].expand_as(right))


def test_half_precision_sees_the_same_views(system):
    time = torch.arange(48000) / 16000
    tone = 0.9 * torch.sin(2 * torch.pi * 440 * time)[None]
    mask = torch.ones_like(tone, dtype=torch.bool)
    with torch.autocast("cpu", torch.float16):
        halves = system.segments(tone, mask)
    for half, full in zip(halves, system.segments(tone, mask), strict=True):
        values = (half, full) if isinstance(half, torch.Tensor) else (half.values, full.values)
        torch.testing.assert_close(*values)


def test_the_picture_has_high_frequencies_on_top_and_the_range_of_training(make_batch):
    system = build()
    time = torch.arange(48000) / 16000
    tone = 0.5 * torch.sin(2 * torch.pi * 400 * time)[None]
    batch = Batch(["tone"], tone, torch.ones_like(tone, dtype=torch.bool))
    system.prepare([batch, make_batch((48000,), (1,))])
    assert (system.levels.max > system.levels.min).all()
    _, pictures, _ = system.segments(tone, batch.waveform_mask)
    rows = pictures[0, 0].mean(dim=1)
    assert rows.argmax().item() == pytest.approx(64 * (1 - 400 / 4000), abs=1)


def test_co_attention_is_not_normalised_and_weighs_the_encoders_steps(system, make_batch):
    """alpha = ReLU(W [s; m]) and its weighted sum, taken apart with hooks on the parts."""
    seen = {}
    hooks = [
        part.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
        for name, part in [
            *(("alpha", system.co_attention), ("steps", system.encoder), ("heard", system.encoder_summary)),
            *(("s", system.spectrogram_summary), ("m", system.mfcc_summary), ("head", system.head)),
        ]
    ]
    output = system(make_batch((48000,), (1,)))
    for hook in hooks:
        hook.remove()
    alpha = seen["alpha"][1]
    torch.testing.assert_close(seen["alpha"][0], torch.cat([seen["s"][1], seen["m"][1]], dim=1))
    assert (alpha >= 0).all()
    assert abs(alpha.sum().item() - 1) > 0.01
    torch.testing.assert_close(seen["heard"][0][0], (alpha[0, :, None] * seen["steps"][1][0]).sum(dim=0))
    torch.testing.assert_close(seen["head"][0], torch.cat([seen[k][1] for k in ("s", "m", "heard")], dim=1))
    part = output.attended["audio"]
    assert part.weights.shape == (1, 149)
    torch.testing.assert_close(part.weights[0], alpha[0] / alpha.sum())
    assert part.times[0, [0, 148]].tolist() == pytest.approx([0.0125, 0.0125 + 148 * 0.02])
    assert part.step_logits is None


def test_silence_behind_a_clip_is_not_weighed(system, make_batch):
    seen = {}
    parts = {"alpha": system.co_attention, "steps": system.encoder, "heard": system.encoder_summary}
    hooks = [
        part.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
        for name, part in parts.items()
    ]
    system(make_batch((16000,), (1,)))
    for hook in hooks:
        hook.remove()
    alpha, steps = seen["alpha"][1][0, :50, None], seen["steps"][1][0, :50]
    torch.testing.assert_close(seen["heard"][0][0], (alpha * steps).sum(dim=0))


def test_a_long_clips_curve_covers_it_once(system, make_batch):
    part = system(make_batch((100_000, 20_000), (1, 1))).attended["audio"]
    torch.testing.assert_close(part.weights.sum(dim=1), torch.ones(2))
    assert part.times[0][part.mask[0]].max() == pytest.approx(100_000 / 16000, abs=0.03)
    assert part.mask[0].sum() == part.mask.shape[1] - 1  # nothing is heard where the first two segments meet
    assert not part.mask[0, 149]
    assert part.times[1][part.mask[1]].max() <= 20_000 / 16000 + 0.0125
    assert (part.weights[~part.mask] == 0).all()


def test_the_verdict_is_the_mean_of_log_probabilities_and_every_segment_learns(system, make_batch):
    batch = make_batch((100_000, 20_000), (1, 1))
    output = system(batch)
    logits, owner = output.extra["segment_logits"], output.extra["owner"]
    assert owner.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(output.logits[0], logits[:3].log_softmax(dim=1).mean(dim=0))
    loss = system.training_loss(output, batch, TrainingLoss())
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, batch.labels[owner]))


@pytest.mark.parametrize("num_samples", [300, 4800, 30123, 61111])
def test_padding_changes_nothing(system, make_batch, num_samples):
    alone = system(make_batch((num_samples,), (1,)))
    padded = system(make_batch((num_samples, 70000), (1, 1), extra_samples=777))
    torch.testing.assert_close(padded.logits[:1], alone.logits, atol=1e-4, rtol=1e-4)
    part, same = padded.attended["audio"], alone.attended["audio"]
    size = same.mask.shape[1]
    assert torch.equal(part.mask[:1, :size], same.mask)
    assert not part.mask[0, size:].any()
    torch.testing.assert_close(part.weights[:1, :size], same.weights, atol=1e-4, rtol=1e-3)


def test_a_clip_without_voice_says_nothing(system, make_batch):
    output = system(make_batch((20000, 0), (1, 1)))
    assert not output.attended["audio"].present[1]
    assert (output.logits[1] == 0).all()
    assert 1 not in output.extra["owner"]


@pytest.mark.parametrize("pool", ["flatten", "attention"])
def test_every_parameter_learns(make_batch, pool):
    system = build(pool=pool).train()
    batch = make_batch((30000, 60000, 16000), (1, 1, 1))
    system.training_loss(system(batch), batch, TrainingLoss()).backward()
    for name, parameter in system.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def write_tiny_wav2vec(path):
    """Weights under torchaudio's names of a network with steps 64 wide."""
    torch.manual_seed(3)
    convolutions = [(8, kernel, stride) for kernel, stride in zip(KERNELS, STRIDES, strict=True)]
    sizes = ("group_norm", convolutions, False, 64, 0.1, 8, 4, 1, 1, 0.1, 32, 0.1, 0.1, False, 0.0, None)
    save_file(wav2vec2_model(*sizes).state_dict(), path)
    return str(path)


def test_wav2vec_takes_the_stand_ins_place_and_travels_with_the_model(tmp_path, make_batch):
    source = write_tiny_wav2vec(tmp_path / "tiny.safetensors")
    system = build(encoder=source, encoder_dim=64)
    assert system.notes == []
    output = system(make_batch((16000,), (1,)))
    (tmp_path / "tiny.safetensors").unlink()
    again = CoAttention(3, pretrained=False, **{**SMALL, "encoder": source, "encoder_dim": 64})
    again.load_state_dict(system.state_dict())
    torch.testing.assert_close(again.eval()(make_batch((16000,), (1,))).logits, output.logits)


def test_the_stand_in_is_told(system):
    assert any("stands in for wav2vec 2.0" in note for note in system.notes)


def test_faults_say_why(system, make_batch, tmp_path):
    with pytest.raises(ConfigError, match="flatten or attention"):
        build(pool="mean")
    with pytest.raises(ConfigError, match="16000"):
        build(sample_rate_hz=8000)
    with pytest.raises(ConfigError, match="encoder_dim=64"):
        build(encoder=write_tiny_wav2vec(tmp_path / "tiny.safetensors"))
    with pytest.raises(ValueError, match="waveform"):
        system(make_batch().without("audio"))


def test_pictures_of_eight_bits_are_those_of_pillow():
    """The released way: uint8, Pillow's bilinear resize, and back to 0..1."""
    level = torch.rand(1, 1, 200, 300, generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray((level[0, 0].numpy() * 255.0).astype(np.uint8)[::-1].copy(), mode="L")
    expected = np.asarray(picture.resize((96, 64), Image.Resampling.BILINEAR)).astype(int)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    got, smooth = (255 * (build(eight_bit=bits)._pictures(level)[0] * std + mean) for bits in (True, False))
    assert got.shape == (3, 64, 96)
    assert (got - got.round()).abs().max() < 1e-3
    assert (got[0].round().int().numpy() - expected == 0).mean() > 0.99  # its weights are integers too
    assert abs(got.mean() - smooth.mean() + 0.5) < 0.05  # half a level is cut off
