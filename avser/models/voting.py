"""Ensembles by majority vote: members that train one after another, each on clips of its own, and then all answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from avser.models.system import Criterion, System
from avser.structures import Attended, Batch, Output


class Member(Protocol):
    """A system in two parts; all members of an ensemble share the front end of the first.

    front_end: `forward(batch)` gives what the network takes, `fit(batches)` counts on the training clips.
    network: `forward(*features) -> Output` and `training_loss(output, batch, criterion)`.
    """

    @property
    def front_end(self) -> nn.Module: ...

    @property
    def network(self) -> nn.Module: ...


class VotingEnsemble(System):
    """One stage of training a member, in which it alone learns and answers; after the last all of them vote.

    A subclass says by `bags` which clips each member learns from. Built anew, it votes with all its members; one that
    was saved before its last stage votes with those that were trained until then.

    Args:
        member_votes: how many votes each member has; None: one each.

    Raises:
        ValueError: no member, or votes that are not positive whole numbers, one for each.
    """

    num_trained: Tensor
    member_votes: Tensor

    has_own_loss = True

    def __init__(self, members: Sequence[Member], *, member_votes: Sequence[int] | None = None) -> None:
        super().__init__()
        votes = [1] * len(members) if member_votes is None else list(member_votes)
        if not members or len(votes) != len(members) or any(v < 1 or v != int(v) for v in votes):
            raise ValueError(f"{len(members)} members with votes {votes}: take at least one, each with 1, 2, ... votes")
        self.front_end = members[0].front_end
        self.members = nn.ModuleList(member.network for member in members)
        self.num_stages = self.stage = len(members)
        self.register_buffer("num_trained", torch.tensor(len(members)))
        self.register_buffer("member_votes", torch.tensor(votes), persistent=False)

    def bags(self, labels: Sequence[int], seed: int) -> list[list[int]]:
        """For each member the training clips that it learns from, by index and perhaps repeatedly."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Output:
        """The answer of the member that is in training, or the vote of all that were trained."""
        features = self.front_end(batch)
        if self.stage < self.num_stages:
            return self.members[self.stage](*features)
        count = int(self.num_trained)
        return vote([member(*features) for member in list(self.members)[:count]], self.member_votes[:count])

    def prepare(self, batches: Iterable[Batch]) -> None:
        self.front_end.fit(batches)  # type: ignore[operator]

    def enter_stage(self, stage: int) -> None:
        self.stage = stage
        if stage < self.num_stages:
            self.num_trained.fill_(stage + 1)
        for i, member in enumerate(self.members):
            member.requires_grad_(stage in (i, self.num_stages))

    def stage_clips(self, labels: Sequence[int], stage: int, seed: int) -> list[int] | None:
        return self.bags(labels, seed)[stage]

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        if self.stage < self.num_stages:
            return self.members[self.stage].training_loss(output, batch, criterion)  # type: ignore[operator]
        return criterion(output, batch)


def vote(outputs: Sequence[Output], member_votes: Tensor) -> Output:
    """The emotion with most votes; where votes are tied, the one of them with the highest mean posterior.

    Its logits are log((votes + mean posterior) / (number of votes + 1)): a mean posterior is smaller than a vote, so
    it only parts equals, and the shares sum to 1. Attention and evidence are the means of the members'; their
    sequences, whose axes mean different things, stand side by side.

    Args:
        outputs: of M members, logits (B, C).
        member_votes: (M,) votes of each.
    """
    posteriors = torch.stack([output.logits.float().softmax(dim=1) for output in outputs])  # (M, B, C)
    each = member_votes.to(posteriors)[:, None, None]
    ballots = nn.functional.one_hot(posteriors.argmax(dim=2), posteriors.shape[2]) * each
    shares = (ballots.sum(dim=0) + (each * posteriors).sum(dim=0) / each.sum()) / (each.sum() + 1)
    logits = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
    attended = {name: _together([o.attended[name] for o in outputs], logits) for name in outputs[0].attended}
    return Output(logits, attended)


def _together(parts: Sequence[Attended], logits: Tensor) -> Attended:
    def mean(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.stack(values).mean(dim=0)

    return replace(
        parts[0],
        sequence=torch.cat([part.sequence for part in parts], dim=2),
        weights=torch.stack([part.weights for part in parts]).mean(dim=0),
        step_logits=mean("step_logits"),
        pooled=torch.cat([part.pooled for part in parts], dim=1),
        logits=logits,
        class_weights=mean("class_weights"),
        map=mean("map"),
    )
