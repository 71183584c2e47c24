"""Balanced learning: keeps the modality that learns faster from leaving the other one untrained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from avser.config import TrainingConfig
from avser.errors import ConfigError
from avser.models.system import System
from avser.structures import FUSED, Batch, Output
from avser.training.losses import TrainingLoss
from avser.training.shares import own_batches

MIN_OVERFITTING = 0.05  # nats; gradient blending divides by its square
MAX_ENLARGED = 1000.0  # two gradients that cancel each other leave a remainder of rounding errors


class Balance:
    """`none`: a system's own loss, its gradients as they come. The others step in at the four places that it has.

    What an epoch leaves for later ones is returned by `end_epoch` and kept in the training's history; nothing else
    outlives a step, so that a resumed run goes on as it would have.

    Args:
        seed: of the run.
    """

    def __init__(
        self, model: System, criterion: TrainingLoss, training: TrainingConfig, accelerator: Accelerator, *, seed: int
    ) -> None:
        self.model, self.criterion, self.training = model, criterion, training
        self.accelerator, self.seed = accelerator, seed
        self.forget()

    def forget(self) -> None:
        """Begin to take notes anew."""

    def begin_epoch(self, epochs: Sequence[Mapping[str, float]]) -> None:
        """Look at what the epochs of this stage have left so far, oldest first."""

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """What training minimises: a scalar."""
        return self.model.training_loss(output, batch, self.criterion)

    def adjust_gradients(self, step: int) -> None:
        """Change the whole batch's gradients before they are clipped; called in every process, with equal gradients."""

    def end_epoch(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Numbers to keep of an epoch.

        Args:
            model: what to call, in eval mode; `batches` are the validation clips.
        """
        return {}

    @property
    def branches(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that learn in each modality's branch, up to the sequence that its attention sees."""
        return {
            name: [parameter for parameter in branch.parameters() if parameter.requires_grad]
            for name, branch in self.model.branches.named_children()  # type: ignore[union-attr]
        }


class OgmGe(Balance):
    """Holds back the branch of the modality that is ahead, and adds noise to the gradients of both (OGM-GE).

    From the paper (Peng et al. 2022, arXiv 2203.15332): the ratio rho of the probabilities that the two modalities
    give to the right answers, summed over the batch; gradients of the leading one's encoder times 1 - tanh(alpha *
    rho); Gaussian noise of the gradients' own spread. As in the authors' code that spread is one number for each
    parameter tensor, and noise is added in both branches. Our choice: the modalities' own verdicts, trained by
    `training.unimodal_loss`, in place of the two halves of a linear head; clips that lack a modality do not count; all
    parameters of a branch (their code: kernels of convolutions) in all epochs (their code: the first 50 of 100).
    """

    def forget(self) -> None:
        self._scores = torch.zeros(len(self.branches), device=self.accelerator.device)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The system's own; what each modality made of the clips is noted."""
        with torch.no_grad():
            self._scores += right_probabilities(output, batch, list(self.branches))
        return super().loss(output, batch)

    def adjust_gradients(self, step: int) -> None:
        """Modulate both branches. The noise depends on seed and step alone: all processes add the same."""
        scores: Tensor = self.accelerator.reduce(self._scores, "sum")  # type: ignore[assignment]
        self.forget()
        generator = torch.Generator(scores.device).manual_seed(1_000_003 * self.seed + step)
        factors = modulation(scores.tolist(), self.training.balance_alpha)
        for factor, parameters in zip(factors, self.branches.values(), strict=True):
            for parameter in parameters:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                noise = torch.randn(gradient.shape, generator=generator, device=gradient.device)
                parameter.grad = factor * gradient + gradient.std(correction=0) * noise.to(gradient.dtype)


class GradientBlending(Balance):
    """Weighs the verdicts of voice, face and both by how much they still generalise for what they overfit.

    From the paper (Wang et al. 2020, arXiv 1905.12681): the weight of a verdict's loss is proportional to G / O^2, G
    the fall of its validation loss over some epochs, O the growth of its gap to the training loss meanwhile; weights
    add up to 1 and are estimated anew every few epochs. Our choice: they are read off the run itself (the paper trains
    each verdict alone from the present weights to estimate them); the training loss is the mean over the epoch's
    steps, augmentation included; all verdicts count alike until the first estimate; a validation loss that rises gives
    the weight 0, and where all rise, weights stay; a gap that changes by less than 0.05 counts as that much.
    `training.unimodal_loss` is not used: these weights are in its place.
    """

    def forget(self) -> None:
        self.verdicts = [FUSED, *self.branches]
        self._sums = self._no_losses()

    def begin_epoch(self, epochs: Sequence[Mapping[str, float]]) -> None:
        self.weights = blending_weights(epochs, self.verdicts, every=self.training.balance_epochs)
        self.forget()

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The weighted sum of the verdicts' losses."""
        losses = self.criterion.verdict_losses(output, batch)
        self._sums += self._count(output, batch, losses)
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def end_epoch(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """The weights of the epoch, and each verdict's mean loss (classes weighed) on training and validation clips."""
        model.eval()
        found = self._no_losses()
        with torch.no_grad():
            for _, batch in own_batches(batches, self.accelerator):
                batch = batch.to(self.accelerator.device)
                output = model(batch)
                found += self._count(output, batch, self.criterion.verdict_losses(output, batch))
        kept = {f"weight_{name}": weight for name, weight in self.weights.items()}
        for part, sums in (("train", self._sums), ("val", found)):
            totals, counts = self.accelerator.reduce(sums, "sum").tolist()  # type: ignore[union-attr]
            for name, total, count in zip(self.verdicts, totals, counts, strict=True):
                kept[f"{part}_loss_{name}"] = total / count if count else 0.0
        return kept

    def _count(self, output: Output, batch: Batch, losses: Mapping[str, Tensor]) -> Tensor:
        """(2, V): sum of the losses of a batch's clips for each verdict, and what these clips count together."""
        clips = {FUSED: self.criterion.weight_of(batch)}
        for name, part in output.attended.items():
            clips[name] = self.criterion.weight_of(batch, part.present.nonzero().squeeze(1))
        counts = torch.tensor([clips[name] if name in losses else 0.0 for name in self.verdicts], dtype=torch.double)
        nothing = torch.zeros((), device=self.accelerator.device)
        means = torch.stack([losses.get(name, nothing).detach().double() for name in self.verdicts])
        return torch.stack([counts.to(means.device) * means, counts.to(means.device)])

    def _no_losses(self) -> Tensor:
        return torch.zeros(2, len(self.verdicts), dtype=torch.double, device=self.accelerator.device)


class MmPareto(Balance):
    """Where the verdict of both and a modality's own pull its branch apart, takes the way that hurts neither.

    From the paper (Wei and Hu 2024, arXiv 2405.17730): in each branch the gradients of the joint and of the modality's
    own loss are added with equal weights while they agree; where they conflict, they are weighed so that their mean is
    shortest, which does not go against either; it is then enlarged to the length of their plain sum, and all by gamma.
    From the authors' code: gamma 1.5. Our choice: the modality's own loss enters with `training.unimodal_loss` (1 in
    the paper); length is measured over the whole branch (their code: tensor by tensor, by which directions change).
    """

    def forget(self) -> None:
        """(2, P) for each branch: gradients of the joint loss and of the modality's own."""
        self._pairs = {
            name: torch.zeros(2, sum(p.numel() for p in parameters), device=self.accelerator.device)
            for name, parameters in self.branches.items()
        }

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The system's own; the gradients of its terms are noted for each branch."""
        losses, size = self.criterion.verdict_losses(output, batch), self.criterion.weight_of(batch)
        for name, parameters in self.branches.items():
            if name in losses:
                joint, own = (_flat_gradient(losses[verdict], parameters) for verdict in (FUSED, name))
                self._pairs[name] += size * torch.stack([joint, self.criterion.unimodal * own])
        return super().loss(output, batch)

    def adjust_gradients(self, step: int) -> None:
        """Replace each branch's gradient. Only its direction and relative length come from what was noted."""
        pairs = self._pairs
        self.forget()
        for name, parameters in self.branches.items():
            joint, own = self.accelerator.reduce(pairs[name], "sum")
            present = [p for p in parameters if p.grad is not None]
            length = nn.utils.get_total_norm([p.grad for p in present if p.grad is not None])
            plain = (joint + own).norm()
            if not present or not plain > 0:
                continue
            mixed = self.training.balance_gamma * (length / plain) * pareto_gradient(joint, own)
            pieces = mixed.split([p.numel() for p in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                if parameter.grad is not None:
                    parameter.grad = piece.view_as(parameter).to(parameter.grad.dtype)


BALANCES: dict[str, Callable[..., Balance]] = {
    "none": Balance,
    "ogm_ge": OgmGe,
    "gradient_blending": GradientBlending,
    "mmpareto": MmPareto,
}


def check_balance(model: System, training: TrainingConfig) -> None:
    """Refuse a way of balancing that a model has nothing for.

    Raises:
        ConfigError: one modality, a loss of the system's own, or a setting that would be passed over.
    """
    key, name = f"training.balance={training.balance}", type(model).__name__
    if training.balance == "none":
        return
    if model.has_own_loss or type(model).training_loss is not System.training_loss:
        raise ConfigError(f"{key}: {name} trains on a loss of its own; set training.balance=none")
    if len(list(getattr(model, "branches", nn.Module()).children())) < 2:
        raise ConfigError(f"{key} weighs voice against face, and this model has one branch; set training.balance=none")
    if training.balance != "gradient_blending" and training.unimodal_loss == 0:
        raise ConfigError(f"{key} needs each modality's own verdict trained: set training.unimodal_loss above 0")
    if training.balance != "ogm_ge" and training.attention_entropy > 0:
        raise ConfigError(f"{key} weighs the losses of verdicts and no others: set training.attention_entropy=0")
    if training.balance == "mmpareto" and (training.compile or training.mixed_precision == "fp16"):
        raise ConfigError(
            f"{key} takes gradients twice: set training.compile=false, training.mixed_precision=bf16 or no"
        )


def right_probabilities(output: Output, batch: Batch, names: Sequence[str]) -> Tensor:
    """(M,): what each modality's own verdict gives to the truth, summed over the clips that have all modalities."""
    if set(names) - set(output.attended):
        return torch.zeros(len(names), device=output.logits.device)
    parts = [output.attended[name] for name in names]
    if batch.targets is not None:
        truth = batch.targets
    elif batch.labels is not None:
        truth = nn.functional.one_hot(batch.labels, output.logits.shape[1])
    else:
        raise ValueError("training needs labels; this batch has none")
    has_all = torch.stack([part.present for part in parts]).all(dim=0)
    return torch.stack([((part.logits.float().softmax(dim=1) * truth).sum(dim=1) * has_all).sum() for part in parts])


def modulation(scores: Sequence[float], alpha: float) -> list[float]:
    """What the gradients of two modalities are multiplied by: 1 - tanh(alpha * ratio) for the one ahead, 1 else."""
    one, two = scores
    if not one > 0 or not two > 0:
        return [1.0, 1.0]
    return [1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0 for ratio in (one / two, two / one)]


def blending_weights(epochs: Sequence[Mapping[str, float]], names: Sequence[str], *, every: int) -> dict[str, float]:
    """Name -> weight of its loss, from `train_loss_<name>` and `val_loss_<name>` of the epochs so far; the sum is 1.

    Args:
        every: epochs of one estimate; they are compared with the last one before them, or, being the first, with the
            first of their own.
    """
    for last in range(len(epochs) // every * every - 1, 0, -every):
        start, end = epochs[max(last - every, 0)], epochs[last]
        worth = {}
        for name in names:
            gained = start[f"val_loss_{name}"] - end[f"val_loss_{name}"]
            gap_before, gap_after = (e[f"val_loss_{name}"] - e[f"train_loss_{name}"] for e in (start, end))
            worth[name] = max(gained, 0.0) / max(abs(gap_after - gap_before), MIN_OVERFITTING) ** 2
        if any(worth.values()):
            return {name: value / sum(worth.values()) for name, value in worth.items()}
    return dict.fromkeys(names, 1 / len(names))


def pareto_gradient(one: Tensor, two: Tensor) -> Tensor:
    """(P,): the sum of two gradients if they agree, else the shortest vector between them, at least as long as the sum.

    Its inner product with neither is negative.
    """
    if one @ two >= 0:
        return one + two
    mixed = 2 * torch.lerp(two, one, min_norm_share(one, two))
    enlarged = ((one + two).norm() / mixed.norm().clamp(min=1e-30)).clamp(1.0, MAX_ENLARGED)
    return enlarged * mixed


def min_norm_share(one: Tensor, two: Tensor) -> Tensor:
    """The share of `one` in the shortest of all weighted means of two vectors (P,), in [0, 1]."""
    apart = two - one
    return (apart @ two / apart.square().sum().clamp(min=1e-30)).clamp(0, 1)


def _flat_gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """(P,) of a loss whose graph is needed once more; zero where it does not depend on a parameter."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(parameters, found, strict=True)
    return torch.cat([(torch.zeros_like(p) if grad is None else grad).flatten().float() for p, grad in pairs])
