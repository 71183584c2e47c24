"""Planted faults: each gives exactly its finding, and a clean corpus none."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from avser.config import load_config
from avser.data.manifest import ClipRow, read_manifest
from preprocessing.doctor.__main__ import main
from preprocessing.doctor.clip_rules import judge_clip
from preprocessing.doctor.diagnosis import examine_corpus
from preprocessing.doctor.examine import ClipFacts, Job, crashed
from preprocessing.doctor.face import FaceFacts
from preprocessing.doctor.findings import KINDS, LIMITS, Finding

NO_FACES = "media.faces.tracker=none"


def examine(manifest, *sources, workers=1):
    """Exit status, (code, clip) of the findings, and doctor.json."""
    out = manifest.parent / "out"
    status = main([str(manifest), "--out", str(out), "--workers", str(workers), *(sources or [NO_FACES])])
    about = json.loads((out / "doctor.json").read_text(encoding="utf-8"))
    return status, [(f["code"], f["clip_id"]) for f in about["findings"]], about


def test_a_clean_corpus(clean, capsys):
    status, found, about = examine(clean())
    assert (status, found) == (0, [])
    assert about["summary"]["verdict"] == "8 clips: no faults, no warnings"
    assert "8 clips: no faults, no warnings" in capsys.readouterr().out


WHERE = "s0_anger_0"


def silent(voice):
    return np.zeros(32000)


def clipped(voice):
    return np.clip(10 * voice(50), -1, 1)


def quiet(voice):
    return 0.005 * voice(50)


def noise(voice):
    return np.random.default_rng(0).normal(0, 0.01, 32000)


def waits(voice):
    return np.concatenate([np.random.default_rng(0).normal(0, 3e-4, 40000), voice(50)])


def lingers(voice):
    return np.concatenate([voice(50), np.random.default_rng(0).normal(0, 3e-4, 40000)])


def cut(voice):
    whole = voice(50)
    return whole[: 320 * int(np.argmax(np.square(whole[:32000].reshape(-1, 320)).mean(axis=1))) + 320]


def gap(voice):
    whole = voice(50)
    whole[14000:19000] = 0
    return whole


def offset(voice):
    return voice(50) + 0.05


def half_dead(voice):
    return np.stack([voice(50), np.zeros(32000)])


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (silent, "silent"),
        (clipped, "clipped"),
        (quiet, "quiet"),
        (noise, "no_voice"),
        (waits, "leading_silence"),
        (lingers, "trailing_silence"),
        (cut, "cut_voice"),
        (gap, "dropout"),
        (offset, "dc_offset"),
        (half_dead, "dead_channel"),
    ],
)
def test_a_planted_voice(clean, tmp_path, wav, voice, make, code):
    wav(tmp_path / "planted.wav", make(voice))
    status, found, _ = examine(clean(audio="planted.wav"))
    assert found == [(code, WHERE)]
    assert status == (KINDS[code].severity == "fault")


def truncated(path, voice, wav):
    wav(path, voice(50))
    path.write_bytes(path.read_bytes()[:40000])


def garbage(path, voice, wav):
    path.write_bytes(bytes(range(256)) * 20)


def empty(path, voice, wav):
    path.write_bytes(b"")


def pointer(path, voice, wav):
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def missing(path, voice, wav):
    pass


def slow(path, voice, wav):
    wav(path, voice(50, rate_hz=8000), rate_hz=8000)


def brief(path, voice, wav):
    wav(path, voice(50)[12000:16000])


def endless(path, voice, wav):
    wav(path, voice(50, 11.0))


@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (truncated, {"damaged"}),
        (garbage, {"unreadable"}),
        (empty, {"empty"}),
        (pointer, {"pointer"}),
        (missing, {"missing"}),
        (slow, {"low_sample_rate"}),
        (brief, {"short", "cut_voice"}),
        (endless, {"too_long"}),
    ],
)
def test_a_planted_file(clean, tmp_path, wav, voice, make, codes):
    make(tmp_path / "planted.wav", voice, wav)
    status, found, _ = examine(clean(audio="planted.wav"))
    assert set(found) == {(code, WHERE) for code in codes}
    assert status == any(KINDS[code].severity == "fault" for code in codes)


def test_an_interval_beyond_the_end(clean):
    status, found, about = examine(clean(start_s=0.1, end_s=2.5))
    assert (status, found) == (1, [("beyond_end", WHERE)])
    assert "2.50 s" in about["findings"][0]["sentence"]
    assert "2.00 s" in about["findings"][0]["sentence"]
    _, found, _ = examine(clean(start_s=7.0, end_s=8.0))
    assert found == [("beyond_end", WHERE)]
    assert examine(clean(start_s=0.1, end_s=1.9))[:2] == (0, [])


def test_copies(clean, tmp_path):
    manifest = clean()
    original = tmp_path / "wav" / "s0_anger_1.wav"
    (tmp_path / "copy.wav").write_bytes(original.read_bytes())
    same = ClipRow("again", "made", "s0", "anger", "copy.wav", sex="male")
    assert examine(clean(same))[:2] == (0, [("duplicate", "again")])
    status, found, about = examine(clean(replace(same, emotion="sadness"), replace(same, clip_id="third")))
    assert (status, found) == (1, [("duplicate_conflict", "again"), ("duplicate", "third")])
    assert "s0_anger_1: emotion 'anger' there, 'sadness' here" in about["findings"][0]["sentence"]
    one_file = replace(same, audio="wav/s0_anger_1.wav")
    assert examine(clean(one_file))[1] == [("duplicate", "again")]
    halves = [replace(one_file, clip_id=f"h{i}", start_s=0.9 * i, end_s=0.9 * i + 1) for i in range(2)]
    assert not [code for code, _ in examine(clean(*halves))[1] if "duplicate" in code]
    assert manifest.is_file()


def test_a_length_and_a_format_unlike_the_rest(clean, tmp_path, wav, voice):
    many = []
    for number in range(60):
        seconds, rate = (6.0, 16000) if number == 7 else (2.0, 48000) if number == 8 else (2.0, 16000)
        wav(tmp_path / "more" / f"{number}.wav", voice(100 + number, seconds, rate), rate)
        speaker, emotion = f"s{number % 2}", ("anger", "sadness")[number // 2 % 2]
        sex = ("male", "female")[number % 2]
        many.append(ClipRow(f"m{number}", "made", speaker, emotion, f"more/{number}.wav", sex=sex))
    status, found, about = examine(clean(*many))
    assert (status, found) == (0, [("odd_format", "m8"), ("duration_outlier", "m7")])
    assert "3.0 times longer" in about["findings"][1]["sentence"]


def test_what_the_manifest_alone_tells(clean):
    single = ClipRow("x", "made", "s2", "anger", "wav/s0_anger_0.wav", start_s=0.2, end_s=1.8)
    blank = ClipRow("y", "made", "s0", "", "wav/s0_anger_0.wav", sex="female", start_s=0.3, end_s=1.8)
    _, found, about = examine(clean(single, blank))
    told = {f["code"]: f["sentence"] for f in about["findings"]}
    assert told["one_emotion"] == "1 of 3 speakers: s2"
    assert told["no_sex"] == "1 of 3 speakers: s2"
    assert told["two_sexes"] == "1 of 3 speakers: s0"
    assert told["no_emotion"] == "1 of 10 clips"
    assert all(clip == "" for _, clip in found)


# --- sound and picture -------------------------------------------------------------------------------------------


def film(clean, tmp_path, mp4, voice, pictures, *, num=50, from_s=0.0, seconds=2.0, **fields):
    mp4(tmp_path / "a.mp4", voice=voice(50, seconds), voice_from_s=from_s, images=pictures(0, num))
    return clean(**{"audio": "a.mp4", "video": "a.mp4", **fields})


def test_a_sound_film_is_clean(clean, tmp_path, mp4, voice, pictures):
    status, found, about = examine(film(clean, tmp_path, mp4, voice, pictures))
    assert (status, found) == (0, [])
    assert about["clips"][0]["face"]["num_frames"] == 6
    assert about["clips"][0]["face"]["num_with_face"] is None


def test_sound_that_starts_late(clean, tmp_path, mp4, voice, pictures):
    _, found, about = examine(film(clean, tmp_path, mp4, voice, pictures, from_s=0.5, seconds=1.5))
    assert found == [("late_audio", WHERE)]
    assert "the sound is late by 0." in about["findings"][0]["sentence"]


def test_sound_that_ends_early(clean, tmp_path, mp4, voice, pictures):
    assert examine(film(clean, tmp_path, mp4, voice, pictures, num=70))[1] == [("length_difference", WHERE)]


def test_a_track_that_is_not_there(clean, tmp_path, mp4, wav, voice, pictures):
    mp4(tmp_path / "mute.mp4", voice=None, images=pictures(0))
    assert examine(clean(audio="mute.mp4"))[:2] == (1, [("no_track", WHERE)])
    wav(tmp_path / "sound.wav", voice(50))
    assert examine(clean(video="sound.wav"))[:2] == (1, [("no_track", WHERE)])


def test_an_audio_file_beside_its_video(clean, tmp_path, mp4, wav, voice, pictures):
    apart = {"audio": "b.wav"}
    wav(tmp_path / "b.wav", np.roll(voice(50), 3200))
    _, found, about = examine(film(clean, tmp_path, mp4, voice, pictures, **apart))
    assert found == [("sound_lag", WHERE)]
    assert about["clips"][0]["sound_lag_s"] == pytest.approx(0.2, abs=0.021)
    wav(tmp_path / "b.wav", voice(50))
    assert examine(film(clean, tmp_path, mp4, voice, pictures, **apart))[1] == []
    wav(tmp_path / "b.wav", voice(51))
    assert examine(film(clean, tmp_path, mp4, voice, pictures, **apart))[1] == [("sound_differs", WHERE)]


def test_a_picture_that_stands_still(clean, tmp_path, mp4, voice, pictures):
    mp4(tmp_path / "a.mp4", voice=None, images=pictures(0, 6), fps=3)
    manifest = clean(video="a.mp4")
    assert examine(manifest)[1] == [("frame_gap", WHERE)]


def test_a_missing_face_model_is_said_once(clean, tmp_path, mp4, voice, pictures, monkeypatch, capsys):
    monkeypatch.delenv("AVSER_MODELS", raising=False)
    status, found, about = examine(film(clean, tmp_path, mp4, voice, pictures), "media.fps=15")
    assert (status, found) == (0, [("no_face_model", "")])
    assert about["settings"]["media"]["faces"]["tracker"] == "none"
    assert "AVSER_MODELS" in capsys.readouterr().out


def test_faces_of_real_people(clean, tmp_path, mp4, voice, real_data, monkeypatch):
    from avser.media.video import iterate_frames

    monkeypatch.setenv("AVSER_MODELS", str(real_data / "models"))
    alone = [frame.image for frame in iterate_frames(real_data / "clips" / "single_face.mp4")][:50]
    pairs = [np.concatenate([image[:, 120:520], image[:, 520:120:-1]], axis=1) for image in alone]
    nobody = [np.full_like(image, 90) for image in alone]
    found = {}
    for name, images in {"alone": alone, "pair": pairs, "nobody": nobody}.items():
        mp4(tmp_path / f"{name}.mp4", voice=voice(50), images=images)
        status, found[name], _ = examine(clean(audio=f"{name}.mp4", video=f"{name}.mp4"), "media.fps=15")
        assert status == (name == "nobody")
    assert found == {"alone": [], "pair": [("several_faces", WHERE)], "nobody": [("no_face", WHERE)]}


GOOD = FaceFacts(10, 10, 0, 1, 200.0, 120.0, 0.6)


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"num_with_face": 0, "most_faces": 0, "side_px": None, "brightness": None, "sharpness": None}, ["no_face"]),
        ({"num_with_face": 8}, []),
        ({"num_with_face": 7}, ["face_missing"]),
        ({"num_with_several": 1, "most_faces": 2}, []),
        ({"num_with_several": 2, "most_faces": 2}, ["several_faces"]),
        ({"side_px": 56.0}, []),
        ({"side_px": 55.0}, ["small_face"]),
        ({"brightness": 39.0}, ["dark_face"]),
        ({"brightness": 231.0}, ["bright_face"]),
        ({"sharpness": 0.19}, ["blurred_face"]),
    ],
)
def test_limits_of_a_face(change, codes):
    row, config = ClipRow("a", "made", "s", "anger", "", "a.mp4"), load_config([])
    found = judge_clip(row, ClipFacts("a", face=replace(GOOD, **change)), config)
    assert [finding.code for finding in found] == codes
    assert all(finding.column == "video" and finding.file == "a.mp4" for finding in found)


# --- the whole -----------------------------------------------------------------------------------------------------


def test_no_garbage_stops_it(clean, tmp_path, mp4, voice, pictures):
    """Mutated files of every kind: each is examined, and all of them are in the results."""
    good = mp4(tmp_path / "good.mp4", voice=voice(50), images=pictures(0)).read_bytes()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        data = bytearray(good[: rng.integers(1, len(good))] if number % 3 == 0 else good)
        for place in rng.integers(0, len(data), 40 * (number % 3)):
            data[place] = rng.integers(256)
        (tmp_path / f"bad{number}.mp4").write_bytes(data)
        rows.append(ClipRow(f"bad{number}", "made", "s0", "anger", f"bad{number}.mp4", f"bad{number}.mp4", sex="male"))
    status, found, about = examine(clean(*rows), workers=2)
    assert status == 1
    assert len(about["clips"]) == 20
    assert not [clip for code, clip in found if code == "examination"]
    assert len({clip for _, clip in found}) >= 4


def test_two_processes_find_what_one_finds(clean, tmp_path, mp4, voice, pictures):
    manifest = film(clean, tmp_path, mp4, voice, pictures, from_s=0.5, seconds=1.5)
    examine(manifest)
    alone = (tmp_path / "out" / "doctor.json").read_bytes(), (tmp_path / "out" / "doctor.html").read_bytes()
    examine(manifest, workers=2)
    assert alone == ((tmp_path / "out" / "doctor.json").read_bytes(), (tmp_path / "out" / "doctor.html").read_bytes())


def test_a_process_that_died_is_a_fault(clean):
    manifest, config = read_manifest(clean()), load_config([NO_FACES])
    facts, thumbnail = crashed(Job(manifest.rows[0], manifest.root, config.media, frozenset(), 3.0))
    assert thumbnail == b""
    assert [found.code for found in judge_clip(manifest.rows[0], facts, config)] == ["examination"]


def test_the_json_file(clean, tmp_path, wav, voice):
    wav(tmp_path / "planted.wav", clipped(voice))
    _, _, about = examine(clean(audio="planted.wav"))
    assert set(about) == {"format_version", "manifest", "settings", "summary", "kinds", "limits", "findings", "clips"}
    assert about["summary"]["findings_by_code"] == {"clipped": 1}
    assert about["summary"]["num_warnings"] == 1
    assert set(about["findings"][0]) == {"severity", *(f.name for f in fields(Finding))}
    assert about["findings"][0]["severity"] == "warning"
    assert set(about["kinds"]) == {"clipped"}
    assert set(about["limits"]) == set(LIMITS)
    rows = read_manifest(tmp_path / "manifest.csv").rows
    assert [clip["clip_id"] for clip in about["clips"]] == [row.clip_id for row in rows]
    assert all(set(clip) == {f.name for f in fields(ClipFacts)} for clip in about["clips"])
    text = (tmp_path / "out" / "doctor.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_what_was_measured_is_what_was_written(clean, tmp_path):
    manifest = read_manifest(clean())
    measured = examine_corpus(manifest, load_config([NO_FACES]), workers=1, progress=False)
    _, _, about = examine(tmp_path / "manifest.csv")
    for clip, written in zip(measured.clips, about["clips"], strict=True):
        assert math.isclose(clip.voice.voice_dbfs, written["voice"]["voice_dbfs"], abs_tol=1e-4)
        assert clip.duration_s == written["duration_s"]


def test_wrong_usage(clean, tmp_path, capsys):
    assert main([str(tmp_path / "none.csv")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main([str(clean()), "media.fpss=3"]) == 2
    assert "media.fps" in capsys.readouterr().err
    for wrong in (["--workers", "0"], ["--face-fps", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            main([str(clean()), *wrong])


def test_where_it_writes_by_default(clean, tmp_path):
    assert main([str(clean()), "--workers", "1", NO_FACES]) == 0
    assert sorted(path.name for path in (tmp_path / "manifest_doctor").iterdir()) == ["doctor.html", "doctor.json"]
