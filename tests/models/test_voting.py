"""Majority votes, counted by hand; members train one at a time, and an ensemble knows how many were trained."""

import pytest
import torch
from torch import nn

from avser.models.voting import VotingEnsemble, vote
from avser.structures import Attended, Batch, Output


def answer(posteriors, weights=((0.5, 0.5),)):
    logits = torch.tensor(posteriors).log()
    sequence = torch.ones(len(logits), 2, 3) * logits[:, :1, None]
    attended = Attended(
        sequence,
        torch.tensor(weights),
        logits[:, None].repeat(1, 2, 1),
        torch.zeros(len(logits), 2),
        torch.ones(len(logits), 2, dtype=torch.bool),
        sequence[:, 0],
        logits,
    )
    return Output(logits, {"audio": attended})


class Level(nn.Module):
    """Front end: the mean of the voice, less that of the training clips."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, batch):
        return (batch.waveform.mean(dim=1, keepdim=True) - self.mean,)

    def fit(self, batches):
        self.mean.fill_(torch.cat([batch.waveform for batch in batches]).mean())


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 3)

    def forward(self, level):
        return Output(self.linear(level), {})

    def training_loss(self, output, batch, criterion):
        return 100 + criterion(output, batch)


class Small:
    def __init__(self):
        self.front_end, self.network = Level(), Judge()


class Ensemble(VotingEnsemble):
    def bags(self, labels, seed):
        return [[i, seed] for i in range(self.num_stages)]


@pytest.fixture
def batch():
    return Batch(["a", "b"], torch.tensor([[1.0, 0.0], [-3.0, 1.0]]), torch.ones(2, 2, dtype=torch.bool))


@pytest.fixture
def ensemble():
    torch.manual_seed(0)
    return Ensemble([Small() for _ in range(3)])


def test_most_votes_win_over_the_highest_mean():
    voted = vote([answer([[0.5, 0.4, 0.1]]), answer([[0.5, 0.4, 0.1]]), answer([[0.0, 1.0, 0.0]])], torch.ones(3))
    wanted = torch.tensor([[(2 + 1 / 3) / 4, (1 + 1.8 / 3) / 4, (0.2 / 3) / 4]])
    torch.testing.assert_close(voted.logits.exp(), wanted)
    torch.testing.assert_close(voted.logits.softmax(dim=1), wanted)


def test_ties_go_to_the_higher_mean_posterior():
    voted = vote([answer([[0.6, 0.3, 0.1]]), answer([[0.1, 0.8, 0.1]])], torch.ones(2))
    assert voted.logits.argmax().item() == 1


def test_a_member_with_two_votes_counts_twice():
    outputs = [answer([[0.6, 0.3, 0.1]]), answer([[0.1, 0.8, 0.1]])]
    voted = vote(outputs, torch.tensor([2, 1]))
    wanted = torch.tensor([[2 + 1.3 / 3, 1 + 1.4 / 3, 0.1]]) / 4
    torch.testing.assert_close(voted.logits.exp(), wanted)


def test_attention_and_evidence_are_means_and_sequences_stand_side_by_side():
    outputs = [answer([[0.6, 0.3, 0.1]], ((0.2, 0.8),)), answer([[0.1, 0.8, 0.1]], ((0.6, 0.4),))]
    for output, level in zip(outputs, (0.0, 1.0), strict=True):
        output.attended["audio"].class_weights = torch.full((1, 2, 3), level)
    voted = vote(outputs, torch.ones(2))
    attended = voted.attended["audio"]
    assert (attended.class_weights == 0.5).all()
    torch.testing.assert_close(attended.weights, torch.tensor([[0.4, 0.6]]))
    torch.testing.assert_close(attended.step_logits[0, 0], (outputs[0].logits + outputs[1].logits)[0] / 2)
    torch.testing.assert_close(
        attended.sequence[0, 0], outputs[0].logits[0, :1].repeat(3).new_tensor([0.6] * 3 + [0.1] * 3).log()
    )
    assert attended.pooled.shape == (1, 6)
    assert attended.logits is voted.logits


def test_in_its_stage_a_member_alone_learns_and_answers(ensemble, batch):
    features = ensemble.front_end(batch)
    for stage, member in enumerate(ensemble.members):
        ensemble.enter_stage(stage)
        assert torch.equal(ensemble(batch).logits, member(*features).logits)
        learning = {name.split(".")[1] for name, p in ensemble.named_parameters() if p.requires_grad}
        assert learning == {str(stage)}
        assert ensemble.training_loss(ensemble(batch), batch, lambda *_: 1.0) == 101
        assert ensemble.stage_clips([0, 1, 2], stage, 7) == [stage, 7]
    ensemble.enter_stage(3)
    wanted = vote([member(*features) for member in ensemble.members], torch.ones(3))
    assert torch.equal(ensemble(batch).logits, wanted.logits)
    assert all(p.requires_grad for p in ensemble.parameters())
    assert ensemble.training_loss(ensemble(batch), batch, lambda *_: 1.0) == 1


def test_an_ensemble_saved_halfway_votes_with_the_members_trained_by_then(ensemble, batch):
    ensemble.enter_stage(0)
    ensemble.enter_stage(1)
    again = Ensemble([Small() for _ in range(3)])
    again.load_state_dict(ensemble.state_dict())
    again.enter_stage(3)
    features = ensemble.front_end(batch)
    wanted = vote([member(*features) for member in list(ensemble.members)[:2]], torch.ones(2))
    assert torch.equal(again(batch).logits, wanted.logits)


def test_members_share_one_front_end(ensemble, batch):
    ensemble.prepare([batch])
    assert ensemble.front_end.mean.item() == pytest.approx(-0.25)
    assert [name for name in ensemble.state_dict() if "mean" in name] == ["front_end.mean"]


@pytest.mark.parametrize("votes", [[1, 1], [1, 1, 0], [1, 1, 1.5]])
def test_votes_are_whole_and_for_every_member(votes):
    with pytest.raises(ValueError, match="votes"):
        Ensemble([Small() for _ in range(3)], member_votes=votes)
