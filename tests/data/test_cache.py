from __future__ import annotations

import csv
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avser.config import FacesConfig, MediaConfig
from avser.data import cache as cache_module
from avser.data import cache_folder
from avser.data.cache import ClipCache, build_cache
from avser.data.cache_folder import open_folder
from avser.data.manifest import ClipRow, Manifest
from avser.errors import CacheError, ConfigError
from avser.media.clip import read_clip
from avser.media.faces import build_tracker


def build(corpus: Manifest, out: Path, media: MediaConfig, **more):
    return build_cache(corpus, out, media, progress=False, **more)


def failure_rows(out: Path) -> list[list[str]]:
    with (out / "failures.csv").open(newline="") as file:
        return list(csv.reader(file))


def clip_times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}


def test_a_cached_clip_is_the_decoded_clip(corpus, media, tmp_path, tone):
    samples = tone(corpus.root / "a.wav", 0.5)
    report = build(corpus, tmp_path / "cache", media)
    assert (report.num_clips, report.num_cached, report.num_reused) == (4, 4, 0)
    assert (report.failures, report.partial) == ([], [])
    cache = ClipCache(tmp_path / "cache", media)
    clip = cache.load("a")
    np.testing.assert_array_equal(clip.waveform, samples / np.float32(32768))
    direct = read_clip(
        "a",
        audio=corpus.root / "a.wav",
        video=corpus.root / "a.mp4",
        tracker=build_tracker("center", crop_px=32),
        fps=None,
    )
    assert clip.duration_s == direct.duration_s
    assert clip.sample_rate_hz == 16000
    for name in ("times", "found", "boxes"):
        np.testing.assert_array_equal(getattr(clip.face, name), getattr(direct.face, name))
    assert clip.face.crops.shape == (6, 32, 32, 3)
    assert np.abs(clip.face.crops[:].astype(int) - direct.face.crops[:]).mean() < 2


