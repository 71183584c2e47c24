"""The frames that a model computes from its input, found by their contract, watched and replaced.

A front end is a module with `hop_s`, `offset_s` and `num_features` whose `forward(waveform (B, N), mask (B, N))` gives
x (B, T, F) or planes (B, K, F, T), and frame_mask (B, T). Its frames are what questions about moments of the voice are
asked of. They do not contain what a front end does to a clip as a whole, such as scaling it to variance 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from avser.roi.salience.moments import cell_of, pick_clips, stream_cells, streams_of
from avser.structures import AUDIO, VIDEO, Batch, Output

CONTRACT = ("hop_s", "offset_s", "num_features")
CELL_S = 0.010  # in which a waveform is told
WAVEFORM = "waveform"
Heard = tuple[Tensor, Tensor]  # what a front end returns: x and frame_mask


@dataclass(frozen=True)
class Call:
    """Which answer of which front end: the module's path in the model, and how often it was asked before."""

    path: str
    number: int


@dataclass
class Watched:
    """One answer of a front end.

    Attributes:
        call: which one it was.
        waveform: (R, N) what the front end was given.
        x, frame_mask: what it returned.
    """

    call: Call
    waveform: Tensor
    x: Tensor
    frame_mask: Tensor


@dataclass
class InputPart:
    """Something that a model reads along time: the frames of a front end, a waveform, or a field of the face.

    A step is a moment with a time; its features are everything else that `values` holds of it.

    Attributes:
        source: a call of a front end, or the name of a field of `Batch`.
        values: (B, ..., N, ...) float32 with time as axis `time_axis`.
        real: (B, N) bool, the places of that axis which belong to the clip.
        times: (B, T) float64, centre of each step in seconds of the clip.
        mask: (B, T) bool, the steps of the clip.
        frame_mask: what the front end returned as its mask; None for fields of the batch.
        cells: (N,) the step to which each place belongs; None where every place is a step (T = N).
    """

    source: Call | str
    values: Tensor
    time_axis: int
    real: Tensor
    times: Tensor
    mask: Tensor
    frame_mask: Tensor | None = None
    cells: Tensor | None = None

    def sum_of_steps(self, x: Tensor) -> Tensor:
        """x of the shape of `values` -> (B, T): the sum over all features of each step."""
        places = x.movedim(self.time_axis, 1).flatten(2).sum(dim=2) if x.ndim > 2 else x
        if self.cells is None:
            return places
        return places.new_zeros(self.mask.shape).index_add(1, self.cells, places)

    def average(self) -> Tensor:
        """Values in which every feature has its mean over the clip's own steps; what is not of the clip stays."""
        real = self.real.view(self._along_time())
        count = real.sum(dim=self.time_axis, keepdim=True).clamp(min=1)
        mean = (self.values * real).sum(dim=self.time_axis, keepdim=True) / count
        return torch.where(real, mean, self.values)

    def _along_time(self) -> list[int]:
        shape = [1] * self.values.ndim
        shape[0], shape[self.time_axis] = self.real.shape
        return shape


# --- front ends --------------------------------------------------------------------------------------------------


