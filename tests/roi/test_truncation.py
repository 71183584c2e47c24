"""Clips cut ever later: what is given to the model, when its answer settles, and what it cannot answer."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from avser.config import load_config
from avser.data.dataset import Example, collate
from avser.features.spectral import LogMel
from avser.models.build import build_model
from avser.models.system import System
from avser.roi.truncation import (
    PrefixAnswers,
    ask_prefixes,
    durations_s,
    gating_step_s,
    isolation_point,
    rescaled_beginnings,
    truncate,
)
from avser.structures import AUDIO, VIDEO, Batch, Clip, FaceTrack, FeatureTrack, Output

RATE = 16000


class ToneListener(System):
    """Logits 0 and 200 * energy - 1, with the energy that a clip has between 1.0 and 1.2 s, over these 0.2 s."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, batch: Batch) -> Output:
        assert batch.waveform is not None
        self.seen.append(tuple(batch.waveform.shape))
        energy = batch.waveform[:, RATE : round(1.2 * RATE)].square().sum(dim=1) / (0.2 * RATE)
        return Output(torch.stack([torch.zeros_like(energy), 200 * energy - 1], dim=1), {})


class Picky(ToneListener):
    """Refuses whatever is shorter than `least` samples, as a convolution does."""

    def __init__(self, least: int, answer_nan: bool = False) -> None:
        super().__init__()
        self.least, self.answer_nan = least, answer_nan

    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        assert batch.waveform_mask is not None
        short = batch.waveform_mask.sum(dim=1) < self.least
        if short.any() and not self.answer_nan:
            raise RuntimeError("Calculated padded input size per channel is smaller than the kernel")
        output.logits[short] = math.nan
        return output


def tones(*seconds: float) -> Batch:
    """Silence with a tone of amplitude 0.2 from 1.0 to 1.2 s."""
    lengths = torch.tensor([round(s * RATE) for s in seconds])
    time = torch.arange(int(lengths.max())) / RATE
    tone = 0.2 * torch.sin(2 * math.pi * 200 * time) * ((time >= 1.0) & (time < 1.2))
    mask = torch.arange(len(time)) < lengths[:, None]
    return Batch([f"clip{i}" for i in range(len(seconds))], waveform=tone * mask, waveform_mask=mask)


def decoded_clip(seed: int, voice_s: float, face_s: float, *, end_s: float = math.inf, lost: int = -1) -> Clip:
    """Voice, face at 25 frames a second and features at 10, as far as `end_s`; no face is found in frame `lost`."""
    rng = np.random.default_rng(seed)
    voice = rng.normal(0, 0.1, round(voice_s * RATE)).astype(np.float32)
    num = round(face_s * 25)
    times, pictures = np.arange(num) / 25, rng.integers(1, 256, (num, 8, 8, 3), dtype=np.uint8)
    found, points = np.arange(num) != lost, rng.random((num, 4, 2), dtype=np.float32)
    shapes, boxes = rng.random((num, 52), dtype=np.float32), np.zeros((num, 4), np.float32)
    pictures[~found], points[~found] = 0, np.nan
    rows = round(face_s * 10)
    told_at, told = (np.arange(rows) + 0.5) / 10, rng.random((rows, 3), dtype=np.float32)
    k, r = times < end_s, told_at < end_s
    face = FaceTrack(times[k], pictures[k], found[k], boxes[k], points[k], shapes[k])
    features = FeatureTrack(told_at[r], told[r], np.ones(r.sum(), bool), ["a", "b", "c"])
    heard = voice if math.isinf(end_s) else voice[: math.ceil(end_s * RATE - 1e-6)]
    return Clip(f"clip{seed}", max(voice_s, face_s), heard, face=face, face_features=features)


def batched(*clips: Clip) -> Batch:
    parts = ("audio", "video", "landmarks", "blendshapes", "face_features")
    return collate([Example(clip.clip_id, clip, None) for clip in clips], parts=parts)


