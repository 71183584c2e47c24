from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from avser.data.manifest import read_manifest, write_manifest
from avser.errors import ManifestError
from avser.media.audio import decode_audio
from avser.media.clip import read_clip
from avser.media.faces import build_tracker
from avser.media.video import iterate_frames
from preprocessing.cremad import main as cremad
from preprocessing.splice.__main__ import main
from preprocessing.splice.corpus import write_splices
from preprocessing.splice.pairing import Settings

TAKES = ("a_neutral_1", "a_neutral_2", "a_anger_1", "a_anger_2", "a_fear_1", "a_fear_2")


def splice(manifest, out, **settings):
    report = write_splices(read_manifest(manifest), out, Settings(**settings))
    return report, read_manifest(out / "manifest.csv"), json.loads((out / "splice.json").read_text())


def test_manifest_regions_and_sources_agree(toy, tmp_path):
    report, found, described = splice(toy(*TAKES), tmp_path / "out", count=18)
    assert len(found) == 18
    assert not report.left_out
    for row in found.rows:
        facts = described["clips"][row.clip_id]
        sound, warnings = decode_audio(found.audio_path(row))
        lengths = [piece["end_s"] - piece["start_s"] for piece in facts["pieces"]]
        assert not warnings
        assert len(sound) == round(sum(lengths) * 16000)
        assert (row.corpus, row.speaker, row.sex, row.sentence) == ("toy_splice", "a", "female", "one")
        sources = [piece["clip_id"] for piece in facts["pieces"]]
        if row.emotion == "neutral":
            assert row.clip_id not in found.regions  # a control
            assert len(set(sources)) == 2
            continue
        (region,) = found.regions[row.clip_id]["audio"]
        n = next(n for n, name in enumerate(sources) if row.emotion in name)
        assert region.start_s == pytest.approx(sum(lengths[:n]), abs=1e-6)
        assert region.end_s == pytest.approx(sum(lengths[: n + 1]), abs=1e-6)
        assert all("neutral" in name for k, name in enumerate(sources) if k != n)


def test_turns_are_balanced(toy, tmp_path):
    _, found, described = splice(toy(*TAKES), tmp_path / "out", count=18)
    clips = described["clips"]
    for emotion in ("neutral", "anger", "fear"):
        layouts = [clips[row.clip_id]["layout"] for row in found.rows if row.emotion == emotion]
        assert sorted(layouts) == sorted(["middle", "start", "end"] * 2)
    for take in ("a_anger_1", "a_anger_2", "a_fear_1", "a_fear_2"):
        assert sum(any(p["clip_id"] == take for p in facts["pieces"]) for facts in clips.values()) == 3


