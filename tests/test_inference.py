"""A file goes in, the answer comes out: equal to the cached clip's, honest about what is missing, never a crash."""

import shutil
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from avser.data.cache import ClipCache
from avser.data.manifest import read_manifest
from avser.errors import AvserError, CheckpointError, MediaError
from avser.explanation import explain
from avser.inference import load_model, load_models, predict, predict_clips
from avser.media.audio import decode_audio
from avser.media.video import iterate_frames
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO
from preprocessing.synthetic.corpus import write_mp4

CLIP = "s01_fear_01"


@pytest.fixture(scope="module")
def models(tiny_ablation):
    return load_models(tiny_ablation, "cpu")


@pytest.fixture(scope="module")
def cached(tiny_corpus):
    return ClipCache(tiny_corpus / "cache")


@pytest.fixture(scope="module")
def media(tiny_corpus, tmp_path_factory) -> dict[str, Path]:
    """One rendered clip, whole and mutilated in every way that users send."""
    folder = tmp_path_factory.mktemp("media")
    whole = tiny_corpus / "media" / f"{CLIP}.mp4"
    voice, _ = decode_audio(whole, sample_rate_hz=16000)
    frames = np.stack([frame.image for frame in iterate_frames(whole)])
    files = {name: folder / name for name in ("voice.wav", "face.mp4", "silent.mp4", "silent.wav", "short.mp4")}
    write_wav(files["voice.wav"], voice)
    write_wav(files["silent.wav"], np.zeros_like(voice))
    write_mp4(files["silent.mp4"], np.zeros_like(voice), frames)
    write_mp4(files["short.mp4"], voice[16000:16800], frames[:2])
    copy_video(whole, files["face.mp4"])
    content = whole.read_bytes()
    damaged = {
        "garbage.mp4": np.random.default_rng(0).bytes(4000),
        "truncated.mp4": content[: len(content) // 2],
        "empty.mp4": b"",
        "words.mp4": b"clip_id,emotion\n",
    }
    for name, found in damaged.items():
        files[name] = folder / name
        files[name].write_bytes(found)
    return files | {"whole": whole}


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())


def copy_video(source: Path, target: Path) -> None:
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        track = read.streams.video[0]
        copied = written.add_stream_from_template(track)
        for packet in read.demux(track):
            if packet.dts is not None:
                packet.stream = copied
                written.mux(packet)


# --- loading -----------------------------------------------------------------------------------------------------


def test_a_run_and_a_folder_of_runs_load(tiny_ablation, models):
    assert list(models) == [AUDIO, VIDEO, FUSED]
    assert [model.modalities for model in models.values()] == [(AUDIO,), (VIDEO,), MODALITIES]
    assert list(load_models(tiny_ablation / "video")) == [VIDEO]
    assert list(load_models(tiny_ablation / "fused")) == [FUSED]
    by_file = load_model(tiny_ablation / "fused" / "model.safetensors")
    assert by_file.folder == tiny_ablation / "fused"
    assert by_file.emotions == models[FUSED].emotions
    assert not by_file.network.training


def test_what_is_no_run_is_refused_with_advice(tiny_ablation, tmp_path):
    for load in (load_model, load_models):
        with pytest.raises(CheckpointError, match="is this the folder of a finished run"):
            load(tmp_path)
    with pytest.raises(CheckpointError, match=r"name one of them: .*audio, .*video, .*fused"):
        load_model(tiny_ablation)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04no weights")
    with pytest.raises(CheckpointError, match="not readable"):
        load_model(tmp_path)


def test_runs_that_mean_different_things_do_not_answer_together(tiny_ablation, tiny_config, tmp_path):
    from avser.training.run import train

    shutil.copytree(tiny_ablation / "fused", tmp_path / "runs" / "fused")
    merge = ["data.emotions=[anger, disgust, fear, happiness, sadness]", "data.merge={surprise: fear}"]
    train(tiny_config("name=audio", "model.modalities=[audio]", "training.epochs=1", *merge))
    with pytest.raises(CheckpointError, match="differ in their emotions"):
        load_models(tmp_path / "runs")


# --- answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [AUDIO, VIDEO, FUSED])
def test_a_file_is_answered_as_its_cached_clip(models, cached, tiny_corpus, name):
    """Differences come from the cache alone: 16 bits for the voice, JPEG for the crops (measured: up to 0.003)."""
    model, worst = models[name], 0.0
    for path in sorted((tiny_corpus / "media").glob("s01_*.mp4")):
        fresh, stored = predict(model, path), predict(model, cached.load(path.stem))
        assert fresh.salience.keys() == stored.salience.keys()
        for modality, curve in fresh.salience.items():
            np.testing.assert_allclose(curve.times, stored.salience[modality].times, atol=1e-6)
        worst = max(worst, *(abs(fresh.probabilities[e] - stored.probabilities[e]) for e in model.emotions))
    assert worst < (1e-4 if name == AUDIO else 1e-2)


def test_an_answer_is_complete(models, media, tiny_corpus):
    duration_s = cached_duration(tiny_corpus)
    answer = predict(models[FUSED], media["whole"])
    assert list(answer.probabilities) == models[FUSED].emotions
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.emotion == max(answer.probabilities, key=answer.probabilities.__getitem__)
    assert answer.warnings == []
    for modality in MODALITIES:
        curve, (times, shares) = answer.salience[modality], answer.evidence[modality]
        assert curve.values.sum() == pytest.approx(1)
        assert (np.diff(curve.times) > 0).all()
        assert times == pytest.approx(curve.times)
        assert shares.sum(axis=1) == pytest.approx(np.ones(len(times)))
        assert answer.regions[modality]
        step_s = float(np.median(np.diff(curve.times)))
        for region in answer.regions[modality]:
            assert region.modality == modality
            assert -step_s / 2 - 1e-6 <= region.start_s < region.end_s <= duration_s + step_s
            assert region.start_s <= region.peak_s <= region.end_s
            assert 0 < region.mass <= 1


