"""How much of a clip a decision needs: the clip is cut off ever later, and the model is asked anew each time.

This is the gating paradigm (Grosjean 1980, "Spoken word recognition processes and the gating paradigm") with a machine
for a listener; Pell & Kotz 2011 (PLoS ONE 6(11): e27256) gate emotional voices in this way. Unlike the onset that
`avser.roi.dynamics.summarise_dynamics` reads off one pass, nothing here has seen what comes after the cut.

What a prefix is not: the beginning of what the model made of the whole clip. A front end that scales a clip by its own
mean and loudness scales each prefix by the prefix's, a model that takes the clip's usual face away takes away that of
the prefix, and an input of fixed length is filled by other means. So an answer may change from one prefix to the next
though nothing was added that speaks for it; `rescaled_beginnings` says of which front ends this is true. Features that
another program measured may know the whole clip however early they are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from avser.roi.intervals import step_intervals
from avser.roi.salience.front_ends import find_front_ends
from avser.roi.salience.moments import pick_clips, streams_of, with_stream
from avser.structures import MODALITIES, Batch, Curve

MAX_BATCH_S = 320.0  # of all the prefixes that go through at once, padding included: memory grows with it
FINE_S = 10.0  # up to this length a clip is cut every STEP_S; a longer one NUM_COARSE times
STEP_S = 0.1
NUM_COARSE = 40
ROUNDING_S = 1e-5  # times in float32; samples lie further apart


@dataclass
class PrefixAnswers:
    """What a model says of one clip as more and more of it is given.

    Attributes:
        clip_id: its name.
        times: (K,) seconds after which the clip was cut; the last one is its whole length.
        probabilities: (K, C) softmax; NaN where the model gives no answer, as where the prefix holds no frame yet.
    """

    clip_id: str
    times: np.ndarray
    probabilities: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """(K,) index of the most probable emotion, -1 where there is no answer."""
        known = np.isfinite(self.probabilities).all(axis=1)
        return np.where(known, np.nan_to_num(self.probabilities).argmax(axis=1), -1)

    @property
    def final(self) -> int:
        """Index of the answer to the whole clip; -1 where there is none."""
        return int(self.answers[-1]) if len(self.times) else -1

    @property
    def isolation_point_s(self) -> float:
        """See `isolation_point`, of the final answer."""
        return isolation_point(self.times, self.answers)

    def curve(self, emotion: int | None = None) -> Curve:
        """Probability of an emotion, by default the final one, over the prefixes that have an answer."""
        emotion = self.final if emotion is None else emotion
        known = self.answers >= 0
        return Curve(self.times[known], self.probabilities[known, emotion])


def isolation_point(times: np.ndarray, answers: np.ndarray, emotion: int | None = None) -> float:
    """The first time after which the answer is that emotion and stays so up to the whole clip.

    It lies within the step that ends there: at steps of 100 ms, up to 100 ms earlier. NaN where the last answer is
    another emotion, or where there is none.

    Args:
        times: (K,) seconds, increasing.
        answers: (K,) indices; -1 for no answer.
        emotion: by default the last answer. With the emotion that the clip is meant to show this is the identification
            point of the gating studies.
    """
    if not len(answers) or answers[-1] < 0:
        return float("nan")
    wanted = answers[-1] if emotion is None else emotion
    others = np.flatnonzero(answers != wanted)
    settled = int(others[-1]) + 1 if len(others) else 0
    return float(times[settled]) if settled < len(times) else float("nan")


@torch.no_grad()
def ask_prefixes(
    model: nn.Module,
    batch: Batch,
    *,
    modalities: Sequence[str] = MODALITIES,
    step_s: float = STEP_S,
    max_rows: int = 32,
) -> list[PrefixAnswers]:
    """What a model says of clips that are cut after `step_s` seconds, twice that, and so on up to the whole clip.

    The prefixes of all clips go through the model together, those of like length in one batch. Samples and frames count
    by their time: those before the cut are given.

    Args:
        model: in eval mode, on the batch's device.
        modalities: what is given of the clips: the voice alone, the face alone, or both, cut alike; what is not named
            is taken away altogether. A model of one modality reads no other, whatever is given.
        max_rows: most prefixes that go through at once; fewer of prefixes so long that they have more than
            `MAX_BATCH_S` together, but never less than one.

    Returns:
        One for each clip, in batch order. A clip that lacks all the modalities has no prefixes. A prefix has no answer
        before its first sample or frame, and where the model cannot read anything so short: where it refuses, or its
        logits are not finite.

    Raises:
        ValueError: the model is in training mode, an unknown modality, or steps or batches of no size.
    """
    if model.training:
        raise ValueError("the model is in training mode, where its answers depend on chance; call model.eval() first")
    if not step_s > 0 or max_rows < 1:
        raise ValueError(f"step_s={step_s}, max_rows={max_rows}: both must be above 0")
    if not modalities or set(modalities) - set(MODALITIES):
        raise ValueError(f"modalities={list(modalities)}: allowed are {' and '.join(MODALITIES)}, one of them or both")
    for modality in set(MODALITIES) - set(modalities):
        batch = batch.without(modality)
    cuts = [_cuts(length, step_s) for length in durations_s(batch)]
    rows = np.repeat(np.arange(len(batch)), [len(times) for times in cuts])
    cut = np.concatenate(cuts) if cuts else np.zeros(0)
    answers = _ask(model, batch, torch.from_numpy(rows), torch.from_numpy(cut), max_rows)
    parts = np.split(answers, np.cumsum([len(times) for times in cuts])[:-1]) if cuts else []
    return [PrefixAnswers(*found) for found in zip(batch.clip_ids, cuts, parts, strict=True)]


def gating_step_s(length_s: float) -> float:
    """How far apart a clip is to be cut, for the work not to grow with the square of its length (our choice).

    Every 0.1 s up to 10 s; a longer clip in 40 equal steps, so that the answer of one of 60 s is known to 1.5 s.
    """
    return STEP_S if length_s <= FINE_S else length_s / NUM_COARSE


def truncate(batch: Batch, end_s: Tensor) -> Batch:
    """The clips up to `end_s` (B,) seconds, as if they had been recorded so: padding that none of them needs is gone.

    Kept are the samples and frames whose time is before the end. A modality of which nothing is left in any clip is
    taken away; one of which nothing is left in some has a mask that is False throughout there.
    """
    if len(end_s) != len(batch):
        raise ValueError(f"{len(end_s)} ends for {len(batch)} clips; give one for each")
    for modality in MODALITIES:
        streams, is_left = streams_of(batch, modality), False
        for stream in streams:
            before = stream.times.double() < end_s.to(stream.times.device)[:, None] - ROUNDING_S
            kept = stream.mask & before
            is_left |= bool(kept.any())
            shown = before.expand(kept.shape).reshape(*kept.shape, *[1] * (stream.values.ndim - 2))
            times = stream.times
            if not stream.is_voice:  # padding carries the clip's last time
                last = torch.where(kept, times, torch.zeros_like(times)).amax(dim=1, keepdim=True)
                times = torch.minimum(times, last)
            batch = with_stream(
                batch, replace(stream, values=stream.values * shown.to(stream.values.dtype), times=times, mask=kept)
            )
        if streams and not is_left:
            batch = batch.without(modality)
    return pick_clips(batch, torch.arange(len(batch)), tight=True)


def durations_s(batch: Batch) -> np.ndarray:
    """(B,) how far the clips reach in seconds: to the end of the last sample or frame; 0 for a clip without any.

    A frame lasts until halfway to the next one, the last one as long as the one before; a lone one, such as a row that
    sums up the clip, reaches to twice its time.
    """
    reach = np.zeros(len(batch))
    for modality in MODALITIES:
        for stream in streams_of(batch, modality):
            for i, mask in enumerate(stream.mask.cpu().numpy()):
                if not mask.any():
                    continue
                if stream.is_voice:
                    end = (np.flatnonzero(mask)[-1] + 1) / stream.sample_rate_hz
                else:
                    times = stream.times[i].double().cpu().numpy()[mask]
                    end = max(step_intervals(times)[-1, 1], times[-1] + 1e-3)  # one at time 0 lasts a moment too
                reach[i] = max(reach[i], end)
    return reach


@torch.no_grad()
def rescaled_beginnings(model: nn.Module, batch: Batch, *, tolerance: float = 0.01) -> list[str]:
    """The front ends that show the beginning of a voice otherwise once they know the rest of it: paths in the model.

    Measured: each clip's frames of its first quarter, computed from its first half and from the whole of it, differ by
    more than `tolerance` of their size. Such a front end scales by the clip, and scales each prefix otherwise. Front
    ends without frames, such as a network on the waveform itself, are not looked at.
    """
    if batch.waveform is None or batch.waveform_mask is None or not batch.waveform_mask.any():
        return []
    lengths = batch.waveform_mask.sum(dim=1) / batch.sample_rate_hz
    half = truncate(replace(batch.without("video"), labels=None, targets=None), lengths / 2)
    assert half.waveform is not None
    assert half.waveform_mask is not None
    found = []
    for path, front_end in find_front_ends(model).items():
        whole, mask = front_end(batch.waveform, batch.waveform_mask)
        part, part_mask = front_end(half.waveform, half.waveform_mask)
        whole, part = (x if x.ndim == 3 else x.flatten(1, 2).transpose(1, 2) for x in (whole, part))  # (B, T, F)
        num = min(whole.shape[1], part.shape[1])
        times = front_end.offset_s + torch.arange(num, device=mask.device) * front_end.hop_s  # type: ignore[operator]
        early = (times < lengths[:, None] / 4) & mask[:, :num] & part_mask[:, :num]
        difference, size = ((x[:, :num][early]).norm() for x in (whole[:, :num] - part[:, :num], whole))
        if float(difference) > tolerance * float(size):
            found.append(path)
    return found


def _cuts(length_s: float, step_s: float) -> np.ndarray:
    """step_s, 2 * step_s, ... below the length, then the length itself."""
    num = int(np.ceil(length_s / step_s - 1e-3)) - 1  # the last step may be the whole clip, but for rounding
    return np.append(step_s * np.arange(1, num + 1), length_s) if length_s > 0 else np.zeros(0)


def _ask(model: nn.Module, batch: Batch, rows: Tensor, cut: Tensor, max_rows: int) -> np.ndarray:
    """(R, C) softmax for the clips of `rows` (R,) cut at `cut` (R,); NaN where there is no answer."""
    answers: dict[int, np.ndarray] = {}
    order = torch.argsort(cut, descending=True)  # the longest first, so that what does not fit in memory shows at once
    while len(order):
        num = max(1, min(max_rows, int(MAX_BATCH_S / max(float(cut[order[0]]), ROUNDING_S))))
        chunk, order = order[:num], order[num:]
        answers |= _ask_some(model, batch, rows, cut, chunk)
    num_classes = max((len(p) for p in answers.values()), default=0)
    found = np.full((len(rows), num_classes), np.nan)
    for i, p in answers.items():
        found[i] = p
    return found


def _ask_some(model: nn.Module, batch: Batch, rows: Tensor, cut: Tensor, chunk: Tensor) -> dict[int, np.ndarray]:
    """Softmax by place in `rows`, for those of the chunk that have an answer.

    A model that refuses a batch is asked of its longer and its shorter half, so that it is known which are too short.
    """
    prefixes = truncate(pick_clips(batch, rows[chunk]), cut[chunk])
    there = torch.zeros(len(chunk), dtype=torch.bool)
    for modality in MODALITIES:
        for stream in streams_of(prefixes, modality):
            there |= stream.mask.any(dim=1).cpu()
    if not there.any():
        return {}
    if not there.all():  # the rest may be shorter without them
        return _ask_some(model, batch, rows, cut, chunk[there])
    try:
        output = model(prefixes)
    except (RuntimeError, ValueError):
        if len(chunk) == 1:
            if float(cut[chunk]) >= float(cut[rows == rows[chunk]].max()):
                raise  # the whole clip: not its shortness is what the model refuses
            return {}
        half = len(chunk) // 2
        return _ask_some(model, batch, rows, cut, chunk[:half]) | _ask_some(model, batch, rows, cut, chunk[half:])
    p = output.logits.double().softmax(dim=1).cpu().numpy()
    known = np.isfinite(p).all(axis=1)
    if output.attended:  # a model of the face alone has an answer for clips without any frame too: its bias
        known &= torch.stack([part.present for part in output.attended.values()]).any(dim=0).cpu().numpy()
    return {i: found for i, found, is_known in zip(chunk.tolist(), p, known, strict=True) if is_known}
