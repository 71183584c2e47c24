"""`avser.Stream`: what a person gets who feeds a model in chunks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import avser
from avser.errors import AvserError, ConfigError
from avser.inference import TrainedModel, load_model, predict, read_media
from avser.media.video import Frame, iterate_frames
from avser.structures import Clip, FaceTrack, Prediction
from tests.live.conftest import save_causal_run


@pytest.fixture(scope="module")
def model(causal_run) -> TrainedModel:
    return load_model(causal_run)


@pytest.fixture(scope="module")
def clip(model, tiny_corpus) -> Clip:
    return read_media(model, tiny_corpus / "media" / "s01_fear_01.mp4")


def up_to(clip: Clip, end_s: float, start_s: float = 0.0) -> tuple[np.ndarray, FaceTrack]:
    assert clip.waveform is not None
    assert clip.face is not None
    face, shown = clip.face, (clip.face.times >= start_s) & (clip.face.times < end_s)
    samples = clip.waveform[round(start_s * 16000) : round(end_s * 16000)]
    return samples, FaceTrack(face.times[shown], face.crops[:][shown], face.found[shown], face.boxes[shown])


def prefix(clip: Clip, end_s: float) -> Clip:
    samples, face = up_to(clip, end_s)
    return replace(clip, waveform=samples, face=face)


def assert_same(one: Prediction, other: Prediction) -> None:
    assert one.emotion == other.emotion
    assert list(one.probabilities.values()) == pytest.approx(list(other.probabilities.values()), abs=1e-4)
    assert one.salience.keys() == other.salience.keys()
    for name, curve in one.salience.items():
        np.testing.assert_allclose(curve.times, other.salience[name].times, atol=1e-4)
        np.testing.assert_allclose(curve.values, other.salience[name].values, atol=1e-4)
        np.testing.assert_allclose(one.evidence[name][1], other.evidence[name][1], atol=1e-4)


@pytest.mark.parametrize("chunk_s", [0.04, 0.1, 0.33, 5.0])
def test_a_stream_answers_as_predict_does_about_all_that_came_in(model, clip, chunk_s) -> None:
    with avser.Stream(model) as stream:
        begin_s = 0.0
        for end_s in np.arange(chunk_s, 2.5 + chunk_s, chunk_s).tolist():
            samples, face = up_to(clip, end_s, begin_s)
            streamed, begin_s = stream.push(audio=samples, frames=face), end_s
            assert streamed is not None
            if end_s < 0.5 or end_s > 2.0:  # before and after the window is full
                assert_same(streamed, predict(model, prefix(clip, end_s)))


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_modality_alone_is_answered_for(model, clip, modality) -> None:
    samples, face = up_to(clip, 2.0)
    with avser.Stream(model) as stream:
        given = {"audio": samples} if modality == "audio" else {"frames": face}
        streamed = stream.push(**given)
    assert streamed is not None
    assert any("answered without it" in warning for warning in streamed.warnings)
    other = "face" if modality == "audio" else "waveform"
    assert_same(streamed, predict(model, replace(prefix(clip, 2.0), **{other: None})))


def test_pictures_of_a_camera_are_searched_for_the_face(model, clip, tiny_corpus) -> None:
    frames = list(iterate_frames(tiny_corpus / "media" / "s01_fear_01.mp4", fps=10))
    with avser.Stream(model) as stream:
        streamed = stream.push(audio=clip.waveform, frames=frames)
    assert streamed is not None
    assert_same(streamed, predict(model, clip))


@pytest.mark.real_data
def test_a_real_face_is_answered_as_the_recording_up_to_then(tiny_corpus, real_data) -> None:
    """The face is looked for in both; what comes later moves no crop (media.faces.tracker=mediapipe_past)."""
    past = ["media.faces.tracker=mediapipe_past", "media.crop_px=48"]
    model = load_model(save_causal_run(tiny_corpus, "past", *past))
    path = sorted(real_data.glob("cremad/VideoFlash/*.flv"))[0]
    clip, frames = read_media(model, path), list(iterate_frames(path, fps=10))
    assert clip.waveform is not None
    with avser.Stream(model) as stream:
        begin_s = 0.0
        for end_s in (0.4, 0.8, 1.2, 1.6, 2.0):
            samples = clip.waveform[round(begin_s * 16000) : round(end_s * 16000)]
            streamed = stream.push(audio=samples, frames=[f for f in frames if begin_s <= f.time_s < end_s])
            begin_s = end_s
            assert streamed is not None
            assert_same(streamed, predict(model, prefix(clip, end_s)))


def test_before_the_first_step_there_is_no_answer(model) -> None:
    with avser.Stream(model) as stream:
        assert stream.push() is None
        assert stream.push(audio=np.zeros(10)) is None
        assert stream.push(audio=np.zeros(3000)) is not None
        assert stream.now_s == pytest.approx(3010 / 16000)
        stream.reset()
        assert stream.now_s == 0
        assert stream.push(audio=np.zeros(10)) is None


def test_minutes_take_no_more_memory_than_seconds(model) -> None:
    chunk = 0.1 * np.random.default_rng(0).standard_normal(1600)
    crops = np.zeros((1, 32, 32, 3), np.uint8)
    sizes = []
    with avser.Stream(model) as stream:
        for index in range(300):
            face = FaceTrack(np.array([index / 10]), crops, np.ones(1, bool), np.zeros((1, 4), np.float32))
            prediction = stream.push(audio=chunk, frames=face)
            sizes.append(num_values(stream._memory))
    assert prediction is not None
    assert prediction.salience["audio"].times[0] > 28
    assert max(sizes[165:]) <= max(sizes[30:165])


def num_values(memory: object) -> int:
    if isinstance(memory, torch.Tensor):
        return memory.numel()
    values = memory.values() if isinstance(memory, dict) else memory if isinstance(memory, tuple) else ()
    return sum(map(num_values, values))


def test_whole_numbers_of_a_sound_card_are_scaled(model, clip) -> None:
    with avser.Stream(model) as one, avser.Stream(model) as other:
        samples = (clip.waveform * 32767).astype(np.int16)
        first, second = one.push(audio=samples), other.push(audio=samples / 32768)
    assert first is not None
    assert second is not None
    assert first.probabilities == second.probabilities


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"audio": np.zeros((2, 100))}, "one row"),
        ({"audio": np.zeros(100, complex)}, "one row"),
        ({"audio": np.zeros(100, np.int64)}, "int16"),
        ({"audio": np.array([0.0, np.nan])}, "not numbers"),
    ],
)
def test_samples_that_would_spoil_the_state_are_refused(model, given, fault) -> None:
    with avser.Stream(model) as stream, pytest.raises(AvserError, match=fault):
        stream.push(**given)


def test_frames_have_to_go_on_in_time(model) -> None:
    picture = np.zeros((48, 48, 3), np.uint8)
    with avser.Stream(model) as stream:
        stream.push(frames=[Frame(0.0, picture), Frame(0.1, picture)])
        with pytest.raises(AvserError, match="times have to grow"):
            stream.push(frames=[Frame(0.1, picture)])


def test_a_model_that_is_not_causal_is_refused_with_advice(tiny_ablation) -> None:
    with pytest.raises(ConfigError, match="avser train av_roi CORPUS live"):
        avser.Stream(load_model(tiny_ablation / "fused"))


@pytest.mark.parametrize("window_s", [0, 11, float("nan")])
def test_a_window_has_to_be_one_that_the_model_knows(tiny_ablation, window_s) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most"):
        avser.Stream(load_model(tiny_ablation / "fused"), window_s=window_s)


def test_a_causal_model_takes_no_window(model) -> None:
    with pytest.raises(ConfigError, match="reads every chunk once"):
        avser.Stream(model, window_s=2)


def test_with_a_window_the_last_seconds_are_read_as_a_clip(tiny_ablation, clip) -> None:
    model = load_model(tiny_ablation / "fused")
    with avser.Stream(model, window_s=1.0) as stream:
        begin_s = 0.0
        for end_s in (0.4, 0.9, 1.7, 2.2):
            samples, face = up_to(clip, end_s, begin_s)
            streamed, begin_s = stream.push(audio=samples, frames=face), end_s
    samples, face = up_to(clip, 2.2, 1.2)
    alone = predict(model, replace(clip, waveform=samples, face=replace(face, times=face.times - 1.2)))
    assert streamed is not None
    assert list(streamed.probabilities.values()) == pytest.approx(list(alone.probabilities.values()), abs=1e-4)
    for name, curve in streamed.salience.items():
        np.testing.assert_allclose(curve.times, alone.salience[name].times + 1.2, atol=1e-4)
        assert [r.start_s for r in streamed.regions[name]] == pytest.approx(
            [r.start_s + 1.2 for r in alone.regions[name]], abs=1e-4
        )
