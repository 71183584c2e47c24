"""Recordings as people have them: long, silent in parts, without a face, with several; every window is answered."""

import threading

import numpy as np
import pytest
import torch

from avser import predict
from avser.config import load_config
from avser.data.cache_jobs import tracker_for
from avser.errors import AvserError, ConfigError, MediaError
from avser.inference import TrainedModel, predict_clips, read_media
from avser.inference import predict as predict_whole
from avser.media.audio import decode_audio
from avser.media.clip import read_clip
from avser.media.film import write_film
from avser.media.video import Frame, iterate_frames
from avser.models.build import build_model
from avser.recordings.answer import answer_recording, windowing_for
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO
from tests.conftest import TINY
from tests.recordings.conftest import write_wav


def test_every_window_is_answered_as_the_same_part_cut_out(models, long_recording):
    model, media = models[FUSED], models[FUSED].config.media
    recording = answer_recording(model, long_recording)
    assert [(row.start_s, round(row.end_s, 2)) for row in recording.rows] == [
        *((s, s + 4) for s in (0, 2, 4, 6, 8)),
        (pytest.approx(9, abs=0.06), pytest.approx(13, abs=0.06)),
    ]
    for row in recording.rows[1:5]:
        part = {"start_s": row.start_s, "end_s": row.end_s, "fps": media.fps, "sample_rate_hz": media.sample_rate_hz}
        clip = read_clip("cut", audio=long_recording, video=long_recording, tracker=tracker_for(media), **part)
        [alone] = predict_clips(model, [clip])
        assert row.prediction.probabilities == pytest.approx(alone.probabilities, abs=0.02)
        assert row.prediction.salience[AUDIO].times[0] == pytest.approx(row.start_s + alone.salience[AUDIO].times[0])
        assert all(
            row.start_s <= r.start_s < r.end_s <= row.end_s + 0.1 for m in MODALITIES for r in row.prediction.regions[m]
        )
    first, second = recording.timeline[0], recording.rows[0].prediction.probabilities
    assert first.start_s == 0
    assert recording.timeline[-1].end_s == pytest.approx(recording.duration_s) == pytest.approx(13, abs=0.06)
    assert set(first.probabilities) == set(second)
    for modality in MODALITIES:
        curve = recording.summary.salience[modality]
        assert curve.values.sum() == pytest.approx(1)
        assert curve.times[-1] > 12.5
        assert recording.summary.regions[modality][-1].end_s > 4
    assert sum(recording.summary.probabilities.values()) == pytest.approx(1)


def bounds(regions):
    """Of every region its times and mass, in order, after the number of regions of each modality."""
    numbers = [[r.start_s, r.end_s, r.peak_s, r.mass] for found in regions.values() for r in found]
    return np.array([*map(len, regions.values()), *np.ravel(numbers)])


@pytest.mark.parametrize("name", [AUDIO, VIDEO, FUSED])
def test_a_short_recording_is_answered_whole_as_a_clip(models, tiny_corpus, name):
    path = sorted((tiny_corpus / "media").glob("*.mp4"))[0]
    recording = answer_recording(models[name], path)
    expected = predict_whole(models[name], path)
    assert len(recording.rows) == 1
    assert recording.summary.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert bounds(recording.summary.regions) == pytest.approx(bounds(expected.regions), abs=1e-4)
    assert recording.summary.warnings == expected.warnings
    asked = answer_recording(models[name], path, how=windowing_for(models[name].config, 1.0, 0.5))
    assert len(asked.rows) > 3


