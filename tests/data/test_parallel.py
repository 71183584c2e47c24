from __future__ import annotations

import os

import pytest

from avser.data.parallel import map_chunks


def squares(chunk: list[int]) -> list[int]:
    if 7 in chunk:
        os.abort()  # what a segmentation fault in a decoder does
    return [i * i for i in chunk]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_has_one_result(workers):
    items = list(range(8, 31))
    results = map_chunks(squares, items, workers=workers, chunk_size=4, on_crash=lambda i: -i)
    assert sorted(results) == [i * i for i in items]


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_an_item_that_kills_its_process_is_named_and_the_others_go_on():
    results = list(map_chunks(squares, list(range(20)), workers=2, chunk_size=2, on_crash=lambda i: -i))
    assert sorted(results) == sorted(-7 if i == 7 else i * i for i in range(20))


def test_nothing_to_do():
    assert list(map_chunks(squares, [], workers=2, chunk_size=2, on_crash=lambda i: -i)) == []


def test_an_error_of_the_function_itself_is_raised():
    with pytest.raises(TypeError):
        list(map_chunks(squares, ["x"], workers=2, chunk_size=1, on_crash=len))  # type: ignore[list-item]
