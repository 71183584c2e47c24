"""The share of near influences: known Jacobians, projections, models that are local by construction or are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avser.config import load_config
from avser.errors import AvserError
from avser.models.build import build_model
from avser.roi.salience.leakage import _projections, measure_leakage, spread_steps
from avser.structures import Attended, Batch, Output


class Mixing(nn.Module):
    """States h_t = sum_s mix[t, s] A_s x_s of blendshapes x_s, with A_s the first rows of the identity."""

    def __init__(self, mix: Tensor, ranks: Tensor | None = None) -> None:
        super().__init__()
        self.mix = nn.Parameter(mix)
        count = len(mix)
        rows = torch.eye(4, 52).expand(count, 4, 52).clone()
        if ranks is not None:
            rows *= (torch.arange(4) < ranks[:, None])[..., None]
        self.rows = nn.Parameter(rows)

    def forward(self, batch: Batch) -> Output:
        x, mask, times = batch.blendshapes * batch.frame_mask[..., None], batch.frame_mask, batch.frame_times
        n = x.shape[1]
        projected = torch.einsum("sdf,bsf->bsd", self.rows[:n], x)
        states = torch.einsum("ts,bsd->btd", self.mix[:n, :n], projected) * mask[..., None]
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        logits = states.sum(dim=1)
        return Output(logits, {"video": Attended(states, weights, None, times, mask, logits, logits)})


def faces(*num_frames: int, extra: int = 0) -> Batch:
    """10 frames a second."""
    size = max(num_frames) + extra
    mask = torch.arange(size) < torch.tensor(num_frames)[:, None]
    x = torch.stack([torch.rand(size, 52, generator=torch.Generator().manual_seed(i)) for i in range(len(mask))])
    times = (torch.arange(size) / 10).repeat(len(mask), 1)
    return Batch(
        [f"clip{i}" for i in range(len(mask))],
        frames=torch.zeros(len(mask), size, 3, 2, 2, dtype=torch.uint8),
        blendshapes=x * mask[..., None],
        frame_mask=mask,
        frame_times=times,
    )


def voices(*num_samples: int, extra: int = 0) -> Batch:
    size = max(num_samples) + extra
    mask = torch.arange(size) < torch.tensor(num_samples)[:, None]
    waveform = torch.stack(
        [0.1 * torch.randn(size, generator=torch.Generator().manual_seed(i)) for i in range(len(mask))]
    )
    return Batch([f"clip{i}" for i in range(len(mask))], waveform * mask, mask, 16000)


def recognizer(temporal: str) -> nn.Module:
    torch.manual_seed(0)
    config = load_config(
        [
            "model.modalities=[audio]",
            "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 4}",
            "model.audio.spectrogram.num_mels=16",
            f"model.audio={{temporal: {temporal}, dim: 16, layers: 1}}",
            "model.attention.hidden=8",
        ]
    )
    return build_model(config.model, ["a", "b", "c"], sample_rate_hz=16000).eval()


# --- known Jacobians ---------------------------------------------------------------------------------------------


def test_a_known_jacobian_gives_its_share() -> None:
    mix = torch.tensor([[4.0, 1.0, 0.0, -3.0], [1.0, 4.0, 1.0, 2.0], [0.0, 1.0, 4.0, 5.0], [-3.0, 0.0, 1.0, 0.0]])
    found = measure_leakage(Mixing(mix), faces(4), "video")  # frames of 0.1 s: near is one to each side
    assert found.share_near == pytest.approx((5 / 8 + 6 / 8 + 10 / 10 + 1 / 4) / 4, abs=1e-6)
    assert (found.num_clips, found.reach_s, found.is_state_attention) == (1, 0.15, False)


def test_the_norm_is_over_all_features_of_the_state() -> None:
    mix = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0], [1.0, 1.0, 2.0]])
    ranks = torch.tensor([4, 1, 1])  # ||A_s|| = 2, 1, 1
    model = Mixing(mix, ranks)
    shares = [2 / 5, 1, 3 / 5]
    exact = measure_leakage(model, faces(3), "video", num_projections=4)
    assert exact.share_near == pytest.approx(sum(shares) / 3, abs=1e-6)
    few = [measure_leakage(model, faces(3), "video", num_projections=2, seed=seed).share_near for seed in range(30)]
    assert len(set(few)) > 1
    assert sum(few) / 30 == pytest.approx(sum(shares) / 3, abs=0.03)


@pytest.mark.parametrize(("near", "verdict"), [(0.4, True), (0.6, False)])
def test_the_verdict_is_state_attention_below_one_half(near: float, verdict: bool) -> None:
    mix = torch.full((8, 8), 0.0)
    for t in range(8):
        mix[t, t], mix[t, (t + 4) % 8] = near, 1 - near
    found = measure_leakage(Mixing(mix), faces(8), "video")
    assert found.share_near == pytest.approx(near, abs=1e-6)
    assert found.is_state_attention is verdict


def test_reach_is_in_seconds_to_each_side() -> None:
    model = Mixing(torch.ones(9, 9))
    for reach_s, width in ((0.05, 1), (0.1, 3), (0.25, 5)):
        found = measure_leakage(model, faces(9), "video", num_steps=1, reach_s=reach_s)
        ahead = (width + 1) // 2  # the only step is the first one
        assert found.share_near == pytest.approx(ahead / 9, abs=1e-6)


def test_steps_that_nothing_influences_and_clips_without_a_face_do_not_count() -> None:
    mix = torch.eye(4)
    mix[2, 2] = 0
    found = measure_leakage(Mixing(mix), faces(4), "video")
    assert found.share_near == 1
    batch = faces(4, 3)
    batch.frame_mask[1] = False
    assert measure_leakage(Mixing(mix), batch, "video").num_clips == 1


def test_padding_and_company_change_nothing() -> None:
    mix = torch.rand(12, 12, generator=torch.Generator().manual_seed(0))
    alone = [measure_leakage(Mixing(mix), faces(count), "video", num_steps=5).share_near for count in (9, 9)]
    together = measure_leakage(Mixing(mix), faces(9, 9, extra=3), "video", num_steps=5)
    assert together.share_near == pytest.approx(sum(alone) / 2, abs=1e-6)
    assert together.num_clips == 2


@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_projections_are_unbiased_for_the_squared_norm(count: int) -> None:
    sequence = torch.zeros(1, 1, 6, dtype=torch.float64)
    drawn = [_projections(sequence, count, seed) for seed in range(200)]
    assert drawn[0].shape == (min(count, 6), 6)
    mean = sum(rows.T @ rows for rows in drawn) / len(drawn)
    torch.testing.assert_close(mean, torch.eye(6, dtype=torch.float64), atol=0.35 if count < 6 else 1e-9, rtol=0)
    assert torch.equal(_projections(sequence, count, 7), drawn[7])


def test_steps_are_spread_from_the_first_to_the_last() -> None:
    mask = torch.tensor([[True] * 9, [False, True, True, False, True, False, False, False, False], [False] * 9])
    assert spread_steps(mask, 5).T.tolist() == [[0, 2, 4, 6, 8], [1, 2, 4, -1, -1], [-1] * 5]


# --- models ------------------------------------------------------------------------------------------------------


def test_a_local_model_is_local_and_a_recurrent_one_is_less() -> None:
    batch, options = voices(12800), {"num_steps": 3, "num_projections": 1}
    local, recurrent = recognizer("none"), recognizer("lstm")
    with torch.no_grad():  # an LSTM that remembers, as training may make one
        for name, parameter in recurrent.named_parameters():
            if "bias_ih" in name and ".rnn." in name:
                width = len(parameter) // 4
                parameter[width : 2 * width] += 4
    reach_s = 0.15
    near, mixed = (measure_leakage(model, batch, "audio", reach_s=reach_s, **options) for model in (local, recurrent))
    assert near.share_near > 0.999
    assert mixed.share_near < 0.7
    assert measure_leakage(local, batch, "audio", reach_s=0.02, **options).share_near < 0.9


# --- what cannot be measured, and what is left behind ------------------------------------------------------------


def test_what_cannot_be_measured_says_so() -> None:
    model = Mixing(torch.eye(4))
    with pytest.raises(AvserError, match="no clip of the batch has audio"):
        measure_leakage(model, faces(4), "audio")
    both, voice = faces(4), voices(1600)
    both.waveform, both.waveform_mask = voice.waveform, voice.waveform_mask
    with pytest.raises(AvserError, match="no gradient reaches the face"):
        measure_leakage(recognizer("none"), both, "video")
    with pytest.raises(AvserError, match="no state of this model depends"):
        measure_leakage(Mixing(torch.zeros(4, 4)), faces(4), "video")

    class Cut(Mixing):
        def forward(self, batch: Batch) -> Output:
            with torch.no_grad():
                return super().forward(batch)

    with pytest.raises(AvserError, match="no gradient reaches the face"):
        measure_leakage(Cut(torch.eye(4)), faces(4), "video")


def test_the_model_is_left_as_it_was() -> None:
    model = recognizer("lstm")
    hooks = [len(module._forward_hooks) for module in model.modules()]
    with torch.no_grad():
        measure_leakage(model, voices(3200), "audio", num_steps=2, num_projections=1)
        assert not torch.is_grad_enabled()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert not any("forward" in module.__dict__ or module._forward_pre_hooks for module in model.modules())