def test_one_line_takes_paths_file_objects_arrays_and_clips(models, tiny_corpus):
    model, path = models[FUSED], sorted((tiny_corpus / "media").glob("*.mp4"))[0]
    expected = predict(model, path).probabilities
    assert predict(model, str(path)).probabilities == expected
    assert predict(model, read_media(model, path)).probabilities == pytest.approx(expected, abs=1e-5)
    with path.open("rb") as file:
        answer = predict(model, file)
    assert (answer.probabilities, answer.clip_id) == (expected, path.stem)
    voice = decode_audio(path, sample_rate_hz=16000)[0]
    images = np.stack([frame.image for frame in iterate_frames(path)])
    fps = 25.0
    both = predict(model, (voice, images), sample_rate_hz=16000, fps=fps).probabilities
    assert both == pytest.approx(expected, abs=0.05)
    heard = predict(model, voice.astype(np.float64)[None].repeat(2, axis=0), sample_rate_hz=16000)
    assert heard.probabilities == pytest.approx(predict(model, voice, sample_rate_hz=16000).probabilities, abs=1e-5)
    assert "no face: answered without it" in heard.warnings
    assert list(predict(model, images, fps=fps).salience) == [VIDEO]


def test_arrays_that_are_no_recording_are_refused_with_advice(models):
    model = models[FUSED]
    for wrong in (np.zeros((3, 4, 5), np.float32), np.zeros(100, np.int16), np.zeros(0, np.float32)):
        with pytest.raises(MediaError, match="expected a voice"):
            predict(model, wrong, sample_rate_hz=16000)
    with pytest.raises(MediaError, match="give sample_rate_hz"):
        predict(model, np.zeros(16000, np.float32))
    with pytest.raises(MediaError, match="give a path"):
        predict(model, 7)
    with pytest.raises(MediaError, match="not numbers"):
        predict(model, np.full(16000, np.nan, np.float32), sample_rate_hz=16000)
    with pytest.raises(MediaError, match="silen"):
        predict(model, np.zeros(16000, np.float32), sample_rate_hz=16000)
    with pytest.raises(ConfigError, match="a window has at least"):
        predict(model, np.ones(16000, np.float32), sample_rate_hz=16000, window_s=2, hop_s=3)


def test_silence_in_a_long_voice_is_said_and_not_guessed(models, long_recording, tmp_path):
    voice = decode_audio(long_recording, sample_rate_hz=16000)[0]
    rng = np.random.default_rng(0)
    hush = (1e-4 * rng.standard_normal(9 * 16000)).astype(np.float32)  # -80 dB: no room is as quiet
    path = write_wav(tmp_path / "pause.wav", np.concatenate([voice[: 6 * 16000], hush, voice[: 6 * 16000]]))
    recording = answer_recording(models[AUDIO], path)
    [gap] = [s for s in recording.timeline if s.emotion is None]
    assert 5 < gap.start_s < 6.5
    assert 14.5 < gap.end_s < 16
    assert any(row.prediction is None and row.remark == "silence" for row in recording.rows)
    assert any("without an answer" in warning for warning in recording.warnings)
    inside = [r for r in recording.summary.regions[AUDIO] if gap.start_s + 2 < r.centre_s < gap.end_s - 2]
    assert not inside
    with pytest.raises(MediaError, match="silence"):
        answer_recording(models[AUDIO], write_wav(tmp_path / "hush.wav", np.concatenate([hush, hush])))


