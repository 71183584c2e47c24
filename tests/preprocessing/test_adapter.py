from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from avser.config import load_config
from avser.data.manifest import ClipRow, read_manifest
from avser.errors import ManifestError
from preprocessing.adapter import CorpusReport, LeftOut, find_file, find_media, first_of, run_adapter


def touch(path: Path, content: bytes = b"media") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def one_clip(raw: Path) -> CorpusReport:
    return CorpusReport([ClipRow("a", "toy", "1", "anger", "sub/a.wav")], ["a note"])


# --- finding files ---


def test_files_by_name_at_any_depth(tmp_path):
    touch(tmp_path / "AudioWAV" / "a.WAV")
    touch(tmp_path / "deep" / "er" / "a.mp4")
    touch(tmp_path / "b.wav")
    touch(tmp_path / "c.txt")
    files = find_media(tmp_path, [".wav", ".mp4"])
    assert files.by_name == {"a": {".wav": "AudioWAV/a.WAV", ".mp4": "deep/er/a.mp4"}, "b": {".wav": "b.wav"}}
    assert files.left_out == []
    assert first_of(files.by_name["a"], [".flv", ".mp4", ".wav"]) == "deep/er/a.mp4"
    assert first_of(files.by_name["b"], [".mp4"]) == ""


def test_what_macos_leaves_behind_is_passed_over(tmp_path):
    touch(tmp_path / "__MACOSX" / "a.wav")
    touch(tmp_path / "._a.wav")
    touch(tmp_path / ".trash" / "a.wav")
    assert find_media(tmp_path, [".wav"]).by_name == {}


def test_doubles_count_once_and_are_named(tmp_path):
    touch(tmp_path / "x" / "a.wav")
    touch(tmp_path / "x" / "copy" / "a.wav")
    touch(tmp_path / "x" / "other" / "a.wav", b"another take")
    files = find_media(tmp_path, [".wav"])
    assert files.by_name == {"a": {".wav": "x/a.wav"}}
    assert files.left_out == [
        LeftOut("x/copy/a.wav", "double", "the same as x/a.wav, which was taken"),
        LeftOut("x/other/a.wav", "double", "differs from x/a.wav, which was taken"),
    ]


def test_doubles_of_one_size_are_compared_by_content(tmp_path):
    touch(tmp_path / "a.wav", b"one")
    touch(tmp_path / "x" / "a.wav", b"two")
    assert find_media(tmp_path, [".wav"]).left_out[0].reason == "differs from a.wav, which was taken"


def test_pointers_and_empty_files_do_not_count(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72804\n"
    for name in "abcd":
        touch(tmp_path / f"{name}.wav", pointer)
    touch(tmp_path / "e.wav", b"")
    touch(tmp_path / "copies" / "a.wav")
    files = find_media(tmp_path, [".wav"])
    assert files.by_name == {"a": {".wav": "copies/a.wav"}}
    assert [(entry.name, entry.kind) for entry in files.left_out] == [
        *[(f"{name}.wav", "pointer") for name in "abcd"],
        ("e.wav", "empty"),
    ]
    assert "git lfs pull" in files.left_out[0].reason


def test_only_a_true_pointer_counts_as_one(tmp_path):
    touch(tmp_path / "a.wav", b"version https://git-lfs.github.com/spec/v1\n")
    touch(tmp_path / "b.wav", b"version https://gitlab")
    files = find_media(tmp_path, [".wav"])
    assert files.by_name == {"b": {".wav": "b.wav"}}


def test_the_adapter_says_what_a_path_is(tmp_path):
    touch(tmp_path / "anger" / "a.wav")
    touch(tmp_path / "b.wav")
    touch(tmp_path / "c.wav")

    def name_of(path):
        if path.stem == "c":
            return LeftOut(str(path), "bad", "known to be broken")
        return f"{path.parts[0]}-{path.stem}" if len(path.parts) > 1 else None

    files = find_media(tmp_path, [".wav"], name_of)
    assert files.by_name == {"anger-a": {".wav": "anger/a.wav"}}
    assert files.left_out == [
        LeftOut("b.wav", "foreign", "not named like a clip of this corpus"),
        LeftOut("c.wav", "bad", "known to be broken"),
    ]


def test_what_cannot_be_media_is_listed(tmp_path):
    (tmp_path / "dead.wav").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / os.fsdecode(b"gr\xfc\xdf.wav")).write_bytes(b"media")
    files = find_media(tmp_path, [".wav"])
    assert files.by_name == {}
    found = {entry.name: (entry.kind, entry.reason) for entry in files.left_out}
    assert found["dead.wav"][0] == "pointer"
    assert "git annex get" in found["dead.wav"][1]
    assert found["pipe.wav"] == ("bad", "not a plain file")
    assert found["gr??.wav"][0] == "bad"
    assert "rename it" in found["gr??.wav"][1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_listed(tmp_path):
    touch(tmp_path / "a.wav").chmod(0)
    touch(tmp_path / "shut" / "b.wav").parent.chmod(0)
    touch(tmp_path / "c.wav")
    files = find_media(tmp_path, [".wav"])
    (tmp_path / "shut").chmod(0o700)
    assert list(files.by_name) == ["c"]
    reason = "cannot be read: Permission denied"
    assert files.left_out == [LeftOut("shut", "bad", reason), LeftOut("a.wav", "bad", reason)]


def test_linked_folders_are_followed_but_not_in_a_circle(tmp_path):
    touch(tmp_path / "elsewhere" / "a.wav")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "audio").symlink_to(tmp_path / "elsewhere")
    (raw / "circle").symlink_to(raw)
    (raw / "dangling.wav").symlink_to(tmp_path / "nowhere")
    assert find_media(raw, [".wav"]).by_name == {"a": {".wav": "audio/a.wav"}}


