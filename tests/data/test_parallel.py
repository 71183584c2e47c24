from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from avser.data.parallel import map_chunks
from avser.errors import ConfigError


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


def test_an_unknown_backend_is_refused_at_once():
    with pytest.raises(ConfigError, match="backend='dask': allowed are local, ray"):
        map_chunks(squares, [1], workers=1, chunk_size=1, on_crash=lambda i: -i, backend="dask")


def test_ray_that_is_not_installed_is_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # what makes `import ray` fail
    with pytest.raises(ConfigError, match=r"pip install 'avser\[cluster\]'"):
        map_chunks(squares, [1], workers=1, chunk_size=1, on_crash=lambda i: -i, backend="ray")


# --- Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'avser[cluster]'")
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def on_ray(function: Callable, items: list, **settings) -> Iterator:
    return map_chunks(
        function, items, backend="ray", on_crash=lambda i: -i, **{"workers": 2, "chunk_size": 4} | settings
    )


def where(chunk: list[float]) -> list[tuple[float, int]]:
    time.sleep(max(chunk))
    return [(item, os.getpid()) for item in chunk]


def test_ray_gives_every_item_one_result_from_another_process(local_ray):
    items = [i / 1000 for i in range(20)]
    results = list(on_ray(where, items))
    assert sorted(item for item, _ in results) == items
    assert os.getpid() not in {process for _, process in results}


def test_ray_yields_what_is_ready_before_the_slowest(local_ray):
    results = on_ray(where, [2.0, 0.0, 0.1, 0.2], chunk_size=1)
    assert [item for item, _ in results] == [0.0, 0.1, 0.2, 2.0]


def test_ray_names_the_item_that_kills_its_process(local_ray):
    assert sorted(on_ray(squares, list(range(20)))) == sorted(-7 if i == 7 else i * i for i in range(20))


def test_ray_raises_an_error_of_the_function_itself(local_ray):
    with pytest.raises(TypeError) as caught:
        list(on_ray(squares, ["x"]))
    assert type(caught.value) is TypeError  # not one of Ray's own, whose text is a page long


def test_a_cluster_that_is_not_there_is_advice(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'avser[cluster]'")

    def refuse(**settings):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)  # the real one tries for half a minute
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=127.0.0.1:1 cannot be used \(no route to host\)"):
        list(on_ray(squares, [1]))