def find_front_ends(model: nn.Module) -> dict[str, nn.Module]:
    """Path in the model -> front end: the outermost ones, for MFCC are made of log-mels; each module once."""
    found: dict[str, nn.Module] = {}
    seen = {id(model)}

    def descend(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            if id(child) in seen:
                continue
            seen.add(id(child))
            if all(isinstance(getattr(child, fact, None), int | float) for fact in CONTRACT):
                found[path + name] = child
            else:
                descend(child, f"{path}{name}.")

    descend(model, "")
    return found


@contextmanager
def watch_front_ends(model: nn.Module) -> Iterator[list[Watched]]:
    """Collect what the front ends are given and answer while the context is open.

    No gradient flows through a watched front end: neither its own computation nor what follows is connected to its
    waveform. A front end that another one asks is not collected. A method called past `forward` is not seen.
    """
    collected: list[Watched] = []
    counts: dict[str, int] = {}
    asked: list[tuple[str, Tensor]] = []  # the calls that are being answered, outermost first

    def before(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            asked.append((path, args[0]))
            return tuple(argument.detach() for argument in args)

        return hook

    def after(module: nn.Module, args: tuple[Tensor, ...], answer: Heard) -> Heard:
        path, waveform = asked.pop()
        x = answer[0].detach()
        if not asked:
            collected.append(Watched(Call(path, counts.get(path, 0)), waveform, x, answer[1]))
            counts[path] = counts.get(path, 0) + 1
        return x, answer[1]

    hooks = []
    try:
        for path, front_end in find_front_ends(model).items():
            hooks += [front_end.register_forward_pre_hook(before(path)), front_end.register_forward_hook(after)]
        yield collected
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def replace_front_ends(model: nn.Module, answers: Mapping[Call, Heard]) -> Iterator[None]:
    """Let front ends give other answers while the context is open; calls that are not named are computed as ever.

    A front end whose answer is known does not compute it: looking for pitch can take longer than the network.
    """
    counts: dict[str, int] = {}
    front_ends = find_front_ends(model)
    replaced = {path: front_ends[path] for path in {call.path for call in answers}}

    def answer_for(path: str, compute: Any) -> Any:
        def forward(*args: Tensor) -> Heard:
            call = Call(path, counts.get(path, 0))
            counts[path] = call.number + 1
            return answers[call] if call in answers else compute(*args)

        return forward

    try:
        for path, front_end in replaced.items():
            front_end.forward = answer_for(path, front_end.forward)  # an attribute of this object hides the class's
        yield
    finally:
        for front_end in replaced.values():
            front_end.__dict__.pop("forward", None)


# --- what a model reads ------------------------------------------------------------------------------------------


def input_parts(model: nn.Module, batch: Batch, modality: str) -> list[InputPart]:
    """Everything of a modality that the model may read; nothing where the batch lacks it.

    For the voice: the answers of its front ends, and the waveform itself, for a learned encoder reads it past all of
    them. For the face: `face_parts`. Whether the model does read a part, its gradient tells.
    """
    if modality == VIDEO:
        return list(face_parts(batch).values())
    if not streams_of(batch, modality):
        return []
    return [*frame_parts(model, batch), waveform_part(batch)]


def frame_parts(model: nn.Module, batch: Batch) -> list[InputPart]:
    """The frames of all front ends, by one pass through the model.

    Frame t is `offset_s` + t * `hop_s` seconds into what the front end was given. Where a system gives it another piece
    than the clip from its start (the middle, or the clip with silence before it), the place of that piece is found by
    asking on which sample of the clip a sample of the piece depends. Frames outside the clip are not steps of it; of a
    clip so short that no frame is centred in it, the nearest one is. A front end that is given other rows than one for
    each clip is left alone.
    """
    assert batch.waveform is not None
    assert batch.waveform_mask is not None
    waveform = batch.waveform.detach().clone().requires_grad_()
    with watch_front_ends(model) as collected, torch.enable_grad():
        model(replace(batch, waveform=waveform))
    front_ends = find_front_ends(model)
    length = batch.waveform_mask.sum(dim=1)
    parts = []
    for heard in collected:
        if len(heard.x) != len(batch):
            continue
        front_end: Any = front_ends[heard.call.path]
        with torch.enable_grad():
            start = _first_sample(heard.waveform, waveform, length).double() / batch.sample_rate_hz
        steps = torch.arange(heard.frame_mask.shape[1], device=start.device, dtype=torch.float64)
        times = start[:, None] + front_end.offset_s + front_end.hop_s * steps
        real = _within(times, heard.frame_mask, length.double() / batch.sample_rate_hz)
        time_axis = 1 if heard.x.ndim == 3 else 3
        parts.append(InputPart(heard.call, heard.x, time_axis, real, times, real, heard.frame_mask))
    return parts


def waveform_part(batch: Batch) -> InputPart:
    """The samples of the voice, told in cells of 10 ms."""
    (stream,) = streams_of(batch, AUDIO)
    cells = cell_of(stream.times[0], CELL_S)
    num_cells = int(cells[-1]) + 1 if len(cells) else 0
    mask = stream_cells(stream, CELL_S, num_cells)
    centre = (torch.arange(num_cells, device=cells.device, dtype=torch.float64) + 0.5) * CELL_S
    return InputPart(WAVEFORM, stream.values.float(), 1, stream.mask, centre.expand(mask.shape), mask, cells=cells)


def face_parts(batch: Batch) -> dict[str, InputPart]:
    """Field of the batch -> what it holds of the face; frames are float32 from 0 to 255."""
    return {
        stream.name: InputPart(stream.name, stream.values.float(), 1, stream.mask, stream.times.double(), stream.mask)
        for stream in streams_of(batch, VIDEO)
    }


def run_on(
    model: nn.Module,
    batch: Batch,
    parts: Sequence[InputPart],
    values: Sequence[Tensor],
    rows: Tensor | None = None,
) -> Output:
    """What the model says where parts of its input have other values.

    Args:
        parts, values: what to put in the place of whose `values`.
        rows: (R,) the clip of the batch that each row of `values` is of; None for the clips as they are.
    """
    fields = {part.source: None for part in parts if isinstance(part.source, str)}
    changed = batch
    if rows is not None:
        changed = pick_clips(replace(batch, **fields), rows)  # type: ignore[arg-type]
    answers: dict[Call, Heard] = {}
    for part, x in zip(parts, values, strict=True):
        if isinstance(part.source, Call):
            assert part.frame_mask is not None
            answers[part.source] = x, part.frame_mask if rows is None else part.frame_mask[rows]
        else:
            changed = replace(changed, **{part.source: x})  # type: ignore[arg-type]
    with replace_front_ends(model, answers):
        return model(changed)


def _first_sample(heard: Tensor, waveform: Tensor, length: Tensor) -> Tensor:
    """At which sample of its clip the piece that a front end heard begins; negative after added silence.

    The piece may have been filtered and scaled, by a gain that depends on some of the samples too. So where it begins
    is first estimated over all samples (the derivative of sum_j j x_j over that of sum_j x_j is j), then measured at
    one: the sample of the clip on which a quiet one of the piece depends most.

    Args:
        heard: (B, N') as a function of `waveform` (B, N).
        length: (B,) samples of each clip.

    Returns:
        (B,) int64.
    """
    none = torch.zeros_like(length)
    if not heard.requires_grad or not heard.numel():
        return none
    place = torch.arange(heard.shape[1], device=heard.device)

    def derivative(share: Tensor) -> Tensor:
        return torch.autograd.grad((heard.double() * share).sum(), waveform, retain_graph=True)[0].double()

    even, ramp = derivative(torch.ones_like(place)), derivative(place)
    is_heard = even.abs() > 1e-3 * even.abs().amax(dim=1, keepdim=True)
    sample = torch.arange(waveform.shape[1], device=heard.device)
    gap = (sample - ramp / even).masked_fill(~is_heard, torch.nan).nanmedian(dim=1).values
    start = gap.nan_to_num().round()
    # The middle half of what is there of the clip, so that neither silence around it nor its edges are asked.
    first, last = (-start).clamp(min=0), (length - start).clamp(max=heard.shape[1])
    margin = (last - first) / 4
    inner = (place >= (first + margin)[:, None]) & (place <= (last - margin)[:, None])
    quiet = heard.detach().abs().masked_fill(~inner, torch.inf).argmin(dim=1)
    depends = derivative(nn.functional.one_hot(quiet, heard.shape[1])).abs()
    exact = depends.argmax(dim=1) - quiet
    return torch.where(is_heard.any(dim=1) & depends.any(dim=1), exact, none)


def _within(times: Tensor, frame_mask: Tensor, duration_s: Tensor) -> Tensor:
    """(B, T) the real frames that are centred in their clip, or the nearest one."""
    inside = frame_mask & (times > -1e-9) & (times < duration_s[:, None])
    outside_s = torch.maximum(-times, times - duration_s[:, None]).masked_fill(~frame_mask, torch.inf)
    if not times.shape[1]:
        return inside
    nearest = nn.functional.one_hot(outside_s.argmin(dim=1), times.shape[1]).bool() & frame_mask
    return inside | (nearest & ~inside.any(dim=1, keepdim=True) & (duration_s > 0)[:, None])
