"""Many files: the good ones are answered, the bad ones named, and what is done is not done again."""

import csv
import json
import os
import shutil
from xml.etree import ElementTree

import pytest

from avser.errors import ConfigError, MediaError
from avser.inference import load_model
from avser.media.audio import decode_audio
from avser.recordings.exports import check_formats, to_csv, to_vtt
from avser.recordings.files import NO_VIDEO, Wanted, answer_files, find_recordings
from avser.recordings.result import describe_recording, read_recording
from avser.structures import AUDIO, FUSED, VIDEO
from tests.recordings.conftest import write_wav


@pytest.fixture
def folder(tiny_corpus, tmp_path):
    """Recordings in folders, two with the same name, one broken, and files that are none."""
    media = sorted((tiny_corpus / "media").glob("*.mp4"))
    inside = tmp_path / "recordings"
    (inside / "deeper").mkdir(parents=True)
    shutil.copy(media[0], inside / "a talk.mp4")
    shutil.copy(media[1], inside / "deeper" / "b.mp4")
    shutil.copy(media[2], inside / "deeper" / "b.MOV")
    (inside / "broken.mp4").write_bytes(b"no media at all")
    (inside / "notes.txt").write_text("not a recording")
    return inside


def ask(model, folder, out, *formats, **options):
    return {a.name: a for a in answer_files(model, [folder], Wanted(out, formats, **options))}


def test_a_folder_is_answered_once_and_the_broken_file_named(models, folder, tmp_path):
    model, out = models[FUSED], tmp_path / "out"
    first = ask(model, folder, out, "csv", "vtt,textgrid")
    assert list(first) == ["a talk", "broken", "deeper/b.MOV", "deeper/b.mp4"]
    assert [a.recording is not None for a in first.values()] == [True, False, True, True]
    assert "not readable" in first["broken"].reason
    with (out / "failures.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [str(folder / "broken.mp4")]
    with (out / "predictions.csv").open(newline="") as file:
        assert [row["clip"] for row in csv.DictReader(file)] == ["a talk", "deeper/b.MOV", "deeper/b.mp4"]
    made = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".json", ".vtt", ".TextGrid")}
    assert len(made) == 9
    second = ask(model, folder, out, "csv", "vtt,textgrid")
    assert [a.again for a in second.values()] == [True, False, True, True]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert to_csv(second["a talk"].recording) == to_csv(first["a talk"].recording)


def test_what_changed_is_answered_again(models, folder, tmp_path):
    model, out = models[AUDIO], tmp_path / "out"
    ask(model, folder, out)
    talk = folder / "a talk.mp4"
    shutil.copy(folder / "deeper" / "b.mp4", talk)
    os.utime(talk, ns=(1, 1))
    assert [a.again for a in ask(model, folder, out).values()] == [False, False, True, True]
    assert not any(a.again for a in ask(model, folder, out, window_s=1.0).values())
    other = load_model(models[VIDEO].folder, "cpu")
    assert not any(a.again for a in ask(other, folder, out).values())
    [damaged] = out.glob("a_talk*.json")
    damaged.write_text(damaged.read_text()[:-40])
    assert [a.again for a in ask(other, folder, out).values()] == [False, False, True, True]


def test_a_new_format_is_written_from_what_is_stored(models, folder, tmp_path):
    out = tmp_path / "out"
    ask(models[FUSED], folder, out)
    answers = ask(models[FUSED], folder, out, "eaf")
    assert answers["a talk"].again
    [document] = out.glob("a_talk*.eaf")
    tiers = [tier.get("TIER_ID") for tier in ElementTree.parse(document).getroot().iter("TIER")]
    assert tiers[:2] == ["emotion", "emotion peaks"]
    assert {"voice", "face"} <= set(tiers)


def test_a_voice_among_recordings_that_are_drawn_is_answered_without_a_video(models, tiny_corpus, tmp_path):
    inside, out = tmp_path / "recordings", tmp_path / "out"
    inside.mkdir()
    clip = sorted((tiny_corpus / "media").glob("*.mp4"))[0]
    write_wav(inside / "voice.wav", decode_audio(clip, sample_rate_hz=16000)[0])
    for again in (False, True):
        [answered] = ask(models[AUDIO], inside, out, "mp4").values()
        assert answered.again is again
        assert answered.recording is not None
        assert [w for w in answered.recording.warnings if "picture" in w] == [NO_VIDEO]
    assert sorted(path.name for path in out.iterdir()) == ["failures.csv", "predictions.csv", "voice.json"]


def test_places_and_formats_that_would_do_harm_are_refused(models, folder, tmp_path):
    def refused(given, wanted):
        with pytest.raises(ConfigError) as caught:
            list(answer_files(models[AUDIO], given, wanted))
        return str(caught.value)

    assert "recordings lie in it" in refused([folder], Wanted(folder))
    assert "--out" in refused([folder], Wanted(formats=["csv"]))
    assert "allowed are csv, json" in refused([folder], Wanted(tmp_path / "out", ["docx"]))
    assert "one recording" in refused([folder], Wanted(video=tmp_path / "x.mp4"))
    talk = folder / "a talk.mp4"
    assert "the recording itself" in refused([talk], Wanted(video=talk))
    assert talk.stat().st_size > 1000
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="without media files"):
        find_recordings([tmp_path / "empty"])
    assert check_formats(["csv, vtt", "csv"]) == ["csv", "vtt"]


def test_an_answer_read_back_is_the_answer(models, long_recording, tmp_path):
    [answered] = answer_files(
        models[FUSED], [long_recording], Wanted(tmp_path / "out", ["csv", "vtt", "textgrid", "eaf"])
    )
    recording, out = answered.recording, tmp_path / "out"
    stored = read_recording(out / "talk.json")
    assert describe_recording(stored, boxes=True) == describe_recording(recording, boxes=True)
    assert to_csv(stored) == to_csv(recording) == (out / "talk.csv").read_text()
    rows = list(csv.DictReader(to_csv(recording).splitlines()))
    assert len(rows) == len(recording.rows) == 6
    assert all(float(row["share"]) == max(float(row[e]) for e in recording.emotions) for row in rows)
    cues = to_vtt(recording).strip().split("\n\n")
    assert cues[0] == "WEBVTT"
    assert len(cues) == 1 + len(recording.timeline)
    assert cues[1].splitlines()[1].startswith("00:00:00.000 --> 00:00:")
    assert recording.timeline[0].emotion in cues[1]
    grid = (out / "talk.TextGrid").read_text()
    assert f"xmax = {recording.duration_s:.6f}".rstrip("0") in grid
    assert [f'name = "{tier}"' in grid for tier in ("emotion", "voice", "face")] == [True] * 3
    (tmp_path / "other.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(MediaError, match="not an answer"):
        read_recording(tmp_path / "other.json")
