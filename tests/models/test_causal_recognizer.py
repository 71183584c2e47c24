"""A causal model answers for a recording as for its chunks, and what comes later changes nothing that was said."""

import itertools

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.features.running import Memory
from avser.models.build import build_model
from avser.models.causal_branches import running_median
from avser.models.causal_recognizer import CausalRecognizer
from avser.models.fusion import FUSIONS
from avser.structures import Batch

RATE_HZ, FPS, SIZE = 16000, 15, 32
SMALL = [
    "model.causal=true",
    "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 16, max_time_stride: 4}",
    "model.video.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 8}",
    "model.audio.bidirectional=false",
    "model.video.bidirectional=false",
    *("model.audio.dim=16", "model.video.dim=16", "model.video.grid=2", "model.fusion.width=8"),
    *("model.attention.window_s=1.1", "model.running_s=0.9"),
]
VARIANTS = {
    "voice, tcn": ["model.modalities=[audio]", "model.audio.layers=2"],
    "voice, lstm, by band": [
        *("model.modalities=[audio]", "model.audio.temporal=lstm", "model.audio.spectrogram.normalize=band")
    ],
    "face, gru": ["model.modalities=[video]"],
    "face, tcn, less its usual face": [
        *("model.modalities=[video]", "model.video.temporal=tcn", "model.video.baseline=clip")
    ],
    "both, per class": ["model.attention.kind=per_class"],
    "both, the last step": ["model.attention.kind=last"],
    **{f"both, {kind}": [f"model.fusion.kind={kind}"] for kind in FUSIONS},
}


def build(*overrides: str) -> CausalRecognizer:
    torch.manual_seed(0)
    model = build_model(load_config([*SMALL, *overrides]).model, list("abcd"), sample_rate_hz=RATE_HZ)
    assert isinstance(model, CausalRecognizer)
    for parameter in model.parameters():  # zeros at the start of a training would hide what passes through them
        if parameter.dim() == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    return model.eval()