def test_a_table_is_found_at_its_least_depth(tmp_path):
    touch(tmp_path / "a" / "b" / "table.csv")
    touch(tmp_path / "z" / "table.csv")
    assert find_file(tmp_path, "table.csv") == tmp_path / "z" / "table.csv"
    (tmp_path / "table.csv").symlink_to(tmp_path / "nowhere")
    assert find_file(tmp_path, "table.csv") == tmp_path / "z" / "table.csv"
    assert find_file(tmp_path, "other.csv") is None


def test_no_folder(tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        find_media(tmp_path / "gone", [".wav"])


# --- the manifest's place ---


def test_in_the_raw_folder_by_default(tmp_path, capsys):
    raw = touch(tmp_path / "raw" / "sub" / "a.wav").parents[1]
    assert run_adapter(one_clip, raw, None) == 0
    manifest = read_manifest(raw / "manifest.csv")
    assert manifest.rows[0].audio == "sub/a.wav"
    assert manifest.audio_path(manifest.rows[0]).is_file()
    assert capsys.readouterr().out.splitlines() == ["a note", f"{raw / 'manifest.csv'}: 1 clips of 1 speakers"]


def test_above_the_raw_folder(tmp_path):
    raw = touch(tmp_path / "raw" / "sub" / "a.wav").parents[1]
    assert run_adapter(one_clip, raw, tmp_path / "m.csv") == 0
    assert read_manifest(tmp_path / "m.csv").rows[0].audio == "raw/sub/a.wav"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "raw"]


def test_relative_paths(tmp_path, monkeypatch):
    touch(tmp_path / "raw" / "sub" / "a.wav")
    monkeypatch.chdir(tmp_path)
    assert run_adapter(one_clip, Path("raw"), Path("m.csv")) == 0
    assert read_manifest("m.csv").rows[0].audio == "raw/sub/a.wav"


def test_elsewhere_by_a_link_that_a_second_run_keeps(tmp_path, capsys):
    raw = touch(tmp_path / "raw" / "sub" / "a.wav").parents[1]
    out = tmp_path / "work" / "m.csv"
    for _ in range(2):
        assert run_adapter(one_clip, raw, out) == 0
        assert "m_raw links to" in capsys.readouterr().out
    manifest = read_manifest(out)
    assert manifest.rows[0].audio == "m_raw/sub/a.wav"
    assert manifest.audio_path(manifest.rows[0]).is_file()
    assert sorted(path.name for path in raw.iterdir()) == ["sub"]


def test_a_link_to_another_corpus_is_not_replaced(tmp_path, capsys):
    raw = touch(tmp_path / "raw" / "sub" / "a.wav").parents[1]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "m_raw").symlink_to(tmp_path)
    assert run_adapter(one_clip, raw, tmp_path / "work" / "m.csv") == 1
    assert "is in the way" in capsys.readouterr().err
    assert (tmp_path / "work" / "m_raw").resolve() == tmp_path.resolve()
    assert not (tmp_path / "work" / "m.csv").exists()


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    raw = touch(tmp_path / "raw" / "sub" / "a.wav").parents[1]
    assert run_adapter(one_clip, raw, touch(tmp_path / "file") / "m.csv") == 1
    assert "give an --out elsewhere" in capsys.readouterr().err


def test_what_was_left_out_stands_beside_the_manifest(tmp_path, capsys):
    left_out = [LeftOut("b", "missing", "no file"), LeftOut("sub/c, d.wav", "bad", 'says "fear", is anger')]
    report = CorpusReport([ClipRow("a", "toy", "1", "anger", "a.wav")], [], left_out)
    table = tmp_path / "m.left_out.csv"
    assert run_adapter(lambda raw: report, tmp_path, tmp_path / "m.csv") == 0
    rows = list(csv.reader(table.open(newline="")))
    assert rows == [["name", "kind", "reason"], *[[entry.name, entry.kind, entry.reason] for entry in left_out]]
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "1 clips that the corpus should hold are missing (b)",
        'sub/c, d.wav: says "fear", is anger',
        f"{table}: 2 lines on what was left out",
        f"{tmp_path / 'm.csv'}: 1 clips of 1 speakers",
    ]
    report.left_out.clear()
    assert run_adapter(lambda raw: report, tmp_path, tmp_path / "m.csv") == 0
    assert not table.exists()  # an old table would lie about the new manifest


def test_nothing_found_writes_nothing(tmp_path, capsys):
    assert run_adapter(lambda raw: CorpusReport(), tmp_path, None) == 1
    assert "no clip found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["synthetic", "ravdess", "cremad", "emodb", "savee", "tess", "enterface05"])
def test_each_corpus_has_a_valid_configuration(name):
    config = load_config([name])
    assert config.data.manifest.endswith(".csv")
    assert config.data.cache
