"""One training over several processes and passes: which clips are whose, and how parts add up to the whole.

Every process is given the same whole batches, padded and augmented alike, and trains on its part of each. So clips meet
the same padding, noise and mixup partners as in a single process, however many there are. Two things belong to a part:
what is drawn inside the model, such as dropout, and the statistics of BatchNorm. With BatchNorm parts do not quite make
the step of a whole batch, and its running statistics are those of the main process.

Gradients are summed here rather than by DistributedDataParallel: stages freeze parts of a model, and a part of a batch
may leave a branch of it unused, or be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from avser.structures import Batch

SEED_STEP = 7_368_787  # between the random numbers of two processes; a prime, far from the steps between epochs


def own_parts(
    batch: Batch, accelerator: Accelerator, num_passes: int, weight_of: Callable[[Batch], float]
) -> Iterator[tuple[Batch, float]]:
    """This process's clips of a batch, in `num_passes` parts, and each part's share of the whole batch's loss.

    The loss of the whole is the sum over all processes' parts of share times loss, exactly where the loss is a mean
    over clips that `weight_of` weighs, or a term that does not depend on the clips. Means over something else, such as
    segments, or the clips that have a face, are taken within a part. Parts without a clip are left out.
    """
    num_parts = accelerator.num_processes * num_passes
    if num_parts == 1:
        yield batch, 1.0
        return
    whole, first = weight_of(batch), accelerator.process_index * num_passes
    for number in range(first, first + num_passes):
        part = clips_of(batch, number * len(batch) // num_parts, (number + 1) * len(batch) // num_parts)
        if len(part):
            yield part, weight_of(part) / whole


def clips_of(batch: Batch, start: int, stop: int) -> Batch:
    """Some clips of a batch, padded as they were."""
    cut: dict[str, Any] = {
        f.name: value[start:stop] for f in fields(batch) if isinstance(value := getattr(batch, f.name), Tensor)
    }
    return replace(batch, clip_ids=batch.clip_ids[start:stop], **cut)


def own_batches(batches: Iterable[Batch], accelerator: Accelerator) -> Iterator[tuple[int, Batch]]:
    """Every k-th batch with its number, where k processes share the work."""
    for number, batch in enumerate(batches):
        if number % accelerator.num_processes == accelerator.process_index:
            yield number, batch


def sum_gradients(model: nn.Module, loss: Tensor, accelerator: Accelerator) -> Tensor:
    """Give every process the sum of all processes' gradients; returns the sum of their losses.

    A parameter that no process has used keeps no gradient.
    """
    if accelerator.num_processes == 1:
        return loss
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=loss.device)
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([loss.float().reshape(1), used, *(gradient.float().flatten() for gradient in own)])
    total = accelerator.reduce(flat, "sum")
    sums = total[1 + len(parameters) :].split([p.numel() for p in parameters])
    for parameter, count, gradient in zip(parameters, total[1:].tolist(), sums, strict=False):
        if count:
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
    return total[0]


def share_state(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the weights and buffers of the main one."""
    if accelerator.num_processes == 1:
        return
    for tensor in model.state_dict().values():
        tensor.copy_(broadcast(tensor.contiguous()))


def draw_apart(accelerator: Accelerator, seed: int) -> None:
    """Let each process but the main one, whose random numbers go on, draw its own: other clips, other dropout."""
    if accelerator.process_index:
        torch.manual_seed(seed + SEED_STEP * accelerator.process_index)
