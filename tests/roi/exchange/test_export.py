"""Regions as files: read back by this package, by other packages, and element by element."""

from __future__ import annotations

import csv
import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avser.errors import ConfigError, ManifestError
from avser.roi.exchange.export import FORMATS, read_regions, write_regions
from avser.roi.exchange.file_names import file_names
from avser.roi.intervals import find_regions
from avser.structures import Curve, Region

HOSTILE = ["../../etc/passwd", "..", "a/b", "a\\b", "a\nb", "a\x00b", "<script>", "<script/>", "con", "CON.x", "", ".x"]


def voice(start: float, end: float, mass: float = 1.0, peak: float | None = None) -> Region:
    return Region("audio", start, end, mass, peak)


def face(start: float, end: float, mass: float = 1.0, peak: float | None = None) -> Region:
    return Region("video", start, end, mass, peak)


@pytest.fixture
def two_clips() -> dict:
    return {
        "k2": {"video": [face(1.2, 1.9, 0.4, 1.5)], "audio": [voice(0.8, 1.25, 0.25, 1.0), voice(0.1, 0.4, 0.5, 0.3)]},
        "k1": {"audio": [], "video": [face(0.0, 2.0)]},
    }


DURATIONS = {"k1": 2.0, "k2": 2.5}


# --- CSV and JSON ------------------------------------------------------------------------------------------------


def test_csv_holds_a_row_a_region_in_order(two_clips, tmp_path) -> None:
    write_regions(tmp_path / "r.csv", two_clips, format="csv", emotions={"k2": "fear"}, source="attention")
    assert list(csv.reader((tmp_path / "r.csv").open(newline="", encoding="utf-8"))) == [
        ["clip_id", "modality", "onset_s", "offset_s", "peak_s", "mass", "source", "emotion"],
        ["k2", "audio", "0.1", "0.4", "0.3", "0.5", "attention", "fear"],
        ["k2", "audio", "0.8", "1.25", "1", "0.25", "attention", "fear"],
        ["k2", "video", "1.2", "1.9", "1.5", "0.4", "attention", "fear"],
        ["k1", "video", "0", "2", "", "1", "attention", ""],
    ]


def test_json_keeps_a_modality_without_regions(two_clips, tmp_path) -> None:
    write_regions(tmp_path, two_clips, DURATIONS, format="json", emotions={"k1": "joy"}, source="rise")
    table = read_regions(tmp_path / "found_regions.json")
    assert table.regions["k1"] == {"audio": [], "video": two_clips["k1"]["video"]}
    assert (table.durations, table.emotions, table.source) == (DURATIONS, {"k1": "joy"}, "rise")
    assert list(table.regions) == ["k2", "k1"]


