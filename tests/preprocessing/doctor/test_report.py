from __future__ import annotations

import re

import numpy as np
import pytest

from avser.data.manifest import ClipRow, Manifest
from avser.media.jpeg import encode_jpeg
from preprocessing.doctor.diagnosis import Diagnosis
from preprocessing.doctor.examine import ClipFacts
from preprocessing.doctor.findings import KINDS, Finding
from preprocessing.doctor.report import MAX_LISTED, MAX_THUMBNAILS, build_histogram, choose_tiles, write_page

ATTACK = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
JPEG = encode_jpeg(np.zeros((8, 8, 3), np.uint8))


def diagnose(tmp_path, rows, findings=(), thumbnails=None):
    settings = {"face_fps": 3.0, "media": {"faces": {"tracker": "none"}, "crop_px": 112, "sample_rate_hz": 16000}}
    clips = [ClipFacts(row.clip_id, 2.0) for row in rows]
    return Diagnosis(Manifest(rows, tmp_path), settings, clips, list(findings), thumbnails or {})


def page_of(diagnosis, tmp_path, title="corpus"):
    write_page(diagnosis, tmp_path / "doctor.html", title=title)
    return (tmp_path / "doctor.html").read_text(encoding="utf-8")


def test_everything_from_outside_is_escaped(tmp_path):
    row = ClipRow(ATTACK, ATTACK, ATTACK, "anger", ATTACK, ATTACK, sex=ATTACK, split=ATTACK)
    findings = [Finding(code, ATTACK, "audio", ATTACK, ATTACK) for code in KINDS]
    page = page_of(diagnose(tmp_path, [row], findings, {ATTACK: JPEG}), tmp_path, title=ATTACK)
    assert "<script" not in page
    assert "onerror=alert(1)>" not in page
    assert page.count("&lt;script&gt;alert") > len(KINDS)
    assert re.findall(r"<img [^>]*>", page) == re.findall(r'<img alt="" src="data:image/jpeg;base64,[^"]*">', page)


def test_the_page_needs_nothing_else(tmp_path):
    row = ClipRow("a", "made", "s", "anger", "a.wav")
    page = page_of(diagnose(tmp_path, [row], thumbnails={"a": JPEG}), tmp_path)
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import""", page)
    assert "prefers-color-scheme: dark" in page


def test_lone_surrogates_do_not_stop_it(tmp_path):
    row = ClipRow("a", "made", "s\udcff", "anger", "a.wav")
    assert "s?" in page_of(diagnose(tmp_path, [row]), tmp_path)


def test_findings_are_grouped_and_long_lists_cut(tmp_path):
    rows = [ClipRow(f"c{i:04}", "made", "s", "anger", "a.wav") for i in range(MAX_LISTED + 20)]
    findings = [Finding("quiet", row.clip_id, "audio", "a.wav", f"level of {row.clip_id}") for row in rows]
    page = page_of(diagnose(tmp_path, rows, findings), tmp_path)
    assert page.count('<details class="group') == 1
    assert page.count("level of c") == MAX_LISTED
    assert "20 more in doctor.json" in page
    assert f"{len(rows)} clips: no faults, {len(rows)} warnings" in page


def test_the_sheet_takes_faulty_clips_first_then_every_speaker(tmp_path):
    rows = [ClipRow(f"c{i:04}", "made", f"s{i // 50:02}", "anger", "", "a.mp4") for i in range(1000)]
    findings = [Finding("no_face", f"c{i:04}", "video", "a.mp4", "") for i in (999, 998)]
    chosen = choose_tiles(diagnose(tmp_path, rows, findings, {row.clip_id: JPEG for row in rows}))
    assert len(chosen) == MAX_THUMBNAILS
    assert {"c0998", "c0999"} <= {row.clip_id for row in chosen}
    assert {row.speaker for row in chosen} == {row.speaker for row in rows}
    assert [row.clip_id for row in chosen] == sorted(row.clip_id for row in chosen)


def test_a_tile_says_what_is_wrong(tmp_path):
    rows = [ClipRow(name, "made", "s", "anger", "", "a.mp4") for name in ("good", "doubtful", "bad")]
    findings = [Finding("no_face", "bad", "video", "", ""), Finding("dark_face", "doubtful", "video", "", "")]
    page = page_of(diagnose(tmp_path, rows, findings, {row.clip_id: JPEG for row in rows}), tmp_path)
    tiles = re.findall(r'<div class="tile ([a-z]*)" title="([^"]*)"', page)
    assert tiles == [("", ""), ("warning", "dark face"), ("fault", "no face in any frame")]


@pytest.mark.parametrize("values", [[2.0], [2.0] * 50, [1.0, 2.0, 3.0], [3.0] * 500 + [305.0], [0.0, 0.0]])
def test_a_histogram_holds_every_value(values):
    histogram = build_histogram("length, s", values)
    assert sum(count for _, _, count, _ in histogram.bars) == len(values)
    assert all(np.isfinite([x, height]).all() for x, height, _, _ in histogram.bars)
    assert len(histogram.ticks) == 5


def test_one_wild_clip_does_not_flatten_a_histogram():
    values = [*np.linspace(2, 4, 1000), 305.0]
    histogram = build_histogram("length, s", values)
    assert float(histogram.ticks[-1][1]) < 10
    assert histogram.caption.endswith("outermost bars: 1")
    assert "to 305" in histogram.caption