def test_a_cut_batch_is_the_batch_of_clips_that_end_there():
    whole = batched(decoded_clip(0, 1.5, 1.2, lost=5), decoded_clip(1, 1.0, 2.0), decoded_clip(2, 0.4, 0.3))
    cut = truncate(whole, torch.tensor([0.5, 0.72, 9.0], dtype=torch.float64))
    ended = batched(
        decoded_clip(0, 1.5, 1.2, lost=5, end_s=0.5), decoded_clip(1, 1.0, 2.0, end_s=0.72), decoded_clip(2, 0.4, 0.3)
    )
    for name in ("waveform", "frames", "landmarks", "blendshapes", "face_features"):
        torch.testing.assert_close(getattr(cut, name), getattr(ended, name), msg=name)
    for name in ("waveform_mask", "frame_mask", "feature_mask", "frame_times", "feature_times"):
        torch.testing.assert_close(getattr(cut, name), getattr(ended, name), msg=name)
    assert whole.waveform.shape[1] == 1.5 * RATE  # and the batch itself is as it was


def test_a_modality_of_which_nothing_is_left_is_gone():
    batch = batched(decoded_clip(0, 1.0, 1.0), decoded_clip(1, 1.0, 1.0))
    batch = replace(batch, frame_times=batch.frame_times + 0.3)
    batch = replace(batch, face_features=None, feature_times=None, feature_mask=None)
    cut = truncate(batch, torch.tensor([0.2, 0.25]))
    assert cut.frames is None
    assert cut.frame_mask is None
    assert cut.waveform.shape == (2, 0.25 * RATE)
    partly = truncate(batch, torch.tensor([0.2, 0.5]))
    assert partly.frame_mask.tolist() == [[False] * 5, [True] * 5]


def test_clips_reach_to_the_end_of_their_last_sample_or_frame():
    batch = batched(decoded_clip(0, 1.5, 1.2), decoded_clip(1, 1.0, 2.0))
    np.testing.assert_allclose(durations_s(batch), [1.5, 2.0], atol=0.03)
    np.testing.assert_allclose(durations_s(batch.without(VIDEO)), [1.5, 1.0])
    one_row = Batch(["x"], face_features=torch.ones(1, 1, 3), feature_times=torch.tensor([[0.8]]))
    one_row.feature_mask = torch.ones(1, 1, dtype=torch.bool)
    assert durations_s(one_row)[0] == pytest.approx(1.6)
    one_row.feature_times[:] = 0
    assert durations_s(one_row)[0] == pytest.approx(1e-3)  # it lasts a moment, or there would be no prefix with it
    assert durations_s(Batch(["x", "y"])).tolist() == [0, 0]


def test_the_answer_settles_when_the_tone_is_heard():
    long, short = ask_prefixes(ToneListener().eval(), tones(2.0, 0.95))
    np.testing.assert_allclose(long.times, np.arange(1, 21) / 10)
    np.testing.assert_allclose(short.times, [*np.arange(1, 10) / 10, 0.95])
    assert long.final == 1
    assert long.isolation_point_s == pytest.approx(1.1)  # half of the tone is enough
    assert (short.final, short.isolation_point_s) == (0, pytest.approx(0.1))
    sigmoid = [1 / (1 + math.exp(-x)) for x in [-1] * 10 + [1] + [3] * 9]
    np.testing.assert_allclose(long.curve().values, sigmoid, atol=1e-4)
    np.testing.assert_allclose(long.curve(0).values, 1 - np.array(sigmoid), atol=1e-4)
    (finer,) = ask_prefixes(ToneListener().eval(), tones(2.0), step_s=0.04)
    assert finer.isolation_point_s == pytest.approx(1.08)


def test_prefixes_of_all_clips_share_batches_of_like_length():
    model = ToneListener().eval()
    ask_prefixes(model, tones(2.0, 1.0, 0.5), max_rows=16)
    assert [rows for rows, _ in model.seen] == [16, 16, 3]  # 20 + 10 + 5 prefixes
    assert [samples / RATE for _, samples in model.seen] == pytest.approx([2.0, 0.7, 0.1])


