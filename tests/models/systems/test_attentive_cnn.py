"""ACNN: where its steps are, its four inputs, and the views that it learns beside the emotion."""

from dataclasses import replace

import pytest
import torch

from avser.data.manifest import EMOTIONS
from avser.models.systems.attentive_cnn import CIRCUMPLEX, AttentiveCnn
from avser.training.losses import TrainingLoss

LABELS = ["anger", "calm", "boredom"]


@pytest.fixture
def build():
    def make(**options):
        torch.manual_seed(0)
        return AttentiveCnn(3, **{"emotions": LABELS, "num_kernels": 12, **options}).eval()

    return make


def test_sizes():
    model = AttentiveCnn(4, emotions=["anger", "happiness", "neutral", "sadness"])
    assert sum(p.numel() for p in model.parameters()) == (26 * 10 * 200 + 200) + 200 + (200 * 4 + 4) + 2 * (200 * 3 + 3)


@pytest.mark.parametrize(("inputs", "size"), [("log_mel26", 26), ("mfcc13", 13), ("egemaps", 32), ("prosody", 7)])
def test_inputs(build, make_batch, inputs, size):
    model, batch = build(inputs=inputs), make_batch()
    model.prepare([batch])
    assert model.statistics.num_features == size
    assert torch.isfinite(model(batch).logits).all()
    assert bool(model.notes) == (inputs in ("egemaps", "prosody"))


def test_true_egemaps_where_opensmile_is(build, make_batch):
    pytest.importorskip("opensmile")
    model, batch = build(inputs="egemaps_opensmile"), make_batch()
    model.prepare([batch])
    assert model.statistics.num_features == 25
    assert not model.notes
    output = model(batch)
    assert torch.isfinite(output.logits).all()
    assert output.attended["audio"].times[0, 0] == pytest.approx(0.010)


def test_prosody_takes_the_columns_that_it_names(build, make_batch):
    model, batch = build(inputs="prosody"), make_batch()
    everything, _ = model.front_end(batch.waveform, batch.waveform_mask)
    chosen, _ = model._features(batch)
    assert torch.equal(chosen[..., 1], everything[..., model.front_end.names.index("f0_hz")])


def test_a_step_is_where_the_frames_are_that_it_sees(build, make_batch):
    model, batch = build(), make_batch((48000,), (1,))
    before = model(batch).attended["audio"]
    batch.waveform[0, 24000] = 5.0
    after = model(batch).attended["audio"]
    felt = (after.sequence != before.sequence).any(dim=2)[0]
    middle = before.times[0][felt].mean().item()
    assert middle == pytest.approx(1.50, abs=0.05)
    assert felt.sum().item() == pytest.approx(99 / 9, abs=1)
    torch.testing.assert_close(before.times[0, 1] - before.times[0, 0], torch.tensor(0.09))


def test_what_follows_the_first_seconds_is_not_read(build, make_batch):
    model, batch = build(max_s=0.5), make_batch((16000, 6000))
    output = model(batch)
    batch.waveform[0, 8000:] = 0.7
    assert torch.equal(model(batch).logits, output.logits)
    batch.waveform[0, 7000] = 0.7
    assert not torch.equal(model(batch).logits, output.logits)


def test_the_verdict_is_the_attended_evidence_and_attention_is_linear(build, make_batch):
    model = build()
    attended = model(make_batch()).attended["audio"]
    torch.testing.assert_close((attended.weights[..., None] * attended.step_logits).sum(dim=1), attended.logits)
    scores = (attended.sequence[0] @ model.pooling.score.outer.weight[0]).softmax(dim=0)
    torch.testing.assert_close(attended.weights[0], scores)


def test_a_clip_without_a_voice_says_nothing(build, make_batch):
    with torch.no_grad():
        output = build()(make_batch((16000, 0), (1, 1)))
    assert output.logits[0].any()
    assert not output.logits[1].any()


def test_the_losses_of_the_views_are_added(build, make_batch):
    model, batch = build(), make_batch((16000, 9000, 12000), (1, 1, 1))
    output, criterion = model(batch), TrainingLoss()
    levels = {"activation": [2, 0, 0], "valence": [0, 2, 0]}  # anger, calm, boredom
    wanted = criterion(output, batch)
    for name, target in levels.items():
        wanted = wanted - output.extra[name].log_softmax(dim=1)[torch.arange(3), target].mean()
    torch.testing.assert_close(model.training_loss(output, batch, criterion), wanted)
    soft = replace(batch, labels=None, targets=torch.eye(3))
    torch.testing.assert_close(model.training_loss(output, soft, criterion), wanted)


def test_levels_of_soft_labels(build, make_batch):
    batch = replace(make_batch(), targets=torch.tensor([[0.5, 0.2, 0.3], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(build()._level_shares(batch, 0), torch.tensor([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]))


def test_every_emotion_has_its_place_and_unknown_ones_leave_the_views_out(build, make_batch):
    assert set(CIRCUMPLEX) == set(EMOTIONS)
    model = build(emotions=["anger", "awe", "boredom"])
    assert "awe" in model.notes[0]
    assert not model(make_batch()).extra
    assert not build(views=False).notes
    assert not build(views=False).views


def test_unknown_input(build):
    with pytest.raises(ValueError, match="log_mel26"):
        build(inputs="spectrogram")
