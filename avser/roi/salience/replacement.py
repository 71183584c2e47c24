"""Take moments out of a batch: something that carries no emotion, or nothing, takes their place.

What is put there is itself an input that a model may never have met, and can move its answer by being strange rather
than by what it hides (Hooker et al. 2019, arXiv:1806.10758). Findings are therefore told for two operators at least
that fail in different ways: `DEFAULT_OPERATORS`.

Samples and frames that are kept stay as they are, bit by bit, but for the joints of "excise" (see `gaps`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from avser.features.spectral import LogMel
from avser.roi.salience.gaps import Edit, Gaps, along, blend, cut_out
from avser.roi.salience.materials import (
    each_clip,
    faces_of,
    in_range,
    log_mel_of,
    mean_frame,
    mean_log_mel,
    steady_noise,
    voice_of,
    with_phases,
)
from avser.roi.salience.moments import (
    Stream,
    clip_generator,
    pick_clips,
    stream_cells,
    streams_of,
    with_stream,
)
from avser.structures import AUDIO, VIDEO, Batch

# The voice's are of two families: one adds a sound, one adds nothing. "mean" comes before "noise" because where RAVDESS
# is silent an av_roi model's answer moved half as far by it (total variation 0.03 against 0.06 for 300 ms, 24 clips),
# and as far (0.09) where the voice is loudest.
DEFAULT_OPERATORS = {AUDIO: ("mean", "excise"), VIDEO: ("freeze", "mean")}

Operator = Callable[[Stream, Stream | None, int], Edit]  # clips, their donors, seed -> an edit of any rows of them


class Replacer:
    """Takes moments out of the clips of one batch, again and again; what takes their place is made once.

    Args: as `replace_moments`.
    """

    def __init__(
        self,
        batch: Batch,
        modality: str,
        *,
        cell_s: float,
        operator: str,
        seed: int = 0,
        donors: Batch | None = None,
    ) -> None:
        check_operator(operator, modality)
        self.batch, self.modality, self.cell_s = batch, modality, cell_s
        streams = streams_of(batch, modality)
        parts = _donor_streams(streams, modality, operator, donors)
        num_cells = max((stream_cells(s, cell_s).shape[1] for s in streams), default=0)
        self.occupied = {s.name: stream_cells(s, cell_s, max(num_cells, 1)) for s in streams}
        self.edits = {s.name: OPERATORS[operator](s, part, seed) for s, part in zip(streams, parts, strict=True)}

    def __call__(self, rows: Tensor, drop: Tensor, *, tight: bool = False) -> Batch:
        """The clips of `rows` (R,), each without the moments of its row of `drop` (R, K) bool.

        Args:
            tight: leave out what is padding in all rows.
        """
        picked = pick_clips(self.batch, rows, tight=tight)
        for stream in streams_of(picked, self.modality):
            where = rows.to(stream.values.device)
            occupied = self.occupied[stream.name][where]
            drop_here = _fit(drop.to(stream.values.device), occupied.shape[1])
            edited = self.edits[stream.name](stream, Gaps(where, drop_here, occupied, self.cell_s))
            picked = with_stream(picked, edited)
        return picked


@torch.no_grad()
def replace_moments(
    batch: Batch,
    modality: str,
    drop: Tensor,
    *,
    cell_s: float,
    operator: str,
    seed: int = 0,
    donors: Batch | None = None,
) -> Batch:
    """The same clips with the moments of `drop` taken away from one modality; the batch itself is not changed.

    Args:
        modality: "audio" for the waveform; "video" for all that the batch holds of the face.
        drop: (B, K) bool: cells of `cell_s` seconds from 0 that go. What lies beyond the K-th cell is kept.
        operator: a name of `OPERATORS`; `operators_of` says which ones a modality has.
        seed: of the noise. A clip's noise depends on it and on the clip's name, not on its company in the batch.
        donors: "neutral": a batch of takes, one for each clip, in the same order. "mean": clips of any number whose
            mean, over all their steps, takes the place of the clip's own. Not looked at by the others.

    Returns:
        A batch of the same shapes; with "excise" it may be shorter.

    Raises:
        ValueError: an unknown modality or operator, one that the modality cannot have, or donors that do not fit.
    """
    replacer = Replacer(batch, modality, cell_s=cell_s, operator=operator, seed=seed, donors=donors)
    return replacer(torch.arange(len(batch)), torch.as_tensor(drop, dtype=torch.bool))


def operators_of(modality: str) -> tuple[str, ...]:
    """The operators that a modality can have."""
    return tuple(name for name in OPERATORS if not (name == "freeze" and modality == AUDIO))


def check_operator(operator: str, modality: str) -> None:
    """
    Raises:
        ValueError: an operator that is not there, or that the modality cannot have.
    """
    if operator not in OPERATORS:
        raise ValueError(f"operator={operator!r}: allowed are {', '.join(OPERATORS)}")
    if operator not in operators_of(modality):
        raise ValueError(
            f"operator={operator!r}: a voice cannot stand still, as a single sample or period says nothing; "
            f"for {modality} take one of {', '.join(operators_of(modality))}"
        )


# --- operators ----------------------------------------------------------------------------------------------------


def noise(stream: Stream, donors: Stream | None, seed: int) -> Edit:
    """Noise with the clip's own statistics.

    Voice: the clip's magnitude spectrum with random phases, so that spectrum and RMS are those of the whole clip while
    nothing of its course is left. Face: for every pixel or feature, normal noise around its mean over the clip with its
    deviation over the clip, drawn anew for every value and frame. Values are independent on purpose: random phases that
    kept them together would let whole expressions of the clip come back in the gap. Crops are rounded and clipped to
    0..255, blendshapes clipped to [0, 1]. A face of a single frame has no deviation, so that nothing changes.
    """

    def make(real: Tensor, clip_id: str) -> Tensor:
        generator = clip_generator(seed, clip_id, f"noise {stream.name}")
        if stream.is_voice:
            spectrum = torch.fft.rfft(real.double())
            phases = torch.from_numpy(generator.uniform(0, 2 * math.pi, len(spectrum))).to(real.device)
            return with_phases(spectrum, phases, len(real)).to(real.dtype)
        values = real.float()
        drawn = torch.from_numpy(generator.standard_normal(tuple(values.shape), dtype="float32")).to(real.device)
        return in_range(stream, values.mean(dim=0) + values.std(dim=0, correction=0) * drawn)

    return _put(each_clip(stream, make))


def mean(stream: Stream, donors: Stream | None, seed: int) -> Edit:
    """The average moment, of the clip or of the `donors`, e.g. a sample of the training clips.

    Voice: steady noise that sounds like the average frame: its log-mel spectrum (40 bands) is, averaged over time, the
    average log-mel spectrum. The average of logarithms lies below the logarithm of the average, so this is softer than
    "noise", above all in clips with pauses.
    Face: the mean over frames of every pixel or feature, so that a gap shows one still, slightly blurred face; averages
    of landmarks in pixels make sense for donors only where heads are in the same place.
    """
    if not stream.is_voice:
        if donors is not None:
            common = mean_frame(donors.values[donors.mask])
            return _put(in_range(stream, common).expand(stream.values.shape))
        return _put(each_clip(stream, lambda real, _: in_range(stream, mean_frame(real)).expand_as(real)))
    front_end = LogMel(
        sample_rate_hz=stream.sample_rate_hz,
        num_mels=40,
        max_hz=stream.sample_rate_hz / 2,
        normalize="none",
        num_channels=1,
    ).to(stream.values.device)
    common_level = None if donors is None else mean_log_mel(front_end, donors)

    def make(real: Tensor, clip_id: str) -> Tensor:
        level = log_mel_of(front_end, real).mean(dim=1) if common_level is None else common_level
        generator = clip_generator(seed, clip_id, "mean waveform")
        phases = torch.from_numpy(generator.uniform(0, 2 * math.pi, len(real) // 2 + 1)).to(real.device)
        return steady_noise(front_end, stream.sample_rate_hz, level, phases, len(real)).to(real.dtype)

    return _put(each_clip(stream, make))


def freeze(stream: Stream, donors: Stream | None, seed: int) -> Edit:
    """The face stands still: the last kept frame before the gap, or the first after it where there is none before.

    Where no frame is kept, the clip's mean frame stands there. Not for the voice.
    """
    rest = each_clip(stream, lambda real, _: in_range(stream, mean_frame(real)).expand_as(real))

    def edit(part: Stream, gaps: Gaps) -> Stream:
        gone = gaps.steps(part) & part.mask
        kept = part.mask & ~gone
        length = part.mask.shape[1]
        steps = torch.arange(length, device=kept.device)
        before = torch.where(kept, steps, -1).cummax(dim=1).values
        after = torch.where(kept, steps, length).flip(1).cummin(dim=1).values.flip(1)
        source = torch.where(before >= 0, before, after)
        source = torch.where(gone & (source < length), source, steps)
        each = torch.arange(len(source), device=kept.device)[:, None]
        values = part.values[each, source]
        alone = gone & ~kept.any(dim=1, keepdim=True)
        if alone.any():
            values = torch.where(along(alone, values), rest[gaps.rows, :length], values)
        return replace(part, values=values)

    return edit


def excise(stream: Stream, donors: Stream | None, seed: int) -> Edit:
    """The moments are cut out and the rest moves together.

    Voice: the kept samples follow one another, and the clip is shorter by what went. Where two kept stretches meet, the
    first 5 ms of the gap fade out under the first 5 ms of what follows. Face: the kept frames follow one another too,
    but each keeps its own time, so that curves and comparisons still speak of the clip as it was. The batch ends with
    its longest row. A clip of which nothing is left lacks the modality: its mask is False throughout.
    """
    return cut_out


def neutral(stream: Stream, donors: Stream | None, seed: int) -> Edit:
    """The same place in a neutral take of the same speaker, best of the same words.

    Voice: one piece of the take for each gap, as long as the gap and at its own pace, whose middle lies as far through
    the take as the gap's middle through the clip; a take shorter than the gap is repeated. Its loudness is left alone.
    Face: the take's frame that lies as far between its first and last frame. Landmarks are moved and scaled so that
    their mean and spread over the take are those over the clip, for the two heads need not be in the same place.
    """
    assert donors is not None
    if stream.is_voice:
        return voice_of(donors)
    return _put(faces_of(stream, donors))


def silence(stream: Stream, donors: Stream | None, seed: int) -> Edit:
    """Zeros: a voice that is off, a black picture, features of 0. Off-manifold: models seldom met this in training."""
    return _put(torch.zeros_like(stream.values))


OPERATORS: dict[str, Operator] = {
    "noise": noise,
    "mean": mean,
    "freeze": freeze,
    "excise": excise,
    "neutral": neutral,
    "silence": silence,
}


def _put(material: Tensor) -> Edit:
    """Material (B, T, ...) for whole clips shows where their gaps are."""
    return lambda part, gaps: blend(part, material, gaps, gaps.rows)


def _fit(drop: Tensor, num_cells: int) -> Tensor:
    """Cells that `drop` (R, K) does not speak of are kept."""
    return nn.functional.pad(drop, (0, max(0, num_cells - drop.shape[1])))[:, :num_cells]


def _donor_streams(streams: list[Stream], modality: str, operator: str, donors: Batch | None) -> list[Stream | None]:
    """For each stream that of the donors, or None.

    Raises:
        ValueError: donors are needed and missing, or do not fit.
    """
    if operator not in ("neutral", "mean") or (operator == "mean" and donors is None):
        return [None] * len(streams)
    if donors is None:
        raise ValueError(f"operator={operator!r} needs donors: a batch of neutral takes, one for each clip")
    given = {stream.name: stream for stream in streams_of(donors, modality)}
    for stream in streams:
        _check_donors(stream, given.get(stream.name), one_each=operator == "neutral")
    return [given[stream.name] for stream in streams]


def _check_donors(stream: Stream, donors: Stream | None, *, one_each: bool) -> None:
    if donors is None or not donors.mask.any():
        raise ValueError(f"the donors have no {stream.name}, which the clips have; give donors of the same media")
    if one_each and len(donors.values) != len(stream.values):
        raise ValueError(f"{len(donors.values)} donors for {len(stream.values)} clips; give one for each, in order")
    lacking = [
        c for c, a, b in zip(stream.clip_ids, stream.mask.any(1), donors.mask.any(1), strict=False) if a and not b
    ]
    if one_each and lacking:
        raise ValueError(f"the donor of {lacking[0]} has no {stream.name}; give one that has, or leave the clip out")
    sizes = (stream.sample_rate_hz, stream.values.shape[2:]), (donors.sample_rate_hz, donors.values.shape[2:])
    if sizes[0] != sizes[1]:
        raise ValueError(f"{stream.name}: rate and size {sizes[0]} of the clips, {sizes[1]} of the donors; must agree")