def test_parts_and_durations_without_decoding(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    cache = ClipCache(tmp_path / "cache")
    assert [cache.parts(i) for i in "acd"] == [("audio", "video"), ("audio",), ("video",)]
    assert cache.parts("z") == ()
    assert cache.duration_s("c") == pytest.approx(0.3)
    assert "a" in cache
    assert "z" not in cache
    assert cache.load("a", parts=["audio"]).face is None
    assert cache.load("a", parts=["video"]).waveform is None


def test_the_second_run_reuses_everything(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    before = clip_times(tmp_path / "cache")
    report = build(corpus, tmp_path / "cache", media)
    assert (report.num_cached, report.num_reused) == (4, 4)
    assert clip_times(tmp_path / "cache") == before


def test_processes_make_the_same_files(corpus, media, tmp_path):
    build(corpus, tmp_path / "one", media)
    report = build(corpus, tmp_path / "two", media, workers=2)
    assert report.num_cached == 4
    for path in (tmp_path / "one" / "clips").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "clips" / path.name).read_bytes()


def test_what_a_killed_run_leaves_does_not_count(corpus, media, tmp_path):
    out = tmp_path / "cache"
    build(corpus, out, media)
    half = (out / "clips" / "a.safetensors").read_bytes()[:500]
    (out / "clips" / "a.safetensors").unlink()
    leftovers = [out / "clips" / ".a.safetensors.1.tmp", out / ".cache.json.2.tmp", out / "clips" / ".tmpa4Bx9"]
    for leftover in leftovers:
        leftover.write_bytes(half)
    (out / "clips" / "b.safetensors").write_bytes(half)  # as after a power cut
    assert "a" not in ClipCache(out)
    report = build(corpus, out, media)
    assert (report.num_cached, report.num_reused) == (4, 2)
    assert ClipCache(out).load("a").face is not None
    assert ClipCache(out).load("b").face is not None
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_changed_source_is_decoded_again(corpus, media, tmp_path, tone):
    build(corpus, tmp_path / "cache", media)
    tone(corpus.root / "a.wav", 0.7)
    report = build(corpus, tmp_path / "cache", media)
    assert (report.num_cached, report.num_reused) == (4, 3)
    assert len(ClipCache(tmp_path / "cache").load("a").waveform) == 0.7 * 16000


def test_a_changed_interval_is_decoded_again(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    corpus.rows[2] = replace(corpus.rows[2], start_s=0.1, end_s=0.2)
    assert build(corpus, tmp_path / "cache", media).num_reused == 3
    assert len(ClipCache(tmp_path / "cache").load("c").waveform) == 1600


def test_a_changed_side_is_decoded_again(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    whole = ClipCache(tmp_path / "cache").load("a").face.crops[0]
    for side in ("left", "right"):  # the picture grows brighter from left to right
        corpus.rows[0] = replace(corpus.rows[0], side=side)
        assert build(corpus, tmp_path / "cache", media).num_reused == 3
        half = ClipCache(tmp_path / "cache").load("a").face.crops[0]
        assert (half.mean() < whole.mean() - 10) == (side == "left")


def test_a_changed_role_of_a_file_is_decoded_again(corpus, media, tmp_path):
    corpus.rows = [ClipRow("x", "toy", "1", "fear", audio="a.wav")]
    build(corpus, tmp_path / "cache", media)
    corpus.rows = [ClipRow("x", "toy", "1", "fear", video="a.wav")]
    assert build(corpus, tmp_path / "cache", media).num_reused == 0


def test_a_changed_table_of_face_features_is_read_again(corpus, media, tmp_path):
    table = corpus.root / "a.csv"
    table.write_text("timestamp,success,AU01_r\n0.1,1,0.5\n0.2,1,0.7\n")
    corpus.rows[0] = replace(corpus.rows[0], face_features="a.csv")
    build(corpus, tmp_path / "cache", media)
    cache = ClipCache(tmp_path / "cache")
    assert cache.parts("a") == ("audio", "video", "face_features")
    np.testing.assert_allclose(cache.load("a").face_features.values[:, 0], [0.5, 0.7])
    assert build(corpus, tmp_path / "cache", media).num_reused == 4
    table.write_text("timestamp,success,AU01_r\n0.1,1,0.5\n0.2,1,0.9\n")
    os.utime(table, (1, 1))
    assert build(corpus, tmp_path / "cache", media).num_reused == 3
    np.testing.assert_allclose(cache.load("a").face_features.values[:, 0], [0.5, 0.9])
    table.write_text("no table")
    [partial] = build(corpus, tmp_path / "cache", media).partial
    assert partial.reason.startswith("no face features: ")
    table.unlink()
    [failure] = build(corpus, tmp_path / "cache", media).failures
    assert failure.reason.startswith("a.csv: no such file below")


def test_a_source_that_broke_takes_its_old_clip_along(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    (corpus.root / "c.wav").write_bytes(b"no longer a recording")
    (corpus.root / "d.mp4").unlink()
    report = build(corpus, tmp_path / "cache", media)
    assert sorted(f.clip_id for f in report.failures) == ["c", "d"]
    cache = ClipCache(tmp_path / "cache")
    assert "c" not in cache
    assert "d" not in cache


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_rows_not_the_end(corpus, media, tmp_path, workers):
    (corpus.root / "noise.wav").write_bytes(bytes(range(256)) * 20)
    corpus.rows += [ClipRow("gone", "toy", "5", "fear", "gone.wav"), ClipRow("noise", "toy", "5", "fear", "noise.wav")]
    report = build(corpus, tmp_path / "cache", media, workers=workers)
    assert (report.num_clips, report.num_cached, len(report.failures)) == (6, 4, 2)
    header, gone, noise = failure_rows(tmp_path / "cache")
    assert header == ["clip_id", "kind", "reason"]
    assert gone[:2] == ["gone", "failed"]
    assert gone[2].startswith("gone.wav: no such file below")
    assert noise[:2] == ["noise", "failed"]
    assert "\n" not in noise[2]
    corpus.rows = corpus.rows[:4]
    build(corpus, tmp_path / "cache", media)
    assert failure_rows(tmp_path / "cache") == [header]


def test_an_unexpected_error_is_a_row_with_its_type(corpus, media, tmp_path):
    (tmp_path / "cache" / "clips" / "a.safetensors").mkdir(parents=True)  # the clip's name is taken by a folder
    report = build(corpus, tmp_path / "cache", media)
    assert [f.clip_id for f in report.failures] == ["a"]
    assert report.failures[0].reason.split(":")[0] in ("IsADirectoryError", "PermissionError")
    assert list((tmp_path / "cache" / "clips").glob(".*")) == []


def test_a_lost_modality_is_a_partial_row_also_when_reused(corpus, media, tmp_path):
    (corpus.root / "b.mp4").write_bytes(b"not a video")
    (corpus.root / "a.wav").write_bytes(b"not a voice")
    for _ in range(2):
        report = build(corpus, tmp_path / "cache", media)
        assert report.failures == []
        assert [(f.clip_id, f.kind) for f in sorted(report.partial, key=str)] == [("a", "partial"), ("b", "partial")]
        rows = failure_rows(tmp_path / "cache")[1:]
        assert [row[:2] for row in rows] == [["a", "partial"], ["b", "partial"]]
        assert rows[0][2].startswith("no voice: ")
        assert rows[1][2].startswith("no face: ")
        assert any(warning.startswith("b: no face") for warning in report.warnings)
    assert ClipCache(tmp_path / "cache").parts("b") == ("audio",)


def test_without_a_tracker_faces_are_not_missed(corpus, tmp_path):
    report = build(corpus, tmp_path / "cache", MediaConfig(faces=FacesConfig(tracker="none")))
    assert report.partial == []
    assert [f.clip_id for f in report.failures] == ["d"]
    assert "tracker=none" in report.failures[0].reason


def test_other_settings_are_refused_with_both_values(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    other = replace(media, fps=12.5, faces=replace(media.faces, margin=0.5))
    words = r"media.faces.margin is 0.25 in the cache, 0.5 asked for; media.fps is None in the cache, 12.5 asked for"
    with pytest.raises(CacheError, match=words):
        build(corpus, tmp_path / "cache", other)
    with pytest.raises(CacheError, match=words):
        ClipCache(tmp_path / "cache", other)
    ClipCache(tmp_path / "cache", media)
    ClipCache(tmp_path / "cache", None)


def test_whole_numbers_are_the_same_setting_as_their_floats(corpus, tmp_path):
    build(corpus, tmp_path / "cache", MediaConfig(fps=12, faces=FacesConfig(tracker="none")))
    same = MediaConfig(fps=12.0, faces=FacesConfig(tracker="none"))
    ClipCache(tmp_path / "cache", same)
    assert build(corpus, tmp_path / "cache", same).num_reused == 3


def test_the_face_model_counts_by_its_content(corpus, tmp_path, media, monkeypatch):
    monkeypatch.delenv("AVSER_MODELS", raising=False)
    model, moved, other = (tmp_path / name for name in ("a.task", "b.task", "c.task"))
    model.write_bytes(b"model")
    moved.write_bytes(b"model")
    other.write_bytes(b"another")
    build(corpus, tmp_path / "cache", MediaConfig(faces=FacesConfig(tracker="none")))
    path = tmp_path / "cache" / "cache.json"

    from avser.data.cache_settings import cache_settings, write_settings

    settings = cache_settings(MediaConfig(faces=FacesConfig(model=str(model))))
    assert len(settings["faces"]["model"]) == 64
    write_settings(path.parent, settings)
    ClipCache(path.parent, MediaConfig(faces=FacesConfig(model=str(moved))))
    ClipCache(path.parent, MediaConfig(faces=FacesConfig()))  # a machine that only trains has no model
    with pytest.raises(CacheError, match=r"media.faces.model is \w{64} in the cache"):
        ClipCache(path.parent, MediaConfig(faces=FacesConfig(model=str(other))))


def test_a_missing_face_model_is_one_error(corpus, tmp_path, monkeypatch):
    monkeypatch.delenv("AVSER_MODELS", raising=False)
    with pytest.raises(ConfigError, match="face model"):
        build(corpus, tmp_path / "cache", MediaConfig())


def test_no_cache_and_damaged_settings(corpus, media, tmp_path):
    with pytest.raises(CacheError, match="no cache there; make it with `avser cache"):
        ClipCache(tmp_path / "nothing")
    build(corpus, tmp_path / "cache", media)
    path = tmp_path / "cache" / "cache.json"
    good = json.loads(path.read_text())
    path.write_text("{")
    with pytest.raises(CacheError, match="damaged"):
        ClipCache(path.parent)
    path.write_text(json.dumps({**good, "format_version": 99}))
    with pytest.raises(CacheError, match="format 99, this avser reads 2"):
        ClipCache(path.parent)
    path.write_text(json.dumps({**good, "settings": {**good["settings"], "crop_px": 64}}))
    with pytest.raises(CacheError, match="changed by hand"):
        ClipCache(path.parent)


def test_clips_that_cannot_be_read(corpus, media, tmp_path):
    build(corpus, tmp_path / "cache", media)
    cache = ClipCache(tmp_path / "cache")
    with pytest.raises(CacheError, match=r"clip z is not in .*failures.csv"):
        cache.load("z")
    path = tmp_path / "cache" / "clips" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CacheError, match=r"a\.safetensors: damaged"):
        cache.load("a")
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(CacheError, match=r"a\.safetensors: damaged"):
        cache.load("a")


def test_workers_below_one_are_refused(corpus, media, tmp_path):
    with pytest.raises(CacheError, match="workers=0"):
        build(corpus, tmp_path / "cache", media, workers=0)


def test_a_folder_that_cannot_be_made(corpus, media, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be written"):
        build(corpus, tmp_path / "file" / "cache", media)


def test_a_second_run_at_the_same_time_is_refused(corpus, media, tmp_path):
    with open_folder(tmp_path / "cache"), pytest.raises(CacheError, match="another run is writing there; wait"):
        build(corpus, tmp_path / "cache", media)
    assert build(corpus, tmp_path / "cache", media).num_cached == 4


def test_without_locks_only_old_leftovers_are_removed(corpus, media, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "fcntl", None)
    old, fresh = tmp_path / "clips" / ".a.safetensors.1.tmp", tmp_path / "clips" / ".b.safetensors.2.tmp"
    old.parent.mkdir()
    old.touch()
    fresh.touch()
    os.utime(old, (0, 0))
    assert build(corpus, tmp_path, media).num_cached == 4
    assert (old.exists(), fresh.exists()) == (False, True)  # the fresh one may be another run's


def test_an_interrupted_run_lists_the_failures_so_far(corpus, media, tmp_path, monkeypatch):
    def stopped(results, *args, **more):
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "with_progress", stopped)
    corpus.rows.insert(0, ClipRow("gone", "toy", "5", "fear", "gone.wav"))
    with pytest.raises(KeyboardInterrupt):
        build(corpus, tmp_path / "cache", media)
    assert [row[0] for row in failure_rows(tmp_path / "cache")] == ["clip_id", "gone"]


def test_ray_makes_the_same_files(corpus, media, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'avser[cluster]'")
    (corpus.root / "noise.wav").write_bytes(bytes(range(256)) * 20)
    corpus.rows.append(ClipRow("noise", "toy", "5", "fear", "noise.wav"))
    build(corpus, tmp_path / "one", media)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        report = build(corpus, tmp_path / "two", media, workers=2, backend="ray")
    finally:
        ray.shutdown()
    assert (report.num_cached, [f.clip_id for f in report.failures]) == (4, ["noise"])
    for path in (tmp_path / "one" / "clips").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "clips" / path.name).read_bytes()
    assert failure_rows(tmp_path / "one") == failure_rows(tmp_path / "two")


def test_progress_goes_to_stderr(corpus, media, tmp_path, capfd):
    build_cache(corpus, tmp_path / "cache", media)
    out, err = capfd.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "clips/s" in err


@pytest.mark.real_data
def test_real_clips_with_a_real_tracker(tmp_path):
    folder = os.environ.get("AVSER_REAL_DATA")
    if not folder:
        pytest.skip("AVSER_REAL_DATA is unset")
    root = Path(folder)
    row = ClipRow(
        "x", "cremad", "1001", "anger", "cremad/AudioWAV/1001_DFA_ANG_XX.wav", "cremad/VideoFlash/1001_DFA_ANG_XX.flv"
    )
    media = MediaConfig(faces=FacesConfig(model=str(root / "models" / "face_landmarker.task")))
    report = build(Manifest([row, replace(row, clip_id="y", video="clips/no_face.mp4")], root), tmp_path / "c", media)
    assert report.num_cached == 2
    assert [f.clip_id for f in report.partial] == ["y"]
    face = ClipCache(tmp_path / "c", media).load("x").face
    assert face is not None
    assert face.found.all()
    assert face.landmarks is not None
    assert face.landmarks.shape == (len(face), 478, 2)
    assert face.blendshapes is not None
    assert face.crops.shape == (len(face), 112, 112, 3)