seconds = st.floats(0, 5000, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def any_regions(draw) -> dict:
    def one(modality: str) -> Region:
        start, length, share = draw(seconds), draw(st.floats(1e-3, 50)), draw(st.floats(0, 1))
        peak = draw(st.sampled_from([None, start + share * length]))
        return Region(modality, start, start + length, draw(st.floats(0, 1)), peak)

    clips = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    return {clip: {m: [one(m) for _ in range(draw(st.integers(1, 2)))] for m in ("audio", "video")} for clip in clips}


@pytest.mark.parametrize("format", ["csv", "json"])
@settings(max_examples=40)
@given(regions=any_regions(), emotion=texts, source=texts)
def test_what_is_written_is_read_again(format, regions, emotion, source, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{format}"
    write_regions(path, regions, format=format, emotions=dict.fromkeys(regions, emotion), source=source)
    table = read_regions(path)
    assert list(table.regions) == list(regions)
    assert (table.emotions, table.source) == (dict.fromkeys(regions, emotion), source)
    for clip_id, by_modality in regions.items():
        for modality, written in by_modality.items():
            read = table.regions[clip_id][modality]
            wanted = sorted(written, key=lambda r: (round(r.start_s, 6), round(r.end_s, 6)))
            assert [r.peak_s is None for r in read] == [r.peak_s is None for r in wanted]
            assert [(r.start_s, r.end_s, r.peak_s or 0, r.mass) for r in read] == [
                pytest.approx((r.start_s, r.end_s, r.peak_s or 0, r.mass), abs=1e-6) for r in wanted
            ]


def test_csv_of_several_sources_is_read_one_source_at_a_time(tmp_path) -> None:
    write_regions(tmp_path / "a.csv", {"k": {"audio": [voice(0, 1)]}}, format="csv", source="attention")
    write_regions(tmp_path / "b.csv", {"k": {"audio": [voice(2, 3)]}}, format="csv", source="rise")
    both = tmp_path / "both.csv"
    both.write_bytes((tmp_path / "a.csv").read_bytes() + (tmp_path / "b.csv").read_bytes().split(b"\r\n")[1] + b"\r\n")
    with pytest.raises(ManifestError, match="attention, rise"):
        read_regions(both)
    assert read_regions(both, source="rise").regions == {"k": {"audio": [voice(2, 3)]}}
    with pytest.raises(ManifestError, match="none from 'other'"):
        read_regions(both, source="other")


def test_rows_in_any_order_are_regions_in_order_of_time(tmp_path) -> None:
    rows = ["k,audio,2,3,,1", "l,video,0,1,0.5,1", "k,audio,0,1,,1"]
    (tmp_path / "r.csv").write_text("\n".join(["clip_id,modality,onset_s,offset_s,peak_s,mass", *rows, ""]))
    found = read_regions(tmp_path / "r.csv").regions
    assert found == {"k": {"audio": [voice(0, 1), voice(2, 3)]}, "l": {"video": [face(0, 1, 1.0, 0.5)]}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("k,audio,0,nan,,1", "line 2, column offset_s"),
        ("k,audio,1,0.5,,1", "line 2: region 1.0..0.5"),
        ("k,audio,-1,0.5,,1", "line 2: region -1.0"),
        ("k,audio,0,1,2,1", "line 2: peak at 2.0"),
        ("k,sound,0,1,,1", "line 2: modality 'sound'"),
        ("k,audio,0,1", "line 2: 4 cells"),
    ],
)
def test_faults_in_csv_are_named_by_their_line(row, words, tmp_path) -> None:
    (tmp_path / "r.csv").write_text(f"clip_id,modality,onset_s,offset_s,peak_s,mass\n{row}\n")
    with pytest.raises(ManifestError, match=re.escape(words)):
        read_regions(tmp_path / "r.csv")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        '{"format": "other"}',
        '{"format": "avser regions 1", "source": "", "clips": [3]}',
        '{"format": "avser regions 1", "source": "", "clips": [{"clip_id": "k", "duration_s": NaN, "emotion": "", '
        '"regions": {}}]}',
        '{"format": "avser regions 1", "source": "", "clips": ['
        + ", ".join(['{"clip_id": "k", "duration_s": null, "emotion": null, "regions": {}}'] * 2)
        + "]}",
        '{"format": "avser regions 1", "source": "", "clips": [{"clip_id": "k", "duration_s": null, "emotion": null, '
        '"regions": {"audio": [{"onset_s": 1, "offset_s": 0, "peak_s": null, "mass": 1}]}}]}',
    ],
)
def test_damaged_json_is_refused(text, tmp_path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ManifestError, match=r"r\.json"):
        read_regions(tmp_path / "r.json")


# --- TextGrid ----------------------------------------------------------------------------------------------------

SCRIPT = 'she said "no"'


