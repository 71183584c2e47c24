"""Occlusion and RISE of models whose secret is known, and of small real ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from avser.config import load_config
from avser.models.build import build_model
from avser.models.system import System
from avser.roi.salience.perturbation import occlusion, perturbed_probabilities, random_blocks, rise, rows_at_once
from avser.roi.salience.replacement import operators_of, replace_moments
from avser.structures import Batch, Output

RATE = 16000


class EnergyListener(System):
    """Hears nothing but how loud the voice is between 1.0 and 1.2 s: the louder, the surer of emotion 1."""

    def __init__(self) -> None:
        super().__init__()
        self.num_clips_seen: list[int] = []

    def forward(self, batch: Batch) -> Output:
        assert batch.waveform is not None
        self.num_clips_seen.append(len(batch))
        heard = batch.waveform[:, round(1.0 * RATE) : round(1.2 * RATE)]
        energy = heard.square().sum(dim=1) / (0.2 * RATE)
        return Output(torch.stack([torch.zeros_like(energy), 200 * energy - 1], dim=1), {})


class FrameReader(System):
    """Reads the one feature of the face's steps 4 and 5, which speak for emotion 1, and of step 8, which speaks against
    it: the odds are 1/2 * 2^x4 * 2^x5 * 2^-x8."""

    def forward(self, batch: Batch) -> Output:
        assert batch.face_features is not None
        weights = torch.zeros(batch.face_features.shape[1])
        weights[[4, 5]], weights[8] = math.log(2), -math.log(2)
        odds = (batch.face_features[..., 0] * weights).sum(dim=1) - math.log(2)
        return Output(torch.stack([torch.zeros_like(odds), odds], dim=1), {})


def voices(seconds=(2.0, 1.6), *, extra: int = 0) -> Batch:
    """Hiss, with a tone from 1.0 to 1.2 s."""
    generator = torch.Generator().manual_seed(0)
    lengths = [round(s * RATE) for s in seconds]
    batch = Batch([f"clip{i}" for i in range(len(seconds))], sample_rate_hz=RATE)
    batch.waveform = torch.zeros(len(lengths), max(lengths) + extra)
    for i, length in enumerate(lengths):
        time = torch.arange(length) / RATE
        batch.waveform[i, :length] = 0.005 * torch.randn(length, generator=generator)
        batch.waveform[i, :length] += 0.2 * torch.sin(2 * math.pi * 200 * time) * ((time >= 1.0) & (time < 1.2))
    batch.waveform_mask = torch.arange(batch.waveform.shape[1]) < torch.tensor(lengths)[:, None]
    return batch


def face_of_ones(num_frames: int = 10) -> Batch:
    times = torch.arange(num_frames)[None] * 0.05 + 0.025
    mask = torch.ones(1, num_frames, dtype=torch.bool)
    return Batch(["a"], face_features=torch.ones(1, num_frames, 1), feature_times=times, feature_mask=mask)


@pytest.fixture(scope="module")
def listener() -> System:
    torch.manual_seed(0)
    config = load_config(
        [
            "model.modalities=[audio]",
            "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 4}",
            "model.audio.dim=16",
        ]
    )
    return build_model(config.model, ["a", "b", "c"], sample_rate_hz=RATE).eval()


# --- the secret comes out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["noise", "mean", "silence"])
@pytest.mark.parametrize("source", [occlusion, rise])
def test_the_moment_that_the_model_listens_to_is_highest(source: Callable, operator: str) -> None:
    curves = source(EnergyListener().eval(), voices(), "audio", [1, 0], operator=operator)
    np.testing.assert_allclose(curves[0].times, np.arange(40) * 0.05 + 0.025)
    assert len(curves[1]) == 32
    for curve, sign in zip(curves, (1, -1), strict=True):  # for emotion 0 the same moment speaks against it
        values = sign * curve.values
        assert 1.0 < curve.times[values.argmax()] < 1.2
        inside = (curve.times > 1.0) & (curve.times < 1.2)
        far = np.abs(curve.times - 1.1) > 0.3
        assert values[inside].min() > 0.05
        assert np.abs(values[far]).max() < 0.4 * values[inside].min()


def odds(*kept: bool) -> float:
    """Probability of emotion 1 when frames 4, 5 and 8 are kept or zero."""
    ratio = 0.5 * 2.0 ** (kept[0] + kept[1] - kept[2])
    return ratio / (1 + ratio)


def test_occlusion_by_hand() -> None:
    curve = occlusion(FrameReader().eval(), face_of_ones(), "video", [1], operator="silence")[0]
    # Three of ten frames are covered; windows start at frames 0 to 7. All kept: odds 1/2 * 4 / 2 = 1.
    fall = np.zeros(8)
    fall[2] = fall[5] = odds(True, True, True) - odds(False, True, True)
    fall[3] = fall[4] = odds(True, True, True) - odds(False, False, True)
    fall[6] = fall[7] = odds(True, True, True) - odds(True, True, False)
    assert fall[2] == pytest.approx(1 / 2 - 1 / 3)
    assert fall[6] == pytest.approx(1 / 2 - 2 / 3)  # against: the probability rises without it
    expected = [np.mean(fall[max(0, k - 2) : min(k, 7) + 1]) for k in range(10)]
    np.testing.assert_allclose(curve.values, expected, atol=1e-6)


def test_a_clip_shorter_than_the_window_is_covered_as_a_whole() -> None:
    short = occlusion(FrameReader().eval(), face_of_ones(9), "video", [1], window_s=2.0, operator="silence")[0]
    np.testing.assert_allclose(short.values, odds(True, True, True) - odds(False, False, False), atol=1e-6)


@pytest.mark.parametrize("source", [occlusion, rise])
def test_a_face_of_one_step_has_a_curve_of_one_step(source: Callable) -> None:
    batch = face_of_ones()
    batch.feature_mask[:] = False
    batch.feature_mask[0, 8] = True  # as a row of means over the clip, which stands alone
    (curve,) = source(FrameReader().eval(), batch, "video", [1], operator="silence")
    np.testing.assert_allclose(curve.times, [8.5 * 0.05])
    if source is occlusion:
        np.testing.assert_allclose(curve.values, odds(True, True, True) - odds(True, True, False), atol=1e-6)
    batch.feature_mask[0, [4, 5]] = True
    assert len(source(FrameReader().eval(), batch, "video", [1], operator="silence")[0]) == 9


def test_rise_by_hand() -> None:
    """With blocks of one frame the cells are independent, so the value is an average over the 8 states of 3 frames."""
    states = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]
    mean = np.mean([odds(*s) for s in states])
    curve = rise(FrameReader().eval(), face_of_ones(), "video", [1], num_masks=6000, smooth_s=0.05, operator="silence")[
        0
    ]
    expected = np.zeros(10)
    for cell, place in ((4, 0), (5, 1), (8, 2)):
        expected[cell] = np.mean([odds(*s) for s in states if s[place]]) - mean
    assert expected[4] > 0.05
    assert expected[8] < -0.05
    np.testing.assert_allclose(curve.values, expected, atol=0.008)


def test_blocks_keep_every_cell_equally_often() -> None:
    masks = random_blocks(20000, 10, 4, 0.3, np.random.default_rng(0))
    assert masks.shape == (20000, 10)
    np.testing.assert_allclose(masks.mean(axis=0), 0.3, atol=0.015)
    # Two cells share a block with chance 1 - d / 4, else they are independent.
    both = [(masks[:, 3] & masks[:, 3 + d]).mean() for d in range(6)]
    np.testing.assert_allclose(
        both, [(1 - d / 4) * 0.3 + d / 4 * 0.09 if d < 4 else 0.09 for d in range(6)], atol=0.015
    )


def test_masks_differ_between_clips_and_not_with_their_company() -> None:
    batch = voices((1.5, 1.5))
    batch.waveform[1] = batch.waveform[0]
    model = EnergyListener().eval()
    together = rise(model, batch, "audio", [1, 1], num_masks=32, operator="silence")
    assert np.abs(together[0].values - together[1].values).max() > 0.01
    alone = Batch(["clip1"], batch.waveform[1:], batch.waveform_mask[1:])
    np.testing.assert_allclose(
        rise(model, alone, "audio", [1], num_masks=32, operator="silence")[0].values, together[1].values, atol=1e-6
    )
    other = rise(model, batch, "audio", [1, 1], num_masks=32, operator="silence", seed=1)
    assert np.abs(together[0].values - other[0].values).max() > 0.01


# --- many variants at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", operators_of("audio"))
def test_batched_equals_one_by_one(listener: System, operator: str) -> None:
    batch = voices((0.7, 0.4), extra=500)
    donors = voices((1.5, 1.5)) if operator == "neutral" else None
    drops = np.random.default_rng(0).random((5, 2, 14)) < 0.4
    together = perturbed_probabilities(
        listener, batch, "audio", drops, cell_s=0.05, operator=operator, donors=donors, max_rows=4, seed=2
    )
    assert together.shape == (5, 2, 3)
    np.testing.assert_allclose(together.sum(axis=2), 1)
    for m in range(5):
        for b in range(2):
            length = int(batch.waveform_mask[b].sum())
            clip = Batch([f"clip{b}"], batch.waveform[b : b + 1, :length], batch.waveform_mask[b : b + 1, :length])
            giver = donors and Batch(["x"], donors.waveform[b : b + 1], donors.waveform_mask[b : b + 1])
            drop = torch.from_numpy(drops[m, b : b + 1])
            variant = replace_moments(clip, "audio", drop, cell_s=0.05, operator=operator, donors=giver, seed=2)
            with torch.no_grad():
                alone = listener(variant).logits.softmax(dim=1)[0]
            np.testing.assert_allclose(together[m, b], alone.numpy(), atol=1e-4)


@pytest.mark.parametrize("operator", ["mean", "excise"])
def test_occlusion_of_unequal_clips_together_equals_each_alone(listener: System, operator: str) -> None:
    batch = voices((0.9, 0.45))
    together = occlusion(listener, batch, "audio", [0, 2], operator=operator)
    assert [len(curve) for curve in together] == [18, 9]
    for i, (curve, emotion) in enumerate(zip(together, (0, 2), strict=True)):
        length = int(batch.waveform_mask[i].sum())
        clip = Batch([f"clip{i}"], batch.waveform[i : i + 1, :length], batch.waveform_mask[i : i + 1, :length])
        (alone,) = occlusion(listener, clip, "audio", [emotion], operator=operator, max_rows=1)
        np.testing.assert_allclose(curve.times, alone.times)
        np.testing.assert_allclose(curve.values, alone.values, atol=1e-5)
        assert np.ptp(curve.values) > 1e-3


def test_a_processor_takes_few_rows_at_once() -> None:
    model = EnergyListener().eval()
    drops = np.eye(40, dtype=bool)[:, None] & np.ones((1, 2, 1), dtype=bool)
    perturbed_probabilities(model, voices(), "audio", drops, cell_s=0.05, operator="silence")
    assert max(model.num_clips_seen) == 16 == rows_at_once(torch.device("cpu"))
    assert rows_at_once(torch.device("cuda")) == 64


def test_variants_of_all_clips_share_batches_and_equal_ones_go_once() -> None:
    model = EnergyListener().eval()
    drops = np.zeros((6, 2, 40), dtype=bool)
    drops[1, :, 3] = drops[2, :, 5] = drops[3, :, 35] = True  # the second clip ends at cell 32
    drops[4] = drops[1]
    answers = perturbed_probabilities(model, voices(), "audio", drops, cell_s=0.05, operator="silence", max_rows=4)
    assert model.num_clips_seen == [4, 3]
    assert np.array_equal(answers[4], answers[1])
    assert np.array_equal(answers[5], answers[0])
    assert np.array_equal(answers[3, 1], answers[0, 1])


def test_padding_changes_no_curve(listener: System) -> None:
    for source, options in ((occlusion, {}), (rise, {"num_masks": 12})):
        near = source(listener, voices((0.6, 0.4)), "audio", [0, 1], **options)
        far = source(listener, voices((0.6, 0.4), extra=3000), "audio", [0, 1], **options)
        for a, b in zip(near, far, strict=True):
            np.testing.assert_allclose(a.values, b.values, atol=1e-5)


def test_a_clip_of_which_nothing_is_left_has_an_answer(listener: System) -> None:
    drops = np.ones((1, 2, 40), dtype=bool)
    answers = perturbed_probabilities(listener, voices(), "audio", drops, cell_s=0.05, operator="excise")
    assert np.isfinite(answers).all()


@pytest.mark.parametrize("source", [occlusion, rise])
def test_model_and_batch_are_left_as_they_were(listener: System, source: Callable) -> None:
    batch = voices((0.5, 0.4))
    samples = batch.waveform.clone()
    state = {name: value.clone() for name, value in listener.state_dict().items()}
    source(listener, batch, "audio", [0, 1], **({"num_masks": 4} if source is rise else {}))
    assert torch.equal(batch.waveform, samples)
    assert all(torch.equal(value, state[name]) for name, value in listener.state_dict().items())
    assert not listener.training
    assert all(p.requires_grad and p.grad is None for p in listener.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("source", [occlusion, rise])
def test_a_clip_without_the_modality_has_an_empty_curve(listener: System, source: Callable) -> None:
    batch = voices((0.5, 0.4))
    batch.waveform_mask[1], batch.waveform[1] = False, 0
    options = {"num_masks": 4} if source is rise else {}
    curves = source(listener, batch, "audio", [0, 1], **options)
    assert [len(curve) for curve in curves] == [10, 0]
    assert np.isfinite(curves[0].values).all()
    assert [len(c) for c in source(listener, batch, "video", [0, 1], **options)] == [0, 0]


def test_the_face_of_a_fused_model() -> None:
    torch.manual_seed(0)
    branch = "{name: 'timm:test_resnet', weights: none, max_stride: 8}"
    small = [f"model.{part}.backbone={branch}" for part in ("audio", "video")]
    config = load_config([*small, "model.audio.dim=16", "model.video.dim=16"])
    model = build_model(config.model, ["a", "b"], sample_rate_hz=RATE).eval()
    batch = voices((0.6, 0.4))
    batch.frames = torch.randint(0, 256, (2, 8, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()
    batch.frame_times = (torch.arange(8) / 12.5).expand(2, 8).contiguous()
    batch.frame_mask = torch.arange(8) < torch.tensor([[8], [5]])
    for operator in operators_of("video"):
        if operator == "neutral":
            continue
        curves = occlusion(model, batch, "video", [0, 1], operator=operator)
        assert [len(curve) for curve in curves] == [12, 7]  # last frames at 0.56 and 0.32 s
        assert all(np.ptp(curve.values) > 1e-7 for curve in curves)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_refused(listener: System) -> None:
    batch, drops = voices(), np.zeros((1, 2, 40), dtype=bool)
    with pytest.raises(ValueError, match="training mode"):
        perturbed_probabilities(EnergyListener().train(), batch, "audio", drops, cell_s=0.05, operator="noise")
    with pytest.raises(ValueError, match=r"needed is \(variants, 2 clips, cells\)"):
        perturbed_probabilities(listener, batch, "audio", drops[:, :1], cell_s=0.05, operator="noise")
    with pytest.raises(ValueError, match="1 emotions for 2 clips"):
        occlusion(listener, batch, "audio", [0])
    with pytest.raises(ValueError, match="keep=1"):
        rise(listener, batch, "audio", [0, 0], keep=1.0)
    with pytest.raises(ValueError, match="'fused': allowed"):
        occlusion(listener, batch, "fused", [0, 0])
    with pytest.raises(ValueError, match="cannot stand still"):
        occlusion(listener, batch, "audio", [0, 0], operator="freeze")