def test_the_seed_fixes_every_byte(toy, tmp_path):
    manifest = toy(*TAKES)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        splice(manifest, tmp_path / name, count=6, seed=seed)
    one, two, other = ({p.name: p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("one", "two", "other"))
    assert one == two
    assert one["splice.json"] != other["splice.json"]


def test_no_recording_is_in_two_performances(toy, tmp_path):
    _, found, described = splice(toy(*TAKES), tmp_path / "out", count=12)
    seen: dict[str, str] = {}
    for row in found.rows:
        for piece in described["clips"][row.clip_id]["pieces"]:
            assert seen.setdefault(piece["clip_id"], row.performance) == row.performance


def test_speakers_without_neutral_takes_are_listed(toy, tmp_path, capsys):
    manifest = toy("a_neutral_1", "a_anger_1", "b_anger_1", "b_fear_1")
    assert main([str(manifest), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "speaker b: no neutral take" in said
    assert "speaker a: only one neutral take" in said
    table = (tmp_path / "out" / "manifest.left_out.csv").read_text()
    assert "speaker b,missing" in table
    assert {row.emotion for row in read_manifest(tmp_path / "out" / "manifest.csv").rows} == {"anger"}


def test_one_bad_file_is_listed_and_the_rest_goes_on(toy, tmp_path):
    manifest = toy(*TAKES)
    (manifest.parent / "a_anger_1.flac").write_bytes(b"nothing")
    report, found, _ = splice(manifest, tmp_path / "out", count=6)
    assert len(found) == 6
    assert [entry.name for entry in report.left_out] == ["a_anger_1"]


def test_takes_of_another_part_of_a_split_are_not_joined(toy, tmp_path):
    manifest = toy(*TAKES)
    rows = [
        replace(row, split="test" if row.clip_id.endswith("_2") else "train") for row in read_manifest(manifest).rows
    ]
    write_manifest(rows, manifest)
    _, found, described = splice(manifest, tmp_path / "out", count=8)
    for row in found.rows:
        ends = {piece["clip_id"][-1] for piece in described["clips"][row.clip_id]["pieces"]}
        assert ends == {"2" if row.split == "test" else "1"}


def test_nothing_to_splice_and_wrong_settings_are_errors(toy, tmp_path, capsys):
    manifest = toy("a_anger_1", "a_fear_1")
    assert main([str(manifest), "--out", str(tmp_path / "out")]) == 1
    assert "nothing to splice" in capsys.readouterr().err
    read = read_manifest(manifest)
    for wrong in (Settings(count=0), Settings(seed=-1), Settings(region_s=(1.0, 0.4)), Settings(carrier_s=0.0)):
        with pytest.raises(ManifestError):
            write_splices(read, tmp_path / "out", wrong)
    with pytest.raises(ManifestError, match="another corpus"):
        write_splices(read, manifest.parent, Settings())


def test_picture_and_sound_are_cut_at_the_same_times(toy, tmp_path):
    _, found, described = splice(toy(*TAKES, picture=True), tmp_path / "out", count=9)
    for row in found.rows:
        facts = described["clips"][row.clip_id]
        sound, _ = decode_audio(found.audio_path(row))
        frames = list(iterate_frames(found.video_path(row)))
        assert frames[0].time_s == 0
        assert abs(len(sound) / 16000 - len(frames) / 25) < 1e-4
        begin = 0.0
        for piece in facts["pieces"]:
            length = piece["end_s"] - piece["start_s"]
            for frame in frames:  # away from the dissolves the grey level tells the source's time
                if begin + 0.06 < frame.time_s < begin + length - 0.06:
                    source_s = piece["start_s"] + frame.time_s - begin
                    if source_s < 50 / 25:
                        assert abs(np.median(frame.image) / 5 / 25 - source_s) <= 1 / 25
            begin += length
        if row.emotion != "neutral":
            (heard,), (seen,) = (found.regions[row.clip_id][m] for m in ("audio", "video"))
            assert 0 <= seen.start_s - heard.start_s < 1 / 25
            assert abs(seen.end_s - heard.end_s) < 1 / 25
            assert seen.end_s <= len(frames) / 25 + 1e-6


@pytest.mark.real_data
def test_voice_and_face_are_cut_at_the_same_times(real_data, tmp_path):
    """CREMA-D has one neutral take of actor 1001: five emotions are spliced into it."""
    assert cremad(["--raw", str(real_data / "cremad"), "--out", str(tmp_path / "cremad.csv")]) == 0
    manifest = read_manifest(tmp_path / "cremad.csv")
    write_manifest([row for row in manifest.rows if row.video], tmp_path / "six.csv")
    assert main([str(tmp_path / "six.csv"), "--out", str(tmp_path / "out"), "--count", "6", "--workers", "1"]) == 0
    made = read_manifest(tmp_path / "out" / "manifest.csv")
    tracker = build_tracker("center", crop_px=32)
    assert len(made) >= 4
    for row in made.rows:
        clip = read_clip(row.clip_id, audio=made.audio_path(row), video=made.video_path(row), tracker=tracker)
        assert clip.warnings == []
        assert clip.face.times[0] == pytest.approx(0, abs=1 / 30)
        assert len(clip.waveform) / 16000 == pytest.approx(len(clip.face) / 29.97, abs=1 / 29.97)
        (voice,), (face,) = (made.regions[row.clip_id][modality] for modality in ("audio", "video"))
        assert face.start_s == pytest.approx(voice.start_s, abs=1 / 29.97)
        assert face.end_s == pytest.approx(voice.end_s, abs=1 / 29.97)