def test_textgrid_is_the_text_that_praat_writes(tmp_path) -> None:
    files = write_regions(
        tmp_path / "a.TextGrid", {"k": {"audio": [voice(0.5, 1.5, 0.25, 1.0)]}}, {"k": 2}, format="textgrid"
    )
    lines = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = 2 \ntiers? <exists> \nsize = 3 \n'
        'item []: \n    item [1]:\n        class = "IntervalTier" \n        name = "voice" \n        xmin = 0 \n'
        "        xmax = 2 \n        intervals: size = 3 \n        intervals [1]:\n            xmin = 0 \n"
        '            xmax = 0.5 \n            text = "" \n        intervals [2]:\n            xmin = 0.5 \n'
        '            xmax = 1.5 \n            text = "mass 0.250" \n        intervals [3]:\n            xmin = 1.5 \n'
        '            xmax = 2 \n            text = "" \n    item [2]:\n        class = "IntervalTier" \n'
        '        name = "face" \n        xmin = 0 \n        xmax = 2 \n        intervals: size = 1 \n'
        '        intervals [1]:\n            xmin = 0 \n            xmax = 2 \n            text = "" \n'
        '    item [3]:\n        class = "TextTier" \n        name = "peaks" \n        xmin = 0 \n        xmax = 2 \n'
        '        points: size = 1 \n        points [1]:\n            number = 1 \n            mark = "voice" \n'
    )
    assert files == {"k": tmp_path / "a.TextGrid"}
    assert (tmp_path / "a.TextGrid").read_bytes().decode("utf-8") == lines


@given(
    edges=st.lists(st.floats(0, 9.9), min_size=2, max_size=12, unique=True).map(sorted),
    rest=st.floats(1e-4, 0.2),
    touching=st.booleans(),
    to_the_end=st.booleans(),
)
def test_intervals_of_a_textgrid_cover_the_clip(edges, rest, touching, to_the_end, tmp_path_factory) -> None:
    edges = [a for a, b in zip(edges, [*edges[1:], 10.0], strict=True) if b - a > 1e-4]
    found = [voice(a, b, 0.5, a) for a, b in list(pairwise(edges))[:: 1 if touching else 2]]
    duration = 9.9 + rest
    if to_the_end:
        found.append(voice(9.9, duration))
    path = tmp_path_factory.getbasetemp() / "any.TextGrid"
    write_regions(path, {"k": {"audio": found}}, {"k": duration}, format="textgrid")
    text = path.read_text(encoding="utf-8")
    xmax = re.search(r"^xmax = (\S+) $", text, re.M)[1]
    for tier in text.split("item [")[2:4]:
        bounds = re.findall(r"intervals \[\d+\]:\n +xmin = (\S+) \n +xmax = (\S+) \n", tier)
        assert (bounds[0][0], bounds[-1][1]) == ("0", xmax)
        assert all(a[1] == b[0] for a, b in pairwise(bounds))  # the same text, so the same number
        assert all(float(a) < float(b) for a, b in bounds)
        assert int(re.search(r"intervals: size = (\d+)", tier)[1]) == len(bounds)
    assert all(re.fullmatch(r"\d+(\.\d+)?", n) for n in re.findall(r"(?:xmin|xmax|number) = (\S+)", text))
    assert text.count('text = "mass') == len(found)


def grid_of(tmp_path: Path) -> Path:
    regions = {
        "k": {
            "audio": [voice(0.1, 0.4, 0.5, 0.3), voice(0.4, 1.3, 0.2, 0.9)],
            "video": [face(0.0, 0.5, 0.6, 0.3), face(1.9, 2.6, 0.1, 2.2)],
        }
    }
    write_regions(tmp_path, regions, {"k": 2.3}, format="textgrid", emotions={"k": SCRIPT}, source="Grad-CAM, ü")
    return tmp_path / "k.TextGrid"


WANTED = {
    "voice": [(0.1, 0.4, "0.500"), (0.4, 1.3, "0.200")],
    "face": [(0.0, 0.5, "0.600"), (1.9, 2.3, "0.100")],  # the last one ends with the clip
}


def test_quotes_in_a_textgrid_are_doubled(tmp_path) -> None:
    text = grid_of(tmp_path).read_text(encoding="utf-8")
    assert text.count('            text = "she said ""no""; Grad-CAM, ü; mass 0.500" \n') == 1


