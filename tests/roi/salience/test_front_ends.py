"""Front ends found, watched and replaced; where their frames lie in the clip; what else a model reads along time."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from avser.config import load_config
from avser.features.cepstral import Mfcc
from avser.features.spectral import LogMel
from avser.models.build import build_model
from avser.roi.salience.front_ends import (
    Call,
    face_parts,
    find_front_ends,
    frame_parts,
    input_parts,
    replace_front_ends,
    run_on,
    watch_front_ends,
    waveform_part,
)
from avser.structures import Attended, Batch, Output

HZ = 16000


class Levels(nn.Module):
    """A front end of one feature: the mean of each `hop` samples, centred on them."""

    def __init__(self, hop: int = 160) -> None:
        super().__init__()
        self.hop, self.hop_s, self.offset_s, self.num_features = hop, hop / HZ, hop / 2 / HZ, 1
        self.num_calls = 0

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        self.num_calls += 1
        count = -(-waveform.shape[1] // self.hop)
        padded = nn.functional.pad(waveform * mask, (0, count * self.hop - waveform.shape[1]))
        frame_mask = torch.arange(count) < (-(-mask.sum(dim=1) // self.hop))[:, None]
        return padded.unflatten(1, (count, self.hop)).mean(dim=2, keepdim=True) * frame_mask[..., None], frame_mask


class Twice(nn.Module):
    """A front end made of another one."""

    def __init__(self, inner: Levels) -> None:
        super().__init__()
        self.inner = inner
        self.hop_s, self.offset_s, self.num_features = inner.hop_s, inner.offset_s, 1

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x, frame_mask = self.inner(waveform, mask)
        return 2 * x, frame_mask


class Listener(nn.Module):
    """The verdict is the sum of what its front ends say; `cut` changes what they are given."""

    def __init__(self, *front_ends: nn.Module, cut=lambda waveform, mask: (waveform, mask)) -> None:
        super().__init__()
        self.ears = nn.ModuleList(front_ends)
        self.cut = cut

    def forward(self, batch: Batch) -> Output:
        heard = [ear(*self.cut(batch.waveform, batch.waveform_mask)) for ear in self.ears]
        total = sum(x.flatten(1).sum(dim=1) for x, _ in heard)
        x, mask = heard[0]
        times = torch.arange(mask.shape[1]).expand(mask.shape) * self.ears[0].hop_s
        logits = torch.stack([total, -total], dim=1)
        return Output(logits, {"audio": Attended(x, mask.float(), None, times, mask, x.sum(dim=1), logits)})


def voices(*num_samples: int, extra: int = 0, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    size = max(num_samples) + extra
    mask = torch.arange(size) < torch.tensor(num_samples)[:, None]
    waveform = torch.zeros(mask.shape)
    for row, count in zip(waveform, num_samples, strict=True):
        row[:count] = 0.1 * torch.randn(count, generator=generator)
    return Batch([f"clip{i}" for i in range(len(num_samples))], waveform, mask, HZ)


def traces(model: nn.Module) -> list[str]:
    """What was left behind in a model."""
    left = []
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
            left.append(name)
    return left


def test_the_outermost_front_ends_are_found_once() -> None:
    log_mel = LogMel(num_mels=26)
    model = nn.ModuleDict({"branch": nn.ModuleDict({"mfcc": Mfcc(log_mel, num_coefficients=13)}), "levels": Levels()})
    model["again"] = model["levels"]
    assert list(find_front_ends(model)) == ["branch.mfcc", "levels"]
    assert find_front_ends(model)["branch.mfcc"] is model["branch"]["mfcc"]


def test_the_front_end_of_a_system_is_found_and_a_learned_encoder_has_none() -> None:
    config = load_config(["light_sernet"])
    model = build_model(config.model, ["a", "b"], sample_rate_hz=HZ)
    assert list(find_front_ends(model)) == ["mfcc"]
    assert find_front_ends(nn.Sequential(nn.Conv1d(1, 4, 10), nn.ReLU())) == {}


def test_answers_are_collected_and_the_hooks_go() -> None:
    model, batch = Listener(Levels(160), Levels(256)), voices(1600, 900)
    with watch_front_ends(model) as collected:
        model(batch)
    assert [watched.call for watched in collected] == [Call("ears.0", 0), Call("ears.1", 0)]
    for watched, ear in zip(collected, model.ears, strict=True):
        x, mask = ear(batch.waveform, batch.waveform_mask)
        torch.testing.assert_close(watched.x, x)
        assert torch.equal(watched.frame_mask, mask)
    assert traces(model) == []


def test_a_front_end_inside_another_is_not_counted_again() -> None:
    inner = Levels()
    model, batch = Listener(inner, Twice(inner)), voices(1600)
    with watch_front_ends(model) as collected:
        model(batch)
    assert [watched.call for watched in collected] == [Call("ears.0", 0), Call("ears.1", 0)]
    torch.testing.assert_close(collected[1].x, 2 * collected[0].x)


def test_nothing_is_left_behind_by_an_error() -> None:
    model = Listener(Levels())
    answers = {Call("ears.0", 0): (torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool))}

    def fail(context: AbstractContextManager) -> None:
        with context:
            assert traces(model) == ["ears.0"]
            raise RuntimeError("halt")

    for context in (watch_front_ends(model), replace_front_ends(model, answers)):
        with pytest.raises(RuntimeError, match="halt"):
            fail(context)
        assert traces(model) == []


def test_other_answers_are_given_without_computing_them() -> None:
    model, batch, other = Listener(Levels()), voices(1600), voices(1600, seed=1)
    ear = model.ears[0]
    answer = ear(other.waveform, other.waveform_mask)
    ear.num_calls = 0
    with replace_front_ends(model, {Call("ears.0", 0): answer}):
        replaced = model(batch).logits
    assert ear.num_calls == 0
    torch.testing.assert_close(replaced, model(other).logits)
    assert not torch.allclose(replaced, model(batch).logits)


def test_each_call_of_one_front_end_has_its_own_answer() -> None:
    class TwoCalls(Listener):
        def forward(self, batch: Batch) -> Output:
            first, second = (self.ears[0](batch.waveform * gain, batch.waveform_mask)[0] for gain in (1, 3))
            return Output(torch.stack([first.sum(dim=(1, 2)), second.sum(dim=(1, 2))], dim=1), {})

    model, batch = TwoCalls(Levels()), voices(1600)
    parts = frame_parts(model, batch)
    assert [part.source for part in parts] == [Call("ears.0", 0), Call("ears.0", 1)]
    torch.testing.assert_close(parts[1].values, 3 * parts[0].values)
    before = model(batch).logits[0]
    after = run_on(model, batch, parts[1:], [parts[1].values + 1]).logits[0]
    torch.testing.assert_close(after - before, torch.tensor([0.0, 10.0]))


# --- where the frames lie ----------------------------------------------------------------------------------------


def test_frames_lie_where_the_front_end_says() -> None:
    part, *more = frame_parts(Listener(Levels(160)), voices(1600, 900, extra=700))
    assert not more
    torch.testing.assert_close(part.times[0, :3], torch.tensor([0.005, 0.015, 0.025], dtype=torch.float64))
    assert part.mask.sum(dim=1).tolist() == [10, 6]
    assert part.times.dtype == torch.float64


@pytest.mark.parametrize("start", [-2400, 0, 3207])
@pytest.mark.parametrize("is_silent", [False, True])
def test_the_place_of_a_piece_is_found_however_it_was_filtered_and_scaled(start: int, is_silent: bool) -> None:
    def cut(waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        before = nn.functional.pad(waveform, (1, 0))[:, :-1]
        emphasised = waveform - 0.97 * before
        level = emphasised.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
        loud = (emphasised / (0.5 * level)).clamp(-1, 1)
        source = start + torch.arange(8000)
        piece = loud[:, source.clamp(0, waveform.shape[1] - 1)] * ((source >= 0) & (source < waveform.shape[1]))
        return piece, torch.ones_like(piece, dtype=torch.bool)

    batch = voices(9600, 9600)
    if is_silent:
        batch.waveform[1] = 0
    (part,) = frame_parts(Listener(Levels(), cut=cut), batch)
    expected = start / HZ + 0.005 + 0.01 * torch.arange(50, dtype=torch.float64)
    torch.testing.assert_close(part.times, expected.expand(2, -1))
    assert torch.equal(part.mask, ((expected >= 0) & (expected < 0.6)).expand(2, -1))


def test_frames_beside_the_clip_are_no_steps_of_it() -> None:
    config = load_config(["light_sernet", "model.options.clip_s=1.0"])
    model = build_model(config.model, ["a", "b"], sample_rate_hz=HZ).eval()
    (part,) = frame_parts(model, voices(8000, 24000))  # 0.25 s of silence around the first, the middle of the second
    short, long = (part.times[i][part.mask[i]] for i in range(2))
    assert float(short[0]) == pytest.approx(0.032 - 0.25 + 14 * 0.016)
    assert float(short[-1]) < 0.5 <= float(short[-1]) + 0.016
    assert float(long[0]) == pytest.approx(0.25 + 0.032)
    assert len(long) == part.values.shape[1]


def test_a_clip_too_short_for_a_centre_has_one_step() -> None:
    config = load_config(["light_sernet", "model.options.clip_s=0.1"])
    model = build_model(config.model, ["a", "b"], sample_rate_hz=HZ).eval()
    (part,) = frame_parts(model, voices(60, 1600))
    assert part.mask.sum(dim=1).tolist() == [1, 3]


def test_a_clip_without_a_voice_has_no_step() -> None:
    batch = voices(1600, 900)
    batch.waveform_mask[1] = False
    (part,) = frame_parts(Listener(Levels()), batch)
    assert part.mask.any(dim=1).tolist() == [True, False]


def test_front_ends_of_segments_are_left_alone() -> None:
    def halves(waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return waveform.unflatten(1, (2, -1)).flatten(0, 1), mask.unflatten(1, (2, -1)).flatten(0, 1)

    parts = input_parts(Listener(Levels(), cut=halves), voices(1600), "audio")
    assert [part.source for part in parts] == ["waveform"]


# --- parts of the input ------------------------------------------------------------------------------------------


def test_a_waveform_is_told_in_cells_of_10_ms() -> None:
    batch = voices(700, 300)
    batch.sample_rate_hz = 22050  # 220.5 samples a cell
    part = waveform_part(batch)
    assert part.mask.tolist() == [[True] * 4, [True, True, False, False]]
    torch.testing.assert_close(part.times[0], torch.tensor([0.005, 0.015, 0.025, 0.035], dtype=torch.float64))
    assert part.sum_of_steps(torch.ones(2, 700))[0].tolist() == [221, 220, 221, 38]


def test_features_and_planes_of_a_step_are_summed() -> None:
    (sequence,) = frame_parts(Listener(Levels()), voices(480))
    sequence.values = torch.arange(6.0).view(1, 3, 2)
    assert sequence.sum_of_steps(sequence.values).tolist() == [[1, 5, 9]]
    (planes,) = frame_parts(Listener(LogMel(num_mels=4)), voices(480))
    planes.values = torch.arange(36.0).view(1, 3, 4, 3)
    assert planes.sum_of_steps(planes.values).tolist() == [[198, 210, 222]]


def test_the_average_is_that_of_the_clips_own_steps() -> None:
    (part,) = frame_parts(Listener(Levels()), voices(480, 320))
    part.values = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]], [[1.0, 1.0], [3.0, 1.0], [50.0, 7.0]]])
    assert part.average().tolist() == [[[3, 1]] * 3, [[2, 1], [2, 1], [50, 7]]]
    (planes,) = frame_parts(Listener(LogMel(num_mels=1, num_channels=1)), voices(480))
    planes.values = torch.tensor([[[[1.0, 2.0, 6.0]]]])
    assert planes.average().tolist() == [[[[3, 3, 3]]]]


def test_the_face_is_what_the_batch_holds_of_it() -> None:
    times, mask = torch.tensor([[0.0, 0.04]]), torch.tensor([[True, False]])
    batch = Batch(
        ["clip"],
        frames=torch.full((1, 2, 3, 4, 4), 200, dtype=torch.uint8),
        frame_times=times,
        frame_mask=mask,
        blendshapes=torch.ones(1, 2, 52),
        face_features=torch.ones(1, 1, 35),
        feature_times=torch.tensor([[0.5]]),
        feature_mask=torch.tensor([[True]]),
    )
    parts = face_parts(batch)
    assert list(parts) == ["frames", "blendshapes", "face_features"]
    assert parts["frames"].values.dtype == torch.float32
    assert float(parts["frames"].values.max()) == 200
    assert parts["blendshapes"].mask.tolist() == [[True, False]]
    assert parts["face_features"].times.tolist() == [[0.5]]
    assert face_parts(voices(100)) == {}
    assert input_parts(Listener(Levels()), batch, "audio") == []


def test_a_model_says_the_same_of_its_own_parts_in_any_order_of_clips() -> None:
    model, batch = Listener(Levels(160), Levels(256)), voices(1600, 900)
    parts = input_parts(model, batch, "audio")
    values, expected = [part.values for part in parts], model(batch).logits
    torch.testing.assert_close(run_on(model, batch, parts, values).logits, expected)
    rows = torch.tensor([1, 0, 1])
    torch.testing.assert_close(run_on(model, batch, parts, [x[rows] for x in values], rows).logits, expected[rows])
