from __future__ import annotations

from pathlib import Path

import pytest

from avser.config import load_config
from avser.data.manifest import ClipRow, read_manifest
from avser.errors import ManifestError
from preprocessing.adapter import CorpusReport, find_media, first_of, run_adapter


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
    assert files.notes == []
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
    assert files.notes == [
        "2 files that are there twice; each was taken once (x/copy/a.wav, x/other/a.wav (of another size))"
    ]


def test_pointers_and_empty_files_do_not_count(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72804\n"
    for name in "abcd":
        touch(tmp_path / f"{name}.wav", pointer)
    touch(tmp_path / "e.wav", b"")
    touch(tmp_path / "copies" / "a.wav")
    files = find_media(tmp_path, [".wav"])
    assert files.by_name == {"a": {".wav": "copies/a.wav"}}
    assert files.notes == [
        "4 Git LFS pointers instead of media; run `git lfs pull` in the corpus (a.wav, b.wav, c.wav, ...)",
        "1 empty files; download them again (e.wav)",
    ]


def test_linked_folders_are_followed_but_not_in_a_circle(tmp_path):
    touch(tmp_path / "elsewhere" / "a.wav")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "audio").symlink_to(tmp_path / "elsewhere")
    (raw / "circle").symlink_to(raw)
    (raw / "dangling.wav").symlink_to(tmp_path / "nowhere")
    assert find_media(raw, [".wav"]).by_name == {"a": {".wav": "audio/a.wav"}}


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


def test_nothing_found_writes_nothing(tmp_path, capsys):
    assert run_adapter(lambda raw: CorpusReport(), tmp_path, None) == 1
    assert "no clip found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["synthetic", "ravdess", "cremad"])
def test_each_corpus_has_a_valid_configuration(name):
    config = load_config([name])
    assert config.data.manifest.endswith(".csv")
    assert config.data.cache