def test_neighbours_that_rounding_pushes_together_stay_apart(tmp_path) -> None:
    # 0.4005 s is 400 ms by rounding half to even, what stands a hair behind it is 401 ms
    found = [voice(0.1, 0.4005 + 1e-12), voice(0.4005, 0.9)]
    (path,) = write_regions(tmp_path, {"k": {"audio": found}}, format="eaf").values()
    root = ElementTree.parse(path).getroot()
    check_schema(root)
    assert [int(s.get("TIME_VALUE")) for s in root.iter("TIME_SLOT")] == [100, 401, 401, 900]


def test_praatio_reads_the_textgrid(tmp_path) -> None:
    praatio = pytest.importorskip("praatio.textgrid")
    grid = praatio.openTextgrid(str(grid_of(tmp_path)), includeEmptyIntervals=False)
    assert grid.tierNames == ("voice", "face", "peaks")
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 2.3)
    for name, wanted in WANTED.items():
        assert [tuple(e) for e in grid.getTier(name).entries] == [
            (a, b, f"{SCRIPT}; Grad-CAM, ü; mass {mass}") for a, b, mass in wanted
        ]
    points = [tuple(e) for e in grid.getTier("peaks").entries]
    assert points == [(0.3, "voice, face"), (0.9, "voice"), (2.2, "face")]


def test_textgrid_package_reads_the_textgrid(tmp_path) -> None:
    textgrid = pytest.importorskip("textgrid")
    grid = textgrid.TextGrid.fromFile(str(grid_of(tmp_path)))
    assert [tier.name for tier in grid] == ["voice", "face", "peaks"]
    for name, wanted in WANTED.items():
        cells = [(i.minTime, i.maxTime, i.mark) for i in grid.getFirst(name)]
        assert [c for c in cells if c[2]] == [(a, b, f"{SCRIPT}; Grad-CAM, ü; mass {mass}") for a, b, mass in wanted]
        assert cells[0][0] == 0
        assert cells[-1][1] == 2.3
    assert [(p.time, p.mark) for p in grid.getFirst("peaks")] == [(0.3, "voice, face"), (0.9, "voice"), (2.2, "face")]


def test_tiers_of_regions_that_a_curve_gives(tmp_path) -> None:
    # the last step, centred at 1.95 s, reaches to 2.0 s, beyond the clip's 1.97 s
    times = np.arange(20) * 0.1 + 0.05
    found = find_regions(Curve(times, np.r_[np.ones(17), 9, 9, 9]), "video", smooth_s=0)
    assert found[-1].end_s > 1.97
    for format, last in (("textgrid", "xmax = 1.97 "), ("eaf", 'TIME_VALUE="1970"')):
        (path,) = write_regions(tmp_path, {"k": {"video": found}}, {"k": 1.97}, format=format).values()
        assert last in path.read_text()
    (path,) = write_regions(tmp_path, {"k": {"video": found}}, {"k": 1.97}, format="csv").values()
    assert read_regions(path).regions["k"]["video"][-1].end_s == pytest.approx(2.0)


@pytest.mark.parametrize("format", ["textgrid", "eaf"])
@pytest.mark.parametrize(
    ("found", "words"),
    [([voice(0, 1), voice(0.9, 1.2)], "overlaps"), ([voice(2.0, 2.5)], "outside the clip of 2 s")],
)
def test_tiers_refuse_what_they_cannot_show(format, found, words, tmp_path) -> None:
    with pytest.raises(ManifestError, match=words):
        write_regions(tmp_path, {"k": {"audio": found}}, {"k": 2.0}, format=format)


def test_textgrid_needs_a_duration(tmp_path) -> None:
    with pytest.raises(ManifestError, match="'k': no duration"):
        write_regions(tmp_path, {"k": {"audio": [voice(0, 1)]}}, format="textgrid")


# --- ELAN --------------------------------------------------------------------------------------------------------

