"""Work in a thread of its own: told step by step, ended when nobody waits, its errors handed over."""

from __future__ import annotations

import threading

import pytest

from avser.app.progress import GoneAwayError, Progress, follow


def test_steps_come_before_the_result() -> None:
    def work(tell):
        tell(Progress("read"))
        return 42

    assert list(follow(work))[-1] == 42


def test_errors_are_raised_where_the_answer_is_waited_for() -> None:
    def work(tell):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(follow(work))


def test_whoever_leaves_ends_the_work() -> None:
    asked, ended = threading.Event(), threading.Event()

    def work(tell):
        tell(Progress("read"))
        asked.wait(10)
        try:
            tell(Progress("faces"))
        except GoneAwayError:
            ended.set()
            raise

    waiting = follow(work)
    assert next(waiting) == Progress("read")
    waiting.close()
    asked.set()
    assert ended.wait(10)


def test_of_many_steps_the_newest_is_told() -> None:
    done = threading.Event()

    def work(tell):
        for i in range(1000):
            tell(Progress("faces", i / 1000))
        done.set()

    waiting = follow(work)
    next(waiting)
    done.wait(10)
    assert len(list(waiting)) < 5
