"""Reading ahead changes neither the items nor their order, and leaves no thread behind."""

import threading
import time

import pytest

from avser.recordings.ahead import read_ahead


def test_items_come_in_order_and_at_most_so_many_ahead():
    made = 0

    def numbers():
        nonlocal made
        for i in range(100):
            made += 1
            yield i

    ahead = read_ahead(numbers(), 5)
    for i in range(100):
        assert next(ahead) == i
        assert made <= i + 8
    assert next(ahead, None) is None


def test_an_error_comes_after_the_items_before_it():
    def failing():
        yield 1
        raise KeyError("broken")

    ahead = read_ahead(failing(), 5)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken"):
        next(ahead)


def test_closing_ends_the_thread_and_closes_what_is_read():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    before = threading.active_count()
    ahead = read_ahead(endless(), 2)
    next(ahead)
    ahead.close()
    assert closed == [True]
    assert threading.active_count() == before


def test_work_on_both_sides_overlaps():
    def slow():
        for i in range(10):
            time.sleep(0.05)
            yield i

    begun = time.perf_counter()
    for _ in read_ahead(slow(), 3):
        time.sleep(0.05)
    assert time.perf_counter() - begun < 0.9  # one after the other: 1 s
