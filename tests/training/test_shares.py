"""Parts of a batch: together they make the step of the whole batch, whatever is weighed, rounded or left over."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from accelerate import Accelerator

from avser.config import AugmentConfig, TrainingConfig
from avser.structures import Attended, Batch, Output
from avser.training.checkpoint import Progress
from avser.training.loop import train_epoch
from avser.training.losses import TrainingLoss
from avser.training.shares import SEED_STEP, clips_of, draw_apart, own_batches, own_parts, sum_gradients

STILL = AugmentConfig(flip=0, brightness=0, contrast=0, shift=0, gain_db=0, noise_snr_db=None)
CLASS_WEIGHTS = torch.tensor([0.3, 1.0, 4.0])


@dataclasses.dataclass
class Place:
    """Where a process stands among several."""

    num_processes: int
    process_index: int


def make_batch(num_clips=7, *, soft=False):
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 2, 0, 1, 0, 0, 2])[:num_clips]
    targets = torch.softmax(torch.randn(num_clips, 3, generator=generator), dim=1) if soft else None
    waveform = torch.randn(num_clips, 5, generator=generator)
    names = [str(i) for i in range(num_clips)]
    return Batch(names, waveform=waveform, waveform_mask=waveform > -9, labels=labels, targets=targets)


@pytest.mark.parametrize("num_clips", [1, 3, 7])
@pytest.mark.parametrize(("num_processes", "num_passes"), [(1, 1), (2, 1), (1, 3), (4, 2)])
def test_every_clip_is_in_one_part_of_one_process(num_clips, num_processes, num_passes):
    batch, found, shares = make_batch(num_clips), [], []
    for index in range(num_processes):
        for part, share in own_parts(batch, Place(num_processes, index), num_passes, len):
            assert part.waveform.shape[0] == part.labels.shape[0] == len(part) > 0
            torch.testing.assert_close(part.waveform, batch.waveform[len(found) : len(found) + len(part)])
            found += part.clip_ids
            shares.append(share)
    assert found == batch.clip_ids
    assert sum(shares) == pytest.approx(1)


def test_a_part_keeps_the_padding_of_its_batch():
    part = clips_of(dataclasses.replace(make_batch(), frames=torch.zeros(7, 4, 3, 2, 2)), 2, 4)
    assert part.waveform.shape == (2, 5)
    assert part.frames.shape == (2, 4, 3, 2, 2)
    assert part.clip_ids == ["2", "3"]


def test_batches_are_dealt_out_once():
    batches = [make_batch() for _ in range(5)]
    dealt = [[number for number, _ in own_batches(batches, Place(2, index))] for index in (0, 1)]
    assert dealt == [[0, 2, 4], [1, 3]]


def test_only_further_processes_draw_other_numbers():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    draw_apart(Place(2, 0), seed=11)
    assert torch.equal(torch.rand(2), expected)
    draw_apart(Place(2, 1), seed=11)
    drawn = torch.rand(2)
    torch.manual_seed(11 + SEED_STEP)
    assert torch.equal(drawn, torch.rand(2))


class TwoVoices(torch.nn.Module):
    """A verdict and two modalities' own, from five samples."""

    def __init__(self):
        super().__init__()
        self.head, self.first, self.second = (torch.nn.Linear(5, 3) for _ in range(3))

    def forward(self, batch):
        mask = torch.ones(len(batch), 2, dtype=torch.bool)
        parts = {}
        for name in ("first", "second"):
            weights = torch.softmax(batch.waveform[:, :2], dim=1)
            logits = getattr(self, name)(batch.waveform)
            parts[name] = Attended(batch.waveform, weights, None, weights, mask, batch.waveform, logits)
        return Output(self.head(batch.waveform), parts)


class Pair:
    """Two processes as two threads; both get the sum of what each gives."""

    num_processes = 2

    def __init__(self):
        self.given, self.both_are_here = [], threading.Barrier(2)

    def reduce(self, tensor, kind):
        assert kind == "sum"
        self.given.append(tensor)
        self.both_are_here.wait(timeout=30)
        return sum(self.given)


def test_gradients_are_added_over_processes_wherever_one_has_used_a_parameter():
    def model_with(*gradients):
        model = torch.nn.ParameterList([torch.zeros(2, 3), torch.zeros(3), torch.zeros(2).half(), torch.zeros(4)])
        for parameter, gradient in zip(model, gradients, strict=True):
            parameter.grad = None if gradient is None else torch.full_like(parameter, gradient)
        model[3].requires_grad_(False)
        return model

    pair = Pair()
    models = [model_with(1.0, None, 0.5, 9.0), model_with(2.0, 3.0, 0.25, 8.0)]
    for model in models:
        model.append(torch.zeros(5))  # which neither has used
    with ThreadPoolExecutor() as pool:
        losses = list(pool.map(sum_gradients, models, [torch.tensor(0.25), torch.tensor(0.5)], [pair, pair]))
    assert losses == [0.75, 0.75]
    for model, frozen in zip(models, (9.0, 8.0), strict=True):
        expected = [
            torch.full((2, 3), 3.0),
            torch.full((3,), 3.0),
            torch.full((2,), 0.75).half(),
            torch.full((4,), frozen),
        ]
        assert all(torch.equal(p.grad, e) for p, e in zip(model, expected, strict=False))
        assert model[2].grad.dtype == torch.half
        assert model[4].grad is None


def weights_after_an_epoch(accumulate, criterion, *, soft, num_clips):
    """Weights and loss after two batches, whose gradients are not clipped."""
    torch.manual_seed(0)
    model = TwoVoices()
    optimizer = torch.optim.SGD([{"params": model.parameters(), "base_rate": 0.5}], lr=0.5)
    training = TrainingConfig(epochs=1, warmup_share=0.0, clip_norm=1e9, augment=STILL, accumulate=accumulate)
    batches = [make_batch(soft=soft), make_batch(num_clips, soft=soft)]
    loss = train_epoch(
        model, batches, optimizer, criterion, Accelerator(), training, Progress(),
        num_classes=3, steps_per_epoch=2, seed=0, weight_of=criterion.weight_of,
    )  # fmt: skip
    return torch.cat([p.detach().flatten() for p in model.parameters()]), loss


@pytest.mark.parametrize("num_clips", [2, 5])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}])
def test_small_batches_one_after_the_other_make_the_step_of_a_large_one(options, soft, num_clips):
    criterion = TrainingLoss(class_weights=CLASS_WEIGHTS, unimodal=0.3, **options)
    whole, loss = weights_after_an_epoch(1, criterion, soft=soft, num_clips=num_clips)
    for accumulate in (2, 3):
        parts, parts_loss = weights_after_an_epoch(accumulate, criterion, soft=soft, num_clips=num_clips)
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
        assert parts_loss == pytest.approx(loss, rel=1e-5)
