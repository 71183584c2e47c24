"""Runs as jobs: the same results in this process, in others and on Ray; killed and dead ones go on."""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from safetensors.torch import load_file

from avser.config import Config, config_to_yaml, load_config
from avser.errors import AvserError
from avser.experiments.runs.grid import run_folder, run_grid
from avser.experiments.runs.job import LOG_FILE
from tests.conftest import PROJECT, tiny_sources

VOICE = ["model.modalities=[audio]", "training.epochs=2", "training.keep_in_memory=true"]


@pytest.fixture(scope="module")
def configs(tiny_corpus):
    """Builds the runs of two seeds and one that fails, below a folder."""

    def build(folder: Path) -> list[Config]:
        sources = [*tiny_sources(tiny_corpus), *VOICE, f"runs={folder}"]
        good = [load_config([*sources, f"seed={seed}", f"name=seed{seed}"]) for seed in (0, 1)]
        return [*good, load_config([*sources, "name=broken", "model.audio.spectrogram.hop_s=0.1"])]

    return build


@pytest.fixture(scope="module")
def serial(configs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    return run_grid(configs(folder), threads=1), folder


def results_of(folder: Path) -> dict[str, object]:
    """What the finished runs below a folder found, and their weights, bit for bit."""
    found: dict[str, object] = {}
    for path in folder.rglob("metrics.json"):
        run, metrics = path.parent, json.loads(path.read_text())
        found[f"{run.name} scores"] = [metrics["val"], metrics["test"]]
        found[f"{run.name} predictions"] = (run / "predictions.csv").read_bytes()
        weights = load_file(run / "model.safetensors")
        found[f"{run.name} weights"] = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
    return found


def test_serial_runs_end_as_asked(serial):
    outcomes, folder = serial
    assert [(o.trained, bool(o.reason), o.died) for o in outcomes] == [(True, False, False)] * 2 + [
        (False, True, False)
    ]
    assert "too coarse" in outcomes[2].reason
    assert len(results_of(folder)) == 6


def test_every_run_has_a_log_of_its_own(serial):
    _, folder = serial
    for seed in (0, 1):
        log = (folder / f"seed{seed}" / LOG_FILE).read_text()
        assert log.startswith(f"--- seed{seed}, ")
        assert [line.split(":")[0] for line in log.splitlines() if line.startswith("epoch ")] == ["epoch 1", "epoch 2"]
        assert "done in " in log
        assert "\x1b" not in log
    assert "ConfigError" in (folder / "broken" / LOG_FILE).read_text()


def test_two_processes_find_the_same(serial, configs, tmp_path):
    outcomes = run_grid(configs(tmp_path), jobs=2, threads=1)
    assert outcomes == serial[0]
    assert results_of(tmp_path) == results_of(serial[1])
    assert "epoch 2: " in (tmp_path / "seed1" / LOG_FILE).read_text()


def test_a_local_ray_finds_the_same(serial, configs, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'avser[cluster]'")
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        outcomes = run_grid(configs(tmp_path), cluster="ray", threads=1)
        assert outcomes == serial[0]
        assert results_of(tmp_path) == results_of(serial[1])
        assert f"process {os.getpid()}" not in (tmp_path / "seed0" / LOG_FILE).read_text()
        # One that dies is tried again as often as asked for, and no more.
        died = run_grid(configs(tmp_path / "died")[:1], cluster="ray", retries=1, finish=die_always)
        assert (died[0].died, died[0].trained) == (True, False)
        assert attempts(tmp_path / "died" / "seed0") == 2
    finally:
        ray.shutdown()


@pytest.fixture
def ray_cluster(tmp_path, monkeypatch):
    """A cluster of one node with a server for clients, on this machine; its processes end with the test. Its port."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'avser[cluster]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A short path, for names of sockets have at most 107 letters. Ports at random, so that it can stand beside others.
    folder = tempfile.mkdtemp(prefix="ray")
    command = f"""start --head --block --node-ip-address=127.0.0.1 --port=0 --ray-client-server-port={port}
        --min-worker-port=0 --max-worker-port=0 --include-dashboard=false --disable-usage-stats --num-cpus=2
        --object-store-memory=100000000 --temp-dir={folder}"""
    code = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}  # its workers need what is tested
    with (tmp_path / "ray.txt").open("w") as log:
        head = subprocess.Popen(
            [sys.executable, "-c", code, *command.split()], stdout=log, stderr=log, env=env, start_new_session=True
        )
    try:
        until = time.monotonic() + 180
        while not answers(port):
            assert head.poll() is None, (tmp_path / "ray.txt").read_text()
            assert time.monotonic() < until, (tmp_path / "ray.txt").read_text()
            time.sleep(0.5)
        yield port
    finally:
        # `ray stop` would end other people's clusters too, and a head that is asked to end takes half a minute for it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def answers(port):
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_ray_cluster_that_is_named_finds_the_same(serial, configs, tmp_path, ray_cluster):
    cluster, spawn = f"ray://127.0.0.1:{ray_cluster}", multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as alone:  # Ray reads once in a process whether there are tokens
        outcomes = alone.submit(run_grid, configs(tmp_path), cluster=cluster, threads=1).result()
        assert outcomes == serial[0]
        assert results_of(tmp_path) == results_of(serial[1])
        dying = configs(tmp_path / "died")[:1]
        (died,) = alone.submit(run_grid, dying, cluster=cluster, retries=1, finish=die_always).result()
    assert (died.died, died.trained) == (True, False)
    assert attempts(tmp_path / "died" / "seed0") == 2


# --- processes that die ------------------------------------------------------------------------------------------


def die_always(config: Config, *, num_jobs: int) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def die_once(config: Config, *, num_jobs: int) -> bool:
    """As memory that runs out where two runs meet, and not where one is alone."""
    mark = run_folder(config) / "died"
    if config.name == "seed0" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def refuse(config: Config, *, num_jobs: int) -> bool:
    raise AvserError("no")


def attempts(folder: Path) -> int:
    return (folder / LOG_FILE).read_text().count("--- ")


def test_a_run_whose_process_died_is_tried_again(configs, tmp_path):
    outcomes = run_grid(configs(tmp_path)[:2], jobs=2, finish=die_once)
    assert [(o.trained, o.reason) for o in outcomes] == [(True, ""), (True, "")]
    assert attempts(tmp_path / "seed0") >= 2


def test_a_run_that_always_dies_fails_and_stops_no_other(configs, tmp_path):
    outcomes = run_grid(configs(tmp_path)[:2], jobs=2, finish=die_always)
    assert all(o.died and "its process died" in o.reason and LOG_FILE in o.reason for o in outcomes)
    assert 1 <= attempts(tmp_path / "seed0") <= 2


def test_an_error_of_avser_is_not_tried_again(configs, tmp_path):
    (outcome,) = run_grid(configs(tmp_path)[:1], jobs=2, retries=3, finish=refuse)
    assert (outcome.reason, outcome.died) == ("no", False)
    assert attempts(tmp_path / "seed0") == 1


KILLED = f"""import sys
sys.path.insert(0, {str(PROJECT)!r})
from avser.config import load_config
from avser.experiments.runs.grid import run_grid
run_grid([load_config([path]) for path in sys.argv[1:]], threads=1)
"""


def test_a_killed_grid_goes_on_and_finds_the_same(serial, configs, tmp_path):
    """Killed in the middle of a training, and asked for again."""
    runs = configs(tmp_path)[:2]
    paths = [tmp_path / f"{run.name}.yaml" for run in runs]
    for path, run in zip(paths, runs, strict=True):
        path.write_text(config_to_yaml(run))
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, paths)], stderr=subprocess.DEVNULL)
    state, until = tmp_path / "seed1" / "last" / "state.safetensors", time.monotonic() + 600
    while not state.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert state.is_file()
    was_finished = (tmp_path / "seed1" / "metrics.json").is_file()
    outcomes = run_grid(runs, threads=1)
    assert [o.trained for o in outcomes] == [False, not was_finished]
    assert results_of(tmp_path) == results_of(serial[1])
