"""The record of a run: the commit it was trained from, and time and memory that add up over its starts."""

import json
import mmap
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from avser.training import fit as fit_module
from avser.training.record import Stopwatch, find_commit, peak_memory_bytes, read_record
from avser.training.run import train


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "code.py").write_text("1")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)
    return folder


def test_a_changed_checkout_is_dirty(checkout):
    commit = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
    assert find_commit(checkout) == {"commit": commit, "dirty": False}
    (checkout / "new.txt").write_text("not part of it")
    assert find_commit(checkout) == {"commit": commit, "dirty": False}
    (checkout / "code.py").write_text("2")
    assert find_commit(checkout) == {"commit": commit, "dirty": True}


def test_a_folder_inside_another_repository_has_no_commit(checkout, tmp_path):
    (checkout / "site-packages").mkdir()
    assert find_commit(checkout / "site-packages") is None
    assert find_commit(tmp_path) is None
    assert find_commit(tmp_path / "nowhere") is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert find_commit(checkout) is None


def test_a_hook_of_another_repository_does_not_mislead(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert find_commit(checkout)


@contextmanager
def held(num_bytes: int) -> Iterator[None]:
    """Memory that the system gives and gets back; an allocator may have some in store, and keeps what is freed."""
    with mmap.mmap(-1, num_bytes) as memory:
        memory.write(b"x" * num_bytes)
        yield


def test_the_peak_is_of_this_run_and_of_this_process():
    with held(80 * 2**20):
        before = peak_memory_bytes()
    watch = Stopwatch(torch.device("cpu"))
    own = watch.record().peak_memory_bytes
    assert own < before - 50 * 2**20
    with held(80 * 2**20):
        assert watch.record().peak_memory_bytes > own + 50 * 2**20


def test_a_run_leaves_a_record_and_a_resumed_one_adds_to_it(tiny_config, monkeypatch):
    config = tiny_config("name=recorded", "model.modalities=[audio]", "training.epochs=3")
    evaluate, calls = fit_module.evaluate, []

    def stop_in_the_second_epoch(*args):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError
        return evaluate(*args)

    monkeypatch.setattr(fit_module, "evaluate", stop_in_the_second_epoch)
    with pytest.raises(InterruptedError):
        train(config)
    monkeypatch.undo()
    folder = tiny_config("name=recorded").runs + "/recorded"
    first = json.loads(open(folder + "/record.json").read())  # noqa: PTH123, SIM115
    assert (first["num_epochs"], first["num_starts"], first["num_processes"]) == (1, 1, 1)
    whole = read_record(train(config, resume=True))
    assert (whole.num_epochs, whole.num_starts) == (3, 2)
    assert whole.seconds > first["seconds"] > 0
    assert whole.peak_memory_bytes >= first["peak_memory_bytes"] > 10 * 2**20
    assert whole.peak_device_memory_bytes is None or torch.cuda.is_available()
    assert whole.machine
    assert whole.memory_bytes > 2**28
    again = read_record(train(config, overwrite=True))
    assert again.num_starts == 1
