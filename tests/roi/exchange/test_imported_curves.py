"""Curves of other tools: hand-made tables, every fault by its line, and the published attention over RAVDESS."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avser.errors import AvserError, ConfigError, ManifestError
from avser.roi.exchange.csv_lines import read_numbers
from avser.roi.exchange.imported_curves import BEYOND, NOT_KNOWN, NOT_MATCHED, OTHER_MODALITY, PADDING, read_curves
from avser.roi.intervals import describe_degenerate, find_regions

LONG = "clip_id,time_s,weight\n"


@pytest.fixture
def table(tmp_path):
    """Writes a table and gives its path."""

    def write(text: str, name: str = "curves.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def values(curve) -> list[float]:
    return curve.values.tolist()


# --- long tables -------------------------------------------------------------------------------------------------


def test_one_row_a_step(table) -> None:
    path = table("clip,score,time_s,weight\na,9,0.5,0.25\nb,9,0,-3\na,9,0.75,1e-3\n\nb,9,0.1,2\n")
    found = read_curves(path)
    assert list(found.curves) == ["a", "b"]
    assert found.curves["a"].times.tolist() == [0.5, 0.75]
    assert values(found.curves["a"]) == [0.25, 0.001]
    assert values(found.curves["b"]) == [-3, 2]  # signed weights stay signed
    assert found.left_out == []


@pytest.mark.parametrize(("first_frame", "times"), [(0, [0.04, 0.12]), (1, [0.0, 0.08])])
def test_frames_are_put_on_the_clock(table, first_frame, times) -> None:
    path = table("clip_id;frame;weight\na;1;0.5\na;3;0.5\n")
    found = read_curves(path, frame_rate_hz=25, first_frame=first_frame)
    assert found.curves["a"].times == pytest.approx(times)


def test_one_modality_of_several_is_read_and_the_other_reported(table) -> None:
    path = table("clip_id,modality,time_s,weight\na,audio,0,1\na,video,0,2\nb,video,0,3\na,audio,1,1\n")
    found = read_curves(path, modality="video")
    assert {k: values(c) for k, c in found.curves.items()} == {"a": [2], "b": [3]}
    (part,) = found.left_out
    assert (part.name, part.reason, part.num_steps, part.share, part.line) == ("a", OTHER_MODALITY, 2, 1.0, 2)
    with pytest.raises(ManifestError, match="curves of audio, video; say by `modality`"):
        read_curves(path)
    with pytest.raises(ManifestError, match="curves of audio, video"):
        read_curves(path, modality="fused")


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        'clip_id,weights\na,"[1, 2.5, -3]"\nb,"(4, 5)"\n',
        'clip;n;weight\na;3;[1, 2.5, -3]\nb;2;"[4,5]"\n',
        'a,"[1, 2.5, -3]"\nb,"[4, 5]"\n',
        "a;[1, 2.5, -3]\nb;[4, 5]\n",
        'a\t"[1, 2.5, -3,]"\nb\t[4, 5]\n',
    ],
)
def test_one_row_a_clip(table, text) -> None:
    found = read_curves(table(text), frame_rate_hz=10)
    assert {k: values(c) for k, c in found.curves.items()} == {"a": [1, 2.5, -3], "b": [4, 5]}
    assert found.curves["a"].times == pytest.approx([0, 0.1, 0.2])


def test_zeros_at_the_end_of_a_list_are_padding_and_reported(table) -> None:
    path = table('a,"[0.0, 0.5, 0.0, 0.5, 0.0, 0.0]"\nb,"[1.0, 0, 0, 0, 0, 0]"\n')
    found = read_curves(path, frame_rate_hz=10)
    assert values(found.curves["a"]) == [0, 0.5, 0, 0.5]
    assert [(p.name, p.line, p.reason, p.num_steps, p.share) for p in found.left_out] == [
        ("a", 1, PADDING, 2, 0.0),
        ("b", 2, PADDING, 5, 0.0),
    ]
    assert found.summary() == ["zeros at the end of the list, taken for padding: 7 steps under 2 names"]
    assert len(read_curves(path, frame_rate_hz=10, zero_padded=False).curves["a"]) == 6


def test_zeros_at_the_end_of_a_long_table_are_steps(table) -> None:
    assert values(read_curves(table(LONG + "a,0,1\na,1,0\n")).curves["a"]) == [1, 0]


def test_a_clip_has_the_frames_of_its_duration(table) -> None:
    """0.37 s at 10 Hz are round(3.7) = 4 frames; 0.34 s are 3."""
    path = table('a,"[0.1, 0.2, 0.3, 0.2, 0.2]"\nb,"[0.1, 0.2, 0.3, 0.4]"\n')
    found = read_curves(path, frame_rate_hz=10, durations={"a": 0.37, "b": 0.34})
    assert values(found.curves["a"]) == [0.1, 0.2, 0.3, 0.2]
    assert values(found.curves["b"]) == [0.1, 0.2, 0.3]
    assert [(p.name, p.reason, p.num_steps) for p in found.left_out] == [("a", BEYOND, 1), ("b", BEYOND, 1)]
    assert [p.share for p in found.left_out] == pytest.approx([0.2, 0.4])
    assert found.summary() == ["steps after the clip's end: 2 steps under 2 names; most from 'b': 40 % of its weight"]


def test_frames_counted_in_rows_end_where_those_of_a_list_do(table) -> None:
    rows = "".join(f"a,{i},0.2\n" for i in range(5))
    found = read_curves(table("clip_id,frame,weight\n" + rows), frame_rate_hz=10, durations={"a": 0.37})
    assert len(found.curves["a"]) == 4
    found = read_curves(table(LONG + "a,0.1,1\na,0.5,1\na,0.6,1\n"), durations={"a": 0.5})
    assert found.curves["a"].times.tolist() == [0.1, 0.5]  # a step at the very end is the clip's


def test_a_curve_that_mostly_lies_after_its_clip_is_refused(table) -> None:
    path = table('a,"[1, 1, 1, 1, 1]"\n')
    with pytest.raises(ManifestError, match=r"line 1.*3 of its 5 steps come after its end at 0\.2 s; is the frame"):
        read_curves(path, frame_rate_hz=10, durations={"a": 0.2})


# --- names -------------------------------------------------------------------------------------------------------


def test_names_are_renamed_by_the_group_of_the_whole_match(table) -> None:
    path = table('01-01-08.csv,"[1, 2]"\n01-02-08.csv,"[3, 4]"\nx01-01-09.csv,"[5, 6]"\n')
    found = read_curves(path, frame_rate_hz=10, rename="0[123]-(.+)[.]csv")
    assert {k: values(c) for k, c in found.curves.items()} == {"01-08": [1, 2], "02-08": [3, 4]}
    assert [(p.name, p.reason, p.line) for p in found.left_out] == [("x01-01-09.csv", NOT_MATCHED, 3)]


def test_unknown_clips_are_refused_or_reported(table) -> None:
    path = table('a.csv,"[1, 2]"\nz.csv,"[3, 4]"\n')
    settings = {"frame_rate_hz": 10, "durations": {"a": 0.2}, "rename": "(.+)[.]csv"}
    with pytest.raises(ManifestError, match=r"line 2: 'z\.csv' means 'z', which is no known clip.*such as 'a'"):
        read_curves(path, **settings)
    found = read_curves(path, **settings, ignore_unknown=True)
    assert list(found.curves) == ["a"]
    assert [(p.name, p.reason, p.num_steps) for p in found.left_out] == [("z.csv", NOT_KNOWN, 2)]


def test_a_clip_in_two_files_or_under_two_names_is_refused(table) -> None:
    one, two = table('a,"[1, 2]"\n', "one.csv"), table('c,"[1]"\na,"[1, 3]"\n', "two.csv")
    with pytest.raises(ManifestError, match=r"two\.csv, line 2: 'a' and 'a' \(.*one\.csv, line 1\) both mean clip 'a'"):
        read_curves([one, two], frame_rate_hz=10)
    both = table('x-a,"[1, 2]"\ny-a,"[1, 2]"\n')
    with pytest.raises(ManifestError, match="'y-a' and 'x-a'"):
        read_curves(both, frame_rate_hz=10, rename="[xy]-(.+)")


def test_several_files_are_one_set(table) -> None:
    paths = [table('a,"[1, 2]"\n', "one.csv"), table(LONG + "b,0,3\n", "two.csv")]
    assert list(read_curves(paths, frame_rate_hz=10).curves) == ["a", "b"]


def test_nothing_read_is_no_result(table) -> None:
    path = table('a,"[1, 2]"\n')
    with pytest.raises(ManifestError, match=r"no curve could be read.*does not match"):
        read_curves(path, frame_rate_hz=10, rename="b(.+)")
    with pytest.raises(ManifestError, match="no file was given"):
        read_curves([])


# --- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LONG + "a,0,1\na,-0.1,1\n", "line 3, column time_s: got '-0.1'; seconds count from the clip's start"),
        (LONG + "a,0.5,1\nb,0,1\na,0.5,1\n", "line 4: clip 'a' goes back from 0.5 s to 0.5 s (line 2)"),
        (LONG + "a,0,nan\n", "line 2, column weight: got 'nan'"),
        (LONG + "a,inf,1\n", "line 2, column time_s: got 'inf'"),
        (LONG + "a,0,\n", "line 2, column weight: got ''"),
        (LONG + 'a,0,"0,5"\n', "line 2, column weight: got '0,5'"),
        (LONG + " ,0,1\n", "line 2: the clip's name is empty"),
        (LONG + "a,0\n", "line 2: 2 cells under 3 columns"),
        (LONG, "no table of curves"),
        ("", "empty"),
        ("\n \n", "empty"),
        ("clip_id,weight\na,1\n", "no column says when"),
        ("name,time_s,weight\na,0,1\n", "needs the columns clip_id or clip"),
        ("clip_id,clip_id,time_s,weight\na,a,0,1\n", "two columns are called 'clip_id'"),
        ("clip_id,frame,weight\na,0.5,1\n", "line 2, column frame: got '0.5', expected a whole number"),
        ("clip_id,frame,weight\na,-1,1\n", "line 2, column frame: got '-1'; frames count from 0"),
        ("clip_id,modality,time_s,weight\na,mouth,0,1\n", "line 2, column modality: got 'mouth'"),
        ('a,"[1, 2]"\nb,"[]"\n', "line 2: an empty list"),
        ('a,"[1, 2]"\nb,"[0.0, 0.0]"\n', "line 2: clip 'b' has nothing but zeros"),
        ('a,"[1, NaN]"\n', "line 1: weight 2 of 2 is nan"),
        ('a,"[1, 1e999]"\n', "line 1: weight 2 of 2 is inf"),
        ('a,"[1, 2]"\nb,"[1 2]"\n', "line 2: got '[1 2]', not readable"),
        ('a,"[1, 2"\n', "line 1: got '[1, 2'"),
        ("clip_id,weights\na,\n", "line 2: got ''"),
        ("clip_id,weights\na,7\n", "line 2: got '7'"),
        ('a,"[1]"\nb,[1,2]\n', "line 2: got '[1'"),
        ('a,"[1]"\nb\n', "line 2: 1 cells"),
        ('a,"[1]\n', "not readable as CSV"),
    ],
)
def test_faults_are_named_by_file_and_line(table, text, words) -> None:
    with pytest.raises(ManifestError, match=re.escape("curves.csv") + ".*" + re.escape(words)):
        read_curves(table(text), frame_rate_hz=10)


@pytest.mark.parametrize(
    "text",
    [
        "[__import__('os').getpid()]",
        "[open]",
        "['1', '2']",
        "[True, False]",
        "[1+2j]",
        "[[1, 2]]",
        "{1: 2}",
        "('a')",
        "(1)",
        "[1, None]",
        "[" * 100_000,
        "[" + "-" * 100_000 + "1]",
        "[" + "9" * 5000 + "]",
        "[" + "9" * 400 + "]",
        "[" + "1," * 70_000 + "1]",
    ],
)
def test_lists_that_are_none_are_refused_and_never_run(text) -> None:
    with pytest.raises(ManifestError, match=r"curves\.csv, line 3"):
        read_numbers(text, "curves.csv, line 3")


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\x80\x04\x95pickle\xff")
    with pytest.raises(ManifestError, match="save it in UTF-8"):
        read_curves(tmp_path / "x.csv")
    with pytest.raises(ManifestError, match="no such file"):
        read_curves(tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "say by frame_rate_hz"),
        ({"frame_rate_hz": 0}, "above 0"),
        ({"frame_rate_hz": float("nan")}, "above 0"),
        ({"frame_rate_hz": 10, "rename": "a"}, "one group"),
        ({"frame_rate_hz": 10, "rename": "("}, "no regular expression"),
        ({"frame_rate_hz": 10, "modality": "mouth"}, "allowed are audio, video, fused"),
        ({"frame_rate_hz": 10, "durations": {"a": float("nan")}}, "clip 'a' lasts nan"),
    ],
)
def test_settings_that_do_not_fit_are_refused(table, settings, words) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_curves(table('a,"[1, 2]"\n'), **settings)


# --- the published attention over the faces of RAVDESS -----------------------------------------------------------

NTSC_HZ = 29.97


def flac_seconds(path: Path) -> float:
    """Duration from the STREAMINFO block of a FLAC file (RFC 9639): 20 bits sample rate, 36 bits samples."""
    with path.open("rb") as file:
        packed = int.from_bytes(file.read(26)[18:26], "big")
    return (packed & (2**36 - 1)) / (packed >> 44)


@pytest.mark.real_data
def test_published_attention_over_ravdess(real_data) -> None:
    files = sorted((real_data / "ravdess_face").glob("attention_fold*.csv"))
    voices = sorted((real_data / "ravdess_speech").glob("Actor_*/03-01-*.flac"))
    if not files or not voices:
        pytest.skip("no RAVDESS recordings or no published attention")
    durations = {path.stem[3:]: flac_seconds(path) for path in voices}
    found = read_curves(files, frame_rate_hz=NTSC_HZ, durations=durations, rename=r"0[123]-(.+)\.csv")
    assert sorted(found.curves) == sorted(durations)
    assert len(durations) == 1440
    # every weight of the files is in a curve or in the report
    with files[0].open(newline="", encoding="utf-8") as file:
        lengths = {name: text.count(",") + 1 for name, text in csv.reader(file)}
    left: Counter[str] = Counter()
    for part in found.left_out:
        left[part.name] += part.num_steps
    assert all(left[n] + len(found.curves[n[3:-4]]) == length for n, length in lengths.items())
    # the softmax was taken over the clip's frames alone: what is left sums to 1, but for one clip that is cut
    cut = [part for part in found.left_out if part.reason == BEYOND]
    assert [(part.name, part.num_steps) for part in cut] == [("01-01-08-02-02-02-16.csv", 11)]
    sums = {k: c.values.sum() for k, c in found.curves.items() if k != "01-08-02-02-02-16"}
    assert np.allclose(list(sums.values()), 1, atol=1e-6)
    frames = {k: round(durations[k] * NTSC_HZ) for k in durations}
    assert Counter(len(c) - frames[k] for k, c in found.curves.items()) == {0: 956, -1: 481, -2: 1, -4: 1, -11: 1}
    assert all(c.times[-1] < durations[k] for k, c in found.curves.items())
    flat = [k for k, c in found.curves.items() if describe_degenerate(c) == "all steps have the same value"]
    assert len(flat) == 44
    assert not any(find_regions(found.curves[k], "video") for k in flat)


def test_every_fault_is_one_that_the_command_line_prints(table) -> None:
    with pytest.raises(AvserError):
        read_curves(table("a,b\n1,2\n"))
