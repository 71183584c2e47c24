from __future__ import annotations

import re
import time

import pytest

from avser.data import progress
from avser.data.progress import with_progress


def slow(values, seconds=0.01):
    for value in values:
        time.sleep(seconds)
        yield value


def show(values, total, **more):
    return list(with_progress(values, total, verb="caching", has_failed=lambda value: value < 0, **more))


def test_a_log_has_one_line_at_the_end_of_a_short_run(capsys):
    assert show(slow([1, -2, 3]), 3) == [1, -2, 3]
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"caching 3/3, 1 failed, \d+\.\d clips/s, 0:00:00 left\n", err)


def test_a_log_of_a_long_run_has_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.1)
    show(slow(range(30)), 30)
    lines = capsys.readouterr().err.splitlines()
    assert 2 < len(lines) < 6
    counts = [int(line.split()[1].split("/")[0]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 30


def test_rate_and_time_left_are_told(capsys, monkeypatch):
    clock = iter([0.0, 40.0, 80.0, 120.0, 160.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    for _ in with_progress(iter("abcd"), 400, verb="caching"):
        pass
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "caching 1/400, 40.0 s/clip, 4:26:00 left"


def test_a_terminal_has_a_bar_that_counts_failures(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    show(slow([1, -2, -3]), 3)
    err = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capfd.readouterr().err)
    assert "3/3 2 failed, " in err
    assert re.search(r"\d clips/s .*left", err)


@pytest.mark.parametrize(("values", "shown"), [([1, 2], False), ([], True)])
def test_silence_where_nothing_is_to_be_shown(capsys, values, shown):
    assert show(values, len(values), shown=shown) == values
    assert capsys.readouterr().err == ""


def test_what_the_loop_raises_passes(capsys):
    def broken():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(broken(), 5)