CHILDREN = {  # element -> children in the order of the schema EAF 3.0, as far as documents of regions have them
    "ANNOTATION_DOCUMENT": ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"],
    "HEADER": ["MEDIA_DESCRIPTOR", "PROPERTY"],
    "TIME_ORDER": ["TIME_SLOT"],
    "TIER": ["ANNOTATION"],
    "ANNOTATION": ["ALIGNABLE_ANNOTATION"],
    "ALIGNABLE_ANNOTATION": ["ANNOTATION_VALUE"],
}
ATTRIBUTES = {  # element -> (required, allowed beside them)
    "ANNOTATION_DOCUMENT": (
        {"DATE", "AUTHOR", "VERSION"},
        {"FORMAT", "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"},
    ),
    "HEADER": (set(), {"MEDIA_FILE", "TIME_UNITS"}),
    "MEDIA_DESCRIPTOR": ({"MEDIA_URL", "MIME_TYPE"}, {"RELATIVE_MEDIA_URL"}),
    "PROPERTY": (set(), {"NAME"}),
    "TIME_SLOT": ({"TIME_SLOT_ID"}, {"TIME_VALUE"}),
    "TIER": ({"TIER_ID", "LINGUISTIC_TYPE_REF"}, {"PARENT_REF"}),
    "ALIGNABLE_ANNOTATION": ({"ANNOTATION_ID", "TIME_SLOT_REF1", "TIME_SLOT_REF2"}, set()),
    "LINGUISTIC_TYPE": ({"LINGUISTIC_TYPE_ID"}, {"TIME_ALIGNABLE", "CONSTRAINTS", "GRAPHIC_REFERENCES"}),
    "CONSTRAINT": ({"STEREOTYPE"}, {"DESCRIPTION"}),
}


