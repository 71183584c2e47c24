"""Real recordings, by commands as a user gives them: CREMA-D video with MediaPipe, and the voices of RAVDESS."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest

from avser.config import config_to_yaml, load_config
from avser.data.cache import ClipCache
from avser.data.manifest import read_manifest
from avser.training.run import train

pytestmark = pytest.mark.real_data

CREMAD_CLIPS = [f"1001_DFA_{emotion}_XX" for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]
CREMAD_FRAMES = 379  # of those six


@pytest.fixture
def command(run_module, real_data, tmp_path):
    """`run_module` with the face model in reach."""
    return partial(run_module, cwd=tmp_path, environment={"AVSER_MODELS": str(real_data / "models")})


@pytest.fixture
def mediapipe_yaml(tiny_config, tmp_path) -> Path:
    """The tiny configuration, but for faces found by MediaPipe in every frame, and caches of its own."""
    path = tmp_path / "mediapipe.yaml"
    media = ["media.fps=null", "media.faces.tracker=mediapipe", f"data.cache={tmp_path / 'synthetic'}"]
    path.write_text(config_to_yaml(tiny_config(*media, "name=faces", "training.epochs=1", "roi.rule=coverage")))
    return path


def test_cremad_from_flash_video_to_report(command, real_data, tiny_corpus, mediapipe_yaml, tmp_path):
    """Every frame of the six clips shows a face; a model trained elsewhere answers them."""
    manifest, cache = tmp_path / "cremad.csv", tmp_path / "cremad"
    said = command("preprocessing.cremad", "--raw", real_data / "cremad", "--out", manifest)
    assert "found 12 of 7442 clips, 2 of 91 speakers; 12 with voice, 6 with picture" in said
    command("avser.cli", "cache", manifest, mediapipe_yaml, "--out", cache, "--workers", 1)
    clips = {clip_id: ClipCache(cache).load(clip_id) for clip_id in CREMAD_CLIPS}
    assert sum(int(clip.face.found.sum()) for clip in clips.values()) == CREMAD_FRAMES
    assert sum(len(clip.face) for clip in clips.values()) == CREMAD_FRAMES
    for clip in clips.values():
        assert clip.face.landmarks.shape[1:] == (478, 2)
        assert clip.duration_s == pytest.approx(len(clip.face) / 29.97, abs=0.1)

    rows = read_manifest(tiny_corpus / "manifest.csv").rows
    command("avser.cli", "cache", tiny_corpus / "manifest.csv", mediapipe_yaml, "--out", tmp_path / "synthetic")
    assert len(list((tmp_path / "synthetic" / "clips").iterdir())) == len(rows)
    run = train(load_config([mediapipe_yaml]))

    files = [real_data / "cremad" / "VideoFlash" / f"{clip_id}.flv" for clip_id in CREMAD_CLIPS]
    answers = [json.loads(line) for line in command("avser.cli", "predict", run, *files, "--json").splitlines()]
    assert [answer["clip"] for answer in answers] == CREMAD_CLIPS
    for answer, clip in zip(answers, clips.values(), strict=True):
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert len(answer["salience"]["video"]["times"]) == len(clip.face)
        assert answer["salience"]["audio"]["times"][-1] <= clip.duration_s
    command("avser.cli", "roi", run, files[0], "--out", tmp_path / "roi")
    assert (tmp_path / "roi" / "report.html").stat().st_size > 50_000
    assert (tmp_path / "roi" / "figures" / f"{CREMAD_CLIPS[0]}.png").is_file()


@pytest.mark.slow
def test_ravdess_voices_are_recognised_far_above_chance(command, real_data, tmp_path):
    """Three epochs on 16 actors, from ImageNet weights; chance is a UAR of 12.5 % for speakers never heard."""
    manifest, cache = tmp_path / "ravdess.csv", tmp_path / "cache"
    command("preprocessing.ravdess", "--raw", real_data / "ravdess_speech", "--out", manifest)
    assert len(read_manifest(manifest)) == 1440
    voice_only = ["ravdess", "media.faces.tracker=none"]
    said = command("avser.cli", "cache", manifest, *voice_only, "--out", cache)
    assert said.startswith("1440 of 1440 clips cached")

    weights = real_data / "weights" / "squeezenet1_1.safetensors"
    command(
        *("avser.cli", "train", "av_roi", *voice_only, "model.modalities=[audio]"),
        *(f"data.manifest={manifest}", f"data.cache={cache}", f"runs={tmp_path}", "name=voices"),
        *("data.protocol=speaker_kfold", "data.num_folds=6", "training.epochs=3"),
        f"model.audio.backbone.weights={weights}",
    )
    metrics = json.loads((tmp_path / "voices" / "metrics.json").read_text())
    assert metrics["protocol"].startswith("speaker_kfold")
    for part in ("val", "test"):
        assert metrics[part]["num_speakers"] == 4
        assert metrics[part]["uar"]["value"] > 25
    split = json.loads((tmp_path / "voices" / "split.json").read_text())
    with manifest.open() as file:
        speaker = {row["clip_id"]: row["speaker"] for row in csv.DictReader(file)}
    speakers = [{speaker[clip_id] for clip_id in split[part]} for part in ("train", "val", "test")]
    assert [len(found) for found in speakers] == [16, 4, 4]
    assert len(set.union(*speakers)) == 24