@pytest.mark.parametrize("length_s", [5.0, 10.0])
def test_prefixes_up_to_ten_seconds_go_through_by_thirty_two(length_s):
    model = ToneListener().eval()
    ask_prefixes(model, tones(length_s))
    assert {rows for rows, _ in model.seen[:-1]} == {32}


def test_long_prefixes_go_through_in_smaller_batches():
    """Else the memory of a batch would grow with the length of the clip."""
    model = ToneListener().eval()
    (found,) = ask_prefixes(model, tones(100.0), step_s=5.0)
    assert len(found.times) == 20
    assert max(rows * samples / RATE for rows, samples in model.seen) <= 320
    assert model.seen[0] == (3, 100 * RATE)
    model.seen.clear()
    ask_prefixes(model, tones(400.0), step_s=400.0)
    assert model.seen == [(1, 400 * RATE)]  # one always goes through


def test_the_number_of_prefixes_does_not_grow_with_the_clip():
    assert {gating_step_s(length_s) for length_s in (0.0, 0.05, 3.0, 10.0)} == {0.1}
    for length_s in (10.01, 59.0, 600.0):
        (found,) = ask_prefixes(ToneListener().eval(), tones(length_s), step_s=gating_step_s(length_s))
        assert len(found.times) == 40
        assert found.times[-1] == pytest.approx(length_s, abs=1e-3)


@pytest.mark.parametrize(
    ("answers", "emotion", "expected"),
    [
        ([1, 1, 1], None, 0.1),
        ([0, 1, 0, 1, 1], None, 0.4),
        ([1, 1, 0], None, 0.3),
        ([-1, -1, 2], None, 0.3),
        ([2, -1, 2], None, 0.3),
        ([0, 1, 1], 1, 0.2),
        ([0, 1, 1], 0, math.nan),
        ([0, -1], None, math.nan),
        ([], None, math.nan),
    ],
)
def test_isolation_points_by_hand(answers, emotion, expected):
    times = np.arange(1, len(answers) + 1) / 10
    assert isolation_point(times, np.array(answers, int), emotion) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("answer_nan", [False, True])
def test_prefixes_too_short_for_the_model_have_no_answer(answer_nan):
    """Those that can be read are answered although they shared a batch with others that cannot."""
    model = Picky(round(0.35 * RATE), answer_nan).eval()
    first, second = ask_prefixes(model, tones(2.0, 0.6))
    assert first.answers.tolist() == [-1] * 3 + [0] * 7 + [1] * 10
    assert second.answers.tolist() == [-1] * 3 + [0] * 3
    assert np.isnan(second.probabilities[:3]).all()
    np.testing.assert_allclose(second.curve().times, [0.4, 0.5, 0.6])
    assert second.isolation_point_s == pytest.approx(0.4)


def test_a_model_that_refuses_the_whole_clip_is_heard():
    with pytest.raises(RuntimeError, match="smaller than the kernel"):
        ask_prefixes(Picky(3 * RATE).eval(), tones(2.0))


# --- real models -------------------------------------------------------------------------------------------------

SMALL = [
    "av_roi",
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 8}",
    "model.audio.dim=8",
    "model.video.dim=8",
    "model.video.temporal=tcn",
    "model.attention.hidden=8",
    "model.fusion.hidden=8",
]


def small_model(*modalities: str) -> nn.Module:
    torch.manual_seed(1)
    config = load_config([*SMALL, f"model.modalities=[{','.join(modalities)}]"])
    return build_model(config.model, ["a", "b", "c"], sample_rate_hz=RATE).eval()


@pytest.fixture
def batch() -> Batch:
    return collate([Example("x", decoded_clip(0, 0.7, 0.8), None), Example("y", decoded_clip(1, 0.5, 0.4), None)])