def check_schema(root: ElementTree.Element) -> None:
    """What the schema of EAF 3.0 asks of the elements that are here, and what ELAN asks of their times."""
    for element in root.iter():
        names = [child.tag for child in element]
        order = CHILDREN.get(element.tag, [])
        assert names == sorted(names, key=order.index), element.tag
        required, allowed = ATTRIBUTES.get(element.tag, (set(), set()))
        assert required <= set(element.attrib) <= required | allowed, element.tag
    assert [e.tag for e in root].count("HEADER") == [e.tag for e in root].count("TIME_ORDER") == 1
    ids = [e.get(n) for e in root.iter() for n in ("ANNOTATION_ID", "TIME_SLOT_ID", "STEREOTYPE") if e.get(n)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", i) for i in ids)
    slots = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE")) for s in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    tiers = {t.get("TIER_ID"): t for t in root.iter("TIER")}
    kinds = {k.get("LINGUISTIC_TYPE_ID"): k for k in root.iter("LINGUISTIC_TYPE")}
    stereotypes = {c.get("STEREOTYPE") for c in root.iter("CONSTRAINT")}
    assert len(tiers) == len(root.findall("TIER"))
    used = [a.get(n) for a in root.iter("ALIGNABLE_ANNOTATION") for n in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")]
    assert sorted(used) == sorted(slots)  # every annotation has slots of its own
    for tier in tiers.values():
        kind = kinds[tier.get("LINGUISTIC_TYPE_REF")]
        assert (kind.get("CONSTRAINTS") in stereotypes) == (tier.get("PARENT_REF") in tiers)
        spans = spans_of(tier, slots)
        assert all(a < b for a, b, _ in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        if parent := tier.get("PARENT_REF"):
            above = spans_of(tiers[parent], slots)
            assert all(any(a <= x and y <= b for a, b, _ in above) for x, y, _ in spans)


def spans_of(tier: ElementTree.Element, slots: dict) -> list[tuple[int, int, str]]:
    return [
        (slots[a.get("TIME_SLOT_REF1")], slots[a.get("TIME_SLOT_REF2")], a.findtext("ANNOTATION_VALUE"))
        for a in tier.iter("ALIGNABLE_ANNOTATION")
    ]


def document_of(tmp_path: Path) -> Path:
    regions = {
        "a&<b>": {
            "audio": [voice(0.1, 0.4, 0.5, 0.4), voice(0.4, 1.3, 0.2, 0.9)],
            "video": [face(0.0, 0.5, 0.6, 0.3), face(1.9, 2.6, 0.1, 2.2)],
        }
    }
    (path,) = write_regions(
        tmp_path / "out",
        regions,
        {"a&<b>": 2.3},
        format="eaf",
        media={"a&<b>": tmp_path / "my clips" / "é&1.mp4"},
        emotions={"a&<b>": "joy <&\"'>\x01\n"},
    ).values()
    return path


def test_eaf_is_built_by_the_schema(tmp_path) -> None:
    path = document_of(tmp_path)
    assert path.read_bytes().startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<ANNOTATION_DOCUMENT ")
    assert b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"' in path.read_bytes()
    root = ElementTree.parse(path).getroot()
    check_schema(root)
    assert (root.get("VERSION"), root.get("FORMAT")) == ("3.0", "3.0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", root.get("DATE"))
    assert root.find("HEADER").get("TIME_UNITS") == "milliseconds"
    slots = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE")) for s in root.iter("TIME_SLOT")}
    label = "joy <&\"'>  ; mass"
    assert {t.get("TIER_ID"): spans_of(t, slots) for t in root.iter("TIER")} == {
        "voice": [(100, 400, f"{label} 0.500"), (400, 1300, f"{label} 0.200")],
        "voice peaks": [(399, 400, "peak"), (900, 901, "peak")],
        "face": [(0, 500, f"{label} 0.600"), (1900, 2300, f"{label} 0.100")],
        "face peaks": [(300, 301, "peak"), (2200, 2201, "peak")],
    }
    assert {p.get("NAME"): p.text for p in root.iter("PROPERTY")} == {"clip_id": "a&<b>", "lastUsedAnnotationId": "8"}


def test_eaf_finds_its_recording(tmp_path) -> None:
    media = ElementTree.parse(document_of(tmp_path)).getroot().find("HEADER/MEDIA_DESCRIPTOR")
    assert media.get("MEDIA_URL") == (tmp_path / "my clips" / "é&1.mp4").resolve().as_uri()
    assert media.get("RELATIVE_MEDIA_URL") == "./../my%20clips/%C3%A9%261.mp4"
    assert media.get("MIME_TYPE") == "video/mp4"


def test_pympi_reads_the_eaf(tmp_path) -> None:
    elan = pytest.importorskip("pympi.Elan")
    document = elan.Eaf(str(document_of(tmp_path)))
    assert set(document.get_tier_names()) == {"voice", "voice peaks", "face", "face peaks"}
    assert [a[:2] for a in sorted(document.get_annotation_data_for_tier("voice"))] == [(100, 400), (400, 1300)]
    assert document.get_parameters_for_tier("face peaks")["PARENT_REF"] == "face"
    assert document.get_linked_files()[0]["RELATIVE_MEDIA_URL"].endswith("%261.mp4")


def test_eaf_without_regions_or_recording_is_built_by_the_schema(tmp_path) -> None:
    (path,) = write_regions(tmp_path, {"k": {"audio": [], "video": []}}, format="eaf").values()
    root = ElementTree.parse(path).getroot()
    check_schema(root)
    assert root.find("HEADER/MEDIA_DESCRIPTOR") is None
    assert [t.get("TIER_ID") for t in root.iter("TIER")] == ["voice", "voice peaks", "face", "face peaks"]


# --- places and names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["textgrid", "eaf"])
def test_hostile_clip_ids_stay_in_the_folder(format, tmp_path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    ids = [*HOSTILE, "x" * 400, "ä" * 200, "Case", "case", "cafe\u0301", "caf\u00e9", "ok-1.x"]
    regions = {clip_id: {"audio": [voice(0, 1)]} for clip_id in ids}
    files = write_regions(folder, regions, dict.fromkeys(ids, 2.0), format=format)
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert sorted(files.values()) == written
    assert len(written) == len(ids)
    assert {path.parent for path in written} == {folder}
    assert len({path.name.casefold() for path in written}) == len(ids)
    assert files["ok-1.x"].stem == "ok-1.x"
    assert not files["con"].name.lower().startswith("con")
    if format == "eaf":
        named = {
            c: ElementTree.parse(p).getroot().findtext("HEADER/PROPERTY[@NAME='clip_id']") for c, p in files.items()
        }
        assert {c: named[c] for c in ("<script>", "a/b", "Case", "case")} == {
            c: c for c in ("<script>", "a/b", "Case", "case")
        }


@given(st.lists(st.text("aA./é") | texts, unique=True, max_size=8))
def test_names_of_files_are_safe_apart_and_independent_of_order(clip_ids) -> None:
    names = file_names(clip_ids)
    assert names == file_names(clip_ids[::-1])
    assert set(names) == set(clip_ids)
    assert len({n.casefold() for n in names.values()}) == len(clip_ids)
    for name in names.values():
        assert name.strip(". ")
        assert not name.startswith(".")
        assert all(c.isalnum() or c in "._-" for c in name)


def test_a_name_that_is_made_does_not_depend_on_other_clips() -> None:
    assert file_names(["a/b", "a_b"]) == {"a/b": file_names(["a/b"])["a/b"], "a_b": "a_b"}
    assert file_names(["case", "Case"]) == file_names(["Case", "case"])
    assert file_names(["..", ".x"])[".."].startswith("_..-")


def test_an_id_that_looks_like_the_safe_name_of_another_gets_its_own_file() -> None:
    first = file_names(["a/b"])["a/b"]
    names = file_names(["a/b", first])
    assert len(set(names.values())) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_regions_give_the_same_bytes(format, two_clips, tmp_path) -> None:
    one = write_regions(tmp_path / "one", two_clips, DURATIONS, format=format)
    two = write_regions(tmp_path / "two", two_clips, DURATIONS, format=format)
    for clip_id in two_clips:
        assert one[clip_id].read_bytes() == two[clip_id].read_bytes()
        one[clip_id].read_bytes().decode("utf-8")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "regions",
    [
        {"k": {"audio": [face(0, 1)]}},
        {"k": {"sound": []}},
        {"k": {"audio": [voice(float("nan"), 1)]}},
        {"k": {"audio": [voice(0, float("inf"))]}},
        {"k": {"audio": [voice(1, 1)]}},
        {"k": {"audio": [voice(0, 1, float("nan"))]}},
        {"k": {"audio": [voice(0, 1, 1.0, 1.5)]}},
        {"\udc80": {"audio": [voice(0, 1)]}},
    ],
)
def test_faulty_regions_are_refused_and_nothing_is_written(format, regions, tmp_path) -> None:
    with pytest.raises(ManifestError, match="clip '"):
        write_regions(tmp_path, regions, dict.fromkeys(regions, 2.0), format=format)
    assert not list(tmp_path.iterdir())


def test_a_folder_may_be_called_like_a_file(two_clips, tmp_path) -> None:
    (tmp_path / "x.csv").mkdir()
    files = write_regions(tmp_path / "x.csv", two_clips, format="csv")
    assert set(files.values()) == {tmp_path / "x.csv" / "found_regions.csv"}


def test_settings_that_do_not_fit_are_refused(two_clips, tmp_path) -> None:
    with pytest.raises(ConfigError, match="allowed are csv, json, textgrid, eaf"):
        write_regions(tmp_path, two_clips, format="doc")
    with pytest.raises(ConfigError, match="cannot hold 2 clips"):
        write_regions(tmp_path / "x.eaf", two_clips, DURATIONS, format="eaf")


def test_json_is_plain_json(two_clips, tmp_path) -> None:
    write_regions(tmp_path / "r.json", two_clips, DURATIONS, format="json")
    clips = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["clips"]
    assert clips[0]["regions"]["audio"][0] == {"onset_s": 0.1, "offset_s": 0.4, "peak_s": 0.3, "mass": 0.5}
