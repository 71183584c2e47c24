"""BLSTM with hidden frame labels: its loss, its warm start, what is left out, and its read-out."""

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.label_models import ergodic, hard
from avser.models.systems.blstm_rv_elm import BlstmRvElm, kept_first
from avser.training.losses import TrainingLoss


def small(**options):
    torch.manual_seed(0)
    options = {"readout_options": {"num_units": 10}, **options}
    return BlstmRvElm(num_classes=3, cells=8, **options).eval()


def tone(batch, clip):
    """The batch with a voiced second half in one clip: pulses at 125 Hz."""
    length = int(batch.waveform_mask[clip].sum())
    batch.waveform[clip] *= 0.01
    batch.waveform[clip, length // 2 : length : 128] = 0.8
    return batch


def test_the_configuration_builds_the_network():
    model = build_model(load_config(["blstm_rv_elm"]).model, ["a", "b", "c", "d"], sample_rate_hz=16000)
    lstm = 2 * 4 * (64 * (32 + 64) + 2 * 64) + 2 * 4 * (64 * (128 + 64) + 2 * 64)  # two layers, two directions
    assert sum(p.numel() for p in model.parameters()) == lstm + 128 * 5 + 5  # NULL and four emotions
    assert model.readout.weights.shape == (10, 16, 120)
    assert model.label_model == "ergodic"


def test_first_epochs_train_with_hard_labels(make_batch):
    model, batch = small(min_voicing=0.0), make_batch()
    output, criterion = model(batch), TrainingLoss()
    shares, mask = output.extra["log_shares"], output.extra["share_mask"]
    num_frames = 100 + 57
    for epoch, likelihood in ((0, hard), (2, hard), (3, ergodic)):
        model.begin_epoch(epoch, 40)
        expected = -(likelihood(shares, mask)[[0, 1], [0, 1]]).sum() / num_frames
        torch.testing.assert_close(model.training_loss(output, batch, criterion), expected)


def test_soft_labels_are_an_expectation_over_emotions(make_batch):
    model, batch = small(), make_batch()
    output, criterion = model(batch), TrainingLoss()
    model.begin_epoch(9, 40)
    losses = []
    for labels in ([0, 2], [1, 2]):
        batch.labels = torch.tensor(labels)
        losses.append(model.training_loss(output, batch, criterion))
    batch.targets = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    mixed = model.training_loss(output, batch, criterion)
    torch.testing.assert_close(mixed, 0.25 * losses[0] + 0.75 * losses[1])


def test_unvoiced_frames_are_left_out_and_the_rest_keeps_its_place(make_batch):
    model, batch = small(), tone(make_batch(), 0)
    output = model(batch)
    audio = output.attended["audio"]
    assert audio.mask.shape == audio.weights.shape == (2, 100)
    first = int(audio.mask[0].int().argmax())
    assert 47 <= first <= 53  # the voice begins at 0.5 s
    assert audio.times[0, first] == pytest.approx(0.01 * first)
    assert 40 <= int(audio.mask[0].sum()) <= 55
    said = output.extra["log_shares"][0, output.extra["share_mask"][0], 1:].log_softmax(dim=1)
    torch.testing.assert_close(audio.step_logits[0, audio.mask[0]], said)
    assert audio.weights[0, : first - 1].abs().max() == 0
    assert audio.step_logits[0, : first - 1].abs().max() == 0
    torch.testing.assert_close(audio.weights.sum(dim=1), torch.ones(2))


def test_a_clip_without_voiced_frames_keeps_all(make_batch):
    audio = small(min_voicing=1.1)(make_batch()).attended["audio"]
    assert audio.mask.sum(dim=1).tolist() == [100, 57]


def test_salience_is_the_probability_of_not_being_null(make_batch):
    model = small(min_voicing=0.0)
    output = model(make_batch())
    emotional = (1 - output.extra["log_shares"][..., 0].exp()) * output.extra["share_mask"]
    torch.testing.assert_close(output.attended["audio"].weights, emotional / emotional.sum(dim=1, keepdim=True))


def test_the_answer_is_the_mean_of_frames_and_then_the_readout(make_batch):
    model, batch = small(), make_batch((16000, 9000, 12000, 14000), (2,) * 4)
    before = model(batch)
    audio = before.attended["audio"]
    torch.testing.assert_close(before.logits, torch.einsum("bt,btk->bk", audio.weights, audio.step_logits))
    model.fit_readout([batch])
    after = model(batch)
    torch.testing.assert_close(after.logits, model.readout(after.extra["features"]))
    assert (after.logits - before.logits).abs().max() > 0.1
    loaded = small()
    loaded.load_state_dict(model.state_dict())
    torch.testing.assert_close(loaded(batch).logits, after.logits)


def test_readout_leaves_out_clips_without_a_voice(make_batch):
    model, batch = small(), make_batch((16000, 0, 9000), (2,) * 3)
    model.fit_readout([batch])
    with_silent = model.readout.solution.clone()
    batch.labels[1] = (batch.labels[1] + 1) % 3
    model.fit_readout([batch])
    assert torch.equal(model.readout.solution, with_silent)
    assert torch.isfinite(model(batch).logits).all()
    with pytest.raises(ValueError, match="no clip"):
        model.fit_readout([make_batch((0, 0), extra_samples=1600)])


def test_padding_changes_nothing(make_batch):
    model = small()
    model.prepare([make_batch()])
    alone, padded = (model(tone(make_batch((16000, 9000), extra_samples=extra), 1)) for extra in (0, 7000))
    torch.testing.assert_close(alone.logits, padded.logits, atol=1e-4, rtol=0)
    assert torch.equal(alone.attended["audio"].mask, padded.attended["audio"].mask[:, :100])


@pytest.mark.parametrize("label_model", ["ergodic", "hmm", "ctc", "hard"])
def test_every_weight_learns(label_model, make_batch):
    model, batch = small(label_model=label_model).train(), make_batch((16000, 4800))
    model.begin_epoch(5, 40)
    model.training_loss(model(batch), batch, TrainingLoss()).backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_kept_first_by_hand():
    x = torch.arange(8.0).view(2, 4, 1)
    moved, mask, order = kept_first(x, torch.tensor([[False, True, False, True], [True, False, False, False]]))
    assert moved[..., 0].tolist() == [[1, 3], [4, 0]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert order[0].tolist() == [1, 3]


def test_wrong_options_and_batches_are_refused(make_batch):
    with pytest.raises(ValueError, match="label_model='em'"):
        small(label_model="em")
    with pytest.raises(ValueError, match="readout='svm'"):
        small(readout="svm")
    with pytest.raises(ValueError, match="reads the voice"):
        small()(make_batch().without("audio"))
    batch = make_batch()
    output, batch.labels = small()(batch), None
    with pytest.raises(ValueError, match="needs labels"):
        small().training_loss(output, batch, TrainingLoss())


def test_what_its_loss_cannot_do_is_refused(make_batch):
    model, batch = small(), make_batch()
    with pytest.raises(ConfigError, match="class_weights=none"):
        model.training_loss(model(batch), batch, TrainingLoss(label_smoothing=0.1))