@pytest.mark.parametrize("given", [(AUDIO,), (VIDEO,), (AUDIO, VIDEO)])
def test_the_last_prefix_is_the_clip_and_company_does_not_matter(batch, given):
    model = small_model(AUDIO, VIDEO)
    together = ask_prefixes(model, batch, modalities=given, step_s=0.2)
    only = batch
    for modality in {AUDIO, VIDEO} - set(given):
        only = only.without(modality)
    with torch.no_grad():
        whole = model(only).logits.softmax(dim=1).numpy()
    for found, expected in zip(together, whole, strict=True):
        np.testing.assert_allclose(found.probabilities[-1], expected, atol=1e-4)
        assert np.ptp(found.probabilities, axis=0).max() > 1e-4  # prefixes differ
    for row, whom in enumerate(together):
        alone = collate([Example("x", decoded_clip(row, *((0.7, 0.8), (0.5, 0.4))[row]), None)])
        (found,) = ask_prefixes(model, alone, modalities=given, step_s=0.2, max_rows=1)
        np.testing.assert_allclose(found.probabilities, whom.probabilities, atol=1e-4)


@pytest.mark.parametrize("max_rows", [1, 32])
def test_a_face_that_comes_late_is_not_answered_before(batch, max_rows):
    """With the voice given, a model of the face alone would answer its bias; with both, the voice speaks first."""
    late = replace(batch, frame_times=batch.frame_times + 0.25)
    for given in ((VIDEO,), (AUDIO, VIDEO)):
        first, second = ask_prefixes(small_model(VIDEO), late, modalities=given, max_rows=max_rows)
        assert (first.answers >= 0).tolist() == [False] * 2 + [True] * (len(first.times) - 2)
        assert (second.answers >= 0).tolist() == [False] * 2 + [True] * (len(second.times) - 2)
    first, _ = ask_prefixes(small_model(AUDIO, VIDEO), late, max_rows=max_rows)
    assert (first.answers >= 0).all()


def test_a_clip_without_the_modality_has_no_prefixes(batch):
    mute = replace(batch, waveform_mask=batch.waveform_mask & torch.tensor([[True], [False]]))
    first, second = ask_prefixes(small_model(AUDIO), mute, modalities=(AUDIO,))
    assert len(first.times) == 7
    assert (len(second.times), second.final, len(second.curve())) == (0, -1, 0)
    assert math.isnan(second.isolation_point_s)


def test_wrong_questions_are_refused(batch):
    model = small_model(AUDIO)
    with pytest.raises(ValueError, match="modalities"):
        ask_prefixes(model, batch, modalities=("voice",))
    with pytest.raises(ValueError, match="modalities"):
        ask_prefixes(model, batch, modalities=())
    with pytest.raises(ValueError, match="above 0"):
        ask_prefixes(model, batch, step_s=0)
    with pytest.raises(ValueError, match="eval"):
        ask_prefixes(model.train(), batch)
    with pytest.raises(ValueError, match="needs audio"):
        ask_prefixes(model.eval(), batch, modalities=(VIDEO,))
    with pytest.raises(ValueError, match="one for each"):
        truncate(batch, torch.tensor([0.5]))


class TwoFrontEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by_clip = LogMel(sample_rate_hz=RATE, normalize="clip")
        self.as_it_is = LogMel(sample_rate_hz=RATE, normalize="none")


def test_front_ends_that_scale_by_the_clip_are_named():
    batch = tones(2.0, 1.6)
    noise = 0.01 * torch.randn(batch.waveform.shape, generator=torch.Generator().manual_seed(0))
    batch.waveform = (batch.waveform + noise) * batch.waveform_mask
    assert rescaled_beginnings(TwoFrontEnds(), batch) == ["by_clip"]
    assert rescaled_beginnings(TwoFrontEnds(), batch.without(AUDIO)) == []


def test_answers_of_hand_made_prefixes():
    shares = np.array([[np.nan, np.nan], [0.6, 0.4], [0.3, 0.7]])
    found = PrefixAnswers("x", np.array([0.1, 0.2, 0.25]), shares)
    assert found.answers.tolist() == [-1, 0, 1]
    assert found.isolation_point_s == 0.25
    np.testing.assert_allclose(found.curve().values, [0.4, 0.7])