def recording(seconds: float) -> Batch:
    generator = torch.Generator().manual_seed(1)
    num_samples, num_frames = round(seconds * RATE_HZ), round(seconds * FPS)
    loudness = torch.linspace(0.01, 0.3, num_samples)
    return Batch(
        ["x"],
        torch.randn(1, num_samples, generator=generator) * loudness,
        torch.ones(1, num_samples, dtype=torch.bool),
        RATE_HZ,
        torch.randint(0, 256, (1, num_frames, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8),
        torch.arange(num_frames)[None] / FPS,
        torch.rand(1, num_frames, generator=generator) > 0.2,
    )


def part(whole: Batch, start_s: float, end_s: float) -> Batch:
    """What comes in between two moments; None where that is nothing."""
    assert whole.waveform is not None
    assert whole.waveform_mask is not None
    assert whole.frames is not None
    assert whole.frame_mask is not None
    assert whole.frame_times is not None
    samples = slice(round(start_s * RATE_HZ), round(end_s * RATE_HZ))
    times = whole.frame_times[0]
    shown = (times >= start_s) & (times < end_s)
    heard, seen = samples.stop > samples.start, bool(shown.any())
    return Batch(
        ["x"],
        whole.waveform[:, samples] if heard else None,
        whole.waveform_mask[:, samples] if heard else None,
        RATE_HZ,
        whole.frames[:, shown] if seen else None,
        whole.frame_times[:, shown] if seen else None,
        whole.frame_mask[:, shown] if seen else None,
    )


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_chunks_of_any_size_give_what_the_recording_so_far_gives(variant: str) -> None:
    model, whole, memory = build(*VARIANTS[variant]), recording(3.0), Memory()
    cuts = [0.0, 0.003, 0.02, 0.05, 0.35, 0.4, 1.2, 1.25, 2.4, 2.43, 2.999, 3.0]
    answered = 0
    for start_s, end_s in itertools.pairwise(cuts):
        streamed, offline = model.extend(part(whole, start_s, end_s), memory), model(part(whole, 0.0, end_s))
        if streamed is None:
            assert not any(attended.mask.any() for attended in offline.attended.values())
            continue
        answered += 1
        torch.testing.assert_close(streamed.logits, offline.logits, atol=1e-4, rtol=0)
        for name, attended in streamed.attended.items():
            kept = attended.mask[0].sum()
            expected = offline.attended[name]
            assert kept == expected.mask[0].sum()
            for what in ("weights", "step_logits", "times", "sequence"):
                mine, theirs = getattr(attended, what)[attended.mask], getattr(expected, what)[expected.mask]
                torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
    assert answered >= 8


@torch.no_grad()
def test_the_future_changes_no_step() -> None:
    model, whole = build("model.video.baseline=clip"), recording(3.0)
    early, late = model(part(whole, 0.0, 1.7)), model(whole)
    for name, attended in early.attended.items():
        num_steps = attended.sequence.shape[1]
        torch.testing.assert_close(attended.sequence, late.attended[name].sequence[:, :num_steps], atol=1e-4, rtol=0)
        torch.testing.assert_close(attended.times, late.attended[name].times[:, :num_steps])


@torch.no_grad()
def test_a_step_of_the_voice_has_heard_up_to_its_time_and_not_beyond() -> None:
    model, whole = build("model.modalities=[audio]"), recording(2.0)
    assert whole.waveform is not None
    before = model(whole).attended["audio"]
    whole.waveform[:, RATE_HZ:] *= -2  # from 1 s on
    changed = (model(whole).attended["audio"].sequence - before.sequence).abs().amax(dim=2)[0] > 1e-6
    assert before.times[0, changed].min() == pytest.approx(1.04, abs=1e-4)  # the first step that ends later


@torch.no_grad()
def test_attention_and_fusion_see_the_last_seconds() -> None:
    model, whole = build(), recording(3.0)
    for attended in model(whole).attended.values():
        seen = attended.times[attended.mask]
        assert seen.min() > 3.0 - 1.1 - 1e-3
        torch.testing.assert_close(attended.weights[~attended.mask].sum(), torch.tensor(0.0))


@torch.no_grad()
def test_padding_in_a_batch_changes_nothing() -> None:
    model, whole = build("model.video.baseline=clip"), recording(2.0)
    assert whole.waveform is not None
    assert whole.frames is not None
    alone = model(part(whole, 0.0, 1.3))
    first = part(whole, 0.0, 1.3)
    num_samples, num_frames = first.waveform.shape[1], first.frames.shape[1]  # type: ignore[union-attr]
    both = Batch(["a", "b"], sample_rate_hz=RATE_HZ)
    both.waveform, both.frames = whole.waveform.repeat(2, 1), whole.frames.repeat(2, 1, 1, 1, 1)
    both.waveform_mask, both.frame_mask = whole.waveform_mask.repeat(2, 1), whole.frame_mask.repeat(2, 1)  # type: ignore
    both.frame_times = whole.frame_times.repeat(2, 1)  # type: ignore[union-attr]
    both.waveform[0, num_samples:], both.waveform_mask[0, num_samples:] = 0, False
    both.frames[0, num_frames:], both.frame_mask[0, num_frames:] = 0, False
    both.frame_times[0, num_frames:] = both.frame_times[0, num_frames - 1]
    torch.testing.assert_close(model(both).logits[:1], alone.logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_face_that_went_away_counts_no_more_after_the_window() -> None:
    model, whole, memory = build(), recording(3.0), Memory()
    model.extend(part(whole, 0.0, 1.0), memory)
    assert whole.frame_mask is not None
    whole.frame_mask[:] = False
    output = None
    for tenth in range(10, 30):
        output = model.extend(part(whole, tenth / 10, (tenth + 1) / 10), memory)
    assert output is not None
    assert not output.attended["video"].mask.any()
    torch.testing.assert_close(output.logits, model.extend(part(whole, 3.0, 3.0), memory).logits)  # type: ignore


@torch.no_grad()
def test_the_memory_does_not_grow() -> None:
    model, chunk, memory = build("model.video.baseline=clip"), part(recording(1.0), 0.0, 0.2), Memory()
    sizes = []
    for _ in range(60):
        assert chunk.frame_times is not None
        model.extend(chunk, memory)
        chunk.frame_times += 0.2
        sizes.append(num_values(memory))
    assert sizes[10] > sizes[0]
    assert len(set(sizes[15:])) == 1


def num_values(memory: object) -> int:
    if isinstance(memory, torch.Tensor):
        return memory.numel()
    if isinstance(memory, dict):
        return sum(map(num_values, memory.values()))
    return sum(map(num_values, memory)) if isinstance(memory, tuple) else 0


def test_the_running_median_is_that_of_the_last_seconds() -> None:
    sequence, times = torch.randn(1, 25, 3), torch.arange(25)[None] / 10
    mask = torch.rand(1, 25) > 0.3
    medians = running_median(sequence, mask, times, 0.75, Memory())
    for step in (0, 7, 8, 24):
        real = [i for i in range(max(step - 7, 0), step + 1) if mask[0, i]]
        expected = sequence[0, real].median(dim=0).values if real else torch.zeros(3)
        torch.testing.assert_close(medians[0, step], expected)


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["model.video.bidirectional=true"], "model.video.bidirectional=true reads the clip from its end"),
        (["model.audio.temporal=gru", "model.audio.bidirectional=true"], "take model.audio.temporal=tcn"),
        (["model.video.num_features=17"], "cannot come in live"),
        (["model.audio.backbone.name=torchvision:mobilenet_v3_small"], "squeeze-and-excite"),
        (["model.audio.spectrogram.window_s=0.005"], "window_s >= hop_s"),
        (["acrnn", "model.modalities=[audio]", "model.causal=true"], "belongs to av_roi"),
    ],
)
def test_what_cannot_be_causal_is_refused_with_advice(overrides: list[str], advice: str) -> None:
    sources = [*overrides] if overrides[0] == "acrnn" else [*SMALL, *overrides]
    with pytest.raises(ConfigError, match=advice):
        build_model(load_config(sources).model, list("abcd"), sample_rate_hz=RATE_HZ)
