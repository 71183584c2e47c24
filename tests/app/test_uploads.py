"""Uploads lie under names of ours, belong to one person, and are gone when they are told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from avser.app.uploads import Upload, UploadRoot, shown_name
from avser.errors import MediaError


@pytest.fixture
def root():
    made = UploadRoot()
    yield made
    made.close()


def arrive(root: UploadRoot, name: str, content: bytes = b"x") -> Path:
    folder = root.incoming / "hash"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def test_what_is_taken_is_moved_and_named_anew(root: UploadRoot) -> None:
    upload = root.take(arrive(root, "<b>my clip.MP4"))
    assert root.files() == [upload.path]
    assert (upload.path.name, upload.name) == ("recording.mp4", "<b>my clip.MP4")


def test_nothing_but_what_has_arrived_can_be_taken_or_removed(root: UploadRoot, tmp_path: Path) -> None:
    mine = tmp_path / "mine.mp4"
    mine.write_bytes(b"x")
    link = root.incoming / "link.mp4"
    link.symlink_to(mine)
    taken = root.take(arrive(root, "a.mp4"))
    for path in (mine, link, root.incoming / ".." / "taken" / taken.path.parent.name / taken.path.name, root.incoming):
        with pytest.raises(MediaError, match="no longer here"):
            root.take(path)
    root.remove(Upload(mine, "mine.mp4"))
    assert mine.exists()
    assert taken.path.exists()


def test_two_people_may_give_the_same_file(root: UploadRoot) -> None:
    """The framework stores equal files once, under their hash."""
    one = root.take(arrive(root, "a.mp4"))
    other = root.take(arrive(root, "a.mp4"))
    root.remove(one)
    assert root.files() == [other.path]


def test_nothing_is_left(root: UploadRoot) -> None:
    upload = root.take(arrive(root, "a.mp4"))
    (root.incoming / "tmpabc").touch()  # the framework leaves an empty file for each
    root.remove(root.take(arrive(root, "b.mp4")))
    root.remove(upload)
    root.remove(upload)
    root.remove(None)
    assert root.files() == []
    assert list(root.incoming.iterdir()) == []
    root.close()
    assert not root.folder.exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("Grüße 名前.mp4", "Grüße 名前.mp4"),
        ("\u202e4pm.exe\x00\n\x1b[31m", "4pm.exe[31m"),
        ("", "recording"),
        ("a" * 300 + ".mp4", "a" * 44 + "…" + "a" * 8 + ".mp4"),
    ],
)
def test_names_are_shown_as_one_short_line(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@pytest.mark.parametrize("name", ["a.mp4;rm", "a.%03d", "noending", "a." + "x" * 40])
def test_an_odd_ending_is_dropped(root: UploadRoot, name: str) -> None:
    assert root.take(arrive(root, name)).path.name == "recording"
