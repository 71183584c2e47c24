"""Gradient x input and integrated gradients: closed forms, completeness, padding, what is left behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avser.config import load_config
from avser.errors import AvserError
from avser.models.build import build_model
from avser.roi.salience.front_ends import input_parts, run_on
from avser.roi.salience.gradients import differentiable, grad_input, integrated_gradients, spread
from avser.structures import Batch, Output

HZ = 16000
SOURCES = (grad_input, integrated_gradients)
BRANCHES = [
    "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_resnet', weights: none, max_stride: 8}",
    "model.audio.dim=16",
    "model.video.dim=16",
    "model.attention.hidden=8",
    "model.fusion.hidden=16",
    "model.audio.spectrogram.num_mels=24",
    "model.audio.temporal=gru",
    "model.video.temporal=gru",
]
SYSTEMS = {
    "av_roi-audio": ([*BRANCHES, "model.modalities=[audio]", "model.audio.spectrogram.num_mels=16"], "audio"),
    "av_roi-video": ([*BRANCHES, "model.modalities=[video]"], "video"),
    "av_roi": (BRANCHES, "audio"),
    "attentive_cnn": (["attentive_cnn", "model.options={num_kernels: 16}"], "audio"),
    "light_sernet": (["light_sernet", "model.options={clip_s: 1.0, branch_channels: 4}"], "audio"),
    "roi_att_lstm": (["roi_att_lstm", "model.modalities=[video]", "model.face_input=blendshapes"], "video"),
}
every_system = pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "av_roi"])


def build(name: str) -> tuple[nn.Module, str]:
    torch.manual_seed(0)
    overrides, modality = SYSTEMS[name]
    model = build_model(load_config(overrides).model, ["a", "b", "c"], sample_rate_hz=HZ).eval()
    model.prepare([clips(0.7, 0.6)])
    return model, modality


def clips(*durations_s: float, extra_s: float = 0.0) -> Batch:
    """Voices that swell and faces that move, each clip the same whatever stands beside it."""
    longest = max(durations_s) + extra_s
    length, num_frames = round(longest * HZ), round(longest * 10)
    size = len(durations_s)
    mask = torch.arange(length) < torch.tensor([round(d * HZ) for d in durations_s])[:, None]
    frame_mask = torch.arange(num_frames) < torch.tensor([round(d * 10) for d in durations_s])[:, None]
    frames = torch.zeros(size, num_frames, 3, 32, 32, dtype=torch.uint8)
    waveform, blendshapes = torch.zeros(size, length), torch.zeros(size, num_frames, 52)
    for i in range(size):
        generator = torch.Generator().manual_seed(i)
        n, t = int(mask[i].sum()), int(frame_mask[i].sum())
        swell = torch.sin(torch.arange(n) / n * 9) ** 2
        waveform[i, :n] = 0.1 * swell * torch.randn(n, generator=generator)
        frames[i, :t] = torch.randint(0, 256, (t, 3, 32, 32), generator=generator, dtype=torch.uint8)
        blendshapes[i, :t] = torch.rand(t, 52, generator=generator)
    return Batch(
        [f"clip{i}" for i in range(size)],
        waveform,
        mask,
        HZ,
        frames=frames,
        frame_times=(torch.arange(num_frames) / 10).repeat(size, 1),
        frame_mask=frame_mask,
        blendshapes=blendshapes,
    )


class Bands(nn.Module):
    """A front end of two features: the mean and the mean square of each `hop` samples."""

    def __init__(self, hop: int = 160) -> None:
        super().__init__()
        self.hop, self.hop_s, self.offset_s, self.num_features = hop, hop / HZ, hop / 2 / HZ, 2

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        count = -(-waveform.shape[1] // self.hop)
        padded = nn.functional.pad(waveform * mask, (0, count * self.hop - waveform.shape[1])).unflatten(1, (count, -1))
        frame_mask = torch.arange(count) < (-(-mask.sum(dim=1) // self.hop))[:, None]
        return torch.stack([padded.mean(dim=2), padded.square().mean(dim=2)], dim=2), frame_mask


class Summed(nn.Module):
    """logits = weight * x ** power, summed over front ends, steps and features, plus `past` * waveform."""

    def __init__(self, *hops: int, power: int = 1, past: float = 0.0) -> None:
        super().__init__()
        self.ears = nn.ModuleList(Bands(hop) for hop in hops)
        self.weight = nn.Parameter(torch.tensor([[2.0, -1.0, 0.5], [30.0, 10.0, -4.0]]))  # (F, C)
        self.power, self.past = power, past

    def forward(self, batch: Batch) -> Output:
        logits = batch.waveform.new_zeros(len(batch), 3)
        for ear in self.ears:
            x, _ = ear(batch.waveform, batch.waveform_mask)
            logits = logits + (x**self.power).sum(dim=1) @ self.weight
        if self.past:
            logits = logits + self.past * batch.waveform.sum(dim=1, keepdim=True)
        return Output(logits, {})


# --- closed forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_a_linear_model_is_told_exactly(source) -> None:
    model, batch = Summed(160), clips(1.0, 0.5)
    x, _ = model.ears[0](batch.waveform, batch.waveform_mask)
    for clip, curve in enumerate(source(model, batch, "audio", [2, 0])):
        real = x[clip, : (100, 50)[clip]].double()
        weight = model.weight[:, (2, 0)[clip]].detach().double()
        np.testing.assert_allclose(curve.values, ((real - real.mean(dim=0)) @ weight).numpy(), atol=1e-6)
        np.testing.assert_allclose(curve.times, 0.005 + 0.01 * np.arange(len(real)))


def test_squares_tell_the_two_sources_apart() -> None:
    model, batch = Summed(160, power=2), clips(0.5)
    x = model.ears[0](batch.waveform, batch.waveform_mask)[0][0].double()
    mean, weight = x.mean(dim=0), model.weight[:, 1].detach().double()
    slope = grad_input(model, batch, "audio", [1])[0].values  # (x - m) 2 x
    line = integrated_gradients(model, batch, "audio", [1])[0].values  # (x - m) (x + m)
    np.testing.assert_allclose(slope, ((x - mean) * 2 * x @ weight).numpy(), atol=1e-7)
    np.testing.assert_allclose(line, ((x - mean) * (x + mean) @ weight).numpy(), atol=1e-7)


@pytest.mark.parametrize("source", SOURCES)
def test_what_does_not_change_carries_nothing(source) -> None:
    model, modality = build("roi_att_lstm")
    batch = clips(1.0)
    batch.blendshapes[:] = torch.rand(52, generator=torch.Generator().manual_seed(3))
    assert np.abs(source(model, batch, modality, [0])[0].values).max() < 1e-7
    batch.blendshapes[0, 4] += 0.3
    assert np.abs(source(model, batch, modality, [0])[0].values).max() > 1e-5


def test_front_ends_with_other_times_are_summed_on_cells_of_10_ms() -> None:
    batch = clips(0.4)
    both = grad_input(Summed(160, 256), batch, "audio", [0])[0]
    fine, coarse = (grad_input(Summed(hop), batch, "audio", [0])[0] for hop in (160, 256))
    np.testing.assert_allclose(both.times, 0.005 + 0.01 * np.arange(40))
    told = both.values - fine.values  # frames of 16 ms from 0, in cells of 10 ms
    np.testing.assert_allclose(told[0], coarse.values[0] * 10 / 16, atol=1e-6)
    np.testing.assert_allclose(told[1], coarse.values[0] * 6 / 16 + coarse.values[1] * 4 / 16, atol=1e-6)
    assert told.sum() == pytest.approx(coarse.values.sum(), abs=1e-6)


def test_front_ends_with_the_same_times_are_summed_as_they_are() -> None:
    batch = clips(0.4)
    once, twice = (grad_input(Summed(*hops), batch, "audio", [0])[0] for hops in ((256,), (256, 256)))
    np.testing.assert_array_equal(twice.times, once.times)
    np.testing.assert_allclose(twice.values, 2 * once.values, rtol=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_a_waveform_counts_as_far_as_it_is_read_past_the_front_ends(source) -> None:
    batch = clips(0.4)
    wave = batch.waveform[0].double()
    cells = (0.5 * (wave - wave.mean())).view(40, 160).sum(dim=1).numpy()
    alone = source(Summed(past=0.5), batch, "audio", [0])[0]
    np.testing.assert_allclose(alone.times, 0.005 + 0.01 * np.arange(40))
    np.testing.assert_allclose(alone.values, cells, atol=1e-5)
    front_end = source(Summed(160), batch, "audio", [0])[0]
    both = source(Summed(160, past=0.5), batch, "audio", [0])[0]
    np.testing.assert_allclose(both.values, front_end.values + cells, atol=1e-5)


def test_spread_keeps_the_sum_and_reaches_half_way() -> None:
    edges = np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(spread(np.array([0.5, 1.5]), np.array([4.0, 2.0]), edges), [4, 2, 0])
    np.testing.assert_allclose(spread(np.array([1.0, 3.0]), np.array([4.0, 2.0]), edges), [2, 2, 2])  # [0, 2], [2, 4]
    np.testing.assert_allclose(spread(np.array([0.0, 2.0]), np.array([4.0, 2.0]), edges), [4, 1, 1])  # [-1, 1], [1, 3]
    np.testing.assert_allclose(spread(np.array([1.5]), np.array([3.0]), edges), [0, 3, 0])


# --- real systems ------------------------------------------------------------------------------------------------


@every_system
def test_integrated_gradients_are_complete(name) -> None:
    model, modality = build(name)
    batch, emotions = clips(0.6, 0.4), [1, 2]
    curves = integrated_gradients(model, batch, modality, emotions, 64 if name == "attentive_cnn" else 16)
    parts = input_parts(model, batch, modality)
    with torch.no_grad():
        change = model(batch).logits - run_on(model, batch, parts, [part.average() for part in parts]).logits
    expected = change[[0, 1], emotions].numpy()
    sums = np.array([curve.values.sum() for curve in curves])
    sizes = np.array([np.abs(curve.values).sum() for curve in curves])
    assert np.abs(expected).max() > 0.1 * sizes.max()  # not a sum that cancels
    assert (np.abs(sums - expected) < 0.04 * sizes).all()


@every_system
@pytest.mark.parametrize("source", SOURCES)
def test_padding_and_company_change_no_curve(name, source) -> None:
    model, modality = build(name)
    options = {} if source is grad_input else {"num_steps": 2}
    together = source(model, clips(0.5, 0.8, extra_s=0.3), modality, [1, 2], **options)[0]
    alone = source(model, clips(0.5), modality, [1], **options)[0]
    np.testing.assert_allclose(together.times, alone.times)
    size = np.abs(alone.values).max()
    assert size > 0
    np.testing.assert_allclose(together.values, alone.values, atol=1e-3 * size)


@every_system
def test_a_curve_is_about_the_emotion_that_was_asked_for(name) -> None:
    model, modality = build(name)
    batch = clips(0.7)
    first, second = (grad_input(model, batch, modality, [emotion])[0].values for emotion in (0, 1))
    assert np.abs(first - second).max() > 1e-2 * np.abs(first).max()


def test_a_clip_without_the_modality_has_an_empty_curve() -> None:
    model, _ = build("av_roi")
    batch = clips(0.4, 0.4)
    batch.waveform_mask[0], batch.frame_mask[1] = False, False
    for source, options in ((grad_input, {}), (integrated_gradients, {"num_steps": 2})):
        assert [len(curve) for curve in source(model, batch, "audio", [0, 1], **options)] == [0, 40]
        assert [len(curve) for curve in source(model, batch, "video", [0, 1], **options)] == [4, 0]
        assert [len(curve) for curve in source(model, batch.without("audio"), "audio", [0, 1], **options)] == [0, 0]


def test_the_points_of_the_line_are_computed_some_at_a_time() -> None:
    model, batch, sizes = Summed(160, power=2), clips(0.5, 0.4), []
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    few = integrated_gradients(model, batch, "audio", [0, 1], 8, max_rows=5)
    assert max(sizes) == 4
    many = integrated_gradients(model, batch, "audio", [0, 1], 8, max_rows=100)
    assert max(sizes) == 16
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-7)


# --- what cannot be asked, and what is left behind ---------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_a_modality_that_no_gradient_reaches_is_an_error(source) -> None:
    model, _ = build("attentive_cnn")
    with pytest.raises(AvserError, match=r"no gradient reaches the face.*occlusion"):
        source(model, clips(0.5), "video", [0])

    class Cut(Summed):
        def forward(self, batch: Batch) -> Output:
            with torch.no_grad():
                return super().forward(batch)

    with pytest.raises(AvserError, match="no gradient reaches the voice"):
        source(Cut(160), clips(0.5), "audio", [0])


def test_every_clip_needs_an_emotion() -> None:
    for source in SOURCES:
        with pytest.raises(ValueError, match="1 emotions for 2 clips"):
            source(Summed(160), clips(0.5, 0.4), "audio", [0])


@pytest.mark.parametrize("source", SOURCES)
def test_model_and_batch_are_left_as_they_were(source) -> None:
    model, modality = build("av_roi")
    next(model.parameters()).requires_grad_(False)
    batch = clips(0.3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    original = replace(batch, waveform=batch.waveform.clone())
    with torch.no_grad():  # a caller's switch is no obstacle, and stays
        assert len(source(model, batch, modality, [0], **({} if source is grad_input else {"num_steps": 2}))[0]) == 30
        assert not torch.is_grad_enabled()
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert not any("forward" in module.__dict__ or module._forward_pre_hooks for module in model.modules())
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(batch.waveform, original.waveform)
    assert not batch.waveform.requires_grad
    assert batch.frames.dtype == torch.uint8


def test_cudnn_is_set_aside_for_recurrent_models_alone() -> None:
    assert torch.backends.cudnn.enabled
    with differentiable(nn.Conv1d(1, 1, 3)):
        assert torch.backends.cudnn.enabled
    seen = []

    def fail() -> None:
        with differentiable(nn.ModuleList([nn.LSTM(2, 2)])):
            seen.append(torch.backends.cudnn.enabled)
            raise RuntimeError("halt")

    with pytest.raises(RuntimeError, match="halt"):
        fail()
    assert seen == [False]
    assert torch.backends.cudnn.enabled
