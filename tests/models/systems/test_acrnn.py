"""ACRNN: its size, its segments and who of them decides, and what it learns from."""

from dataclasses import replace

import pytest
import torch

from avser.models.systems.acrnn import Acrnn, ReleasedScore, RowNorm
from avser.training.losses import TrainingLoss

TINY = {"num_convs": 2, "first_maps": 4, "num_maps": 4, "num_linear": 8, "num_cells": 4, "num_hidden": 4}


@pytest.fixture
def build():
    def make(**options):
        torch.manual_seed(0)
        model = Acrnn(3, **{**TINY, **options}).eval()
        with torch.no_grad():  # untrained and this small, it would say much the same of every segment
            model.network.head[-1].weight.mul_(300)
            for weight in model.network.score.parameters():
                weight.mul_(300)
        return model

    return make


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_the_published_size():
    convolutions = (3 * 15 * 128 + 128) + (128 * 15 * 256 + 256) + 4 * (256 * 15 * 256 + 256)
    lstm = 2 * (4 * 128 * (768 + 128) + 2 * 4 * 128)
    head = (256 * 64 + 64) + 2 * 64 + (64 * 4 + 4)
    model = Acrnn(4)
    assert num_parameters(model) == convolutions + (2560 * 768 + 768) + 2 * 768 + lstm + 256 + head == 7_335_876
    assert model.network.cnn.layers[0].kernel_size == (3, 5), "bands, frames"


def test_the_paper_pools_half_as_many_bands_and_released_attention_has_two_numbers_more(build):
    code = build()
    assert build(pool="paper").network.linear.in_features == 2 * code.network.linear.in_features == 2 * 10 * 4
    assert num_parameters(build(score="code")) == num_parameters(code) + 2
    assert num_parameters(build(num_convs=3)) == num_parameters(code) + 4 * 15 * 4 + 4


def test_an_utterance_gets_the_highest_posterior_that_a_segment_gives(build, make_batch):
    output = build()(make_batch((16000 * 7, 16000)))
    assert output.extra["segment_owner"].tolist() == [0, 0, 0, 1]
    posteriors = output.extra["segment_logits"].softmax(dim=1)
    highest = posteriors[:3].amax(dim=0)
    torch.testing.assert_close(output.logits[0].softmax(dim=0), highest / highest.sum())
    torch.testing.assert_close(output.logits[1].softmax(dim=0), posteriors[3])


def test_an_emotions_attention_is_that_of_the_segment_that_decided(build, make_batch):
    model = build(slide_back=False)
    planes, mask = model.front_end(make_batch((16000 * 6,)))
    whole = model.network(planes, mask)
    decisive = whole.extra["segment_logits"].softmax(dim=1).argmax(dim=0).tolist()
    assert set(decisive) == {0, 1}, "both segments must decide something for this to be a test"
    halves = [slice(0, 300), slice(300, 600)]
    alone = [model.network(planes[..., half], mask[:, half]).attended["audio"].weights[0] for half in halves]
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    wanted = torch.zeros(2, 150, 3)
    for emotion, segment in enumerate(decisive):
        wanted[segment, :, emotion] = alone[segment]
    torch.testing.assert_close(whole.attended["audio"].class_weights[0], wanted.flatten(0, 1))


def test_segments_begin_on_the_clips_steps_and_end_with_the_clip(build, make_batch):
    network = build().network
    planes, mask = build().front_end(make_batch((160 * 305, 160 * 301)))
    cut = network._cut(planes, mask)
    assert cut.start.tolist() == [0, 4, 0]
    torch.testing.assert_close(cut.values[1], planes[0, :, :, 4:304])
    attended = network(planes, mask).attended["audio"]
    torch.testing.assert_close(attended.times[0], 0.005 + 0.02 * torch.arange(152))
    assert attended.mask.sum(dim=1).tolist() == [152, 150]


def test_every_segment_learns_the_label_of_its_utterance(build, make_batch):
    model, batch = build(), make_batch((16000 * 4, 16000))
    output = model(batch)
    labels = batch.labels[output.extra["segment_owner"]]
    assert labels.tolist() == [0, 0, 1]
    wanted = -output.extra["segment_logits"].log_softmax(dim=1)[torch.arange(3), labels].mean()
    torch.testing.assert_close(model.training_loss(output, batch, TrainingLoss()), wanted)


def test_loudness_and_offset_do_not_matter(build, make_batch):
    model, batch = build(), make_batch()
    louder = replace(batch, waveform=(3 * batch.waveform + 0.2) * batch.waveform_mask)
    torch.testing.assert_close(model(louder).logits, model(batch).logits, atol=2e-3, rtol=1e-3)


def test_bands_are_standardised_with_the_training_clips(build, make_batch):
    model, batch = build(), make_batch((16000, 9000))
    model.prepare([batch])
    planes, mask = model.front_end(batch)
    real = planes.permute(0, 3, 1, 2)[mask]
    torch.testing.assert_close(real.mean(dim=0), torch.zeros(3, 40), atol=1e-4, rtol=0)
    torch.testing.assert_close(real.std(dim=0, unbiased=False), torch.ones(3, 40), atol=1e-4, rtol=0)


def test_padding_in_a_segment_is_not_counted_by_the_batch_normalisation(build, make_batch):
    model, batch = build().train(), make_batch((16000,))
    seen = []
    model.network.norm.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    assert model(batch).attended["audio"].step_logits is None
    assert seen == [50]


def test_released_score_by_hand():
    score = ReleasedScore(2)
    with torch.no_grad():
        score.inner.weight[:], score.inner.bias[:], score.outer.weight[:] = torch.tensor([[1.0, -1.0]]), 0.5, 2.0
    wanted = 2 * torch.sigmoid(torch.tensor(3.0 - 1.0 + 0.5))
    torch.testing.assert_close(score(torch.tensor([[[3.0, 1.0]]])), wanted.view(1, 1, 1))


def test_a_lone_row_in_training_is_normalised_as_in_use():
    norm = RowNorm(2)
    row = torch.tensor([[1.0, -2.0]])
    torch.testing.assert_close(norm(row), norm.eval()(row))
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize("options", [{"pool": "max"}, {"score": "dot"}, {"num_convs": 0}, {"segment_s": 0.005}])
def test_unknown_options_are_refused(build, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)