def test_a_picture_that_breaks_off_leaves_the_voice(models, long_recording, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media at all")
    with pytest.raises(MediaError, match="not readable"):
        answer_recording(models[FUSED], broken)
    wav = write_wav(tmp_path / "voice.wav", decode_audio(long_recording)[0])
    recording = answer_recording(models[FUSED], wav)
    assert all(row.face is None and row.remark == "no face" for row in recording.rows)
    assert f"no face in {len(recording.rows)} of {len(recording.rows)} windows" in recording.warnings
    with pytest.raises(MediaError, match="has nothing for the model"):
        answer_recording(models[VIDEO], wav)


def test_no_thread_is_left_behind_by_a_failure(models, long_recording):
    before = threading.active_count()
    with pytest.raises(AvserError):
        answer_recording(models[FUSED], long_recording, salience="nonsense")
    assert threading.active_count() == before


def test_progress_is_told_in_seconds_of_the_recording(models, long_recording):
    told = []
    answer_recording(models[AUDIO], long_recording, progress=lambda done_s, of_s: told.append((done_s, of_s)))
    assert [done_s for done_s, _ in told] == sorted(done_s for done_s, _ in told)
    assert told[-1][0] == pytest.approx(13, abs=0.06)
    assert told[0][1] == pytest.approx(13, abs=0.1)


# --- several faces, on real pictures -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looking() -> TrainedModel:
    """A model of voice and face that looks for faces; not trained, as who is found matters here."""
    config = load_config([*TINY, "media.faces.tracker=mediapipe", "media.fps=15"])
    torch.manual_seed(0)
    network = build_model(config.model, config.data.emotions, sample_rate_hz=16000, pretrained=False)
    return TrainedModel(network.eval(), config, config.data.emotions, None, torch.device("cpu"))


@pytest.fixture(scope="module")
def two_people(real_data, tmp_path_factory):
    """Left speaks, then for 5 s nobody is there, then right speaks; who does not speak keeps still."""
    files = sorted(real_data.glob("cremad/VideoFlash/*.flv"))[:3]
    clips = [([f.image for f in iterate_frames(p)], decode_audio(p, sample_rate_hz=48000)[0]) for p in files]
    images, voices = list[np.ndarray](), list[np.ndarray]()
    still = clips[0][0][5]
    for speaks in ("left", "", "right"):
        if not speaks:
            images += [np.full((360, 720, 3), 90, np.uint8)] * 150
            voices.append(np.zeros(5 * 48000, np.float32))
            continue
        for own, voice in clips:
            pairs = ((a, still) if speaks == "left" else (still, a) for a in own)
            images += [np.concatenate([a[:, 60:420], b[:, 60:420]], axis=1) for a, b in pairs]
            voices.append(np.resize(voice, len(own) * 1600))
    folder = tmp_path_factory.mktemp("two")
    sound = write_wav(folder / "two.wav", np.concatenate(voices), 48000)
    write_film(folder / "two.mp4", (Frame(i / 30, image) for i, image in enumerate(images)), sound)
    lasts_s = len(images) / 30
    return folder / "two.mp4", (lasts_s - 5) / 2, lasts_s


def test_of_two_faces_the_one_that_speaks_is_marked_and_heard(looking, two_people):
    path, first_s, lasts_s = two_people
    recording = answer_recording(looking, path, how=windowing_for(looking.config, 4.0, 2.0))
    assert len(recording.boxes) == 2
    middle = {n: float(places.boxes[:, [0, 2]].mean()) for n, places in recording.boxes.items()}
    left, right = sorted(middle, key=lambda n: middle[n])
    assert middle[left] < 300 < 420 < middle[right]
    early = [row for row in recording.rows if row.end_s <= first_s + 1 and row.speaks is not None]
    late = [row for row in recording.rows if row.start_s >= first_s + 5 and row.speaks is not None]
    assert early
    assert late
    assert {row.face for row in early if row.speaks} == {left}
    assert {row.face for row in late if row.speaks} == {right}
    for row in early + late:
        assert row.leads == row.speaks
        assert (AUDIO in row.prediction.salience) == row.leads  # only who speaks is heard
    [gap] = [s for s in recording.timeline if s.emotion is None]
    assert (gap.start_s, gap.end_s) == (pytest.approx(first_s, abs=0.9), pytest.approx(first_s + 5, abs=0.9))
    for n in (left, right):
        assert recording.faces[n]
        assert not any(s.start_s < gap.start_s + 1 and s.end_s > gap.end_s - 1 for s in recording.faces[n])
    assert recording.duration_s == pytest.approx(lasts_s, abs=0.1)


def test_a_recording_without_a_face_is_answered_from_its_voice(looking, real_data):
    recording = answer_recording(looking, real_data / "clips" / "no_face.mp4")
    assert [row.face for row in recording.rows] == [None]
    assert "no face: answered without it" in recording.warnings