def cached_duration(corpus: Path) -> float:
    return ClipCache(corpus / "cache").duration_s(CLIP)


def test_clips_answer_alike_alone_and_in_a_batch(models, cached, tiny_corpus):
    """But for the last steps of a curve, which see the end of the batch where they saw the end of the clip."""
    clips = [cached.load(row.clip_id) for row in read_manifest(tiny_corpus / "manifest.csv").rows[:5]]
    clips[1].face = None
    clips[2].waveform = None
    together = predict_clips(models[FUSED], clips)
    for clip, answer in zip(clips, together, strict=True):
        alone = predict(models[FUSED], clip)
        assert list(answer.probabilities.values()) == pytest.approx(list(alone.probabilities.values()), abs=5e-3)
        assert answer.salience.keys() == alone.salience.keys()
        for modality, curve in alone.salience.items():
            batched = answer.salience[modality].values
            np.testing.assert_allclose(batched[:-2], curve.values[:-2], rtol=0.01)
            np.testing.assert_allclose(batched[-2:], curve.values[-2:], rtol=0.2)


@pytest.mark.parametrize(
    ("name", "left", "lost"),
    [("voice.wav", AUDIO, "no face"), ("face.mp4", VIDEO, "no voice"), ("silent.mp4", VIDEO, "no voice")],
)
def test_a_fused_model_answers_from_what_is_there(models, media, name, left, lost):
    answer = predict(models[FUSED], media[name])
    assert list(answer.salience) == [left]
    assert f"{lost}: answered without it" in answer.warnings
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    view = explain(models, media[name])
    assert list(view.salience) == [left]
    assert view.alignment is None
    assert f"{lost}: answered without it" in view.warnings


@pytest.mark.parametrize(
    ("model", "name", "advice"),
    [
        (VIDEO, "voice.wav", "needs a video track; give another recording"),
        (AUDIO, "face.mp4", "needs an audio track; give another recording"),
        (AUDIO, "silent.mp4", "silent throughout"),
        (FUSED, "silent.wav", "silent throughout"),
    ],
)
def test_a_file_without_what_the_model_needs(models, media, model, name, advice):
    with pytest.raises(MediaError, match=advice) as caught:
        predict(models[model], media[name])
    assert name.split(".")[0] in str(caught.value)


def test_a_decoded_clip_without_what_the_model_needs(models, cached):
    clip = cached.load(CLIP)
    clip.face.found[:] = False
    with pytest.raises(AvserError, match=f"{CLIP}: the model needs video"):
        predict(models[VIDEO], clip)
    assert predict(models[AUDIO], clip).emotion in models[AUDIO].emotions


@pytest.mark.parametrize("name", ["garbage.mp4", "truncated.mp4", "empty.mp4", "words.mp4"])
def test_a_damaged_file_is_refused_by_name(models, media, name):
    with pytest.raises(MediaError, match=name):
        predict(models[FUSED], media[name])


def test_what_is_no_file(models, media):
    with pytest.raises(MediaError, match="no such file"):
        predict(models[FUSED], "nowhere.mp4")
    with pytest.raises(MediaError, match="name the media file itself"):
        predict(models[FUSED], media["whole"].parent)


def test_a_clip_of_a_twentieth_of_a_second_is_answered_with_a_warning(models, media):
    answer = predict(models[FUSED], media["short.mp4"])
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert [w for w in answer.warnings if "degenerate" in w]
    view = explain(models, media["short.mp4"])
    assert view.warnings


def test_explain_gathers_everything_of_a_clip(models, media, tiny_corpus):
    truth = read_manifest(tiny_corpus / "manifest.csv").regions[CLIP]
    view = explain(models, media["whole"], true_emotion="fear", truth=truth, corpus="synthetic", speaker="s01")
    assert (view.clip_id, view.true_emotion, view.corpus, view.speaker) == (CLIP, "fear", "synthetic", "s01")
    assert view.duration_s == pytest.approx(cached_duration(tiny_corpus))
    assert view.has_spectrogram
    assert view.has_faces
    assert view.truth == truth
    assert set(view.evidence) == {AUDIO, VIDEO, FUSED}
    for part in (view.salience, view.regions, view.mixture, view.unimodal):
        assert set(part) == set(MODALITIES)
    for times, shares in view.evidence.values():
        assert shares.shape == (len(times), len(models[FUSED].emotions))
    assert view.alignment is not None
    assert -1 <= view.alignment.r0 <= 1


def test_explain_reads_the_curves_off_the_models_of_one_modality(models, cached):
    clip = cached.load(CLIP)
    view = explain(models, clip)
    for modality in MODALITIES:
        own = predict(models[modality], clip)
        np.testing.assert_allclose(view.salience[modality].values, own.salience[modality].values)
        assert view.unimodal[modality].probabilities == pytest.approx(own.probabilities)
    assert view.prediction.probabilities == pytest.approx(predict(models[FUSED], clip).probabilities)
    alone = explain(models[FUSED], clip)
    fused = predict(models[FUSED], clip)
    np.testing.assert_allclose(alone.salience[AUDIO].values, fused.salience[AUDIO].values)
    assert not np.allclose(alone.salience[AUDIO].values, view.salience[AUDIO].values)
